//! HTTP/1 with a client, request by request: each goes to an upstream over a connection of its own.
//!
//! A fresh connection per request costs a handshake on the host and saves the race of every connection pool: an
//! upstream that closes an idle connection just as the next request is written to it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client_http1;
use hyper::server::conn::http1 as server_http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::body::{Account, AnswerBody, BodyFault, RequestBody};
use super::connection::{self, Published};
use super::counters::Tally;
use super::dial::{self, Reached, Unreachable, UpstreamStream};
use super::headers;
use super::routes::{Busy, Purpose, Reach};
use super::streams::{ClientStream, Phase};
use super::table::RouteKey;

const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Also the largest read of a response body.
const UPSTREAM_BUFFER_BYTES_MAX: usize = 256 * 1024;
/// Upstreams tried for a request that the library gave back unwritten.
const RESENDS_MAX: usize = 3;
/// Time for an upstream, asked to close its connection, to do so after its answer.
const UPSTREAM_CLOSE_TIME_MAX: Duration = Duration::from_millis(500);

/// Serves the client until it leaves, or until its listener closes and the request under way is answered.
pub(crate) async fn serve(published: Published, client: TcpStream, prefix: BytesMut) {
    let stream = ClientStream::new(prefix, client, published.shared.limits);
    let phase = stream.phase();
    let closing = published.binding.closing.clone();
    let published = Arc::new(published);
    let service = service_fn(move |request| {
        phase.busy();
        let (published, phase) = (published.clone(), phase.clone());
        async move { Ok::<_, Infallible>(answer(&published, request, phase).await) }
    });
    let connection = server_http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended early");
    }
}

/// Answers one request and sees to it that it is counted once.
async fn answer(published: &Arc<Published>, request: Request<Incoming>, phase: Phase) -> Response<AnswerBody> {
    let listener = published.binding.listener();
    let tally = Tally::new(listener.counters.clone());
    match forward(published, listener.route(&published.shared), request, &phase, tally).await {
        Ok(response) => response,
        Err(Refusal { tally, status, kind, detail }) => {
            tracing::debug!(listener = listener.key, %status, detail, "answered a request myself");
            if let Some(tally) = tally {
                tally.failed();
            }
            phase.idle();
            own_answer(status, kind, &detail)
        }
    }
}

/// An answer of the proxy's own. Without a tally the request counts as cancelled: its client is gone.
struct Refusal {
    tally: Option<Tally>,
    status: StatusCode,
    kind: &'static str,
    detail: String,
}

async fn forward(
    published: &Arc<Published>,
    route: RouteKey,
    mut request: Request<Incoming>,
    phase: &Phase,
    tally: Tally,
) -> Result<Response<AnswerBody>, Refusal> {
    let refuse = |tally, status, kind, detail: String| Err(Refusal { tally: Some(tally), status, kind, detail });
    if request.method() == Method::CONNECT {
        let detail = "CONNECT is not for a published service; send the request itself".into();
        return refuse(tally, StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail);
    }
    let client_upgrade = headers::upgrade(request.headers()).is_some().then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    // The library's bound is on its buffer, which may hold some more by the time it looks.
    if headers::request_bytes(&parts) > HEADER_BYTES_MAX {
        let detail = format!("the request's header is longer than {HEADER_BYTES_MAX} bytes; shorten it");
        return refuse(tally, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "header-too-long", detail);
    }
    if let Err(detail) = headers::prepare_request(&mut parts, published.client, published.binding.address) {
        return refuse(tally, StatusCode::BAD_REQUEST, "bad-request", detail.into());
    }
    let fault = BodyFault::default();
    let mut request =
        Request::from_parts(parts, RequestBody::new(body, fault.clone(), published.shared.limits.stall_time_max));
    let mut resends = 0;
    let (mut response, busy) = loop {
        let reached = match dial::reach(&published.shared, &route, Purpose::Request, Reach::Everywhere).await {
            Ok(reached) => reached,
            Err(error @ (Unreachable::Nowhere { .. } | Unreachable::Refused { .. })) => {
                return refuse(tally, StatusCode::SERVICE_UNAVAILABLE, "no-upstream", error.to_string());
            }
            Err(error @ Unreachable::TooManyHeld { .. }) => {
                return refuse(tally, StatusCode::SERVICE_UNAVAILABLE, "too-many-held", error.to_string());
            }
        };
        match send(published, reached, request, client_upgrade.is_some()).await {
            Ok(sent) => break sent,
            Err((Some(unsent), _)) if resends < RESENDS_MAX => {
                resends += 1;
                request = unsent;
            }
            Err(_) if fault.is_client() => {
                drop(tally);
                let detail = "the request's body ended early".into();
                return Err(Refusal { tally: None, status: StatusCode::BAD_REQUEST, kind: "bad-request", detail });
            }
            Err(_) if fault.is_stall() => {
                let detail = "the request's body stalled; send it without long pauses".into();
                return refuse(tally, StatusCode::REQUEST_TIMEOUT, "request-timeout", detail);
            }
            Err((_, error)) => {
                let detail = format!("the upstream broke off before it answered: {error}; see the container's log");
                return refuse(tally, StatusCode::BAD_GATEWAY, "bad-upstream", detail);
            }
        }
    };
    busy.note_http();
    *response.version_mut() = Version::HTTP_11;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(client_upgrade), Some(protocol)) = (client_upgrade, headers::upgrade(response.headers())) else {
            let detail = "the upstream changed to a protocol that nobody asked for; see the container's log".into();
            return refuse(tally, StatusCode::BAD_GATEWAY, "bad-upstream", detail);
        };
        let upstream_upgrade = hyper::upgrade::on(&mut response);
        let mut parts = response.into_parts().0;
        headers::strip_hop_by_hop(&mut parts.headers);
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(UPGRADE, protocol);
        phase.tunnel();
        join_upgraded(published, client_upgrade, upstream_upgrade, busy.into_purpose(Purpose::Connection));
        tally.answered();
        return Ok(Response::from_parts(parts, AnswerBody::own(Bytes::new())));
    }
    let (mut parts, body) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    let account = Account { tally, busy, phase: phase.clone(), fault };
    Ok(Response::from_parts(parts, AnswerBody::upstream(body, account)))
}

/// Sends the request and waits for the response's header; gives the request back when nothing of it was written.
async fn send(
    published: &Published,
    Reached { stream, busy }: Reached,
    request: Request<RequestBody>,
    upgrades: bool,
) -> Result<(Response<Incoming>, Busy), (Option<Request<RequestBody>>, hyper::Error)> {
    let mut builder = client_http1::Builder::new();
    builder.max_buf_size(UPSTREAM_BUFFER_BYTES_MAX);
    let (mut sender, connection) = match builder.handshake(TokioIo::new(stream)).await {
        Ok(ready) => ready,
        Err(error) => return Err((Some(request), error)),
    };
    let cut = published.shared.cut.clone();
    published.shared.tasks.spawn(async move {
        let run = async move {
            if upgrades {
                return connection.with_upgrades().await;
            }
            let parts = connection.without_shutdown().await?;
            await_close(parts.io.into_inner()).await;
            Ok(())
        };
        tokio::select! {
            ended = run => if let Err(error) = ended {
                tracing::debug!(%error, "an upstream's connection ended early");
            },
            () = cut.cancelled() => {}
        }
    });
    match sender.try_send_request(request).await {
        Ok(response) => Ok((response, busy)),
        Err(mut error) => Err((error.take_message(), error.into_error())),
    }
}

/// Lets the upstream close first, as it was asked to: the side that closes first keeps the port number in TIME_WAIT for
/// a minute, and on this side the numbers for one upstream would run out at some 470 requests a second.
async fn await_close(mut stream: UpstreamStream) {
    let mut unexpected = [0; 1];
    let _ = tokio::time::timeout(UPSTREAM_CLOSE_TIME_MAX, stream.read(&mut unexpected)).await;
}

fn join_upgraded(published: &Arc<Published>, client: OnUpgrade, upstream: OnUpgrade, busy: Busy) {
    let published = published.clone();
    published.shared.tasks.clone().spawn(async move {
        let join = async {
            let (client, upstream) = (client.await?, upstream.await?);
            connection::copy_both(&mut TokioIo::new(client), &mut TokioIo::new(upstream)).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        };
        tokio::select! {
            joined = join => if let Err(error) = joined {
                tracing::debug!(%error, "an upgraded connection broke");
            },
            () = published.shared.cut.cancelled() => {}
        }
        drop(busy);
    });
}

/// A problem (RFC 9457) told by the proxy itself.
fn own_answer(status: StatusCode, kind: &'static str, detail: &str) -> Response<AnswerBody> {
    let title = status.canonical_reason().unwrap_or("Error");
    let problem = serde_json::json!({"type": "about:blank", "title": title, "status": status.as_u16(), "kind": kind, "detail": detail});
    let mut response = Response::new(AnswerBody::own(Bytes::from(problem.to_string())));
    *response.status_mut() = status;
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
