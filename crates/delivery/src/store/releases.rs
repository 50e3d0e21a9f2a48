//! Releases, the newest of each service, and what each environment has.

use std::collections::{BTreeMap, BTreeSet};

use api::delivery::{Deployed, Release, ReleaseFilter, ReleaseId};
use api::{AppName, Micros, Page, ServiceName};
use base::db::{Queryable, Row, Tx, sql};

use super::{document, events, name, text};
use crate::error::{Error, ErrorKind};
use crate::model::Project;

/// Stores a release unless it is known, tells of it, and gives what is stored.
pub(crate) async fn insert(tx: &mut Tx, release: &Release) -> Result<Release, Error> {
    let new = sql("INSERT INTO releases (id, app, service, created_at, body) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING")
        .bind(release.id.as_str())
        .bind(release.app.as_str())
        .bind(release.service.as_str())
        .bind(release.created_at)
        .bind(text(release, "release")?)
        .execute(tx)
        .await?;
    if new > 0 {
        events::append(tx, &events::of_release(release), release.created_at).await?;
    }
    let row = sql("SELECT body FROM releases WHERE id = $1").bind(release.id.as_str()).one(tx).await?;
    document(&row, "body")
}

/// Makes a release the newest of its service.
pub(crate) async fn newest_set(tx: &mut Tx, release: &Release, commit: &str, at: Micros) -> Result<(), Error> {
    sql("INSERT INTO newest (app, service, release, commit_id, recorded_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (app, service) DO UPDATE
         SET release = excluded.release, commit_id = excluded.commit_id, recorded_at = excluded.recorded_at")
    .bind(release.app.as_str())
    .bind(release.service.as_str())
    .bind(release.id.as_str())
    .bind(commit)
    .bind(at)
    .execute(tx)
    .await?;
    Ok(())
}

/// Forgets that a service belongs to the app.
pub(crate) async fn newest_remove(tx: &mut Tx, app: &AppName, service: &ServiceName) -> Result<(), Error> {
    sql("DELETE FROM newest WHERE app = $1 AND service = $2")
        .bind(app.as_str())
        .bind(service.as_str())
        .execute(tx)
        .await?;
    Ok(())
}

/// The newest release of each service of an app.
pub(crate) async fn newest<Q: Queryable>(on: &Q, app: &AppName) -> Result<BTreeMap<ServiceName, Release>, Error> {
    let rows = sql("SELECT r.body FROM newest n JOIN releases r ON r.id = n.release WHERE n.app = $1")
        .bind(app.as_str())
        .all(on)
        .await?;
    by_service(&rows)
}

/// Apps that were built or are somewhere.
pub(crate) async fn apps<Q: Queryable>(on: &Q) -> Result<BTreeSet<AppName>, Error> {
    let rows = sql("SELECT app FROM newest UNION SELECT app FROM current_releases").all(on).await?;
    rows.iter().map(|row| name(row, "app")).collect()
}

/// What an environment has of an app.
pub(crate) async fn current<Q: Queryable>(on: &Q, project: &Project) -> Result<BTreeMap<ServiceName, Release>, Error> {
    let rows = sql(
        "SELECT r.body FROM current_releases c JOIN releases r ON r.id = c.release WHERE c.env = $1 AND c.app = $2",
    )
    .bind(project.env.as_str())
    .bind(project.app.as_str())
    .all(on)
    .await?;
    by_service(&rows)
}

/// What environments have of an app, with the time since when.
pub(crate) async fn current_everywhere<Q: Queryable>(
    on: &Q,
    app: &AppName,
) -> Result<Vec<(Project, Release, Micros)>, Error> {
    let rows = sql("SELECT c.env, c.app, c.since, r.body FROM current_releases c JOIN releases r ON r.id = c.release
                    WHERE c.app = $1 ORDER BY c.env, c.service")
    .bind(app.as_str())
    .all(on)
    .await?;
    rows.iter()
        .map(|row| {
            let project = Project { env: name(row, "env")?, app: name(row, "app")? };
            Ok((project, document(row, "body")?, row.get("since")?))
        })
        .collect()
}

/// Sets, or with none takes away, what an environment has of a service, and tells of it.
pub(crate) async fn current_set(
    tx: &mut Tx,
    project: &Project,
    service: &ServiceName,
    release: Option<&ReleaseId>,
    at: Micros,
) -> Result<(), Error> {
    sql("DELETE FROM current_releases WHERE env = $1 AND app = $2 AND service = $3")
        .bind(project.env.as_str())
        .bind(project.app.as_str())
        .bind(service.as_str())
        .execute(tx)
        .await?;
    if let Some(release) = release {
        sql("INSERT INTO current_releases (env, app, service, release, since) VALUES ($1, $2, $3, $4, $5)")
            .bind(project.env.as_str())
            .bind(project.app.as_str())
            .bind(service.as_str())
            .bind(release.as_str())
            .bind(at)
            .execute(tx)
            .await?;
    }
    let Project { env, app } = project.clone();
    let event = Deployed::Environment { env, app, service: service.clone(), release: release.cloned(), at };
    events::append(tx, &event, at).await
}

/// Releases by id.
pub(crate) async fn by_ids<Q: Queryable>(
    on: &Q,
    ids: impl IntoIterator<Item = ReleaseId>,
) -> Result<BTreeMap<ReleaseId, Release>, Error> {
    let ids: BTreeSet<ReleaseId> = ids.into_iter().collect();
    let mut releases = BTreeMap::new();
    for id in ids {
        let row = sql("SELECT body FROM releases WHERE id = $1").bind(id.as_str()).optional(on).await?;
        if let Some(row) = row {
            releases.insert(id, document(&row, "body")?);
        }
    }
    Ok(releases)
}

/// Up to two releases whose id begins with this.
pub(crate) async fn by_prefix<Q: Queryable>(on: &Q, prefix: &str) -> Result<Vec<Release>, Error> {
    // `g` follows the last hexadecimal digit.
    let rows = sql("SELECT body FROM releases WHERE id >= $1 AND id < $2 ORDER BY id LIMIT 2")
        .bind(prefix)
        .bind(format!("{prefix}g"))
        .all(on)
        .await?;
    rows.iter().map(|row| document(row, "body")).collect()
}

/// Releases, newest first.
pub(crate) async fn page<Q: Queryable>(
    on: &Q,
    filter: &ReleaseFilter,
    after: Option<&str>,
    limit: u32,
) -> Result<Page<Release>, Error> {
    let invalid = || {
        Error::new(
            ErrorKind::RequestInvalid,
            "the page cursor is not one",
            "Pass the `next` of the page before unchanged.",
        )
    };
    let (at, id) = match after {
        None => (i64::MAX, String::new()),
        Some(cursor) => {
            let (at, id) = cursor.split_once('.').ok_or_else(invalid)?;
            (at.parse().map_err(|_| invalid())?, id.to_owned())
        }
    };
    let app = filter.app.as_ref().map_or("", AppName::as_str);
    let service = filter.service.as_ref().map_or("", ServiceName::as_str);
    let rows = sql("SELECT body FROM releases
         WHERE (created_at < $1 OR (created_at = $2 AND id < $3)) AND ($4 = '' OR app = $5) AND ($6 = '' OR service = $7)
         ORDER BY created_at DESC, id DESC LIMIT $8")
    .bind(at)
    .bind(at)
    .bind(id)
    .bind(app)
    .bind(app)
    .bind(service)
    .bind(service)
    .bind(i64::from(limit) + 1)
    .all(on)
    .await?;
    let items = rows.iter().map(|row| document(row, "body")).collect::<Result<Vec<Release>, Error>>()?;
    Ok(Page::from_surplus(items, limit, |release| format!("{}.{}", release.created_at.0, release.id)))
}

fn by_service(rows: &[Row]) -> Result<BTreeMap<ServiceName, Release>, Error> {
    rows.iter()
        .map(|row| {
            let release: Release = document(row, "body")?;
            Ok((release.service.clone(), release))
        })
        .collect()
}
