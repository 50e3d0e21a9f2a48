//! What all services of a workspace write, in one stream: first what they wrote before, in the order of time, then lines as
//! they come, also of containers that are started later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::Micros;
use engine::{Engine, EngineError, EventKind, Labels, LogLine, LogOptions};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::wanted::{LABEL_SERVICE, labels_of, place_of};

/// Lines that may wait to be shown; containers that write more are read more slowly.
const LINES_WAITING_MAX: usize = 1024;
/// The engine may say so much later that a container started than its first line was written.
const START_LATE_MICROS: i64 = 2_000_000;

/// One line of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The service.
    pub service: String,
    /// Which of its containers, from 1.
    pub slot: usize,
    /// The line.
    #[serde(flatten)]
    pub line: LogLine,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Only of these services; empty means all.
    pub services: BTreeSet<String>,
    /// So many lines of the past, for each container.
    pub tail_lines: u32,
    /// Go on as lines come.
    pub follow: bool,
}

/// Lines of a workspace, until they end or nobody reads any more.
///
/// # Errors
/// The engine does not answer.
pub async fn lines(
    engine: Arc<dyn Engine>,
    workspace: &str,
    options: Options,
) -> Result<mpsc::Receiver<Result<Line, EngineError>>, EngineError> {
    let labels = labels_of(workspace);
    // Before the look, so that no start is missed in between.
    let events = if options.follow { Some(engine.events(&labels).await?) } else { None };
    let containers = engine.container_summaries(&labels).await?;
    let (sender, receiver) = mpsc::channel(LINES_WAITING_MAX);
    let mut past = Vec::new();
    let mut last: BTreeMap<String, Micros> = BTreeMap::new();
    for container in &containers {
        let Some((service, slot)) = wanted(&container.labels, &options) else { continue };
        let past_options = LogOptions { tail_lines: Some(options.tail_lines), ..LogOptions::default() };
        let read = engine.container_logs(&container.id, past_options).await?;
        let lines: Vec<LogLine> = read.try_collect().await?;
        last.extend(lines.iter().map(|line| line.at).max().map(|at| (container.id.clone(), at)));
        past.extend(lines.into_iter().map(|line| Line { service: service.clone(), slot, line }));
    }
    past.sort_by_key(|line| line.line.at);
    tokio::spawn(async move {
        for line in past {
            if sender.send(Ok(line)).await.is_err() {
                return;
            }
        }
        let Some(mut events) = events else { return };
        let mut reading = JoinSet::new();
        let mut open: BTreeSet<String> = BTreeSet::new();
        let mut again = BTreeMap::new();
        for container in containers {
            if let Some(place) = wanted(&container.labels, &options) {
                let after = last.get(&container.id).copied();
                open.insert(container.id.clone());
                reading.spawn(read(engine.clone(), container.id, place, after, sender.clone()));
            }
        }
        loop {
            tokio::select! {
                () = sender.closed() => return,
                Some(ended) = reading.join_next(), if !reading.is_empty() => {
                    let Ok((id, read_last)) = ended else { continue };
                    open.remove(&id);
                    last.extend(read_last.map(|at| (id.clone(), at)));
                    // It was started again before its last lines were read.
                    if let Some((place, started)) = again.remove(&id) {
                        let after = last.get(&id).copied().unwrap_or(started);
                        open.insert(id.clone());
                        reading.spawn(read(engine.clone(), id, place, Some(after), sender.clone()));
                    }
                }
                event = events.next() => match event {
                    Some(Ok(event)) if event.kind == EventKind::Start => {
                        let Some(place) = wanted(&event.labels, &options) else { continue };
                        let started = Micros(event.at.0 - START_LATE_MICROS);
                        if open.insert(event.container.clone()) {
                            let after = last.get(&event.container).copied().unwrap_or(started);
                            reading.spawn(read(engine.clone(), event.container, place, Some(after), sender.clone()));
                        } else {
                            again.insert(event.container, (place, started));
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        let _unread = sender.send(Err(error)).await;
                        return;
                    }
                    None => return,
                },
            }
        }
    });
    Ok(receiver)
}

fn wanted(labels: &Labels, options: &Options) -> Option<(String, usize)> {
    let (service, slot) = place_of(labels)?;
    let is_wanted = options.services.is_empty() || options.services.contains(service);
    (is_wanted && labels.contains_key(LABEL_SERVICE)).then(|| (service.to_owned(), slot))
}

/// Sends a container's lines until it ends.
async fn read(
    engine: Arc<dyn Engine>,
    id: String,
    (service, slot): (String, usize),
    after: Option<Micros>,
    sender: mpsc::Sender<Result<Line, EngineError>>,
) -> (String, Option<Micros>) {
    let options = LogOptions { since: after, follow: true, ..LogOptions::default() };
    let mut last = after;
    // A container that is gone has no more to say; others that cannot be read end their stream, and start anew with it.
    if let Ok(mut lines) = engine.container_logs(&id, options).await {
        while let Some(Ok(line)) = lines.next().await {
            if after.is_some_and(|after| line.at <= after) {
                continue;
            }
            last = Some(line.at);
            if sender.send(Ok(Line { service: service.clone(), slot, line })).await.is_err() {
                break;
            }
        }
    }
    (id, last)
}
