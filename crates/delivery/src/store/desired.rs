//! Placements, service numbers, and what each host was told.

use std::collections::{BTreeMap, BTreeSet};

use api::agent::DesiredProject;
use api::delivery::{ReleaseId, RolloutPolicy};
use api::{HostName, ServiceName};
use base::db::{Queryable, Tx, sql};

use super::{document, hosts, name, plans, releases, text};
use crate::desired::{Input, desired, ports};
use crate::error::Error;
use crate::execute::PlacementChange;
use crate::model::{Placed, Placements, Project};

/// What a project is to run where.
pub(crate) async fn placements<Q: Queryable>(on: &Q, project: &Project) -> Result<Placements, Error> {
    let rows = sql("SELECT service, host, release, instances FROM placements WHERE env = $1 AND app = $2")
        .bind(project.env.as_str())
        .bind(project.app.as_str())
        .all(on)
        .await?;
    rows.iter()
        .map(|row| {
            let placed = Placed { release: name(row, "release")?, instances: row.get("instances")? };
            Ok(((name(row, "service")?, name(row, "host")?), placed))
        })
        .collect()
}

/// A service of another project that is, or by a plan under way will be, on a host.
pub(crate) struct Neighbour {
    /// Its project.
    pub(crate) project: Project,
    /// Its name.
    pub(crate) service: ServiceName,
    /// Its release.
    pub(crate) release: ReleaseId,
    /// The host.
    pub(crate) host: HostName,
}

/// All services of other projects.
pub(crate) async fn neighbours<Q: Queryable>(on: &Q, project: &Project) -> Result<Vec<Neighbour>, Error> {
    let rows = sql("SELECT env, app, service, host, release FROM placements
         UNION SELECT p.env, p.app, s.service, s.host, s.release FROM steps s JOIN plans p ON p.id = s.plan
         WHERE p.finished_at IS NULL AND s.action IN ('start', 'replace')")
    .all(on)
    .await?;
    let mut neighbours = Vec::new();
    for row in &rows {
        let of = Project { env: name(row, "env")?, app: name(row, "app")? };
        if of != *project {
            neighbours.push(Neighbour {
                project: of,
                service: name(row, "service")?,
                release: name(row, "release")?,
                host: name(row, "host")?,
            });
        }
    }
    Ok(neighbours)
}

/// Changes a placement.
pub(crate) async fn placement_set(tx: &mut Tx, project: &Project, change: &PlacementChange) -> Result<(), Error> {
    sql("DELETE FROM placements WHERE env = $1 AND app = $2 AND service = $3 AND host = $4")
        .bind(project.env.as_str())
        .bind(project.app.as_str())
        .bind(change.service.as_str())
        .bind(change.host.as_str())
        .execute(tx)
        .await?;
    if let Some(placed) = &change.to {
        sql("INSERT INTO placements (env, app, service, host, release, instances) VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(project.env.as_str())
            .bind(project.app.as_str())
            .bind(change.service.as_str())
            .bind(change.host.as_str())
            .bind(placed.release.as_str())
            .bind(placed.instances)
            .execute(tx)
            .await?;
    }
    Ok(())
}

/// The projects of which a host runs something.
pub(crate) async fn projects_on<Q: Queryable>(on: &Q, host: &HostName) -> Result<Vec<Project>, Error> {
    let rows = sql("SELECT DISTINCT env, app FROM placements WHERE host = $1").bind(host.as_str()).all(on).await?;
    rows.iter().map(|row| Ok(Project { env: name(row, "env")?, app: name(row, "app")? })).collect()
}

/// Every project that a host was told of.
pub(crate) async fn projects_told<Q: Queryable>(on: &Q) -> Result<Vec<Project>, Error> {
    let rows = sql("SELECT DISTINCT env, app FROM desired_projects").all(on).await?;
    rows.iter().map(|row| Ok(Project { env: name(row, "env")?, app: name(row, "app")? })).collect()
}

/// The number of a host's desired state with its projects, as one moment has them.
pub(crate) async fn told<Q: Queryable>(on: &Q, host: &HostName) -> Result<(u64, Vec<DesiredProject>), Error> {
    let rows = sql("SELECT h.number, d.content FROM hosts h LEFT JOIN desired_projects d ON d.host = h.name
         WHERE h.name = $1 ORDER BY d.env, d.app")
    .bind(host.as_str())
    .all(on)
    .await?;
    let mut number = 0;
    let mut projects = Vec::new();
    for row in &rows {
        number = row.get("number")?;
        if row.get::<Option<String>>("content")?.is_some() {
            projects.push(document(row, "content")?);
        }
    }
    Ok((number, projects))
}

async fn numbers(
    tx: &mut Tx,
    project: &Project,
    reachable: &BTreeSet<&ServiceName>,
) -> Result<BTreeMap<ServiceName, u32>, Error> {
    let rows = sql("SELECT service, number FROM service_numbers WHERE env = $1 AND app = $2")
        .bind(project.env.as_str())
        .bind(project.app.as_str())
        .all(tx)
        .await?;
    let mut numbers = rows
        .iter()
        .map(|row| Ok((name(row, "service")?, row.get("number")?)))
        .collect::<Result<BTreeMap<ServiceName, u32>, Error>>()?;
    for service in reachable {
        if numbers.contains_key(*service) {
            continue;
        }
        // Rows are never deleted, so the number of them is the lowest that was never given.
        let number = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        sql("INSERT INTO service_numbers (env, app, service, number) VALUES ($1, $2, $3, $4)")
            .bind(project.env.as_str())
            .bind(project.app.as_str())
            .bind(service.as_str())
            .bind(number)
            .execute(tx)
            .await?;
        numbers.insert((*service).clone(), number);
    }
    Ok(numbers)
}

/// Reckons anew what the hosts of a project are to be, within the transaction that changed what it depends on. Hosts
/// whose state is another than before get the next number and are given back.
pub(crate) async fn refresh(tx: &mut Tx, project: &Project) -> Result<BTreeSet<HostName>, Error> {
    let placements = placements(tx, project).await?;
    let current: BTreeMap<ServiceName, ReleaseId> =
        releases::current(tx, project).await?.into_iter().map(|(service, release)| (service, release.id)).collect();
    let plan = plans::under_way_on(tx, project).await?;
    let ids = placements
        .values()
        .map(|placed| placed.release.clone())
        .chain(current.values().cloned())
        .chain(plan.iter().flat_map(|plan| plan.steps.iter().map(|record| record.step.release.clone())));
    let releases = releases::by_ids(tx, ids.collect::<Vec<_>>()).await?;
    let reachable: BTreeSet<&ServiceName> = placements
        .iter()
        .filter(|(_, placed)| {
            releases
                .get(&placed.release)
                .is_some_and(|release| !ports(release, release.definitions.of(&project.env)).is_empty())
        })
        .map(|((service, _), _)| service)
        .collect();
    let numbers = numbers(tx, project, &reachable).await?;
    let meshes = hosts::all(tx).await?.into_iter().filter_map(|row| Some((row.view.name, row.view.mesh?))).collect();
    let policy = sql("SELECT spec FROM environments WHERE name = $1").bind(project.env.as_str()).optional(tx).await?;
    let policy = match policy {
        Some(row) => document::<api::delivery::EnvironmentSpec>(&row, "spec")?.rollout,
        None => RolloutPolicy::default(),
    };
    let wanted = desired(&Input {
        project,
        policy: &policy,
        placements: &placements,
        current: &current,
        releases: &releases,
        plan: plan.as_ref(),
        numbers: &numbers,
        meshes: &meshes,
    });
    tell(tx, project, &wanted).await
}

async fn tell(
    tx: &mut Tx,
    project: &Project,
    wanted: &BTreeMap<HostName, DesiredProject>,
) -> Result<BTreeSet<HostName>, Error> {
    let rows = sql("SELECT host, content FROM desired_projects WHERE env = $1 AND app = $2")
        .bind(project.env.as_str())
        .bind(project.app.as_str())
        .all(tx)
        .await?;
    let mut held: BTreeMap<HostName, String> = BTreeMap::new();
    for row in &rows {
        held.insert(name(row, "host")?, row.get("content")?);
    }
    let mut changed = BTreeSet::new();
    for (host, content) in wanted {
        let content = text(content, "desired project")?;
        if held.remove(host).as_deref() == Some(&content) {
            continue;
        }
        sql("INSERT INTO desired_projects (host, env, app, content) VALUES ($1, $2, $3, $4)
             ON CONFLICT (host, env, app) DO UPDATE SET content = excluded.content")
        .bind(host.as_str())
        .bind(project.env.as_str())
        .bind(project.app.as_str())
        .bind(content)
        .execute(tx)
        .await?;
        changed.insert(host.clone());
    }
    for host in held.into_keys() {
        sql("DELETE FROM desired_projects WHERE host = $1 AND env = $2 AND app = $3")
            .bind(host.as_str())
            .bind(project.env.as_str())
            .bind(project.app.as_str())
            .execute(tx)
            .await?;
        changed.insert(host);
    }
    for host in &changed {
        sql("UPDATE hosts SET number = number + 1 WHERE name = $1").bind(host.as_str()).execute(tx).await?;
    }
    Ok(changed)
}
