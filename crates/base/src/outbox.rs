//! The outbox: events written in the same transaction as what they tell of, and handed on in order, at least once.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Micros;
use crate::db::{Db, DbError, Tx, sql};

/// Entries handed over before the outbox is looked at again.
pub const OUTBOX_PAGE_ENTRIES: u32 = 100;
/// Bytes of one payload as JSON at most: an event says that something happened, it does not carry it.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// An event on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Grows with every entry of this database, in the order of the transactions. A consumer that has seen a number
    /// may skip it: delivery is at least once.
    pub number: i64,
    /// What kind of event.
    pub topic: String,
    /// The event as JSON text.
    pub payload: String,
    /// When it was written.
    pub appended_at: Micros,
}

impl Entry {
    /// The payload as the type that the topic stands for.
    ///
    /// # Errors
    /// The payload has another shape.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.payload)
    }
}

/// What can go wrong in the outbox.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError<E> {
    /// The outbox itself cannot be read or written.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The consumer did not take an entry; it and all behind it stay.
    #[error("event {number} ({topic}) was not taken, it and all later ones wait: {error}")]
    Consumer {
        /// Number of the entry.
        number: i64,
        /// Topic of the entry.
        topic: String,
        /// Why.
        error: E,
    },
}

/// Writes an event; it becomes visible with the transaction.
///
/// # Errors
/// Any [`DbError`], also for a payload above [`PAYLOAD_BYTES_MAX`].
pub async fn append<T: Serialize + Sync>(tx: &mut Tx, topic: &str, payload: &T, now: Micros) -> Result<i64, DbError> {
    let payload = serde_json::to_string(payload).map_err(|error| {
        DbError::new(crate::db::DbErrorKind::Query, format!("the event `{topic}` is not JSON")).with_source(error)
    })?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(DbError::new(
            crate::db::DbErrorKind::Query,
            format!("the event `{topic}` has {} bytes, more than {PAYLOAD_BYTES_MAX}", payload.len()),
        ));
    }
    // The row serialises all writers of events, which gives numbers in the order of the commits.
    let number: i64 =
        sql("UPDATE base_outbox_number SET last = last + 1 WHERE id = 1 RETURNING last").one(tx).await?.get("last")?;
    sql("INSERT INTO base_outbox (number, topic, payload, appended_at) VALUES ($1, $2, $3, $4)")
        .bind(number)
        .bind(topic)
        .bind(payload)
        .bind(now)
        .execute(tx)
        .await?;
    Ok(number)
}

/// Hands the waiting entries to the consumer, one after another in order, up to one page, and removes those taken.
/// Gives how many were taken; a full page ([`OUTBOX_PAGE_ENTRIES`]) means that more may wait. When the process ends in
/// between, entries are handed over again: the consumer must be idempotent.
///
/// # Errors
/// [`OutboxError::Consumer`] with the first entry that was not taken; those before it are removed.
pub async fn deliver<E, F, Taken>(db: &Db, mut consumer: F) -> Result<u32, OutboxError<E>>
where
    F: FnMut(Entry) -> Taken,
    Taken: Future<Output = Result<(), E>>,
{
    let rows = sql("SELECT number, topic, payload, appended_at FROM base_outbox ORDER BY number LIMIT $1")
        .bind(OUTBOX_PAGE_ENTRIES)
        .all(db)
        .await?;
    let mut taken = 0;
    let mut last = None;
    let mut refused = None;
    for row in rows {
        let entry = Entry {
            number: row.get("number")?,
            topic: row.get("topic")?,
            payload: row.get("payload")?,
            appended_at: row.get("appended_at")?,
        };
        let (number, topic) = (entry.number, entry.topic.clone());
        match consumer(entry).await {
            Ok(()) => {
                taken += 1;
                last = Some(number);
            }
            Err(error) => {
                refused = Some(OutboxError::Consumer { number, topic, error });
                break;
            }
        }
    }
    if let Some(last) = last {
        db.write(move |tx| {
            Box::pin(async move { sql("DELETE FROM base_outbox WHERE number <= $1").bind(last).execute(tx).await })
        })
        .await?;
    }
    match refused {
        Some(error) => Err(error),
        None => Ok(taken),
    }
}
