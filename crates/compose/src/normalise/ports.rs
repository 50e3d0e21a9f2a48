//! Published and exposed ports: short and long syntax, ranges.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::diagnostic::Findings;
use crate::field::{Field, Section};
use crate::model::{Port, Protocol};
use crate::scalar;
use crate::stage::Context;

/// Ports that one service publishes or exposes.
const PORTS_MAX: usize = 256;

pub(super) fn ports(section: &mut Section<'_, '_, '_, '_>, context: &Context<'_>) -> Vec<Port> {
    let mut ports = BTreeSet::new();
    let Some(field) = section.get("ports") else { return Vec::new() };
    for entry in field.items() {
        let read = if entry.is_map() {
            long(&entry, context, section.findings)
        } else {
            short(&entry, context, section.findings)
        };
        if context.workspace() {
            // Of two that publish the same the later stands.
            ports.retain(|port| !read.iter().any(|other| same_place(port, other)));
        }
        ports.extend(read);
        if ports.len() > PORTS_MAX {
            field.error(section.findings, format!("these are more than {PORTS_MAX} ports"));
            break;
        }
    }
    ports.into_iter().take(PORTS_MAX).collect()
}

fn same_place(one: &Port, other: &Port) -> bool {
    let place = |port: &Port| (port.target, port.published, port.published_last, port.host_ip, port.protocol);
    place(one) == place(other)
}

/// TCP ports, and in a workspace those of other protocols, as `53/udp`.
pub(super) fn expose(
    section: &mut Section<'_, '_, '_, '_>,
    context: &Context<'_>,
) -> (BTreeSet<u16>, BTreeSet<String>) {
    let (mut exposed, mut others) = (BTreeSet::new(), BTreeSet::new());
    let Some(field) = section.get("expose") else { return (exposed, others) };
    for entry in field.items() {
        let read = entry.read(section.findings, |text| {
            let (text, protocol) = split_protocol(text, context)?;
            Ok((scalar::port_range(text)?, protocol))
        });
        match read {
            Some(((first, last), Protocol::Tcp)) => exposed.extend(first..=last),
            Some(((first, last), protocol)) if usize::from(last - first) < PORTS_MAX => {
                others.extend((first..=last).map(|port| format!("{port}/{}", protocol.name())));
            }
            Some(_) => entry.error(section.findings, format!("these are more than {PORTS_MAX} ports")),
            None => {}
        }
        if exposed.len() + others.len() > PORTS_MAX {
            field.error(section.findings, format!("these are more than {PORTS_MAX} ports"));
            return (BTreeSet::new(), BTreeSet::new());
        }
    }
    (exposed, others)
}

/// `[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]`, where HOST and CONTAINER may be ranges.
fn short(field: &Field<'_>, context: &Context<'_>, findings: &mut Findings<'_>) -> Vec<Port> {
    let read = field.read(findings, |text| {
        let (text, protocol) = split_protocol(text, context)?;
        let (rest, target) = text.rsplit_once(':').map_or((None, text), |(rest, target)| (Some(rest), target));
        let (host_ip, published) = match rest.map(|rest| rest.rsplit_once(':').ok_or(rest)) {
            None => (None, None),
            Some(Err(published)) => (None, Some(published)),
            Some(Ok((address, published))) => (Some(host_address(address)?), Some(published)),
        };
        let targets = scalar::port_range(target)?;
        let like = Port { host_ip, protocol, ..Port::default() };
        expand(targets, published.filter(|published| !published.is_empty()), &like, context)
    });
    read.unwrap_or_default()
}

fn long(field: &Field<'_>, context: &Context<'_>, findings: &mut Findings<'_>) -> Vec<Port> {
    let mut section = Section { field, findings };
    let host_ip = section.read("host_ip", host_address);
    let name = section.string("name");
    let protocol = section.read("protocol", |text| protocol(text, context)).unwrap_or_default();
    let host_mode = section.read("mode", |mode| match mode {
        "ingress" => Ok(false),
        "host" if context.workspace() => Ok(true),
        "host" => Err("Longshore does not support the mode host: the proxy of every host answers".to_owned()),
        _ => Err(format!("{mode:?} is not a mode of ports")),
    });
    let app_protocol = section.string("app_protocol");
    let Some(target) = section.get("target") else {
        field.error(findings, "a port needs a target, the port inside the container");
        return Vec::new();
    };
    let published = section.get("published");
    let Some(target) = target.read(section.findings, scalar::port) else { return Vec::new() };
    let host_mode = host_mode.unwrap_or_default();
    let like = Port { target, host_ip, protocol, name, app_protocol, host_mode, ..Port::default() };
    match published {
        None => Vec::from([like]),
        Some(published) => published
            .read(section.findings, |text| expand((target, target), Some(text), &like, context))
            .unwrap_or_default(),
    }
}

fn expand(
    (first, last): (u16, u16),
    published: Option<&str>,
    like: &Port,
    context: &Context<'_>,
) -> Result<Vec<Port>, String> {
    let published = published.map(scalar::port_range).transpose()?;
    if let Some((published_first, published_last)) = published
        && published_last - published_first != last - first
    {
        if context.workspace() && first == last {
            let (published, published_last) = (Some(published_first), Some(published_last));
            return Ok(vec![Port { target: first, published, published_last, ..like.clone() }]);
        }
        return Err("the two ranges differ in length; Longshore does not choose a port from a range".to_owned());
    }
    if usize::from(last - first) >= PORTS_MAX {
        return Err(format!("these are more than {PORTS_MAX} ports"));
    }
    let port = |target: u16| Port {
        target,
        published: published.map(|(published_first, _)| published_first + (target - first)),
        ..like.clone()
    };
    Ok((first..=last).map(port).collect())
}

fn split_protocol<'t>(text: &'t str, context: &Context<'_>) -> Result<(&'t str, Protocol), String> {
    match text.split_once('/') {
        Some((ports, name)) => protocol(name, context).map(|protocol| (ports, protocol)),
        None => Ok((text, Protocol::Tcp)),
    }
}

fn protocol(text: &str, context: &Context<'_>) -> Result<Protocol, String> {
    match text {
        "tcp" => Ok(Protocol::Tcp),
        "udp" if context.workspace() => Ok(Protocol::Udp),
        "sctp" if context.workspace() => Ok(Protocol::Sctp),
        "udp" | "sctp" => Err(format!("Longshore does not support {text} ports: its proxy carries TCP")),
        _ => Err(format!("{text:?} is not a protocol")),
    }
}

/// An address, which may stand in brackets.
fn host_address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| format!("{text:?} is not an IP address of the host"))
}
