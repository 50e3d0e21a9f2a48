//! The agent's own ports. A host that has something to keep going does not stay down because somebody else has one of
//! them: it takes another, and says so.

use std::net::SocketAddr;

use client::pull_through;
use tokio::net::TcpListener;

use crate::agent::AgentError;

/// The ports that an agent listens on.
pub struct Ports {
    /// For the host's registry.
    pub registry: TcpListener,
    /// For other agents; none when the host takes no part in the exchange of pieces.
    pub peers: Option<TcpListener>,
    /// Which of them are not those that were asked for, and why.
    pub others: Vec<String>,
}

impl Ports {
    /// Opens them at these addresses. With `keeps_going` a port that cannot be had is replaced by a free one of the same
    /// address.
    ///
    /// # Errors
    /// One cannot be had.
    pub async fn open(registry: SocketAddr, peers: Option<SocketAddr>, keeps_going: bool) -> Result<Self, AgentError> {
        let mut others = Vec::new();
        let registry_listener = match pull_through::listen(registry).await {
            Ok(listener) => listener,
            Err(error) => {
                let (listener, at) = another(registry, keeps_going).await.ok_or(AgentError::Listen(error))?;
                others.push(format!(
                    "the host's registry is on {at} and not on {registry}, which something else has: Docker pulls from \
                     there, Podman and containerd from the hub; free {registry}, then start the agent again"
                ));
                listener
            }
        };
        let peers_listener = match peers {
            None => None,
            Some(address) => match TcpListener::bind(address).await {
                Ok(listener) => Some(listener),
                Err(source) => {
                    let refused = AgentError::Peers { address, source };
                    let (listener, at) = another(address, keeps_going).await.ok_or(refused)?;
                    others.push(format!(
                        "other agents are to reach this one on {at} and not on {address}, which something else has: \
                         where a firewall does not let them, images come from the hub; free {address}, then start the \
                         agent again"
                    ));
                    Some(listener)
                }
            },
        };
        Ok(Self { registry: registry_listener, peers: peers_listener, others })
    }
}

/// A free port of an address in place of one that is taken.
async fn another(taken: SocketAddr, keeps_going: bool) -> Option<(TcpListener, SocketAddr)> {
    if !keeps_going {
        return None;
    }
    let listener = TcpListener::bind((taken.ip(), 0)).await.ok()?;
    let at = listener.local_addr().ok()?;
    Some((listener, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_stops_who_is_new_alone() {
        let any = "127.0.0.1:0".parse().unwrap();
        let first = Ports::open(any, Some(any), false).await.unwrap();
        assert!(first.others.is_empty());
        let (registry, peers) =
            (first.registry.local_addr().unwrap(), first.peers.as_ref().unwrap().local_addr().unwrap());
        assert!(matches!(Ports::open(registry, None, false).await, Err(AgentError::Listen(_))));
        assert!(matches!(Ports::open(any, Some(peers), false).await, Err(AgentError::Peers { .. })));
        let second = Ports::open(registry, Some(peers), true).await.unwrap();
        let at = second.peers.unwrap().local_addr().unwrap();
        assert!(at.ip() == peers.ip() && at != peers);
        assert!(second.others[0].contains(&registry.to_string()), "{:?}", second.others);
        assert!(second.others[1].contains(&at.to_string()), "{:?}", second.others);
    }
}
