//! The one table of keys: what each looks like, how overlays combine it, and what is refused, with the reason.
//!
//! Keys and their combination are those of the Compose Specification (05-services, 06-networks, 07-volumes, 08-deploy,
//! build, 13-merge). A key that is in no table is unknown, except `x-…`, which the specification leaves to others.

/// What a value looks like and how one of a later file is laid over one of an earlier.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Taken whole: the later one stands in place of the earlier.
    Whole,
    /// A list; the later one is added at the end. A single value is a list of one.
    List,
    /// A list of single values or of mappings with these keys; the later one is added at the end.
    Entries(&'static [Key]),
    /// A mapping with these keys, combined key by key.
    Section(&'static [Key]),
    /// As `Section`; a single value stands for one with just this key.
    ShortSection(&'static str, &'static [Key]),
    /// A mapping from free names to sections with these keys; an empty value is an empty section.
    Named(&'static [Key]),
    /// As `Named`; a list of names stands for empty sections.
    NamedOrList(&'static [Key]),
    /// As `Named`, where a single value may stand in place of a section.
    NamedOrWhole(&'static [Key]),
    /// A mapping from names to values, or a list of `NAME=value`.
    Pairs,
    /// As `Pairs`, where one name may have several values and `NAME:value` is good as well.
    Hosts,
    /// Combined key by key, unless the two name different drivers: then the later one stands.
    Logging,
    /// Not supported; says why or what to do.
    Refused(&'static str),
}

/// A key and its kind.
pub(crate) type Key = (&'static str, Kind);

/// The kind of a key in its table.
pub(crate) fn kind_of(keys: &[Key], name: &str) -> Option<Kind> {
    keys.iter().find(|(key, _)| *key == name).map(|(_, kind)| *kind)
}

/// The names in a table that are not refused.
pub(crate) fn supported(keys: &'static [Key]) -> impl Iterator<Item = &'static str> {
    keys.iter().filter(|(_, kind)| !matches!(kind, Kind::Refused(_))).map(|(name, _)| *name)
}

/// Whether the specification leaves a key to others.
pub(crate) fn is_extension(name: &str) -> bool {
    name.starts_with("x-")
}

use Kind::{
    Entries, Hosts, List, Logging, Named, NamedOrList, NamedOrWhole, Pairs, Refused, Section, ShortSection, Whole,
};

pub(crate) const TOP: &[Key] = &[
    ("configs", Refused("put the file into the image")),
    ("include", Refused("name the files as overlays")),
    ("models", Refused("run the model as a service")),
    ("name", Whole),
    ("networks", Named(NETWORK)),
    ("secrets", Refused("give the value as a variable of the environment")),
    ("services", Named(SERVICE)),
    ("version", Whole),
    ("volumes", Named(VOLUME)),
];

const SERVICE: &[Key] = &[
    ("annotations", Refused("use labels")),
    ("attach", Refused("logs are read with `longshore logs`")),
    ("blkio_config", Refused("limits are those of deploy.resources")),
    ("build", ShortSection("context", BUILD)),
    ("cap_add", List),
    ("cap_drop", List),
    ("cgroup", Refused("containers get a cgroup namespace of their own")),
    ("cgroup_parent", Refused("limits are those of deploy.resources")),
    ("command", Whole),
    ("configs", Refused("put the file into the image")),
    ("container_name", Refused("a service may have several containers, so their names are made")),
    ("cpu_count", Refused("use deploy.resources.limits.cpus")),
    ("cpu_percent", Refused("use deploy.resources.limits.cpus")),
    ("cpu_period", Refused("use deploy.resources.limits.cpus")),
    ("cpu_quota", Refused("use deploy.resources.limits.cpus")),
    ("cpu_rt_period", Refused("use deploy.resources.limits.cpus")),
    ("cpu_rt_runtime", Refused("use deploy.resources.limits.cpus")),
    ("cpu_shares", Refused("use deploy.resources.limits.cpus")),
    ("cpus", Whole),
    ("cpuset", Refused("use deploy.resources.limits.cpus")),
    ("credential_spec", Refused("Windows containers are not supported")),
    ("depends_on", NamedOrList(DEPENDENCY)),
    ("deploy", Section(DEPLOY)),
    ("develop", Refused("keep it in compose.dev.yaml, which is for the laptop alone")),
    ("device_cgroup_rules", Refused("containers get no devices of the host")),
    ("devices", Refused("containers get no devices of the host")),
    ("dns", List),
    ("dns_opt", Refused("only the addresses under dns can be set")),
    ("dns_search", Refused("only the addresses under dns can be set")),
    ("domainname", Refused("use hostname")),
    ("driver_opts", Refused("networks are made with the engine's own options")),
    ("entrypoint", Whole),
    ("env_file", Refused("write the variables under environment")),
    ("environment", Pairs),
    ("expose", List),
    ("extends", Refused("use a YAML anchor, or an overlay")),
    ("external_links", Refused("a service reaches those of its own app by name")),
    ("extra_hosts", Hosts),
    ("gpus", Refused("containers get no devices of the host")),
    ("group_add", Refused("use user, with a group")),
    ("healthcheck", Section(HEALTHCHECK)),
    ("hostname", Whole),
    ("image", Whole),
    ("init", Whole),
    ("ipc", Refused("containers share no namespace with the host or one another")),
    ("isolation", Refused("Windows containers are not supported")),
    ("label_file", Refused("write the labels under labels")),
    ("labels", Pairs),
    ("links", Refused("services reach one another by name without it")),
    ("logging", Logging),
    ("mac_address", Refused("addresses are given by the engine")),
    ("mem_limit", Whole),
    ("mem_reservation", Whole),
    ("mem_swappiness", Refused("use deploy.resources.limits.memory")),
    ("memswap_limit", Refused("use deploy.resources.limits.memory")),
    ("models", Refused("run the model as a service")),
    ("network_mode", Refused("containers share no namespace with the host or one another; use networks")),
    ("networks", NamedOrList(SERVICE_NETWORK)),
    ("oom_kill_disable", Refused("use deploy.resources.limits.memory")),
    ("oom_score_adj", Refused("use deploy.resources.limits.memory")),
    ("pid", Refused("containers share no namespace with the host or one another")),
    ("pids_limit", Whole),
    ("platform", Refused("the image's own platforms decide")),
    ("ports", Entries(PORT)),
    ("post_start", Refused("make it a job that others await with service_completed_successfully")),
    ("pre_stop", Refused("let the program handle its stop_signal")),
    ("privileged", Whole),
    ("profiles", List),
    ("provider", Refused("a service is a container")),
    ("pull_policy", Refused("images are pulled by digest")),
    ("read_only", Whole),
    ("restart", Whole),
    ("runtime", Refused("the engine's own runtime is used")),
    ("scale", Whole),
    ("secrets", Refused("give the value as a variable of the environment")),
    ("security_opt", List),
    ("shm_size", Whole),
    ("stdin_open", Refused("services have no terminal")),
    ("stop_grace_period", Whole),
    ("stop_signal", Whole),
    ("storage_opt", Refused("the engine's own storage is used")),
    ("sysctls", Pairs),
    ("tmpfs", List),
    ("tty", Refused("services have no terminal")),
    ("ulimits", NamedOrWhole(ULIMIT)),
    ("use_api_socket", Refused("containers do not reach the engine")),
    ("user", Whole),
    ("userns_mode", Refused("containers share no namespace with the host or one another")),
    ("uts", Refused("containers share no namespace with the host or one another")),
    ("volumes", Entries(MOUNT)),
    ("volumes_from", Refused("name the volume in both services")),
    ("working_dir", Whole),
];

const BUILD: &[Key] = &[
    ("additional_contexts", Refused("what a build reads lies in its context")),
    ("args", Pairs),
    ("cache_from", Refused("the build server keeps its own cache")),
    ("cache_to", Refused("the build server keeps its own cache")),
    ("context", Whole),
    ("dockerfile", Whole),
    ("dockerfile_inline", Refused("write it into a file")),
    ("entitlements", Refused("builds run without privileges")),
    ("extra_hosts", Refused("builds use the build server's names")),
    ("isolation", Refused("Windows containers are not supported")),
    ("labels", Pairs),
    ("network", Whole),
    ("no_cache", Refused("the same inputs give the same release")),
    ("platforms", Refused("the build server's own platform is built")),
    ("privileged", Refused("builds run without privileges")),
    ("provenance", Refused("provenance is always recorded")),
    ("pull", Refused("bases are pinned by digest")),
    ("sbom", Refused("contents are always examined")),
    ("secrets", Refused("builds take arguments only")),
    ("shm_size", Refused("builds run with the engine's own limits")),
    ("ssh", Refused("builds take arguments only")),
    ("tags", Refused("releases are addressed by digest")),
    ("target", Whole),
    ("ulimits", Refused("builds run with the engine's own limits")),
];

const DEPENDENCY: &[Key] = &[("condition", Whole), ("required", Whole), ("restart", Whole)];

const DEPLOY: &[Key] = &[
    ("endpoint_mode", Refused("the proxy answers for a service")),
    ("labels", Pairs),
    ("mode", Whole),
    ("placement", Section(PLACEMENT)),
    ("replicas", Whole),
    ("resources", Section(RESOURCES)),
    ("restart_policy", Section(RESTART_POLICY)),
    ("rollback_config", Refused("a rollback is a promotion and follows update_config")),
    ("update_config", Section(UPDATE_CONFIG)),
];

const PLACEMENT: &[Key] = &[
    ("constraints", List),
    ("max_replicas_per_node", Refused("copies are spread evenly; use mode: global for one on each host")),
    ("preferences", Refused("copies are spread evenly; use constraints")),
];

const RESOURCES: &[Key] = &[("limits", Section(LIMITS)), ("reservations", Section(RESERVATIONS))];

const LIMITS: &[Key] = &[("cpus", Whole), ("memory", Whole), ("pids", Whole)];

const RESERVATIONS: &[Key] = &[
    ("cpus", Whole),
    ("devices", Refused("containers get no devices of the host")),
    ("generic_resources", Refused("only cpus and memory are known")),
    ("memory", Whole),
];

const RESTART_POLICY: &[Key] = &[("condition", Whole), ("delay", Whole), ("max_attempts", Whole), ("window", Whole)];

const UPDATE_CONFIG: &[Key] = &[
    ("delay", Whole),
    ("failure_action", Whole),
    ("max_failure_ratio", Refused("one failure stops an update")),
    ("monitor", Whole),
    ("order", Whole),
    ("parallelism", Whole),
];

const HEALTHCHECK: &[Key] = &[
    ("disable", Whole),
    ("interval", Whole),
    ("retries", Whole),
    ("start_interval", Whole),
    ("start_period", Whole),
    ("test", Whole),
    ("timeout", Whole),
];

/// `logging`.
pub(crate) const LOGGING: &[Key] = &[("driver", Whole), ("options", Pairs)];

const PORT: &[Key] = &[
    ("app_protocol", Refused("the proxy finds the protocol out by itself")),
    ("host_ip", Whole),
    ("mode", Whole),
    ("name", Whole),
    ("protocol", Whole),
    ("published", Whole),
    ("target", Whole),
];

const MOUNT: &[Key] = &[
    ("bind", Section(MOUNT_BIND)),
    ("consistency", Refused("it means nothing on Linux")),
    ("image", Refused("use a volume")),
    ("read_only", Whole),
    ("source", Whole),
    ("target", Whole),
    ("tmpfs", Section(MOUNT_TMPFS)),
    ("type", Whole),
    ("volume", Section(MOUNT_VOLUME)),
];

const MOUNT_BIND: &[Key] = &[
    ("create_host_path", Refused("the path has to be there")),
    ("propagation", Refused("mounts stay private to the container")),
    ("recursive", Refused("mounts stay private to the container")),
    ("selinux", Refused("label the path on the host")),
];

const MOUNT_TMPFS: &[Key] = &[("mode", Whole), ("size", Whole)];

const MOUNT_VOLUME: &[Key] = &[
    ("labels", Refused("label the volume under the top-level volumes")),
    ("nocopy", Whole),
    ("subpath", Refused("mount the whole volume")),
];

const SERVICE_NETWORK: &[Key] = &[
    ("aliases", List),
    ("driver_opts", Refused("networks are made with the engine's own options")),
    ("gw_priority", Refused("the engine chooses the gateway")),
    ("interface_name", Refused("the engine names interfaces")),
    ("ipv4_address", Refused("addresses are given by the engine; use the service's name")),
    ("ipv6_address", Refused("addresses are given by the engine; use the service's name")),
    ("link_local_ips", Refused("addresses are given by the engine; use the service's name")),
    ("mac_address", Refused("addresses are given by the engine")),
    ("priority", Refused("networks are joined in the order of their names")),
];

const ULIMIT: &[Key] = &[("hard", Whole), ("soft", Whole)];

const NETWORK: &[Key] = &[
    ("attachable", Refused("only the app's own services join")),
    ("driver", Whole),
    ("driver_opts", Refused("networks are made with the engine's own options")),
    ("enable_ipv4", Refused("networks are made with the engine's own options")),
    ("enable_ipv6", Refused("networks are made with the engine's own options")),
    ("external", Refused("each environment makes networks of its own")),
    ("internal", Whole),
    ("ipam", Refused("the host chooses a free subnet")),
    ("labels", Pairs),
    ("name", Refused("each environment makes networks of its own, and names them")),
];

const VOLUME: &[Key] = &[
    ("driver", Whole),
    ("driver_opts", Refused("they could lead to any path of the host")),
    ("external", Whole),
    ("labels", Pairs),
    ("name", Whole),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Source, load};

    /// Every table with the text that leads to it; `KEY` stands where its key is written.
    const TABLES: &[(&str, &[Key])] = &[
        ("{KEY: x}", TOP),
        ("services: {web: {KEY: x}}", SERVICE),
        ("services: {web: {build: {KEY: x}}}", BUILD),
        ("services: {web: {depends_on: {db: {KEY: x}}}}", DEPENDENCY),
        ("services: {web: {deploy: {KEY: x}}}", DEPLOY),
        ("services: {web: {deploy: {placement: {KEY: x}}}}", PLACEMENT),
        ("services: {web: {deploy: {resources: {KEY: x}}}}", RESOURCES),
        ("services: {web: {deploy: {resources: {limits: {KEY: x}}}}}", LIMITS),
        ("services: {web: {deploy: {resources: {reservations: {KEY: x}}}}}", RESERVATIONS),
        ("services: {web: {deploy: {restart_policy: {KEY: x}}}}", RESTART_POLICY),
        ("services: {web: {deploy: {update_config: {KEY: x}}}}", UPDATE_CONFIG),
        ("services: {web: {healthcheck: {KEY: x}}}", HEALTHCHECK),
        ("services: {web: {logging: {KEY: x}}}", LOGGING),
        ("services: {web: {ports: [{KEY: x}]}}", PORT),
        ("services: {web: {volumes: [{KEY: x}]}}", MOUNT),
        ("services: {web: {volumes: [{bind: {KEY: x}}]}}", MOUNT_BIND),
        ("services: {web: {volumes: [{tmpfs: {KEY: x}}]}}", MOUNT_TMPFS),
        ("services: {web: {volumes: [{volume: {KEY: x}}]}}", MOUNT_VOLUME),
        ("services: {web: {networks: {n: {KEY: x}}}}", SERVICE_NETWORK),
        ("services: {web: {ulimits: {n: {KEY: x}}}}", ULIMIT),
        ("networks: {n: {KEY: x}}", NETWORK),
        ("volumes: {n: {KEY: x}}", VOLUME),
    ];

    fn said_of(text: &str, key: &str) -> Vec<String> {
        let text = text.replace("KEY", key);
        let diagnostics = load(&[Source { name: "compose.yaml", text: &text }], &|_| None)
            .map_or_else(|error| error.diagnostics, |loaded| loaded.warnings);
        diagnostics.into_iter().filter(|found| found.path.ends_with(key)).map(|found| found.to_string()).collect()
    }

    #[test]
    fn tables_are_sorted_and_have_no_key_twice() {
        for (text, keys) in TABLES {
            assert!(keys.is_sorted_by(|(one, _), (other, _)| one < other), "{text}");
        }
    }

    #[test]
    fn every_refused_key_is_refused_wherever_it_stands() {
        for (text, keys) in TABLES {
            for (key, kind) in *keys {
                if let Refused(hint) = kind {
                    let said = said_of(text, key).join("\n");
                    assert!(said.contains("does not support") && said.contains(hint), "{text} with {key}: {said}");
                }
            }
        }
    }

    #[test]
    fn every_table_refuses_unknown_keys_and_leaves_extensions_alone() {
        for (text, keys) in TABLES {
            // Its first key, misspelt.
            let known = supported(keys).next().unwrap_or("anything");
            let wrong = format!("{known}q");
            let said = said_of(text, &wrong).join("\n");
            assert!(said.contains("there is no key"), "{text} with {wrong}: {said}");
            assert!(keys.iter().all(|(_, kind)| matches!(kind, Refused(_))) || said.contains(known), "{said}");
            assert_eq!(said_of(text, "x-anything"), Vec::<String>::new(), "{text}");
        }
    }
}
