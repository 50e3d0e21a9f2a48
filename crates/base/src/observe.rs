//! What is seen of every request on a listener: counted for Prometheus, a line in the log under the target `access`, and a
//! span where traces are exported.
//!
//! A request ends when the last byte of its answer was handed to the connection, or when the other end went away. It
//! costs a few atomic additions and two looks at the clock: routes are asked for often.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request as AxumRequest};
use axum::middleware::Next;
use axum::response::Response as AxumResponse;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tracing::Span;
use tracing::field::Empty;

use crate::listen::Peer;
use crate::metrics::{self, Counter, DURATION_SECONDS, Gauge, Histogram};
use crate::telemetry;

/// The route of what no route takes.
const UNMATCHED: &str = "unmatched";
/// Characters of a path in a log line or span at most.
const PATH_CHARS_MAX: usize = 512;
/// The methods that are counted apart; others are counted as `other`.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
/// How a request ended: the class of its status, or no answer because the other end went away.
const ENDS: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "aborted"];
const ABORTED: usize = 5;

/// Paths that a program knows by itself, quicker than a router says them.
#[derive(Clone, Copy, Debug)]
pub struct KnownRoutes {
    /// Their names, with `{…}` for what varies.
    pub names: &'static [&'static str],
    /// The place of a path's route among the names.
    pub of: fn(path: &str) -> Option<usize>,
}

impl KnownRoutes {
    /// All routes are a router's.
    pub const NONE: Self = Self { names: &[], of: |_| None };
}

/// Watches the requests of one listener. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Observer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    listener: &'static str,
    route_of: fn(&str) -> Option<usize>,
    known: Vec<Arc<Route>>,
    /// By the paths that routers say: as many as the program has.
    matched: RwLock<HashMap<String, Arc<Route>>>,
    unmatched: Arc<Route>,
    in_flight: Gauge,
    connections: Gauge,
}

#[derive(Debug)]
struct Route {
    listener: &'static str,
    name: String,
    methods: [OnceLock<MethodSeries>; METHODS.len() + 1],
    request_bytes: OnceLock<Counter>,
    response_bytes: OnceLock<Counter>,
}

#[derive(Debug)]
struct MethodSeries {
    seconds: Histogram,
    ends: [OnceLock<Counter>; ENDS.len()],
}

impl Observer {
    /// Watches a listener, whose name labels its metrics.
    pub fn new(listener: &'static str, known: KnownRoutes) -> Self {
        let labels = [("listener", listener)];
        let in_flight = metrics::gauge(
            "longshore_http_requests_in_flight",
            "Requests that were not answered to their end.",
            &labels,
        );
        let connections = metrics::gauge("longshore_http_connections_open", "Open connections.", &labels);
        let inner = Inner {
            listener,
            route_of: known.of,
            known: known.names.iter().map(|name| Arc::new(Route::new(listener, name))).collect(),
            matched: RwLock::default(),
            unmatched: Arc::new(Route::new(listener, UNMATCHED)),
            in_flight,
            connections,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Counts a connection until what it gives is dropped.
    pub(crate) fn connection(&self) -> ConnectionOpen {
        self.inner.connections.add(1);
        ConnectionOpen(self.inner.connections.clone())
    }

    /// A request begins. Its body is counted as it is read.
    pub(crate) fn begin(&self, request: Request<Incoming>, peer: &Peer) -> (Request<Body>, Seen) {
        let (parts, body) = request.into_parts();
        let known = (self.inner.route_of)(parts.uri.path()).and_then(|place| self.inner.known.get(place));
        let line = tracing::enabled!(target: "access", tracing::Level::DEBUG).then(|| {
            let path = shown(parts.uri.path()).to_owned();
            Box::new(Line { method: parts.method.clone(), path, peer: peer.address })
        });
        let (body, request_bytes) = if http_body::Body::is_end_stream(&body) {
            (Body::empty(), None)
        } else {
            let counted = Arc::new(AtomicU64::new(0));
            (Body::new(Received { body, bytes: Arc::clone(&counted) }), Some(counted))
        };
        self.inner.in_flight.add(1);
        let method = METHODS.iter().position(|method| *method == parts.method).unwrap_or(METHODS.len());
        let span = tracing::trace_span!(
            "request",
            otel.kind = "server",
            otel.status_code = Empty,
            http.request.method = method_name(method),
            http.route = Empty,
            url.path = shown(parts.uri.path()),
            http.response.status_code = Empty,
            http.request.body.size = Empty,
            http.response.body.size = Empty,
            error.type = Empty,
            network.peer.address = %peer.address.ip(),
            longshore.listener = self.inner.listener,
        );
        if let Some(hooks) = telemetry::hooks(&span) {
            (hooks.adopt)(&span, &parts.headers);
        }
        let seen = Seen {
            inner: Arc::clone(&self.inner),
            route: known.map(Arc::clone),
            method,
            began: Instant::now(),
            end: ABORTED,
            status: 0,
            request_bytes,
            response_bytes: 0,
            line,
            span,
        };
        (Request::from_parts(parts, body), seen)
    }
}

/// Middleware for `axum::middleware::from_fn`: lets the observer know which of a router's routes took a request.
pub async fn route_named(request: AxumRequest, next: Next) -> AxumResponse {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(matched) = matched {
        response.extensions_mut().insert(matched);
    }
    response
}

/// An open connection.
pub(crate) struct ConnectionOpen(Gauge);

impl Drop for ConnectionOpen {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// What a log line says that is not known at the end.
#[derive(Debug)]
struct Line {
    method: Method,
    path: String,
    peer: std::net::SocketAddr,
}

/// A request under way; its end is when this is dropped.
#[derive(Debug)]
pub(crate) struct Seen {
    inner: Arc<Inner>,
    route: Option<Arc<Route>>,
    method: usize,
    began: Instant,
    end: usize,
    status: u16,
    request_bytes: Option<Arc<AtomicU64>>,
    response_bytes: u64,
    line: Option<Box<Line>>,
    span: Span,
}

impl Seen {
    /// Of what is done for the request.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// The answer has a head. Its body is counted as it is sent.
    pub(crate) fn answered(mut self, response: Response<Body>) -> Response<Sent> {
        let status = response.status().as_u16();
        self.status = status;
        self.end = usize::from(status / 100).saturating_sub(1).min(ABORTED - 1);
        if self.route.is_none() {
            let matched = response.extensions().get::<MatchedPath>();
            self.route = matched.and_then(|matched| self.inner.route_matched(matched.as_str()));
        }
        response.map(|body| Sent { body, seen: Some(self) })
    }
}

impl Seen {
    /// Says in the span what is not known before the end, and makes this its end.
    fn span_end(&self, route: &str, received: u64) {
        let span = &self.span;
        if let Some(hooks) = telemetry::hooks(span) {
            (hooks.rename)(span, format!("{} {route}", method_name(self.method)));
        }
        span.record("http.route", route);
        span.record("http.request.body.size", signed(received));
        span.record("http.response.body.size", signed(self.response_bytes));
        if self.end == ABORTED {
            span.record("error.type", ENDS[ABORTED]);
        } else {
            span.record("http.response.status_code", i64::from(self.status));
        }
        if self.status >= 500 {
            span.record("otel.status_code", "ERROR");
        }
        span.in_scope(|| ());
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        self.inner.in_flight.add(-1);
        let route = self.route.as_ref().unwrap_or(&self.inner.unmatched);
        let method = route.method(self.method);
        method.seconds.observe_duration(took);
        route.end(method, self.method, self.end).increment();
        let received = self.request_bytes.as_ref().map_or(0, |bytes| bytes.load(Ordering::Relaxed));
        if received > 0 {
            route.request_bytes().add(received);
        }
        if self.response_bytes > 0 {
            route.response_bytes().add(self.response_bytes);
        }
        if let Some(line) = &self.line {
            tracing::debug!(
                target: "access",
                listener = self.inner.listener,
                peer = %line.peer,
                method = %line.method,
                path = ?line.path,
                route = route.name,
                status = self.status,
                received,
                sent = self.response_bytes,
                micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                "request"
            );
        }
        if !self.span.is_disabled() {
            self.span_end(&route.name, received);
        }
    }
}

impl Inner {
    fn route_matched(&self, name: &str) -> Option<Arc<Route>> {
        if let Some(route) = self.matched.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Some(Arc::clone(route));
        }
        let mut matched = self.matched.write().unwrap_or_else(PoisonError::into_inner);
        let route = matched.entry(name.to_owned()).or_insert_with(|| Arc::new(Route::new(self.listener, name)));
        Some(Arc::clone(route))
    }
}

impl Route {
    fn new(listener: &'static str, name: &str) -> Self {
        Self {
            listener,
            name: name.to_owned(),
            methods: Default::default(),
            request_bytes: OnceLock::new(),
            response_bytes: OnceLock::new(),
        }
    }

    fn labels(&self) -> [(&'static str, &str); 2] {
        [("listener", self.listener), ("route", &self.name)]
    }

    fn method(&self, method: usize) -> &MethodSeries {
        self.methods[method].get_or_init(|| {
            let [listener, route] = self.labels();
            let labels = [listener, route, ("method", method_name(method))];
            MethodSeries {
                seconds: metrics::histogram(
                    "longshore_http_request_duration_seconds",
                    "Time from a request's head to the end of its answer.",
                    &labels,
                    DURATION_SECONDS,
                ),
                ends: Default::default(),
            }
        })
    }

    fn end<'a>(&self, series: &'a MethodSeries, method: usize, end: usize) -> &'a Counter {
        series.ends[end].get_or_init(|| {
            let [listener, route] = self.labels();
            let labels = [listener, route, ("method", method_name(method)), ("status", ENDS[end])];
            metrics::counter("longshore_http_requests_total", "Requests by how they ended.", &labels)
        })
    }

    fn request_bytes(&self) -> &Counter {
        let help = "Bytes of requests' bodies.";
        self.request_bytes
            .get_or_init(|| metrics::counter("longshore_http_request_body_bytes_total", help, &self.labels()))
    }

    fn response_bytes(&self) -> &Counter {
        let help = "Bytes of answers' bodies.";
        self.response_bytes
            .get_or_init(|| metrics::counter("longshore_http_response_body_bytes_total", help, &self.labels()))
    }
}

/// A path in a log line or span. The query is left out: it may hold secrets (a37).
fn shown(path: &str) -> &str {
    path.char_indices().nth(PATH_CHARS_MAX).map_or(path, |(end, _)| &path[..end])
}

/// Numbers in spans have a sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn method_name(method: usize) -> &'static str {
    const NAMES: [&str; METHODS.len()] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    NAMES.get(method).copied().unwrap_or(metrics::OTHER)
}

/// A request's body, counted.
struct Received {
    body: Incoming,
    bytes: Arc<AtomicU64>,
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body, counted.
pub(crate) struct Sent {
    body: Body,
    seen: Option<Seen>,
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                if let Some(seen) = &mut self.seen {
                    seen.response_bytes += bytes;
                }
            }
            Poll::Ready(Some(Err(_)) | None) => self.seen = None,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
