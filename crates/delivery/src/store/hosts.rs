//! Hosts and what they reported last.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::agent::Report;
use api::delivery::Deployed;
use api::{HostName, Micros};
use base::db::{Queryable, Row, Tx, sql};

use super::{document, document_option, events, name, text};
use crate::error::{Error, ErrorKind};
use crate::model::{HostView, Seen};

/// A host as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct HostRow {
    /// As planner and executor see it.
    pub(crate) view: HostView,
    /// When it was enrolled.
    pub(crate) enrolled_at: Micros,
    /// The number of its desired state.
    pub(crate) number: u64,
}

fn host(row: &Row) -> Result<HostRow, Error> {
    let mesh: String = row.get("mesh")?;
    Ok(HostRow {
        view: HostView {
            name: name(row, "name")?,
            labels: document(row, "labels")?,
            seen_at: row.get("seen_at")?,
            mesh: (!mesh.is_empty()).then_some(mesh),
            engine_error: None,
        },
        enrolled_at: row.get("enrolled_at")?,
        number: row.get("number")?,
    })
}

/// Every host by name.
pub(crate) async fn all<Q: Queryable>(on: &Q) -> Result<Vec<HostRow>, Error> {
    let rows = sql("SELECT name, labels, enrolled_at, seen_at, mesh, number FROM hosts ORDER BY name").all(on).await?;
    rows.iter().map(host).collect()
}

/// Makes a host known, or gives a known one its labels.
pub(crate) async fn upsert(
    tx: &mut Tx,
    host: &HostName,
    labels: &BTreeMap<String, String>,
    at: Micros,
) -> Result<(), Error> {
    sql("INSERT INTO hosts (name, labels, enrolled_at, number) VALUES ($1, $2, $3, 1)
         ON CONFLICT (name) DO UPDATE SET labels = excluded.labels")
    .bind(host.as_str())
    .bind(text(labels, "labels")?)
    .bind(at)
    .execute(tx)
    .await?;
    Ok(())
}

/// The number of a host's desired state.
///
/// # Errors
/// [`ErrorKind::HostUnknown`].
pub(crate) async fn number<Q: Queryable>(on: &Q, host: &HostName) -> Result<u64, Error> {
    let row = sql("SELECT number FROM hosts WHERE name = $1").bind(host.as_str()).optional(on).await?;
    match row {
        Some(row) => Ok(row.get("number")?),
        None => Err(Error::new(
            ErrorKind::HostUnknown,
            format!("{host} was not enrolled at this hub"),
            "Enrol it: `longshore host token`, then start its agent with the token.",
        )),
    }
}

/// A stored report and when it came.
pub(crate) async fn seen<Q: Queryable>(on: &Q, host: &HostName) -> Result<Option<Seen>, Error> {
    let row = sql("SELECT seen_at, report FROM hosts WHERE name = $1").bind(host.as_str()).optional(on).await?;
    let Some(row) = row else { return Ok(None) };
    let at: Option<Micros> = row.get("seen_at")?;
    let report: Option<Report> = document_option(&row, "report")?;
    Ok(at.zip(report).map(|(at, report)| Seen { at, report: Arc::new(report) }))
}

/// Stores a report unless a later one is stored, tells of it when the host runs something else than before, and says
/// whether the mesh address is another.
pub(crate) async fn report_set(tx: &mut Tx, host: &HostName, seen: &Seen) -> Result<bool, Error> {
    let row = sql("SELECT mesh, report FROM hosts WHERE name = $1").bind(host.as_str()).optional(tx).await?;
    let mesh_before: Option<String> = row.as_ref().map(|row| row.get("mesh")).transpose()?;
    let before: Option<Report> = match &row {
        Some(row) => document_option(row, "report")?,
        None => None,
    };
    let changed = sql("UPDATE hosts SET seen_at = $1, mesh = $2, report = $3
         WHERE name = $4 AND (seen_at IS NULL OR seen_at <= $5)")
    .bind(seen.at)
    .bind(&seen.report.mesh)
    .bind(text(&*seen.report, "report")?)
    .bind(host.as_str())
    .bind(seen.at)
    .execute(tx)
    .await?;
    let running = events::running(&seen.report);
    if changed > 0 && before.as_ref().map(events::running).unwrap_or_default() != running {
        let event = Deployed::Host { host: host.clone(), at: seen.at, running: running.into_iter().collect() };
        events::append(tx, &event, seen.at).await?;
    }
    Ok(changed > 0 && mesh_before.as_deref() != Some(seen.report.mesh.as_str()))
}

/// A fact about this hub, made once.
pub(crate) async fn fact_once(tx: &mut Tx, fact: &str, value: &str) -> Result<String, Error> {
    sql("INSERT INTO facts (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(fact)
        .bind(value)
        .execute(tx)
        .await?;
    Ok(sql("SELECT value FROM facts WHERE name = $1").bind(fact).one(tx).await?.get("value")?)
}
