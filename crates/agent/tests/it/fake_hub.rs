//! A hub in this process: a CA, enrolment, the agent protocol over mutual TLS, and a registry of a few images.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::access::{EnrolRequest, HUB_SERVER_NAME, HostCertificate, RenewRequest, host_server_name};
use api::agent::{Desired, DesiredSeen, PROTOCOL_HEADER, Report};
use api::delivery::LogLine;
use api::{HostName, Micros};
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base::tls::{Clients, Fingerprint, Identity, SharedIdentity, certificates_parse};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, Method, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What a registry gives for a path.
#[derive(Clone)]
pub(crate) struct Blob {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) bytes: Bytes,
}

#[derive(Default)]
struct Shared {
    blobs: Mutex<BTreeMap<String, Blob>>,
    asked: Mutex<Vec<String>>,
    lines: Mutex<VecDeque<LogLine>>,
    enrolled: Mutex<Vec<EnrolRequest>>,
    renewed: Mutex<Vec<Vec<u8>>>,
    reporter: Mutex<Vec<u8>>,
}

#[derive(Clone)]
struct Hub {
    shared: Arc<Shared>,
    issuer: Arc<Issuer<'static, KeyPair>>,
    ca: String,
    token: String,
    desired: watch::Sender<Option<Desired>>,
    report: watch::Sender<Option<Report>>,
    away: watch::Sender<bool>,
    /// After how many seconds a certificate of an enrolment is to be renewed.
    renew_seconds: i64,
}

/// The hub; it ends with the value.
pub(crate) struct FakeHub {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    hub: Hub,
    _serving: tokio_util::task::AbortOnDropHandle<()>,
}

impl FakeHub {
    pub(crate) async fn start() -> Self {
        Self::start_with(3_600).await
    }

    /// A hub whose enrolments are to be renewed after so many seconds.
    pub(crate) async fn start_with(renew_seconds: i64) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "hub of a test");
        let ca = params.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(params, ca_key);
        let key = KeyPair::generate().unwrap();
        let names = vec![HUB_SERVER_NAME.to_owned()];
        let own = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let identity = Identity::from_pem(own.pem().as_bytes(), key.serialize_pem().as_bytes(), ca.as_bytes()).unwrap();
        let tls = SharedIdentity::new(identity).server_config(Clients::CertifiedOrAnonymous).unwrap();
        let fingerprint = Fingerprint::of(&certificates_parse("CA", ca.as_bytes()).unwrap()[0]);
        let token = format!("lsh1.t1.{}.{fingerprint}", "s3cret".repeat(4));
        let hub = Hub {
            shared: Arc::default(),
            issuer: Arc::new(issuer),
            ca,
            token: token.clone(),
            desired: watch::channel(None).0,
            report: watch::channel(None).0,
            away: watch::channel(false).0,
            renew_seconds,
        };
        let router = Router::new()
            .route("/agent/v1/enrol", post(enrol))
            .route("/agent/v1/renew", post(renew))
            .route("/agent/v1/desired", get(desired))
            .route("/agent/v1/report", post(report))
            .route("/agent/v1/logs/{stream}", post(logs))
            .fallback(registry)
            .with_state(hub.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let away = hub.away.clone();
        let serving = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (acceptor, router) = (acceptor.clone(), router.clone());
                let mut away = away.subscribe();
                tokio::spawn(async move {
                    let serving = async {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        let presented = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                        let certified = Certified(presented.map(|certificate| certificate.to_vec()));
                        let service = router.layer(axum::Extension(certified));
                        let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                        let served =
                            builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await;
                        drop(served);
                    };
                    tokio::select! {
                        () = serving => {}
                        _ = away.wait_for(|away| *away) => {}
                    }
                });
            }
        });
        Self { address, token, hub, _serving: tokio_util::task::AbortOnDropHandle::new(serving) }
    }

    pub(crate) fn say(&self, desired: Desired) {
        self.hub.desired.send_replace(Some(desired));
    }

    pub(crate) fn blob(&self, path: String, blob: Blob) {
        self.hub.shared.blobs.lock().unwrap().insert(path, blob);
    }

    /// Paths of the registry that were asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.hub.shared.asked.lock().unwrap().clone()
    }

    pub(crate) fn enrolled(&self) -> Vec<EnrolRequest> {
        self.hub.shared.enrolled.lock().unwrap().clone()
    }

    /// Nobody gets an answer from now on, or everybody again.
    pub(crate) fn away(&self, away: bool) {
        self.hub.away.send_replace(away);
    }

    /// Certificates (DER) that were given out by renewals.
    pub(crate) fn renewed(&self) -> Vec<Vec<u8>> {
        self.hub.shared.renewed.lock().unwrap().clone()
    }

    /// The certificate (DER) with which the last report came.
    pub(crate) fn reporter(&self) -> Vec<u8> {
        self.hub.shared.reporter.lock().unwrap().clone()
    }

    /// Forgets the last report, so that only a later one counts.
    pub(crate) fn forget_report(&self) {
        self.hub.report.send_replace(None);
    }

    pub(crate) fn lines(&self) -> Vec<LogLine> {
        self.hub.shared.lines.lock().unwrap().iter().cloned().collect()
    }

    /// The next report that holds, within a bound.
    pub(crate) async fn until(&self, what: &str, seconds: u64, holds: impl Fn(&Report) -> bool) -> Report {
        let mut reports = self.hub.report.subscribe();
        let reached = reports.wait_for(|report| report.as_ref().is_some_and(&holds));
        let waited = tokio::time::timeout(Duration::from_secs(seconds), reached).await;
        let found = waited.ok().map(|report| report.unwrap().clone().unwrap());
        found.unwrap_or_else(|| panic!("never {what}: {:#?}", *self.hub.report.borrow()))
    }
}

#[derive(Clone)]
struct Certified(Option<Vec<u8>>);

async fn enrol(State(hub): State<Hub>, Json(request): Json<EnrolRequest>) -> Response {
    hub.shared.enrolled.lock().unwrap().push(request.clone());
    if request.token != hub.token {
        return api::Problem::new(403, "token-unknown", "The token is not known").into_response();
    }
    let (given, _der) = certify(&hub, request.host, &request.csr, hub.renew_seconds);
    Json(given).into_response()
}

fn certify(hub: &Hub, host: HostName, csr: &str, renew_seconds: i64) -> (HostCertificate, Vec<u8>) {
    let mut csr = CertificateSigningRequestParams::from_pem(csr).unwrap();
    csr.params.subject_alt_names = CertificateParams::new(vec![host_server_name(&host)]).unwrap().subject_alt_names;
    csr.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = csr.signed_by(&hub.issuer).unwrap();
    let (renew_at, expires_at) = (Micros::now().plus_seconds(renew_seconds), Micros::now().plus_seconds(7_200));
    let (der, certificate) = (certificate.der().to_vec(), certificate.pem());
    (HostCertificate { host, certificate, ca: hub.ca.clone(), renew_at, expires_at }, der)
}

async fn renew(
    State(hub): State<Hub>,
    axum::Extension(who): axum::Extension<Certified>,
    headers: HeaderMap,
    Json(request): Json<RenewRequest>,
) -> Response {
    certified(&headers, &who);
    let host = hub.shared.enrolled.lock().unwrap()[0].host.clone();
    let (given, der) = certify(&hub, host, &request.csr, 3_600);
    hub.shared.renewed.lock().unwrap().push(der);
    Json(given).into_response()
}

fn certified(request: &HeaderMap, certified: &Certified) {
    assert!(certified.0.is_some(), "a call without a certificate");
    assert_eq!(request[PROTOCOL_HEADER], "1");
}

async fn desired(
    State(hub): State<Hub>,
    axum::Extension(who): axum::Extension<Certified>,
    headers: HeaderMap,
    Query(seen): Query<DesiredSeen>,
) -> Response {
    certified(&headers, &who);
    let mut desired = hub.desired.subscribe();
    let news = desired.wait_for(|desired| {
        desired.as_ref().is_some_and(|now| now.number != seen.number || now.streams.number != seen.streams)
    });
    let _changed = tokio::time::timeout(Duration::from_secs(5), news).await;
    match hub.desired.borrow().clone() {
        Some(desired) => Json(desired).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn report(
    State(hub): State<Hub>,
    axum::Extension(who): axum::Extension<Certified>,
    headers: HeaderMap,
    Json(report): Json<Report>,
) -> StatusCode {
    certified(&headers, &who);
    *hub.shared.reporter.lock().unwrap() = who.0.unwrap_or_default();
    hub.report.send_replace(Some(report));
    StatusCode::NO_CONTENT
}

async fn logs(State(hub): State<Hub>, Path(_stream): Path<String>, body: Body) -> StatusCode {
    let mut lines = api::lines::decode::<LogLine, _>(body.into_data_stream());
    while let Some(Ok(line)) = lines.next().await {
        hub.shared.lines.lock().unwrap().push_back(line);
    }
    StatusCode::NO_CONTENT
}

async fn registry(
    State(hub): State<Hub>,
    axum::Extension(who): axum::Extension<Certified>,
    request: Request,
) -> Response {
    certified(request.headers(), &who);
    let path = request.uri().path().to_owned();
    hub.shared.asked.lock().unwrap().push(path.clone());
    if path == "/v2/" {
        return Json(serde_json::json!({})).into_response();
    }
    let Some(blob) = hub.shared.blobs.lock().unwrap().get(&path).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        ("content-type", blob.media_type),
        ("docker-content-digest", blob.digest),
        ("content-length", blob.bytes.len().to_string()),
    ];
    let body = if request.method() == Method::HEAD { Body::empty() } else { Body::from(blob.bytes) };
    (headers, body).into_response()
}
