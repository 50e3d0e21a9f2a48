//! `hub.toml`: what the platform team decides of a hub.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use api::{Problem, Result};
use serde::Deserialize;

/// Where a hub listens unless told otherwise: the API, pages and the registry.
const LISTEN_DEFAULT: &str = "127.0.0.1:5000";
/// Where a hub listens for agents unless told otherwise.
const AGENT_LISTEN_DEFAULT: &str = "127.0.0.1:5001";
/// Builds that are under way at once.
const BUILDS_PARALLEL: usize = 2;

/// `hub.toml` as it is written. Every key may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    listen: Option<SocketAddr>,
    agent_listen: Option<SocketAddr>,
    agent_names: Vec<String>,
    names: Vec<String>,
    data: Option<PathBuf>,
    tls: Option<Tls>,
    database: Database,
    engine: Engine,
    build: Build,
    registry: registry::Config,
    fanout: fanout::hub::Config,
    inspect: inspect::hub::Settings,
}

/// The files of the certificate that the hub shows on its own port.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    /// PEM, with the chain behind the certificate.
    pub(crate) certificate: PathBuf,
    /// PEM, its private key.
    pub(crate) key: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Database {
    url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Engine {
    address: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Build {
    network: Option<String>,
    parallel: Option<usize>,
    registry_address: Option<String>,
    labels: BTreeMap<String, String>,
}

/// What the command line says; it wins over the file.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) agent_listen: Option<SocketAddr>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) insecure: bool,
}

/// A hub's configuration, checked.
#[derive(Debug)]
pub(crate) struct Config {
    /// The API, pages and the registry.
    pub(crate) listen: SocketAddr,
    /// Agents, with mutual TLS.
    pub(crate) agent_listen: SocketAddr,
    /// Names and addresses by which agents reach the hub, for its certificate.
    pub(crate) agent_names: Vec<String>,
    /// Names by which people and tools reach the hub, besides those of its address and its certificate.
    pub(crate) names: Vec<String>,
    /// TLS on the hub's own port.
    pub(crate) tls: Option<Tls>,
    /// Where everything is kept.
    pub(crate) data: PathBuf,
    /// PostgreSQL in place of SQLite.
    pub(crate) database_url: Option<String>,
    /// The engine that builds.
    pub(crate) engine_address: Option<String>,
    /// The network of RUN steps.
    pub(crate) build_network: Option<String>,
    /// Builds at once.
    pub(crate) builds_parallel: usize,
    /// How the engine that builds reaches the hub's registry.
    pub(crate) registry_address: String,
    /// Labels of built images.
    pub(crate) image_labels: BTreeMap<String, String>,
    /// Whether layers are searched for keys, tokens and passwords.
    pub(crate) secrets: bool,
    /// Rules of the registry.
    pub(crate) registry: registry::Config,
    /// Rules of the exchange of images between hosts.
    pub(crate) fanout: fanout::hub::Config,
    /// Where alerts on advisories are sent.
    pub(crate) webhook: Option<inspect::hub::Webhook>,
}

impl Config {
    /// Reads the file, if one is named, lets the flags win, and checks what comes out.
    pub(crate) fn load(file: Option<&Path>, flags: Flags, data_default: PathBuf) -> Result<Self> {
        let file: File = match file {
            Some(path) => base::config::load(path).map_err(invalid)?,
            None => File::default(),
        };
        let address = |text: &str| text.parse::<SocketAddr>().map_err(|error| invalid(format!("{text}: {error}")));
        let listen = flags.listen.or(file.listen).map_or_else(|| address(LISTEN_DEFAULT), Ok)?;
        let agent_listen =
            flags.agent_listen.or(file.agent_listen).map_or_else(|| address(AGENT_LISTEN_DEFAULT), Ok)?;
        if !listen.ip().is_loopback() && !flags.insecure {
            return Err(Problem::new(
                400,
                "listen-insecure",
                format!("The hub does not listen on {listen} without TLS and sign-in"),
            )
            .detail("whoever reaches that address could push images")
            .hint("Listen on 127.0.0.1 behind a proxy that does both, or say --insecure in a network you trust."));
        }
        let data = flags.data.or(file.data).unwrap_or(data_default);
        let data = std::path::absolute(&data).map_err(|error| invalid(format!("{}: {error}", data.display())))?;
        let builds_parallel = file.build.parallel.unwrap_or(BUILDS_PARALLEL);
        if builds_parallel == 0 {
            return Err(invalid("build.parallel is 0: at least one build must be possible".to_owned()));
        }
        let database_url = file.database.url;
        if let Some(url) = database_url.as_deref()
            && !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme))
        {
            return Err(invalid("database.url does not begin with postgres://".to_owned()).hint(
                "Name a PostgreSQL database, or leave [database] out: the hub then keeps its own in the data folder.",
            ));
        }
        Ok(Self {
            listen,
            agent_listen,
            agent_names: file.agent_names,
            names: file.names,
            tls: file.tls,
            data,
            database_url,
            engine_address: file.engine.address,
            build_network: file.build.network,
            builds_parallel,
            registry_address: file.build.registry_address.unwrap_or_else(|| listen.to_string()),
            image_labels: file.build.labels,
            secrets: file.inspect.secrets,
            registry: file.registry,
            fanout: file.fanout,
            webhook: inspect::hub::Webhook::open(&file.inspect)?,
        })
    }
}

fn invalid(error: impl std::fmt::Display) -> Problem {
    Problem::new(400, "config-invalid", "The hub's configuration is not right")
        .detail(error.to_string())
        .hint("Correct it: addresses are written IP:PORT, and every key may be left out.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, flags: Flags) -> Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hub.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(Some(&file), flags, PathBuf::from("/somewhere"))
    }

    #[test]
    fn an_empty_file_is_a_hub_on_loopback() {
        let config = load("", Flags::default()).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:5000");
        assert_eq!(config.registry_address, "127.0.0.1:5000");
        assert_eq!(config.data, PathBuf::from("/somewhere"));
    }

    #[test]
    fn flags_win_over_the_file() {
        let flags = Flags { listen: Some("127.0.0.2:1".parse().unwrap()), ..Flags::default() };
        let config = load("listen = \"127.0.0.3:2\"\nagent_listen = \"127.0.0.3:3\"", flags).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.2:1");
        assert_eq!(config.agent_listen.to_string(), "127.0.0.3:3");
    }

    #[test]
    fn an_unknown_key_names_the_line_and_the_nearest_known_one() {
        let problem = load("listen = \"127.0.0.1:1\"\n\n[build]\nnetwrok = \"host\"", Flags::default()).unwrap_err();
        assert_eq!(problem.kind, "config-invalid");
        assert!(problem.detail.contains("hub.toml:4:1") && problem.detail.contains("network"), "{}", problem.detail);
    }

    #[test]
    fn tls_needs_both_files() {
        let config =
            load("names = [\"hub.example\"]\n[tls]\ncertificate = \"c\"\nkey = \"k\"", Flags::default()).unwrap();
        assert_eq!(config.names, ["hub.example"]);
        assert_eq!(config.tls.unwrap().key, PathBuf::from("k"));
        let problem = load("[tls]\ncertificate = \"c\"", Flags::default()).unwrap_err();
        assert!(problem.detail.contains("key"), "{}", problem.detail);
    }

    #[test]
    fn another_address_needs_insecure() {
        let problem = load("listen = \"0.0.0.0:5000\"", Flags::default()).unwrap_err();
        assert_eq!(problem.kind, "listen-insecure");
        assert!(load("listen = \"0.0.0.0:5000\"", Flags { insecure: true, ..Flags::default() }).is_ok());
    }

    #[test]
    fn a_database_that_is_not_postgresql_is_refused_without_showing_its_password() {
        let problem = load("[database]\nurl = \"mysql://me:secret@there/db\"", Flags::default()).unwrap_err();
        assert_eq!(problem.kind, "config-invalid");
        assert!(!format!("{problem:?}").contains("secret"));
    }

    #[test]
    fn a_webhook_needs_a_secret_that_is_one_and_neither_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        let with = |url: &str, content: &str| {
            std::fs::write(&secret, content).unwrap();
            let file = secret.display();
            load(&format!("[inspect]\nwebhook = \"{url}\"\nwebhook_secret_file = \"{file}\""), Flags::default())
        };
        let good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
        let config = with("https://hooks.example/T0KEN", good).unwrap();
        let shown = format!("{config:?}");
        assert!(config.webhook.is_some() && !shown.contains("T0KEN") && !shown.contains("MfKQ"), "{shown}");
        for (url, content, why) in [
            ("https://hooks.example/", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "not whsec_"),
            ("https://hooks.example/", "whsec_MfKQ", "24 to 64 bytes"),
            ("https://hooks.example/", "whsec_MfKQ9r8GKYqrTwjUPD8I!!!!!!", "base64"),
            ("https://me:T0KEN@hooks.example/", good, "a password in it"),
            ("file:///etc/T0KEN", good, "https://"),
        ] {
            let problem = with(url, content).unwrap_err();
            assert!(problem.detail.contains(why), "{problem:?}");
            assert!(!format!("{problem:?}").contains("T0KEN") && !format!("{problem:?}").contains("MfKQ"));
        }
        let problem = load("[inspect]\nwebhook = \"https://hooks.example/\"", Flags::default()).unwrap_err();
        assert!(problem.detail.contains("webhook_secret_file"), "{}", problem.detail);
    }

    #[test]
    fn no_builds_at_once_would_be_a_hub_that_never_builds() {
        assert!(load("[build]\nparallel = 0", Flags::default()).is_err());
    }
}
