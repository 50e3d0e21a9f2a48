//! `[[registry.upstreams]]` of `hub.toml`.

use std::path::PathBuf;
use std::time::Duration;

use oci::{Reference, ReferenceError, RepositoryName};
use serde::Deserialize;

/// Upstreams at most.
pub const UPSTREAMS_MAX: usize = 100;
/// How long a tag is taken to lead where it did, unless told otherwise.
const REVALIDATE_DEFAULT: Duration = Duration::from_secs(60);
/// How long a manifest is kept that nobody pulls, unless told otherwise: 30 days.
const KEEP_DEFAULT: Duration = Duration::from_secs(30 * 86_400);
/// Stands before the address of an upstream that has no TLS.
const PLAIN: &str = "http://";

/// A registry whose repositories are pulled through the hub's own, under a prefix.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// `PREFIX/NAME` is the upstream's `NAME`.
    pub prefix: RepositoryName,
    /// Where it is.
    pub address: Address,
    /// Whom the hub is to the upstream.
    #[serde(default)]
    pub username: Option<String>,
    /// A file with that user's password or token; a newline at its end does not count.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// How long a tag is taken to lead where it did.
    #[serde(default = "revalidate_default", deserialize_with = "base::units::time")]
    pub revalidate: Duration,
    /// How long a manifest is kept that nobody pulls.
    #[serde(default = "keep_default", deserialize_with = "base::units::time")]
    pub keep: Duration,
}

fn revalidate_default() -> Duration {
    REVALIDATE_DEFAULT
}

fn keep_default() -> Duration {
    KEEP_DEFAULT
}

/// `[http://]HOST[:PORT][/PATH]`; with a path, `PREFIX/NAME` is the upstream's `PATH/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address {
    pub(super) host: String,
    pub(super) path: Option<RepositoryName>,
    pub(super) is_plain: bool,
}

/// Upstreams whose prefixes do not overlap.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "Vec<UpstreamConfig>")]
pub struct UpstreamConfigs(Vec<UpstreamConfig>);

/// Why upstreams are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamConfigError {
    /// Over [`UPSTREAMS_MAX`].
    #[error("more than {UPSTREAMS_MAX} upstreams: leave some out")]
    TooMany,
    /// Not an address.
    #[error(
        "`{text}` is not an upstream's address: write HOST[:PORT][/PATH], with http:// before it where it has no TLS"
    )]
    Address {
        /// As it was given.
        text: String,
    },
    /// One repository would have two upstreams.
    #[error("the prefixes `{one}` and `{other}` overlap: no repository can have two upstreams")]
    Overlap {
        /// A prefix.
        one: RepositoryName,
        /// The same, or one that begins with it.
        other: RepositoryName,
    },
    /// Half of a sign-in.
    #[error("the upstream of `{prefix}` needs both username and password_file, or neither")]
    Credentials {
        /// Its prefix.
        prefix: RepositoryName,
    },
}

impl TryFrom<String> for Address {
    type Error = UpstreamConfigError;

    fn try_from(text: String) -> Result<Self, UpstreamConfigError> {
        let (is_plain, rest) = match text.strip_prefix(PLAIN) {
            Some(rest) => (true, rest),
            None => (false, text.as_str()),
        };
        let (host, path) = match rest.trim_end_matches('/').split_once('/') {
            Some((host, path)) => (host, path.parse::<RepositoryName>().map(Some).map_err(ReferenceError::Name)),
            None => (rest.trim_end_matches('/'), Ok(None)),
        };
        // Any name will do to have the host checked.
        let checked = path.and_then(|path| {
            let repository = match &path {
                Some(path) => path.clone(),
                None => "any".parse().map_err(ReferenceError::Name)?,
            };
            Ok(Address { host: Reference::new(host, repository)?.host().to_owned(), path, is_plain })
        });
        checked.map_err(|_| UpstreamConfigError::Address { text: text.clone() })
    }
}

impl TryFrom<Vec<UpstreamConfig>> for UpstreamConfigs {
    type Error = UpstreamConfigError;

    fn try_from(upstreams: Vec<UpstreamConfig>) -> Result<Self, UpstreamConfigError> {
        if upstreams.len() > UPSTREAMS_MAX {
            return Err(UpstreamConfigError::TooMany);
        }
        for (at, upstream) in upstreams.iter().enumerate() {
            if upstream.username.is_some() != upstream.password_file.is_some() {
                return Err(UpstreamConfigError::Credentials { prefix: upstream.prefix.clone() });
            }
            for other in &upstreams[..at] {
                if is_under(&upstream.prefix, &other.prefix) || is_under(&other.prefix, &upstream.prefix) {
                    let (one, other) = (other.prefix.clone(), upstream.prefix.clone());
                    return Err(UpstreamConfigError::Overlap { one, other });
                }
            }
        }
        Ok(Self(upstreams))
    }
}

impl UpstreamConfigs {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &UpstreamConfig> {
        self.0.iter()
    }
}

/// Whether a repository is the prefix or lies under it.
pub(super) fn is_under(repository: &RepositoryName, prefix: &RepositoryName) -> bool {
    let rest = repository.as_str().strip_prefix(prefix.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use crate::Config;

    fn read(text: &str) -> Result<Config, String> {
        base::config::parse::<Config>("hub.toml", text).map_err(|error| error.to_string())
    }

    #[test]
    fn upstreams_are_read() {
        let config = read(
            "[[upstreams]]\nprefix = \"hub\"\naddress = \"docker.io\"\n\
             [[upstreams]]\nprefix = \"a/b\"\naddress = \"http://10.0.0.5:5000/team/x/\"\nusername = \"robot\"\n\
             password_file = \"/run/secrets/robot\"\nrevalidate = \"5min\"\nkeep = \"90d\"\n",
        );
        let config = config.unwrap();
        let [hub, team] = config.upstreams.iter().collect::<Vec<_>>()[..] else { panic!("not two") };
        assert_eq!((hub.address.host.as_str(), &hub.address.path, hub.address.is_plain), ("docker.io", &None, false));
        assert_eq!((hub.revalidate.as_secs(), hub.keep.as_secs()), (60, 30 * 86_400));
        assert_eq!((team.address.host.as_str(), team.address.is_plain), ("10.0.0.5:5000", true));
        assert_eq!(team.address.path.as_ref().unwrap().as_str(), "team/x");
        assert_eq!((team.revalidate.as_secs(), team.keep.as_secs()), (300, 90 * 86_400));
    }

    #[test]
    fn an_error_says_what_is_right() {
        let one = |prefix: &str| format!("[[upstreams]]\nprefix = \"{prefix}\"\naddress = \"registry.example.com\"\n");
        for (text, wanted) in [
            (one("a") + &one("a"), "the prefixes `a` and `a` overlap"),
            (one("a/b") + &one("a"), "the prefixes `a/b` and `a` overlap"),
            (one("a") + &one("a/b"), "the prefixes `a` and `a/b` overlap"),
            (one("a") + "username = \"me\"", "needs both username and password_file"),
            (one("a") + "revalidate = \"60\"", "such as \"30d\""),
            (one("a") + "adress = 1", "did you mean `address`?"),
            (
                "[[upstreams]]\nprefix = \"a\"\naddress = \"https://x.example.com\"".into(),
                "is not an upstream's address",
            ),
            ("[[upstreams]]\nprefix = \"a\"\naddress = \"x.example.com/A\"".into(), "is not an upstream's address"),
            ("[[upstreams]]\nprefix = \"A\"\naddress = \"x.example.com\"".into(), "repository name"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        assert!(read(&(one("a") + &one("ab"))).is_ok());
    }
}
