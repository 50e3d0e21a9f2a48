//! What others are told: releases, what environments have, what hosts run. Written with what it tells of.

use std::collections::BTreeSet;

use api::Micros;
use api::agent::{InstanceState, Report};
use api::delivery::{Deployed, Release, Running};
use base::db::{Db, Tx, sql};
use base::outbox;
use futures::FutureExt as _;

use super::{document, document_option, hosts, name};
use crate::error::Error;

/// The topic of all events.
const TOPIC: &str = "deployed";
/// Different things of one host that are told; a host with more is told in part.
const RUNNING_MAX: usize = 4000;
/// What says that those who began to listen later were told of all that was there.
const TOLD: &str = "deployed-told";

/// Writes an event.
pub(crate) async fn append(tx: &mut Tx, event: &Deployed, now: Micros) -> Result<(), Error> {
    outbox::append(tx, TOPIC, event, now).await?;
    Ok(())
}

/// A release as an event.
pub(crate) fn of_release(release: &Release) -> Deployed {
    Deployed::Release {
        release: release.id.clone(),
        app: release.app.clone(),
        service: release.service.clone(),
        image: release.image.clone(),
        created_at: release.created_at,
    }
}

/// What a host runs by its report.
pub(crate) fn running(report: &Report) -> BTreeSet<Running> {
    let all: BTreeSet<Running> = report
        .instances
        .iter()
        .filter(|instance| instance.state != InstanceState::Exited)
        .map(|instance| Running {
            env: instance.env.clone(),
            app: instance.app.clone(),
            service: instance.service.clone(),
            release: instance.release.clone(),
            digest: instance.digest,
        })
        .collect();
    all.into_iter().take(RUNNING_MAX).collect()
}

/// Tells once of all that was there before anything was told, in the order in which it came.
pub(crate) async fn tell_all(db: &Db, now: Micros) -> Result<(), Error> {
    let told = sql("SELECT value FROM facts WHERE name = $1").bind(TOLD).optional(db).await?;
    if told.is_some() {
        return Ok(());
    }
    db.write(move |tx| {
        async move {
            let rows = sql("SELECT body FROM releases ORDER BY created_at, id").all(tx).await?;
            for row in &rows {
                append(tx, &of_release(&document(row, "body")?), now).await?;
            }
            let rows = sql("SELECT m.env AS env, m.app AS app, m.service AS service, m.release AS release, \
                 p.finished_at AS at FROM promotions m JOIN plans p ON p.id = m.plan \
                 WHERE p.state = 'succeeded' AND p.finished_at IS NOT NULL ORDER BY p.finished_at, p.id, m.service")
            .all(tx)
            .await?;
            for row in &rows {
                let release: Option<String> = row.get("release")?;
                let event = Deployed::Environment {
                    env: name(row, "env")?,
                    app: name(row, "app")?,
                    service: name(row, "service")?,
                    release: release.map(|release| super::parsed(&release, "release")).transpose()?,
                    at: row.get("at")?,
                };
                append(tx, &event, now).await?;
            }
            let rows =
                sql("SELECT name, seen_at, report FROM hosts WHERE seen_at IS NOT NULL ORDER BY name").all(tx).await?;
            for row in &rows {
                let Some(report) = document_option::<Report>(row, "report")? else { continue };
                let running = running(&report).into_iter().collect();
                append(tx, &Deployed::Host { host: name(row, "name")?, at: row.get("seen_at")?, running }, now).await?;
            }
            hosts::fact_once(tx, TOLD, "yes").await?;
            Ok::<_, Error>(())
        }
        .boxed()
    })
    .await
}
