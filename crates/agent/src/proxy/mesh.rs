//! Between hosts: tunnels to a service's containers on another host, by `CONNECT` over mutual TLS.
//!
//! The side that dials demands the certificate of the very host it means; the side that accepts demands a host's of the
//! same authority, and takes no other that it may have signed, not even the hub's. A tunnel leads to containers of the accepting host only, so that hosts cannot send each other in circles.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use api::HostName;
use api::access::host_server_name;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::extensions::GeneralName;

use super::Shared;
use super::connection;
use super::dial;
use super::routes::{Purpose, Reach};
use super::streams;
use super::table::RouteKey;

const TLS_TIME_MAX: Duration = Duration::from_secs(10);
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// The bytes of a tunnel.
pub(crate) type MeshStream = TokioIo<Upgraded>;

/// Why another host gave no tunnel.
#[derive(Debug, Error)]
pub(crate) enum TunnelError {
    #[error("this host has no certificate for other hosts yet; enrol it")]
    NoIdentity,
    #[error("{0:?} is no host name")]
    HostName(String),
    #[error("host {host} cannot be reached or is not who it should be: {source}")]
    Connect { host: String, source: io::Error },
    #[error("host {host} broke off: {source}")]
    Broken { host: String, source: hyper::Error },
    #[error("host {host} answered {status}")]
    Refused { host: String, status: StatusCode },
    #[error("the request for a tunnel cannot be written: {0}")]
    Request(#[from] http::Error),
}

/// Opens a tunnel to a container of `route` on `host`, whose proxy listens on `address`.
pub(crate) async fn open_tunnel(
    shared: &Shared,
    host: &str,
    address: SocketAddr,
    route: &RouteKey,
) -> Result<MeshStream, TunnelError> {
    let identity = shared.identity().ok_or(TunnelError::NoIdentity)?;
    let wrong = || TunnelError::HostName(host.to_owned());
    let name = host_server_name(&host.parse::<HostName>().map_err(|_| wrong())?);
    let name = ServerName::try_from(name).map_err(|_| wrong())?;
    let connect = |source| TunnelError::Connect { host: host.to_owned(), source };
    let broken = |source| TunnelError::Broken { host: host.to_owned(), source };
    let stream = TcpStream::connect(address).await.map_err(connect)?;
    streams::tune(&stream);
    let stream = TlsConnector::from(identity.connector.clone()).connect(name, stream).await.map_err(connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let cut = shared.cut.clone();
    shared.tasks.spawn(async move {
        tokio::select! {
            ended = connection.with_upgrades() => if let Err(error) = ended {
                tracing::debug!(%error, "a connection to another host ended early");
            },
            () = cut.cancelled() => {}
        }
    });
    let authority = route.authority();
    let uri = Uri::builder().authority(authority.as_str()).build()?;
    let request = Request::connect(uri).header(http::header::HOST, authority).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.map_err(broken)?;
    if response.status() != StatusCode::OK {
        return Err(TunnelError::Refused { host: host.to_owned(), status: response.status() });
    }
    Ok(TokioIo::new(hyper::upgrade::on(response).await.map_err(broken)?))
}

/// Serves one connection of another host.
pub(crate) async fn serve(shared: Arc<Shared>, stream: TcpStream, closing: tokio_util::sync::CancellationToken) {
    streams::tune(&stream);
    let Some(identity) = shared.identity() else { return };
    let accepting = TlsAcceptor::from(identity.acceptor.clone()).accept(stream);
    let stream = match timeout(TLS_TIME_MAX, accepting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return handshake_failed(&shared, &error.to_string()),
        Err(_) => return handshake_failed(&shared, "it took too long"),
    };
    let presented = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    if presented.and_then(|certificate| host_of(certificate)).is_none() {
        return handshake_failed(&shared, "its certificate is not a host's");
    }
    let cut = shared.cut.clone();
    let service = {
        let shared = shared.clone();
        service_fn(move |request| {
            let shared = shared.clone();
            async move { Ok::<_, Infallible>(answer(shared, request).await) }
        })
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.header_time_max)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = cut.cancelled() => return,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // With TLS 1.3 the dialler learns after its own half of the handshake that its certificate was refused.
    if let Err(error) = ended {
        tracing::debug!(%error, "another host's connection ended early");
    }
}

/// The host that a certificate names.
fn host_of(certificate: &[u8]) -> Option<HostName> {
    let (_rest, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| {
        let GeneralName::DNSName(name) = name else { return None };
        let host: HostName = name.split('.').next()?.parse().ok()?;
        (host_server_name(&host) == *name).then_some(host)
    })
}

fn handshake_failed(shared: &Shared, why: &str) {
    tracing::warn!(why, "refused a connection to the port for other hosts");
    shared.mesh_counters.handshakes_failed.fetch_add(1, Relaxed);
}

async fn answer(shared: Arc<Shared>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let say = |status: StatusCode, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response
    };
    if request.method() != Method::CONNECT {
        return say(StatusCode::METHOD_NOT_ALLOWED, "only CONNECT is answered here\n".into());
    }
    let Some(route) = request.uri().authority().and_then(|a| RouteKey::from_authority(a.as_str())) else {
        shared.mesh_counters.refused.fetch_add(1, Relaxed);
        return say(StatusCode::BAD_REQUEST, "ask for SERVICE.APP.ENV:PORT\n".into());
    };
    let reached = match dial::reach(&shared, &route, Purpose::Connection, Reach::ThisHost).await {
        Ok(reached) => reached,
        Err(error) => {
            shared.mesh_counters.refused.fetch_add(1, Relaxed);
            return say(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"));
        }
    };
    shared.mesh_counters.tunnels.fetch_add(1, Relaxed);
    let upgrade = hyper::upgrade::on(&mut request);
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let join = async {
            let tunnel = upgrade.await.map_err(io::Error::other)?;
            connection::join_tunnel(&shared, TokioIo::new(tunnel), reached).await
        };
        tokio::select! {
            joined = join => if let Err(error) = joined {
                tracing::debug!(%error, "a tunnel broke");
            },
            () = shared.cut.cancelled() => {}
        }
    });
    Response::new(Full::default())
}
