//! One service.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{build, deploy, develop, files, mounts, networks, ports, settings};
use crate::diagnostic::Findings;
use crate::field::{Field, Section};
use crate::model::{
    Condition, Dependency, ExternalLink, HealthTest, Healthcheck, Logging, MountOwner, PullPolicy, Restart, Service,
    Ulimit, VolumesFrom,
};
use crate::scalar;
use crate::stage::Context;

pub(crate) fn service(field: &Field<'_>, context: &Context<'_>, findings: &mut Findings<'_>) -> Service {
    let mut section = Section { field, findings };
    let (volumes, tmpfs) = mounts::mounts(&mut section, context);
    let ports = ports::ports(&mut section, context);
    let (expose, expose_other) = ports::expose(&mut section, context);
    let namespaces = settings::namespaces(&mut section);
    let mut labels = files::label_files(&mut section, context);
    labels.extend(section.labels("labels"));
    let mut service = Service {
        image: section.string("image"),
        build: section.get("build").map(|build| build::build(&build, context, section.findings)),
        command: command(&mut section, "command"),
        entrypoint: command(&mut section, "entrypoint"),
        environment: environment(&mut section, context),
        ports,
        expose,
        volumes,
        tmpfs,
        networks: networks::service_networks(&mut section, &namespaces),
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
        labels,
        logging: section.get("logging").map(|field| logging(&field, section.findings)),
        extra_hosts: extra_hosts(&mut section),
        dns: section.get("dns").map(|field| field.read_all(section.findings, address)).unwrap_or_default(),
        shm_size_bytes: section.read("shm_size", scalar::bytes),
        profiles: section.names("profiles"),
        expose_other,
        container_name: section.read("container_name", container_name),
        detached: section.read("attach", scalar::boolean) == Some(false),
        pull_policy: section.read("pull_policy", pull_policy),
        namespaces,
        settings: settings::settings(&mut section),
        configs: files::configs(&mut section),
        secrets: files::secrets(&mut section),
        links: links(&mut section),
        external_links: external_links(&mut section),
        volumes_from: volumes_from(&mut section),
        post_start: develop::hooks(&mut section, "post_start", context),
        pre_stop: develop::hooks(&mut section, "pre_stop", context),
        watch: develop::watch(&mut section, context),
    };
    depend_on_what_is_shared(&mut service);
    if service.image.is_none() && service.build.is_none() {
        let hint = "write `image:` or `build:`".to_owned();
        findings.error_with_hint(field.mark, &field.path, "the service has neither an image nor a build", hint);
    }
    service
}

/// A text is split into words, a list taken as it is; an empty one of either clears what the image has.
fn command(section: &mut Section<'_, '_, '_, '_>, key: &str) -> Option<Vec<String>> {
    command_of(&section.get(key)?, section.findings)
}

pub(super) fn command_of(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<Vec<String>> {
    match field.items().next() {
        Some(_) => Some(field.strings(findings)),
        None if field.is_list() => Some(Vec::new()),
        None => field.read(findings, scalar::words),
    }
}

/// What `env_file` says, and over it what `environment` says.
fn environment(section: &mut Section<'_, '_, '_, '_>, context: &Context<'_>) -> BTreeMap<String, Option<String>> {
    let mut values = files::env_files(section, context);
    values.extend(environment_of(section, context));
    values
}

/// `environment`; a name without a value has the caller's.
pub(super) fn environment_of(
    section: &mut Section<'_, '_, '_, '_>,
    context: &Context<'_>,
) -> BTreeMap<String, Option<String>> {
    let Some(field) = section.get("environment") else { return BTreeMap::new() };
    let pairs = field.pairs(section.findings);
    pairs.into_iter().map(|(name, value)| (name.clone(), value.or_else(|| (context.environment)(&name)))).collect()
}

/// The engine's rule for names of containers.
fn container_name(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && text.len() > 1 && text.bytes().all(good) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} cannot be a container's name: those have at least two letters, digits, _, . and -, first a letter or digit"
    ))
}

fn pull_policy(text: &str) -> Result<PullPolicy, String> {
    const DAY_MICROS: u64 = 24 * 3_600_000_000;
    match text {
        "always" => Ok(PullPolicy::Always),
        "never" => Ok(PullPolicy::Never),
        "missing" | "if_not_present" => Ok(PullPolicy::Missing),
        "build" => Ok(PullPolicy::Build),
        "daily" => Ok(PullPolicy::Every { micros: DAY_MICROS }),
        "weekly" => Ok(PullPolicy::Every { micros: 7 * DAY_MICROS }),
        _ => match text.strip_prefix("every_") {
            Some(duration) => Ok(PullPolicy::Every { micros: scalar::long_duration_micros(duration)? }),
            None => Err(format!(
                "{text:?} is none of always, never, missing, build, daily, weekly and every_12h and the like"
            )),
        },
    }
}

/// `SERVICE` or `SERVICE:ALIAS`, as alias to service.
fn links(section: &mut Section<'_, '_, '_, '_>) -> BTreeMap<String, String> {
    let listed = section.strings("links");
    let split = |text: &String| {
        let (service, alias) = text.split_once(':').unwrap_or((text, text));
        (alias.to_owned(), service.to_owned())
    };
    listed.iter().map(split).collect()
}

fn external_links(section: &mut Section<'_, '_, '_, '_>) -> Vec<ExternalLink> {
    let listed = section.strings("external_links");
    let split = |text: &String| {
        let (container, alias) = text.split_once(':').unwrap_or((text, text));
        ExternalLink { container: container.to_owned(), alias: alias.to_owned() }
    };
    listed.iter().map(split).collect()
}

/// `[container:]NAME[:ro|:rw]`.
fn volumes_from(section: &mut Section<'_, '_, '_, '_>) -> Vec<VolumesFrom> {
    let Some(field) = section.get("volumes_from") else { return Vec::new() };
    field.read_all(section.findings, |text| {
        let (name, container) = match text.strip_prefix("container:") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let (name, read_only) = match name.split_once(':') {
            None => (name, false),
            Some((name, "rw")) => (name, false),
            Some((name, "ro")) => (name, true),
            Some(_) => return Err(format!("{text:?} is not a service or container:NAME, with :ro or :rw after it")),
        };
        let from =
            if container { MountOwner::Container(name.to_owned()) } else { MountOwner::Service(name.to_owned()) };
        Ok(VolumesFrom { from, read_only })
    })
}

/// What a service shares has to be there before it.
fn depend_on_what_is_shared(service: &mut Service) {
    for name in service.services_shared() {
        let dependency = Dependency { condition: Condition::default(), restart: true, optional: false };
        service.depends_on.entry(name).or_insert(dependency);
    }
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

pub(super) fn ulimits(section: &mut Section<'_, '_, '_, '_>) -> BTreeMap<String, Ulimit> {
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

pub(super) fn extra_hosts(section: &mut Section<'_, '_, '_, '_>) -> BTreeMap<String, Vec<String>> {
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
