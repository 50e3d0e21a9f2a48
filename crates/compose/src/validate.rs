//! What must hold between the parts of a project: names that lead somewhere, no circles, no port published twice.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::diagnostic::{Findings, did_you_mean};
use crate::field::Field;
use crate::model::{
    Condition, DEFAULT_NETWORK, FileGrant, FileSource, HealthTest, Mount, Namespace, Project, Protocol, Restart,
    Service,
};

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
        files(&service.configs, &project.configs, "configs", root, &field, findings);
        files(&service.secrets, &project.secrets, "secrets", root, &field, findings);
        shared(project, service, &field, services.as_ref(), findings);
        laptop(service, &field, findings);
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

/// What a service is given has to be declared.
fn files(
    grants: &[FileGrant],
    declared: &BTreeMap<String, FileSource>,
    key: &str,
    root: &Field<'_>,
    field: &Field<'_>,
    findings: &mut Findings<'_>,
) {
    for grant in grants {
        // One that is wrong in itself was told of already.
        let known = root.get(key).is_some_and(|all| all.entries().any(|(name, _)| name == grant.source));
        if known || declared.contains_key(&grant.source) {
            continue;
        }
        let Some(list) = field.get(key) else { continue };
        let entry = list.items().find(|entry| mentions(entry, &grant.source)).unwrap_or(list);
        let hint = did_you_mean(&grant.source, declared.keys().map(String::as_str))
            .unwrap_or_else(|| format!("declare it under the top-level `{key}:`"));
        let what = format!("{:?} is not among the {key}", grant.source);
        findings.error_with_hint(entry.node.mark, &entry.path, what, hint);
    }
}

/// Services whose namespaces or mounts another shares, or that it links to.
fn shared(
    project: &Project,
    service: &Service,
    field: &Field<'_>,
    services: Option<&Field<'_>>,
    findings: &mut Findings<'_>,
) {
    for name in service.services_shared() {
        if services.is_some_and(|services| services.entries().any(|(key, _)| key == name)) {
            continue;
        }
        let keys = ["links", "volumes_from", "network_mode", "ipc", "pid"];
        let place = keys.iter().filter_map(|key| field.get(key)).find(|value| names(value, &name));
        let place = place.unwrap_or_else(|| field.clone());
        let hint = did_you_mean(&name, project.services.keys().map(String::as_str));
        findings.error_with_hint(place.mark, &place.path, format!("there is no service {name:?}"), hint);
    }
}

/// Whether a value, or one of a list, names a service.
fn names(value: &Field<'_>, service: &str) -> bool {
    use crate::yaml::Value;
    let has = |node: &crate::yaml::Node| match &node.value {
        Value::Scalar(text) => text.split(':').any(|part| part == service),
        _ => false,
    };
    has(value.node) || value.items().any(|item| has(item.node))
}

/// What excludes itself in one service.
fn laptop(service: &Service, field: &Field<'_>, findings: &mut Findings<'_>) {
    let mut refuse = |key: &str, what: &str, hint: &str| {
        let place = field.get(key).unwrap_or_else(|| field.clone());
        findings.error_with_hint(place.mark, &place.path, what.to_owned(), hint.to_owned());
    };
    let replicas = match service.deploy.mode {
        crate::model::Mode::Replicated { replicas } => replicas,
        crate::model::Mode::Global => 1,
    };
    if service.container_name.is_some() && replicas > 1 {
        refuse("container_name", "several containers cannot have one name", "take container_name or the number away");
    }
    match &service.namespaces.network {
        None | Some(Namespace::Bridge) => {}
        Some(_) => {
            let elsewhere = "leave them to the service whose network it is, or take network_mode away";
            if !service.ports.is_empty() {
                refuse("ports", "a container without a network of its own publishes no ports", elsewhere);
            }
            if !service.links.is_empty() || !service.external_links.is_empty() {
                let key = if service.links.is_empty() { "external_links" } else { "links" };
                refuse(key, "a container without a network of its own has no links", "take network_mode away");
            }
        }
    }
    if service.namespaces.network.is_some() && field.get("mac_address").is_some() {
        let what = "an address is given on a network of the project, and this service joins none";
        refuse("mac_address", what, "take mac_address or network_mode away");
    }
    if service.settings.memory_swap_bytes.is_some_and(|bytes| bytes > 0) && service.limits().memory_bytes.is_none() {
        refuse("memswap_limit", "a limit of memory and swap needs one of memory", "write mem_limit");
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
    let mut seen: BTreeMap<(u16, Protocol), Vec<Published<'_>>> = BTreeMap::new();
    for (name, service) in &project.services {
        // Of a range any free port will do.
        for port in service.ports.iter().filter(|port| port.published_last.is_none()) {
            let Some(published) = port.published else { continue };
            let others = seen.entry((published, port.protocol)).or_default();
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
