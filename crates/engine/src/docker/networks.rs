//! Networks of one host: bridges, and what workspaces ask for.
//!
//! Engines before API 1.44 give one name to several networks: two callers at once, or a caller that was killed while the
//! engine made its network and one that came after it. No container starts on such a name, not even one that was created
//! with a network's id. So whoever creates, lists or starts leaves one network of each name.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use bollard::models::{EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest};
use bollard::query_parameters::{InspectNetworkOptions, ListContainersOptionsBuilder, ListNetworksOptionsBuilder};

use super::{Connection, failed, label_filters};
use crate::{EngineError, ErrorKind, Labels, Network, NetworkSpec};

/// What labels of Longshore's begin with.
const LABEL_PREFIX: &str = "dev.longshore.";

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
    if spec.labels.is_empty() {
        return Ok(created.id);
    }
    let here = found(docker, &spec.labels, Some(&spec.name)).await?;
    let left = leave_one(docker, here).await?;
    Ok(left.and_then(|network| network.id).unwrap_or(created.id))
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
            return match error.kind {
                ErrorKind::NotFound => Ok(None),
                _ if is_ambiguous(&error) => {
                    let here = in_order(docker, found(docker, &Labels::new(), Some(network)).await?).await?;
                    let Some(id) = here.into_iter().next().and_then(|(network, _is_used)| network.id) else {
                        return Ok(None);
                    };
                    Box::pin(inspect(docker, &id)).await
                }
                _ => Err(error),
            };
        }
    };
    let mut network = network_of(found.id, found.name, found.labels, found.internal, found.ipam);
    network.containers = found.containers.unwrap_or_default().into_keys().collect();
    Ok(Some(network))
}

pub(super) async fn list(docker: &Connection, labels: &Labels) -> Result<Vec<Network>, EngineError> {
    let mut by_name: BTreeMap<String, Vec<bollard::models::Network>> = BTreeMap::new();
    for network in found(docker, labels, None).await? {
        by_name.entry(network.name.clone().unwrap_or_default()).or_default().push(network);
    }
    let mut networks = Vec::new();
    for mut here in by_name.into_values() {
        if here.len() > 1 && !labels.is_empty() {
            here = leave_one(docker, here).await?.into_iter().collect();
        }
        networks.extend(
            here.into_iter()
                .map(|network| network_of(network.id, network.name, network.labels, network.internal, network.ipam)),
        );
    }
    Ok(networks)
}

/// Whether the engine did not do something because several networks have the name that it was given.
pub(super) fn is_ambiguous(error: &EngineError) -> bool {
    error.why.contains("is ambiguous")
}

/// Leaves one of several networks of a name that are for a container with these labels: those whose labels of Longshore's
/// it carries, too.
pub(super) async fn leave_one_for(docker: &Connection, name: &str, labels: &Labels) -> Result<(), EngineError> {
    let mut here = found(docker, &Labels::new(), Some(name)).await?;
    here.retain(|network| {
        let mut ours = network.labels.iter().flatten().filter(|(key, _)| key.starts_with(LABEL_PREFIX)).peekable();
        ours.peek().is_some() && ours.all(|(key, value)| labels.get(key) == Some(value))
    });
    leave_one(docker, here).await.map(drop)
}

/// Networks that carry these labels, of this name alone if there is one.
async fn found(
    docker: &Connection,
    labels: &Labels,
    name: Option<&str>,
) -> Result<Vec<bollard::models::Network>, EngineError> {
    let mut filters = label_filters(labels);
    filters.extend(name.map(|name| ("name".to_owned(), vec![name.to_owned()])));
    let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let found = docker.client.list_networks(Some(options)).await;
    let mut found = found.map_err(|error| failed("cannot list the networks", error))?;
    // The engine's filter takes parts of names, too.
    found.retain(|network| name.is_none_or(|name| network.name.as_deref() == Some(name)));
    Ok(found)
}

/// Networks of one name with whether containers are on them, running or not; the one that stays first: one that is used,
/// the oldest of such, the least id.
async fn in_order(
    docker: &Connection,
    here: Vec<bollard::models::Network>,
) -> Result<Vec<(bollard::models::Network, bool)>, EngineError> {
    let mut with_use = Vec::new();
    for network in here {
        let id = network.id.clone().unwrap_or_default();
        let filters = HashMap::from([("network".to_owned(), vec![id])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let users = docker.client.list_containers(Some(options)).await;
        let is_used = !users.map_err(|error| failed("cannot list the containers on a network", error))?.is_empty();
        with_use.push((network, is_used));
    }
    with_use.sort_by_cached_key(|(network, is_used)| {
        (!is_used, network.created.as_deref().and_then(super::containers::time_of), network.id.clone())
    });
    Ok(with_use)
}

/// Removes all of these networks of one name but the first [`in_order`], where no container is on them; returns that one.
async fn leave_one(
    docker: &Connection,
    here: Vec<bollard::models::Network>,
) -> Result<Option<bollard::models::Network>, EngineError> {
    if here.len() < 2 {
        return Ok(here.into_iter().next());
    }
    let mut here = in_order(docker, here).await?.into_iter();
    let stays = here.next().map(|(network, _is_used)| network);
    for (network, _) in here.filter(|(_, is_used)| !is_used) {
        let (id, name) = (network.id.unwrap_or_default(), network.name.unwrap_or_default());
        match remove(docker, &id).await {
            Ok(()) => tracing::info!(name, id, "removed a second network of one name"),
            // A container came onto it in between.
            Err(error) if error.kind == ErrorKind::Conflict => {
                tracing::warn!(%error, name, id, "two networks of one name are left");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(stays)
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
