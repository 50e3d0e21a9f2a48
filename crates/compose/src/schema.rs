//! The one table of keys: what each looks like, how overlays combine it, and what is refused, with the reason.
//!
//! Keys and their combination are those of the Compose Specification (05-services, 06-networks, 07-volumes, 08-deploy,
//! build, 13-merge). A key that is in no table is unknown, except `x-…`, which the specification leaves to others.

mod laptop;

use laptop::{
    BLKIO, CONFIG, DEVELOP, DEVICE, DEVICE_REQUEST, ENV_FILE, EXTENDS, EXTERNAL, GRANT, HOOK, INCLUDE, IPAM,
    MOUNT_IMAGE, SECRET,
};

use crate::Stage;

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
    /// A single value, or a mapping with these keys.
    Either(&'static [Key]),
    /// Not supported; says why or what to do.
    Refused(&'static str),
    /// Of this kind in a workspace, refused in a release with this reason.
    Laptop(&'static Kind, &'static str),
}

/// A key and its kind.
pub(crate) type Key = (&'static str, Kind);

/// The kind of a key in its table, as this stage has it: never [`Kind::Laptop`].
pub(crate) fn kind_of(keys: &[Key], name: &str, stage: Stage<'_>) -> Option<Kind> {
    keys.iter().find(|(key, _)| *key == name).map(|(_, kind)| at(*kind, stage))
}

/// What a kind of the table is at this stage.
fn at(kind: Kind, stage: Stage<'_>) -> Kind {
    match (kind, stage) {
        (Kind::Laptop(_, why), Stage::Release) => Kind::Refused(why),
        (Kind::Laptop(kind, _), Stage::Workspace(_)) => *kind,
        (kind, _) => kind,
    }
}

/// The names in a table that are not refused.
pub(crate) fn supported<'s>(keys: &'static [Key], stage: Stage<'s>) -> impl Iterator<Item = &'static str> + use<'s> {
    keys.iter().filter(move |(_, kind)| !matches!(at(*kind, stage), Kind::Refused(_))).map(|(name, _)| *name)
}

/// Whether the specification leaves a key to others.
pub(crate) fn is_extension(name: &str) -> bool {
    name.starts_with("x-")
}

use Kind::{
    Either, Entries, Hosts, Laptop, List, Logging, Named, NamedOrList, NamedOrWhole, Pairs, Refused, Section,
    ShortSection, Whole,
};

pub(crate) const TOP: &[Key] = &[
    ("configs", Laptop(&Named(CONFIG), "put the file into the image")),
    ("include", Laptop(&Entries(INCLUDE), "name the files as overlays")),
    ("models", Refused("run the model as a service")),
    ("name", Whole),
    ("networks", Named(NETWORK)),
    ("secrets", Laptop(&Named(SECRET), "give the value as a variable of the environment")),
    ("services", Named(SERVICE)),
    ("version", Whole),
    ("volumes", Named(VOLUME)),
];

pub(crate) const SERVICE: &[Key] = &[
    ("annotations", Laptop(&Pairs, "use labels")),
    ("attach", Laptop(&Whole, "logs are read with `longshore logs`")),
    ("blkio_config", Laptop(&Section(BLKIO), "limits are those of deploy.resources")),
    ("build", ShortSection("context", BUILD)),
    ("cap_add", List),
    ("cap_drop", List),
    ("cgroup", Laptop(&Whole, "containers get a cgroup namespace of their own")),
    ("cgroup_parent", Laptop(&Whole, "limits are those of deploy.resources")),
    ("command", Whole),
    ("configs", Laptop(&Entries(GRANT), "put the file into the image")),
    ("container_name", Laptop(&Whole, "a service may have several containers, so their names are made")),
    ("cpu_count", Refused("use deploy.resources.limits.cpus")),
    ("cpu_percent", Refused("use deploy.resources.limits.cpus")),
    ("cpu_period", Laptop(&Whole, "use deploy.resources.limits.cpus")),
    ("cpu_quota", Laptop(&Whole, "use deploy.resources.limits.cpus")),
    ("cpu_rt_period", Laptop(&Whole, "use deploy.resources.limits.cpus")),
    ("cpu_rt_runtime", Laptop(&Whole, "use deploy.resources.limits.cpus")),
    ("cpu_shares", Laptop(&Whole, "use deploy.resources.limits.cpus")),
    ("cpus", Whole),
    ("cpuset", Laptop(&Whole, "use deploy.resources.limits.cpus")),
    ("credential_spec", Refused("Windows containers are not supported")),
    ("depends_on", NamedOrList(DEPENDENCY)),
    ("deploy", Section(DEPLOY)),
    ("develop", Laptop(&Section(DEVELOP), "keep it in compose.dev.yaml, which is for the laptop alone")),
    ("device_cgroup_rules", Laptop(&List, "containers get no devices of the host")),
    ("devices", Laptop(&Entries(DEVICE), "containers get no devices of the host")),
    ("dns", List),
    ("dns_opt", Laptop(&List, "only the addresses under dns can be set")),
    ("dns_search", Laptop(&List, "only the addresses under dns can be set")),
    ("domainname", Laptop(&Whole, "use hostname")),
    ("driver_opts", Refused("networks are made with the engine's own options")),
    ("entrypoint", Whole),
    ("env_file", Laptop(&Entries(ENV_FILE), "write the variables under environment")),
    ("environment", Pairs),
    ("expose", List),
    ("extends", Laptop(&ShortSection("service", EXTENDS), "use a YAML anchor, or an overlay")),
    ("external_links", Laptop(&List, "a service reaches those of its own app by name")),
    ("extra_hosts", Hosts),
    ("gpus", Laptop(&Entries(DEVICE_REQUEST), "containers get no devices of the host")),
    ("group_add", Laptop(&List, "use user, with a group")),
    ("healthcheck", Section(HEALTHCHECK)),
    ("hostname", Whole),
    ("image", Whole),
    ("init", Whole),
    ("ipc", Laptop(&Whole, "containers share no namespace with the host or one another")),
    ("isolation", Refused("Windows containers are not supported")),
    ("label_file", Laptop(&List, "write the labels under labels")),
    ("labels", Pairs),
    ("links", Laptop(&List, "services reach one another by name without it")),
    ("logging", Logging),
    ("mac_address", Laptop(&Whole, "addresses are given by the engine")),
    ("mem_limit", Whole),
    ("mem_reservation", Whole),
    ("mem_swappiness", Laptop(&Whole, "use deploy.resources.limits.memory")),
    ("memswap_limit", Laptop(&Whole, "use deploy.resources.limits.memory")),
    ("models", Refused("run the model as a service")),
    ("network_mode", Laptop(&Whole, "containers share no namespace with the host or one another; use networks")),
    ("networks", NamedOrList(SERVICE_NETWORK)),
    ("oom_kill_disable", Laptop(&Whole, "use deploy.resources.limits.memory")),
    ("oom_score_adj", Laptop(&Whole, "use deploy.resources.limits.memory")),
    ("pid", Laptop(&Whole, "containers share no namespace with the host or one another")),
    ("pids_limit", Whole),
    ("platform", Laptop(&Whole, "the image's own platforms decide")),
    ("ports", Entries(PORT)),
    ("post_start", Laptop(&Entries(HOOK), "make it a job that others await with service_completed_successfully")),
    ("pre_start", Refused("make it a job that others await with service_completed_successfully")),
    ("pre_stop", Laptop(&Entries(HOOK), "let the program handle its stop_signal")),
    ("privileged", Whole),
    ("profiles", List),
    (
        "provider",
        Laptop(
            &Refused("start what it stands for yourself, and reach it through extra_hosts"),
            "a service is a container",
        ),
    ),
    ("pull_policy", Laptop(&Whole, "images are pulled by digest")),
    ("pull_refresh_after", Laptop(&Refused("write it as pull_policy: every_12h"), "images are pulled by digest")),
    ("read_only", Whole),
    ("restart", Whole),
    ("runtime", Laptop(&Whole, "the engine's own runtime is used")),
    ("scale", Whole),
    ("secrets", Laptop(&Entries(GRANT), "give the value as a variable of the environment")),
    ("security_opt", List),
    ("shm_size", Whole),
    ("stdin_open", Laptop(&Whole, "services have no terminal")),
    ("stop_grace_period", Whole),
    ("stop_signal", Whole),
    ("storage_opt", Laptop(&Pairs, "the engine's own storage is used")),
    ("sysctls", Pairs),
    ("tmpfs", List),
    ("tty", Laptop(&Whole, "services have no terminal")),
    ("ulimits", NamedOrWhole(ULIMIT)),
    (
        "use_api_socket",
        Laptop(&Refused("mount the engine's socket under volumes"), "containers do not reach the engine"),
    ),
    ("user", Whole),
    ("userns_mode", Laptop(&Whole, "containers share no namespace with the host or one another")),
    ("uts", Laptop(&Whole, "containers share no namespace with the host or one another")),
    ("volumes", Entries(MOUNT)),
    ("volumes_from", Laptop(&List, "name the volume in both services")),
    ("working_dir", Whole),
];

const BUILD: &[Key] = &[
    (
        "additional_contexts",
        Laptop(
            &Refused("the engine's builder is given one context; put what the build needs into it"),
            "what a build reads lies in its context",
        ),
    ),
    ("args", Pairs),
    ("cache_from", Laptop(&List, "the build server keeps its own cache")),
    ("cache_to", Laptop(&Refused("the engine keeps its own cache"), "the build server keeps its own cache")),
    ("context", Whole),
    ("dockerfile", Whole),
    ("dockerfile_inline", Laptop(&Whole, "write it into a file")),
    ("entitlements", Refused("builds run without privileges")),
    ("extra_hosts", Laptop(&Hosts, "builds use the build server's names")),
    ("isolation", Refused("Windows containers are not supported")),
    ("labels", Pairs),
    ("network", Whole),
    ("no_cache", Laptop(&Whole, "the same inputs give the same release")),
    ("platforms", Laptop(&List, "the build server's own platform is built")),
    ("privileged", Refused("builds run without privileges")),
    ("provenance", Laptop(&Refused("it is recorded when a release is built"), "provenance is always recorded")),
    ("pull", Laptop(&Whole, "bases are pinned by digest")),
    ("sbom", Laptop(&Refused("contents are examined when a release is built"), "contents are always examined")),
    (
        "secrets",
        Laptop(
            &Refused("the engine's builder takes no secrets without a session; give what is not secret as args"),
            "builds take arguments only",
        ),
    ),
    ("shm_size", Laptop(&Whole, "builds run with the engine's own limits")),
    (
        "ssh",
        Laptop(
            &Refused("the engine's builder takes no agent without a session; fetch private sources before the build"),
            "builds take arguments only",
        ),
    ),
    ("tags", Laptop(&List, "releases are addressed by digest")),
    ("target", Whole),
    ("ulimits", Laptop(&NamedOrWhole(ULIMIT), "builds run with the engine's own limits")),
];

const DEPENDENCY: &[Key] = &[("condition", Whole), ("required", Whole), ("restart", Whole)];

const DEPLOY: &[Key] = &[
    (
        "endpoint_mode",
        Laptop(&Refused("names of services lead to their containers"), "the proxy answers for a service"),
    ),
    ("labels", Pairs),
    ("mode", Whole),
    ("placement", Section(PLACEMENT)),
    ("replicas", Whole),
    ("resources", Section(RESOURCES)),
    ("restart_policy", Section(RESTART_POLICY)),
    (
        "rollback_config",
        Laptop(
            &Refused("nothing is rolled back on one machine"),
            "a rollback is a promotion and follows update_config",
        ),
    ),
    ("update_config", Section(UPDATE_CONFIG)),
];

const PLACEMENT: &[Key] = &[
    ("constraints", List),
    (
        "max_replicas_per_node",
        Laptop(
            &Refused("a workspace is one machine"),
            "copies are spread evenly; use mode: global for one on each host",
        ),
    ),
    ("preferences", Laptop(&Refused("a workspace is one machine"), "copies are spread evenly; use constraints")),
];

const RESOURCES: &[Key] = &[("limits", Section(LIMITS)), ("reservations", Section(RESERVATIONS))];

const LIMITS: &[Key] = &[("cpus", Whole), ("memory", Whole), ("pids", Whole)];

const RESERVATIONS: &[Key] = &[
    ("cpus", Whole),
    ("devices", Laptop(&Entries(DEVICE_REQUEST), "containers get no devices of the host")),
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
    ("app_protocol", Laptop(&Whole, "the proxy finds the protocol out by itself")),
    ("host_ip", Whole),
    ("mode", Whole),
    ("name", Whole),
    ("protocol", Whole),
    ("published", Whole),
    ("target", Whole),
];

const MOUNT: &[Key] = &[
    ("bind", Section(MOUNT_BIND)),
    ("consistency", Laptop(&Whole, "it means nothing on Linux")),
    ("image", Laptop(&Section(MOUNT_IMAGE), "use a volume")),
    ("read_only", Whole),
    ("source", Whole),
    ("target", Whole),
    ("tmpfs", Section(MOUNT_TMPFS)),
    ("type", Whole),
    ("volume", Section(MOUNT_VOLUME)),
];

const MOUNT_BIND: &[Key] = &[
    ("create_host_path", Laptop(&Whole, "the path has to be there")),
    ("propagation", Laptop(&Whole, "mounts stay private to the container")),
    ("recursive", Laptop(&Whole, "mounts stay private to the container")),
    ("selinux", Laptop(&Whole, "label the path on the host")),
];

const MOUNT_TMPFS: &[Key] = &[("mode", Whole), ("size", Whole)];

const MOUNT_VOLUME: &[Key] = &[
    ("labels", Laptop(&Pairs, "label the volume under the top-level volumes")),
    ("nocopy", Whole),
    ("subpath", Laptop(&Whole, "mount the whole volume")),
];

const SERVICE_NETWORK: &[Key] = &[
    ("aliases", List),
    ("driver_opts", Laptop(&Pairs, "networks are made with the engine's own options")),
    ("gw_priority", Laptop(&Whole, "the engine chooses the gateway")),
    ("interface_name", Laptop(&Whole, "the engine names interfaces")),
    ("ipv4_address", Laptop(&Whole, "addresses are given by the engine; use the service's name")),
    ("ipv6_address", Laptop(&Whole, "addresses are given by the engine; use the service's name")),
    ("link_local_ips", Laptop(&List, "addresses are given by the engine; use the service's name")),
    ("mac_address", Laptop(&Whole, "addresses are given by the engine")),
    ("priority", Laptop(&Whole, "networks are joined in the order of their names")),
];

const ULIMIT: &[Key] = &[("hard", Whole), ("soft", Whole)];

const NETWORK: &[Key] = &[
    ("attachable", Laptop(&Whole, "only the app's own services join")),
    ("driver", Whole),
    ("driver_opts", Laptop(&Pairs, "networks are made with the engine's own options")),
    ("enable_ipv4", Laptop(&Whole, "networks are made with the engine's own options")),
    ("enable_ipv6", Laptop(&Whole, "networks are made with the engine's own options")),
    ("external", Laptop(&Either(EXTERNAL), "each environment makes networks of its own")),
    ("internal", Whole),
    ("ipam", Laptop(&Section(IPAM), "the host chooses a free subnet")),
    ("labels", Pairs),
    ("name", Laptop(&Whole, "each environment makes networks of its own, and names them")),
];

const VOLUME: &[Key] = &[
    ("driver", Whole),
    ("driver_opts", Laptop(&Pairs, "they could lead to any path of the host")),
    ("external", Either(EXTERNAL)),
    ("labels", Pairs),
    ("name", Whole),
];

#[cfg(test)]
mod tests {
    use super::laptop::{BLKIO_RATE, BLKIO_WEIGHT, POOL, WATCH};
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

    /// Tables below a key that a release refuses as a whole.
    const LAPTOP_ONLY: &[(&str, &[Key])] = &[
        ("{include: [{KEY: x}]}", INCLUDE),
        ("configs: {n: {KEY: x}}", CONFIG),
        ("secrets: {n: {KEY: x}}", SECRET),
        ("services: {web: {configs: [{KEY: x}]}}", GRANT),
        ("services: {web: {blkio_config: {KEY: x}}}", BLKIO),
        ("services: {web: {blkio_config: {device_read_bps: [{KEY: x}]}}}", BLKIO_RATE),
        ("services: {web: {blkio_config: {weight_device: [{KEY: x}]}}}", BLKIO_WEIGHT),
        ("services: {web: {develop: {KEY: x}}}", DEVELOP),
        ("services: {web: {develop: {watch: [{KEY: x}]}}}", WATCH),
        ("services: {web: {post_start: [{KEY: x}]}}", HOOK),
        ("services: {web: {devices: [{KEY: x}]}}", DEVICE),
        ("services: {web: {gpus: [{KEY: x}]}}", DEVICE_REQUEST),
        ("services: {web: {env_file: [{KEY: x}]}}", ENV_FILE),
        ("networks: {n: {external: {KEY: x}}}", EXTERNAL),
        ("networks: {n: {ipam: {KEY: x}}}", IPAM),
        ("networks: {n: {ipam: {config: [{KEY: x}]}}}", POOL),
        ("services: {web: {volumes: [{image: {KEY: x}}]}}", MOUNT_IMAGE),
    ];

    /// Every table that a stage reads, with the stage.
    fn tables() -> impl Iterator<Item = (Stage<'static>, &'static str, &'static [Key])> {
        let release = TABLES.iter().map(|(text, keys)| (Stage::Release, *text, *keys));
        let workspace = TABLES.iter().chain(LAPTOP_ONLY).map(|(text, keys)| (WORKSPACE, *text, *keys));
        release.chain(workspace)
    }

    const WORKSPACE: Stage<'static> = Stage::Workspace(&|_| Ok(None));

    fn said_of(text: &str, key: &str, stage: Stage<'_>) -> Vec<String> {
        let text = text.replace("KEY", key);
        let diagnostics = load(&[Source { name: "compose.yaml", text: &text }], stage, &|_| None)
            .map_or_else(|error| error.diagnostics, |loaded| loaded.warnings);
        diagnostics.into_iter().filter(|found| found.path.ends_with(key)).map(|found| found.to_string()).collect()
    }

    #[test]
    fn tables_are_sorted_and_have_no_key_twice() {
        for (_, text, keys) in tables() {
            assert!(keys.is_sorted_by(|(one, _), (other, _)| one < other), "{text}");
        }
    }

    #[test]
    fn every_refused_key_is_refused_wherever_it_stands() {
        for (stage, text, keys) in tables() {
            for (key, kind) in keys {
                let said = said_of(text, key, stage).join("\n");
                match at(*kind, stage) {
                    Refused(why) => {
                        assert!(said.contains("does not support") && said.contains(why), "{text} with {key}: {said}");
                    }
                    _ => assert!(!said.contains(&format!("does not support {key:?}")), "{text} with {key}: {said}"),
                }
            }
        }
    }

    #[test]
    fn every_table_refuses_unknown_keys_and_leaves_extensions_alone() {
        for (stage, text, keys) in tables() {
            // Its first key, misspelt.
            let known = supported(keys, stage).next();
            let wrong = format!("{}q", known.unwrap_or("anything"));
            let said = said_of(text, &wrong, stage).join("\n");
            assert!(said.contains("there is no key"), "{text} with {wrong}: {said}");
            assert!(known.is_none_or(|known| said.contains(known)), "{said}");
            assert_eq!(said_of(text, "x-anything", stage), Vec::<String>::new(), "{text}");
        }
    }
}
