//! What must hold between the parts of a project: names that lead somewhere, no circles, no port published twice.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::diagnostic::{Findings, did_you_mean};
use crate::field::Field;
use crate::model::{Condition, DEFAULT_NETWORK, HealthTest, Mount, Project, Restart, Service};

/// Checks a project against itself; `root` is the tree it was made from, which knows the lines.
pub(crate) fn project(project: &Project, root: &Field<'_>, findings: &mut Findings<'_>) {
    let services = root.get("services");
    if project.services.is_empty() && !findings.failed() {
        let hint = "write them under `services:`".to_owned();
        findings.error_with_hint(root.node.mark, "", "there are no services", hint);
    }
    for (name, service) in &project.services {
        let Some(field) = services.as_ref().and_then(|services| services.get(name)) else { continue };
        dependencies(project, service, &field, services.as_ref(), findings);
        networks(project, service, &field, findings);
        volumes(project, service, &field, findings);
    }
    jobs(project, services.as_ref(), findings);
    ports(project, services.as_ref(), findings);
    // A circle is only worth telling of among services that are there.
    if let Err(cycle) = project.start_order() {
        let place = cycle.path.first().and_then(|first| services.as_ref()?.get(first)?.get("depends_on"));
        let (mark, path) = place.map_or((root.node.mark, String::new()), |field| (field.mark, field.path));
        let (circle, hint) = (cycle.path.join(" -> "), "take one of these depends_on away".to_owned());
        findings.error_with_hint(mark, &path, format!("services await each other in a circle: {circle}"), hint);
    }
}

fn dependencies(
    project: &Project,
    service: &Service,
    field: &Field<'_>,
    services: Option<&Field<'_>>,
    findings: &mut Findings<'_>,
) {
    let Some(entries) = field.get("depends_on") else { return };
    for (name, entry) in entries.entries() {
        let Some(dependency) = service.depends_on.get(name) else { continue };
        match project.services.get(name) {
            Some(other) if dependency.condition == Condition::ServiceHealthy && healthcheck_off(other) => {
                let what = format!("{name:?} is awaited to be healthy, but its healthcheck is switched off");
                findings.error(entry.mark, &entry.path, what);
            }
            // One with a bad name was told of already.
            None if !dependency.optional && services.is_none_or(|services| services.get(name).is_none()) => {
                let hint = did_you_mean(name, project.services.keys().map(String::as_str));
                findings.error_with_hint(entry.mark, &entry.path, format!("there is no service {name:?}"), hint);
            }
            _ => {}
        }
    }
}

fn healthcheck_off(service: &Service) -> bool {
    service.healthcheck.as_ref().is_some_and(|check| check.test == Some(HealthTest::Disabled))
}

fn networks(project: &Project, service: &Service, field: &Field<'_>, findings: &mut Findings<'_>) {
    for name in service.networks.keys().filter(|name| *name != DEFAULT_NETWORK) {
        if project.networks.contains_key(name) {
            continue;
        }
        if let Some((_, entry)) = field.get("networks").and_then(|list| list.entries().find(|(key, _)| key == name)) {
            let hint = did_you_mean(name, project.networks.keys().map(String::as_str))
                .unwrap_or_else(|| "declare it under the top-level `networks:`".to_owned());
            findings.error_with_hint(entry.mark, &entry.path, format!("there is no network {name:?}"), hint);
        }
    }
}

fn volumes(project: &Project, service: &Service, field: &Field<'_>, findings: &mut Findings<'_>) {
    let unknown = service.volumes.iter().filter_map(|mount| match mount {
        Mount::Volume { source: Some(name), .. } if !project.volumes.contains_key(name) => Some((name, mount.target())),
        _ => None,
    });
    for (name, target) in unknown {
        let Some(list) = field.get("volumes") else { continue };
        let entry = list.items().find(|entry| mentions(entry, name)).unwrap_or(list);
        let hint = did_you_mean(name, project.volumes.keys().map(String::as_str))
            .unwrap_or_else(|| "declare it under the top-level `volumes:`, or write ./ before a path".to_owned());
        let what = format!("there is no volume {name:?}, which is to be mounted at {target:?}");
        findings.error_with_hint(entry.node.mark, &entry.path, what, hint);
    }
}

fn mentions(entry: &Field<'_>, volume: &str) -> bool {
    use crate::yaml::Value;
    let text = |node: &crate::yaml::Node| match &node.value {
        Value::Scalar(text) => text.clone(),
        _ => String::new(),
    };
    match entry.get("source") {
        Some(source) => text(source.node) == volume,
        None => text(entry.node).split(':').next() == Some(volume),
    }
}

/// A job that is started again whenever it ends is never done.
fn jobs(project: &Project, services: Option<&Field<'_>>, findings: &mut Findings<'_>) {
    for name in project.jobs() {
        let endless = project.services.get(&name).and_then(Service::restart_effective);
        if matches!(endless, Some(Restart::Always | Restart::UnlessStopped))
            && let Some(field) = services.and_then(|services| services.get(&name))
        {
            let place = field.get("restart").or_else(|| field.get("deploy")).unwrap_or(field);
            let what = "others await this service to complete, but it is started again whenever it ends";
            findings.error_with_hint(place.mark, &place.path, what, "write `restart: on-failure`".to_owned());
        }
    }
}

/// Two services that can be on at once must not publish one port; one service must not publish it for two targets.
fn ports(project: &Project, services: Option<&Field<'_>>, findings: &mut Findings<'_>) {
    type Published<'p> = (&'p str, &'p Service, Option<IpAddr>, u16);
    let mut seen: BTreeMap<u16, Vec<Published<'_>>> = BTreeMap::new();
    for (name, service) in &project.services {
        for port in &service.ports {
            let Some(published) = port.published else { continue };
            let others = seen.entry(published).or_default();
            let clash = others.iter().find(|(_, other, address, _)| {
                addresses_meet(*address, port.host_ip) && can_be_on_together(service, other)
            });
            if let Some((other, _, _, target)) = clash
                && let Some(field) = services.and_then(|services| services.get(name))
            {
                let place = field.get("ports").unwrap_or(field);
                let what = if *other == name {
                    format!("the service publishes port {published} twice: for {target} and for {}", port.target)
                } else {
                    format!("port {published} is published by {other:?} already")
                };
                findings.error_with_hint(
                    place.mark,
                    &place.path,
                    what,
                    "choose another port for one of them".to_owned(),
                );
            }
            others.push((name, service, port.host_ip, port.target));
        }
    }
}

fn addresses_meet(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one == other || one.is_unspecified() || other.is_unspecified(),
        _ => true,
    }
}

fn can_be_on_together(one: &Service, other: &Service) -> bool {
    one.profiles.is_empty() || other.profiles.is_empty() || !one.profiles.is_disjoint(&other.profiles)
}
