//! What happens to containers, as it happens.

use base::clock::Micros;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures::stream::{BoxStream, StreamExt};

use super::{Connection, failed, label_filters};
use crate::{EngineError, EngineEvent, EventKind, Health, Labels};

pub(super) async fn events(
    docker: &Connection,
    labels: &Labels,
) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError> {
    let mut filters = label_filters(labels);
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    // The request is sent when the stream is first read; what happens until then must not be missed.
    let now = Micros::now().0;
    let since = format!("{}.{:09}", now.div_euclid(1_000_000), now.rem_euclid(1_000_000) * 1000);
    let options = EventsOptionsBuilder::default().since(&since).filters(&filters).build();
    let stream = docker.client.events(Some(options));
    let events = stream.filter_map(|message| async move {
        match message {
            Ok(message) => event_of(message).map(Ok),
            Err(error) => Some(Err(failed("cannot follow the engine's events", error))),
        }
    });
    Ok(events.boxed())
}

fn event_of(message: EventMessage) -> Option<EngineEvent> {
    let actor = message.actor?;
    let labels: Labels = actor.attributes.unwrap_or_default().into_iter().collect();
    let kind = match message.action?.as_str() {
        "create" => EventKind::Create,
        "start" => EventKind::Start,
        "die" => EventKind::Die(labels.get("exitCode").and_then(|code| code.parse().ok()).unwrap_or(-1)),
        "oom" => EventKind::OutOfMemory,
        "destroy" => EventKind::Destroy,
        "health_status: healthy" => EventKind::Health(Health::Healthy),
        "health_status: unhealthy" => EventKind::Health(Health::Unhealthy),
        _ => return None,
    };
    Some(EngineEvent { kind, container: actor.id?, labels, at: Micros(message.time_nano.unwrap_or(0) / 1000) })
}
