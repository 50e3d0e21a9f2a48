//! One connection: what is to be sent on it, and its end.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::tls::PeerCertificate;
use oci::Digest;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::driver::Event;
use super::network::Stream;
use super::reader::Reader;
use super::writer::Writer;
use super::{Shared, Who};
use crate::piece::Layout;
use crate::wire::{Decoder, Frame};

/// Bytes of short frames that may wait for the other side to read; whoever asks and does not read is cut (a46).
const WAITING_BYTES_MAX: usize = 8 << 20;
/// What a frame takes beside its bytes.
const FRAME_COST_BYTES: usize = 64;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("the other side closed it")]
    Closed,
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Wire(#[from] crate::wire::WireError),
    #[error("the other side breaks the rules: {0}")]
    Rules(&'static str),
    #[error("the other side showed a grant that is none: {0}")]
    Grant(#[from] crate::grant::GrantError),
    #[error("the other side is silent")]
    Silent,
    #[error("the other side does not read what it is sent")]
    Unread,
    #[error("the other side's certificate was revoked")]
    Revoked,
    #[error("the other side's certificate has expired")]
    Expired,
    #[error("it is not needed any more")]
    Cut,
}

/// A piece to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Upload {
    pub(super) channel: u16,
    pub(super) digest: Digest,
    pub(super) piece: u32,
    pub(super) length: u32,
}

#[derive(Debug, Default)]
struct Out {
    frames: VecDeque<Frame>,
    frames_bytes: usize,
    uploads: VecDeque<Upload>,
    /// What is open on this side.
    channels: HashSet<u16>,
    /// Blobs that were asked for here: their pieces may come.
    asked: HashMap<Digest, Layout>,
}

/// A connection, as the driver holds it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) who: Who,
    /// No other connection of this process had it.
    pub(super) id: u64,
    /// Whether it was dialled here.
    pub(super) is_ours: bool,
    out: Mutex<Out>,
    pub(super) wake: Notify,
    cut: CancellationToken,
}

impl Link {
    pub(super) fn new(who: Who, id: u64, is_ours: bool) -> Self {
        Self { who, id, is_ours, out: Mutex::default(), wake: Notify::new(), cut: CancellationToken::new() }
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a frame before all uploads. On a channel that it closes nothing more is sent.
    pub(super) fn send(&self, frame: Frame) {
        let mut out = self.out();
        match &frame {
            Frame::Open { channel, .. } => _ = out.channels.insert(*channel),
            Frame::Close { channel } => _ = out.channels.remove(channel),
            _ => {}
        }
        out.frames_bytes += bytes_of(&frame);
        out.frames.push_back(frame);
        if out.frames_bytes > WAITING_BYTES_MAX {
            tracing::debug!(peer = %self.who, "a peer asks and does not read; the connection is cut");
            self.cut.cancel();
        }
        drop(out);
        self.wake.notify_one();
    }

    /// Sends a piece behind those before it.
    pub(super) fn upload(&self, upload: Upload) {
        self.out().uploads.push_back(upload);
        self.wake.notify_one();
    }

    /// Pieces of this blob may come from now on.
    pub(super) fn ask(&self, digest: Digest, layout: Layout) {
        self.out().asked.insert(digest, layout);
    }

    /// Pieces of this blob are not expected any more.
    pub(super) fn unask(&self, digest: &Digest) {
        self.out().asked.remove(digest);
    }

    /// How the pieces of a blob are cut that was asked for.
    pub(super) fn asked(&self, digest: &Digest) -> Option<Layout> {
        self.out().asked.get(digest).copied()
    }

    pub(super) fn next_frame(&self) -> Option<Frame> {
        let mut out = self.out();
        let frame = out.frames.pop_front()?;
        out.frames_bytes = out.frames_bytes.saturating_sub(bytes_of(&frame));
        Some(frame)
    }

    pub(super) fn next_upload(&self) -> Option<Upload> {
        self.out().uploads.pop_front()
    }

    /// Whether uploads may go on a channel.
    pub(super) fn is_open(&self, channel: u16) -> bool {
        self.out().channels.contains(&channel)
    }

    /// Bytes of short frames that wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.out().frames_bytes
    }

    /// Ends it.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }
}

fn bytes_of(frame: &Frame) -> usize {
    let bytes = match frame {
        Frame::Grant { payload, .. } => payload.len(),
        Frame::Open { pieces, .. } => pieces.pieces().div_ceil(8) as usize,
        Frame::Have { pieces, .. } => pieces.len() * size_of::<u32>(),
        Frame::Tree { leaves, .. } => leaves.len(),
        _ => 0,
    };
    FRAME_COST_BYTES + bytes
}

/// A connection whose sides know each other.
pub(super) struct Met {
    pub(super) stream: Box<dyn Stream>,
    pub(super) certificate: PeerCertificate,
    pub(super) who: Who,
    /// What was read behind the other side's greeting.
    pub(super) decoder: Decoder,
}

/// Reads and writes until the connection ends, and tells the driver of its end.
pub(super) async fn run(shared: Arc<Shared>, link: Arc<Link>, met: Met) {
    let Met { stream, certificate, decoder, .. } = met;
    let (read, write) = tokio::io::split(stream);
    let mut reader = Reader::new(Arc::clone(&shared), Arc::clone(&link), read, decoder);
    let mut writer = Writer::new(Arc::clone(&shared), Arc::clone(&link), write);
    let left = certificate.expires_at.since((shared.now)()).min(Duration::from_secs(365 * 24 * 3600));
    let why = tokio::select! {
        // In order, so that nothing but the network decides which is first.
        biased;
        why = reader.run() => why,
        why = writer.run() => why,
        () = link.cut.cancelled() => LinkError::Cut,
        () = shared.tls.revoked().wait(&certificate.serial) => LinkError::Revoked,
        () = tokio::time::sleep(left) => LinkError::Expired,
        () = shared.shutdown.begun() => LinkError::Cut,
    };
    match why {
        LinkError::Closed | LinkError::Cut => tracing::debug!(peer = %link.who, %why, "a connection with a peer ended"),
        LinkError::Io(_) | LinkError::Silent => {
            tracing::info!(peer = %link.who, %why, "a connection with a peer broke")
        }
        _ => tracing::warn!(peer = %link.who, %why, "a connection with a peer was cut"),
    }
    link.cut();
    let _ = shared.events.send(Event::Ended { link }).await;
}
