//! The agent port as an agent meets it: TLS, enrolment, renewal, and who is let through.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::http::{agent_routes, api_routes, host_required};
use access::{Config, Service};
use api::access::{Access, HUB_SERVER_NAME, HostCertificate, HostIdentity, HostToken};
use api::{Micros, Problem};
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Extension, Router};
use base::db::DatabaseConfig;
use base::listen;
use base::observe::{KnownRoutes, Observer};
use base::shutdown::Shutdown;
use base::tls::{ForeignCa, Identity, SharedIdentity, client_config_pinned};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::support::{Machine, host};

struct Hub {
    service: Service,
    address: SocketAddr,
    shutdown: Shutdown,
    _folder: tempfile::TempDir,
}

async fn hub() -> Hub {
    let folder = tempfile::tempdir().unwrap();
    let database = DatabaseConfig::Sqlite { folder: folder.path().to_owned() };
    let config = Config { hub_names: vec!["127.0.0.1".to_owned(), "hub.example".to_owned()] };
    let service = Service::new(config, &database, Micros::now()).await.unwrap();
    let access: Arc<dyn Access> = Arc::new(service.clone());
    let protected = Router::new()
        .route("/who", get(|Extension(identity): Extension<HostIdentity>| async move { identity.host.to_string() }))
        .layer(from_fn_with_state(Arc::clone(&access), host_required));
    let app = agent_routes(Arc::clone(&access)).merge(api_routes(access)).merge(protected);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
    let tls = Arc::new(service.server_config().unwrap()).into();
    shutdown.spawn(listen::serve(listener, Some(tls), app, Observer::new("test", KnownRoutes::NONE), shutdown.clone()));
    Hub { service, address, shutdown, _folder: folder }
}

type Connection = SendRequest<Full<Bytes>>;

async fn connect(address: SocketAddr, mut config: ClientConfig, name: &str) -> Result<Connection, std::io::Error> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tcp = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name.to_owned().try_into().unwrap(), tcp).await?;
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn call(connection: &mut Connection, method: &str, path: &str, body: &str) -> (u16, String) {
    let request = hyper::Request::builder().method(method).uri(path).header("host", "hub");
    let answer = connection.send_request(request.body(Full::from(body.to_owned())).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    (status, String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

fn problem_kind(body: &str) -> String {
    serde_json::from_str::<Problem>(body).unwrap_or_else(|error| panic!("{body}: {error}")).kind
}

fn identity(machine: &Machine, certificate: &HostCertificate) -> SharedIdentity {
    let key = machine.key.serialize_pem();
    SharedIdentity::new(
        Identity::from_pem(certificate.certificate.as_bytes(), key.as_bytes(), certificate.ca.as_bytes()).unwrap(),
    )
}

async fn enrol(hub: &Hub, machine: &Machine, name: &str) -> HostCertificate {
    let token = token_now(hub).await;
    let mut stranger = connect(hub.address, pinned(hub), HUB_SERVER_NAME).await.unwrap();
    let body = serde_json::to_string(&machine.request(&token, name)).unwrap();
    let (status, answer) = call(&mut stranger, "POST", "/agent/v1/enrol", &body).await;
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

async fn token_now(hub: &Hub) -> String {
    let request = api::access::HostTokenRequest { host: None, labels: Default::default(), ttl_seconds: 60 };
    hub.service.token_create(request, Micros::now()).await.unwrap().token
}

fn pinned(hub: &Hub) -> ClientConfig {
    client_config_pinned(hub.service.ca_fingerprint()).unwrap()
}

#[tokio::test]
async fn a_machine_enrols_speaks_renews_and_is_out_at_once_when_revoked() {
    let hub = hub().await;
    let machine = Machine::new();
    let certificate = enrol(&hub, &machine, "web_1").await;
    for name in [HUB_SERVER_NAME, "127.0.0.1", "hub.example"] {
        connect(hub.address, identity(&machine, &certificate).client_config().unwrap(), name).await.unwrap();
    }
    let config = identity(&machine, &certificate).client_config().unwrap();
    let mut agent = connect(hub.address, config, HUB_SERVER_NAME).await.unwrap();
    assert_eq!(call(&mut agent, "GET", "/who", "").await, (200, "web_1".to_owned()));

    let next = Machine::new();
    let body = serde_json::to_string(&next.renewal()).unwrap();
    let (status, answer) = call(&mut agent, "POST", "/agent/v1/renew", &body).await;
    assert_eq!(status, 200, "{answer}");
    let renewed: HostCertificate = serde_json::from_str(&answer).unwrap();
    let config = identity(&next, &renewed).client_config().unwrap();
    let mut renewed = connect(hub.address, config, HUB_SERVER_NAME).await.unwrap();
    assert_eq!(call(&mut renewed, "GET", "/who", "").await, (200, "web_1".to_owned()));

    hub.service.revoke(&host("web_1"), Micros::now()).await.unwrap();
    // Open connections do not help.
    for connection in [&mut agent, &mut renewed] {
        for (method, path) in [("GET", "/who"), ("POST", "/agent/v1/renew")] {
            let (status, answer) = call(connection, method, path, &body).await;
            assert_eq!((status, problem_kind(&answer).as_str()), (403, "certificate-revoked"));
        }
    }
    hub.shutdown.begin();
    assert_eq!(hub.shutdown.drain(Duration::from_secs(10)).await, 0);
}

#[tokio::test]
async fn a44_without_the_hubs_certificate_nothing_but_enrolment_is_possible() {
    let hub = hub().await;
    let mut stranger = connect(hub.address, pinned(&hub), HUB_SERVER_NAME).await.unwrap();
    let (status, answer) = call(&mut stranger, "GET", "/who", "").await;
    assert_eq!((status, problem_kind(&answer).as_str()), (401, "certificate-missing"));
    let renewal = serde_json::to_string(&Machine::new().renewal()).unwrap();
    let (status, answer) = call(&mut stranger, "POST", "/agent/v1/renew", &renewal).await;
    assert_eq!((status, problem_kind(&answer).as_str()), (401, "certificate-missing"));
    for (body, status, kind) in [
        ("", 400, "body-invalid"),
        ("{}", 400, "body-invalid"),
        (r#"{"token":"x","csr":"y","host":"../x"}"#, 400, "body-invalid"),
        (r#"{"token":"x","csr":"y","host":"x"}"#, 400, "token-invalid"),
        (&"x".repeat(100_000), 413, "body-too-large"),
    ] {
        let mut stranger = connect(hub.address, pinned(&hub), HUB_SERVER_NAME).await.unwrap();
        let (found, answer) = call(&mut stranger, "POST", "/agent/v1/enrol", body).await;
        assert_eq!((found, problem_kind(&answer).as_str()), (status, kind));
    }
}

#[tokio::test]
async fn a44_neither_a_foreign_hub_nor_a_host_can_play_the_hub() {
    let (ours, theirs) = (hub().await, hub().await);
    let error = connect(theirs.address, pinned(&ours), HUB_SERVER_NAME).await.unwrap_err();
    assert_eq!(ForeignCa::find(&error), Some(ForeignCa(ours.service.ca_fingerprint())));

    // A certificate of a foreign hub does not even get through the handshake.
    let machine = Machine::new();
    let foreign = enrol(&theirs, &machine, "a").await;
    let own = enrol(&ours, &machine, "a").await;
    let mut mixed = identity(&machine, &own).client_config().unwrap();
    mixed.client_auth_cert_resolver = Arc::new(identity(&machine, &foreign));
    let refused = match connect(ours.address, mixed, HUB_SERVER_NAME).await {
        Err(_) => true,
        Ok(mut connection) => {
            connection.send_request(hyper::Request::get("/who").body(Full::default()).unwrap()).await.is_err()
        }
    };
    assert!(refused);

    // A host of the hub serves with its certificate: neither pinned nor enrolled agents take it for the hub.
    let liar = identity(&machine, &own).server_config(base::tls::Clients::CertifiedOrAnonymous).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
    shutdown.spawn(listen::serve(
        listener,
        Some(Arc::new(liar).into()),
        Router::new(),
        Observer::new("test", KnownRoutes::NONE),
        shutdown.clone(),
    ));
    assert!(connect(address, pinned(&ours), HUB_SERVER_NAME).await.is_err());
    assert!(connect(address, identity(&machine, &own).client_config().unwrap(), "127.0.0.1").await.is_err());
    connect(address, pinned(&ours), "a.host.longshore.internal").await.unwrap();
}

#[tokio::test]
async fn a_token_comes_over_http_and_the_hubs_certificate_is_renewed_in_place() {
    let hub = hub().await;
    let mut connection = connect(hub.address, pinned(&hub), HUB_SERVER_NAME).await.unwrap();
    let (status, answer) =
        call(&mut connection, "POST", "/api/v1/host-tokens", r#"{"ttl_seconds":60,"host":"a"}"#).await;
    assert_eq!(status, 201);
    let made: HostToken = serde_json::from_str(&answer).unwrap();
    assert!(made.token.starts_with("lsh1."));
    let (status, answer) = call(&mut connection, "POST", "/api/v1/host-tokens", r#"{"ttl_seconds":0}"#).await;
    assert_eq!((status, problem_kind(&answer).as_str()), (400, "token-seconds"));

    hub.service.hub_certificate_renew(Micros::now().plus_seconds(19 * 24 * 3600)).unwrap();
    connect(hub.address, pinned(&hub), HUB_SERVER_NAME).await.unwrap();
    // From a time at which the certificate in use would be renewed, the next one is not valid yet today.
    hub.service.hub_certificate_renew(Micros::now().plus_seconds(21 * 24 * 3600)).unwrap();
    let error = connect(hub.address, pinned(&hub), HUB_SERVER_NAME).await.unwrap_err();
    assert!(error.to_string().contains("not valid yet") || error.to_string().contains("NotValidYet"), "{error}");
}

#[tokio::test]
async fn slow_and_silent_strangers_do_not_keep_a_hub_from_stopping() {
    let hub = hub().await;
    let silent = TcpStream::connect(hub.address).await.unwrap();
    let idle = connect(hub.address, pinned(&hub), HUB_SERVER_NAME).await.unwrap();
    hub.shutdown.begin();
    assert_eq!(hub.shutdown.drain(Duration::from_secs(listen::HANDSHAKE_SECONDS_MAX / 2)).await, 0);
    drop((silent, idle));
}
