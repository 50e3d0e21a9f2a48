//! How connections come about: dialled, or taken in; both sides say who they are before anything else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::tls::PeerCertificate;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio_rustls::server;

use super::driver::Event;
use super::link::{self, Link, Met};
use super::network::{Stream, prepare};
use super::{HANDSHAKE_SECONDS_MAX, HANDSHAKES_MAX, Shared, Who};
use crate::wire::{Decoder, Frame, VERSION};

/// The pause after the system refused a connection, in milliseconds.
const ACCEPT_PAUSE_MILLIS: u64 = 100;
/// Bytes that are read at once of a greeting.
const GREETING_BYTES: usize = 512;

static LINKS: AtomicU64 = AtomicU64::new(1);

/// Takes connections in until the shutdown.
pub(super) async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    let slots = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = shared.shutdown.begun() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a peer's connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MILLIS)).await;
                continue;
            }
        };
        let (task, name) = (Arc::clone(&shared), shared.shutdown.clone());
        name.spawn(async move {
            let met = timely(&task, async {
                prepare(&stream)?;
                let (stream, certificate) = task.tls.accept(stream).await?;
                meet(Box::new(stream), certificate).await
            });
            let met = met.await;
            drop(slot);
            match met {
                Ok(met) => speak(&task, met, false).await,
                Err(error) => tracing::debug!(%address, %error, "a peer did not get in"),
            }
        });
    }
}

/// Speaks with whoever came in on a port that is shared with another protocol.
pub(super) async fn came_in<S: Stream>(shared: &Arc<Shared>, stream: server::TlsStream<S>) {
    let met = timely(shared, async {
        let certificate = shared.tls.accepted(stream.get_ref().1)?;
        meet(Box::new(stream), certificate).await
    });
    match met.await {
        Ok(met) => speak(shared, met, false).await,
        Err(error) => tracing::debug!(%error, "a peer did not get in"),
    }
}

/// Dials, and speaks until the connection ends. The driver hears of either outcome.
pub(super) async fn dial(shared: Arc<Shared>, who: Who, address: SocketAddr) {
    let met = timely(&shared, async {
        let stream = shared.dialler.dial(address).await?;
        let (stream, certificate) = shared.tls.connect(stream, &who.server_name()).await?;
        meet(Box::new(stream), certificate).await
    });
    match met.await {
        Ok(met) if met.who == who => speak(&shared, met, true).await,
        outcome => {
            let why =
                outcome.err().map_or_else(|| "its certificate is of several".to_owned(), |error| error.to_string());
            tracing::info!(peer = %who, %address, %why, "a peer cannot be reached");
            let _ = shared.events.send(Event::Unreached { who }).await;
        }
    }
}

async fn timely(shared: &Shared, met: impl Future<Output = io::Result<Met>>) -> io::Result<Met> {
    tokio::select! {
        () = shared.shutdown.begun() => Err(io::ErrorKind::Interrupted.into()),
        met = tokio::time::timeout(Duration::from_secs(HANDSHAKE_SECONDS_MAX), met) => met?,
    }
}

/// Greets, and waits for the other side's greeting: only then has it taken this side's certificate.
async fn meet(mut stream: Box<dyn Stream>, certificate: PeerCertificate) -> io::Result<Met> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let who = Who::certified(&certificate.names);
    let who = who.ok_or_else(|| wrong(format!("a certificate for {:?} is no host's", certificate.names)))?;
    let mut greeting = bytes::BytesMut::new();
    Frame::Hello { version: VERSION }.encode(&mut greeting);
    stream.write_all(&greeting).await?;
    stream.flush().await?;
    let mut decoder = Decoder::default();
    loop {
        match decoder.next_frame().map_err(|error| wrong(error.to_string()))? {
            Some(Frame::Hello { version: VERSION }) => return Ok(Met { stream, certificate, who, decoder }),
            Some(Frame::Hello { version }) => {
                return Err(wrong(format!("it speaks version {version}, this host {VERSION}; upgrade the older one")));
            }
            Some(_) => return Err(wrong("it does not greet".to_owned())),
            None => {}
        }
        let buffer = decoder.buffer();
        buffer.reserve(GREETING_BYTES);
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn speak(shared: &Arc<Shared>, met: Met, is_ours: bool) {
    let link = Arc::new(Link::new(met.who.clone(), LINKS.fetch_add(1, Ordering::Relaxed), is_ours));
    let (taken, answer) = oneshot::channel();
    if shared.events.send(Event::Met { link: Arc::clone(&link), taken }).await.is_err() {
        return;
    }
    // The driver may have one with this peer already, or no room.
    if answer.await.is_ok() {
        link::run(Arc::clone(shared), link, met).await;
    }
}
