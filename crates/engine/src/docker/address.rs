//! Where an engine listens, as DOCKER_HOST says it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{EngineError, ErrorKind};

/// Where Docker listens unless told otherwise.
const SOCKET_DEFAULT: &str = "/var/run/docker.sock";

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `unix:///var/run/docker.sock`
    Unix(PathBuf),
    /// `tcp://127.0.0.1:2375`, without TLS: host and port.
    Tcp(String),
}

impl Address {
    /// From the environment's DOCKER_HOST, else Docker's default socket.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Address`] when DOCKER_HOST is not understood, or asks for TLS (DOCKER_TLS_VERIFY), which is not spoken.
    pub fn from_environment() -> Result<Self, EngineError> {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        if host.is_empty() {
            return Ok(Self::Unix(SOCKET_DEFAULT.into()));
        }
        let address = host.parse()?;
        let tls = std::env::var("DOCKER_TLS_VERIFY").is_ok_and(|value| !value.is_empty());
        if tls && matches!(address, Self::Tcp(_)) {
            return Err(EngineError::new(
                ErrorKind::Address,
                format!("cannot use the container engine at {address}"),
                "DOCKER_TLS_VERIFY asks for TLS, which is not spoken to engines",
            )
            .with_hint("use the engine's unix socket, or forward it through SSH to a local one"));
        }
        Ok(address)
    }
}

impl FromStr for Address {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        let wrong = |why: &str| {
            EngineError::new(ErrorKind::Address, format!("{text:?} is not an engine's address"), why)
                .with_hint("write unix:///var/run/docker.sock or tcp://HOST:PORT")
        };
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("unix", _)) => Err(wrong("the socket's path must be absolute")),
            Some(("tcp" | "http", rest)) => {
                let host_port = rest.trim_end_matches('/');
                let (host, port) = host_port.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
                if host.is_empty() || port.parse::<u16>().is_err() {
                    return Err(wrong("it needs a host and a port"));
                }
                Ok(Self::Tcp(host_port.to_owned()))
            }
            Some((scheme, _)) => Err(wrong(&format!("{scheme}:// is not supported"))),
            None => Err(wrong("it has no scheme")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Tcp(host_port) => write!(formatter, "tcp://{host_port}"),
        }
    }
}
