//! Byte streams with something added: bytes that were read before, and limits on the time a client may take.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::Limits;

const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Sends small writes at once and probes silent peers, so that a peer that vanished is noticed some day.
pub(crate) fn tune(stream: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    let tuned = stream.set_nodelay(true).and_then(|()| socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = tuned {
        tracing::debug!(%error, "cannot tune a connection");
    }
}

/// Makes the close of `stream` a reset, so that its peer does not take a broken stream for a complete one.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    if let Err(error) = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "cannot turn a close into a reset");
    }
}

/// A stream that first gives bytes that were read from it before.
pub(crate) struct Prefixed<S> {
    prefix: BytesMut,
    stream: S,
}

impl<S> Prefixed<S> {
    pub(crate) fn new(prefix: BytesMut, stream: S) -> Self {
        Self { prefix, stream }
    }

    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..count]);
        self.prefix.advance(count);
        if self.prefix.is_empty() {
            self.prefix = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What an HTTP client's connection is at, which decides how long it may be silent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Phase(Arc<AtomicU8>);

/// Between requests: no byte of the next one has come.
const IDLE: u8 = 0;
/// Within the header of a request.
const HEADER: u8 = 1;
/// A request is being answered.
const BUSY: u8 = 2;
/// No longer HTTP; any silence is fine.
const TUNNEL: u8 = 3;

impl Phase {
    pub(crate) fn busy(&self) {
        self.0.store(BUSY, Relaxed);
    }

    pub(crate) fn idle(&self) {
        self.0.store(IDLE, Relaxed);
    }

    pub(crate) fn tunnel(&self) {
        self.0.store(TUNNEL, Relaxed);
    }
}

/// An HTTP client's connection that fails with `TimedOut` when the client takes too long.
///
/// The HTTP library's own timer covers header and idle time with one limit; this one tells them apart.
pub(crate) struct ClientStream {
    stream: Prefixed<TcpStream>,
    limits: Limits,
    phase: Phase,
    read_timer: Timer,
    write_timer: Timer,
}

/// A sleep that is armed for a reason and re-armed when the reason changes.
struct Timer {
    sleep: Pin<Box<Sleep>>,
    armed_for: Option<u8>,
}

impl Timer {
    fn new() -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(Duration::ZERO)), armed_for: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>, reason: u8, limit: Duration) -> Poll<()> {
        if self.armed_for != Some(reason) {
            self.sleep.as_mut().reset(Instant::now() + limit);
            self.armed_for = Some(reason);
        }
        self.sleep.as_mut().poll(cx)
    }

    fn disarm(&mut self) {
        self.armed_for = None;
    }
}

impl ClientStream {
    /// A connection of which `prefix`, the start of a request, was read before.
    pub(crate) fn new(prefix: BytesMut, stream: TcpStream, limits: Limits) -> Self {
        let phase = Phase(Arc::new(AtomicU8::new(HEADER)));
        let stream = Prefixed::new(prefix, stream);
        Self { stream, limits, phase, read_timer: Timer::new(), write_timer: Timer::new() }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.clone()
    }

    fn poll_write_timer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.phase.0.load(Relaxed) != TUNNEL {
            ready!(self.write_timer.poll(cx, BUSY, self.limits.stall_time_max));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let phase = this.phase.0.load(Relaxed);
        if phase == IDLE && polled.is_ready() && buf.filled().len() > before {
            this.phase.0.store(HEADER, Relaxed);
            this.read_timer.disarm();
        }
        // A header that trickles in keeps its deadline: only a change of phase arms the timer anew. It is looked at
        // after data came as well, so that a client that always has another byte is not let off.
        let limit = match this.phase.0.load(Relaxed) {
            IDLE => this.limits.idle_time_max,
            HEADER => this.limits.header_time_max,
            _ => {
                this.read_timer.disarm();
                return polled;
            }
        };
        let reason = this.phase.0.load(Relaxed);
        match this.read_timer.poll(cx, reason, limit) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => polled,
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Pending => self.poll_write_timer(cx),
            done => {
                self.write_timer.disarm();
                done
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, slices) {
            Poll::Pending => self.poll_write_timer(cx),
            done => {
                self.write_timer.disarm();
                done
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
