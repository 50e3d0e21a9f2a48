//! A client's connection from its first byte: which protocol it is, and what is done with one that is not HTTP.
//!
//! Whoever speaks first decides, without a timer: the client's bytes are awaited and an upstream is dialled at the same
//! time. An upstream that has answered in HTTP before is not dialled until the client has spoken, so that browsers'
//! idle connections hold up neither a worker of the upstream nor its draining.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::dial::{self, Reached, Unreachable};
use super::exchange;
use super::listeners::Binding;
use super::routes::{Purpose, Reach};
use super::sniff::{Sniffed, sniff};
use super::streams::{self, Prefixed};
use super::table::RouteKey;

/// Buffer for each direction of an opaque connection.
const COPY_BUFFER_BYTES: usize = 64 * 1024;
const FIRST_READ_BYTES: usize = 16 * 1024;
/// Upstream connections closed in a row, before either side spoke, after which the client's is closed too.
const SILENT_CLOSES_MAX: u32 = 3;
/// Time a client that found no upstream, or whose listener closes, has to turn out to speak HTTP, and so get an answer
/// instead of a close.
const LAST_WORD_TIME_MAX: Duration = Duration::from_secs(1);

/// A client's connection to a published address.
pub(crate) struct Published {
    pub(crate) shared: Arc<Shared>,
    pub(crate) binding: Arc<Binding>,
    pub(crate) client: SocketAddr,
}

/// What the first bytes of a connection came to.
enum First {
    Http { client_bytes: BytesMut },
    Opaque { client_bytes: BytesMut, upstream: Option<(Reached, BytesMut)> },
    Over,
}

type Reaching<'a> = Pin<Box<dyn Future<Output = Result<Reached, Unreachable>> + Send + 'a>>;

/// Serves one connection until it is over or everything is cut.
pub(crate) async fn serve(published: Published, mut client: TcpStream) {
    streams::tune(&client);
    published.binding.listener().counters.connections.fetch_add(1, Relaxed);
    let cut = published.shared.cut.clone();
    let serving = async move {
        let route = published.binding.listener().route(&published.shared);
        match first_words(&published, &route, &mut client).await {
            First::Over => {}
            First::Http { client_bytes } => exchange::serve(published, client, client_bytes).await,
            First::Opaque { client_bytes, upstream } => {
                let (reached, upstream_bytes) = match upstream {
                    Some(upstream) => upstream,
                    None => {
                        match dial::reach(&published.shared, &route, Purpose::Connection, Reach::Everywhere).await {
                            Ok(reached) => (reached, BytesMut::new()),
                            Err(error) => return refuse_opaque(&published, &error),
                        }
                    }
                };
                join_opaque(Prefixed::new(client_bytes, client), reached, upstream_bytes).await;
            }
        }
    };
    tokio::select! {
        () = serving => {}
        () = cut.cancelled() => {}
    }
}

fn refuse_opaque(published: &Published, error: &Unreachable) {
    let listener = published.binding.listener();
    tracing::debug!(listener = listener.key, %error, "closed a connection");
    listener.counters.connections_failed.fetch_add(1, Relaxed);
}

async fn first_words(published: &Published, route: &RouteKey, client: &mut TcpStream) -> First {
    let Published { shared, binding, .. } = published;
    let reach = || -> Reaching<'_> { Box::pin(dial::reach(shared, route, Purpose::Connection, Reach::Everywhere)) };
    let mut changes = shared.routes.changes();
    let mut client_bytes = BytesMut::new();
    let mut upstream_bytes = BytesMut::new();
    let mut reached: Option<Reached> = None;
    let mut silent_closes = 0;
    let known_http = shared.routes.speaks_http(route);
    let mut reaching = if known_http { None } else { Some(reach()) };
    let mut deadline = known_http.then(|| Instant::now() + shared.limits.idle_time_max);
    let mut closing = false;
    let mut unreachable: Option<Unreachable> = None;
    loop {
        tokio::select! {
            read = async { client_bytes.reserve(FIRST_READ_BYTES); client.read_buf(&mut client_bytes).await } => {
                let Ok(count) = read else { return First::Over };
                let sniffed = if count == 0 { Sniffed::Opaque } else { sniff(&client_bytes) };
                match sniffed {
                    Sniffed::Http => return First::Http { client_bytes },
                    Sniffed::Opaque => {
                        if let Some(error) = unreachable {
                            refuse_opaque(published, &error);
                            return First::Over;
                        }
                        return First::Opaque { client_bytes, upstream: reached.map(|r| (r, upstream_bytes)) };
                    }
                    // The first byte of what may be a request starts the time for its header.
                    Sniffed::Undecided if client_bytes.len() == count => {
                        deadline = Some(Instant::now() + shared.limits.header_time_max);
                    }
                    Sniffed::Undecided => {}
                }
            }
            read = read_some(reached.as_mut(), &mut upstream_bytes) => {
                if matches!(read, Ok(1..)) {
                    return First::Opaque { client_bytes, upstream: reached.map(|r| (r, upstream_bytes)) };
                }
                reached = None;
                silent_closes += 1;
                if silent_closes >= SILENT_CLOSES_MAX {
                    return First::Over;
                }
                reaching = Some(reach());
            }
            done = async { match &mut reaching { Some(reaching) => reaching.await, None => std::future::pending().await } } => {
                reaching = None;
                match done {
                    Ok(new) => reached = Some(new),
                    Err(error) => {
                        unreachable = Some(error);
                        let last = Instant::now() + LAST_WORD_TIME_MAX;
                        deadline = Some(deadline.map_or(last, |d| d.min(last)));
                    }
                }
            }
            // Nothing was said on it yet, so another upstream will do; this one may stop.
            _ = changes.changed(), if reached.is_some() => {
                if reached.as_ref().is_some_and(|r| r.busy.is_draining()) {
                    reached = None;
                    reaching = Some(reach());
                }
            }
            // A client that has just connected is about to speak: closing at once would reset its request.
            () = binding.closing.cancelled(), if !closing => {
                closing = true;
                let last = Instant::now() + LAST_WORD_TIME_MAX;
                deadline = Some(deadline.map_or(last, |d| d.min(last)));
            }
            () = async { match deadline { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {
                if let Some(error) = unreachable {
                    refuse_opaque(published, &error);
                }
                return First::Over;
            }
        }
    }
}

async fn read_some(reached: Option<&mut Reached>, bytes: &mut BytesMut) -> io::Result<usize> {
    match reached {
        Some(reached) => {
            bytes.reserve(FIRST_READ_BYTES);
            reached.stream.read_buf(bytes).await
        }
        None => std::future::pending().await,
    }
}

async fn join_opaque(mut client: Prefixed<TcpStream>, reached: Reached, upstream_bytes: BytesMut) {
    let Reached { stream, busy } = reached;
    let mut upstream = Prefixed::new(upstream_bytes, stream);
    if let Err(error) = copy_both(&mut client, &mut upstream).await {
        tracing::debug!(%error, "a connection broke");
        streams::reset_on_close(client.get_ref());
        if let tokio_util::either::Either::Left(upstream) = upstream.get_ref() {
            streams::reset_on_close(upstream);
        }
    }
    drop(busy);
}

/// Copies both ways until both ended; the end of one way is passed on while the other goes on.
pub(crate) async fn copy_both<A, B>(a: &mut A, b: &mut B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    tokio::io::copy_bidirectional_with_sizes(a, b, COPY_BUFFER_BYTES, COPY_BUFFER_BYTES).await.map(|_| ())
}

/// Carries a tunnel of another host. Until a byte was said on it, it ends when its upstream leaves the table, so that
/// a connection nobody uses does not hold up draining; the other host opens another one.
pub(crate) async fn join_tunnel<S>(shared: &Shared, mut tunnel: S, mut reached: Reached) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut changes = shared.routes.changes();
    let (mut tunnel_bytes, mut upstream_bytes) = (BytesMut::new(), BytesMut::new());
    loop {
        if reached.busy.is_draining() {
            return Ok(());
        }
        tunnel_bytes.reserve(FIRST_READ_BYTES);
        tokio::select! {
            read = tunnel.read_buf(&mut tunnel_bytes) => { read?; break; }
            read = read_some(Some(&mut reached), &mut upstream_bytes) => { read?; break; }
            _ = changes.changed() => {}
        }
    }
    let Reached { stream, busy } = reached;
    let mut tunnel = Prefixed::new(tunnel_bytes, tunnel);
    let joined = copy_both(&mut tunnel, &mut Prefixed::new(upstream_bytes, stream)).await;
    drop(busy);
    joined
}
