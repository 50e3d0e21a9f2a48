//! Virtual addresses on this machine: a local route to the upper half of each network's subnet, so that the proxy can
//! bind any address there and the kernel answers for it on the network's bridge.
//!
//! The routes carry a protocol number of their own, by which they are found again: `ip route show table local proto 76`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use engine::Subnet;
use futures::TryStreamExt as _;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};
use tokio_util::task::AbortOnDropHandle;

/// Who made a route, in the kernel's words (`rtm_protocol`); 76 is `L`, and free in iproute2's list.
pub const ROUTE_PROTOCOL: u8 = 76;
/// The kernel's table of local addresses.
const TABLE_LOCAL: u32 = 255;
/// The loopback interface is the first in every network namespace.
const LOOPBACK_INDEX: u32 = 1;
/// EEXIST: the route is there already. ESRCH: it is not there.
const EXISTS: i32 = -17;
const MISSING: i32 = -3;

/// Why the kernel's routes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// No socket to the kernel.
    #[error("cannot speak with the kernel about routes: {0}")]
    Socket(#[from] std::io::Error),
    /// The kernel refuses.
    #[error("cannot {what}: {source}; the agent needs the capability NET_ADMIN")]
    Kernel {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: rtnetlink::Error,
    },
}

struct Kernel {
    handle: Handle,
    _connection: AbortOnDropHandle<()>,
}

impl Kernel {
    fn open() -> Result<Self, RouteError> {
        let (connection, handle, _messages) = rtnetlink::new_connection()?;
        Ok(Self { handle, _connection: AbortOnDropHandle::new(tokio::spawn(connection)) })
    }
}

/// Makes the upper halves of these subnets addresses of this machine. What is there already is left as it is.
///
/// # Errors
/// The kernel refuses.
pub async fn ensure(subnets: &BTreeSet<Subnet>) -> Result<(), RouteError> {
    let kernel = Kernel::open()?;
    for subnet in subnets.iter().filter_map(|subnet| upper_half(*subnet)) {
        let what = || format!("add the local route to {}/{}", subnet.0, subnet.1);
        match kernel.handle.route().add(message(subnet)).execute().await {
            Ok(()) => {}
            Err(error) if code(&error) == Some(EXISTS) => {}
            Err(source) => return Err(RouteError::Kernel { what: what(), source }),
        }
    }
    Ok(())
}

/// Takes a subnet's route away; none there is fine.
///
/// # Errors
/// The kernel refuses.
pub async fn remove(subnet: Subnet) -> Result<(), RouteError> {
    let Some(half) = upper_half(subnet) else { return Ok(()) };
    remove_half(&Kernel::open()?, half).await
}

/// Takes away all routes of Longshore but those of these subnets: an agent that was killed may have left one, and the
/// engine may give the subnet to somebody else.
///
/// # Errors
/// The kernel refuses.
pub async fn prune(keep: &BTreeSet<Subnet>) -> Result<(), RouteError> {
    let keep: BTreeSet<(Ipv4Addr, u8)> = keep.iter().filter_map(|subnet| upper_half(*subnet)).collect();
    let kernel = Kernel::open()?;
    let listed = kernel.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
    let routes: Vec<RouteMessage> = listed
        .try_collect()
        .await
        .map_err(|source| RouteError::Kernel { what: "list the local routes".to_owned(), source })?;
    for half in routes.iter().filter_map(own_half).filter(|half| !keep.contains(half)) {
        tracing::info!(subnet = %format!("{}/{}", half.0, half.1), "removing a local route that no network uses");
        remove_half(&kernel, half).await?;
    }
    Ok(())
}

async fn remove_half(kernel: &Kernel, half: (Ipv4Addr, u8)) -> Result<(), RouteError> {
    match kernel.handle.route().del(message(half)).execute().await {
        Ok(()) => Ok(()),
        Err(error) if code(&error) == Some(MISSING) => Ok(()),
        Err(source) => {
            Err(RouteError::Kernel { what: format!("remove the local route to {}/{}", half.0, half.1), source })
        }
    }
}

fn own_half(route: &RouteMessage) -> Option<(Ipv4Addr, u8)> {
    if route.header.protocol != RouteProtocol::Other(ROUTE_PROTOCOL) || route.header.kind != RouteType::Local {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => {
            Some((*address, route.header.destination_prefix_length))
        }
        _ => None,
    })
}

fn upper_half(subnet: Subnet) -> Option<(Ipv4Addr, u8)> {
    let lower = subnet.lower_half();
    // The half that begins right after the lower one's last address.
    let first = lower.broadcast().to_bits().checked_add(1)?;
    subnet.has_upper_half().then(|| (Ipv4Addr::from_bits(first), lower.prefix_bits()))
}

fn message((network, prefix): (Ipv4Addr, u8)) -> RouteMessage {
    let mut message = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(network, prefix)
        .output_interface(LOOPBACK_INDEX)
        .table_id(TABLE_LOCAL)
        .scope(RouteScope::Host)
        .kind(RouteType::Local)
        .protocol(RouteProtocol::Other(ROUTE_PROTOCOL))
        .build();
    message.header.address_family = AddressFamily::Inet;
    message
}

fn code(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(message.raw_code()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_half_follows_the_lower() {
        assert_eq!(upper_half("172.20.0.0/16".parse().unwrap()), Some(("172.20.128.0".parse().unwrap(), 17)));
        assert_eq!(upper_half("10.9.8.0/24".parse().unwrap()), Some(("10.9.8.128".parse().unwrap(), 25)));
        assert_eq!(upper_half("10.9.8.0/31".parse().unwrap()), None);
    }

    #[tokio::test]
    async fn a_virtual_address_can_be_bound_while_its_route_is_there() {
        // TEST-NET-2 of RFC 5737: in nobody's use.
        let subnet: Subnet = "198.51.100.0/24".parse().unwrap();
        let address = (subnet.virtual_address(3).unwrap(), 0);
        let subnets = BTreeSet::from([subnet]);
        assert!(tokio::net::TcpListener::bind(address).await.is_err());
        ensure(&subnets).await.unwrap();
        ensure(&subnets).await.unwrap();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        remove(subnet).await.unwrap();
        remove(subnet).await.unwrap();
        assert!(tokio::net::TcpListener::bind(address).await.is_err());
    }
}
