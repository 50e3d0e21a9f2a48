//! Ports of this machine that lead to services: those that the project names where they are free, others otherwise, and
//! the same again with every `up`. Pure but for the question whether a port is free.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use compose::model::Protocol;

use crate::error::{Error, ErrorKind};

/// How far above the port that was asked for another is looked for.
const PORTS_ABOVE_MAX: u16 = 200;

/// Ports by [`Declared::key`].
pub type Assigned = BTreeMap<String, u16>;

/// A port that a service wants published.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Declared {
    /// The service.
    pub service: String,
    /// Which of its containers, from 1: each is published by itself.
    pub slot: u32,
    /// The container's port.
    pub target: u16,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The port that the project names; any will do without one.
    pub published: Option<u16>,
}

impl Declared {
    /// Its key among the assigned ports.
    pub fn key(&self) -> String {
        let slot = if self.slot > 1 { format!("-{}", self.slot) } else { String::new() };
        let published = self.published.unwrap_or(0);
        format!("{}{slot}:{}/{}:{published}", self.service, self.target, self.protocol.name())
    }
}

/// The port of each declared one. `held` are ports that lead to this workspace's containers now, and `before` what was
/// assigned last; both are kept. Of two that ask for one port, the first in order has it.
///
/// # Errors
/// No port is free.
pub fn assign(
    declared: &[Declared],
    before: &Assigned,
    held: &BTreeSet<u16>,
    is_free: &mut dyn FnMut(u16) -> bool,
) -> Result<Assigned, Error> {
    let mut assigned = Assigned::new();
    let mut taken: BTreeSet<u16> = BTreeSet::new();
    for one in declared {
        let key = one.key();
        if let Some(port) = before.get(&key)
            && !taken.contains(port)
            && (held.contains(port) || is_free(*port))
        {
            taken.insert(*port);
            assigned.insert(key, *port);
        }
    }
    for one in declared {
        let key = one.key();
        if assigned.contains_key(&key) {
            continue;
        }
        let first = one.published.unwrap_or(one.target.max(1024));
        let above = (first..=first.saturating_add(PORTS_ABOVE_MAX))
            .find(|port| !taken.contains(port) && !held.contains(port) && is_free(*port));
        let Some(port) = above else {
            let why = format!("no port from {first} on is free for {}", one.service);
            return Err(Error::new(ErrorKind::Refused, why, "Stop what holds these ports, or declare another."));
        };
        taken.insert(port);
        assigned.insert(key, port);
    }
    Ok(assigned)
}

/// Whether nobody on this machine listens on the port now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Where a service is found in a browser. Whatever ends in `.localhost` is this machine.
pub fn address(service: &str, workspace: &str, port: u16) -> String {
    format!("http://{service}.{workspace}.localhost:{port}")
}
