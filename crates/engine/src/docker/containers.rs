//! Containers: create, start, stop, look, remove.

use std::time::Duration;

use base::clock::Micros;
use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, HealthStatusEnum};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder, RemoveContainerOptionsBuilder,
    RestartContainerOptionsBuilder, StopContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::{Connection, body, failed, images, networks, summaries};
use crate::{Container, ContainerState, EngineError, ErrorKind, Health, Labels, WantedContainer};

/// Containers looked at side by side while listing.
const INSPECTIONS_AT_ONCE: usize = 8;

/// A healthcheck's output is cut here.
const HEALTH_OUTPUT_CHARS_MAX: usize = 2000;

/// A wait for a container's end may take as long as the container runs.
const WAIT_SECONDS_MAX: u64 = 7 * 24 * 3600;

pub(super) async fn create(docker: &Connection, wanted: &WantedContainer) -> Result<String, EngineError> {
    wanted.check()?;
    let what = format!("cannot create container {}", wanted.name);
    if let Some(machine) = &wanted.machine {
        super::machine::check(machine, &what, docker.api())?;
    }
    let mut request = body::create_body(wanted);
    if wanted.entrypoint.is_none() && wanted.command.as_ref().is_some_and(Vec::is_empty) {
        // The engine takes an empty command as "the image's" unless it is told an entrypoint.
        request.entrypoint = images::inspect(docker, &wanted.image).await?.map(|image| image.entrypoint);
    }
    let mut options = CreateContainerOptionsBuilder::default().name(&wanted.name);
    if let Some(platform) = wanted.machine.as_ref().and_then(|machine| machine.settings.platform.as_deref()) {
        options = options.platform(platform);
    }
    let options = options.build();
    let created = docker.client.create_container(Some(options), request).await.map_err(|error| failed(&what, error))?;
    for (network, aliases) in wanted.networks_in_order().into_iter().skip(1) {
        let endpoint = body::endpoint(aliases, body::endpoint_said(wanted, network));
        if let Err(error) = networks::connect(docker, network, &created.id, endpoint).await {
            if let Err(left) = remove(docker, &created.id).await {
                tracing::warn!(error = %left, container = wanted.name, "a container that is on too few networks is left");
            }
            return Err(error);
        }
    }
    Ok(created.id)
}

pub(super) async fn start(docker: &Connection, container: &str) -> Result<(), EngineError> {
    match start_once(docker, container).await {
        Err(error) if networks::is_ambiguous(&error) => {
            let Some(found) = inspect(docker, container).await? else { return Err(error) };
            for network in &found.networks {
                networks::leave_one_for(docker, network, &found.labels).await?;
            }
            start_once(docker, container).await
        }
        result => result,
    }
}

async fn start_once(docker: &Connection, container: &str) -> Result<(), EngineError> {
    let options = None::<bollard::query_parameters::StartContainerOptions>;
    docker
        .client
        .start_container(container, options)
        .await
        .map_err(|error| failed(&format!("cannot start container {container}"), error))
}

pub(super) async fn stop(docker: &Connection, container: &str, grace: Duration) -> Result<(), EngineError> {
    let seconds = i32::try_from(body::seconds_up(grace)).unwrap_or(i32::MAX);
    let options = StopContainerOptionsBuilder::default().t(seconds).build();
    let result = docker.patient(grace).stop_container(container, Some(options)).await;
    done_if_gone(result, &format!("cannot stop container {container}"))
}

pub(super) async fn restart(docker: &Connection, container: &str, grace: Duration) -> Result<(), EngineError> {
    let seconds = i32::try_from(body::seconds_up(grace)).unwrap_or(i32::MAX);
    let options = RestartContainerOptionsBuilder::default().t(seconds).build();
    let result = docker.patient(grace).restart_container(container, Some(options)).await;
    result.map_err(|error| failed(&format!("cannot restart container {container}"), error))
}

pub(super) async fn kill(docker: &Connection, container: &str, signal: &str) -> Result<(), EngineError> {
    let options = KillContainerOptionsBuilder::default().signal(signal).build();
    let what = format!("cannot send {signal} to container {container}");
    docker.client.kill_container(container, Some(options)).await.map_err(|error| failed(&what, error))
}

pub(super) async fn remove(docker: &Connection, container: &str) -> Result<(), EngineError> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    let result = docker.client.remove_container(container, Some(options)).await;
    match done_if_gone(result, &format!("cannot remove container {container}")) {
        Err(error) if error.kind == ErrorKind::Conflict && error.why.contains("already in progress") => Ok(()),
        result => result,
    }
}

fn done_if_gone(result: Result<(), Error>, what: &str) -> Result<(), EngineError> {
    match result.map_err(|error| failed(what, error)) {
        Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

pub(super) async fn wait(docker: &Connection, container: &str) -> Result<i64, EngineError> {
    let what = format!("cannot wait for container {container}");
    let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
    let client = docker.patient(Duration::from_secs(WAIT_SECONDS_MAX));
    let mut stream = std::pin::pin!(client.wait_container(container, Some(options)));
    match stream.next().await {
        Some(Ok(ended)) => Ok(ended.status_code),
        // bollard makes an error of a code other than 0; the error text is the engine's own only when it has one.
        Some(Err(Error::DockerContainerWaitError { error, code })) if error.is_empty() => Ok(code),
        Some(Err(error)) => Err(failed(&what, error)),
        None => Err(EngineError::new(ErrorKind::Engine, what, "the engine ended the wait without an exit code")),
    }
}

pub(super) async fn inspect(docker: &Connection, container: &str) -> Result<Option<Container>, EngineError> {
    match docker.client.inspect_container(container, None::<InspectContainerOptions>).await {
        Ok(found) => Ok(Some(container_of(found))),
        Err(error) => {
            let error = failed(&format!("cannot look at container {container}"), error);
            if error.kind == ErrorKind::NotFound { Ok(None) } else { Err(error) }
        }
    }
}

pub(super) async fn list(docker: &Connection, labels: &Labels) -> Result<Vec<Container>, EngineError> {
    let found = summaries::found(docker, labels).await?;
    let ids: Vec<String> = found.into_iter().filter_map(|summary| summary.id).collect();
    let mut containers: Vec<Container> = stream::iter(ids)
        .map(|id| async move { inspect(docker, &id).await })
        .buffer_unordered(INSPECTIONS_AT_ONCE)
        // One that went away in between is no longer to be listed.
        .try_filter_map(|container| async move { Ok(container) })
        .try_collect()
        .await?;
    containers.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(containers)
}

fn container_of(found: ContainerInspectResponse) -> Container {
    let config = found.config.unwrap_or_default();
    let state = found.state.unwrap_or_default();
    let status = state.status.map_or(ContainerState::Dead, state_of);
    let ended = matches!(status, ContainerState::Exited | ContainerState::Dead | ContainerState::Restarting);
    let health = state.health.unwrap_or_default();
    let networks = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    Container {
        id: found.id.unwrap_or_default(),
        name: found.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        image: config.image.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        image_id: found.image.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        state: status,
        health: health.status.map_or(Health::None, health_of),
        health_output: health
            .log
            .unwrap_or_default()
            .pop()
            .and_then(|result| result.output)
            .map(|output| output.trim().chars().take(HEALTH_OUTPUT_CHARS_MAX).collect()),
        exit_code: state.exit_code.filter(|_| ended),
        out_of_memory: state.oom_killed.unwrap_or(false),
        error: state.error.filter(|error| !error.is_empty()),
        created: found.created.as_deref().and_then(time_of),
        started: state.started_at.as_deref().and_then(time_of),
        finished: state.finished_at.as_deref().and_then(time_of),
        restarts: found.restart_count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
        networks: networks.keys().cloned().collect(),
        addresses: networks
            .into_iter()
            .filter_map(|(name, endpoint)| Some((name, endpoint.ip_address?.parse().ok()?)))
            .collect(),
        volumes: found
            .mounts
            .unwrap_or_default()
            .into_iter()
            .filter(|mount| mount.typ.as_deref() == Some("volume"))
            .filter_map(|mount| mount.name)
            .collect(),
    }
}

fn state_of(status: ContainerStateStatusEnum) -> ContainerState {
    match status {
        ContainerStateStatusEnum::CREATED => ContainerState::Created,
        ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::STOPPING => ContainerState::Running,
        ContainerStateStatusEnum::PAUSED => ContainerState::Paused,
        ContainerStateStatusEnum::RESTARTING => ContainerState::Restarting,
        ContainerStateStatusEnum::REMOVING => ContainerState::Removing,
        ContainerStateStatusEnum::EXITED => ContainerState::Exited,
        ContainerStateStatusEnum::DEAD | ContainerStateStatusEnum::EMPTY => ContainerState::Dead,
    }
}

fn health_of(status: HealthStatusEnum) -> Health {
    match status {
        HealthStatusEnum::EMPTY | HealthStatusEnum::NONE => Health::None,
        HealthStatusEnum::STARTING => Health::Starting,
        HealthStatusEnum::HEALTHY => Health::Healthy,
        HealthStatusEnum::UNHEALTHY => Health::Unhealthy,
    }
}

/// The engine writes year 1 for "never".
pub(super) fn time_of(text: &str) -> Option<Micros> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Micros(time.as_microsecond())).filter(|micros| micros.0 > 0)
}
