//! Alerts: what is to be told, what was told, and how far each message is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::Micros;
use api::inspect::{Alert, Delivery, News, Severity};
use base::db::{LIST_MAX, Row, Tx, sql};
use base::lease::Fence;
use futures::FutureExt as _;

use super::advisories::{Vulnerability, vulnerability};
use super::{Store, damaged, numbers_take};
use crate::hub::error::Error;
use crate::hub::findings::severity_of;
use crate::hub::vulnerabilities::severity_word;

/// Alerts that are kept: older ones go.
const KEPT_MAX: i64 = 10_000;

/// Why something is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::hub) enum Reason {
    Affected,
    Exploited,
    Severity,
    /// These are the first advisories.
    First,
}

impl Reason {
    const fn word(self) -> &'static str {
        match self {
            Self::Affected => "affected",
            Self::Exploited => "exploited",
            Self::Severity => "severity",
            Self::First => "first",
        }
    }

    fn of(word: &str) -> Result<Self, Error> {
        [Self::Affected, Self::Exploited, Self::Severity, Self::First]
            .into_iter()
            .find(|reason| reason.word() == word)
            .ok_or_else(|| damaged("reason", word))
    }
}

/// A vulnerability that got worse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Worse {
    pub(in crate::hub) id: String,
    pub(in crate::hub) reason: Reason,
    /// How it was rated before.
    pub(in crate::hub) was: Severity,
}

/// What is to be told of one vulnerability.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::hub) struct Pending {
    /// Why, with how it was rated before.
    pub(in crate::hub) reasons: BTreeMap<Reason, Severity>,
    /// Components that became affected.
    pub(in crate::hub) components: BTreeSet<i64>,
}

/// A message that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Message {
    pub(in crate::hub) alert: Alert,
    pub(in crate::hub) tries: u32,
    pub(in crate::hub) due_at: Micros,
}

/// What came of sending one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Sent {
    Taken,
    /// It is sent again, not before then.
    Again {
        due_at: Micros,
        why: String,
    },
    /// It is not sent again, and with it those that were recorded until `until` and wait.
    Dead {
        until: Micros,
        why: String,
    },
}

/// Notes with a file that is taken in what got worse by it.
pub(super) async fn changed(tx: &mut Tx, is_first: bool, worse: &[Worse]) -> Result<(), Error> {
    if is_first {
        note(tx, "", 0, Reason::First, Severity::Unknown).await?;
    }
    for Worse { id, reason, was } in worse {
        note(tx, id, 0, *reason, *was).await?;
    }
    Ok(())
}

/// Notes that a component became affected.
pub(super) async fn affected(tx: &mut Tx, component: i64, id: &str) -> Result<(), Error> {
    note(tx, id, component, Reason::Affected, Severity::Unknown).await
}

/// Notes that what a component has goes by another name from now on.
pub(super) async fn renamed(tx: &mut Tx, component: i64, before: &str, id: &str) -> Result<(), Error> {
    sql("UPDATE alert_pending SET id = $1 WHERE id = $2 AND component = $3")
        .bind(id)
        .bind(before)
        .bind(component)
        .execute(tx)
        .await?;
    Ok(())
}

/// What was noted before stays: it is what people know.
async fn note(tx: &mut Tx, id: &str, component: i64, reason: Reason, was: Severity) -> Result<(), Error> {
    sql("INSERT INTO alert_pending (id, component, reason, was) VALUES ($1, $2, $3, $4)
         ON CONFLICT (id, component, reason) DO NOTHING")
    .bind(id)
    .bind(component)
    .bind(reason.word())
    .bind(severity_word(was))
    .execute(tx)
    .await?;
    Ok(())
}

impl Store {
    /// What is to be told, by vulnerability: at most so many rows, whole vulnerabilities each, the last of which is named.
    pub(in crate::hub) async fn alerts_pending(
        &self,
        rows_max: u32,
    ) -> Result<Option<(HashMap<String, Pending>, String)>, Error> {
        let rows = sql("SELECT id, component, reason, was FROM alert_pending ORDER BY id, component LIMIT $1")
            .bind(rows_max)
            .all(&self.db)
            .await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let mut last: String = last.get("id")?;
        let mut pending: HashMap<String, Pending> = HashMap::new();
        let mut before = None;
        for row in &rows {
            let id: String = row.get("id")?;
            if id != last {
                before = Some(id.clone());
            }
            let one = pending.entry(id).or_default();
            one.reasons.insert(Reason::of(&row.get::<String>("reason")?)?, severity_of(&row.get::<String>("was")?));
            one.components.extend(Some(row.get::<i64>("component")?).filter(|component| *component > 0));
        }
        // The last of a full page may go on behind it.
        if rows.len() == rows_max as usize
            && let Some(before) = before
        {
            pending.remove(&last);
            last = before;
        }
        Ok(Some((pending, last)))
    }

    /// Vulnerabilities by id, without those that are not there.
    pub(in crate::hub) async fn vulnerabilities_of(&self, ids: &[String]) -> Result<Vec<Vulnerability>, Error> {
        let mut all = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(LIST_MAX) {
            let statement = sql(
                "SELECT id, names, summary, severity, known_exploited, published FROM vulnerability WHERE id = ANY($1)",
            );
            for row in statement.bind(chunk).all(&self.db).await? {
                all.push(vulnerability(&row)?);
            }
        }
        Ok(all)
    }

    /// The components that a vulnerability affects for certain, with the versions that are not affected any more.
    pub(in crate::hub) async fn affected_by(&self, id: &str) -> Result<BTreeMap<i64, Vec<String>>, Error> {
        let rows = sql("SELECT component, fixed_in FROM finding WHERE id = $1 AND is_certain = 1").bind(id);
        let mut affected = BTreeMap::new();
        for row in rows.all(&self.db).await? {
            let fixed_in: String = row.get("fixed_in")?;
            let fixed_in = serde_json::from_str(&fixed_in).map_err(|error| damaged("fixed_in", error))?;
            affected.insert(row.get("component")?, fixed_in);
        }
        Ok(affected)
    }

    /// Components that anything affects for certain, from after this one on.
    pub(in crate::hub) async fn affected_after(&self, component: i64, limit: u32) -> Result<Vec<i64>, Error> {
        let rows = sql("SELECT DISTINCT component FROM finding WHERE component > $1 AND is_certain = 1 \
             ORDER BY component LIMIT $2")
        .bind(component)
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter().map(|row| Ok(row.get("component")?)).collect()
    }

    /// What affects one of these components for certain, by id.
    pub(in crate::hub) async fn affecting(&self, components: &[i64]) -> Result<BTreeSet<String>, Error> {
        let mut ids = BTreeSet::new();
        for chunk in components.chunks(LIST_MAX) {
            let statement = sql("SELECT DISTINCT id FROM finding WHERE is_certain = 1 AND component = ANY($1)");
            for row in statement.bind(chunk).all(&self.db).await? {
                ids.insert(row.get("id")?);
            }
        }
        Ok(ids)
    }

    /// Records alerts in this order and takes away what they tell of, up to the vulnerability `last`. False, and nothing is
    /// changed, where another file of advisories was taken in meanwhile.
    pub(in crate::hub) async fn alerts_record(
        &self,
        fence: Fence,
        version: i64,
        last: String,
        alerts: Vec<(String, News)>,
        is_sent: bool,
        now: Micros,
    ) -> Result<bool, Error> {
        let alerts = Arc::new(alerts);
        self.db
            .write(move |tx| {
                let (fence, last, alerts) = (fence.clone(), last.clone(), Arc::clone(&alerts));
                async move {
                    fence.check(tx).await?;
                    let current = sql("SELECT version FROM advisory_data WHERE id = 1").optional(tx).await?;
                    if current.map(|row| row.get::<i64>("version")).transpose()? != Some(version) {
                        return Ok(false);
                    }
                    let first = numbers_take(tx, "alert", alerts.len()).await?;
                    for (number, (message, news)) in (first..).zip(alerts.iter()) {
                        let news = serde_json::to_string(news).map_err(|error| damaged("news", error))?;
                        sql("INSERT INTO alert (number, at, message, news, state, tries, due_at, why)
                             VALUES ($1, $2, $3, $4, $5, 0, $6, '')")
                        .bind(number)
                        .bind(now)
                        .bind(message)
                        .bind(news)
                        .bind(if is_sent { "waiting" } else { "none" })
                        .bind(now)
                        .execute(tx)
                        .await?;
                    }
                    sql("DELETE FROM alert_pending WHERE id <= $1").bind(&last).execute(tx).await?;
                    sql("DELETE FROM alert WHERE number <= (SELECT last FROM numbers WHERE name = 'alert') - $1 \
                         AND state <> 'waiting'")
                    .bind(KEPT_MAX)
                    .execute(tx)
                    .await?;
                    Ok::<_, Error>(true)
                }
                .boxed()
            })
            .await
    }

    /// Alerts from after this time and number on: the last first, and of one time by number. At most `limit`.
    pub(in crate::hub) async fn alerts(&self, after: Option<(Micros, i64)>, limit: u32) -> Result<Vec<Alert>, Error> {
        let (at, number) = after.unwrap_or((Micros(i64::MAX), 0));
        let rows = sql("SELECT number, at, message, news, state, tries, due_at, ended_at, why FROM alert \
             WHERE at < $1 OR (at = $1 AND number > $2) ORDER BY at DESC, number LIMIT $3")
        .bind(at)
        .bind(number)
        .bind(limit)
        .all(&self.db)
        .await?;
        rows.iter().map(alert).collect()
    }

    /// The first message that waits.
    pub(in crate::hub) async fn alert_first(&self) -> Result<Option<Message>, Error> {
        let row = sql("SELECT number, at, message, news, state, tries, due_at, ended_at, why FROM alert \
             WHERE state = 'waiting' ORDER BY number LIMIT 1")
        .optional(&self.db)
        .await?;
        row.map(|row| Ok(Message { alert: alert(&row)?, tries: row.get("tries")?, due_at: row.get("due_at")? }))
            .transpose()
    }

    /// Notes what came of sending a message.
    pub(in crate::hub) async fn alert_sent(
        &self,
        fence: Fence,
        number: u64,
        sent: Sent,
        now: Micros,
    ) -> Result<(), Error> {
        let number = i64::try_from(number).map_err(|error| damaged("number", error))?;
        self.db
            .write(move |tx| {
                let (fence, sent) = (fence.clone(), sent.clone());
                async move {
                    fence.check(tx).await?;
                    match sent {
                        Sent::Taken => {
                            sql("UPDATE alert SET state = 'sent', ended_at = $1, why = '' WHERE number = $2")
                                .bind(now)
                                .bind(number)
                                .execute(tx)
                                .await?;
                        }
                        Sent::Again { due_at, why } => {
                            sql("UPDATE alert SET tries = tries + 1, due_at = $1, why = $2 WHERE number = $3")
                                .bind(due_at)
                                .bind(why)
                                .bind(number)
                                .execute(tx)
                                .await?;
                        }
                        Sent::Dead { until, why } => {
                            sql("UPDATE alert SET state = 'dead', ended_at = $1, why = $2 \
                                 WHERE state = 'waiting' AND (number = $3 OR at <= $4)")
                            .bind(now)
                            .bind(why)
                            .bind(number)
                            .bind(until)
                            .execute(tx)
                            .await?;
                        }
                    }
                    Ok::<_, Error>(())
                }
                .boxed()
            })
            .await
    }

    /// How many messages wait, and how many were given up.
    pub(in crate::hub) async fn alerts_count(&self) -> Result<(u64, u64), Error> {
        let row = sql("SELECT (SELECT CAST(COUNT(*) AS BIGINT) FROM alert WHERE state = 'waiting') AS waiting, \
             (SELECT CAST(COUNT(*) AS BIGINT) FROM alert WHERE state = 'dead') AS dead")
        .one(&self.db)
        .await?;
        Ok((row.get("waiting")?, row.get("dead")?))
    }
}

fn alert(row: &Row) -> Result<Alert, Error> {
    let news: String = row.get("news")?;
    let (state, why): (String, String) = (row.get("state")?, row.get("why")?);
    let ended = || row.get::<Option<Micros>>("ended_at").map(|at| at.unwrap_or(Micros(0)));
    Ok(Alert {
        number: row.get("number")?,
        message: row.get("message")?,
        at: row.get("at")?,
        news: serde_json::from_str(&news).map_err(|error| damaged("news", error))?,
        delivery: match &*state {
            "none" => None,
            "waiting" => {
                Some(Delivery::Waiting { tries: row.get("tries")?, why: Some(why).filter(|why| !why.is_empty()) })
            }
            "sent" => Some(Delivery::Sent { at: ended()? }),
            "dead" => Some(Delivery::Dead { at: ended()?, why }),
            _ => return Err(damaged("state", state)),
        },
    })
}
