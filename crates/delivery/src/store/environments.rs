//! Environments as they were applied, with every version before.

use api::delivery::{Environment, EnvironmentSpec};
use api::{EnvName, Micros};
use base::db::{Queryable, Row, Tx, sql};

use super::{document, name, text};
use crate::error::{Error, ErrorKind};
use crate::model::environments_ordered;

fn environment(row: &Row) -> Result<Environment, Error> {
    Ok(Environment {
        name: name(row, "name")?,
        spec: document(row, "spec")?,
        revision: row.get("revision")?,
        applied_at: row.get("applied_at")?,
    })
}

/// All environments in their order.
pub(crate) async fn all<Q: Queryable>(on: &Q) -> Result<Vec<Environment>, Error> {
    let rows = sql("SELECT name, spec, revision, applied_at FROM environments ORDER BY position, name").all(on).await?;
    Ok(environments_ordered(rows.iter().map(environment).collect::<Result<_, _>>()?))
}

/// An environment.
///
/// # Errors
/// [`ErrorKind::EnvironmentUnknown`].
pub(crate) async fn get<Q: Queryable>(on: &Q, env: &EnvName) -> Result<Environment, Error> {
    let all = all(on).await?;
    if let Some(found) = all.iter().find(|environment| environment.name == *env) {
        return Ok(found.clone());
    }
    let hint = if all.is_empty() {
        "Declare environments in a file and apply it: `longshore env apply -f environments.yaml`.".to_owned()
    } else {
        let names: Vec<&str> = all.iter().map(|environment| environment.name.as_str()).collect();
        format!("There are: {}. Declare others with `longshore env apply -f FILE`.", names.join(", "))
    };
    Err(Error::new(ErrorKind::EnvironmentUnknown, format!("{env} is not an environment of this hub"), hint))
}

/// Applies a version and gives its revision. `position` orders environments that do not come after one another.
pub(crate) async fn apply(
    tx: &mut Tx,
    name: &EnvName,
    spec: &EnvironmentSpec,
    position: i64,
    file_name: &str,
    at: Micros,
) -> Result<u64, Error> {
    let last =
        sql("SELECT CAST(COALESCE(MAX(revision), 0) AS BIGINT) AS revision FROM environment_history WHERE name = $1")
            .bind(name.as_str())
            .one(tx)
            .await?;
    let revision = last.get::<i64>("revision")? + 1;
    let spec = text(spec, "environment")?;
    sql("INSERT INTO environment_history (name, revision, spec, file_name, applied_at) VALUES ($1, $2, $3, $4, $5)")
        .bind(name.as_str())
        .bind(revision)
        .bind(&spec)
        .bind(file_name)
        .bind(at)
        .execute(tx)
        .await?;
    sql("INSERT INTO environments (name, spec, revision, position, applied_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (name) DO UPDATE
         SET spec = excluded.spec, revision = excluded.revision, position = excluded.position, applied_at = excluded.applied_at")
    .bind(name.as_str())
    .bind(&spec)
    .bind(revision)
    .bind(position)
    .bind(at)
    .execute(tx)
    .await?;
    Ok(revision.unsigned_abs())
}
