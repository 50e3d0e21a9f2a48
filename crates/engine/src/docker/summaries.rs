//! Containers as the engine lists them: one call for all. What it has no field for is read from its words on the state.

use base::clock::Micros;
use bollard::query_parameters::ListContainersOptionsBuilder;

use super::{Connection, failed, label_filters};
use crate::{ContainerState, ContainerSummary, EngineError, Health, Labels};

/// What the engine says of all containers that carry these labels.
pub(super) async fn found(
    docker: &Connection,
    labels: &Labels,
) -> Result<Vec<bollard::models::ContainerSummary>, EngineError> {
    let options = ListContainersOptionsBuilder::default().all(true).filters(&label_filters(labels)).build();
    let found = docker.client.list_containers(Some(options)).await;
    found.map_err(|error| failed("cannot list the containers", error))
}

pub(super) async fn list(docker: &Connection, labels: &Labels) -> Result<Vec<ContainerSummary>, EngineError> {
    let found = found(docker, labels).await?;
    let mut containers: Vec<ContainerSummary> = found.into_iter().map(summary_of).collect();
    containers.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(containers)
}

fn summary_of(found: bollard::models::ContainerSummary) -> ContainerSummary {
    let state = found.state.map_or(ContainerState::Dead, |state| state_of(state.as_ref()));
    let status = found.status.unwrap_or_default();
    let names = found.names.unwrap_or_default();
    // A link from another container is a name, too, with the other's name before it.
    let name = names.iter().map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/'));
    ContainerSummary {
        id: found.id.unwrap_or_default(),
        name: name.unwrap_or_default().to_owned(),
        image_id: found.image_id.unwrap_or_default(),
        labels: found.labels.unwrap_or_default().into_iter().collect(),
        state,
        health: if state == ContainerState::Running { health_of(&status) } else { Health::None },
        exit_code: exit_code_of(&status)
            .filter(|_| matches!(state, ContainerState::Exited | ContainerState::Restarting | ContainerState::Dead)),
        networks: found
            .network_settings
            .and_then(|settings| settings.networks)
            .unwrap_or_default()
            .into_keys()
            .collect(),
        ports: found
            .ports
            .unwrap_or_default()
            .into_iter()
            .filter(|port| port.typ == Some(bollard::models::PortSummaryTypeEnum::TCP))
            .filter_map(|port| Some((port.public_port?, port.private_port)))
            .collect(),
        created: Micros::from_seconds(found.created.unwrap_or(0)),
    }
}

fn state_of(word: &str) -> ContainerState {
    match word {
        "created" => ContainerState::Created,
        "running" | "stopping" => ContainerState::Running,
        "paused" => ContainerState::Paused,
        "restarting" => ContainerState::Restarting,
        "removing" => ContainerState::Removing,
        "exited" => ContainerState::Exited,
        _ => ContainerState::Dead,
    }
}

/// `Up 2 minutes (healthy)`, `Up 1 second (health: starting)`: engines have written it so since there are healthchecks.
fn health_of(status: &str) -> Health {
    match status.rsplit_once('(').map(|(_, word)| word.trim_end_matches(')')) {
        Some("healthy") => Health::Healthy,
        Some("unhealthy") => Health::Unhealthy,
        Some("health: starting") => Health::Starting,
        _ => Health::None,
    }
}

/// `Exited (137) 2 minutes ago`.
fn exit_code_of(status: &str) -> Option<i64> {
    let (_, rest) = status.split_once('(')?;
    rest.split_once(')')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_does_is_read_from_the_engines_words() {
        assert_eq!(health_of("Up 2 minutes (healthy)"), Health::Healthy);
        assert_eq!(health_of("Up 2 minutes (unhealthy)"), Health::Unhealthy);
        assert_eq!(health_of("Up Less than a second (health: starting)"), Health::Starting);
        assert_eq!(health_of("Up 2 minutes"), Health::None);
        assert_eq!(health_of("Up 2 minutes (Paused)"), Health::None);
        assert_eq!(exit_code_of("Exited (137) 2 minutes ago"), Some(137));
        assert_eq!(exit_code_of("Restarting (1) 3 seconds ago"), Some(1));
        assert_eq!(exit_code_of("Up 2 minutes (healthy)"), None);
    }
}
