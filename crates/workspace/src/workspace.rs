//! A workspace as commands use it: what its checkout, its state and the hub say, brought together into what should be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::EnvName;
use api::client::HubClient;
use compose::model::{Build, Protocol};
use engine::Engine;
use engine::machine::WantedFileKind;

use crate::contents::{self, digests};
use crate::error::{Error, ErrorKind};
use crate::images::Images;
use crate::plan::Observed;
use crate::ports::{self, Assigned};
use crate::progress::Voice;
use crate::project::{Checkout, Loaded};
use crate::releases::{self, Known};
use crate::resolve::{Chosen, Outside, Parts, choose, resolve};
use crate::source::Context;
use crate::state::{State, Store};
use crate::supervisor::look;
use crate::wanted::{LABEL_CHECKOUT, Wanted, labels_of};

/// The environment whose releases run unless another is named.
const ENV_DEFAULT: &str = "prod";

/// Looks variables up.
pub type Variable = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Which workspace is meant.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Where the command runs.
    pub folder: PathBuf,
    /// Compose files that were named.
    pub files: Vec<PathBuf>,
    /// The app's name, in place of the project's.
    pub name: Option<String>,
    /// Profiles that were named.
    pub profiles: BTreeSet<String>,
}

/// A workspace.
pub struct Workspace {
    checkout: Checkout,
    choice: Choice,
    loaded: Loaded,
    store: Store,
    state: Option<State>,
    engine: Arc<dyn Engine>,
    hub: HubClient,
    variable: Variable,
}

/// What should be, and what is.
pub struct Prepared {
    /// What should be.
    pub wanted: Arc<Wanted>,
    /// What is.
    pub observed: Observed,
    /// Where published ports are found.
    pub addresses: Vec<Address>,
    /// What the environment has.
    pub known: Known,
    /// What a person should know.
    pub notes: Vec<String>,
    /// What is to be remembered; written by [`Workspace::commit`].
    pub state: State,
}

/// Where a port of a service is found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Address {
    /// The service.
    pub service: String,
    /// The container's port.
    pub target: u16,
    /// As a browser takes it.
    pub url: String,
    /// The port that the project names, when it was not free.
    pub instead_of: Option<u16>,
}

impl Workspace {
    /// The workspace of a checkout. `root` is where workspaces keep their state; `variable` looks variables up.
    ///
    /// # Errors
    /// There is no project, it is wrong, or the state cannot be read.
    pub fn open(
        choice: Choice,
        root: &Path,
        engine: Arc<dyn Engine>,
        hub: HubClient,
        variable: Variable,
    ) -> Result<Self, Error> {
        let mut checkout = Checkout::find(&choice.folder, &choice.files)?;
        let store = Store::new(root, &checkout, choice.name.as_deref());
        let state = store.state()?;
        if let Some(state) = state.as_ref().filter(|state| choice.files.is_empty() && !state.files.is_empty()) {
            checkout = Checkout::find(&choice.folder, &state.files)?;
        }
        let mut profiles = choice.profiles.clone();
        if profiles.is_empty() {
            profiles.extend(state.iter().flat_map(|state| state.profiles.iter().cloned()));
        }
        let loaded = checkout.load(choice.name.as_deref(), &profiles, variable.as_ref())?;
        Ok(Self { checkout, choice, loaded, store, state, engine, hub, variable })
    }

    /// Reads the project again, as it is now.
    ///
    /// # Errors
    /// It is wrong.
    pub fn reload(&mut self) -> Result<(), Error> {
        self.state = self.store.state()?;
        let mut profiles = self.choice.profiles.clone();
        if profiles.is_empty() {
            profiles.extend(self.state.iter().flat_map(|state| state.profiles.iter().cloned()));
        }
        self.loaded = self.checkout.load(self.choice.name.as_deref(), &profiles, self.variable.as_ref())?;
        Ok(())
    }

    /// Its folder.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The project as it is in the checkout.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// The folder that the project's paths are relative to.
    pub fn folder(&self) -> &Path {
        &self.checkout.folder
    }

    /// What was remembered; `None` before the first `up`.
    pub fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// What was remembered, of a workspace that was up before.
    ///
    /// # Errors
    /// It never was.
    pub fn known_state(&self) -> Result<&State, Error> {
        self.state.as_ref().ok_or_else(|| {
            let why = format!("{} was never up here", self.loaded.app);
            Error::new(ErrorKind::Refused, why, "Start it with `longshore up`.")
        })
    }

    /// The engine that it runs on.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// What is to be remembered of a first or another `up`.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn state_for(&self, env: Option<EnvName>) -> Result<State, Error> {
        let mut state = match &self.state {
            Some(state) => state.clone(),
            None => self.first_state().await?,
        };
        if let Some(env) = env {
            state.env = env;
        }
        if !self.choice.files.is_empty() {
            state.files.clone_from(&self.checkout.files);
        }
        if !self.choice.profiles.is_empty() {
            state.profiles.clone_from(&self.choice.profiles);
        }
        Ok(state)
    }

    /// The first checkout of an app has the app's own name; another one gets a name of its own.
    async fn first_state(&self) -> Result<State, Error> {
        let app = self.loaded.app.clone();
        let hash = self.checkout.hash(self.choice.name.as_deref());
        let mut name = app.to_string();
        let there = self.engine.container_summaries(&labels_of(&name)).await?;
        let is_foreign = there.iter().any(|found| found.labels.get(LABEL_CHECKOUT) != Some(&hash));
        if is_foreign || self.store.names_of_others()?.contains(&name) {
            name = format!("{name}-{hash}");
        }
        let env = ENV_DEFAULT.parse().map_err(|error: api::InvalidName| {
            Error::new(ErrorKind::Refused, error.to_string(), "Name an environment with --from.")
        })?;
        Ok(State::new(name, hash, self.checkout.folder.clone(), app, env))
    }

    /// Brings together what should be and what is: asks hub and engine side by side, and reads the sources meanwhile.
    ///
    /// # Errors
    /// The engine does not answer; the hub does not, and never did; what the project asks for cannot be had.
    pub async fn prepare(&self, state: State) -> Result<Prepared, Error> {
        let likely: BTreeMap<String, Build> = self.builds(&state.develop);
        let (observed, known, likely) = tokio::join!(
            look(self.engine.as_ref(), &state.workspace),
            releases::ask(&self.hub, &self.store, &state.app, &state.env),
            self.digests(likely),
        );
        let (observed, known, mut inputs) = (observed?, known?, likely?);
        let releases = &known.remembered.releases;
        let parts = Parts {
            workspace: &state.workspace,
            checkout: &state.checkout,
            project: &self.loaded.project,
            releases: Some(releases),
            develop: &state.develop,
            services: &state.services,
        };
        let chosen = choose(&parts)?;
        let others: BTreeSet<String> = chosen
            .iter()
            .filter(|(name, chosen)| chosen.release.is_none() && !inputs.contains_key(*name))
            .map(|(name, _)| name.clone())
            .collect();
        inputs.extend(self.digests(self.builds(&others)).await?);
        let declared = crate::resolve::ports(&chosen);
        let held = observed.containers.values().flat_map(|found| &found.ports).map(|(published, _)| *published);
        let assigned = ports::assign(&declared, &state.ports, &held.collect(), &mut ports::is_free)?;
        let addresses = addresses(&declared, &assigned, &state);
        let variable = |name: &str| (self.variable)(name).or_else(|| self.loaded.dotenv.get(name).cloned());
        let (contents, stand_ins) = contents::read(&chosen, &self.checkout.folder, &variable)?;
        let home = std::env::home_dir().map(|home| home.display().to_string());
        let outside = Outside {
            inputs: &inputs,
            ports: &assigned,
            folder: &self.checkout.folder.display().to_string(),
            home: home.as_deref(),
            configs: &digests(&contents, WantedFileKind::Config),
            secrets: &digests(&contents, WantedFileKind::Secret),
        };
        let wanted = Wanted { contents, ..resolve(&parts, &chosen, &outside)? };
        let wanted = Arc::new(wanted);
        let mut notes = self.notes(&known, &chosen, &state);
        notes.extend(stand_ins);
        let state = State { ports: assigned, ..state };
        Ok(Prepared { wanted, observed, addresses, known, notes, state })
    }

    /// Remembers what was prepared. For the process that holds the workspace.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn commit(&mut self, state: State) -> Result<(), Error> {
        self.store.state_save(&state)?;
        self.state = Some(state);
        Ok(())
    }

    /// What gets images for it.
    ///
    /// # Errors
    /// What is known of images cannot be read.
    pub fn images(&self, workspace: &str, voice: Voice) -> Result<Images, Error> {
        let (engine, hub) = (self.engine.clone(), self.hub.clone());
        let known = self.store.images()?;
        Ok(Images::new(engine, hub, self.checkout.folder.clone(), labels_of(workspace), known, voice))
    }

    fn builds(&self, services: &BTreeSet<String>) -> BTreeMap<String, Build> {
        let build = |name: &String| Some((name.clone(), self.loaded.project.services.get(name)?.build.clone()?));
        services.iter().filter_map(build).collect()
    }

    /// Digests of what goes into builds, by service.
    async fn digests(&self, builds: BTreeMap<String, Build>) -> Result<BTreeMap<String, String>, Error> {
        if builds.is_empty() {
            return Ok(BTreeMap::new());
        }
        let root = self.checkout.folder.clone();
        let work = tokio::task::spawn_blocking(move || {
            let of_one = |(name, build): (String, Build)| {
                let context = Context::read(&root, &build)
                    .map_err(|error| Error { why: format!("{name}: {}", error.why), ..error })?;
                let digest = context.digest(&build).map_err(|error| {
                    let why = format!("{name}: the context cannot be read: {error}");
                    Error::new(ErrorKind::Build, why, "Leave it out with .dockerignore, or mend it.")
                })?;
                Ok((name, digest))
            };
            builds.into_iter().map(of_one).collect()
        });
        work.await.map_err(|error| Error::new(ErrorKind::Build, error.to_string(), "Try again."))?
    }

    fn notes(&self, known: &Known, chosen: &BTreeMap<String, Chosen>, state: &State) -> Vec<String> {
        let mut notes = self.loaded.warnings.clone();
        let env = &state.env;
        if let Some(why) = &known.stale {
            notes.push(format!("{why}; going on with what {env} had at {}", known.remembered.at));
        }
        let new: Vec<&str> = chosen
            .iter()
            .filter(|(name, chosen)| chosen.release.is_none() && !state.develop.contains(*name))
            .map(|(name, _)| name.as_str())
            .collect();
        if !new.is_empty() {
            let verb = if new.len() == 1 { "it comes" } else { "they come" };
            notes.push(format!("{env} does not have {} yet, so {verb} from source", new.join(", ")));
        }
        let releases = &known.remembered.releases.releases;
        let gone = releases.iter().filter(|one| !self.loaded.project.services.contains_key(one.service.as_str()));
        let gone: Vec<&str> = gone.map(|one| one.service.as_str()).collect();
        if !gone.is_empty() {
            notes.push(format!("{env} has {}, which this checkout does not have: not started", gone.join(", ")));
        }
        notes
    }
}

fn addresses(declared: &[ports::Declared], assigned: &Assigned, state: &State) -> Vec<Address> {
    let of_one = |one: &ports::Declared| {
        let port = *assigned.get(&one.key()).filter(|_| one.protocol == Protocol::Tcp)?;
        Some(Address {
            service: one.service.clone(),
            target: one.target,
            url: ports::address(&one.service, &state.workspace, port),
            instead_of: one.published.filter(|published| *published != port),
        })
    };
    declared.iter().filter_map(of_one).collect()
}
