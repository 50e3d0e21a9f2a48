//! What delivery tells: releases, environments and hosts.

use std::collections::BTreeMap;

use api::delivery::{Deployed, ReleaseId};
use api::inspect::NotExamined;
use api::{AppName, EnvName, HostName, Micros, ServiceName};
use base::db::{LIST_MAX, Queryable, Row, Tx, sql};
use futures::FutureExt as _;
use oci::Digest;

use super::{Changing, Store, digest, parsed, raise};
use crate::hub::error::Error;
use crate::hub::numbers::Numbers;

/// Releases of a service that are looked at for a fix.
const RELEASES_MAX: u32 = 2000;

/// Releases whose hosts are listed at once: each may run on thousands.
const RELEASES_AT_ONCE: usize = 20;

/// A release of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct ReleaseRow {
    pub(in crate::hub) release: ReleaseId,
    pub(in crate::hub) app: AppName,
    pub(in crate::hub) service: ServiceName,
    /// The image that was asked for, which may be one of the release's index.
    pub(in crate::hub) image: Digest,
}

/// A time in which an environment had a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Exposed {
    pub(in crate::hub) env: EnvName,
    pub(in crate::hub) since: Micros,
    pub(in crate::hub) until: Option<Micros>,
    pub(in crate::hub) hosts: Vec<HostName>,
}

fn release(row: &Row) -> Result<ReleaseRow, Error> {
    Ok(ReleaseRow {
        release: parsed(row, "id")?,
        app: parsed(row, "app")?,
        service: parsed(row, "service")?,
        image: digest(row, "image")?,
    })
}

impl Store {
    /// Takes what delivery tells. Telling it again changes nothing.
    pub(in crate::hub) async fn deployed(&self, event: Deployed) -> Result<(), Error> {
        self.db
            .write(move |tx| {
                let event = event.clone();
                async move { take(tx, &event).await }.boxed()
            })
            .await
    }
}

impl<Q: Queryable> Store<Q> {
    /// Releases of images, also those of an index that has one.
    pub(in crate::hub) async fn releases(&self, images: &[Digest]) -> Result<Vec<ReleaseRow>, Error> {
        let texts: Vec<String> = images.iter().map(ToString::to_string).collect();
        let mut releases = Vec::new();
        for chunk in texts.chunks(LIST_MAX) {
            let statement = sql("SELECT id, app, service, digest AS image, created_at FROM release_known \
                 WHERE digest = ANY($1) UNION ALL \
                 SELECT r.id AS id, r.app AS app, r.service AS service, c.child AS image, r.created_at AS created_at \
                 FROM index_child c CROSS JOIN release_known r WHERE r.digest = c.parent AND c.child = ANY($1) \
                 ORDER BY created_at, id");
            for row in statement.bind(chunk).all(&self.db).await? {
                releases.push(release(&row)?);
            }
        }
        Ok(releases)
    }

    /// When environments have releases, or with `history` had them.
    pub(in crate::hub) async fn exposures(
        &self,
        releases: &[ReleaseId],
        history: bool,
    ) -> Result<BTreeMap<ReleaseId, Vec<Exposed>>, Error> {
        let texts: Vec<String> = releases.iter().map(|release| release.as_str().to_owned()).collect();
        let mut exposures: BTreeMap<ReleaseId, Vec<Exposed>> = BTreeMap::new();
        for chunk in texts.chunks(RELEASES_AT_ONCE) {
            let statement = sql("SELECT release, env, since, until FROM exposure WHERE release = ANY($1) \
                 AND ($2 = 1 OR until IS NULL) ORDER BY env, since");
            for row in statement.bind(chunk).bind(history).all(&self.db).await? {
                exposures.entry(parsed(&row, "release")?).or_default().push(Exposed {
                    env: parsed(&row, "env")?,
                    since: row.get("since")?,
                    until: row.get("until")?,
                    hosts: Vec::new(),
                });
            }
            let statement = sql("SELECT DISTINCT release, env, host FROM running WHERE release = ANY($1) \
                 ORDER BY release, env, host");
            for row in statement.bind(chunk).all(&self.db).await? {
                let (release, env): (ReleaseId, EnvName) = (parsed(&row, "release")?, parsed(&row, "env")?);
                let host: HostName = parsed(&row, "host")?;
                let known = exposures.entry(release).or_default();
                match known.iter_mut().rfind(|exposed| exposed.env == env && exposed.until.is_none()) {
                    Some(exposed) => exposed.hosts.push(host),
                    // A rollout that is under way, or one that failed and was not taken back everywhere.
                    None => {
                        known.push(Exposed { env, since: self.told_at(&host).await?, until: None, hosts: vec![host] })
                    }
                }
            }
        }
        Ok(exposures)
    }

    async fn told_at(&self, host: &HostName) -> Result<Micros, Error> {
        let row = sql("SELECT at FROM host_told WHERE host = $1").bind(host.as_str()).optional(&self.db).await?;
        Ok(row.map(|row| row.get("at")).transpose()?.unwrap_or(Micros(0)))
    }

    /// Images that environments have or hosts run, by number.
    pub(in crate::hub) async fn images_used(&self) -> Result<Numbers, Error> {
        let rows = sql("WITH used AS (SELECT DISTINCT digest FROM running UNION SELECT r.digest FROM exposure e \
             JOIN release_known r ON r.id = e.release WHERE e.until IS NULL) \
             SELECT i.number AS number FROM used u JOIN image i ON i.digest = u.digest \
             UNION SELECT i.number AS number FROM used u JOIN index_child c ON c.parent = u.digest \
             JOIN image i ON i.digest = c.child")
        .all(&self.db)
        .await?;
        rows.iter().map(|row| Ok(row.get("number")?)).collect()
    }

    /// What hosts run and nothing is known of, at most `limit`.
    pub(in crate::hub) async fn not_examined(&self, limit: u32) -> Result<Vec<NotExamined>, Error> {
        let unknown = sql("SELECT r.host AS host, r.app AS app, r.service AS service, r.digest AS digest, \
             COALESCE(i.state, '') AS state, COALESCE(i.why, '') AS why FROM running r \
             LEFT JOIN image i ON i.digest = r.digest WHERE (i.state IS NULL OR i.state <> 'done') \
             AND NOT EXISTS (SELECT 1 FROM index_child c WHERE c.parent = r.digest) \
             ORDER BY r.host, r.digest, r.app, r.service LIMIT $1")
        .bind(limit)
        .all(&self.db)
        .await?;
        let of_index = sql("SELECT r.host AS host, r.app AS app, r.service AS service, i.digest AS digest, \
             i.state AS state, i.why AS why FROM running r JOIN index_child c ON c.parent = r.digest \
             JOIN image i ON i.digest = c.child WHERE i.state IN ('waiting', 'failed') \
             ORDER BY r.host, i.digest, r.app, r.service LIMIT $1")
        .bind(limit)
        .all(&self.db)
        .await?;
        let mut all = Vec::new();
        for row in unknown.iter().chain(&of_index) {
            let (state, why): (String, String) = (row.get("state")?, row.get("why")?);
            all.push(NotExamined {
                host: parsed(row, "host")?,
                image: format!(
                    "{}/{}@{}",
                    row.get::<String>("app")?,
                    row.get::<String>("service")?,
                    row.get::<String>("digest")?
                ),
                why: match (&*state, &*why) {
                    ("", _) => "its image is not in the hub's registry".to_owned(),
                    ("waiting", "") => "its image waits to be read".to_owned(),
                    (_, "") => "its image is none that can be read".to_owned(),
                    (_, why) => format!("its image was not read: {why}"),
                },
            });
        }
        all.truncate(limit as usize);
        Ok(all)
    }

    /// Releases of a service with the images of each and whether these were read, the oldest first.
    pub(in crate::hub) async fn releases_of(
        &self,
        app: &AppName,
        service: &ServiceName,
    ) -> Result<Vec<(ReleaseId, Vec<(i64, bool)>)>, Error> {
        let rows = sql("SELECT r.id AS id, i.number AS number, i.state AS state FROM \
             (SELECT id, digest, created_at FROM release_known WHERE app = $1 AND service = $2 \
             ORDER BY created_at DESC, id DESC LIMIT $3) r \
             LEFT JOIN image i ON i.digest = r.digest OR i.digest IN \
             (SELECT c.child FROM index_child c WHERE c.parent = r.digest) ORDER BY r.created_at, r.id, i.number")
        .bind(app.as_str())
        .bind(service.as_str())
        .bind(RELEASES_MAX)
        .all(&self.db)
        .await?;
        let mut releases: Vec<(ReleaseId, Vec<(i64, bool)>)> = Vec::new();
        for row in &rows {
            let id: ReleaseId = parsed(row, "id")?;
            if releases.last().is_none_or(|(last, _)| *last != id) {
                releases.push((id, Vec::new()));
            }
            let (number, state): (Option<i64>, Option<String>) = (row.get("number")?, row.get("state")?);
            if let (Some((_, images)), Some(number), Some(state)) = (releases.last_mut(), number, state)
                && state != "other"
            {
                images.push((number, state == "done"));
            }
        }
        Ok(releases)
    }
}

async fn take(tx: &mut Tx, event: &Deployed) -> Result<(), Error> {
    match event {
        Deployed::Release { release, app, service, image, created_at } => {
            sql("INSERT INTO release_known (id, app, service, repository, digest, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING")
            .bind(release.as_str())
            .bind(app.as_str())
            .bind(service.as_str())
            .bind(image.repository.as_str())
            .bind(image.digest.to_string())
            .bind(*created_at)
            .execute(tx)
            .await?;
        }
        Deployed::Environment { env, app, service, release, at } => {
            // Whatever is told of a time that is known already was told before.
            let known = sql("SELECT 1 AS one FROM exposure WHERE env = $1 AND app = $2 AND service = $3 \
                 AND (since >= $4 OR until >= $4) LIMIT 1");
            let known = known.bind(env.as_str()).bind(app.as_str()).bind(service.as_str()).bind(*at);
            if known.optional(tx).await?.is_some() {
                return Ok(());
            }
            sql("UPDATE exposure SET until = $1 WHERE env = $2 AND app = $3 AND service = $4 AND until IS NULL")
                .bind(*at)
                .bind(env.as_str())
                .bind(app.as_str())
                .bind(service.as_str())
                .execute(tx)
                .await?;
            if let Some(release) = release {
                sql("INSERT INTO exposure (env, app, service, since, release) VALUES ($1, $2, $3, $4, $5)")
                    .bind(env.as_str())
                    .bind(app.as_str())
                    .bind(service.as_str())
                    .bind(*at)
                    .bind(release.as_str())
                    .execute(tx)
                    .await?;
            }
        }
        Deployed::Host { host, at, running } => {
            let newer = sql("SELECT 1 AS one FROM host_told WHERE host = $1 AND at >= $2");
            if newer.bind(host.as_str()).bind(*at).optional(tx).await?.is_some() {
                return Ok(());
            }
            sql("INSERT INTO host_told (host, at) VALUES ($1, $2) ON CONFLICT (host) DO UPDATE SET at = excluded.at")
                .bind(host.as_str())
                .bind(*at)
                .execute(tx)
                .await?;
            sql("DELETE FROM running WHERE host = $1").bind(host.as_str()).execute(tx).await?;
            for one in running {
                sql("INSERT INTO running (host, env, app, service, release, digest) VALUES ($1, $2, $3, $4, $5, $6)
                     ON CONFLICT (host, env, app, service, release, digest) DO NOTHING")
                .bind(host.as_str())
                .bind(one.env.as_str())
                .bind(one.app.as_str())
                .bind(one.service.as_str())
                .bind(one.release.as_str())
                .bind(one.digest.to_string())
                .execute(tx)
                .await?;
            }
        }
    }
    raise(tx, Changing::Deployments).await
}
