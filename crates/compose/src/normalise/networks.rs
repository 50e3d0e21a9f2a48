//! Networks of the project, and a service's place in them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::external;
use crate::diagnostic::Findings;
use crate::field::{Field, Section};
use crate::model::{DEFAULT_NETWORK, EndpointOptions, Ipam, IpamPool, Namespaces, Network, ServiceNetwork};
use crate::scalar;
use crate::stage::Context;

pub(super) fn network(field: &Field<'_>, context: &Context<'_>, findings: &mut Findings<'_>) -> Network {
    let (external, external_name) = external(field, context, findings);
    let mut section = Section { field, findings };
    let driver = section.read("driver", |text| match text {
        "bridge" => Ok(text.to_owned()),
        _ if context.workspace() => Ok(text.to_owned()),
        _ => Err(format!("Longshore does not support the network driver {text:?}: hosts have bridges")),
    });
    let ipam = section.get("ipam").map(|field| ipam(&field, section.findings)).unwrap_or_default();
    Network {
        driver,
        internal: section.boolean("internal"),
        labels: section.labels("labels"),
        name: section.string("name").or(external_name),
        external,
        attachable: section.boolean("attachable"),
        driver_opts: section.labels("driver_opts"),
        enable_ipv4: section.read("enable_ipv4", scalar::boolean),
        enable_ipv6: section.read("enable_ipv6", scalar::boolean),
        ipam,
    }
}

fn ipam(field: &Field<'_>, findings: &mut Findings<'_>) -> Ipam {
    let mut section = Section { field, findings };
    let mut config: Vec<IpamPool> = Vec::new();
    if let Some(pools) = section.get("config") {
        for entry in pools.items() {
            if !entry.is_map() {
                entry.error(section.findings, "this should be a mapping with a subnet");
                continue;
            }
            let mut inner = Section { field: &entry, findings: section.findings };
            let pool = IpamPool {
                subnet: inner.read("subnet", subnet),
                ip_range: inner.read("ip_range", subnet),
                gateway: inner.read("gateway", address),
                aux_addresses: addresses(&mut inner, "aux_addresses"),
            };
            // Of two with one subnet that of the later file stands.
            config.retain(|other| other.subnet.is_none() || other.subnet != pool.subnet);
            config.push(pool);
        }
    }
    Ipam { driver: section.string("driver"), config, options: section.labels("options") }
}

fn addresses(section: &mut Section<'_, '_, '_, '_>, key: &str) -> BTreeMap<String, IpAddr> {
    let Some(field) = section.get(key) else { return BTreeMap::new() };
    let mut addresses = BTreeMap::new();
    for (name, value) in field.entries() {
        addresses.extend(value.read(section.findings, address).map(|address| (name.to_owned(), address)));
    }
    addresses
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an IP address"))
}

/// `ADDRESS/BITS`.
fn subnet(text: &str) -> Result<String, String> {
    let good = text.split_once('/').is_some_and(|(network, bits)| {
        let bits_max = match network.parse() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        bits.parse::<u8>().is_ok_and(|bits| bits <= bits_max)
    });
    if good { Ok(text.to_owned()) } else { Err(format!("{text:?} is not a subnet such as 172.28.0.0/16")) }
}

/// The networks that a service joins. One that is in a network namespace of another kind joins none.
pub(super) fn service_networks(
    section: &mut Section<'_, '_, '_, '_>,
    namespaces: &Namespaces,
) -> BTreeMap<String, ServiceNetwork> {
    let mut networks = BTreeMap::new();
    let field = section.get("networks");
    if let Some(field) = &field {
        for (name, network) in field.entries() {
            networks.insert(name.to_owned(), service_network(&network, section.findings));
        }
    }
    if namespaces.network.is_some() {
        if let Some(field) = field.filter(|_| !networks.is_empty()) {
            let what = "a service with a network_mode joins no networks";
            let hint = "take one of the two away".to_owned();
            section.findings.error_with_hint(field.mark, &field.path, what, hint);
        }
        return BTreeMap::new();
    }
    if networks.is_empty() {
        networks.insert(DEFAULT_NETWORK.to_owned(), ServiceNetwork::default());
    }
    if let Some(field) = section.get("mac_address") {
        let address = field.read(section.findings, scalar::mac_address);
        // The network that is joined first has the service's own address.
        let first = networks
            .values_mut()
            .reduce(|first, other| if other.options.priority > first.options.priority { other } else { first });
        if let Some(first) = first {
            first.options.mac_address = first.options.mac_address.take().or(address);
        }
    }
    networks
}

fn service_network(field: &Field<'_>, findings: &mut Findings<'_>) -> ServiceNetwork {
    let mut section = Section { field, findings };
    let link_local_ips =
        section.get("link_local_ips").map(|field| field.read_all(section.findings, address)).unwrap_or_default();
    ServiceNetwork {
        aliases: section.names("aliases"),
        options: EndpointOptions {
            ipv4_address: section
                .read("ipv4_address", |text| text.parse().map_err(|_| format!("{text:?} is not an IPv4 address"))),
            ipv6_address: section
                .read("ipv6_address", |text| text.parse().map_err(|_| format!("{text:?} is not an IPv6 address"))),
            link_local_ips,
            mac_address: section.read("mac_address", scalar::mac_address),
            interface_name: section.string("interface_name"),
            driver_opts: section.labels("driver_opts"),
            gateway_priority: section.read("gw_priority", scalar::integer).unwrap_or_default(),
            priority: section.read("priority", scalar::integer).unwrap_or_default(),
        },
    }
}
