//! Plans with their steps, the record of promotions, and which jobs succeeded.

use std::collections::BTreeMap;

use api::delivery::{PlanKind, PlanState, ReleaseId, Step};
use api::{AppName, EnvName, Micros, ServiceName};
use base::db::{Queryable, Row, Tx, sql};

use super::{count, document, document_option, from_word, name, text, word};
use crate::error::Error;
use crate::model::{Placed, PlanRecord, Project, StepRecord, Undo};

/// Stores a new plan and the promotions it carries out.
pub(crate) async fn insert(tx: &mut Tx, plan: &PlanRecord) -> Result<(), Error> {
    let kind = word(&plan.kind, "kind")?;
    sql("INSERT INTO plans (id, env, app, kind, state, changes, policy, error, requested_by, reason, created_at, finished_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)")
    .bind(&plan.id)
    .bind(plan.project.env.as_str())
    .bind(plan.project.app.as_str())
    .bind(&kind)
    .bind(word(&plan.state, "state")?)
    .bind(text(&plan.changes, "changes")?)
    .bind(text(&plan.policy, "policy")?)
    .bind(error_text(plan)?)
    .bind(&plan.requested_by)
    .bind(plan.reason.clone())
    .bind(plan.created_at)
    .bind(plan.finished_at)
    .execute(tx)
    .await?;
    for record in &plan.steps {
        step_insert(tx, &plan.id, record).await?;
    }
    for change in &plan.changes {
        sql("INSERT INTO promotions (plan, env, app, service, release, from_release, kind, at, requested_by, reason)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")
        .bind(&plan.id)
        .bind(plan.project.env.as_str())
        .bind(plan.project.app.as_str())
        .bind(change.service.as_str())
        .bind(change.to.as_ref().map(|id| id.as_str().to_owned()))
        .bind(change.from.as_ref().map(|id| id.as_str().to_owned()))
        .bind(&kind)
        .bind(plan.created_at)
        .bind(&plan.requested_by)
        .bind(plan.reason.clone())
        .execute(tx)
        .await?;
    }
    Ok(())
}

fn error_text(plan: &PlanRecord) -> Result<Option<String>, Error> {
    plan.error.as_ref().map(|error| text(error, "error")).transpose()
}

async fn step_insert(tx: &mut Tx, plan: &str, record: &StepRecord) -> Result<(), Error> {
    let step = &record.step;
    sql("INSERT INTO steps (plan, number, wave, action, host, service, release, instances, state, before_release,
         before_instances, told) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)")
    .bind(plan)
    .bind(step.number)
    .bind(record.wave)
    .bind(word(&step.action, "action")?)
    .bind(step.host.as_str())
    .bind(step.service.as_str())
    .bind(step.release.as_str())
    .bind(step.instances)
    .bind(word(&step.state, "state")?)
    .bind(record.before.as_ref().map(|before| before.release.as_str().to_owned()))
    .bind(record.before.as_ref().map(|before| i64::from(before.instances)))
    .bind(count(record.told))
    .execute(tx)
    .await?;
    Ok(())
}

/// Stores what became of a plan: its state, and the steps that differ from `before`.
pub(crate) async fn update(tx: &mut Tx, before: &PlanRecord, after: &PlanRecord) -> Result<(), Error> {
    sql("UPDATE plans SET state = $1, error = $2, finished_at = $3 WHERE id = $4")
        .bind(word(&after.state, "state")?)
        .bind(error_text(after)?)
        .bind(after.finished_at)
        .bind(&after.id)
        .execute(tx)
        .await?;
    for (old, new) in before.steps.iter().zip(&after.steps) {
        if old == new {
            continue;
        }
        let undo = match new.undo {
            Undo::No => None,
            Undo::Active(at) => Some(at.0),
            Undo::Done => Some(0),
        };
        sql("UPDATE steps SET state = $1, started_at = $2, finished_at = $3, detail = $4, told = $5, undo_at = $6
             WHERE plan = $7 AND number = $8")
        .bind(word(&new.step.state, "state")?)
        .bind(new.step.started_at)
        .bind(new.step.finished_at)
        .bind(new.step.detail.clone())
        .bind(count(new.told))
        .bind(undo)
        .bind(&after.id)
        .bind(new.step.number)
        .execute(tx)
        .await?;
    }
    Ok(())
}

fn step(row: &Row) -> Result<StepRecord, Error> {
    let before_release: Option<String> = row.get("before_release")?;
    let before_instances: Option<u32> = row.get("before_instances")?;
    let before = match before_release.zip(before_instances) {
        Some((release, instances)) => Some(Placed { release: super::parsed(&release, "before_release")?, instances }),
        None => None,
    };
    let undo = match row.get::<Option<i64>>("undo_at")? {
        None => Undo::No,
        Some(0) => Undo::Done,
        Some(at) => Undo::Active(Micros(at)),
    };
    Ok(StepRecord {
        step: Step {
            number: row.get("number")?,
            action: from_word(row, "action")?,
            host: name(row, "host")?,
            service: name(row, "service")?,
            release: name(row, "release")?,
            instances: row.get("instances")?,
            state: from_word(row, "state")?,
            started_at: row.get("started_at")?,
            finished_at: row.get("finished_at")?,
            detail: row.get("detail")?,
        },
        wave: row.get("wave")?,
        before,
        told: row.get("told")?,
        undo,
    })
}

async fn plan<Q: Queryable>(on: &Q, row: &Row) -> Result<PlanRecord, Error> {
    let id: String = row.get("id")?;
    let steps = sql("SELECT * FROM steps WHERE plan = $1 ORDER BY number").bind(&id).all(on).await?;
    Ok(PlanRecord {
        project: Project { env: name(row, "env")?, app: name(row, "app")? },
        kind: from_word::<PlanKind>(row, "kind")?,
        changes: document(row, "changes")?,
        policy: document(row, "policy")?,
        steps: steps.iter().map(step).collect::<Result<_, _>>()?,
        state: from_word::<PlanState>(row, "state")?,
        error: document_option(row, "error")?,
        requested_by: row.get("requested_by")?,
        reason: row.get("reason")?,
        created_at: row.get("created_at")?,
        finished_at: row.get("finished_at")?,
        id,
    })
}

/// A plan.
pub(crate) async fn get<Q: Queryable>(on: &Q, id: &str) -> Result<Option<PlanRecord>, Error> {
    match sql("SELECT * FROM plans WHERE id = $1").bind(id).optional(on).await? {
        Some(row) => Ok(Some(plan(on, &row).await?)),
        None => Ok(None),
    }
}

/// Ids of plans that have not ended, oldest first.
pub(crate) async fn under_way<Q: Queryable>(on: &Q) -> Result<Vec<String>, Error> {
    let rows = sql("SELECT id FROM plans WHERE finished_at IS NULL ORDER BY id").all(on).await?;
    rows.iter().map(|row| Ok(row.get("id")?)).collect()
}

/// The plan that works on a project.
pub(crate) async fn under_way_on<Q: Queryable>(on: &Q, project: &Project) -> Result<Option<PlanRecord>, Error> {
    let row = sql("SELECT * FROM plans WHERE env = $1 AND app = $2 AND finished_at IS NULL")
        .bind(project.env.as_str())
        .bind(project.app.as_str())
        .optional(on)
        .await?;
    match row {
        Some(row) => Ok(Some(plan(on, &row).await?)),
        None => Ok(None),
    }
}

/// The last plan of a project that succeeded and, if one is given, changed the service.
pub(crate) async fn last_succeeded<Q: Queryable>(
    on: &Q,
    project: &Project,
    service: Option<&ServiceName>,
) -> Result<Option<PlanRecord>, Error> {
    let service = service.map_or("", ServiceName::as_str);
    let row = sql("SELECT * FROM plans p WHERE env = $1 AND app = $2 AND state = 'succeeded' AND EXISTS
         (SELECT 1 FROM promotions m WHERE m.plan = p.id AND ($3 = '' OR m.service = $4)) ORDER BY id DESC LIMIT 1")
    .bind(project.env.as_str())
    .bind(project.app.as_str())
    .bind(service)
    .bind(service)
    .optional(on)
    .await?;
    match row {
        Some(row) => Ok(Some(plan(on, &row).await?)),
        None => Ok(None),
    }
}

/// Plans, newest first, and one more than `limit` if there are more.
pub(crate) async fn newest<Q: Queryable>(
    on: &Q,
    app: Option<&AppName>,
    env: Option<&EnvName>,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<PlanRecord>, Error> {
    let (app, env) = (app.map_or("", AppName::as_str), env.map_or("", EnvName::as_str));
    // Ids are UUIDv7: their order is that of time, and `g` comes after all of them.
    let rows = sql("SELECT * FROM plans WHERE id < $1 AND ($2 = '' OR app = $3) AND ($4 = '' OR env = $5)
         ORDER BY id DESC LIMIT $6")
    .bind(after.unwrap_or("g"))
    .bind(app)
    .bind(app)
    .bind(env)
    .bind(env)
    .bind(i64::from(limit) + 1)
    .all(on)
    .await?;
    let mut plans = Vec::new();
    for row in &rows {
        plans.push(plan(on, row).await?);
    }
    Ok(plans)
}

/// The last release of each job that succeeded in a project.
pub(crate) async fn jobs_succeeded<Q: Queryable>(
    on: &Q,
    project: &Project,
) -> Result<BTreeMap<ServiceName, ReleaseId>, Error> {
    let rows = sql("SELECT service, release FROM job_successes WHERE env = $1 AND app = $2")
        .bind(project.env.as_str())
        .bind(project.app.as_str())
        .all(on)
        .await?;
    rows.iter().map(|row| Ok((name(row, "service")?, name(row, "release")?))).collect()
}

/// Records that a job succeeded.
pub(crate) async fn job_succeeded_set(
    tx: &mut Tx,
    plan: &PlanRecord,
    service: &ServiceName,
    release: &ReleaseId,
    at: Micros,
) -> Result<(), Error> {
    sql("INSERT INTO job_successes (env, app, service, release, run, at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (env, app, service) DO UPDATE SET release = excluded.release, run = excluded.run, at = excluded.at")
    .bind(plan.project.env.as_str())
    .bind(plan.project.app.as_str())
    .bind(service.as_str())
    .bind(release.as_str())
    .bind(plan.run(service))
    .bind(at)
    .execute(tx)
    .await?;
    Ok(())
}
