//! Networks of one host: bridges, and what workspaces ask for.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bollard::models::{EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptionsBuilder};

use super::{Connection, failed, label_filters};
use crate::{EngineError, ErrorKind, Labels, Network, NetworkSpec};

pub(super) async fn create(docker: &Connection, spec: &NetworkSpec) -> Result<String, EngineError> {
    let what = format!("cannot create network {}", spec.name);
    // Engines before API 1.44 make a second network of the same name without a word.
    if inspect(docker, &spec.name).await?.is_some() {
        return Err(EngineError::new(ErrorKind::Conflict, what, "there is one of that name already"));
    }
    let chosen = spec.subnet.map(|subnet| Ipam {
        driver: Some("default".to_owned()),
        config: Some(vec![IpamConfig {
            subnet: Some(subnet.to_string()),
            ip_range: Some(subnet.lower_half().to_string()),
            gateway: Some(subnet.gateway().to_string()),
            auxiliary_addresses: None,
        }]),
        options: None,
    });
    let said = spec.workspace.as_deref();
    if let Some(network) = said {
        super::machine::check_network(network, &what, docker.api())?;
    }
    let options = said.map(|network| network.driver_opts.clone()).filter(|options| !options.is_empty());
    let request = NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some(said.and_then(|network| network.driver.clone()).unwrap_or_else(|| "bridge".to_owned())),
        internal: Some(spec.internal),
        labels: Some(spec.labels.clone().into_iter().collect()),
        ipam: chosen.or_else(|| said.and_then(|network| ipam(&network.ipam))),
        attachable: said.filter(|network| network.attachable).map(|_| true),
        options: options.map(|options| options.into_iter().collect()),
        enable_ipv4: said.and_then(|network| network.enable_ipv4),
        enable_ipv6: said.and_then(|network| network.enable_ipv6),
        ..NetworkCreateRequest::default()
    };
    let created = docker.client.create_network(request).await.map_err(|error| failed(&what, error))?;
    Ok(created.id)
}

fn ipam(said: &compose::model::Ipam) -> Option<Ipam> {
    let some = |map: HashMap<String, String>| (!map.is_empty()).then_some(map);
    let config = said.config.iter().map(|pool| IpamConfig {
        subnet: pool.subnet.clone(),
        ip_range: pool.ip_range.clone(),
        gateway: pool.gateway.map(|gateway| gateway.to_string()),
        auxiliary_addresses: some(
            pool.aux_addresses.iter().map(|(name, address)| (name.clone(), address.to_string())).collect(),
        ),
    });
    (*said != compose::model::Ipam::default()).then(|| Ipam {
        driver: Some(said.driver.clone().unwrap_or_else(|| "default".to_owned())),
        config: Some(config.collect()),
        options: some(said.options.clone().into_iter().collect()),
    })
}

pub(super) async fn inspect(docker: &Connection, network: &str) -> Result<Option<Network>, EngineError> {
    let found = match docker.client.inspect_network(network, None::<InspectNetworkOptions>).await {
        Ok(found) => found,
        Err(error) => {
            let error = failed(&format!("cannot look at network {network}"), error);
            return if error.kind == ErrorKind::NotFound { Ok(None) } else { Err(error) };
        }
    };
    let mut network = network_of(found.id, found.name, found.labels, found.internal, found.ipam);
    network.containers = found.containers.unwrap_or_default().into_keys().collect();
    Ok(Some(network))
}

pub(super) async fn list(docker: &Connection, labels: &Labels) -> Result<Vec<Network>, EngineError> {
    let options = ListNetworksOptionsBuilder::default().filters(&label_filters(labels)).build();
    let found =
        docker.client.list_networks(Some(options)).await.map_err(|error| failed("cannot list the networks", error))?;
    let mut networks: Vec<Network> = found
        .into_iter()
        .map(|network| network_of(network.id, network.name, network.labels, network.internal, network.ipam))
        .collect();
    networks.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(networks)
}

pub(super) async fn remove(docker: &Connection, network: &str) -> Result<(), EngineError> {
    match docker.client.remove_network(network).await {
        Ok(()) => Ok(()),
        Err(error) => {
            let error = failed(&format!("cannot remove network {network}"), error);
            if error.kind == ErrorKind::NotFound { Ok(()) } else { Err(error) }
        }
    }
}

pub(super) async fn connect(
    docker: &Connection,
    network: &str,
    container: &str,
    endpoint: EndpointSettings,
) -> Result<(), EngineError> {
    let request = NetworkConnectRequest { container: container.to_owned(), endpoint_config: Some(endpoint) };
    let what = format!("cannot connect container {container} to network {network}");
    docker.client.connect_network(network, request).await.map_err(|error| failed(&what, error))
}

fn network_of(
    id: Option<String>,
    name: Option<String>,
    labels: Option<HashMap<String, String>>,
    internal: Option<bool>,
    ipam: Option<Ipam>,
) -> Network {
    let configs = ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    // A network can have IPv6 subnets beside; the one whose subnet parses as IPv4 is the one that is meant.
    let ipv4 = configs
        .into_iter()
        .find_map(|config| config.subnet.as_deref().and_then(|text| text.parse().ok()).map(|subnet| (subnet, config)));
    let (subnet, range, gateway) = match ipv4 {
        None => (None, None, None),
        Some((subnet, config)) => {
            // An internal network of an old engine gives its gateway with the prefix.
            let gateway = config.gateway.as_deref().and_then(|text| text.split('/').next()?.parse::<Ipv4Addr>().ok());
            (Some(subnet), config.ip_range.filter(|range| !range.is_empty()), gateway)
        }
    };
    Network {
        id: id.unwrap_or_default(),
        name: name.unwrap_or_default(),
        labels: labels.unwrap_or_default().into_iter().collect(),
        internal: internal.unwrap_or(false),
        subnet,
        range,
        gateway,
        containers: Default::default(),
    }
}
