//! Containers beside what should be: for one command of a service's, to look into a fault, to reach a volume. They end with
//! the command that made them; what a killed one left is removed by `down`.

use std::collections::BTreeMap;

use engine::wanted::{WantedHealthcheck, WantedRestart, WantedVolume};
use engine::{Engine, WantedContainer};

use crate::contents::{self, Contents};
use crate::error::Error;
use crate::hooks;
use crate::wanted::{LABEL_AWAITS, LABEL_ONCE, LABEL_SLOT};

/// What a masked value is.
pub const MASK: &str = "masked";
/// Parts of a variable's name that say that its value is nobody's business.
const SECRET_WORDS: [&str; 7] = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "PRIVATE"];

/// How a container for once differs from the service's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Once {
    /// In place of the service's command.
    pub command: Option<Vec<String>>,
    /// It has a terminal.
    pub terminal: bool,
    /// It takes input.
    pub stdin: bool,
    /// Values that look like secrets are masked.
    pub masked: bool,
}

/// A service's container, for once. `suffix` tells it from others.
pub fn container(own: &WantedContainer, once: &Once, suffix: &str) -> WantedContainer {
    let mut container = own.clone();
    container.name = format!("{}-once-{suffix}", own.name);
    container.labels.remove(LABEL_SLOT);
    container.labels.remove(LABEL_AWAITS);
    hooks::label(&mut container.labels, &[], &[]);
    container.labels.insert(LABEL_ONCE.to_owned(), suffix.to_owned());
    // Nobody who means the service is to get here.
    container.networks.values_mut().for_each(Vec::clear);
    container.restart = WantedRestart::No;
    container.healthcheck = Some(WantedHealthcheck::Disabled);
    if let Some(command) = &once.command {
        container.command = Some(command.clone());
    }
    let machine = container.machine.get_or_insert_default();
    machine.ports.clear();
    machine.settings.tty = once.terminal;
    machine.settings.stdin_open = once.stdin;
    machine.stdin_once = once.stdin;
    if once.masked {
        mask(&mut container.environment);
    }
    container
}

/// Masks values whose names say that they are secret, and passwords in URLs.
fn mask(environment: &mut BTreeMap<String, Option<String>>) {
    for (name, value) in environment {
        let Some(text) = value else { continue };
        let upper = name.to_ascii_uppercase();
        if SECRET_WORDS.iter().any(|word| upper.contains(word)) {
            MASK.clone_into(text);
        } else if let Some(masked) = without_password(text) {
            *text = masked;
        }
    }
}

/// A URL with its password masked, if it has one.
fn without_password(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find('/').unwrap_or(rest.len());
    let (credentials, host) = rest[..end].rsplit_once('@')?;
    let (user, _password) = credentials.split_once(':')?;
    Some(format!("{scheme}://{user}:{MASK}@{host}{}", &rest[end..]))
}

/// Creates a container for once, with its files, not started.
///
/// # Errors
/// The engine refuses.
pub async fn create(engine: &dyn Engine, container: &WantedContainer, contents: &Contents) -> Result<String, Error> {
    let id = engine.container_create(container).await?;
    let files = container.machine.as_ref().map(|machine| machine.files.as_slice()).unwrap_or_default();
    if !files.is_empty()
        && let Err(error) = engine.container_archive_put(&id, "/", contents::tar(files, contents)).await
    {
        if let Err(left) = engine.container_remove(&id).await {
            tracing::warn!(error = %left, "a container without its files is left");
        }
        return Err(error.into());
    }
    Ok(id)
}

/// A container that is never started and has nothing but a volume: how its files are reached from outside.
pub fn reaching(own: &WantedContainer, mount: &WantedVolume, suffix: &str) -> WantedContainer {
    let network = own.networks.keys().next().cloned().unwrap_or_default();
    let mut container = WantedContainer::new(format!("{}-volume-{suffix}", own.name), own.image.clone(), network);
    container.labels = own.labels.clone();
    container.labels.remove(LABEL_SLOT);
    container.labels.insert(LABEL_ONCE.to_owned(), suffix.to_owned());
    container.restart = WantedRestart::No;
    container.volumes = vec![WantedVolume { read_only: false, no_copy: true, ..mount.clone() }];
    container
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_masked() {
        let pair = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        let mut environment = BTreeMap::from([
            pair("POSTGRES_PASSWORD", "a"),
            pair("api_key", "b"),
            pair("DATABASE_URL", "postgresql://vote:secret@db:5432/vote?x=1"),
            pair("PLAIN_URL", "http://db/vote:x@y"),
            pair("MODE", "fast"),
        ]);
        mask(&mut environment);
        let values: Vec<&str> = environment.values().flatten().map(String::as_str).collect();
        assert_eq!(
            values,
            ["postgresql://vote:masked@db:5432/vote?x=1", "fast", "http://db/vote:x@y", "masked", "masked"]
        );
    }
}
