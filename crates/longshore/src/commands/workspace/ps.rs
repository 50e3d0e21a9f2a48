//! `longshore ps` of a workspace.

use std::collections::BTreeMap;

use ::workspace::progress::Voice;
use ::workspace::status::{Proof, Row, rows};
use ::workspace::wanted::Origin;
use ::workspace::workspace::{Address, Prepared, Sources};
use engine::{ContainerState, Health};
use serde::Serialize;

use super::Place;
use crate::output;
use crate::reach::Global;

#[derive(Serialize)]
struct Shown<'a> {
    workspace: &'a str,
    env: &'a api::EnvName,
    services: &'a [Row],
    addresses: &'a [Address],
}

/// Lists the services of the current folder's workspace, with the proof of what each is.
pub(in crate::commands) async fn run(global: &Global, place: Place) -> api::Result<()> {
    let workspace = place.open(global)?;
    let state = workspace.known_state()?.clone();
    let prepared = workspace.prepare(state, Sources::All).await?;
    let (voice, _unheard) = Voice::new();
    let images = workspace.images(&prepared.state.workspace, voice)?;
    let mut known = images.known();
    let mut unknown = BTreeMap::new();
    for (name, service) in &prepared.wanted.services {
        let (Origin::Release { image, .. }, Some(reference)) = (&service.origin, service.reference()) else { continue };
        match images.ids(name, reference, image).await {
            Ok(ids) => drop(known.insert(reference.to_owned(), ids)),
            Err(error) => drop(unknown.insert(name.clone(), error.why)),
        }
    }
    let rows = rows(&prepared.wanted, &prepared.observed, &known, &unknown);
    prepared.notes.iter().for_each(|note| output::note(&format!("note: {note}")));
    let (workspace, env) = (prepared.state.workspace.as_str(), &prepared.state.env);
    if global.json {
        return output::json(&Shown { workspace, env, services: &rows, addresses: &prepared.addresses });
    }
    let lines: Vec<Vec<String>> = rows.iter().map(|row| columns(row, &prepared)).collect();
    output::table(&["SERVICE", "STATE", "RELEASE", "DIGEST", "CONTAINER", "IS", "ADDRESS"], &lines, "");
    Ok(())
}

fn columns(row: &Row, prepared: &Prepared) -> Vec<String> {
    let addresses = prepared.addresses.iter().filter(|address| address.service == row.service);
    let env = &prepared.state.env;
    let dash = || "-".to_owned();
    vec![
        row.service.clone(),
        state(row),
        row.release.as_ref().map_or_else(dash, ToString::to_string),
        row.digest.as_ref().map_or_else(dash, output::short),
        row.container.as_ref().map_or_else(dash, |id| id.chars().take(12).collect()),
        match &row.proof {
            Proof::Equal => format!("as in {env}"),
            Proof::Different { what } => format!("not as in {env}: another {what}"),
            Proof::Unknown { why } => format!("not proven: {why}"),
            Proof::Source { changed: false } => "from source".to_owned(),
            Proof::Source { changed: true } => "from source, changed since".to_owned(),
            Proof::Image if prepared.known.is_blank => format!("not proven: what {env} has is not known"),
            Proof::Image => format!("not in {env}"),
            Proof::Absent => dash(),
        },
        addresses.map(ToString::to_string).collect::<Vec<_>>().join(", "),
    ]
}

fn state(row: &Row) -> String {
    match (row.state, row.health) {
        (None, _) => "absent".to_owned(),
        (Some(ContainerState::Running), Health::Healthy) => "healthy".to_owned(),
        (Some(ContainerState::Running), Health::Unhealthy) => "unhealthy".to_owned(),
        (Some(ContainerState::Running), Health::Starting) => "starting".to_owned(),
        (Some(ContainerState::Exited), _) => match row.exit_code {
            Some(0) => "done".to_owned(),
            Some(code) => format!("ended ({code})"),
            None => "ended".to_owned(),
        },
        (Some(state), _) => super::super::rollout::word(&state),
    }
}
