//! Advisories: the file, what it speaks of, and which components have what.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use api::Micros;
use base::db::{LIST_MAX, Queryable, Row, Tx, sql};
use futures::FutureExt as _;

use super::alerts::{self, Worse};
use super::lookup::{Key, key};
use super::{ROWS, Store, damaged, rows_text, whole};
use crate::hub::error::Error;

/// Rows that one transaction changes.
const CHUNK: usize = 2000;
/// Findings that are read at once.
const FINDINGS_PAGE: u32 = 20_000;
/// Names for which components are looked up one by one; for more, all are compared anew.
const NAMES_MAX: usize = 2000;

/// A vulnerability, as lists of it show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Vulnerability {
    pub(in crate::hub) id: String,
    pub(in crate::hub) names: Vec<String>,
    pub(in crate::hub) summary: String,
    pub(in crate::hub) severity: String,
    pub(in crate::hub) known_exploited: bool,
    pub(in crate::hub) published: Option<Micros>,
}

/// What changes with a new file.
#[derive(Debug, Default)]
pub(in crate::hub) struct Change {
    pub(in crate::hub) bytes: Vec<u8>,
    pub(in crate::hub) new: Vec<Vulnerability>,
    pub(in crate::hub) gone: Vec<String>,
    pub(in crate::hub) worse: Vec<Worse>,
    /// Names of components, with the word of their ecosystem.
    pub(in crate::hub) names: BTreeSet<(&'static str, String)>,
}

/// A component that has a vulnerability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Match {
    pub(in crate::hub) is_certain: bool,
    pub(in crate::hub) fixed_in: Vec<String>,
}

impl Store {
    /// Takes a file in the place of another of that version, and says which components are to be compared anew. False
    /// where another was taken in meanwhile.
    pub(in crate::hub) async fn advisories_change(
        &self,
        before: i64,
        change: Change,
        now: Micros,
    ) -> Result<bool, Error> {
        let change = Arc::new(change);
        for at in (0..change.new.len()).step_by(CHUNK) {
            let change = Arc::clone(&change);
            self.db
                .write(move |tx| {
                    let change = Arc::clone(&change);
                    async move {
                        let end = change.new.len().min(at + CHUNK);
                        vulnerabilities_put(tx, change.new.get(at..end).unwrap_or_default()).await
                    }
                    .boxed()
                })
                .await?;
        }
        self.db
            .write(move |tx| {
                let change = Arc::clone(&change);
                async move {
                    let known = sql("SELECT version FROM advisory_data WHERE id = 1").optional(tx).await?;
                    if known.map(|row| row.get("version")).transpose()?.unwrap_or(0_i64) != before {
                        return Ok(false);
                    }
                    for id in &change.gone {
                        sql("DELETE FROM vulnerability WHERE id = $1").bind(id).execute(tx).await?;
                        sql("DELETE FROM vulnerability_name WHERE id = $1").bind(id).execute(tx).await?;
                    }
                    sql("INSERT INTO advisory_data (id, version, taken_in, bytes) VALUES (1, $1, $2, $3)
                         ON CONFLICT (id) DO UPDATE SET version = excluded.version, taken_in = excluded.taken_in,
                         bytes = excluded.bytes")
                    .bind(before + 1)
                    .bind(now)
                    .bind(change.bytes.as_slice())
                    .execute(tx)
                    .await?;
                    alerts::changed(tx, before == 0, &change.worse).await?;
                    if change.names.len() > NAMES_MAX {
                        sql("UPDATE component SET matched = -matched WHERE matched > 0").execute(tx).await?;
                        return Ok(true);
                    }
                    for (ecosystem, name) in &change.names {
                        for text in [
                            "UPDATE component SET matched = -matched WHERE name_key = $1 AND ecosystem = $2 AND matched > 0",
                            "UPDATE component SET matched = -matched WHERE source_key = $1 AND source_key <> '' \
                             AND ecosystem = $2 AND matched > 0",
                        ] {
                            sql(text).bind(name).bind(*ecosystem).execute(tx).await?;
                        }
                    }
                    Ok::<_, Error>(true)
                }
                .boxed()
            })
            .await
    }

    /// Keeps what components have, by a version of the file; the first time that each was seen stays. False where there is
    /// another file meanwhile: nothing more is kept.
    pub(in crate::hub) async fn matched(
        &self,
        version: i64,
        matches: BTreeMap<i64, BTreeMap<String, Match>>,
        now: Micros,
    ) -> Result<bool, Error> {
        let all: Vec<(i64, BTreeMap<String, Match>)> = matches.into_iter().collect();
        for chunk in all.chunks(CHUNK) {
            let chunk = Arc::new(chunk.to_vec());
            let is_current = self
                .db
                .write(move |tx| {
                    let chunk = Arc::clone(&chunk);
                    async move { matched(tx, version, &chunk, now).await }.boxed()
                })
                .await?;
            if !is_current {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl<Q: Queryable> Store<Q> {
    /// Components that are to be compared, by number, after that one.
    pub(in crate::hub) async fn unmatched(&self, after: i64, limit: u32) -> Result<Vec<(i64, Key)>, Error> {
        let rows = sql("SELECT id, ecosystem, name, version, architecture, source_name, source_version, platform \
             FROM component WHERE matched <= 0 AND id > $1 ORDER BY id LIMIT $2")
        .bind(after)
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter().map(|row| Ok((row.get("id")?, key(row)?))).collect()
    }

    /// The version of the file of advisories, and when it was taken in; none where there is none.
    pub(in crate::hub) async fn advisory_version(&self) -> Result<Option<(i64, Micros)>, Error> {
        let row = sql("SELECT version, taken_in FROM advisory_data WHERE id = 1").optional(&self.db).await?;
        row.map(|row| Ok((row.get("version")?, row.get("taken_in")?))).transpose()
    }

    /// The file of advisories.
    pub(in crate::hub) async fn advisory_bytes(&self) -> Result<Option<(i64, Vec<u8>)>, Error> {
        let row = sql("SELECT version, bytes FROM advisory_data WHERE id = 1").optional(&self.db).await?;
        row.map(|row| Ok((row.get("version")?, row.get("bytes")?))).transpose()
    }

    /// How many components wait to be compared.
    pub(in crate::hub) async fn unmatched_count(&self) -> Result<u64, Error> {
        let row = sql("SELECT CAST(COUNT(*) AS BIGINT) AS count FROM component WHERE matched <= 0");
        Ok(row.one(&self.db).await?.get("count")?)
    }

    /// Vulnerabilities of a name.
    pub(in crate::hub) async fn vulnerabilities(&self, name: &str) -> Result<Vec<Vulnerability>, Error> {
        let rows = sql("SELECT v.id AS id, v.names AS names, v.summary AS summary, v.severity AS severity, \
             v.known_exploited AS known_exploited, v.published AS published \
             FROM vulnerability_name n JOIN vulnerability v ON v.id = n.id WHERE n.name = $1 ORDER BY v.id LIMIT 1000")
        .bind(name)
        .all(&self.db)
        .await?;
        rows.iter().map(vulnerability).collect()
    }

    /// Which of these components have one of these vulnerabilities.
    pub(in crate::hub) async fn found(&self, ids: &[String], components: &[i64]) -> Result<HashMap<i64, Match>, Error> {
        let mut found: HashMap<i64, Match> = HashMap::new();
        for ids in ids.chunks(LIST_MAX) {
            for chunk in components.chunks(LIST_MAX) {
                let statement = sql("SELECT component, is_certain, fixed_in FROM finding \
                     WHERE component = ANY($1) AND id = ANY($2) ORDER BY component, id");
                for row in statement.bind(chunk).bind(ids).all(&self.db).await? {
                    let one = matched_row(&row)?;
                    let known = found.entry(row.get("component")?).or_insert_with(|| one.clone());
                    known.is_certain |= one.is_certain;
                }
            }
        }
        Ok(found)
    }

    /// When vulnerabilities were first seen here, of those that are.
    pub(in crate::hub) async fn first_seen(&self, ids: &[String]) -> Result<BTreeMap<String, Micros>, Error> {
        let mut first = BTreeMap::new();
        for chunk in ids.chunks(LIST_MAX) {
            let statement = sql("SELECT id, MIN(first_seen) AS first_seen FROM finding WHERE id = ANY($1) GROUP BY id");
            for row in statement.bind(chunk).all(&self.db).await? {
                first.insert(row.get("id")?, row.get("first_seen")?);
            }
        }
        Ok(first)
    }
}

/// A row with all columns of a vulnerability.
pub(super) fn vulnerability(row: &Row) -> Result<Vulnerability, Error> {
    let names: String = row.get("names")?;
    Ok(Vulnerability {
        id: row.get("id")?,
        names: serde_json::from_str(&names).map_err(|error| damaged("names", error))?,
        summary: row.get("summary")?,
        severity: row.get("severity")?,
        known_exploited: row.get("known_exploited")?,
        published: row.get("published")?,
    })
}

fn matched_row(row: &Row) -> Result<Match, Error> {
    let fixed_in: String = row.get("fixed_in")?;
    let fixed_in = match fixed_in.as_str() {
        "[]" => Vec::new(),
        text => serde_json::from_str(text).map_err(|error| damaged("fixed_in", error))?,
    };
    Ok(Match { is_certain: row.get("is_certain")?, fixed_in })
}

async fn vulnerabilities_put(tx: &mut Tx, all: &[Vulnerability]) -> Result<(), Error> {
    const PUT: &str = "INSERT INTO vulnerability (id, names, summary, severity, known_exploited, published)";
    const AGAIN: &str = "ON CONFLICT (id) DO UPDATE SET names = excluded.names, summary = excluded.summary, \
         severity = excluded.severity, known_exploited = excluded.known_exploited, published = excluded.published";
    const NAME: &str = "INSERT INTO vulnerability_name (name, id)";
    static MANY: LazyLock<String> = LazyLock::new(|| rows_text(PUT, 6, ROWS, AGAIN));
    static ONE: LazyLock<String> = LazyLock::new(|| rows_text(PUT, 6, 1, AGAIN));
    static NAMES: LazyLock<String> = LazyLock::new(|| rows_text(NAME, 2, ROWS, ""));
    static NAME_ONE: LazyLock<String> = LazyLock::new(|| rows_text(NAME, 2, 1, ""));
    for rows in all.chunks(ROWS) {
        for (text, rows) in whole(rows, &MANY, &ONE) {
            let mut statement = sql(text);
            for one in rows {
                let names = serde_json::to_string(&one.names).map_err(|error| damaged("names", error))?;
                statement = statement.bind(&one.id).bind(names).bind(&one.summary).bind(&one.severity);
                statement = statement.bind(one.known_exploited).bind(one.published);
            }
            statement.execute(tx).await?;
        }
    }
    for chunk in all.chunks(LIST_MAX) {
        let ids: Vec<String> = chunk.iter().map(|one| one.id.clone()).collect();
        let gone = sql("DELETE FROM vulnerability_name WHERE id = ANY($1)");
        gone.bind(&ids[..]).execute(tx).await?;
    }
    let names: BTreeSet<(&String, &String)> =
        all.iter().flat_map(|one| one.names.iter().map(move |name| (name, &one.id))).collect();
    let names: Vec<_> = names.into_iter().collect();
    for rows in names.chunks(ROWS) {
        for (text, rows) in whole(rows, &NAMES, &NAME_ONE) {
            let statement = rows.iter().fold(sql(text), |statement, (name, id)| statement.bind(*name).bind(*id));
            statement.execute(tx).await?;
        }
    }
    Ok(())
}

async fn matched(
    tx: &mut Tx,
    version: i64,
    chunk: &[(i64, BTreeMap<String, Match>)],
    now: Micros,
) -> Result<bool, Error> {
    let current = sql("SELECT version FROM advisory_data WHERE id = 1").optional(tx).await?;
    if current.map(|row| row.get::<i64>("version")).transpose()? != Some(version) {
        return Ok(false);
    }
    const PUT: &str = "INSERT INTO finding (component, id, is_certain, fixed_in, first_seen)";
    const AGAIN: &str = "ON CONFLICT (component, id) DO UPDATE SET is_certain = excluded.is_certain, \
         fixed_in = excluded.fixed_in, first_seen = excluded.first_seen";
    static MANY: LazyLock<String> = LazyLock::new(|| rows_text(PUT, 5, ROWS, AGAIN));
    static ONE: LazyLock<String> = LazyLock::new(|| rows_text(PUT, 5, 1, AGAIN));
    const TOUCH: &str = "INSERT INTO attaching_component (component)";
    const TOUCHED_BEFORE: &str = "ON CONFLICT (component) DO NOTHING";
    static TOUCHED: LazyLock<String> = LazyLock::new(|| rows_text(TOUCH, 1, ROWS, TOUCHED_BEFORE));
    static TOUCHED_ONE: LazyLock<String> = LazyLock::new(|| rows_text(TOUCH, 1, 1, TOUCHED_BEFORE));
    // Those that wait, between the first and the last of these, are these: what is new has a greater number. What was never
    // compared has nothing yet. Those that wait have an index of their own, and few of all between may wait.
    let (Some((first, _)), Some((last, _))) = (chunk.first(), chunk.last()) else { return Ok(true) };
    let mut known: HashMap<(i64, String), (Match, Micros)> = HashMap::new();
    let there =
        sql("SELECT f.component AS component, f.id AS id, f.is_certain AS is_certain, f.fixed_in AS fixed_in, \
         f.first_seen AS first_seen FROM component c CROSS JOIN finding f WHERE f.component = c.id \
         AND c.matched <= 0 AND c.matched < 0 AND c.id >= $1 AND c.id <= $2 \
         AND (c.id > $3 OR c.id = $3 AND f.id > $4) ORDER BY c.id, f.id LIMIT $5");
    let mut after = (0_i64, String::new());
    loop {
        let rows = there.clone().bind(*first).bind(*last).bind(after.0).bind(&after.1).bind(FINDINGS_PAGE);
        let rows = rows.all(tx).await?;
        for row in &rows {
            after = (row.get("component")?, row.get("id")?);
            known.insert(after.clone(), (matched_row(row)?, row.get("first_seen")?));
        }
        if rows.len() < FINDINGS_PAGE as usize {
            break;
        }
    }
    let again = sql("SELECT id FROM component WHERE matched <= 0 AND matched < 0 AND id >= $1 AND id <= $2");
    let again = again.bind(*first).bind(*last);
    let again: HashSet<i64> = again.all(tx).await?.iter().map(|row| row.get("id")).collect::<Result<_, _>>()?;
    sql("UPDATE component SET matched = $1 WHERE matched <= 0 AND id >= $2 AND id <= $3")
        .bind(version)
        .bind(*first)
        .bind(*last)
        .execute(tx)
        .await?;
    let mut changed: Vec<Changed<'_>> = Vec::new();
    let mut new: Vec<(usize, i64, &String)> = Vec::new();
    for (component, found) in chunk {
        for (id, one) in found {
            let (was, first_seen) = match known.remove(&(*component, id.clone())) {
                Some((was, first_seen)) => (Some(was), first_seen),
                None => (None, now),
            };
            if was.as_ref() == Some(one) {
                continue;
            }
            if one.is_certain && again.contains(component) && was.is_none_or(|was| !was.is_certain) {
                new.push((changed.len(), *component, id));
            }
            changed.push(Changed { component: *component, id, one, first_seen });
        }
    }
    // What is left is there no more; that of a component may be there under another name.
    let mut gone: HashMap<i64, Vec<(String, Match, Micros)>> = HashMap::new();
    for ((component, id), (one, first_seen)) in known {
        gone.entry(component).or_default().push((id, one, first_seen));
    }
    for (at, component, id) in new {
        let names = gone.get(&component).map(Vec::as_slice).unwrap_or_default();
        match renamed(tx, id, names).await? {
            Some((before, first_seen)) => {
                if let Some(changed) = changed.get_mut(at) {
                    changed.first_seen = first_seen;
                }
                alerts::renamed(tx, component, &before, id).await?;
            }
            None => alerts::affected(tx, component, id).await?,
        }
    }
    for rows in changed.chunks(ROWS) {
        for (text, rows) in whole(rows, &MANY, &ONE) {
            let mut statement = sql(text);
            for Changed { component, id, one, first_seen } in rows {
                let fixed_in = serde_json::to_string(&one.fixed_in).map_err(|error| damaged("fixed_in", error))?;
                statement = statement.bind(*component).bind(*id).bind(one.is_certain).bind(fixed_in).bind(*first_seen);
            }
            statement.execute(tx).await?;
        }
    }
    // Also those of which the same is found: it may be rated otherwise.
    let found = chunk.iter().filter(|(_, found)| !found.is_empty()).map(|(component, _)| *component);
    let components: BTreeSet<i64> = found.chain(gone.keys().copied()).collect();
    let components: Vec<i64> = components.into_iter().collect();
    for rows in components.chunks(ROWS) {
        for (text, rows) in whole(rows, &TOUCHED, &TOUCHED_ONE) {
            rows.iter().fold(sql(text), |statement, component| statement.bind(*component)).execute(tx).await?;
        }
    }
    for (component, ids) in gone {
        for (id, ..) in ids {
            sql("DELETE FROM finding WHERE component = $1 AND id = $2").bind(component).bind(id).execute(tx).await?;
        }
    }
    Ok(true)
}

/// A finding that is new, or another than it was.
struct Changed<'a> {
    component: i64,
    id: &'a String,
    one: &'a Match,
    first_seen: Micros,
}

/// Which of the vulnerabilities that a component had for certain is this one under the name that it had before, and since
/// when it was known.
async fn renamed(tx: &mut Tx, id: &str, gone: &[(String, Match, Micros)]) -> Result<Option<(String, Micros)>, Error> {
    for (before, _, first_seen) in gone.iter().filter(|(_, was, _)| was.is_certain) {
        let known = sql("SELECT 1 AS one FROM vulnerability_name WHERE name = $1 AND id = $2").bind(before).bind(id);
        if known.optional(tx).await?.is_some() {
            return Ok(Some((before.clone(), *first_seen)));
        }
    }
    Ok(None)
}
