//! Leases with fencing: what must happen in one place at a time happens there, even when that place was slow and another
//! took over.
//!
//! A lease alone does not exclude a holder that paused and wakes up late. Therefore each taking over raises a fencing
//! number, and a transaction that depends on the lease checks the number within itself ([`Fence::check`]).

use std::time::Duration;

use futures::FutureExt as _;

use crate::clock::Micros;
use crate::db::{Db, DbError, DbErrorKind, Tx, sql};

/// The right of a holder at a moment: the lease's name and fencing number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    name: String,
    number: i64,
}

impl Fence {
    /// The fencing number: higher for each holder that took over.
    pub fn number(&self) -> i64 {
        self.number
    }

    /// Fails the transaction when someone else holds the lease now.
    ///
    /// # Errors
    /// [`DbErrorKind::LeaseLost`], or any [`DbError`].
    pub async fn check(&self, tx: &mut Tx) -> Result<(), DbError> {
        let row = sql("SELECT fence FROM base_lease WHERE name = $1").bind(&self.name).optional(tx).await?;
        match row.map(|row| row.get::<i64>("fence")).transpose()? {
            Some(fence) if fence == self.number => Ok(()),
            _ => Err(self.lost()),
        }
    }

    fn lost(&self) -> DbError {
        DbError::new(DbErrorKind::LeaseLost, format!("the lease `{}` was taken over by another process", self.name))
            .with_hint("nothing is to be done here: the other process goes on with the work")
    }
}

/// A lease that is held. Dropping it lets it run out; [`Lease::release`] frees it at once.
#[derive(Clone)]
pub struct Lease {
    db: Db,
    holder: String,
    ttl: Duration,
    fence: Fence,
}

impl Lease {
    /// Takes the lease if nobody else holds it. A holder that asks again gets a new fencing number, because it does not
    /// know what it did before.
    ///
    /// # Errors
    /// Any [`DbError`].
    pub async fn acquire(
        db: &Db,
        name: &str,
        holder: &str,
        ttl: Duration,
        now: Micros,
    ) -> Result<Option<Self>, DbError> {
        let (wanted, by) = (name.to_owned(), holder.to_owned());
        let number = db
            .write(move |tx| {
                let (name, holder) = (wanted.clone(), by.clone());
                async move {
                    let until = now.plus(ttl);
                    let row = sql("SELECT holder, fence, expires_at FROM base_lease WHERE name = $1")
                        .bind(&name)
                        .optional(tx)
                        .await?;
                    let Some(row) = row else {
                        sql("INSERT INTO base_lease (name, holder, fence, expires_at) VALUES ($1, $2, 1, $3)")
                            .bind(&name)
                            .bind(&holder)
                            .bind(until)
                            .execute(tx)
                            .await?;
                        return Ok(Some(1));
                    };
                    let fence: i64 = row.get("fence")?;
                    if row.get::<String>("holder")? != holder && row.get::<Micros>("expires_at")? > now {
                        return Ok::<_, DbError>(None);
                    }
                    sql("UPDATE base_lease SET holder = $1, fence = $2, expires_at = $3 WHERE name = $4")
                        .bind(&holder)
                        .bind(fence + 1)
                        .bind(until)
                        .bind(&name)
                        .execute(tx)
                        .await?;
                    Ok(Some(fence + 1))
                }
                .boxed()
            })
            .await;
        let number = match number {
            // Two made the row at the same moment; the other one has it.
            Err(error) if error.is_unique_violation() => None,
            other => other?,
        };
        Ok(number.map(|number| Self {
            db: db.clone(),
            holder: holder.to_owned(),
            ttl,
            fence: Fence { name: name.to_owned(), number },
        }))
    }

    /// The fence to check in every transaction that depends on this lease.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Holds it for another `ttl` from now. Also right after it ran out, as long as nobody took over.
    ///
    /// # Errors
    /// [`DbErrorKind::LeaseLost`], or any [`DbError`].
    pub async fn renew(&self, now: Micros) -> Result<(), DbError> {
        self.set_end(now.plus(self.ttl)).await
    }

    /// Frees it for others at once.
    ///
    /// # Errors
    /// [`DbErrorKind::LeaseLost`], or any [`DbError`].
    pub async fn release(self) -> Result<(), DbError> {
        self.set_end(Micros(i64::MIN)).await
    }

    async fn set_end(&self, end: Micros) -> Result<(), DbError> {
        let lease = self.clone();
        let changed = self
            .db
            .write(move |tx| {
                let lease = lease.clone();
                async move {
                    sql("UPDATE base_lease SET expires_at = $1 WHERE name = $2 AND fence = $3 AND holder = $4")
                        .bind(end)
                        .bind(&lease.fence.name)
                        .bind(lease.fence.number)
                        .bind(&lease.holder)
                        .execute(tx)
                        .await
                }
                .boxed()
            })
            .await?;
        if changed == 1 { Ok(()) } else { Err(self.fence.lost()) }
    }
}

/// Keeps a lease for one who works under it again and again: takes it when it is free, and renews it when a third of its
/// time is over.
pub struct LeaseKeeper {
    db: Db,
    name: &'static str,
    holder: String,
    ttl: Duration,
    /// The lease, and when it was taken or renewed.
    held: Option<(Lease, Micros)>,
}

impl LeaseKeeper {
    /// Nothing is taken yet.
    pub fn new(db: Db, name: &'static str, holder: String, ttl: Duration) -> Self {
        Self { db, name, holder, ttl, held: None }
    }

    /// The fence to work under at this moment; none while somebody else holds the lease. Another than the one before
    /// says that others may have worked meanwhile.
    ///
    /// # Errors
    /// Any [`DbError`].
    pub async fn fence(&mut self, now: Micros) -> Result<Option<Fence>, DbError> {
        if let Some((lease, at)) = &mut self.held {
            if now.since(*at) < self.ttl / 3 {
                return Ok(Some(lease.fence.clone()));
            }
            match lease.renew(now).await {
                Ok(()) => {
                    *at = now;
                    return Ok(Some(lease.fence.clone()));
                }
                Err(error) if error.kind() == DbErrorKind::LeaseLost => self.held = None,
                Err(error) => return Err(error),
            }
        }
        let lease = Lease::acquire(&self.db, self.name, &self.holder, self.ttl, now).await?;
        self.held = lease.map(|lease| (lease, now));
        Ok(self.held.as_ref().map(|(lease, _)| lease.fence.clone()))
    }

    /// Says that somebody else took it over, as a transaction found.
    pub fn forget(&mut self) {
        self.held = None;
    }
}
