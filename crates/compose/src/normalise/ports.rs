//! Published and exposed ports: short and long syntax, ranges.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::diagnostic::Findings;
use crate::field::{Field, Section};
use crate::model::{Port, Protocol};
use crate::scalar;

/// Ports that one service publishes or exposes.
const PORTS_MAX: usize = 256;

pub(super) fn ports(section: &mut Section<'_, '_, '_, '_>) -> Vec<Port> {
    let mut ports = BTreeSet::new();
    let Some(field) = section.get("ports") else { return Vec::new() };
    for entry in field.items() {
        let read = if entry.is_map() { long(&entry, section.findings) } else { short(&entry, section.findings) };
        ports.extend(read);
        if ports.len() > PORTS_MAX {
            field.error(section.findings, format!("these are more than {PORTS_MAX} ports"));
            break;
        }
    }
    ports.into_iter().take(PORTS_MAX).collect()
}

pub(super) fn expose(section: &mut Section<'_, '_, '_, '_>) -> BTreeSet<u16> {
    let mut exposed = BTreeSet::new();
    let Some(field) = section.get("expose") else { return exposed };
    for entry in field.items() {
        let range = entry.read(section.findings, |text| scalar::port_range(without_protocol(text)?));
        if let Some((first, last)) = range {
            exposed.extend(first..=last);
        }
        if exposed.len() > PORTS_MAX {
            field.error(section.findings, format!("these are more than {PORTS_MAX} ports"));
            return BTreeSet::new();
        }
    }
    exposed
}

/// `[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]`, where HOST and CONTAINER may be ranges.
fn short(field: &Field<'_>, findings: &mut Findings<'_>) -> Vec<Port> {
    let read = field.read(findings, |text| {
        let text = without_protocol(text)?;
        let (rest, target) = text.rsplit_once(':').map_or((None, text), |(rest, target)| (Some(rest), target));
        let (host_ip, published) = match rest.map(|rest| rest.rsplit_once(':').ok_or(rest)) {
            None => (None, None),
            Some(Err(published)) => (None, Some(published)),
            Some(Ok((address, published))) => (Some(host_address(address)?), Some(published)),
        };
        let targets = scalar::port_range(target)?;
        expand(targets, published.filter(|published| !published.is_empty()), host_ip, None)
    });
    read.unwrap_or_default()
}

fn long(field: &Field<'_>, findings: &mut Findings<'_>) -> Vec<Port> {
    let mut section = Section { field, findings };
    let host_ip = section.read("host_ip", host_address);
    let name = section.string("name");
    section.read("protocol", protocol);
    section.read("mode", |mode| match mode {
        "ingress" => Ok(()),
        "host" => Err("Longshore does not support the mode host: the proxy of every host answers".to_owned()),
        _ => Err(format!("{mode:?} is not a mode of ports")),
    });
    let Some(target) = section.get("target") else {
        field.error(findings, "a port needs a target, the port inside the container");
        return Vec::new();
    };
    let published = section.get("published");
    let Some(target) = target.read(section.findings, scalar::port) else { return Vec::new() };
    match published {
        None => Vec::from([Port { target, published: None, host_ip, protocol: Protocol::Tcp, name }]),
        Some(published) => published
            .read(section.findings, |text| expand((target, target), Some(text), host_ip, name))
            .unwrap_or_default(),
    }
}

fn expand(
    (first, last): (u16, u16),
    published: Option<&str>,
    host_ip: Option<IpAddr>,
    name: Option<String>,
) -> Result<Vec<Port>, String> {
    let published = published.map(scalar::port_range).transpose()?;
    if let Some((published_first, published_last)) = published
        && published_last - published_first != last - first
    {
        return Err("the two ranges differ in length; Longshore does not choose a port from a range".to_owned());
    }
    if usize::from(last - first) >= PORTS_MAX {
        return Err(format!("these are more than {PORTS_MAX} ports"));
    }
    let port = |target: u16| Port {
        target,
        published: published.map(|(published_first, _)| published_first + (target - first)),
        host_ip,
        protocol: Protocol::Tcp,
        name: name.clone(),
    };
    Ok((first..=last).map(port).collect())
}

fn without_protocol(text: &str) -> Result<&str, String> {
    match text.split_once('/') {
        Some((ports, name)) => protocol(name).map(|()| ports),
        None => Ok(text),
    }
}

fn protocol(text: &str) -> Result<(), String> {
    match text {
        "tcp" => Ok(()),
        "udp" | "sctp" => Err(format!("Longshore does not support {text} ports: its proxy carries TCP")),
        _ => Err(format!("{text:?} is not a protocol")),
    }
}

/// An address, which may stand in brackets.
fn host_address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| format!("{text:?} is not an IP address of the host"))
}
