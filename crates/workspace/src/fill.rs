//! Services that are filled once, when their volumes are new.
//!
//! A marker, which is a volume with nothing in it, is on the engine from before the volumes are made until the last step
//! has ended well. A command that was killed leaves it there, and the next one begins again with new volumes. What has no
//! marker is never touched, whoever made it. All of it is decided from what the engine has, with nothing remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use engine::{Engine, ExecOptions, SessionInput, SessionOutput, VolumeSpec};
use futures::StreamExt as _;

use crate::error::{Error, ErrorKind};
use crate::plan::{Memory, Observed};
use crate::settings::Step;
use crate::wanted::{LABEL_WORKSPACE, WantedService};

/// The end of what a failed step wrote that is shown.
const OUTPUT_BYTES_MAX: usize = 4096;

/// What fills a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Fill {
    /// What says on the engine that it is not done.
    pub marker: VolumeSpec,
    /// The volumes that are new before it, by their names on the engine.
    pub volumes: BTreeSet<String>,
    /// What is done.
    pub steps: Vec<Step>,
    /// What inputs are relative to.
    pub folder: PathBuf,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// There is nothing to do: it is done, or the volumes are somebody's already.
    Done,
    /// Nothing is there yet; the marker comes first.
    New,
    /// The volumes are new, or about to be made.
    Open,
    /// Another command left it half done: the volumes are made again.
    Broken,
}

impl Fill {
    /// What fills this service of a workspace, if its volumes are the workspace's.
    ///
    /// # Errors
    /// It has no volume to fill, or it ends by itself.
    pub fn new(
        name: &str,
        service: &WantedService,
        volumes: &[VolumeSpec],
        steps: Vec<Step>,
        folder: &Path,
    ) -> Result<Option<Self>, Error> {
        let refused = |why: &str, hint: &str| {
            Error::new(ErrorKind::ProjectInvalid, format!("longshore.yaml fills {name}, {why}"), hint)
        };
        let Some(own) = service.containers.first() else { return Ok(None) };
        if service.is_job {
            return Err(refused("which ends by itself", "Fill the service that it works on."));
        }
        let mounted: BTreeSet<&String> = own.volumes.iter().filter_map(|mount| mount.volume.as_ref()).collect();
        let mounted: Vec<&VolumeSpec> =
            volumes.iter().filter(|spec| !spec.external && mounted.contains(&spec.name)).collect();
        let Some(first) = mounted.first() else {
            return Err(refused("which mounts no volume of the project", "Keep what is filled in a named volume."));
        };
        let workspace = first.labels.get(LABEL_WORKSPACE).map(String::as_str).unwrap_or_default();
        let marker = marker(first, format!("{workspace}_{name}.filling"));
        let volumes = mounted.iter().map(|spec| spec.name.clone()).collect();
        Ok(Some(Self { marker, volumes, steps, folder: folder.to_owned() }))
    }

    /// How far it is, as the engine and this run say.
    pub fn stage(&self, service: &str, observed: &Observed, memory: &Memory) -> Stage {
        let any = self.volumes.iter().any(|name| observed.volumes.contains(name));
        match (observed.volumes.contains(&self.marker.name), any) {
            (false, true) => Stage::Done,
            (false, false) => Stage::New,
            (true, true) if !memory.fresh.contains(service) => Stage::Broken,
            (true, _) => Stage::Open,
        }
    }

    /// Marks the volumes as unfilled, unless one of them is there though it does not carry the workspace's label; gives
    /// those.
    ///
    /// # Errors
    /// The engine refuses.
    pub async fn begin(&self, engine: &dyn Engine) -> Result<BTreeSet<String>, Error> {
        let mut there = BTreeSet::new();
        for name in &self.volumes {
            if engine.volume_inspect(name).await?.is_some() {
                there.insert(name.clone());
            }
        }
        if there.is_empty() {
            engine.volume_create(&self.marker).await?;
        }
        Ok(there)
    }

    /// Carries out the steps in a container, and takes the marker away.
    ///
    /// # Errors
    /// A step fails; an input cannot be read.
    pub async fn run(&self, engine: &dyn Engine, container: &str) -> Result<(), Error> {
        for step in &self.steps {
            self.step(engine, container, step).await?;
        }
        Ok(engine.volume_remove(&self.marker.name).await?)
    }

    async fn step(&self, engine: &dyn Engine, container: &str, step: &Step) -> Result<(), Error> {
        let failed = |why: String| {
            let hint = "Mend the step in longshore.yaml; `longshore up` begins again with new volumes.";
            Error::new(ErrorKind::ServiceFailed, format!("`{}` {why}", step.command.join(" ")), hint)
        };
        let mut input = SessionInput::default();
        if let Some(name) = &step.input {
            let file = tokio::fs::File::open(self.folder.join(name)).await;
            input.stdin = Some(Box::pin(file.map_err(|error| failed(format!("cannot be given {name}: {error}")))?));
        }
        let options = ExecOptions { command: step.command.clone(), ..ExecOptions::default() };
        let mut session = engine.container_exec(container, &options, input).await?;
        let mut written = Vec::new();
        while let Some(output) = session.next().await {
            match output? {
                SessionOutput::Stdout(bytes) | SessionOutput::Stderr(bytes) => {
                    written.extend_from_slice(&bytes);
                    let above = written.len().saturating_sub(OUTPUT_BYTES_MAX);
                    written.drain(..above);
                }
                SessionOutput::Ended(0) => return Ok(()),
                SessionOutput::Ended(code) => {
                    let text = String::from_utf8_lossy(&written);
                    let lines: String = text.trim().lines().map(|line| format!("\n  {line}")).collect();
                    return Err(failed(format!("ended with status {code}{lines}")));
                }
            }
        }
        Err(failed("broke off: the container ended, or the engine".to_owned()))
    }
}

/// A volume with nothing in it that says something about another.
pub(crate) fn marker(of: &VolumeSpec, name: String) -> VolumeSpec {
    VolumeSpec {
        name,
        driver: "local".to_owned(),
        labels: of.labels.clone(),
        external: false,
        driver_opts: BTreeMap::new(),
    }
}
