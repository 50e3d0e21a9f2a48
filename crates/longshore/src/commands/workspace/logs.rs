//! `longshore logs` of a workspace.

use std::collections::BTreeSet;

use ::workspace::logs::{self, Line};

use super::Place;
use crate::reach::Global;
use crate::{foreign, output};

/// Shows what the services of the current folder's workspace write.
pub(in crate::commands) async fn run(
    global: &Global,
    place: Place,
    services: Vec<String>,
    follow: bool,
    tail_lines: u32,
) -> api::Result<()> {
    let workspace = place.open(global)?;
    for service in &services {
        ::workspace::resolve::service_known(&workspace.loaded().project, service)?;
    }
    let state = workspace.known_state()?;
    let services: BTreeSet<String> = services.into_iter().collect();
    let options = logs::Options { services, tail_lines, follow };
    let read = logs::lines(workspace.engine().clone(), &state.workspace, options).await;
    let mut lines = read.map_err(::workspace::Error::from)?;
    while let Some(line) = lines.recv().await {
        let line = line.map_err(::workspace::Error::from)?;
        if global.json {
            output::line(&serde_json::to_string(&line).unwrap_or_default());
        } else {
            output::line(&text(&line));
        }
    }
    Ok(())
}

/// A line as people read it; the number only where a service has several containers.
pub(super) fn text(line: &Line) -> String {
    match line.slot {
        1 => format!("{} | {}", line.service, foreign::for_stdout(&line.line.text)),
        slot => format!("{}-{slot} | {}", line.service, foreign::for_stdout(&line.line.text)),
    }
}
