//! A wanted container in the engine's words. Pure.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType,
    MountVolumeOptions, NetworkingConfig, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use crate::WantedContainer;
use crate::machine::WantedEndpoint;
use crate::wanted::{WantedHealthcheck, WantedRestart};

/// The body of `POST /containers/create`, attached to the first of its networks; the others are connected afterwards,
/// because engines before API 1.44 take one only.
pub(super) fn create_body(wanted: &WantedContainer) -> ContainerCreateBody {
    let first = wanted.networks_in_order().into_iter().next();
    let body = ContainerCreateBody {
        hostname: wanted.hostname.clone(),
        user: wanted.user.clone(),
        env: Some(wanted.environment.iter().map(variable).collect()),
        cmd: wanted.command.clone(),
        healthcheck: wanted.healthcheck.as_ref().map(healthcheck),
        image: Some(wanted.image.clone()),
        working_dir: wanted.working_dir.clone(),
        // One empty string is how the engine is told "none", and not "the image's".
        entrypoint: wanted.entrypoint.clone().map(|words| if words.is_empty() { vec![String::new()] } else { words }),
        labels: Some(wanted.labels_with_hash().into_iter().collect()),
        stop_signal: wanted.stop_signal.clone(),
        stop_timeout: Some(seconds_up(wanted.stop_grace)),
        host_config: Some(host_config(wanted)),
        networking_config: first.map(|(network, aliases)| NetworkingConfig {
            endpoints_config: Some(HashMap::from([(
                network.clone(),
                endpoint(aliases, endpoint_said(wanted, network)),
            )])),
        }),
        ..ContainerCreateBody::default()
    };
    match &wanted.machine {
        Some(machine) => super::machine::with_machine(body, machine),
        None => body,
    }
}

/// A name alone takes the image's variable away.
fn variable((name, value): (&String, &Option<String>)) -> String {
    value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}"))
}

/// A container's place on a network, with what a workspace says of it.
pub(super) fn endpoint(aliases: &[String], said: Option<&WantedEndpoint>) -> EndpointSettings {
    let plain = EndpointSettings { aliases: Some(aliases.to_vec()), ..EndpointSettings::default() };
    said.map_or_else(|| plain.clone(), |said| super::machine::with_endpoint(plain.clone(), said))
}

/// What a workspace says of a container's place on a network.
pub(super) fn endpoint_said<'w>(wanted: &'w WantedContainer, network: &str) -> Option<&'w WantedEndpoint> {
    wanted.machine.as_ref()?.endpoints.get(network)
}

/// Whole seconds, rounded up: a grace of half a second must not become none.
pub(super) fn seconds_up(duration: Duration) -> i64 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn host_config(wanted: &WantedContainer) -> HostConfig {
    HostConfig {
        network_mode: wanted.networks_in_order().first().map(|(network, _)| (*network).clone()),
        extra_hosts: some_list(
            wanted
                .extra_hosts
                .iter()
                .flat_map(|(name, addresses)| addresses.iter().map(move |address| format!("{name}:{address}")))
                .collect(),
        ),
        dns: some_list(wanted.dns.iter().map(ToString::to_string).collect()),
        mounts: some_list(
            wanted
                .volumes
                .iter()
                .map(|volume| Mount {
                    target: Some(volume.target.clone()),
                    source: volume.volume.clone(),
                    typ: Some(MountType::VOLUME),
                    read_only: Some(volume.read_only),
                    volume_options: volume
                        .no_copy
                        .then(|| MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
                    ..Mount::default()
                })
                .collect(),
        ),
        tmpfs: some_map(wanted.tmpfs.clone()),
        readonly_rootfs: wanted.read_only.then_some(true),
        cap_add: some_list(wanted.cap_add.clone()),
        cap_drop: some_list(wanted.cap_drop.clone()),
        security_opt: some_list(wanted.security_opt.clone()),
        ulimits: some_list(
            wanted
                .ulimits
                .iter()
                .map(|(name, (soft, hard))| ResourcesUlimits {
                    name: Some(name.clone()),
                    soft: Some(*soft),
                    hard: Some(*hard),
                })
                .collect(),
        ),
        sysctls: some_map(wanted.sysctls.clone()),
        shm_size: wanted.shm_bytes.map(signed),
        nano_cpus: wanted.cpu_nanos.map(signed),
        memory: wanted.memory_bytes.map(signed),
        memory_reservation: wanted.memory_reservation_bytes.map(signed),
        pids_limit: wanted.pids,
        init: wanted.init,
        restart_policy: Some(restart(wanted.restart)),
        log_config: Some(HostConfigLogConfig {
            typ: Some(wanted.log_driver.clone()),
            config: Some(wanted.log_options.clone().into_iter().collect()),
        }),
        ..HostConfig::default()
    }
}

fn healthcheck(wanted: &WantedHealthcheck) -> HealthConfig {
    match wanted {
        WantedHealthcheck::Disabled => HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() },
        WantedHealthcheck::Test { test, interval, timeout, retries, start_period, start_interval } => HealthConfig {
            test: test.clone(),
            interval: interval.map(nanos),
            timeout: timeout.map(nanos),
            retries: retries.map(i64::from),
            start_period: start_period.map(nanos),
            start_interval: start_interval.map(nanos),
        },
    }
}

fn restart(wanted: WantedRestart) -> RestartPolicy {
    let (name, maximum_retry_count) = match wanted {
        WantedRestart::No => (RestartPolicyNameEnum::NO, None),
        WantedRestart::Always => (RestartPolicyNameEnum::ALWAYS, None),
        WantedRestart::UnlessStopped => (RestartPolicyNameEnum::UNLESS_STOPPED, None),
        WantedRestart::OnFailure(times) => (RestartPolicyNameEnum::ON_FAILURE, Some(i64::from(times))),
    };
    RestartPolicy { name: Some(name), maximum_retry_count }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn some_list<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

pub(super) fn some_map(map: std::collections::BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!map.is_empty()).then(|| map.into_iter().collect())
}
