//! What end-to-end tests stand on: a stage of their own that is gone afterwards, whatever happened.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::client::HubClient;
use api::delivery::{Plan, PromoteRequest};
use api::pipeline::{BuildRequest, Run, RunState};
use bollard::Docker;
use futures::FutureExt;
use rig::example::Repository;
use rig::stage::{Options, Stage, free_block, registries};

/// How long anything that a test waits for may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_longshore");

const HOSTS: usize = 3;

/// Folders of tests begin like this; the process id of the test follows.
pub(crate) const FOLDER: &str = "longshore-test-";

/// A hub, three hosts, a repository.
pub(crate) struct Scene {
    pub(crate) stage: Stage,
    pub(crate) docker: Docker,
    pub(crate) label: String,
    pub(crate) repository: Repository,
    /// Names of the hosts. An engine shared with other tests, or with a demo, has theirs as well.
    pub(crate) hosts: [&'static str; HOSTS],
}

/// Runs a test on a scene whose repository holds a copy of `app`, and takes everything away afterwards.
pub(crate) fn on_scene<F>(app: PathBuf, test: impl FnOnce(Scene) -> F)
where
    F: Future<Output = (Scene, anyhow::Result<()>)>,
{
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::Builder::new().prefix(&format!("{FOLDER}{}-", std::process::id())).tempdir().unwrap();
    let label = label_of(std::process::id());
    let block = free_block(block_of(std::process::id())).unwrap();
    let outcome = runtime.block_on(async {
        let docker = rig::engine::ensure().await.unwrap();
        leftovers_remove(&docker).await.unwrap();
        let outcome = AssertUnwindSafe(async {
            let scene = set(folder.path(), &app, docker.clone(), &label, block).await.unwrap();
            let (mut scene, result) = test(scene).await;
            if let Err(error) = result {
                let names = scene.hosts.iter().copied().chain(["hub"]).map(|name| format!("{name}.log"));
                let logs: String = names.map(|log| scene.stage.log_end(&log)).collect();
                panic!("{error:#}\n{logs}");
            }
            scene.stage.end().await.unwrap();
        })
        .catch_unwind()
        .await;
        rig::stage::end_processes(folder.path(), &[]).await.unwrap();
        rig::engine::sweep(&docker, &label, &registries(block, HOSTS)).await.unwrap();
        workspaces_remove(&docker, std::process::id()).await.unwrap();
        outcome
    });
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// Runs a test of workspaces on this machine's engine, with a folder of its own, and takes away what they made.
pub(crate) fn on_engine<F>(test: impl FnOnce(Docker, PathBuf) -> F)
where
    F: Future<Output = anyhow::Result<()>>,
{
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let outcome = runtime.block_on(async {
        let docker = rig::engine::ensure().await.unwrap();
        let cache = std::env::var_os("LONGSHORE_CACHE").map_or_else(std::env::temp_dir, PathBuf::from);
        rig::base_image::ensure(&docker, &cache).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let outcome = AssertUnwindSafe(test(docker.clone(), folder.path().to_owned())).catch_unwind().await;
        workspaces_remove(&docker, std::process::id()).await.unwrap();
        outcome
    });
    match outcome {
        Ok(result) => result.unwrap(),
        Err(panic) => resume_unwind(panic),
    }
}

pub(crate) fn label_of(process: u32) -> String {
    format!("dev.longshore.instance=test-{process}")
}

/// The app of a test's workspaces, whose name begins all that they make.
pub(crate) fn workspace_of(process: u32) -> String {
    format!("vote{process}")
}

/// Takes away what workspaces of a test left.
pub(crate) async fn workspaces_remove(docker: &Docker, process: u32) -> anyhow::Result<()> {
    let name = workspace_of(process);
    let images =
        [format!("longshore/{name}/"), format!("longshore-source/{name}/"), format!("longshore-source/{name}-")];
    let volumes = docker.list_volumes(None::<bollard::query_parameters::ListVolumesOptions>).await?;
    let labels = volumes.volumes.unwrap_or_default().into_iter().filter_map(|volume| {
        let workspace = volume.labels.get("dev.longshore.workspace")?.clone();
        (workspace == name || workspace.starts_with(&format!("{name}-"))).then_some(workspace)
    });
    let labels: std::collections::BTreeSet<String> = labels.chain([name.clone()]).collect();
    for label in labels {
        rig::engine::sweep(docker, &format!("dev.longshore.workspace={label}"), &images).await?;
    }
    Ok(())
}

/// A block of each process's own: two tests that begin at the same moment would find the same one free.
pub(crate) fn block_of(process: u32) -> [u8; 2] {
    let [.., high, low] = process.to_be_bytes();
    [128 | high, low]
}

/// Takes away what tests left behind that were killed before they could.
pub(crate) async fn leftovers_remove(docker: &Docker) -> anyhow::Result<()> {
    rig::namespaces::remove_left_behind()?;
    for entry in std::fs::read_dir(std::env::temp_dir())? {
        let folder = entry?.path();
        let name = folder.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(FOLDER));
        let Some(process) = name.and_then(|name| name.split_once('-')).and_then(|(process, _)| process.parse().ok())
        else {
            continue;
        };
        if !Path::new(&format!("/proc/{process}")).exists() {
            // Another test may be at it too; what is left is for the next.
            rig::stage::end_processes(&folder, &[]).await?;
            rig::namespaces::unmount(&folder)?;
            if let Err(error) =
                rig::engine::sweep(docker, &label_of(process), &registries(block_of(process), HOSTS)).await
            {
                println!("leftovers of test {process} stay for now: {error:#}");
                continue;
            }
            workspaces_remove(docker, process).await?;
            let _ = std::fs::remove_dir_all(&folder);
        }
    }
    Ok(())
}

async fn set(folder: &Path, app: &Path, docker: Docker, label: &str, block: [u8; 2]) -> anyhow::Result<Scene> {
    let data = |value: &str| BTreeMap::from([("data".to_owned(), value.to_owned())]);
    let hosts = [1, 2, 3].map(|number| &*format!("test{}-{number}", std::process::id()).leak());
    let options = Options {
        binary: BINARY.into(),
        folder: folder.join("stage"),
        block,
        label: label.to_owned(),
        hosts: vec![(hosts[0], data("true")), (hosts[1], data("false")), (hosts[2], data("false"))],
        host_network: true,
    };
    let stage = Stage::start(options).await?;
    let repository = Repository::create(app, &folder.join("app"))?;
    Ok(Scene { stage, docker, label: label.to_owned(), repository, hosts })
}

/// A folder of the tests or of the project.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

impl Scene {
    pub(crate) fn client(&self) -> &HubClient {
        self.stage.client()
    }

    /// Applies the repository's environments, on the hosts of this scene.
    pub(crate) async fn environments(&self) -> anyhow::Result<()> {
        let mut text = std::fs::read_to_string(self.repository.folder().join("environments.yaml"))?;
        for (number, host) in self.hosts.iter().enumerate() {
            text = text.replace(&format!("host{}", number + 1), host);
        }
        self.client().env_apply(text, "environments.yaml", false).await.map_err(refused)?;
        Ok(())
    }

    /// Builds what is committed.
    pub(crate) async fn build(&self) -> anyhow::Result<Run> {
        let run = self.build_end().await?;
        anyhow::ensure!(run.state == RunState::Succeeded, "the build failed: {:?}", run.error);
        Ok(run)
    }

    /// Builds what is committed, whether it succeeds or not.
    pub(crate) async fn build_end(&self) -> anyhow::Result<Run> {
        let request = BuildRequest {
            repository: self.repository.folder().display().to_string(),
            reference: "main".to_owned(),
            folder: String::new(),
            services: Vec::new(),
        };
        let run = self.client().run_create(&request).await.map_err(refused)?;
        rig::until("the build does not end", LIMIT, || async {
            let run = self.client().run_get(&run.id).await.ok()?;
            matches!(run.state, RunState::Succeeded | RunState::Failed).then_some(run)
        })
        .await
    }

    /// Begins a promotion.
    pub(crate) async fn promote(&self, app: &str, env: &str) -> anyhow::Result<Plan> {
        let request = PromoteRequest {
            address: app.parse()?,
            to: env.parse()?,
            force_reason: None,
            requested_by: "test".to_owned(),
        };
        self.client().promote(&request).await.map_err(refused)
    }
}

pub(crate) fn refused(problem: api::Problem) -> anyhow::Error {
    anyhow::anyhow!("{problem}")
}
