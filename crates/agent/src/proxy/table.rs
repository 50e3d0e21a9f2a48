//! The table a proxy is steered by: listeners, the routes they lead to, and the certificates between hosts.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

const LISTENERS_MAX: usize = 4_096;
const ROUTES_MAX: usize = 16_384;
const UPSTREAMS_PER_ROUTE_MAX: usize = 1_024;
const KEY_BYTES_MAX: usize = 256;
const HOLD_MS_MAX: u64 = 600_000;
const NAME_BYTES_MAX: usize = 63;

/// All that a proxy serves, numbered; a table replaces the one before as a whole.
///
/// Unknown fields are passed over, because the proxy outlives the agent and may be older than it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Grows with each table; a proxy refuses a number lower than its own.
    pub number: u64,
    /// Addresses clients connect to.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// Where services are; at most one for each service and port.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// How this host and others reach each other's services; none on a host that stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<Mesh>,
}

/// An address that clients connect to, and the service behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Names the listener over tables; its counters live as long as its key stays.
    pub key: String,
    /// Address and port to bind; it need not exist on the host yet (`IP_FREEBIND`).
    pub address: SocketAddr,
    /// The service it leads to.
    pub service: ServiceAddress,
    /// The service's own port.
    pub port: u16,
}

/// Where one port of a service can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The service.
    pub service: ServiceAddress,
    /// The service's own port.
    pub port: u16,
    /// How long, in milliseconds, a request or connection waits for an upstream when there is none that answers.
    #[serde(default)]
    pub hold_ms: u64,
    /// Upstreams on this host; preferred.
    #[serde(default)]
    pub locals: Vec<Upstream>,
    /// Other hosts that have the service.
    #[serde(default)]
    pub remotes: Vec<Remote>,
}

/// A container that serves a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Upstream {
    /// Names the container; the same on each of its ports. The status sums by it.
    pub key: String,
    /// Where its port is.
    pub address: SocketAddr,
}

/// Another host that serves a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Remote {
    /// The host's name; its certificate must be for `HOST.host.longshore.internal`.
    pub host: String,
    /// Where that host's proxy listens for other hosts.
    pub address: SocketAddr,
}

/// This host's side of the connections between hosts. The PEM files are read again when their bytes change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mesh {
    /// Where other hosts' proxies connect to.
    pub listen: SocketAddr,
    /// PEM file with this host's certificate, and the chain if there is one.
    pub certificate: PathBuf,
    /// PEM file with the certificate's private key.
    pub key: PathBuf,
    /// PEM file with the authority that signs the hosts' certificates.
    pub ca: PathBuf,
}

/// A service of an app in an environment, written `ENV/APP/SERVICE`; each part `[a-z0-9][a-z0-9_-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceAddress {
    env: String,
    app: String,
    service: String,
}

/// A port of a service: what a listener leads to and a route answers for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RouteKey {
    pub(crate) service: ServiceAddress,
    pub(crate) port: u16,
}

/// A text that is no `ENV/APP/SERVICE`.
#[derive(Debug, Error)]
#[error("{text:?} is no service address; write ENV/APP/SERVICE, each [a-z0-9][a-z0-9_-]{{0,62}}")]
pub struct InvalidServiceAddress {
    text: String,
}

/// Why a table is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidTable {
    /// Two entries that must differ are the same.
    #[error("two {what} share {value}; each must have one of its own")]
    Twice {
        /// What kind of entries.
        what: &'static str,
        /// What they share.
        value: String,
    },
    /// A list or value is over its bound.
    #[error("{what} is {value}, at most {max} can be taken")]
    TooMuch {
        /// The list or value.
        what: &'static str,
        /// How much it is.
        value: u64,
        /// How much it may be.
        max: u64,
    },
    /// A key or host name is empty or malformed.
    #[error(
        "{what} {value:?} is malformed; it must be 1 to 256 printable characters, a host [a-z0-9][a-z0-9_-]{{0,62}}"
    )]
    Malformed {
        /// Which of them.
        what: &'static str,
        /// What it is.
        value: String,
    },
}

impl Table {
    /// Checks what the types cannot say: keys and addresses that must differ, and bounds.
    pub fn validate(&self) -> Result<(), InvalidTable> {
        at_most("listeners", self.listeners.len() as u64, LISTENERS_MAX as u64)?;
        at_most("routes", self.routes.len() as u64, ROUTES_MAX as u64)?;
        let (mut keys, mut addresses) = (HashSet::new(), HashSet::new());
        for listener in &self.listeners {
            check_key("listener key", &listener.key)?;
            unique(&mut keys, "listeners", "the key ", &listener.key)?;
            unique(&mut addresses, "listeners", "the address ", listener.address)?;
        }
        if let Some(mesh) = &self.mesh {
            unique(&mut addresses, "listeners", "the address ", mesh.listen)?;
        }
        let mut routes = HashSet::new();
        for route in &self.routes {
            unique(&mut routes, "routes", "", format!("{}:{}", route.service, route.port))?;
            at_most("upstreams of one route", route.locals.len() as u64, UPSTREAMS_PER_ROUTE_MAX as u64)?;
            at_most("remotes of one route", route.remotes.len() as u64, UPSTREAMS_PER_ROUTE_MAX as u64)?;
            at_most("hold_ms", route.hold_ms, HOLD_MS_MAX)?;
            let (mut locals, mut hosts) = (HashSet::new(), HashSet::new());
            for upstream in &route.locals {
                check_key("upstream key", &upstream.key)?;
                unique(&mut locals, "upstreams of one route", "the key ", &upstream.key)?;
            }
            for remote in &route.remotes {
                if !is_name(&remote.host) {
                    return Err(InvalidTable::Malformed { what: "host", value: remote.host.clone() });
                }
                unique(&mut hosts, "remotes of one route", "the host ", &remote.host)?;
            }
        }
        Ok(())
    }
}

impl Listener {
    pub(crate) fn route_key(&self) -> RouteKey {
        RouteKey { service: self.service.clone(), port: self.port }
    }
}

impl Route {
    pub(crate) fn route_key(&self) -> RouteKey {
        RouteKey { service: self.service.clone(), port: self.port }
    }
}

impl RouteKey {
    /// `SERVICE.APP.ENV:PORT`, as it is asked for between hosts.
    pub(crate) fn authority(&self) -> String {
        let ServiceAddress { env, app, service } = &self.service;
        format!("{service}.{app}.{env}:{}", self.port)
    }

    /// Reads what [`RouteKey::authority`] wrote.
    pub(crate) fn from_authority(authority: &str) -> Option<Self> {
        let (name, port) = authority.rsplit_once(':')?;
        let mut parts = name.splitn(3, '.');
        let (service, app, env) = (parts.next()?, parts.next()?, parts.next()?);
        let service = ServiceAddress::new(env, app, service).ok()?;
        Some(Self { service, port: port.parse().ok()? })
    }
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

impl ServiceAddress {
    /// The address of `service` of `app` in `env`; fails when one of them is no name.
    pub fn new(env: &str, app: &str, service: &str) -> Result<Self, InvalidServiceAddress> {
        if [env, app, service].into_iter().all(is_name) {
            Ok(Self { env: env.into(), app: app.into(), service: service.into() })
        } else {
            Err(InvalidServiceAddress { text: format!("{env}/{app}/{service}") })
        }
    }
}

impl FromStr for ServiceAddress {
    type Err = InvalidServiceAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split('/').collect::<Vec<_>>()[..] {
            [env, app, service] => Self::new(env, app, service),
            _ => Err(InvalidServiceAddress { text: text.into() }),
        }
    }
}

impl TryFrom<String> for ServiceAddress {
    type Error = InvalidServiceAddress;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ServiceAddress> for String {
    fn from(address: ServiceAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.env, self.app, self.service)
    }
}

fn is_name(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= NAME_BYTES_MAX
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'_' || b == b'-')
}

fn check_key(what: &'static str, key: &str) -> Result<(), InvalidTable> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.chars().any(char::is_control) {
        return Err(InvalidTable::Malformed { what, value: key.chars().take(KEY_BYTES_MAX).collect() });
    }
    Ok(())
}

fn at_most(what: &'static str, value: u64, max: u64) -> Result<(), InvalidTable> {
    if value > max { Err(InvalidTable::TooMuch { what, value, max }) } else { Ok(()) }
}

fn unique<T: Eq + std::hash::Hash + fmt::Display + Clone>(
    seen: &mut HashSet<T>,
    what: &'static str,
    field: &str,
    value: T,
) -> Result<(), InvalidTable> {
    if seen.insert(value.clone()) {
        Ok(())
    } else {
        Err(InvalidTable::Twice { what, value: format!("{field}{value}") })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn service_addresses_survive_text_and_authority(
            parts in prop::array::uniform3("[a-z0-9][a-z0-9_-]{0,62}"), port: u16,
        ) {
            let [env, app, service] = parts;
            let address: ServiceAddress = format!("{env}/{app}/{service}").parse().unwrap();
            let key = RouteKey { service: address.clone(), port };
            prop_assert_eq!(RouteKey::from_authority(&key.authority()), Some(key));
            prop_assert_eq!(address.to_string(), format!("{env}/{app}/{service}"));
        }

        #[test]
        fn no_other_text_is_an_address(text in "\\PC{0,20}") {
            let is = text.split('/').count() == 3 && text.split('/').all(is_name);
            prop_assert_eq!(text.parse::<ServiceAddress>().is_ok(), is);
        }
    }

    #[test]
    fn two_listeners_on_one_address_are_refused() {
        let listener = |key: &str| Listener {
            key: key.into(),
            address: "127.0.0.1:80".parse().unwrap(),
            service: "prod/vote/vote".parse().unwrap(),
            port: 80,
        };
        let table = Table { listeners: vec![listener("a"), listener("b")], ..Table::default() };
        let refusal = table.validate().unwrap_err().to_string();
        assert_eq!(refusal, "two listeners share the address 127.0.0.1:80; each must have one of its own");
    }
}
