//! Access as others call it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::access::{
    Access, EnrolRequest, HostCertificate, HostEnrolled, HostIdentity, HostRevoked, HostToken, HostTokenRequest,
    RenewRequest, SignPurpose, TOKEN_SECONDS_MAX,
};
use api::{HostName, Micros, Problem};
use async_trait::async_trait;
use base::db::{self, DatabaseConfig, Db};
use base::outbox::{self, OUTBOX_PAGE_ENTRIES, OutboxError};
use base::tasks::{Progress, Tasks, Wake};
use base::tls::{Clients, Fingerprint, SharedIdentity};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rustls::ServerConfig;

use crate::ca::{Authority, RequestedKey, pem, serial_of};
use crate::error::AccessError;
use crate::model::{
    CERTIFICATES_PER_HOST_MAX, Enrolment, Spent, StoredCertificate, StoredToken, Token, enrolment, labels_check,
    labels_merged,
};
use crate::store;

/// How often certificates and old rows are looked at.
const TASK_SECONDS: u64 = 3600;
/// Used and expired tokens are kept so long, to say what became of them.
const TOKEN_KEPT_DAYS: i64 = 30;
/// Certificates are kept so long after their end; until then their host's name is not given to another machine.
const CERTIFICATE_KEPT_DAYS: i64 = 365;
const DAY_SECONDS: i64 = 24 * 3600;
/// How often events are looked for that nobody woke the task for: those of a hub that was killed.
const EVENTS_SECONDS: u64 = 30;
/// The topic of [`HostEnrolled`].
const HOST_ENROLLED: &str = "host-enrolled";

/// What access is told at its start.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Host names and addresses of the agent port, for the hub's certificate, beside [`api::access::HUB_SERVER_NAME`].
    pub hub_names: Vec<String>,
}

/// Access. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    db: Db,
    authority: Authority,
    hub: SharedIdentity,
    hub_renew_at: Mutex<Micros>,
    events_wake: Wake,
}

/// Takes an event. It is told again until this succeeds.
pub type OnEnrolled = Arc<dyn Fn(HostEnrolled) -> BoxFuture<'static, Result<(), Problem>> + Send + Sync>;

impl Service {
    /// Opens the data, makes the CA if there is none, and issues the hub's own certificate.
    ///
    /// # Errors
    /// The database cannot be opened, the CA is damaged, or a configured name is not one.
    pub async fn new(config: Config, database: &DatabaseConfig, now: Micros) -> Result<Self, AccessError> {
        let db = db::open(database, store::CONTEXT, store::MIGRATIONS).await?;
        let authority = store::authority(&db, now).await?;
        let hub = authority.issue_hub(&config.hub_names, now)?;
        let inner = Inner {
            config,
            db,
            authority,
            hub: SharedIdentity::new(hub.identity),
            hub_renew_at: Mutex::new(hub.renew_at),
            events_wake: Wake::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The fingerprint of the CA, as tokens carry it.
    pub fn ca_fingerprint(&self) -> Fingerprint {
        self.inner.authority.fingerprint()
    }

    /// TLS for the agent port: the hub's certificate, which is renewed while the configuration is in use; clients may
    /// come without a certificate (to enrol), and one that they present is verified.
    ///
    /// # Errors
    /// The CA's certificate cannot be used.
    pub fn server_config(&self) -> Result<ServerConfig, AccessError> {
        Ok(self.inner.hub.server_config(Clients::CertifiedOrAnonymous)?)
    }

    /// The hub's own identity under its CA, which is renewed while it is in use.
    pub fn hub_identity(&self) -> SharedIdentity {
        self.inner.hub.clone()
    }

    /// Starts the background work: renewal of the hub's certificate, removal of old rows, and telling `on_enrolled` of
    /// new hosts.
    pub fn tasks_spawn(&self, tasks: &Tasks, on_enrolled: OnEnrolled) {
        let service = self.clone();
        tasks.spawn("access-events", Duration::from_secs(EVENTS_SECONDS), self.inner.events_wake.clone(), move || {
            let (service, on_enrolled) = (service.clone(), Arc::clone(&on_enrolled));
            async move { service.events_deliver(&on_enrolled).await }
        });
        let every = Duration::from_secs(TASK_SECONDS);
        let service = self.clone();
        tasks.spawn("access-hub-certificate", every, Wake::default(), move || {
            std::future::ready(service.hub_certificate_renew(Micros::now()).map(|()| Progress::Done))
        });
        let service = self.clone();
        tasks.spawn("access-sweep", every, Wake::default(), move || {
            let service = service.clone();
            async move { service.sweep(Micros::now()).await.map(|_| Progress::Done) }
        });
    }

    /// Tells of hosts that were enrolled, a page at a time, in order.
    ///
    /// # Errors
    /// The database fails, or an event was not taken; it and all later ones are told again.
    pub async fn events_deliver(&self, on_enrolled: &OnEnrolled) -> Result<Progress, OutboxError<Problem>> {
        let taken = outbox::deliver(&self.inner.db, |entry| match entry.payload::<HostEnrolled>() {
            Ok(event) => on_enrolled(event),
            Err(error) => std::future::ready(Err(Problem::internal(&error))).boxed(),
        })
        .await?;
        Ok(if taken < OUTBOX_PAGE_ENTRIES { Progress::Done } else { Progress::More })
    }

    /// Replaces the hub's certificate when two thirds of its life are over.
    ///
    /// # Errors
    /// The CA cannot sign.
    pub fn hub_certificate_renew(&self, now: Micros) -> Result<(), AccessError> {
        let mut renew_at = self.inner.hub_renew_at.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= *renew_at {
            let hub = self.inner.authority.issue_hub(&self.inner.config.hub_names, now)?;
            self.inner.hub.replace(hub.identity);
            *renew_at = hub.renew_at;
            tracing::info!("the hub's certificate for the agent port was renewed");
        }
        Ok(())
    }

    /// Removes tokens and certificates whose time is long over; gives how many.
    ///
    /// # Errors
    /// The database fails.
    pub async fn sweep(&self, now: Micros) -> Result<u64, AccessError> {
        let tokens_before = now.plus_seconds(-TOKEN_KEPT_DAYS * DAY_SECONDS);
        let certificates_before = now.plus_seconds(-CERTIFICATE_KEPT_DAYS * DAY_SECONDS);
        self.inner
            .db
            .write(move |tx| async move { Ok(store::sweep(tx, tokens_before, certificates_before).await?) }.boxed())
            .await
    }

    /// Makes a one-time token; see [`Access::host_token_create`].
    ///
    /// # Errors
    /// The life or the labels are not possible, or the database fails.
    pub async fn token_create(&self, request: HostTokenRequest, now: Micros) -> Result<HostToken, AccessError> {
        let seconds = request.ttl_seconds;
        if seconds == 0 || seconds > TOKEN_SECONDS_MAX {
            return Err(AccessError::TokenSeconds { seconds });
        }
        labels_check(&request.labels)?;
        let token = Token::generate(self.ca_fingerprint())
            .ok_or_else(|| AccessError::Ca("the system gives no random numbers".to_owned()))?;
        let expires_at = now.plus(Duration::from_secs(seconds));
        let stored = StoredToken {
            secret_sha256: token.secret_sha256(),
            host: request.host,
            labels: request.labels,
            expires_at,
            spent: None,
        };
        let id = token.id.clone();
        tracing::info!(token = %id, host = stored.host.as_ref().map(HostName::as_str), %expires_at, "host token made");
        self.inner
            .db
            .write(move |tx| {
                let (id, stored) = (id.clone(), stored.clone());
                async move { store::token_insert(tx, &id, &stored, now).await }.boxed()
            })
            .await?;
        Ok(HostToken { token: token.text(), expires_at })
    }

    /// Turns a token into a certificate; see [`Access::host_enrol`]. A token that names the host replaces an earlier
    /// machine of that name, whose certificates are revoked.
    ///
    /// # Errors
    /// The token is invalid, foreign, unknown, expired, spent or another host's, the name is taken, or the request is
    /// not valid; nothing has changed then.
    pub async fn enrol(&self, request: EnrolRequest, now: Micros) -> Result<HostCertificate, AccessError> {
        let token = Token::parse(&request.token)?;
        let (id, host) = (token.id.clone(), request.host.clone());
        let outcome = self.enrol_with(token, request, now).await;
        match &outcome {
            Ok(certificate) => {
                tracing::info!(token = %id, %host, until = %certificate.expires_at, "host enrolled")
            }
            Err(error) => tracing::warn!(token = %id, %host, %error, "enrolment refused"),
        }
        outcome
    }

    async fn enrol_with(
        &self,
        token: Token,
        request: EnrolRequest,
        now: Micros,
    ) -> Result<HostCertificate, AccessError> {
        let hub = self.ca_fingerprint();
        if token.ca != hub {
            return Err(AccessError::TokenForeign { token: token.ca.to_string(), hub: hub.to_string() });
        }
        let key = RequestedKey::parse(&request.csr)?;
        let attempt =
            Arc::new(Attempt { key_sha256: key.sha256(), key, token, host: request.host, said: request.labels, now });
        // Strangers are refused by a read: only who has a good token gets a place in the queue of writers.
        attempt.decide(&self.inner.db).await?;
        let inner = Arc::clone(&self.inner);
        let certificate = self
            .inner
            .db
            .write(move |tx| {
                let (attempt, inner) = (Arc::clone(&attempt), Arc::clone(&inner));
                async move {
                    let Decided { enrolment, given, labels } = attempt.decide(&*tx).await?;
                    let replaces = match enrolment {
                        Enrolment::New { replaces } => replaces,
                        Enrolment::Again { serial } => {
                            let certificate = store::certificate_get(tx, &serial).await?;
                            let certificate = certificate.ok_or(AccessError::CertificateUnknown)?;
                            certificate.check(now)?;
                            return Ok(certificate);
                        }
                    };
                    if replaces {
                        store::certificates_revoke(tx, &attempt.host, now).await?;
                    }
                    let certificate = inner.authority.issue_host(&attempt.host, &given, &attempt.key, now)?;
                    store::certificate_insert(tx, &certificate).await?;
                    let spent = Spent {
                        at: now,
                        by: attempt.host.clone(),
                        key_sha256: attempt.key_sha256.clone(),
                        serial: certificate.serial.clone(),
                    };
                    store::token_spend(tx, &attempt.token.id, &spent).await?;
                    let event = HostEnrolled { host: attempt.host.clone(), labels };
                    outbox::append(tx, HOST_ENROLLED, &event, now).await?;
                    Ok::<_, AccessError>(certificate)
                }
                .boxed()
            })
            .await?;
        self.inner.events_wake.wake();
        Ok(self.answer(&certificate))
    }

    fn answer(&self, certificate: &StoredCertificate) -> HostCertificate {
        HostCertificate {
            host: certificate.host.clone(),
            certificate: pem("CERTIFICATE", &certificate.der),
            ca: self.inner.authority.pem(),
            renew_at: certificate.renew_at(),
            expires_at: certificate.expires_at,
        }
    }

    /// A new certificate for a host whose certificate is good; see [`Access::host_renew`]. The old one stays good until
    /// its end, because the answer may get lost.
    ///
    /// # Errors
    /// The certificate is not good any more, there are too many, or the request is not valid.
    pub async fn renew(
        &self,
        identity: &HostIdentity,
        request: RenewRequest,
        now: Micros,
    ) -> Result<HostCertificate, AccessError> {
        let key = Arc::new(RequestedKey::parse(&request.csr)?);
        let (inner, identity) = (Arc::clone(&self.inner), identity.clone());
        let certificate = self
            .inner
            .db
            .write(move |tx| {
                let (inner, identity, key) = (Arc::clone(&inner), identity.clone(), Arc::clone(&key));
                async move {
                    let current = store::certificate_get(tx, &identity.serial).await?;
                    let current = current.filter(|current| current.host == identity.host);
                    let current = current.ok_or(AccessError::CertificateUnknown)?;
                    current.check(now)?;
                    if store::certificate_count(tx, &identity.host, now).await? >= CERTIFICATES_PER_HOST_MAX {
                        return Err(AccessError::CertificateTooMany(identity.host));
                    }
                    let certificate = inner.authority.issue_host(&identity.host, &current.labels, &key, now)?;
                    store::certificate_insert(tx, &certificate).await?;
                    Ok(certificate)
                }
                .boxed()
            })
            .await?;
        tracing::info!(host = %certificate.host, until = %certificate.expires_at, "host certificate renewed");
        Ok(self.answer(&certificate))
    }

    /// Who presents this certificate (DER); see [`Access::host_identify`].
    ///
    /// # Errors
    /// It was not issued by this hub to a host, has expired, or was revoked.
    pub async fn identify(&self, certificate_der: &[u8], now: Micros) -> Result<HostIdentity, AccessError> {
        let serial = serial_of(certificate_der).ok_or(AccessError::CertificateUnknown)?;
        let stored = store::certificate_get(&self.inner.db, &serial).await?;
        let stored = stored.filter(|stored| stored.der == certificate_der).ok_or(AccessError::CertificateUnknown)?;
        stored.check(now)?;
        Ok(HostIdentity { host: stored.host, serial: stored.serial, labels: stored.labels })
    }

    /// Revokes all certificates of a host, from the next request on; gives how many. Its name is free then. Twice is
    /// once.
    ///
    /// # Errors
    /// The hub keeps no certificate of such a host; the database fails.
    pub async fn revoke(&self, host: &HostName, now: Micros) -> Result<u64, AccessError> {
        let revoked = host.clone();
        let count = self
            .inner
            .db
            .write(move |tx| {
                let host = revoked.clone();
                async move {
                    let count = store::certificates_revoke(tx, &host, now).await?;
                    if count == 0 && !store::host_known(tx, &host).await? {
                        return Err(AccessError::HostUnknown(host));
                    }
                    Ok(count)
                }
                .boxed()
            })
            .await?;
        tracing::info!(%host, count, "host certificates revoked");
        Ok(count)
    }

    /// Serial numbers of certificates that were revoked and have not expired; see [`Access::revoked_list`].
    ///
    /// # Errors
    /// The database fails.
    pub async fn revoked(&self, limit: u32, now: Micros) -> Result<Vec<String>, AccessError> {
        Ok(store::revoked(&self.inner.db, limit, now).await?)
    }
}

/// What an enrolment is decided on.
struct Attempt {
    token: Token,
    host: HostName,
    key: RequestedKey,
    key_sha256: Vec<u8>,
    said: BTreeMap<String, String>,
    now: Micros,
}

impl Attempt {
    async fn decide<Q: base::db::Queryable + ?Sized>(&self, on: &Q) -> Result<Decided, AccessError> {
        // Expired certificates count, too: a machine that was off for long keeps its name. The name is looked at before
        // the token, so that outside of a transaction a repeated request finds the token spent by itself and not its
        // own name taken.
        let is_enrolled = store::certificate_count(on, &self.host, Micros(i64::MIN)).await? > 0;
        let stored = store::token_get(on, &self.token.id).await?;
        let enrolment = enrolment(stored.as_ref(), &self.token, &self.host, &self.key_sha256, is_enrolled, self.now)?;
        let given = stored.map(|stored| stored.labels).unwrap_or_default();
        let labels = labels_merged(self.said.clone(), &given)?;
        Ok(Decided { enrolment, given, labels })
    }
}

/// What an attempt may become.
struct Decided {
    enrolment: Enrolment,
    /// The token's labels.
    given: BTreeMap<String, String>,
    /// Those, and what the host says of itself.
    labels: BTreeMap<String, String>,
}

#[async_trait]
impl Access for Service {
    async fn host_token_create(&self, request: HostTokenRequest) -> api::Result<HostToken> {
        Ok(self.token_create(request, Micros::now()).await?)
    }

    async fn host_enrol(&self, request: EnrolRequest) -> api::Result<HostCertificate> {
        Ok(self.enrol(request, Micros::now()).await?)
    }

    async fn host_renew(&self, identity: &HostIdentity, request: RenewRequest) -> api::Result<HostCertificate> {
        Ok(self.renew(identity, request, Micros::now()).await?)
    }

    async fn host_identify(&self, certificate_der: &[u8]) -> api::Result<HostIdentity> {
        Ok(self.identify(certificate_der, Micros::now()).await?)
    }

    async fn host_revoke(&self, host: &HostName) -> api::Result<HostRevoked> {
        let certificates = self.revoke(host, Micros::now()).await?;
        Ok(HostRevoked { host: host.clone(), certificates })
    }

    async fn revoked_list(&self, limit: u32) -> api::Result<Vec<String>> {
        Ok(self.revoked(limit, Micros::now()).await?)
    }

    async fn sign(&self, purpose: SignPurpose, bytes: &[u8]) -> api::Result<Vec<u8>> {
        Ok(self.inner.authority.sign(purpose, bytes)?)
    }

    fn ca_certificate(&self) -> Vec<u8> {
        self.inner.authority.der().to_vec()
    }
}
