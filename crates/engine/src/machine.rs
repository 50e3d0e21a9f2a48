//! What only a workspace's container has: it reaches the machine that it runs on. Pure.
//!
//! Whether a container may have any of it is said by one parameter, [`Place`], and stays with the wanted container: one
//! without a [`WantedMachine`] reaches nothing of its host, and [`WantedContainer::check`] holds it to that.

use std::collections::BTreeMap;
use std::net::IpAddr;

use compose::model::{
    EndpointOptions, FileGrant, FileSource, Mount, MountOptions, MountOwner, Namespace, Protocol, Service,
    ServiceDefinition, Settings,
};
use serde::{Deserialize, Serialize};

use crate::definition::{Identity, name_of};
use crate::{EngineError, ErrorKind, WantedContainer};

/// Permission bits of a config or secret of which nothing is said.
const FILE_MODE_DEFAULT: u32 = 0o444;

/// Where a container is to run.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// On a host of a hub, of which it reaches nothing.
    Host,
    /// On a developer's own machine, of which it is given what its Compose file asks for.
    Workspace(&'a Machine),
}

/// What a definition leaves open for the machine that it runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The folder of the first Compose file, absolute: what relative paths begin with.
    pub folder: String,
    /// The developer's own folder: what `~` stands for.
    pub home: Option<String>,
    /// Names on the engine of the containers of services, by service: whose namespaces, mounts and links are meant.
    pub containers: BTreeMap<String, String>,
    /// The ports that are published, as they were found free; those of the definition say which are wished for.
    pub ports: Vec<WantedPort>,
    /// SHA-256, in hex, of the content of each config that is copied (see [`FileGrant::is_copied`]), by its key.
    pub configs: BTreeMap<String, String>,
    /// The same of secrets.
    pub secrets: BTreeMap<String, String>,
}

/// What a container has of its machine. Every value is left out of the hash while nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WantedMachine {
    /// Ports published by the engine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<WantedPort>,
    /// Ports that are declared, as `80/tcp`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exposed: Vec<String>,
    /// Paths of the machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub binds: Vec<WantedBind>,
    /// Images as file systems.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<WantedImage>,
    /// Files that are put into the container before it starts, sorted by path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<WantedFile>,
    /// What more is said of volumes, by path in the container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub volume_options: BTreeMap<String, MountOptions>,
    /// Containers whose mounts it has as well, as `name` or `name:ro`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes_from: Vec<String>,
    /// What more is said of its place in networks, by name on the engine.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<String, WantedEndpoint>,
    /// In place of networks: `host`, `none`, `bridge` or `container:…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_mode: Option<String>,
    /// Whose processes it sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_mode: Option<String>,
    /// Whose shared memory it sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc_mode: Option<String>,
    /// Whose host name it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uts_mode: Option<String>,
    /// Whose users it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userns_mode: Option<String>,
    /// Whose cgroups it sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroupns_mode: Option<String>,
    /// It has every capability and device.
    pub privileged: bool,
    /// Its input ends with that of whoever is connected to it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stdin_once: bool,
    /// What the engine is told as it stands.
    pub settings: Settings,
}

/// A port published by the engine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WantedPort {
    /// Port in the container.
    pub target: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Address of the machine; `None` is all of them.
    pub host_ip: Option<IpAddr>,
    /// Port of the machine; `None` lets the engine choose.
    pub published: Option<u16>,
}

/// A path of the machine in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedBind {
    /// Absolute path on the machine.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// It cannot be written.
    pub read_only: bool,
    /// What more is said of it.
    pub options: MountOptions,
}

/// An image as a file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedImage {
    /// The image's reference.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// The part that is mounted; `None` is all of it.
    pub subpath: Option<String>,
}

/// A file that is put into the container before it starts. Its content is handed over apart, and known by its hash here,
/// so that a change of it makes another container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedFile {
    /// Absolute path in the container.
    pub target: String,
    /// Whose it is: `config` or `secret`, and the key.
    pub source: (WantedFileKind, String),
    /// SHA-256 of the content, in hex.
    pub sha256: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// What a file in a container is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WantedFileKind {
    /// A config of the project.
    Config,
    /// A secret of the project.
    Secret,
}

/// What more is said of a container's place in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedEndpoint {
    /// Addresses and order.
    pub options: EndpointOptions,
    /// Names for other containers that it alone knows, as `container:alias`.
    pub links: Vec<String>,
}

/// What a service's container has of its machine.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] for a container, a network or a content that the machine has no name for, and for `~` without a
/// home.
pub(crate) fn wanted_machine(
    definition: &ServiceDefinition,
    identity: &Identity,
    machine: &Machine,
) -> Result<WantedMachine, EngineError> {
    let service = &definition.service;
    let namespaces = &service.namespaces;
    let mode = |namespace: &Option<Namespace>| namespace.as_ref().map(|of| mode(of, machine)).transpose();
    let mut wanted = WantedMachine {
        ports: machine.ports.clone(),
        exposed: exposed(service),
        volumes_from: volumes_from(service, machine)?,
        endpoints: endpoints(service, identity, machine)?,
        network_mode: mode(&namespaces.network)?,
        pid_mode: mode(&namespaces.pid)?,
        ipc_mode: mode(&namespaces.ipc)?,
        uts_mode: mode(&namespaces.uts)?,
        userns_mode: mode(&namespaces.user)?,
        cgroupns_mode: mode(&namespaces.cgroup)?,
        privileged: service.privileged,
        settings: service.settings.clone(),
        ..WantedMachine::default()
    };
    for mount in &service.volumes {
        match mount {
            Mount::Bind { source, target, read_only, options } => wanted.binds.push(WantedBind {
                source: machine.path(source)?,
                target: target.clone(),
                read_only: *read_only,
                options: options.clone(),
            }),
            Mount::Image { source, target, subpath } => wanted.images.push(WantedImage {
                source: source.clone(),
                target: target.clone(),
                subpath: subpath.clone(),
            }),
            Mount::Volume { target, options, .. } if *options != MountOptions::default() => {
                wanted.volume_options.insert(target.clone(), options.clone());
            }
            Mount::Volume { .. } | Mount::Tmpfs { .. } => {}
        }
    }
    use WantedFileKind::{Config, Secret};
    for (grants, sources, digests, kind) in [
        (&service.configs, &definition.configs, &machine.configs, Config),
        (&service.secrets, &definition.secrets, &machine.secrets, Secret),
    ] {
        for grant in grants {
            file(grant, sources, digests, kind, machine, &mut wanted)?;
        }
    }
    wanted.files.sort_by(|one, other| one.target.cmp(&other.target));
    Ok(wanted)
}

impl Machine {
    /// A path as the engine wants it: absolute.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for `~` without a home, and for that of another user.
    pub fn path(&self, path: &str) -> Result<String, EngineError> {
        let below = |folder: &str, rest: &str| simplest(&format!("{folder}/{rest}"));
        match path.strip_prefix('~') {
            None if path.starts_with('/') => Ok(simplest(path)),
            None => Ok(below(&self.folder, path)),
            Some(rest) => match &self.home {
                Some(home) if rest.is_empty() || rest.starts_with('/') => Ok(below(home, rest)),
                _ => {
                    let what = format!("cannot tell what {path} means");
                    Err(EngineError::new(ErrorKind::Invalid, what, "it is not in the home of who asks")
                        .with_hint("write the path from / on"))
                }
            },
        }
    }
}

/// An absolute path without `.`, `..` and doubled slashes.
fn simplest(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn exposed(service: &Service) -> Vec<String> {
    let published = service.ports.iter().map(|port| format!("{}/{}", port.target, port.protocol.name()));
    let declared = service.expose.iter().map(|port| format!("{port}/tcp")).chain(service.expose_other.iter().cloned());
    let mut exposed: Vec<String> = published.chain(declared).collect();
    exposed.sort();
    exposed.dedup();
    exposed
}

/// The engine's word for a namespace.
fn mode(namespace: &Namespace, machine: &Machine) -> Result<String, EngineError> {
    Ok(match namespace {
        Namespace::Host => "host".to_owned(),
        Namespace::None => "none".to_owned(),
        Namespace::Private => "private".to_owned(),
        Namespace::Shareable => "shareable".to_owned(),
        Namespace::Bridge => "bridge".to_owned(),
        Namespace::Service(name) => format!("container:{}", name_of(&machine.containers, name, "service")?),
        Namespace::Container(name) => format!("container:{name}"),
    })
}

fn volumes_from(service: &Service, machine: &Machine) -> Result<Vec<String>, EngineError> {
    let named = service.volumes_from.iter().map(|volumes| {
        let name = match &volumes.from {
            MountOwner::Service(name) => name_of(&machine.containers, name, "service")?,
            MountOwner::Container(name) => name.clone(),
        };
        Ok(if volumes.read_only { format!("{name}:ro") } else { name })
    });
    named.collect()
}

fn endpoints(
    service: &Service,
    identity: &Identity,
    machine: &Machine,
) -> Result<BTreeMap<String, WantedEndpoint>, EngineError> {
    let mut links = Vec::new();
    for (alias, linked) in &service.links {
        links.push(format!("{}:{alias}", name_of(&machine.containers, linked, "service")?));
    }
    links.extend(service.external_links.iter().map(|link| format!("{}:{}", link.container, link.alias)));
    let mut endpoints = BTreeMap::new();
    for (key, network) in &service.networks {
        let endpoint = WantedEndpoint { options: network.options.clone(), links: links.clone() };
        if endpoint != WantedEndpoint::default() {
            endpoints.insert(name_of(&identity.networks, key, "network")?, endpoint);
        }
    }
    Ok(endpoints)
}

fn file(
    grant: &FileGrant,
    sources: &BTreeMap<String, FileSource>,
    digests: &BTreeMap<String, String>,
    kind: WantedFileKind,
    machine: &Machine,
    wanted: &mut WantedMachine,
) -> Result<(), EngineError> {
    let source = sources.get(&grant.source);
    if let (Some(FileSource::File(path)), false) = (source, source.is_some_and(|source| grant.is_copied(source))) {
        // A bind of the file follows what an editor does to it, as with Compose.
        wanted.binds.push(WantedBind {
            source: machine.path(path)?,
            target: grant.target.clone(),
            read_only: true,
            options: MountOptions { must_exist: true, ..MountOptions::default() },
        });
        return Ok(());
    }
    let sha256 = digests.get(&grant.source).cloned().ok_or_else(|| {
        let what = format!("cannot put {} into the container", grant.source);
        EngineError::new(ErrorKind::Invalid, what, "its content is not there")
            .with_hint("set the variable, or write the file, that it comes from")
    })?;
    wanted.files.push(WantedFile {
        target: grant.target.clone(),
        source: (kind, grant.source.clone()),
        sha256,
        uid: grant.uid.unwrap_or(0),
        gid: grant.gid.unwrap_or(0),
        mode: grant.mode.unwrap_or(FILE_MODE_DEFAULT),
    });
    Ok(())
}

impl WantedContainer {
    /// Its networks with the names it has on them, in the order in which it joins them: those with a higher priority
    /// first.
    pub(crate) fn networks_in_order(&self) -> Vec<(&String, &Vec<String>)> {
        let priority = |network: &String| {
            let endpoint = self.machine.as_ref().and_then(|machine| machine.endpoints.get(network));
            std::cmp::Reverse(endpoint.map_or(0, |endpoint| endpoint.options.priority))
        };
        let mut networks: Vec<_> = self.networks.iter().collect();
        networks.sort_by_key(|(network, _)| priority(network));
        networks
    }
}
