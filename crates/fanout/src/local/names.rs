//! Which registries a host's registry answers for. A runtime that uses it as a mirror says in `?ns=` whose image it wants:
//! that is looked up here and nowhere else, so that no request chooses where the hub goes.

use std::collections::BTreeMap;

use http::StatusCode;
use oci::RepositoryName;

use super::answer::Refusal;

/// Registries that are answered for at most.
const NAMES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 255;

/// Why a text names no registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamesError {
    /// Not of the form.
    #[error(
        "\"{given}\" names no registry; write HOST or HOST:PORT for the hub's own name, HOST=PREFIX for an upstream's"
    )]
    Form {
        /// What was given.
        given: String,
    },
    /// Too many.
    #[error("a host answers for at most {NAMES_MAX} registries")]
    TooMany,
}

/// The names of registries that a host answers for, and the prefix that each has on the hub.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(BTreeMap<String, Option<RepositoryName>>);

impl Names {
    /// Reads `HOST[:PORT]` for the hub's own name, and `HOST[:PORT]=PREFIX` for an upstream, whose images the hub has under
    /// that prefix.
    ///
    /// # Errors
    /// [`NamesError`].
    pub fn parse<'a>(given: impl IntoIterator<Item = &'a str>) -> Result<Self, NamesError> {
        let mut names = BTreeMap::new();
        for text in given {
            let wrong = || NamesError::Form { given: text.chars().take(NAME_BYTES_MAX).collect() };
            let (host, prefix) = match text.split_once('=') {
                Some((host, prefix)) => (host, Some(prefix.parse().map_err(|_| wrong())?)),
                None => (text, None),
            };
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
            if host.is_empty() || host.len() > NAME_BYTES_MAX || !host.bytes().all(is_name) {
                return Err(wrong());
            }
            names.insert(host.to_ascii_lowercase(), prefix);
        }
        if names.len() > NAMES_MAX { Err(NamesError::TooMany) } else { Ok(Self(names)) }
    }

    /// The registries, with the prefix that an upstream's images have on the hub.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&RepositoryName>)> {
        self.0.iter().map(|(host, prefix)| (host.as_str(), prefix.as_ref()))
    }

    /// The first of the hub's own names.
    pub fn own(&self) -> Option<&str> {
        self.iter().find(|(_host, prefix)| prefix.is_none()).map(|(host, _prefix)| host)
    }

    /// The repository on the hub; without a registry, the one that was asked for.
    pub(super) fn resolve(
        &self,
        registry: Option<&str>,
        repository: RepositoryName,
    ) -> Result<RepositoryName, Refusal> {
        let Some(registry) = registry else { return Ok(repository) };
        let unknown = || {
            let text = "this host does not answer for that registry; pull from it directly";
            Refusal::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", text)
        };
        match self.0.get(&registry.to_ascii_lowercase()).ok_or_else(unknown)? {
            None => Ok(repository),
            Some(prefix) => format!("{prefix}/{repository}").parse().map_err(|_| unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_a_closed_table() {
        let names = Names::parse(["hub.example:5000", "docker.io=mirror/hub"]).unwrap();
        let resolve = |registry, repository: &str| {
            names.resolve(registry, repository.parse().unwrap()).ok().map(|found| found.to_string())
        };
        assert_eq!(resolve(None, "team/app").as_deref(), Some("team/app"));
        assert_eq!(resolve(Some("Hub.example:5000"), "team/app").as_deref(), Some("team/app"));
        assert_eq!(resolve(Some("docker.io"), "library/redis").as_deref(), Some("mirror/hub/library/redis"));
        for other in ["", "quay.example", "hub.example", "169.254.169.254", "127.0.0.1:5001", "docker.io/x", "../etc"] {
            assert_eq!(resolve(Some(other), "team/app"), None, "{other}");
        }
        for wrong in ["", "=x", "a b", "hub/path", "docker.io=", "docker.io=UPPER", "http://hub"] {
            assert!(Names::parse([wrong]).is_err(), "{wrong}");
        }
    }
}
