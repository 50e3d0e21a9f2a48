//! One service.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{deploy, mounts, ports};
use crate::diagnostic::Findings;
use crate::field::{Field, Section};
use crate::interpolate::Environment;
use crate::model::{
    Build, Condition, DEFAULT_NETWORK, Dependency, HealthTest, Healthcheck, Logging, Restart, Service, ServiceNetwork,
    Ulimit,
};
use crate::scalar;

pub(crate) fn service(field: &Field<'_>, environment: Environment<'_>, findings: &mut Findings<'_>) -> Service {
    let mut section = Section { field, findings };
    let (volumes, tmpfs) = mounts::mounts(&mut section);
    let (ports, expose) = (ports::ports(&mut section), ports::expose(&mut section));
    let service = Service {
        image: section.string("image"),
        build: section.get("build").map(|build| self::build(&build, environment, section.findings)),
        command: command(&mut section, "command"),
        entrypoint: command(&mut section, "entrypoint"),
        environment: environment_read(&mut section, environment),
        ports,
        expose,
        volumes,
        tmpfs,
        networks: networks(&mut section),
        depends_on: depends_on(&mut section),
        healthcheck: section.get("healthcheck").map(|field| healthcheck(&field, section.findings)),
        deploy: deploy::deploy(&mut section),
        restart: section.read("restart", restart),
        stop_signal: section.read("stop_signal", scalar::signal),
        stop_grace_period_micros: section.read("stop_grace_period", scalar::duration_micros),
        user: section.string("user"),
        working_dir: section.read("working_dir", scalar::container_path),
        hostname: section.string("hostname"),
        init: section.read("init", scalar::boolean),
        read_only: section.boolean("read_only"),
        cap_add: section.names("cap_add"),
        cap_drop: section.names("cap_drop"),
        privileged: section.boolean("privileged"),
        security_opt: section.names("security_opt"),
        ulimits: ulimits(&mut section),
        sysctls: section.labels("sysctls"),
        labels: section.labels("labels"),
        logging: section.get("logging").map(|field| logging(&field, section.findings)),
        extra_hosts: extra_hosts(&mut section),
        dns: section.get("dns").map(|field| field.read_all(section.findings, address)).unwrap_or_default(),
        shm_size_bytes: section.read("shm_size", scalar::bytes),
        profiles: section.names("profiles"),
    };
    if service.image.is_none() && service.build.is_none() {
        let hint = "write `image:` or `build:`".to_owned();
        findings.error_with_hint(field.mark, &field.path, "the service has neither an image nor a build", hint);
    }
    service
}

fn build(field: &Field<'_>, environment: Environment<'_>, findings: &mut Findings<'_>) -> Build {
    let mut section = Section { field, findings };
    // Without a value an argument is the environment's; the Dockerfile's own default holds when that has none.
    let args = match section.get("args") {
        Some(args) => args
            .pairs(section.findings)
            .into_iter()
            .filter_map(|(name, value)| value.or_else(|| environment(&name)).map(|value| (name, value)))
            .collect(),
        None => BTreeMap::new(),
    };
    Build {
        context: section.read("context", build_context).unwrap_or_else(|| ".".to_owned()),
        dockerfile: section.read("dockerfile", dockerfile),
        args,
        target: section.string("target"),
        labels: section.labels("labels"),
        network: section.string("network"),
    }
}

fn build_context(text: &str) -> Result<String, String> {
    if text.contains("://") || text.starts_with("git@") {
        return Err("Longshore builds folders of the app's own repository, not addresses".to_owned());
    }
    scalar::relative_path(text)
}

fn dockerfile(text: &str) -> Result<String, String> {
    let path = scalar::relative_path(text)?;
    if path == ".." || path.starts_with("../") {
        return Err(format!("{text:?} lies outside the build's context"));
    }
    Ok(path)
}

/// A text is split into words, a list taken as it is; an empty one of either clears what the image has.
fn command(section: &mut Section<'_, '_, '_, '_>, key: &str) -> Option<Vec<String>> {
    let field = section.get(key)?;
    match field.items().next() {
        Some(_) => Some(field.strings(section.findings)),
        None if field.is_list() => Some(Vec::new()),
        None => field.read(section.findings, scalar::words),
    }
}

fn environment_read(
    section: &mut Section<'_, '_, '_, '_>,
    environment: Environment<'_>,
) -> BTreeMap<String, Option<String>> {
    let Some(field) = section.get("environment") else { return BTreeMap::new() };
    let pairs = field.pairs(section.findings);
    pairs.into_iter().map(|(name, value)| (name.clone(), value.or_else(|| environment(&name)))).collect()
}

fn networks(section: &mut Section<'_, '_, '_, '_>) -> BTreeMap<String, ServiceNetwork> {
    let mut networks = BTreeMap::new();
    if let Some(field) = section.get("networks") {
        for (name, network) in field.entries() {
            let mut inner = Section { field: &network, findings: section.findings };
            networks.insert(name.to_owned(), ServiceNetwork { aliases: inner.names("aliases") });
        }
    }
    if networks.is_empty() {
        networks.insert(DEFAULT_NETWORK.to_owned(), ServiceNetwork::default());
    }
    networks
}

fn depends_on(section: &mut Section<'_, '_, '_, '_>) -> BTreeMap<String, Dependency> {
    const CONDITIONS: &[(&str, Condition)] = &[
        ("service_started", Condition::ServiceStarted),
        ("service_healthy", Condition::ServiceHealthy),
        ("service_completed_successfully", Condition::ServiceCompletedSuccessfully),
    ];
    let mut dependencies = BTreeMap::new();
    let Some(field) = section.get("depends_on") else { return dependencies };
    for (name, dependency) in field.entries() {
        let mut inner = Section { field: &dependency, findings: section.findings };
        let dependency = Dependency {
            condition: inner.one_of("condition", CONDITIONS).unwrap_or_default(),
            restart: inner.boolean("restart"),
            optional: !inner.read("required", scalar::boolean).unwrap_or(true),
        };
        dependencies.insert(name.to_owned(), dependency);
    }
    dependencies
}

fn healthcheck(field: &Field<'_>, findings: &mut Findings<'_>) -> Healthcheck {
    let mut section = Section { field, findings };
    let disabled = section.boolean("disable");
    let test = match section.get("test") {
        Some(test) => health_test(&test, section.findings),
        None => None,
    };
    Healthcheck {
        test: if disabled { Some(HealthTest::Disabled) } else { test },
        interval_micros: section.read("interval", scalar::duration_micros),
        timeout_micros: section.read("timeout", scalar::duration_micros),
        start_period_micros: section.read("start_period", scalar::duration_micros),
        start_interval_micros: section.read("start_interval", scalar::duration_micros),
        retries: section.read("retries", scalar::integer),
    }
}

fn health_test(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<HealthTest> {
    if !field.is_list() {
        return field.string(findings).map(HealthTest::Shell);
    }
    let words: Vec<String> = field.strings(findings);
    let (kind, arguments) = words.split_first().map_or(("", &[][..]), |(kind, rest)| (kind.as_str(), rest));
    match (kind, arguments) {
        ("NONE", []) => Some(HealthTest::Disabled),
        ("CMD", [_, ..]) => Some(HealthTest::Exec(arguments.to_vec())),
        ("CMD-SHELL", [line]) => Some(HealthTest::Shell(line.clone())),
        _ => {
            let hint = "write [\"CMD\", PROGRAM, ARGUMENT…], [\"CMD-SHELL\", LINE] or [\"NONE\"]".to_owned();
            field.error_with_hint(findings, "the list does not say how the test is run", hint);
            None
        }
    }
}

fn restart(text: &str) -> Result<Restart, String> {
    match text.split_once(':').map_or((text, None), |(name, retries)| (name, Some(retries))) {
        ("no", None) => Ok(Restart::No),
        ("always", None) => Ok(Restart::Always),
        ("unless-stopped", None) => Ok(Restart::UnlessStopped),
        ("on-failure", None) => Ok(Restart::OnFailure { retries: None }),
        ("on-failure", Some(retries)) => Ok(Restart::OnFailure { retries: Some(scalar::integer(retries)?) }),
        _ => Err(format!("{text:?} is none of no, always, unless-stopped, on-failure and on-failure:RETRIES")),
    }
}

fn ulimits(section: &mut Section<'_, '_, '_, '_>) -> BTreeMap<String, Ulimit> {
    let mut ulimits = BTreeMap::new();
    let Some(field) = section.get("ulimits") else { return ulimits };
    for (name, limit) in field.entries() {
        let (soft, hard) = if limit.is_map() {
            let mut inner = Section { field: &limit, findings: section.findings };
            (inner.read("soft", scalar::integer), inner.read("hard", scalar::integer))
        } else {
            let both = limit.read(section.findings, scalar::integer);
            (both, both)
        };
        match (soft, hard) {
            (Some(soft), Some(hard)) => {
                ulimits.insert(name.to_owned(), Ulimit { soft, hard });
            }
            _ if limit.is_map() => limit.error(section.findings, "a limit needs both soft and hard"),
            _ => {}
        }
    }
    ulimits
}

fn logging(field: &Field<'_>, findings: &mut Findings<'_>) -> Logging {
    let mut section = Section { field, findings };
    Logging { driver: section.string("driver"), options: section.labels("options") }
}

fn extra_hosts(section: &mut Section<'_, '_, '_, '_>) -> BTreeMap<String, Vec<String>> {
    let mut hosts = BTreeMap::new();
    let Some(field) = section.get("extra_hosts") else { return hosts };
    for (name, addresses) in field.entries() {
        let read: Vec<String> = if addresses.is_list() {
            addresses.read_all(section.findings, host_address)
        } else {
            addresses.read(section.findings, host_address).into_iter().collect()
        };
        hosts.insert(name.to_owned(), read);
    }
    hosts
}

fn host_address(text: &str) -> Result<String, String> {
    const HOST_GATEWAY: &str = "host-gateway";
    if text == HOST_GATEWAY {
        return Ok(text.to_owned());
    }
    address(text.trim_start_matches('[').trim_end_matches(']')).map(|address| address.to_string())
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an IP address"))
}
