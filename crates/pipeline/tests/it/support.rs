//! What the tests stand on: repositories, a registry that is just enough, deliveries that are written down, and a hub of
//! these around a real pipeline and a real engine.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::client::HubClient;
use api::delivery::*;
use api::pipeline::{BuildRequest, Pipeline, Run, RunState};
use api::registry::{Pin, Registry, StoredManifest};
use api::{AppName, EnvName, Micros, Page, Problem, ServiceAddress};
use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base::db::DatabaseConfig;
use base::shutdown::Shutdown;
use base::tasks::Tasks;
use engine::build::{BuildOptions, TarBody};
use engine::{Address, Docker, Engine};
use futures::stream::BoxStream;
use oci::{Digest, RepositoryName};
use pipeline::{Config, Deps, MIGRATIONS, Service};
use tempfile::TempDir;

pub(crate) const BASE_IMAGE: &str = "debian:bookworm-slim";
const LABEL: &str = "dev.longshore.test";
const RUN_SECONDS_MAX: u64 = 120;

/// A Git repository with a work tree.
pub(crate) struct Repository(TempDir);

impl Repository {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("shop-").tempdir().unwrap();
        let repository = Self(folder);
        repository.git(&["init", "-q", "-b", "main"]);
        repository
    }

    pub(crate) fn path(&self) -> String {
        self.0.path().display().to_string()
    }

    fn file(&self, path: &str) -> std::path::PathBuf {
        let file = self.0.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        file
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        std::fs::write(self.file(path), text).unwrap();
    }

    pub(crate) fn executable(&self, path: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(self.file(path), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn symlink(&self, path: &str, target: &str) {
        std::os::unix::fs::symlink(target, self.file(path)).unwrap();
    }

    pub(crate) fn give_to(&self, user: u32) {
        let given = Command::new("chown").args(["-R", &user.to_string(), &self.path()]).status().unwrap();
        assert!(given.success());
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"])
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Writes these files and commits everything but what is called `untracked`.
    pub(crate) fn commit(&self, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            self.write(path, text);
        }
        self.git(&["add", "--all", "--", ".", ":!*untracked"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "a commit"]);
        self.git(&["rev-parse", "HEAD"])
    }
}

/// A registry in memory: enough for an engine over HTTP, and what other contexts ask of the real one.
#[derive(Default)]
pub(crate) struct MemoryRegistry(Mutex<Contents>);

#[derive(Default)]
struct Contents {
    blobs: BTreeMap<(String, String), Bytes>,
    manifests: BTreeMap<(String, String), (String, Bytes)>,
    uploads: BTreeMap<String, Vec<u8>>,
}

impl MemoryRegistry {
    /// Manifests of a repository, by digest, that say something about another.
    pub(crate) fn referrers(&self, repository: &str, subject: &Digest) -> Vec<oci::Manifest> {
        let contents = self.0.lock().unwrap();
        let manifests =
            contents.manifests.iter().filter(|((name, key), _)| name == repository && key.starts_with("sha256:"));
        manifests
            .filter_map(|(_, (_, bytes))| serde_json::from_slice::<oci::Manifest>(bytes).ok())
            .filter(|manifest| manifest.subject.as_ref().is_some_and(|found| found.digest == *subject))
            .collect()
    }

    /// A tag of a repository.
    pub(crate) fn tag(&self, repository: &str) -> String {
        let contents = self.0.lock().unwrap();
        let mut tags = contents.manifests.keys().filter(|(name, key)| name == repository && !key.contains(':'));
        tags.next().unwrap().1.clone()
    }

    pub(crate) fn forget(&self, repository: &str) {
        self.0.lock().unwrap().manifests.retain(|(name, _), _| name != repository);
    }
}

async fn serve(State(registry): State<Arc<MemoryRegistry>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // An engine that is told to stop breaks its push off.
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else { return StatusCode::BAD_REQUEST.into_response() };
    let mut contents = registry.0.lock().unwrap();
    let path = parts.uri.path().trim_start_matches("/v2/").to_owned();
    let last = path.rsplit('/').next().unwrap_or_default().to_owned();
    let cut = ["/blobs/", "/manifests/"].iter().find_map(|cut| Some(path.split_once(cut)?.0.to_owned()));
    let name = cut.unwrap_or_default();
    let uploading = |id: &str, length: usize| {
        let headers = [
            ("location", format!("/v2/{name}/blobs/uploads/{id}")),
            ("docker-upload-uuid", id.to_owned()),
            ("range", format!("0-{}", length.saturating_sub(1))),
        ];
        (StatusCode::ACCEPTED, headers).into_response()
    };
    if path.is_empty() {
        return StatusCode::OK.into_response();
    }
    match parts.method {
        Method::POST => {
            let id = uuid::Uuid::now_v7().to_string();
            contents.uploads.insert(id.clone(), Vec::new());
            uploading(&id, 0)
        }
        Method::PATCH => {
            let upload = contents.uploads.get_mut(&last).unwrap();
            upload.extend_from_slice(&body);
            uploading(&last, upload.len())
        }
        Method::PUT if path.contains("/blobs/uploads/") => {
            let mut bytes = contents.uploads.remove(&last).unwrap();
            bytes.extend_from_slice(&body);
            contents.blobs.insert((name, Digest::sha256_of(&bytes).to_string()), bytes.into());
            StatusCode::CREATED.into_response()
        }
        Method::PUT => {
            let digest = Digest::sha256_of(&body).to_string();
            let kind = parts.headers[header::CONTENT_TYPE].to_str().unwrap().to_owned();
            for key in [last, digest.clone()] {
                contents.manifests.insert((name.clone(), key), (kind.clone(), body.clone()));
            }
            (StatusCode::CREATED, [("docker-content-digest", digest)]).into_response()
        }
        _ if path.contains("/blobs/") => match contents.blobs.get(&(name, last)) {
            Some(bytes) => bytes.clone().into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        _ => match contents.manifests.get(&(name, last)) {
            Some((kind, bytes)) => {
                let digest = Digest::sha256_of(bytes).to_string();
                ([("content-type", kind.clone()), ("docker-content-digest", digest)], bytes.clone()).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        },
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn pin(&self, _pin: Pin) -> api::Result<()> {
        Ok(())
    }
    async fn unpin(&self, _pin: Pin) -> api::Result<()> {
        Ok(())
    }
    async fn manifest_get(&self, repository: &RepositoryName, reference: &str) -> api::Result<Option<StoredManifest>> {
        let contents = self.0.lock().unwrap();
        let found = contents.manifests.get(&(repository.to_string(), reference.to_owned()));
        Ok(found.map(|(media_type, bytes)| StoredManifest {
            digest: Digest::sha256_of(bytes),
            media_type: media_type.clone(),
            bytes: bytes.clone(),
        }))
    }
    async fn manifest_put(
        &self,
        repository: &RepositoryName,
        _tag: Option<&str>,
        media_type: &str,
        bytes: Bytes,
    ) -> api::Result<Digest> {
        // As strict as the real one about what is referred to.
        let document = oci::Document::parse(&bytes, Some(media_type)).unwrap();
        let mut contents = self.0.lock().unwrap();
        for blob in document.blobs() {
            assert!(contents.blobs.contains_key(&(repository.to_string(), blob.digest.to_string())));
        }
        let digest = Digest::sha256_of(&bytes);
        contents.manifests.insert((repository.to_string(), digest.to_string()), (media_type.to_owned(), bytes));
        Ok(digest)
    }
    async fn blob_put(&self, repository: &RepositoryName, bytes: Bytes) -> api::Result<Digest> {
        let digest = Digest::sha256_of(&bytes);
        self.0.lock().unwrap().blobs.insert((repository.to_string(), digest.to_string()), bytes);
        Ok(digest)
    }
    async fn blob_get(&self, repository: &RepositoryName, digest: &Digest, _max: u64) -> api::Result<Option<Bytes>> {
        Ok(self.0.lock().unwrap().blobs.get(&(repository.to_string(), digest.to_string())).cloned())
    }

    async fn blob_open(
        &self,
        _: &RepositoryName,
        _: &Digest,
        _: Option<std::ops::Range<u64>>,
    ) -> api::Result<Option<api::registry::BlobBytes>> {
        Ok(None)
    }

    async fn blobs_known(&self, _: &[Digest]) -> api::Result<std::collections::BTreeSet<Digest>> {
        Ok(std::collections::BTreeSet::new())
    }

    async fn manifests_pushed(
        &self,
        _: &(Micros, String, String),
        _: u32,
    ) -> api::Result<Vec<api::registry::PushedManifest>> {
        Ok(Vec::new())
    }

    async fn manifest_is_here(&self, _: &RepositoryName, _: &Digest) -> api::Result<bool> {
        Ok(false)
    }

    async fn tags_leading_to(
        &self,
        _: &[(RepositoryName, Digest)],
    ) -> api::Result<BTreeMap<(RepositoryName, Digest), Vec<oci::Tag>>> {
        Ok(BTreeMap::new())
    }

    async fn said_of(&self, _: &RepositoryName, _: &Digest, _: u32) -> api::Result<Vec<api::registry::SaidOf>> {
        Ok(Vec::new())
    }

    async fn manifest_delete(&self, _: &RepositoryName, _: &Digest) -> api::Result<bool> {
        Ok(false)
    }

    fn is_mirror(&self, _: &RepositoryName) -> bool {
        false
    }

    fn host_check(&self, _: &api::access::HostIdentity, _: &RepositoryName) -> api::Result<()> {
        Ok(())
    }
}

/// Writes down the releases it is given; nothing else is asked of delivery here.
#[derive(Default)]
pub(crate) struct Deliveries(pub(crate) Mutex<Vec<NewReleases>>);

fn not_asked<T>() -> api::Result<T> {
    Err(Problem::new(501, "not-asked", "The pipeline never asks this"))
}

#[async_trait]
impl Delivery for Deliveries {
    async fn release_record(&self, new: NewReleases) -> api::Result<Vec<Release>> {
        self.0.lock().unwrap().push(new.clone());
        let release = |release: NewRelease| {
            let content = format!("{}{}", release.image.digest, serde_json::to_string(&release.definitions).unwrap());
            Release {
                id: Digest::sha256_of(content.as_bytes()).hex()[..RELEASE_ID_DIGITS].parse().unwrap(),
                app: new.app.clone(),
                service: release.service,
                image: release.image,
                definitions: release.definitions,
                job: release.job,
                ports: release.ports,
                provenance: release.provenance,
                created_at: Micros::now(),
            }
        };
        Ok(new.releases.clone().into_iter().map(release).collect())
    }
    async fn release_get(&self, _: &str) -> api::Result<Release> {
        not_asked()
    }
    async fn release_list(&self, _: ReleaseFilter, _: Option<&str>, _: u32) -> api::Result<Page<Release>> {
        not_asked()
    }
    async fn env_apply(&self, _: &str, _: &str, _: bool) -> api::Result<Vec<EnvironmentChange>> {
        not_asked()
    }
    async fn env_list(&self) -> api::Result<Vec<Environment>> {
        not_asked()
    }
    async fn env_releases(&self, _: &AppName, _: &EnvName) -> api::Result<EnvironmentReleases> {
        not_asked()
    }
    async fn env_diff(&self, _: &AppName, _: Option<&EnvName>, _: &EnvName) -> api::Result<Vec<ServiceDifference>> {
        not_asked()
    }
    async fn promote(&self, _: PromoteRequest) -> api::Result<Plan> {
        not_asked()
    }
    async fn rollback(&self, _: RollbackRequest) -> api::Result<Plan> {
        not_asked()
    }
    async fn plan_get(&self, _: &str) -> api::Result<Plan> {
        not_asked()
    }
    async fn plan_list(
        &self,
        _: Option<&AppName>,
        _: Option<&EnvName>,
        _: Option<&str>,
        _: u32,
    ) -> api::Result<Page<Plan>> {
        not_asked()
    }
    async fn why(&self, _: &ServiceAddress, _: &EnvName) -> api::Result<Why> {
        not_asked()
    }
    async fn host_list(&self, _: Option<&str>, _: u32) -> api::Result<Page<Host>> {
        not_asked()
    }
    async fn instance_list(&self, _: &AppName, _: &EnvName) -> api::Result<Vec<Instance>> {
        not_asked()
    }
    async fn logs(&self, _: LogRequest) -> api::Result<BoxStream<'static, api::Result<LogLine>>> {
        not_asked()
    }
    async fn overview(&self) -> api::Result<Overview> {
        not_asked()
    }
    fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }
}

/// A pipeline around a real engine, reached over HTTP.
pub(crate) struct Hub {
    pub(crate) client: HubClient,
    pub(crate) registry: Arc<MemoryRegistry>,
    pub(crate) deliveries: Arc<Deliveries>,
    pub(crate) docker: Docker,
    pub(crate) service: Arc<Service>,
    shutdown: Shutdown,
    name: String,
    address: String,
    data: Arc<TempDir>,
}

impl Hub {
    pub(crate) async fn start() -> Self {
        Self::start_with(2).await
    }

    /// With so many builds at once.
    pub(crate) async fn start_with(builds_parallel: usize) -> Self {
        let registry = Arc::new(MemoryRegistry::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new().fallback(serve).with_state(Arc::clone(&registry));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let id = uuid::Uuid::now_v7().simple().to_string();
        let data = Arc::new(tempfile::tempdir().unwrap());
        Self::on(format!("lst-{}", &id[16..]), data, address, builds_parallel, registry, Arc::default()).await
    }

    /// The same hub, as if it had been killed and started again.
    pub(crate) async fn restart(self) -> Self {
        self.shutdown.begin();
        self.shutdown.drain(Duration::from_secs(20)).await;
        let (name, data, address) = (self.name.clone(), Arc::clone(&self.data), self.address.clone());
        let (registry, deliveries) = (Arc::clone(&self.registry), Arc::clone(&self.deliveries));
        Self::on(name, data, address, 2, registry, deliveries).await
    }

    async fn on(
        name: String,
        data: Arc<TempDir>,
        address: String,
        builds_parallel: usize,
        registry: Arc<MemoryRegistry>,
        deliveries: Arc<Deliveries>,
    ) -> Self {
        let docker =
            Docker::connect(Address::from_environment().unwrap()).await.expect("these tests need a Docker engine");
        assert!(docker.image_inspect(BASE_IMAGE).await.unwrap().is_some(), "the engine needs the image {BASE_IMAGE}");
        let database = DatabaseConfig::Sqlite { folder: data.path().to_owned() };
        let config = Config {
            data_folder: data.path().to_owned(),
            registry_address: address.clone(),
            build_network: Some("host".to_owned()),
            builds_parallel,
            queue_runs_max: 10,
            image_labels: BTreeMap::from([(LABEL.to_owned(), name.clone())]),
            holder: name.clone(),
        };
        let deps = Deps {
            db: base::db::open(&database, "pipeline", MIGRATIONS).await.unwrap(),
            registry: Arc::clone(&registry) as Arc<dyn Registry>,
            delivery: Arc::clone(&deliveries) as Arc<dyn Delivery>,
            engine: Arc::new(docker.clone()),
            client: client::Client::new(client::ClientConfig::default()).unwrap(),
        };
        let service = Arc::new(Service::new(config, deps));
        let shutdown = Shutdown::new();
        service.tasks_spawn(&Tasks::new(shutdown.clone()), &shutdown);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = pipeline::http::router(Arc::clone(&service) as Arc<dyn Pipeline>);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let client = HubClient::new(url.parse().unwrap(), None).unwrap();
        Self { client, registry, deliveries, docker, service, shutdown, name, address, data }
    }

    /// Builds and waits for the end.
    pub(crate) async fn build(&self, repository: &Repository, reference: &str) -> Run {
        self.build_request(&request(&repository.path(), reference)).await
    }

    pub(crate) async fn build_request(&self, request: &BuildRequest) -> Run {
        let run = self.client.run_create(request).await.unwrap();
        self.ended(&run.id).await
    }

    pub(crate) async fn ended(&self, id: &str) -> Run {
        let deadline = Instant::now() + Duration::from_secs(RUN_SECONDS_MAX);
        loop {
            let run = self.client.run_get(id).await.unwrap();
            if matches!(run.state, RunState::Succeeded | RunState::Failed) {
                return run;
            }
            assert!(Instant::now() < deadline, "not in time: {run:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What all that this hub builds is labelled with.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// An image on the engine that no registry has.
    pub(crate) async fn docker_build(&self, tag: &str, dockerfile: &'static str) {
        let options = BuildOptions {
            labels: BTreeMap::from([(LABEL.to_owned(), self.name.clone())]),
            tags: vec![tag.to_owned()],
            ..BuildOptions::default()
        };
        let context = TarBody::from_writer(move |writer| {
            let mut header = tar::Header::new_gnu();
            header.set_size(dockerfile.len() as u64);
            let mut archive = tar::Builder::new(writer);
            archive.append_data(&mut header, "Dockerfile", dockerfile.as_bytes())?;
            archive.finish()
        });
        self.docker.image_build(&options, context, engine::Progress::none()).await.unwrap();
    }

    /// Where the hub's registry is.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn mirrors(&self) -> std::path::PathBuf {
        Path::new(self.data.path()).join("repositories")
    }
}

pub(crate) fn request(repository: &str, reference: &str) -> BuildRequest {
    BuildRequest {
        repository: repository.to_owned(),
        reference: reference.to_owned(),
        folder: String::new(),
        services: Vec::new(),
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shutdown.begin();
        let (address, name) = (self.docker.address().clone(), self.name.clone());
        // The test's own runtime is on its way out, perhaps in a panic, and connections belong to a runtime.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let docker = Docker::connect(address).await.unwrap();
                let labels = BTreeMap::from([(LABEL.to_owned(), name)]);
                for image in docker.image_list(&labels).await.unwrap_or_default() {
                    for reference in image.tags.iter().chain(&image.digests).chain([&image.id]) {
                        let _gone = docker.image_remove(reference).await;
                    }
                }
            });
        });
        let _cleaned = cleaning.join();
    }
}
