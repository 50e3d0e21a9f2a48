//! A run from its request to its releases: fetch, read, plan, build or reuse, push, say so, record all or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::delivery::{Delivery, ImageAddress, NewRelease, NewReleases, ReleaseId};
use api::pipeline::{Build, BuildOutcome, Provenance, Run, RunState};
use api::registry::{Registry, StoredManifest};
use api::{AppName, Micros, Problem, ServiceName};
use client::Client;
use engine::build::{BuildError, BuildOptions};
use engine::{Engine, EngineVersion, Progress};
use futures::FutureExt as _;
use futures::stream::{self, StreamExt, TryStreamExt};
use oci::{Digest, RepositoryName};
use tokio::sync::{Mutex, Semaphore, mpsc, watch};

use crate::Config;
use crate::context::tar;
use crate::dockerfile::Platform;
use crate::error::Error;
use crate::git::{Commit, Git, Mirror};
use crate::image::{manifest, ports_exposed};
use crate::inputs::{Planned, Planner, bases_check};
use crate::log::RunLog;
use crate::model::{commit_short, path_join, reason, reason_unchanged};
use crate::pinned::{Pinned, pin};
use crate::progress::BuildLines;
use crate::source::{App, WantedService, app_read};
use crate::statement::{Subject, statement_put};
use crate::store::{BuiltImage, Store};

/// How often a run is begun at most: one that stops the hub would stop it for ever.
pub(crate) const RUN_ATTEMPTS_MAX: u32 = 5;
/// Progress that may wait to be written to the log; a build that is faster waits for it.
const EVENTS_WAITING_MAX: usize = 256;
/// How often the end of a run is written before the database is given up for the moment.
const FINISH_ATTEMPTS_MAX: u32 = 5;
/// The pause between two of these, in seconds.
const FINISH_PAUSE_SECONDS: u64 = 2;

/// Carries out runs.
pub(crate) struct Runner {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) delivery: Arc<dyn Delivery>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) client: Client,
    pub(crate) git: Git,
    pub(crate) builds: Semaphore,
    /// Runs of one app go one after the other, so that the second finds what the first built.
    pub(crate) apps: std::sync::Mutex<BTreeMap<AppName, Arc<Mutex<()>>>>,
    pub(crate) changes: watch::Sender<u64>,
}

/// A run as it stands, written whenever it changes.
struct Tracked<'a> {
    run: Mutex<Run>,
    store: &'a Store,
    changes: &'a watch::Sender<u64>,
}

impl Tracked<'_> {
    async fn update(&self, change: impl FnOnce(&mut Run)) -> Result<(), Error> {
        let mut run = self.run.lock().await;
        change(&mut run);
        self.store.run_save(&run).await?;
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }

    async fn build(&self, service: &ServiceName, change: impl FnOnce(&mut Build)) -> Result<(), Error> {
        self.update(|run| {
            if let Some(build) = run.builds.iter_mut().find(|build| build.service == *service) {
                change(build);
            }
        })
        .await
    }
}

/// Where an image of a run came to be.
#[derive(Debug, Clone)]
struct Made {
    service: ServiceName,
    image: ImageAddress,
    provenance: Provenance,
}

/// What is done at once for one or several services.
enum Work {
    /// One build, for all services with these inputs.
    Build { planned: Planned, services: Vec<(ServiceName, String)> },
    /// An image that stands.
    Reuse { service: ServiceName, image: Box<BuiltImage>, address: ImageAddress },
    /// An image of others.
    Pin { service: ServiceName, reference: String },
}

/// What all steps of a run share.
struct Context<'a> {
    runner: &'a Runner,
    tracked: &'a Tracked<'a>,
    log: &'a RunLog,
    app: &'a AppName,
    id: &'a str,
    repository: &'a str,
    reference: &'a str,
    commit: &'a Commit,
    mirror: &'a Mirror,
    version: &'a EngineVersion,
}

impl Runner {
    /// Carries out a run that was claimed. Its end, good or bad, is written to the store; an error is the database's.
    ///
    /// # Errors
    /// The end could not be written: the run has to be done again.
    pub(crate) async fn run(&self, run: Run, attempts: u32) -> Result<(), Error> {
        let id = run.id.clone();
        let (log, written) = RunLog::open(self.store.clone(), id.clone(), self.changes.clone()).await?;
        let tracked = Tracked { run: Mutex::new(run), store: &self.store, changes: &self.changes };
        let outcome = if attempts > RUN_ATTEMPTS_MAX {
            Err(Error::HubStopped { attempts: attempts - 1 })
        } else {
            if attempts > 1 {
                log.line("the hub was stopped meanwhile; the run begins again, and what was built is not built again")
                    .await;
            }
            self.work(&tracked, &log).await
        };
        let problem = outcome.err().map(Problem::from);
        match &problem {
            None => log.line("done").await,
            Some(problem) => {
                for line in format!("failed: {problem}").lines() {
                    log.line(line).await;
                }
                if let Some(hint) = &problem.hint {
                    log.line(format!("hint: {hint}")).await;
                }
            }
        }
        drop(log);
        // Readers take the run's end for the log's.
        let _written = written.await;
        for attempt in 1.. {
            let problem = problem.clone();
            let saved = tracked.update(|run| finish(run, problem, Micros::now())).await;
            match saved {
                Err(error) if attempt < FINISH_ATTEMPTS_MAX => {
                    tracing::warn!(run = %id, %error, "the end of a run could not be written yet");
                    tokio::time::sleep(std::time::Duration::from_secs(FINISH_PAUSE_SECONDS)).await;
                }
                saved => return saved,
            }
        }
        Ok(())
    }

    async fn work(&self, tracked: &Tracked<'_>, log: &RunLog) -> Result<(), Error> {
        let (id, request) = {
            let run = tracked.run.lock().await;
            (run.id.clone(), run.request.clone())
        };
        let folder = path_join("", &request.folder).ok_or_else(|| Error::RequestInvalid {
            what: format!("the folder {:?} is outside of the repository", request.folder),
        })?;
        log.line(format!("fetching {}", request.repository)).await;
        let mirror = self.git.fetch(&request.repository).await?;
        let commit = mirror.resolve(&request.reference).await?;
        log.line(format!("{} is commit {}", request.reference, commit.id)).await;
        tracked.update(|run| run.commit = Some(commit.id.clone())).await?;
        let app = app_read(&mirror, &commit, &folder, &request).await?;
        for warning in &app.warnings {
            log.line(format!("warning: {warning}")).await;
        }
        tracked.update(|run| begin(run, &app)).await?;
        let lock = self.app_lock(&app.name);
        let _one_run_of_an_app = lock.lock().await;
        let version = self.engine.version().await?;
        let context = Context {
            runner: self,
            tracked,
            log,
            app: &app.name,
            id: &id,
            repository: &request.repository,
            reference: &request.reference,
            commit: &commit,
            mirror: &mirror,
            version: &version,
        };
        let works = context.plan(&app, &folder).await?;
        let parallel = self.config.builds_parallel.max(1);
        let making = works.into_iter().map(|work| context.make(work).boxed());
        let made: Vec<Vec<Made>> = stream::iter(making).buffer_unordered(parallel).try_collect().await?;
        let made: BTreeMap<ServiceName, Made> =
            made.into_iter().flatten().map(|made| (made.service.clone(), made)).collect();
        context.record(app.services, made, request.services.is_empty()).await
    }

    fn app_lock(&self, app: &AppName) -> Arc<Mutex<()>> {
        let mut apps = self.apps.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        apps.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(apps.entry(app.clone()).or_default())
    }
}

/// A run whose services are known.
fn begin(run: &mut Run, app: &App) {
    run.app = Some(app.name.clone());
    run.builds = app
        .services
        .iter()
        .map(|service| Build {
            service: service.name.clone(),
            outcome: BuildOutcome::Waiting,
            reason: String::new(),
            digest: None,
            release: None,
            started_at: None,
            finished_at: None,
        })
        .collect();
}

/// A run that has ended.
fn finish(run: &mut Run, problem: Option<Problem>, now: Micros) {
    run.state = if problem.is_none() { RunState::Succeeded } else { RunState::Failed };
    run.error = problem;
    run.finished_at = Some(now);
    for build in &mut run.builds {
        // Cut off because another one failed.
        if build.outcome == BuildOutcome::Building {
            build.outcome = BuildOutcome::Waiting;
            build.started_at = None;
        }
    }
}

impl Context<'_> {
    /// What is to be done, decided before anything is built.
    async fn plan(&self, app: &App, folder: &str) -> Result<Vec<Work>, Error> {
        let platform = Platform { os: self.version.os.clone(), architecture: self.version.architecture.clone() };
        let mut planner = Planner::new(&*self.runner.engine, self.mirror, self.commit, folder, platform);
        let mut works: Vec<Work> = Vec::new();
        let mut by_inputs: BTreeMap<Digest, usize> = BTreeMap::new();
        for WantedService { name, definitions, .. } in &app.services {
            let (service, definition) = (name.clone(), &definitions.base.service);
            let Some(build) = &definition.build else {
                let reference = definition.image.clone().unwrap_or_default();
                works.push(Work::Pin { service, reference });
                continue;
            };
            let planned = planner.plan(service.as_str(), build).await?;
            let store = &self.runner.store;
            let repository = self.repository_of(&service)?;
            if let Some(image) = store.image_get(self.app, &service, &planned.inputs_digest).await?
                && manifest(&*self.runner.registry, &repository, &image.digest).await?.is_some()
            {
                let address = ImageAddress { repository, digest: image.digest };
                works.push(Work::Reuse { service, image: Box::new(image), address });
                continue;
            }
            let before = match store.image_latest(self.app, &service).await? {
                Some(image) => Some(planner.before(&image, self.repository, &planned).await?),
                None => None,
            };
            let reason = reason(&planned.inputs, before.as_ref());
            match by_inputs.get(&planned.inputs_digest).and_then(|index| works.get_mut(*index)) {
                Some(Work::Build { services, .. }) => services.push((service, reason)),
                _ => {
                    by_inputs.insert(planned.inputs_digest, works.len());
                    works.push(Work::Build { planned, services: vec![(service, reason)] });
                }
            }
        }
        Ok(works)
    }

    async fn make(&self, work: Work) -> Result<Vec<Made>, Error> {
        let services: Vec<ServiceName> = match &work {
            Work::Build { services, .. } => services.iter().map(|(service, _)| service.clone()).collect(),
            Work::Reuse { service, .. } | Work::Pin { service, .. } => vec![service.clone()],
        };
        let made = match work {
            Work::Reuse { service, image, address } => self.reuse(&service, *image, address).await,
            Work::Pin { service, reference } => self.pin(&service, &reference).await,
            Work::Build { planned, services } => {
                // The semaphore is never closed.
                let _permit = self.runner.builds.acquire().await.ok();
                self.build(&planned, &services).await
            }
        };
        if made.is_err() {
            for service in &services {
                self.tracked
                    .build(service, |build| {
                        build.outcome = BuildOutcome::Failed;
                        build.finished_at = Some(Micros::now());
                    })
                    .await?;
            }
        }
        made
    }

    async fn reuse(&self, service: &ServiceName, image: BuiltImage, address: ImageAddress) -> Result<Vec<Made>, Error> {
        let reason = reason_unchanged(&image.provenance.commit);
        self.log.service_line(service, &reason).await;
        let now = Micros::now();
        self.runner.store.image_put(self.app, service, &image, now).await?;
        self.ended(service, BuildOutcome::Reused, reason, address.digest, now).await?;
        Ok(vec![Made { service: service.clone(), image: address, provenance: image.provenance }])
    }

    async fn pin(&self, service: &ServiceName, reference: &str) -> Result<Vec<Made>, Error> {
        let started_at = Micros::now();
        self.begun(service, "pinned to a digest".to_owned(), started_at).await?;
        let repository = self.repository_of(service)?;
        let Pinned { digest, origin } = pin(self.runner, self.log, service, reference, &repository).await?;
        self.stored(service, &repository, &digest).await?;
        let reason = format!("{reference} is {digest}");
        let finished_at = Micros::now();
        let inputs =
            BTreeMap::from([("image".to_owned(), reference.to_owned()), ("digest".to_owned(), digest.to_string())]);
        let provenance = Provenance {
            run: self.id.to_owned(),
            repository: self.repository.to_owned(),
            commit: self.commit.id.clone(),
            builder: origin,
            inputs_digest: crate::model::inputs_digest(&inputs),
            inputs,
            reason: reason.clone(),
            started_at,
            finished_at,
            statement: None,
        };
        self.log.service_line(service, &reason).await;
        self.ended(service, BuildOutcome::Pinned, reason, digest, finished_at).await?;
        Ok(vec![Made { service: service.clone(), image: ImageAddress { repository, digest }, provenance }])
    }

    async fn build(&self, planned: &Planned, services: &[(ServiceName, String)]) -> Result<Vec<Made>, Error> {
        let Some((first, _)) = services.first() else { return Ok(Vec::new()) };
        let started_at = Micros::now();
        for (service, reason) in services {
            self.log.service_line(service, reason).await;
            self.begun(service, reason.clone(), started_at).await?;
        }
        let mut tags = Vec::new();
        for (service, _) in services {
            let repository = self.repository_of(service)?;
            let tag = planned.inputs_digest.short();
            tags.push(format!("{}/{repository}:build-{tag}", self.runner.config.registry_address));
        }
        self.image_build(first, planned, tags.clone()).await?;
        bases_check(&*self.runner.engine, first.as_str(), planned).await?;
        let mut made = Vec::new();
        for ((service, reason), tag) in services.iter().zip(&tags) {
            self.log.service_line(service, format!("pushing {tag}")).await;
            let pushed = self.runner.engine.image_push(tag, Progress::none()).await?;
            let lost = || Error::PushLost { service: service.to_string(), digest: pushed.clone() };
            let digest: Digest = pushed.parse().map_err(|_| lost())?;
            let repository = self.repository_of(service)?;
            let stored = self.stored(service, &repository, &digest).await?;
            let mut provenance = Provenance {
                run: self.id.to_owned(),
                repository: self.repository.to_owned(),
                commit: self.commit.id.clone(),
                builder: format!("Docker Engine {} (API {}), BuildKit", self.version.engine, self.version.api),
                inputs_digest: planned.inputs_digest,
                inputs: planned.inputs.clone(),
                reason: reason.clone(),
                started_at,
                finished_at: Micros::now(),
                statement: None,
            };
            let subject = Subject {
                repository: &repository,
                digest: &digest,
                reference: self.reference,
                context: &planned.context,
                dockerfile: &planned.dockerfile,
            };
            provenance.statement = Some(statement_put(&*self.runner.registry, &subject, &stored, &provenance).await?);
            let image = BuiltImage {
                digest,
                context: planned.context.clone(),
                dockerfile: planned.dockerfile.clone(),
                provenance: provenance.clone(),
            };
            let now = Micros::now();
            self.runner.store.image_put(self.app, service, &image, now).await?;
            self.log.service_line(service, format!("built {digest}")).await;
            self.ended(service, BuildOutcome::Built, reason.clone(), digest, now).await?;
            made.push(Made { service: service.clone(), image: ImageAddress { repository, digest }, provenance });
        }
        Ok(made)
    }

    async fn image_build(&self, service: &ServiceName, planned: &Planned, tags: Vec<String>) -> Result<(), Error> {
        let config = &self.runner.config;
        let mut labels = config.image_labels.clone();
        labels.extend(planned.labels.clone());
        let options = BuildOptions {
            dockerfile: Some(planned.dockerfile.clone()),
            args: planned.args.clone(),
            target: planned.target.clone(),
            labels,
            tags,
            network: planned.network.clone().or_else(|| config.build_network.clone()),
            ..BuildOptions::default()
        };
        let body = tar(self.mirror.folder().to_owned(), planned.entries.to_vec(), self.commit.seconds);
        let (sender, mut events) = mpsc::channel(EVENTS_WAITING_MAX);
        let building = self.runner.engine.image_build(&options, body, Progress::to(sender));
        let logging = async {
            let mut lines = BuildLines::default();
            while let Some(event) = events.recv().await {
                for line in lines.of(&event) {
                    self.log.service_line(service, line).await;
                }
            }
        };
        let (built, ()) = tokio::join!(building, logging);
        match built {
            Ok(_id) => Ok(()),
            Err(BuildError::Engine(error)) => Err(Error::Engine(error)),
            Err(error) => Err(Error::BuildFailed { service: service.to_string(), error }),
        }
    }

    /// Records a release for each service, all or none.
    async fn record(
        &self,
        services: Vec<WantedService>,
        mut made: BTreeMap<ServiceName, Made>,
        whole: bool,
    ) -> Result<(), Error> {
        let mut releases = Vec::new();
        for service in services {
            let Some(Made { image, provenance, .. }) = made.remove(&service.name) else { continue };
            let exposed = ports_exposed(&*self.runner.registry, &image.repository, &image.digest).await?;
            let definitions = std::iter::once(&service.definitions.base).chain(service.definitions.overlays.values());
            let declared = definitions.flat_map(|definition| definition.service.ports_declared());
            let ports: BTreeSet<u16> = declared.chain(exposed).collect();
            releases.push(NewRelease {
                service: service.name,
                image,
                definitions: service.definitions,
                job: service.job,
                ports: ports.into_iter().collect(),
                provenance,
            });
        }
        let new = NewReleases { app: self.app.clone(), commit: self.commit.id.clone(), releases, whole };
        let recorded = self.runner.delivery.release_record(new).await?;
        let ids: BTreeMap<ServiceName, ReleaseId> =
            recorded.into_iter().map(|release| (release.service, release.id)).collect();
        self.log
            .line(format!("recorded {} releases of {} at {}", ids.len(), self.app, commit_short(&self.commit.id)))
            .await;
        self.tracked
            .update(|run| {
                for build in &mut run.builds {
                    build.release = ids.get(&build.service).cloned();
                }
            })
            .await
    }

    async fn begun(&self, service: &ServiceName, reason: String, now: Micros) -> Result<(), Error> {
        self.tracked
            .build(service, |build| {
                build.outcome = BuildOutcome::Building;
                build.reason = reason;
                build.started_at = Some(now);
            })
            .await
    }

    async fn ended(
        &self,
        service: &ServiceName,
        outcome: BuildOutcome,
        reason: String,
        digest: Digest,
        now: Micros,
    ) -> Result<(), Error> {
        self.tracked
            .build(service, |build| {
                build.outcome = outcome;
                build.reason = reason;
                build.digest = Some(digest);
                build.started_at = build.started_at.or(Some(now));
                build.finished_at = Some(now);
            })
            .await
    }

    /// What the engine pushed, as the registry has it: another registry at the same address would show here.
    async fn stored(
        &self,
        service: &ServiceName,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<StoredManifest, Error> {
        let stored = manifest(&*self.runner.registry, repository, digest).await?;
        stored.ok_or_else(|| Error::PushLost { service: service.to_string(), digest: digest.to_string() })
    }

    fn repository_of(&self, service: &ServiceName) -> Result<RepositoryName, Error> {
        format!("{}/{service}", self.app).parse().map_err(|error: oci::NameError| Error::ProjectUnsuitable {
            what: error.to_string(),
            hint: "rename the app or the service: it names a repository",
        })
    }
}
