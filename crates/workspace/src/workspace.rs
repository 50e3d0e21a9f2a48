//! A workspace as commands use it: what its checkout, its state and the hub say, brought together into what should be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::EnvName;
use api::client::HubClient;
use compose::model::{Build, Port, Protocol};
use engine::machine::WantedFileKind;
use engine::{Engine, Labels};

use crate::contents::{self, digests};
use crate::error::{Error, ErrorKind};
use crate::fill::Fill;
use crate::images::Images;
use crate::plan::Observed;
use crate::ports::{self, Assigned};
use crate::progress::Voice;
use crate::project::{Checkout, Loaded};
use crate::releases::{self, Known};
use crate::resolve::{Chosen, Outside, Parts, choose, resolve};
use crate::settings::Step;
use crate::source::Context;
use crate::state::{State, Store};
use crate::supervisor::look;
use crate::wanted::{LABEL_CHECKOUT, LABEL_SOURCE, Wanted, labels_of, place_of};

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
    /// The engine's machine, when that is another one: published ports are found there.
    pub machine: Option<String>,
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

/// Which services from source are taken as their source is now.
#[derive(Debug, Clone, Copy)]
pub enum Sources<'a> {
    /// All.
    All,
    /// These. Another that has a container stays at what that was built from, whatever was saved since.
    Of(&'a BTreeSet<String>),
}

impl Sources<'_> {
    fn has(self, service: &str) -> bool {
        match self {
            Self::All => true,
            Self::Of(services) => services.contains(service),
        }
    }
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
    /// As a browser takes it; host and port for a debugger.
    pub url: String,
    /// A debugger is to connect there.
    pub debugger: bool,
    /// The port that the project names, when it was not free.
    pub instead_of: Option<u16>,
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.url)?;
        if self.debugger { formatter.write_str(" for a debugger") } else { Ok(()) }
    }
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
    pub async fn prepare(&self, state: State, sources: Sources<'_>) -> Result<Prepared, Error> {
        let fresh = state.develop.iter().filter(|service| sources.has(service)).cloned().collect();
        let likely: BTreeMap<String, Build> = self.builds(&fresh);
        let (observed, known, likely) = tokio::join!(
            look(self.engine.as_ref(), &state.workspace),
            releases::ask(&self.hub, &self.store, &state.app, &state.env),
            self.digests(likely),
        );
        let (observed, mut inputs) = (observed?, likely?);
        let (known, away) = match known {
            Err(error) if error.kind == ErrorKind::HubUnreachable => {
                (Known::blank(&state.app, &state.env, error.why.clone()), Some(error))
            }
            known => (known?, None),
        };
        for labels in observed.containers.values().map(|found| &found.labels) {
            if let Some((service, _)) = place_of(labels).filter(|(service, _)| !sources.has(service))
                && let Some(source) = labels.get(LABEL_SOURCE)
            {
                inputs.insert(service.to_owned(), source.clone());
            }
        }
        let releases = &known.remembered.releases;
        let parts = Parts {
            workspace: &state.workspace,
            checkout: &state.checkout,
            project: &self.loaded.project,
            releases: Some(releases),
            develop: &state.develop,
            services: &state.services,
        };
        let mut chosen = choose(&parts)?;
        let debuggers = self.debuggers(&state);
        for (name, port) in &debuggers {
            if let Some(chosen) = chosen.get_mut(name) {
                open(chosen, *port);
            }
        }
        if let Some(error) = away {
            needs_nothing(&chosen, &state, error)?;
        }
        let others: BTreeSet<String> = chosen
            .iter()
            .filter(|(name, chosen)| chosen.release.is_none() && !inputs.contains_key(*name))
            .map(|(name, _)| name.clone())
            .collect();
        inputs.extend(self.digests(self.builds(&others)).await?);
        let declared = crate::resolve::ports(&chosen);
        let held = observed.containers.values().flat_map(|found| &found.ports).map(|(published, _)| *published);
        let taken = self.taken_elsewhere().await?;
        let mut is_free = |port| taken.as_ref().map_or_else(|| ports::is_free(port), |taken| !taken.contains(&port));
        let assigned = ports::assign(&declared, &state.ports, &held.collect(), &mut is_free)?;
        let addresses = self.addresses(&declared, &assigned, &state, &debuggers);
        let variable = |name: &str| (self.variable)(name).or_else(|| self.loaded.dotenv.get(name).cloned());
        let (contents, stand_ins) = contents::read(&chosen, &self.checkout.folder, &variable)?;
        let home = std::env::home_dir().map(|home| home.display().to_string());
        let outside = Outside {
            inputs: &inputs,
            ports: &assigned,
            folder: &self.checkout.folder.display().to_string(),
            home: home.as_deref(),
            // Nobody gets to the loopback of another machine.
            host_ip: match &self.choice.machine {
                None => Ipv4Addr::LOCALHOST,
                Some(_) => Ipv4Addr::UNSPECIFIED,
            },
            configs: &digests(&contents, WantedFileKind::Config),
            secrets: &digests(&contents, WantedFileKind::Secret),
        };
        let resolved = resolve(&parts, &chosen, &outside)?;
        let fills = self.fills(&resolved)?;
        let wanted = Wanted { contents, fills, ..resolved };
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

    /// What fills the services that are to run.
    fn fills(&self, wanted: &Wanted) -> Result<BTreeMap<String, Fill>, Error> {
        let mut fills = BTreeMap::new();
        for (name, settings) in &self.loaded.settings.workspace.services {
            let steps: Vec<Step> = settings.value.fill.iter().map(|step| step.value.clone()).collect();
            if let Some(service) = wanted.services.get(name).filter(|_| !steps.is_empty())
                && let Some(fill) = Fill::new(name, service, &wanted.volumes, steps, &self.checkout.folder)?
            {
                fills.insert(name.clone(), fill);
            }
        }
        Ok(fills)
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

    /// Ports that are taken on the engine's machine, when that is another one: nobody can be asked but the engine.
    async fn taken_elsewhere(&self) -> Result<Option<BTreeSet<u16>>, Error> {
        if self.choice.machine.is_none() {
            return Ok(None);
        }
        let found = self.engine.container_summaries(&Labels::new()).await?;
        Ok(Some(found.iter().flat_map(|found| &found.ports).map(|(published, _)| *published).collect()))
    }

    /// Ports for debuggers: of services that are worked on, and of no others.
    fn debuggers(&self, state: &State) -> BTreeMap<String, NonZeroU16> {
        let usual = self.loaded.settings.workspace.services.iter();
        let usual = usual.filter_map(|(name, service)| Some((name.clone(), service.value.debugger?)));
        let all = usual.chain(state.debuggers.iter().map(|(name, port)| (name.clone(), *port)));
        all.filter(|(name, _)| state.develop.contains(name)).collect()
    }

    fn addresses(
        &self,
        declared: &[ports::Declared],
        assigned: &Assigned,
        state: &State,
        debuggers: &BTreeMap<String, NonZeroU16>,
    ) -> Vec<Address> {
        let of_one = |one: &ports::Declared| {
            let port = *assigned.get(&one.key()).filter(|_| one.protocol == Protocol::Tcp)?;
            let debugger = debuggers.get(&one.service).is_some_and(|debugger| debugger.get() == one.target);
            let url = match &self.choice.machine {
                _ if debugger => format!("127.0.0.1:{port}"),
                None => ports::address(&one.service, &state.workspace, port),
                Some(machine) => format!("http://{machine}:{port}"),
            };
            let (service, instead_of) = (one.service.clone(), one.published.filter(|published| *published != port));
            Some(Address { service, target: one.target, url, debugger, instead_of })
        };
        declared.iter().filter_map(of_one).collect()
    }

    fn notes(&self, known: &Known, chosen: &BTreeMap<String, Chosen>, state: &State) -> Vec<String> {
        let mut notes = self.loaded.warnings.clone();
        let env = &state.env;
        if let Some(machine) = &self.choice.machine
            && chosen.values().any(|chosen| !chosen.definition.service.ports.is_empty())
        {
            notes
                .push(format!("the engine is on {machine}: ports are published on its network, not on this machine's"));
        }
        match &known.stale {
            Some(why) if known.is_blank => {
                notes.push(format!("{why}; what {env} has is not known"));
                let named = chosen.keys().filter(|name| !state.develop.contains(*name));
                notes.extend(named.map(|name| format!("{name} runs the image that the project names")));
            }
            Some(why) => notes.push(format!("{why}; going on with what {env} had at {}", known.remembered.at)),
            None => {}
        }
        let new: Vec<&str> = chosen
            .iter()
            .filter(|(name, chosen)| chosen.release.is_none() && !known.is_blank && !state.develop.contains(*name))
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

/// Publishes a port for a debugger, where nobody but this machine gets: whoever gets there can do anything.
fn open(chosen: &mut Chosen, debugger: NonZeroU16) {
    let (target, ports) = (debugger.get(), &mut chosen.definition.service.ports);
    ports.retain(|port| port.target != target || port.protocol != Protocol::Tcp);
    let host_ip = Some(Ipv4Addr::LOCALHOST.into());
    ports.push(Port { target, published: Some(target), host_ip, ..Port::default() });
}

/// Whether nothing of what is to run needs an environment of which nothing is known: all that can be built is worked on.
fn needs_nothing(chosen: &BTreeMap<String, Chosen>, state: &State, error: Error) -> Result<(), Error> {
    let needed = chosen
        .iter()
        .filter(|(name, chosen)| !state.develop.contains(*name) && chosen.definition.service.build.is_some());
    let needed: Vec<&str> = needed.map(|(name, _)| name.as_str()).collect();
    if needed.is_empty() {
        return Ok(());
    }
    let hint = format!(
        "Connect to the hub once, or run what comes from {} from source as well: `longshore up --dev {}`.",
        state.env,
        needed.join(" ")
    );
    Err(Error { hint: Some(hint), ..error })
}
