//! The proxy's table, from what a host should be and what runs on it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use api::HostName;
use api::agent::{Desired, DesiredProject, Route as DesiredRoute};

use super::decide::Observed;
use super::memory::Memory;
use super::names::{Member, ProjectKey, Role, ServiceKey, network_name};
use crate::proxy::table::{Listener, Mesh, Remote, Route, ServiceAddress, Table, Upstream};

/// How long a request or connection waits for a service that has no container right now, in milliseconds: what a
/// stop-first replacement may take before clients see it.
pub const HOLD_MS: u64 = 30_000;

/// Prefix of the keys of listeners on the host's published ports.
pub const PUBLISHED: &str = "published/";
/// Prefix of the keys of listeners on virtual addresses.
pub const NAME: &str = "name/";

/// Where a host's proxy listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edges {
    /// The address of published ports.
    pub publish: IpAddr,
    /// The side that faces other hosts.
    pub mesh: Option<Mesh>,
}

/// The table without its number, and what of the desired state it cannot hold.
pub fn table(
    host: &HostName,
    edges: &Edges,
    desired: &Desired,
    observed: &Observed,
    memory: &Memory,
    retiring: &BTreeSet<String>,
) -> (Table, Vec<String>) {
    let mut made = Making { table: Table { mesh: edges.mesh.clone(), ..Table::default() }, ..Making::default() };
    for project in &desired.projects {
        for route in &project.routes {
            let key = ServiceKey {
                project: ProjectKey { env: project.env.clone(), app: project.app.clone() },
                service: route.service.clone(),
            };
            let locals = serving(observed, memory, retiring, &key);
            made.route(host, edges, observed, project, route, &locals);
        }
    }
    (made.table, made.warnings)
}

/// The virtual address of a route's name on one of its networks.
pub fn virtual_address(observed: &Observed, network: &str, route_number: u32) -> Option<IpAddr> {
    let subnet = observed.networks.get(network)?.subnet?;
    subnet.virtual_address(route_number.checked_add(1)?).map(IpAddr::V4)
}

/// The containers that take a service's requests: those that were ready once and do not end. One that fails its checks
/// takes none while another passes them; the last one always does, because a check can be wrong.
fn serving<'a>(
    observed: &'a Observed,
    memory: &Memory,
    retiring: &BTreeSet<String>,
    key: &ServiceKey,
) -> Vec<&'a Member> {
    let mut members: Vec<&Member> = observed
        .members
        .iter()
        .filter(|member| member.key == *key && matches!(member.role, Role::Slot(_)) && member.is_running())
        .filter(|member| memory.is_admitted(member.id()))
        .filter(|member| !retiring.contains(member.id()) && !memory.kept.stopping.contains(member.id()))
        .collect();
    if members.iter().any(|member| member.container.is_ready()) {
        members.retain(|member| member.container.is_ready());
    }
    members
}

#[derive(Default)]
struct Making {
    table: Table,
    warnings: Vec<String>,
    taken: BTreeMap<SocketAddr, String>,
}

impl Making {
    fn route(
        &mut self,
        host: &HostName,
        edges: &Edges,
        observed: &Observed,
        project: &DesiredProject,
        route: &DesiredRoute,
        locals: &[&Member],
    ) {
        let (env, app) = (project.env.as_str(), project.app.as_str());
        let service = match ServiceAddress::new(env, app, route.service.as_str()) {
            Ok(service) => service,
            Err(error) => return self.warnings.push(error.to_string()),
        };
        let remotes = self.remotes(route);
        let targets: BTreeSet<u16> =
            route.ports.iter().copied().chain(route.published.iter().map(|port| port.target)).collect();
        for port in targets {
            let upstream = |member: &&Member| {
                let address = member.container.addresses.values().find(|address| address.is_ipv4())?;
                Some(Upstream { key: member.container.id.clone(), address: SocketAddr::new(*address, port) })
            };
            self.table.routes.push(Route {
                service: service.clone(),
                port,
                hold_ms: HOLD_MS,
                locals: locals.iter().filter_map(upstream).collect(),
                remotes: remotes.clone(),
            });
        }
        for published in &route.published {
            let address = SocketAddr::new(published.host_ip.unwrap_or(edges.publish), published.published);
            self.listen(format!("{PUBLISHED}{address}/{service}"), address, &service, published.target);
        }
        let key = ProjectKey { env: project.env.clone(), app: project.app.clone() };
        for network in route.networks.keys() {
            let Some(address) = virtual_address(observed, &network_name(host, &key, network), route.number) else {
                continue;
            };
            for port in &route.ports {
                let address = SocketAddr::new(address, *port);
                self.listen(format!("{NAME}{address}/{service}"), address, &service, *port);
            }
        }
    }

    fn remotes(&mut self, route: &DesiredRoute) -> Vec<Remote> {
        let mut remotes = Vec::new();
        for remote in &route.remotes {
            match remote.mesh.parse() {
                Ok(address) => remotes.push(Remote { host: remote.host.to_string(), address }),
                Err(_) => self.warnings.push(format!(
                    "host {} cannot be reached for {}: its mesh address {:?} is not ADDRESS:PORT",
                    remote.host, route.service, remote.mesh
                )),
            }
        }
        remotes
    }

    fn listen(&mut self, key: String, address: SocketAddr, service: &ServiceAddress, port: u16) {
        if let Some(holder) = self.taken.get(&address) {
            let warning = format!("{service} cannot have {address}: {holder} has it; publish it on another port");
            return self.warnings.push(warning);
        }
        self.taken.insert(address, service.to_string());
        self.table.listeners.push(Listener { key, address, service: service.clone(), port });
    }
}
