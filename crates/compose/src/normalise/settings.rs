//! Settings that the engine is told as they stand, and namespaces.

use std::collections::BTreeMap;

use crate::diagnostic::Findings;
use crate::field::{Field, Section};
use crate::model::{Blkio, Cpu, Device, DeviceRequest, Namespace, Namespaces, Settings};
use crate::scalar;

/// Every device that a driver has.
const COUNT_ALL: i64 = -1;

pub(super) fn settings(section: &mut Section<'_, '_, '_, '_>) -> Settings {
    Settings {
        annotations: section.labels("annotations"),
        blkio: section.get("blkio_config").map(|field| blkio(&field, section.findings)).unwrap_or_default(),
        cgroup_parent: section.string("cgroup_parent"),
        cpu: Cpu {
            shares: section.read("cpu_shares", scalar::integer),
            period_micros: section.read("cpu_period", scalar::micros),
            quota_micros: section.read("cpu_quota", scalar::integer),
            rt_period_micros: section.read("cpu_rt_period", scalar::micros),
            rt_runtime_micros: section.read("cpu_rt_runtime", scalar::micros),
            set: section.string("cpuset"),
        },
        devices: devices(section),
        device_cgroup_rules: section.strings("device_cgroup_rules"),
        device_requests: device_requests(section),
        dns_options: section.strings("dns_opt"),
        dns_search: section.strings("dns_search"),
        domainname: section.string("domainname"),
        group_add: section.names("group_add"),
        memory_swappiness: section.read("mem_swappiness", scalar::within(0..=100)),
        memory_swap_bytes: section.read("memswap_limit", scalar::bytes_or_unlimited).filter(|bytes| *bytes != 0),
        oom_kill_disable: section.boolean("oom_kill_disable"),
        oom_score_adj: section.read("oom_score_adj", scalar::within(-1000..=1000)),
        platform: section.read("platform", platform),
        runtime: section.string("runtime"),
        stdin_open: section.boolean("stdin_open"),
        storage_options: section.labels("storage_opt"),
        tty: section.boolean("tty"),
    }
}

/// `os[/arch[/variant]]`.
pub(super) fn platform(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').collect();
    if (1..=3).contains(&parts.len()) && parts.iter().all(|part| !part.is_empty()) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not a platform such as linux/arm64"))
}

fn blkio(field: &Field<'_>, findings: &mut Findings<'_>) -> Blkio {
    let mut section = Section { field, findings };
    Blkio {
        weight: section.read("weight", scalar::within(10..=1000)),
        weight_device: by_path(&mut section, "weight_device", "weight", |text| scalar::within(10..=1000)(text)),
        read_bytes: by_path(&mut section, "device_read_bps", "rate", scalar::bytes),
        read_operations: by_path(&mut section, "device_read_iops", "rate", scalar::integer),
        write_bytes: by_path(&mut section, "device_write_bps", "rate", scalar::bytes),
        write_operations: by_path(&mut section, "device_write_iops", "rate", scalar::integer),
    }
}

/// Entries with a path and one more value; of two with one path the later stands.
fn by_path<T>(
    section: &mut Section<'_, '_, '_, '_>,
    key: &str,
    value: &str,
    read: fn(&str) -> Result<T, String>,
) -> BTreeMap<String, T> {
    let Some(field) = section.get(key) else { return BTreeMap::new() };
    let mut values = BTreeMap::new();
    for entry in field.items() {
        let mut inner = Section { field: &entry, findings: section.findings };
        match (inner.string("path"), inner.read(value, read)) {
            (Some(path), Some(value)) => {
                values.insert(path, value);
            }
            _ => entry.error(section.findings, format!("this needs a path and a {value}")),
        }
    }
    values
}

/// Of two at one path in the container the later stands.
fn devices(section: &mut Section<'_, '_, '_, '_>) -> Vec<Device> {
    let Some(field) = section.get("devices") else { return Vec::new() };
    let mut devices = BTreeMap::new();
    for entry in field.items() {
        let device = if entry.is_map() {
            let mut inner = Section { field: &entry, findings: section.findings };
            let Some(source) = inner.string("source") else {
                entry.error(section.findings, "a device needs a source, its path on the machine");
                continue;
            };
            let target = inner.read("target", scalar::container_path).unwrap_or_else(|| source.clone());
            let permissions = inner.read("permissions", permissions).unwrap_or_else(|| "rwm".to_owned());
            Device { source, target, permissions }
        } else {
            match entry.read(section.findings, device) {
                Some(Some(device)) => device,
                // A name of CDI: see `device_requests`.
                Some(None) | None => continue,
            }
        };
        devices.insert(device.target.clone(), device);
    }
    devices.into_values().collect()
}

/// `SOURCE[:TARGET[:PERMISSIONS]]`; `None` for a name of the Container Device Interface (`vendor.com/class=name`).
fn device(text: &str) -> Result<Option<Device>, String> {
    if is_cdi(text) {
        return Ok(None);
    }
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, allowed) = match *parts.as_slice() {
        [source] => (source, source, "rwm"),
        // The second of two can be either.
        [source, allowed] if !allowed.starts_with('/') => (source, source, allowed),
        [source, target] => (source, target, "rwm"),
        [source, target, allowed] => (source, target, allowed),
        _ => return Err(format!("{text:?} is not SOURCE:TARGET or SOURCE:TARGET:PERMISSIONS")),
    };
    if !source.starts_with('/') {
        return Err(format!("{source:?} is not a device's path, nor a name such as vendor.example/class=name"));
    }
    let (target, permissions) = (scalar::container_path(target)?, permissions(allowed)?);
    Ok(Some(Device { source: source.to_owned(), target, permissions }))
}

fn is_cdi(text: &str) -> bool {
    !text.starts_with(['/', '.']) && text.split_once('=').is_some_and(|(kind, _)| kind.contains('/'))
}

fn permissions(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.len() <= 3 && text.chars().all(|c| "rwm".contains(c)) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not of r, w and m"))
}

/// `gpus`, devices under `deploy.resources.reservations`, and those of the Container Device Interface.
fn device_requests(section: &mut Section<'_, '_, '_, '_>) -> Vec<DeviceRequest> {
    let mut requests = Vec::new();
    if let Some(field) = section.get("gpus") {
        for entry in field.items() {
            requests.extend(device_request(&entry, true, section.findings));
        }
    }
    let reserved =
        section.get("deploy").and_then(|deploy| deploy.get("resources")?.get("reservations")?.get("devices"));
    if let Some(field) = reserved {
        for entry in field.items() {
            requests.extend(device_request(&entry, false, section.findings));
        }
    }
    let listed = section.get("devices").into_iter().flat_map(|field| field.items().collect::<Vec<_>>());
    let ids: Vec<String> = listed
        .filter(|entry| !entry.is_map())
        .filter_map(|entry| entry.string(section.findings))
        .filter(|text| is_cdi(text))
        .collect();
    if !ids.is_empty() {
        requests.push(DeviceRequest { driver: Some("cdi".to_owned()), device_ids: ids, ..DeviceRequest::default() });
    }
    requests
}

fn device_request(field: &Field<'_>, gpu: bool, findings: &mut Findings<'_>) -> Option<DeviceRequest> {
    let capabilities_all = || vec!["gpu".to_owned()];
    if !field.is_map() {
        field.read(findings, |text| match text {
            "all" if gpu => Ok(()),
            _ => Err(format!("{text:?} is neither `all` nor a mapping with a driver and a count")),
        })?;
        let (count, capabilities) = (Some(COUNT_ALL), capabilities_all());
        return Some(DeviceRequest { count, capabilities, ..DeviceRequest::default() });
    }
    let mut section = Section { field, findings };
    let mut capabilities = section.strings("capabilities");
    if gpu && !capabilities.iter().any(|name| name == "gpu") {
        capabilities.extend(capabilities_all());
    }
    if capabilities.is_empty() {
        field.error_with_hint(
            section.findings,
            "this does not say what the devices can do",
            "write `capabilities: [gpu]`".to_owned(),
        );
        return None;
    }
    let count = section.read("count", |text| if text == "all" { Ok(COUNT_ALL) } else { scalar::integer(text) });
    let device_ids = section.strings("device_ids");
    if count.is_some() && !device_ids.is_empty() {
        field.error(section.findings, "either a count or device_ids say which devices are meant");
        return None;
    }
    Some(DeviceRequest {
        driver: section.string("driver"),
        // Without either all are meant.
        count: count.or_else(|| device_ids.is_empty().then_some(COUNT_ALL)),
        device_ids,
        capabilities,
        options: section.labels("options"),
    })
}

pub(super) fn namespaces(section: &mut Section<'_, '_, '_, '_>) -> Namespaces {
    use Namespace::{Bridge, Host, None, Private, Shareable};
    Namespaces {
        network: namespace(section, "network_mode", &[("host", Host), ("none", None), ("bridge", Bridge)], true),
        pid: namespace(section, "pid", &[("host", Host)], true),
        ipc: namespace(
            section,
            "ipc",
            &[("host", Host), ("none", None), ("private", Private), ("shareable", Shareable)],
            true,
        ),
        uts: namespace(section, "uts", &[("host", Host)], false),
        user: namespace(section, "userns_mode", &[("host", Host)], false),
        cgroup: namespace(section, "cgroup", &[("host", Host), ("private", Private)], false),
    }
}

fn namespace(
    section: &mut Section<'_, '_, '_, '_>,
    key: &str,
    words: &[(&str, Namespace)],
    others: bool,
) -> Option<Namespace> {
    section.read(key, |text| {
        if let Some((_, namespace)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(namespace.clone());
        }
        match text.split_once(':').filter(|(_, name)| others && !name.is_empty()) {
            Some(("service", name)) => Ok(Namespace::Service(name.to_owned())),
            Some(("container", name)) => Ok(Namespace::Container(name.to_owned())),
            _ => {
                let mut known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                if others {
                    known.extend(["service:NAME", "container:NAME"]);
                }
                Err(format!("{text:?} is not known here; there are {}", known.join(", ")))
            }
        }
    })
}
