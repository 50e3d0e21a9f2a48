//! What a developer saves, brought to the services from source: between the [`crate::watch`] and the supervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use compose::model::{WatchAction, WatchRule};
use engine::wanted::STOP_GRACE_DEFAULT;
use engine::{Engine, ExecOptions};
use tokio::task::JoinHandle;

use crate::error::{Error, ErrorKind};
use crate::plan::Observed;
use crate::progress::{Told, Voice};
use crate::wanted::{Origin, Wanted, place_of};
use crate::watch::{
    Action, After, Batch, BatchWork, Hands, Outcome, Report, Rule, Running, ServiceRules, WatchEvent, Watcher,
};

/// The Dockerfile's usual name.
const DOCKERFILE: &str = "Dockerfile";

/// Follows saves for the services of a workspace that come from source.
pub struct Follower {
    engine: Arc<dyn Engine>,
    watcher: Watcher,
    hands: Option<Hands>,
    under_way: Option<(Batch, JoinHandle<(Hands, Report)>)>,
    due: Vec<Batch>,
    /// Batches that end with the next time everything is settled.
    rebuilding: Vec<Batch>,
    told: BTreeMap<String, Running>,
    /// What a service's containers get to stop before they are restarted.
    graces: BTreeMap<String, Duration>,
    voice: Voice,
}

/// What is to be done by whoever has the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// These containers are about to be restarted.
    RestartBegins(Vec<String>),
    /// They were, or could not be.
    RestartEnds(Vec<String>),
    /// Sources changed: what should be is to be found out again.
    Rebuild,
}

impl Follower {
    /// Begins to follow; `None` where no service from source has a rule.
    ///
    /// # Errors
    /// A rule is wrong, or its files cannot be watched.
    pub async fn start(
        engine: Arc<dyn Engine>,
        folder: &Path,
        state: &Path,
        wanted: &Wanted,
        project: &compose::Project,
        voice: Voice,
    ) -> Result<Option<Self>, Error> {
        let rules = rules(folder, wanted, project);
        if rules.is_empty() {
            return Ok(None);
        }
        let watcher = Watcher::start(folder, state, rules).await.map_err(|error| failed(&error))?;
        voice.tell(Told::Note(format!("{} files are watched", watcher.paths())));
        Ok(Some(Self {
            engine,
            watcher,
            hands: Some(Hands::default()),
            under_way: None,
            due: Vec::new(),
            rebuilding: Vec::new(),
            told: BTreeMap::new(),
            graces: graces(wanted),
            voice,
        }))
    }

    /// Builds of these services begin now, from the source as it is.
    pub fn builds_begin<'s>(&mut self, services: impl IntoIterator<Item = &'s String>) {
        services.into_iter().for_each(|service| self.watcher.build_begins(service));
    }

    /// Services that are to be built again, until everything is settled.
    pub fn rebuilding(&self) -> BTreeSet<String> {
        self.rebuilding.iter().map(|batch| batch.service.clone()).collect()
    }

    /// Everything is settled: says which containers there are, and that what was rebuilt is.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn settled(&mut self, wanted: &Wanted, observed: &Observed, all_right: bool) -> Result<(), Error> {
        for batch in self.rebuilding.drain(..) {
            let outcome = if all_right { Outcome::Done(Vec::new()) } else { Outcome::Failed };
            self.watcher.ended(batch.id, &outcome);
        }
        self.graces = graces(wanted);
        for (name, service) in &wanted.services {
            if !matches!(service.origin, Origin::Source(_)) {
                continue;
            }
            let mut running = Running::default();
            let of_it =
                observed.containers.values().filter(|found| place_of(&found.labels).is_some_and(|(of, _)| of == name));
            for found in of_it {
                if let Some(found) = self.engine.container_inspect(&found.id).await? {
                    running.image = found.image_id;
                    running.containers.insert(found.id, found.started.map_or(0, |started| started.0));
                }
            }
            if self.told.get(name) != Some(&running) {
                self.told.insert(name.clone(), running.clone());
                self.watcher.running(name, running);
            }
        }
        Ok(())
    }

    /// The next thing that saves lead to. May be dropped and called again at any time.
    ///
    /// # Errors
    /// The watch cannot go on.
    pub async fn next(&mut self) -> Result<Due, Error> {
        if self.under_way.is_none()
            && let Some(batch) = self.due.pop()
        {
            return Ok(self.begin(batch));
        }
        tokio::select! {
            done = ended(&mut self.under_way) => {
                self.under_way = None;
                if let Some((batch, hands, report)) = done {
                    self.hands = Some(hands);
                    report.notices.iter().for_each(|notice| self.tell(&batch.service, notice));
                    self.watcher.ended(batch.id, &report.outcome);
                    self.voice.tell(Told::Synced { service: batch.service });
                    return Ok(restarts(&batch.work).map_or(Due::Nothing, Due::RestartEnds));
                }
                Ok(Due::Nothing)
            }
            event = self.watcher.next() => match event.map_err(|error| failed(&error))? {
                WatchEvent::Notice(text) => {
                    self.voice.tell(Told::Note(text));
                    Ok(Due::Nothing)
                }
                WatchEvent::Batch(batch) => {
                    if matches!(batch.work, BatchWork::Rebuild { .. }) {
                        return Ok(self.begin(batch));
                    }
                    self.due.insert(0, batch);
                    Ok(Due::Nothing)
                }
            },
        }
    }

    fn begin(&mut self, batch: Batch) -> Due {
        match &batch.work {
            BatchWork::Rebuild { .. } => {
                self.rebuilding.push(batch);
                Due::Rebuild
            }
            BatchWork::Update(update) => {
                let (engine, update) = (self.engine.clone(), update.clone());
                let grace = self.graces.get(&batch.service).copied().unwrap_or(STOP_GRACE_DEFAULT);
                let due = restarts(&batch.work).map_or(Due::Nothing, Due::RestartBegins);
                let mut hands = self.hands.take().unwrap_or_default();
                let task = tokio::spawn(async move {
                    let report = hands.update(engine.as_ref(), &update, grace).await;
                    (hands, report)
                });
                self.under_way = Some((batch, task));
                due
            }
        }
    }

    fn tell(&self, service: &str, notice: &str) {
        self.voice.tell(Told::Note(format!("{service}: {notice}")));
    }
}

fn graces(wanted: &Wanted) -> BTreeMap<String, Duration> {
    let grace = |(name, service): (&String, &crate::wanted::WantedService)| {
        Some((name.clone(), service.containers.first()?.stop_grace))
    };
    wanted.services.iter().filter_map(grace).collect()
}

/// The containers that a batch restarts, if any.
fn restarts(work: &BatchWork) -> Option<Vec<String>> {
    match work {
        BatchWork::Update(update) if update.restart => Some(update.containers.clone()),
        BatchWork::Update(_) | BatchWork::Rebuild { .. } => None,
    }
}

/// The end of what is under way; never, when nothing is.
async fn ended(under_way: &mut Option<(Batch, JoinHandle<(Hands, Report)>)>) -> Option<(Batch, Hands, Report)> {
    match under_way {
        None => std::future::pending().await,
        Some((batch, task)) => match task.await {
            Ok((hands, report)) => Some((batch.clone(), hands, report)),
            Err(error) => {
                let report = Report { outcome: Outcome::Failed, notices: vec![error.to_string()] };
                Some((batch.clone(), Hands::default(), report))
            }
        },
    }
}

/// The rules of the services that come from source.
fn rules(folder: &Path, wanted: &Wanted, project: &compose::Project) -> Vec<ServiceRules> {
    let of_one = |(name, service): (&String, &crate::wanted::WantedService)| {
        let definition = project.services.get(name)?;
        if !matches!(service.origin, Origin::Source(_)) || definition.watch.is_empty() {
            return None;
        }
        let build = definition.build.as_ref().filter(|build| !build.is_remote()).map(|build| {
            let dockerfile = build.dockerfile.clone().unwrap_or_else(|| DOCKERFILE.to_owned());
            (absolute(folder, &build.context), dockerfile)
        });
        let rules = definition.watch.iter().map(|rule| self::rule(folder, rule)).collect();
        Some(ServiceRules { service: name.clone(), build, rules })
    };
    wanted.services.iter().filter_map(of_one).collect()
}

fn rule(folder: &Path, rule: &WatchRule) -> Rule {
    let sync =
        |then| Action::Sync { target: rule.target.clone().unwrap_or_default(), initial: rule.initial_sync, then };
    let exec = || {
        let hook = rule.exec.clone().unwrap_or_default();
        let environment = hook.environment.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let (command, user, working_dir, privileged) = (hook.command, hook.user, hook.working_dir, hook.privileged);
        ExecOptions { command, user, working_dir, environment, privileged }
    };
    let action = match rule.action {
        WatchAction::Rebuild => Action::Rebuild,
        WatchAction::Restart => Action::Restart,
        WatchAction::Sync => sync(After::Nothing),
        WatchAction::SyncRestart => sync(After::Restart),
        WatchAction::SyncExec => sync(After::Exec(exec())),
    };
    Rule { path: absolute(folder, &rule.path), action, ignore: rule.ignore.clone(), include: rule.include.clone() }
}

fn absolute(folder: &Path, path: &str) -> PathBuf {
    match path.strip_prefix("~/").zip(std::env::home_dir()) {
        Some((rest, home)) => home.join(rest),
        None => folder.join(path),
    }
}

fn failed(error: &crate::watch::WatchError) -> Error {
    Error::new(ErrorKind::Refused, error.to_string(), "Mend the rule under `develop.watch`, or leave it out.")
}
