//! `longshore image`: what the hub's registry holds.

mod import;
mod ls;
mod retention;
mod rm;

use api::Problem;
use client::{ClientConfig, ClientError};
use oci::{Reference, RepositoryName};
use url::Url;

use crate::reach::Global;

/// Images in the hub's registry: bring them in, list and remove them
#[derive(clap::Subcommand)]
pub(super) enum Command {
    Import(import::Args),
    Ls(ls::Args),
    Retention(retention::Args),
    Rm(rm::Args),
}

pub(super) async fn run(global: &Global, command: Command) -> api::Result<()> {
    match command {
        Command::Import(args) => import::run(global, args).await,
        Command::Ls(args) => ls::run(global, args).await,
        Command::Retention(args) => retention::run(global, args).await,
        Command::Rm(args) => rm::run(global, args).await,
    }
}

/// The hub as a registry.
struct Hub {
    host: String,
    /// What a client must know to reach it.
    config: ClientConfig,
}

impl Hub {
    fn of(global: &Global) -> api::Result<Self> {
        let host = registry_host(&global.hub).ok_or_else(|| {
            Problem::new(400, "hub-address", "The hub's address is not one of a registry")
                .detail(global.hub.to_string())
                .hint("Write http://HOST:PORT.")
        })?;
        // Loopback is taken for plain http, everything else for https: the address says otherwise where it does.
        let named = vec![host.clone()];
        let (plain_http, https) =
            if global.hub.scheme() == "https" { (Vec::new(), named) } else { (named, Vec::new()) };
        let certificates_pem = global.ca_pem()?.unwrap_or_default();
        Ok(Self { host, config: ClientConfig { plain_http, https, certificates_pem, ..ClientConfig::default() } })
    }

    fn client(&self) -> api::Result<client::Client> {
        client::Client::new(self.config.clone()).map_err(problem)
    }

    fn repository(&self, name: RepositoryName) -> api::Result<Reference> {
        Reference::new(&self.host, name)
            .map_err(|error| Problem::new(400, "image-name", "That is not an image's name").detail(error.to_string()))
    }
}

fn registry_host(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// An image of the hub as people name it: `REPOSITORY`, `REPOSITORY:TAG` or `REPOSITORY@DIGEST`, without a host.
#[derive(Debug, Clone)]
struct Name {
    repository: RepositoryName,
    tag: Option<oci::Tag>,
    digest: Option<oci::Digest>,
}

impl std::str::FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|error: oci::DigestError| error.to_string())?)),
            None => (text, None),
        };
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => {
                (repository, Some(tag.parse().map_err(|error: oci::NameError| error.to_string())?))
            }
            None => (rest, None),
        };
        let repository = repository.parse().map_err(|error: oci::NameError| error.to_string())?;
        Ok(Self { repository, tag, digest })
    }
}

/// What went wrong with a registry, as every command says it.
fn problem(error: ClientError) -> Problem {
    let (status, title) = match &error {
        ClientError::Unreachable { .. } => (502, "The registry cannot be reached"),
        ClientError::Denied { .. } => (403, "The registry refuses"),
        ClientError::NoCatalog { .. } => (403, "The registry does not list its repositories"),
        ClientError::NotFound { .. } => (404, "There is no such image"),
        ClientError::Busy { .. } => (429, "The registry is too busy"),
        ClientError::Status { status, .. } if *status < 500 => (*status, "The registry refuses"),
        ClientError::Setup(_) => (400, "The HTTP client cannot be set up"),
        _ => (502, "The registry cannot be used"),
    };
    Problem::new(status, format!("registry-{}", error.kind()), title).detail(error.whole())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_the_hub_have_no_host() {
        let name: Name = "team/app:v1".parse().unwrap();
        assert_eq!((name.repository.as_str(), name.tag.unwrap().as_str()), ("team/app", "v1"));
        let digest = oci::Digest::sha256_of(b"x");
        assert_eq!(format!("a@{digest}").parse::<Name>().unwrap().digest, Some(digest));
        assert!("localhost:5000/a:v1".parse::<Name>().is_err());
        assert!("A".parse::<Name>().is_err());
    }

    #[test]
    fn the_hubs_address_is_that_of_its_registry() {
        let host = |text: &str| registry_host(&text.parse().unwrap()).unwrap();
        assert_eq!(host("http://127.0.0.1:5000"), "127.0.0.1:5000");
        assert_eq!(host("https://hub.example/"), "hub.example");
        assert_eq!(host("http://[::1]:5000"), "[::1]:5000");
    }
}
