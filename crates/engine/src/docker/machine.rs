//! What a workspace's container has of its machine, in the engine's words. Pure.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, EndpointIpamConfig, EndpointSettings, HostConfig,
    HostConfigCgroupnsModeEnum, Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountImageOptions, MountType,
    MountVolumeOptions, PortBinding, ResourcesBlkioWeightDevice, ThrottleDevice,
};
use compose::model::{EndpointOptions, MountOptions, Network, Recursive, Selinux, Settings};

use super::body::{signed, some_list, some_map};
use crate::machine::{WantedBind, WantedEndpoint, WantedMachine};
use crate::{EngineError, ErrorKind};

/// The driver's option that names an interface (engines from 28 on).
const INTERFACE_OPTION: &str = "com.docker.network.endpoint.ifname";

/// What only newer engines know, and older ones would pass over: a key of the Compose file, the API, and the engine that
/// brought it.
const NEWER: [(&str, (usize, usize), &str); 8] = [
    ("bind.create_host_path with recursive", (1, 42), "23"),
    ("annotations", (1, 43), "24"),
    ("mac_address", (1, 44), "25"),
    ("bind.recursive", (1, 44), "25"),
    ("volume.subpath", (1, 45), "26"),
    ("gw_priority", (1, 48), "28"),
    ("interface_name", (1, 48), "28"),
    ("a mount of the type image", (1, 48), "28"),
];

/// Refuses what an engine that speaks this API would pass over in silence.
///
/// # Errors
///
/// [`ErrorKind::TooOld`] names the key.
pub(super) fn check(machine: &WantedMachine, what: &str, api: (usize, usize)) -> Result<(), EngineError> {
    let endpoint = |is: fn(&EndpointOptions) -> bool| machine.endpoints.values().any(|endpoint| is(&endpoint.options));
    let bind = |is: fn(&WantedBind) -> bool| machine.binds.iter().any(is);
    let wanted = [
        bind(|bind| !is_short(bind) && !bind.options.must_exist),
        !machine.settings.annotations.is_empty(),
        endpoint(|options| options.mac_address.is_some()),
        bind(|bind| matches!(bind.options.recursive, Some(Recursive::Writable | Recursive::Readonly))),
        machine.volume_options.values().any(|options| options.subpath.is_some()),
        endpoint(|options| options.gateway_priority != 0),
        endpoint(|options| options.interface_name.is_some()),
        !machine.images.is_empty(),
    ];
    match NEWER.iter().zip(wanted).find(|((_, since, _), wanted)| *wanted && api < *since) {
        Some(((key, _, engine), _)) => too_old(what, key, engine, api),
        None => Ok(()),
    }
}

/// The same for a network.
///
/// # Errors
///
/// [`ErrorKind::TooOld`] names the key.
pub(super) fn check_network(network: &Network, what: &str, api: (usize, usize)) -> Result<(), EngineError> {
    if network.enable_ipv4.is_some() && api < (1, 48) {
        return too_old(what, "enable_ipv4", "28", api);
    }
    Ok(())
}

fn too_old(what: &str, key: &str, engine: &str, (major, minor): (usize, usize)) -> Result<(), EngineError> {
    let why = format!("{key} needs an engine of version {engine}, and this one speaks API {major}.{minor}");
    Err(EngineError::new(ErrorKind::TooOld, what, why).with_hint(format!("update the engine, or leave {key} out")))
}

/// The request with what the machine gives.
pub(super) fn with_machine(body: ContainerCreateBody, machine: &WantedMachine) -> ContainerCreateBody {
    let settings = &machine.settings;
    let host = body.host_config.unwrap_or_default();
    ContainerCreateBody {
        domainname: settings.domainname.clone(),
        tty: settings.tty.then_some(true),
        open_stdin: settings.stdin_open.then_some(true),
        stdin_once: machine.stdin_once.then_some(true),
        exposed_ports: some_list(machine.exposed.clone()),
        host_config: Some(with_settings(with_mounts(with_namespaces(host, machine), machine), settings)),
        ..body
    }
}

/// A place on a network with what is said of it.
pub(super) fn with_endpoint(endpoint: EndpointSettings, said: &WantedEndpoint) -> EndpointSettings {
    let options = &said.options;
    let addresses = EndpointIpamConfig {
        ipv4_address: options.ipv4_address.map(|address| address.to_string()),
        ipv6_address: options.ipv6_address.map(|address| address.to_string()),
        link_local_ips: some_list(options.link_local_ips.iter().map(ToString::to_string).collect()),
    };
    let mut driver_opts = options.driver_opts.clone();
    driver_opts.extend(options.interface_name.clone().map(|name| (INTERFACE_OPTION.to_owned(), name)));
    EndpointSettings {
        ipam_config: (addresses != EndpointIpamConfig::default()).then_some(addresses),
        links: some_list(said.links.clone()),
        mac_address: options.mac_address.clone(),
        driver_opts: some_map(driver_opts),
        gw_priority: (options.gateway_priority != 0).then_some(i64::from(options.gateway_priority)),
        ..endpoint
    }
}

fn with_namespaces(host: HostConfig, machine: &WantedMachine) -> HostConfig {
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in &machine.ports {
        let binding = PortBinding {
            host_ip: port.host_ip.map(|address| address.to_string()),
            host_port: port.published.map(|published| published.to_string()),
        };
        let key = format!("{}/{}", port.target, port.protocol.name());
        bindings.entry(key).or_default().get_or_insert_default().push(binding);
    }
    HostConfig {
        network_mode: machine.network_mode.clone().or(host.network_mode),
        port_bindings: (!bindings.is_empty()).then_some(bindings),
        pid_mode: machine.pid_mode.clone(),
        ipc_mode: machine.ipc_mode.clone(),
        uts_mode: machine.uts_mode.clone(),
        userns_mode: machine.userns_mode.clone(),
        cgroupns_mode: machine.cgroupns_mode.as_deref().map(|mode| match mode {
            "host" => HostConfigCgroupnsModeEnum::HOST,
            _ => HostConfigCgroupnsModeEnum::PRIVATE,
        }),
        privileged: machine.privileged.then_some(true),
        volumes_from: some_list(machine.volumes_from.clone()),
        ..host
    }
}

fn with_mounts(host: HostConfig, machine: &WantedMachine) -> HostConfig {
    let mut binds = Vec::new();
    let mut mounts = host.mounts.unwrap_or_default();
    mounts.retain(|mount| match volume_text(mount, machine) {
        Some(text) => {
            binds.push(text);
            false
        }
        None => true,
    });
    for mount in &mut mounts {
        if let Some(options) = mount.target.as_ref().and_then(|target| machine.volume_options.get(target)) {
            mount.consistency = options.consistency.clone();
            let said = mount.volume_options.take().unwrap_or_default();
            mount.volume_options = Some(MountVolumeOptions {
                subpath: options.subpath.clone(),
                labels: some_map(options.labels.clone()),
                ..said
            });
        }
    }
    mounts.extend(machine.images.iter().map(|image| Mount {
        target: Some(image.target.clone()),
        source: Some(image.source.clone()),
        typ: Some(MountType::IMAGE),
        image_options: image.subpath.clone().map(|subpath| MountImageOptions { subpath: Some(subpath) }),
        ..Mount::default()
    }));
    let (short, long): (Vec<&WantedBind>, Vec<&WantedBind>) = machine.binds.iter().partition(|bind| is_short(bind));
    mounts.extend(long.into_iter().map(bind_mount));
    binds.extend(short.into_iter().map(bind_text));
    HostConfig { mounts: some_list(mounts), binds: some_list(binds), ..host }
}

/// A volume in the short way, which alone knows SELinux's labels and propagation.
fn volume_text(mount: &Mount, machine: &WantedMachine) -> Option<String> {
    let options = machine.volume_options.get(mount.target.as_ref()?)?;
    if options.selinux.is_none() && options.propagation.is_none() {
        return None;
    }
    let no_copy = mount.volume_options.as_ref().and_then(|options| options.no_copy) == Some(true);
    let source = mount.source.clone()?;
    let (target, read_only) = (mount.target.clone()?, mount.read_only == Some(true));
    let text = bind_text(&WantedBind { source, target, read_only, options: options.clone() });
    Some(if no_copy { format!("{text},nocopy") } else { text })
}

/// Whether a mount is told in the short way: the engine then makes a path that is not there, whatever its version, and
/// labels it for SELinux, but takes a colon for the path's end.
fn is_short(bind: &WantedBind) -> bool {
    !bind.options.must_exist && bind.options.recursive.is_none() && !bind.source.contains(':')
}

fn bind_text(bind: &WantedBind) -> String {
    let MountOptions { propagation, selinux, consistency, .. } = &bind.options;
    let selinux = selinux.map(|label| match label {
        Selinux::Shared => "z",
        Selinux::Private => "Z",
    });
    let words = [bind.read_only.then_some("ro"), selinux, propagation.as_deref(), consistency.as_deref()];
    let words: Vec<&str> = words.into_iter().flatten().collect();
    let options = if words.is_empty() { String::new() } else { format!(":{}", words.join(",")) };
    format!("{}:{}{options}", bind.source, bind.target)
}

fn bind_mount(bind: &WantedBind) -> Mount {
    let MountOptions { propagation, recursive, must_exist, consistency, .. } = &bind.options;
    let propagation = propagation.as_deref().map(|name| match name {
        "private" => MountBindOptionsPropagationEnum::PRIVATE,
        "shared" => MountBindOptionsPropagationEnum::SHARED,
        "rshared" => MountBindOptionsPropagationEnum::RSHARED,
        "slave" => MountBindOptionsPropagationEnum::SLAVE,
        "rslave" => MountBindOptionsPropagationEnum::RSLAVE,
        _ => MountBindOptionsPropagationEnum::RPRIVATE,
    });
    let is = |kind: Recursive| (*recursive == Some(kind)).then_some(true);
    Mount {
        target: Some(bind.target.clone()),
        source: Some(bind.source.clone()),
        typ: Some(MountType::BIND),
        read_only: Some(bind.read_only),
        consistency: consistency.clone(),
        bind_options: Some(MountBindOptions {
            propagation,
            non_recursive: is(Recursive::Disabled),
            create_mountpoint: (!must_exist).then_some(true),
            read_only_non_recursive: is(Recursive::Writable),
            read_only_force_recursive: is(Recursive::Readonly),
        }),
        ..Mount::default()
    }
}

fn with_settings(host: HostConfig, settings: &Settings) -> HostConfig {
    let (blkio, cpu) = (&settings.blkio, &settings.cpu);
    HostConfig {
        annotations: some_map(settings.annotations.clone()),
        blkio_weight: blkio.weight,
        blkio_weight_device: some_list(
            blkio
                .weight_device
                .iter()
                .map(|(path, weight)| ResourcesBlkioWeightDevice {
                    path: Some(path.clone()),
                    weight: Some(usize::from(*weight)),
                })
                .collect(),
        ),
        blkio_device_read_bps: rates(&blkio.read_bytes),
        blkio_device_read_iops: rates(&blkio.read_operations),
        blkio_device_write_bps: rates(&blkio.write_bytes),
        blkio_device_write_iops: rates(&blkio.write_operations),
        cgroup_parent: settings.cgroup_parent.clone(),
        cpu_shares: cpu.shares.map(signed),
        cpu_period: cpu.period_micros.map(signed),
        cpu_quota: cpu.quota_micros,
        cpu_realtime_period: cpu.rt_period_micros.map(signed),
        cpu_realtime_runtime: cpu.rt_runtime_micros.map(signed),
        cpuset_cpus: cpu.set.clone(),
        devices: some_list(
            settings
                .devices
                .iter()
                .map(|device| DeviceMapping {
                    path_on_host: Some(device.source.clone()),
                    path_in_container: Some(device.target.clone()),
                    cgroup_permissions: Some(device.permissions.clone()),
                })
                .collect(),
        ),
        device_cgroup_rules: some_list(settings.device_cgroup_rules.clone()),
        device_requests: some_list(
            settings
                .device_requests
                .iter()
                .map(|request| DeviceRequest {
                    driver: request.driver.clone(),
                    count: request.count,
                    device_ids: some_list(request.device_ids.clone()),
                    capabilities: some_list(request.capabilities.clone()).map(|all| vec![all]),
                    options: some_map(request.options.clone()),
                })
                .collect(),
        ),
        dns_options: some_list(settings.dns_options.clone()),
        dns_search: some_list(settings.dns_search.clone()),
        group_add: some_list(settings.group_add.iter().cloned().collect()),
        memory_swappiness: settings.memory_swappiness.map(i64::from),
        memory_swap: settings.memory_swap_bytes,
        oom_kill_disable: settings.oom_kill_disable.then_some(true),
        oom_score_adj: settings.oom_score_adj.map(i64::from),
        runtime: settings.runtime.clone(),
        storage_opt: some_map(settings.storage_options.clone()),
        ..host
    }
}

fn rates(by_path: &BTreeMap<String, u64>) -> Option<Vec<ThrottleDevice>> {
    let rate = |(path, rate): (&String, &u64)| ThrottleDevice { path: Some(path.clone()), rate: Some(signed(*rate)) };
    some_list(by_path.iter().map(rate).collect())
}
