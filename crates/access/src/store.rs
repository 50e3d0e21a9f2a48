//! The data of access: the only SQL of this context.

use std::collections::BTreeMap;

use api::{HostName, Micros};
use base::db::{Db, DbError, Migration, Queryable, Row, Tx, sql};
use futures::FutureExt as _;

use crate::ca::{Authority, StoredAuthority};
use crate::error::AccessError;
use crate::model::{Spent, StoredCertificate, StoredToken};

pub(crate) const CONTEXT: &str = "access";
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        number: 1,
        name: "ca_tokens_certificates",
        sql: include_str!("../migrations/0001_ca_tokens_certificates.sql"),
    },
    Migration { number: 2, name: "revoked", sql: include_str!("../migrations/0002_revoked.sql") },
];

fn damaged(what: &str) -> AccessError {
    AccessError::Ca(format!("the stored {what} is damaged; restore the database from a backup"))
}

fn host_of(text: String) -> Result<HostName, AccessError> {
    text.parse().map_err(|_| damaged("host name"))
}

fn labels_of(row: &Row) -> Result<BTreeMap<String, String>, AccessError> {
    serde_json::from_str(&row.get::<String>("labels")?).map_err(|_| damaged("label"))
}

/// The CA; made on the first call, whoever is first.
pub(crate) async fn authority(db: &Db, now: Micros) -> Result<Authority, AccessError> {
    let stored = db
        .write(move |tx| {
            async move {
                let row = sql("SELECT certificate, private_key FROM authority WHERE id = 1").optional(tx).await?;
                if let Some(row) = row {
                    return Ok(StoredAuthority {
                        certificate: row.get("certificate")?,
                        private_key: row.get("private_key")?,
                    });
                }
                let made = Authority::generate(now)?;
                sql("INSERT INTO authority (id, certificate, private_key, created_at) VALUES (1, $1, $2, $3)")
                    .bind(made.certificate.clone())
                    .bind(made.private_key.clone())
                    .bind(now)
                    .execute(tx)
                    .await?;
                Ok::<_, AccessError>(made)
            }
            .boxed()
        })
        .await?;
    Authority::from_stored(stored)
}

pub(crate) async fn token_insert(tx: &mut Tx, id: &str, token: &StoredToken, now: Micros) -> Result<(), AccessError> {
    let labels = serde_json::to_string(&token.labels).map_err(|_| damaged("label"))?;
    sql("INSERT INTO host_token (id, secret_sha256, host, labels, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(id)
        .bind(token.secret_sha256.clone())
        .bind(token.host.as_ref().map(HostName::as_str))
        .bind(labels)
        .bind(now)
        .bind(token.expires_at)
        .execute(tx)
        .await?;
    Ok(())
}

pub(crate) async fn token_get<Q: Queryable + ?Sized>(on: &Q, id: &str) -> Result<Option<StoredToken>, AccessError> {
    let row = sql("SELECT secret_sha256, host, labels, expires_at, spent_at, spent_by, spent_key_sha256, spent_serial
                   FROM host_token WHERE id = $1")
    .bind(id)
    .optional(on)
    .await?;
    row.map(|row| token_of(&row)).transpose()
}

fn token_of(row: &Row) -> Result<StoredToken, AccessError> {
    let labels = labels_of(row)?;
    let spent = match row.get::<Option<Micros>>("spent_at")? {
        None => None,
        Some(at) => Some(Spent {
            at,
            by: host_of(row.get("spent_by")?)?,
            key_sha256: row.get("spent_key_sha256")?,
            serial: row.get("spent_serial")?,
        }),
    };
    Ok(StoredToken {
        secret_sha256: row.get("secret_sha256")?,
        host: row.get::<Option<String>>("host")?.map(host_of).transpose()?,
        labels,
        expires_at: row.get("expires_at")?,
        spent,
    })
}

/// Marks a token as used. It must not have been used before.
pub(crate) async fn token_spend(tx: &mut Tx, id: &str, spent: &Spent) -> Result<(), AccessError> {
    let changed = sql("UPDATE host_token SET spent_at = $1, spent_by = $2, spent_key_sha256 = $3, spent_serial = $4
                       WHERE id = $5 AND spent_at IS NULL")
    .bind(spent.at)
    .bind(spent.by.as_str())
    .bind(spent.key_sha256.clone())
    .bind(&spent.serial)
    .bind(id)
    .execute(tx)
    .await?;
    if changed == 1 { Ok(()) } else { Err(AccessError::TokenUnknown) }
}

pub(crate) async fn certificate_insert(tx: &mut Tx, certificate: &StoredCertificate) -> Result<(), AccessError> {
    let labels = serde_json::to_string(&certificate.labels).map_err(|_| damaged("label"))?;
    sql("INSERT INTO host_certificate (serial, host, labels, certificate, issued_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)")
    .bind(&certificate.serial)
    .bind(certificate.host.as_str())
    .bind(labels)
    .bind(certificate.der.clone())
    .bind(certificate.issued_at)
    .bind(certificate.expires_at)
    .execute(tx)
    .await?;
    Ok(())
}

pub(crate) async fn certificate_get<Q: Queryable + ?Sized>(
    on: &Q,
    serial: &str,
) -> Result<Option<StoredCertificate>, AccessError> {
    let row = sql("SELECT serial, host, labels, certificate, issued_at, expires_at, revoked_at
                   FROM host_certificate WHERE serial = $1")
    .bind(serial)
    .optional(on)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(StoredCertificate {
        serial: row.get("serial")?,
        host: host_of(row.get("host")?)?,
        labels: labels_of(&row)?,
        der: row.get("certificate")?,
        issued_at: row.get("issued_at")?,
        expires_at: row.get("expires_at")?,
        revoked_at: row.get("revoked_at")?,
    }))
}

/// How many certificates of the host were not revoked and end after `end`.
pub(crate) async fn certificate_count<Q: Queryable + ?Sized>(
    on: &Q,
    host: &HostName,
    end: Micros,
) -> Result<usize, AccessError> {
    let row =
        sql("SELECT COUNT(*) AS n FROM host_certificate WHERE host = $1 AND expires_at > $2 AND revoked_at IS NULL")
            .bind(host.as_str())
            .bind(end)
            .one(on)
            .await?;
    Ok(usize::try_from(row.get::<u64>("n")?).unwrap_or(usize::MAX))
}

/// Whether a certificate of the host is kept, revoked or not.
pub(crate) async fn host_known(tx: &mut Tx, host: &HostName) -> Result<bool, DbError> {
    let row = sql("SELECT COUNT(*) AS n FROM host_certificate WHERE host = $1").bind(host.as_str()).one(tx).await?;
    Ok(row.get::<u64>("n")? > 0)
}

/// Revokes all certificates of the host; gives how many.
pub(crate) async fn certificates_revoke(tx: &mut Tx, host: &HostName, now: Micros) -> Result<u64, DbError> {
    sql("UPDATE host_certificate SET revoked_at = $1 WHERE host = $2 AND revoked_at IS NULL")
        .bind(now)
        .bind(host.as_str())
        .execute(tx)
        .await
}

/// Serial numbers of revoked certificates that would be good otherwise, the last revoked first.
pub(crate) async fn revoked<Q: Queryable + ?Sized>(on: &Q, limit: u32, now: Micros) -> Result<Vec<String>, DbError> {
    let rows = sql("SELECT serial FROM host_certificate WHERE revoked_at IS NOT NULL AND expires_at > $1
                    ORDER BY revoked_at DESC, serial LIMIT $2")
    .bind(now)
    .bind(limit)
    .all(on)
    .await?;
    rows.iter().map(|row| row.get("serial")).collect()
}

/// Removes tokens and certificates that ended before these times; gives how many.
pub(crate) async fn sweep(tx: &mut Tx, tokens_before: Micros, certificates_before: Micros) -> Result<u64, DbError> {
    let tokens = sql("DELETE FROM host_token WHERE expires_at < $1").bind(tokens_before).execute(tx).await?;
    let certificates =
        sql("DELETE FROM host_certificate WHERE expires_at < $1").bind(certificates_before).execute(tx).await?;
    Ok(tokens + certificates)
}
