//! Which parts of a definition only a workspace may have: what a host of a hub refuses (a39).

use super::{
    EndpointOptions, Mount, MountOptions, Namespaces, Network, Port, Protocol, Service, ServiceDefinition, Settings,
};

impl ServiceDefinition {
    /// The first key, as a Compose file has it, that only a workspace's definition can have; `None` for every definition
    /// of a release. Paths of the host, `privileged` and capabilities are read in releases too: policy looks at them.
    pub fn workspace_only(&self) -> Option<&'static str> {
        let ServiceDefinition { service, networks, volumes, configs, secrets } = self;
        let top = [
            ("configs", !configs.is_empty()),
            ("secrets", !secrets.is_empty()),
            ("volumes.driver_opts", volumes.values().any(|volume| !volume.driver_opts.is_empty())),
        ];
        set(&top).or_else(|| networks.values().find_map(network)).or_else(|| self::service(service))
    }
}

impl Network {
    /// The first key that only a workspace's network can have.
    pub fn workspace_only(&self) -> Option<&'static str> {
        network(self)
    }
}

fn set(keys: &[(&'static str, bool)]) -> Option<&'static str> {
    keys.iter().find(|(_, is_set)| *is_set).map(|(key, _)| *key)
}

fn network(network: &Network) -> Option<&'static str> {
    // What a release may say stands first; a new field must be put on one side here.
    let Network {
        driver: _,
        internal: _,
        labels: _,
        name,
        external,
        attachable,
        driver_opts,
        enable_ipv4,
        enable_ipv6,
        ipam,
    } = network;
    set(&[
        ("networks.name", name.is_some()),
        ("networks.external", *external),
        ("networks.attachable", *attachable),
        ("networks.driver_opts", !driver_opts.is_empty()),
        ("networks.enable_ipv4", enable_ipv4.is_some()),
        ("networks.enable_ipv6", enable_ipv6.is_some()),
        ("networks.ipam", *ipam != Default::default()),
    ])
}

fn service(service: &Service) -> Option<&'static str> {
    set(&[
        ("expose", !service.expose_other.is_empty()),
        ("container_name", service.container_name.is_some()),
        ("attach", service.detached),
        ("pull_policy", service.pull_policy.is_some()),
        ("configs", !service.configs.is_empty()),
        ("secrets", !service.secrets.is_empty()),
        ("links", !service.links.is_empty()),
        ("external_links", !service.external_links.is_empty()),
        ("volumes_from", !service.volumes_from.is_empty()),
        ("post_start", !service.post_start.is_empty()),
        ("pre_stop", !service.pre_stop.is_empty()),
        ("develop", !service.watch.is_empty()),
    ])
    .or_else(|| namespaces(&service.namespaces))
    .or_else(|| settings(&service.settings))
    .or_else(|| service.ports.iter().find_map(port))
    .or_else(|| service.volumes.iter().find_map(mount))
    .or_else(|| {
        let joined = service.networks.values().any(|network| network.options != EndpointOptions::default());
        set(&[("networks", joined)])
    })
}

fn namespaces(namespaces: &Namespaces) -> Option<&'static str> {
    let Namespaces { network, pid, ipc, uts, user, cgroup } = namespaces;
    set(&[
        ("network_mode", network.is_some()),
        ("pid", pid.is_some()),
        ("ipc", ipc.is_some()),
        ("uts", uts.is_some()),
        ("userns_mode", user.is_some()),
        ("cgroup", cgroup.is_some()),
    ])
}

fn settings(settings: &Settings) -> Option<&'static str> {
    let Settings {
        annotations,
        blkio,
        cgroup_parent,
        cpu,
        devices,
        device_cgroup_rules,
        device_requests,
        dns_options,
        dns_search,
        domainname,
        group_add,
        memory_swappiness,
        memory_swap_bytes,
        oom_kill_disable,
        oom_score_adj,
        platform,
        runtime,
        stdin_open,
        storage_options,
        tty,
    } = settings;
    set(&[
        ("annotations", !annotations.is_empty()),
        ("blkio_config", *blkio != Default::default()),
        ("cgroup_parent", cgroup_parent.is_some()),
        ("cpu_shares", *cpu != Default::default()),
        ("devices", !devices.is_empty()),
        ("device_cgroup_rules", !device_cgroup_rules.is_empty()),
        ("gpus", !device_requests.is_empty()),
        ("dns_opt", !dns_options.is_empty()),
        ("dns_search", !dns_search.is_empty()),
        ("domainname", domainname.is_some()),
        ("group_add", !group_add.is_empty()),
        ("mem_swappiness", memory_swappiness.is_some()),
        ("memswap_limit", memory_swap_bytes.is_some()),
        ("oom_kill_disable", *oom_kill_disable),
        ("oom_score_adj", oom_score_adj.is_some()),
        ("platform", platform.is_some()),
        ("runtime", runtime.is_some()),
        ("stdin_open", *stdin_open),
        ("storage_opt", !storage_options.is_empty()),
        ("tty", *tty),
    ])
}

fn port(port: &Port) -> Option<&'static str> {
    let Port { target: _, published: _, host_ip: _, protocol, name: _, published_last, app_protocol, host_mode } = port;
    let laptop = *protocol != Protocol::Tcp || published_last.is_some() || app_protocol.is_some() || *host_mode;
    set(&[("ports", laptop)])
}

fn mount(mount: &Mount) -> Option<&'static str> {
    let laptop = match mount {
        Mount::Volume { options, .. } | Mount::Bind { options, .. } => *options != MountOptions::default(),
        Mount::Image { .. } => true,
        Mount::Tmpfs { .. } => false,
    };
    set(&[("volumes", laptop)])
}
