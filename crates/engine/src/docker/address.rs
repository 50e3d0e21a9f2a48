//! Where an engine listens, as DOCKER_HOST says it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::context;
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
    /// `tcp://engine.example.com:2376` with TLS.
    Tls(TlsAddress),
}

/// An engine behind TLS, and the files that both sides are verified by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsAddress {
    /// Host and port.
    pub host_port: String,
    /// The CA of the engine's certificate, PEM.
    pub ca: PathBuf,
    /// The certificate that is shown to the engine, and its key, both PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Address {
    /// The engine that Docker's own command line would use: DOCKER_HOST (with DOCKER_TLS_VERIFY and DOCKER_CERT_PATH), else
    /// the context that DOCKER_CONTEXT or Docker's configuration names, else Docker's default socket.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Address`] when it is not understood, or asks for what is not done: SSH, or TLS without verification.
    pub fn from_environment() -> Result<Self, EngineError> {
        Self::from_variables(&|name| std::env::var(name).ok())
    }

    /// The same, from these variables in place of the environment's.
    ///
    /// # Errors
    ///
    /// As for [`Address::from_environment`].
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, EngineError> {
        context::address(variable)
    }

    /// The machine that it is on, as this one calls it, when it is another one. A forwarded socket or port of this machine
    /// says nothing of a machine behind it, whose published ports are forwarded just so.
    pub fn machine(&self) -> Option<&str> {
        let (Self::Tcp(host_port) | Self::Tls(TlsAddress { host_port, .. })) = self else { return None };
        let (host, _port) = host_port.rsplit_once(':')?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_here = bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        (!is_here).then_some(host)
    }

    /// Where Docker listens unless told otherwise.
    pub(super) fn socket_default() -> Self {
        Self::Unix(SOCKET_DEFAULT.into())
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
            Some(("ssh", host)) => Err(wrong("engines are not reached through SSH").with_hint(format!(
                "forward its socket yourself: `ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock {host}`, and set \
                 DOCKER_HOST=unix:///tmp/docker.sock"
            ))),
            Some((scheme, _)) => Err(wrong(&format!("{scheme}:// is not supported"))),
            None => Err(wrong("it has no scheme")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Tcp(host_port) | Self::Tls(TlsAddress { host_port, .. }) => write!(formatter, "tcp://{host_port}"),
        }
    }
}
