//! The agent's side of the protocol: HTTP/2 with mutual TLS to the hub's agent port.

use std::error::Error as _;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use api::access::{EnrolRequest, HUB_SERVER_NAME, HostCertificate, RenewRequest};
use api::agent::{BODY_BYTES_MAX, Desired, DesiredSeen, PROTOCOL_HEADER, PROTOCOL_VERSION, Report, WAIT_SECONDS_MAX};
use api::fanout::{Announce, ImageGrant, ImageRequest, PeerPlan};
use api::{Problem, lines};
use base::tls::{Fingerprint, ForeignCa, SharedIdentity, TlsError, client_config_pinned};
use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, Method, StatusCode};
use oci::Digest;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Body, Client, Response};
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

const CONNECT_SECONDS: u64 = 10;
/// How long an ordinary call may take.
const CALL_SECONDS: u64 = 20;
/// How long the hub may take to say whether it knows a host, which waits for that to start.
const KNOWN_SECONDS: u64 = 5;
/// How often a silent connection is probed, so that a hub that vanished is noticed.
const KEEP_ALIVE_SECONDS: u64 = 10;
/// How long the registry may be silent in the middle of a body.
const READ_SECONDS: u64 = 60;

/// `HOST:PORT` of a hub's agent port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    host: String,
    port: u16,
}

impl HubName {
    /// Reads `HOST:PORT`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let wrong = || HubError::Address { given: text.to_owned() };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Why a call to the hub failed.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The address.
    #[error("{given:?} is not an address of a hub; write HOST:PORT, as a rule with port 5001")]
    Address {
        /// What was given.
        given: String,
    },
    /// The hub's CA is not the expected one.
    #[error("the hub's certificate is by another CA; check the address")]
    ForeignCa,
    /// Nobody answers, or the connection broke.
    #[error("the hub at {hub} cannot be reached: {why}; check that it runs and that the address is right")]
    Unreachable {
        /// Its address.
        hub: String,
        /// What happened.
        why: String,
    },
    /// The hub said no.
    #[error("the hub refused: {0}{hint}", hint = .0.hint.as_deref().map_or_else(String::new, |hint| format!("; {hint}")))]
    Refused(Box<Problem>),
    /// The hub's answer cannot be understood.
    #[error("the hub's answer cannot be understood: {why}; hub and agent may be of versions too far apart")]
    Answer {
        /// What is wrong with it.
        why: String,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP client cannot be set up.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(reqwest::Error),
}

impl HubError {
    /// Whether it may work later without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(problem) => problem.status >= 500 || problem.status == 429,
            _ => false,
        }
    }
}

/// Speaks to the hub.
pub struct HubClient {
    hub: HubName,
    tls: ClientConfig,
    calls: RwLock<Client>,
    bodies: RwLock<Client>,
}

impl HubClient {
    /// As an enrolled host.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(hub: &HubName, identity: &SharedIdentity) -> Result<Self, HubError> {
        Self::with(hub, identity.client_config()?)
    }

    /// Without a certificate, and only to a hub of this CA: for enrolment.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn pinned(hub: &HubName, ca: Fingerprint) -> Result<Self, HubError> {
        Self::with(hub, client_config_pinned(ca)?)
    }

    fn with(hub: &HubName, tls: ClientConfig) -> Result<Self, HubError> {
        let (calls, bodies) = (connect(hub, &tls, None)?, connect(hub, &tls, Some(READ_SECONDS))?);
        Ok(Self { hub: hub.clone(), tls, calls: RwLock::new(calls), bodies: RwLock::new(bodies) })
    }

    /// Opens new connections from now on, for a certificate that was renewed.
    ///
    /// # Errors
    /// The HTTP client cannot be set up; the old connections stay in use.
    pub fn reconnect(&self) -> Result<(), HubError> {
        let (hub, tls) = (&self.hub, &self.tls);
        let (calls, bodies) = (connect(hub, tls, None)?, connect(hub, tls, Some(READ_SECONDS))?);
        *self.calls.write().unwrap_or_else(PoisonError::into_inner) = calls;
        *self.bodies.write().unwrap_or_else(PoisonError::into_inner) = bodies;
        Ok(())
    }

    /// Turns a token into a certificate.
    ///
    /// # Errors
    /// [`HubError::ForeignCa`] before anything was sent; else any.
    pub async fn enrol(&self, request: &EnrolRequest) -> Result<HostCertificate, HubError> {
        let body = encode(request)?;
        self.answer(self.call(Method::POST, "/agent/v1/enrol", body, CALL_SECONDS).await?).await
    }

    /// Gets a new certificate.
    ///
    /// # Errors
    /// Any.
    pub async fn renew(&self, request: &RenewRequest) -> Result<HostCertificate, HubError> {
        let body = encode(request)?;
        self.answer(self.call(Method::POST, "/agent/v1/renew", body, CALL_SECONDS).await?).await
    }

    /// Asks whether the hub takes this host for one of its own, and for nothing else.
    ///
    /// # Errors
    /// [`HubError::Refused`] when it does not; else any.
    pub async fn known(&self) -> Result<(), HubError> {
        let path = "/agent/v1/desired?number=0&streams=0&wait_seconds=0";
        let response = self.call(Method::GET, path, Vec::new(), KNOWN_SECONDS).await?;
        self.check(response).await.map(|_response| ())
    }

    /// What the host should be; waits until it is not what was seen. `None` when nothing changed meanwhile.
    ///
    /// # Errors
    /// Any.
    pub async fn desired(&self, seen: DesiredSeen) -> Result<Option<Desired>, HubError> {
        let path = format!(
            "/agent/v1/desired?number={}&streams={}&wait_seconds={WAIT_SECONDS_MAX}",
            seen.number, seen.streams
        );
        let response = self.call(Method::GET, &path, Vec::new(), WAIT_SECONDS_MAX + CALL_SECONDS).await?;
        match response.status() {
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Ok(None),
            _ => self.answer(response).await.map(Some),
        }
    }

    /// Says what the host is.
    ///
    /// # Errors
    /// Any.
    pub async fn report(&self, report: &Report) -> Result<(), HubError> {
        let response = self.call(Method::POST, "/agent/v1/report", encode(report)?, CALL_SECONDS).await?;
        self.check(response).await.map(|_response| ())
    }

    /// An image, and the right to exchange its blobs.
    ///
    /// # Errors
    /// Any.
    pub async fn image(&self, request: &ImageRequest) -> Result<ImageGrant, HubError> {
        self.answer(self.call(Method::POST, "/agent/v1/fanout/image", encode(request)?, CALL_SECONDS).await?).await
    }

    /// The hashes of a blob's pieces, one after the other; nobody has verified them.
    ///
    /// # Errors
    /// Any.
    pub async fn tree(&self, blob: &Digest) -> Result<Bytes, HubError> {
        let path = format!("/agent/v1/fanout/trees/{blob}");
        let response = self.call(Method::GET, &path, Vec::new(), CALL_SECONDS).await?;
        Ok(self.body(self.check(response).await?).await?.into())
    }

    /// Says how images stand; gives whom to exchange pieces with, once that is not what was seen or the wait is over.
    ///
    /// # Errors
    /// Any.
    pub async fn announce(&self, announce: &Announce) -> Result<PeerPlan, HubError> {
        let seconds = announce.wait_seconds + CALL_SECONDS;
        let body = encode(announce)?;
        self.answer(self.call(Method::POST, "/agent/v1/fanout/announce", body, seconds).await?).await
    }

    /// Sends a log stream until it ends or the hub no longer wants it.
    ///
    /// # Errors
    /// Any.
    pub async fn logs<S>(&self, stream: &str, lines: S) -> Result<(), HubError>
    where
        S: Stream<Item = Bytes> + Send + 'static,
    {
        let client = self.calls.read().unwrap_or_else(PoisonError::into_inner).clone();
        let request = client
            .post(self.url(&format!("/agent/v1/logs/{stream}")))
            .header(PROTOCOL_HEADER, PROTOCOL_VERSION)
            .header(http::header::CONTENT_TYPE, lines::MEDIA_TYPE)
            .body(Body::wrap_stream(futures::StreamExt::map(lines, Ok::<_, std::convert::Infallible>)));
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        self.check(response).await.map(|_response| ())
    }

    /// A read of the hub's registry; `path` begins with `/v2`. The answer is passed on whatever its status.
    ///
    /// # Errors
    /// The hub cannot be reached.
    pub async fn registry(&self, method: Method, path: &str, headers: HeaderMap) -> Result<Response, HubError> {
        let client = self.bodies.read().unwrap_or_else(PoisonError::into_inner).clone();
        let request = client.request(method, self.url(path)).headers(headers).header(PROTOCOL_HEADER, PROTOCOL_VERSION);
        request.send().await.map_err(|error| self.unreachable(&error))
    }

    fn url(&self, path: &str) -> String {
        format!("https://{HUB_SERVER_NAME}:{}{path}", self.hub.port)
    }

    async fn call(&self, method: Method, path: &str, body: Vec<u8>, seconds: u64) -> Result<Response, HubError> {
        let client = self.calls.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut request = client
            .request(method, self.url(path))
            .header(PROTOCOL_HEADER, PROTOCOL_VERSION)
            .timeout(Duration::from_secs(seconds));
        if !body.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, "application/json").body(body);
        }
        request.send().await.map_err(|error| self.unreachable(&error))
    }

    async fn check(&self, response: Response) -> Result<Response, HubError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.body(response).await?;
        let problem = serde_json::from_slice(&body).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(&body).chars().take(500).collect::<String>();
            Problem::new(status.as_u16(), "unexpected", format!("status {status}")).detail(text)
        });
        Err(HubError::Refused(Box::new(problem)))
    }

    async fn answer<T: DeserializeOwned>(&self, response: Response) -> Result<T, HubError> {
        let body = self.body(self.check(response).await?).await?;
        serde_json::from_slice(&body).map_err(|error| HubError::Answer { why: error.to_string() })
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, HubError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(HubError::Answer { why: format!("it is longer than {BODY_BYTES_MAX} bytes") });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unreachable(&self, error: &reqwest::Error) -> HubError {
        if ForeignCa::find(error).is_some() {
            return HubError::ForeignCa;
        }
        // The innermost cause says it best; what lies around it is the HTTP library's.
        let mut why = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            why = cause.to_string();
            source = cause.source();
        }
        HubError::Unreachable { hub: self.hub.to_string(), why }
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, HubError> {
    serde_json::to_vec(value).map_err(|error| HubError::Answer { why: error.to_string() })
}

fn connect(hub: &HubName, tls: &ClientConfig, read_seconds: Option<u64>) -> Result<Client, HubError> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .dns_resolver(Arc::new(HubResolver { hub: hub.clone() }))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(CONNECT_SECONDS))
        .http2_keep_alive_interval(Duration::from_secs(KEEP_ALIVE_SECONDS))
        .http2_keep_alive_while_idle(true)
        .http2_adaptive_window(true);
    if let Some(seconds) = read_seconds {
        builder = builder.read_timeout(Duration::from_secs(seconds));
    }
    builder.build().map_err(HubError::Client)
}

/// Every name leads to the hub: its certificate is for [`HUB_SERVER_NAME`], which is in no DNS.
struct HubResolver {
    hub: HubName,
}

impl Resolve for HubResolver {
    fn resolve(&self, _name: Name) -> Resolving {
        let HubName { host, port } = self.hub.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_hubs() {
        for good in ["127.0.0.1:5001", "hub.example:5001", "[::1]:5001"] {
            assert_eq!(HubName::parse(good).unwrap().to_string(), good);
        }
        for bad in ["hub", ":5001", "hub:", "hub:x", "https://hub:5001", "hub:99999"] {
            assert!(HubName::parse(bad).is_err(), "{bad}");
        }
    }
}
