//! Listeners: HTTP/1 and HTTP/2 with or without TLS, bounded in everything a stranger can use up (a46), and drained when
//! the process stops.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};
use tower::{Service, ServiceExt as _};
use tracing::Instrument as _;

use crate::observe::Observer;
use crate::sendfile::{Current, Plain, SentFile};
use crate::shutdown::Shutdown;

/// Open connections per listener; more wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 4096;
/// How long a TLS handshake may take.
pub const HANDSHAKE_SECONDS_MAX: u64 = 10;
/// How long the head of an HTTP/1 request may take to arrive; also how long a connection may be idle between requests.
pub const HEADER_SECONDS_MAX: u64 = 75;
/// Bytes that are read at once, and so of all headers of an HTTP/1 request. Large, because bodies in small pieces cost
/// many times the CPU.
pub const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Connections of a listener that may have buffers of [`BUFFER_BYTES_MAX`], until they end: those that first sent much.
/// The others read small pieces, so that a thousand senders take no more memory than they must.
pub const LARGE_BUFFERS_MAX: usize = 64;
/// What the others read at once: just less than fills the smallest buffer that hyper has, for one that is filled grows.
const SMALL_READ_BYTES: u64 = 8 * 1024 - 1;
/// Bytes of all headers of an HTTP/2 request.
pub const HEADER_BYTES_MAX: u32 = 64 * 1024;
/// Bytes of one HTTP/2 stream that may be under way unread.
pub const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes of one HTTP/2 connection that may be under way unread.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Headers of a request.
pub const HEADERS_MAX: usize = 128;
/// Requests at once on one HTTP/2 connection.
pub const STREAMS_MAX: u32 = 256;
/// How often a silent HTTP/2 peer is asked whether it is still there.
pub const PING_SECONDS: u64 = 20;
/// How long the other end may take nothing of what was sent to it; then the connection is cut.
pub const STALL_SECONDS_MAX: u32 = 60;
/// The pause after the system refused a connection, for example because no more files can be opened.
const ACCEPT_PAUSE_MILLIS: u64 = 100;

/// Who is at the other end; an extension of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The other end's address.
    pub address: SocketAddr,
    /// The certificate that it presented and that the TLS configuration verified.
    pub certificate: Option<CertificateDer<'static>>,
}

/// How a listener speaks TLS.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    other: Option<OtherProtocol>,
}

impl From<Arc<ServerConfig>> for Tls {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self { config, other: None }
    }
}

impl Tls {
    /// Connections of those who offer another protocol than HTTP are `other`'s.
    #[must_use]
    pub fn with(mut self, other: OtherProtocol) -> Self {
        self.other = Some(other);
        self
    }
}

/// A protocol beside HTTP on the same port, chosen by the TLS client (ALPN). It has a configuration of its own, so that
/// neither sessions nor rules for certificates are shared.
#[derive(Clone)]
pub struct OtherProtocol {
    /// Its name.
    pub protocol: &'static [u8],
    /// What its handshakes use.
    pub config: Arc<ServerConfig>,
    /// Speaks it on a connection until that ends, or until the stop begins.
    pub handler: OtherHandler,
}

/// Speaks another protocol than HTTP on a connection from an address.
pub type OtherHandler = Arc<dyn Fn(TlsStream<TcpStream>, SocketAddr) -> BoxFuture<'static, ()> + Send + Sync>;

/// What answers requests: a router, or something in front of one.
pub trait App:
    Service<http::Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<A> App for A where
    A: Service<http::Request<Body>, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

/// Serves `app` on `listener` until the stop begins; then connections end after the request under way, which
/// [`Shutdown::drain`] waits for. Every request has a [`Peer`] extension, and `observer` sees it.
pub async fn serve<A: App>(listener: TcpListener, tls: Option<Tls>, app: A, observer: Observer, shutdown: Shutdown) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let large = Arc::new(Semaphore::new(LARGE_BUFFERS_MAX));
    loop {
        let accepted = tokio::select! {
            () = shutdown.begun() => return,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, address, slot)) = accepted else { continue };
        let (tls, app, large, stop) = (tls.clone(), app.clone(), large.clone(), shutdown.clone());
        let observer = observer.clone();
        shutdown.spawn(async move {
            let open = observer.connection();
            connection(stream, address, tls, (app, observer), large, stop).await;
            drop((open, slot));
        });
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, address, slot)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MILLIS)).await;
            None
        }
    }
}

async fn connection<A: App>(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Tls>,
    app: (A, Observer),
    large: Arc<Semaphore>,
    shutdown: Shutdown,
) {
    // Small answers must not wait for the other end's acknowledgement.
    let _ = stream.set_nodelay(true);
    // Counts while the other end's window is closed, too: whoever stops reading does not hold a place for ever.
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&stream, STALL_SECONDS_MAX * 1000) {
        tracing::debug!(%address, %error, "a connection's time limit could not be set");
    }
    let Some(tls) = tls else {
        let (files, peer) = (Current::default(), Peer { address, certificate: None });
        let stream = Metered::new(Plain::new(stream, files.clone()), large);
        // Apart, so that a connection has room for what it is and not for what it could have been.
        return Box::pin(http(stream, peer, app, files, shutdown)).await;
    };
    let limit = Duration::from_secs(HANDSHAKE_SECONDS_MAX);
    let handshake = tokio::select! {
        () = shutdown.begun() => return,
        handshake = tokio::time::timeout(limit, handshake(stream, &tls)) => handshake,
    };
    match handshake {
        Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
        Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
        Ok(Ok(stream)) => {
            let (_, session) = stream.get_ref();
            if let Some(other) = &tls.other
                && session.alpn_protocol() == Some(other.protocol)
            {
                return (other.handler)(stream, address).await;
            }
            let certificates = session.peer_certificates();
            let certificate = certificates.and_then(<[_]>::first).map(|certificate| certificate.clone().into_owned());
            let peer = Peer { address, certificate };
            Box::pin(http(Metered::new(stream, large), peer, app, Current::default(), shutdown)).await;
        }
    }
}

async fn handshake(stream: TcpStream, tls: &Tls) -> io::Result<TlsStream<TcpStream>> {
    let Some(other) = &tls.other else {
        return TlsAcceptor::from(Arc::clone(&tls.config)).accept(stream).await;
    };
    let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let is_other = begun.client_hello().alpn().is_some_and(|mut offered| offered.any(|name| name == other.protocol));
    begun.into_stream(Arc::clone(if is_other { &other.config } else { &tls.config })).await
}

/// A stream whose reads stay small unless the connection has one of the large buffers.
struct Metered<S> {
    stream: Take<S>,
    large: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<S: AsyncRead> Metered<S> {
    fn new(stream: S, large: Arc<Semaphore>) -> Self {
        Self { stream: stream.take(SMALL_READ_BYTES), large, permit: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        this.stream.set_limit(if this.permit.is_some() { u64::MAX } else { SMALL_READ_BYTES });
        let outcome = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if this.permit.is_none() && (buffer.filled().len() - before) as u64 == SMALL_READ_BYTES {
            this.permit = Arc::clone(&this.large).try_acquire_owned().ok();
        }
        outcome
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }
}

async fn http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static, A: App>(
    stream: S,
    peer: Peer,
    app: (A, Observer),
    files: Current,
    shutdown: Shutdown,
) {
    let address = peer.address;
    let (app, observer) = app;
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (mut request, seen) = observer.begin(request, &peer);
        let (app, peer, files) = (app.clone(), peer.clone(), files.clone());
        async move {
            request.extensions_mut().insert(peer);
            // Large, and moved often otherwise; and a connection without a request has no room for one.
            let mut response = Box::pin(app.oneshot(request)).instrument(seen.span()).await?;
            if let Some(file) = response.extensions_mut().remove::<SentFile>() {
                files.set(file);
            }
            Ok::<_, Infallible>(seen.answered(response))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEADER_SECONDS_MAX))
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(BUFFER_BYTES_MAX)
        .keep_alive_interval(Duration::from_secs(PING_SECONDS))
        .keep_alive_timeout(Duration::from_secs(PING_SECONDS));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = shutdown.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%address, %error, "connection ended with an error");
    }
}
