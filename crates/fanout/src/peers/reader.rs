//! What comes in on a connection: frames are checked against what may come, pieces are put together and kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use oci::Digest;
use tokio::io::{AsyncReadExt as _, ReadHalf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::bucket::Bucket;
use super::driver::{Event, Said};
use super::link::{Link, LinkError};
use super::network::Stream;
use super::{BUDGET_UNIT_BYTES, Shared, Who};
use crate::core::{Message, Stripes};
use crate::grant;
use crate::piece::Layout;
use crate::wire::{Decoder, Frame};

/// How long nothing at all may come, in seconds: the other side sends something four times as often. A line that was cut and
/// whose connections did not outlive it takes so long to be of use again.
const SILENCE_SECONDS_MAX: u64 = 20;
/// How long the rest of a frame or of a piece that has begun may not go on, in seconds.
const STALL_SECONDS_MAX: u64 = 20;
/// Frames a second that are read, at their [`cost`]; more wait in the other side's buffers.
const FRAMES_PER_SECOND_MAX: u64 = 10_000;
/// What it costs to verify a grant, in frames.
const GRANT_COST: usize = 20;
/// Bytes of a grant, a tree or a set of pieces that cost as much as a frame.
const COST_BYTES: usize = 256;
/// Bytes of pieces that nobody here asked for, or asks for no more. Beyond them the other side breaks the rules.
const UNASKED_BYTES_MAX: usize = 64 << 20;
/// How often, at most, it is told that a piece goes on coming.
const PARTS_TOLD: Duration = Duration::from_millis(250);
/// The shortest part of a piece that has more to come, in bytes.
const PART_BYTES_MIN: usize = 4 * 1024;
/// What is read at once while nothing large is expected, in bytes.
const READ_BYTES: usize = 4 * 1024;

/// A piece on its way in.
struct Incoming {
    digest: Digest,
    piece: u32,
    length: usize,
    bytes: BytesMut,
    room: Option<OwnedSemaphorePermit>,
    /// When it began, or was last told to be coming.
    told: Instant,
}

pub(super) struct Reader {
    shared: Arc<Shared>,
    link: Arc<Link>,
    stream: ReadHalf<Box<dyn Stream>>,
    decoder: Decoder,
    /// What the other side has opened.
    channels: HashMap<u16, Digest>,
    incoming: Option<Incoming>,
    unasked_bytes: usize,
    frames: Bucket,
    /// A piece that is being verified and written.
    writing: Option<JoinHandle<()>>,
}

impl Reader {
    pub(super) fn new(
        shared: Arc<Shared>,
        link: Arc<Link>,
        stream: ReadHalf<Box<dyn Stream>>,
        decoder: Decoder,
    ) -> Self {
        let frames = Bucket::new(std::num::NonZeroU64::new(FRAMES_PER_SECOND_MAX));
        let (channels, incoming, writing) = (HashMap::new(), None, None);
        Self { shared, link, stream, decoder, channels, incoming, unasked_bytes: 0, frames, writing }
    }

    /// Reads until that fails; gives why.
    pub(super) async fn run(&mut self) -> LinkError {
        loop {
            if let Err(error) = self.step().await {
                return error;
            }
        }
    }

    async fn step(&mut self) -> Result<(), LinkError> {
        while let Some(frame) = self.decoder.next_frame()? {
            self.frames.take(cost(&frame)).await;
            self.frame(frame).await?;
        }
        let missing = self.decoder.bytes_missing().max(READ_BYTES).min(self.shared.download.chunk_bytes());
        let buffer = self.decoder.buffer();
        let is_within = !buffer.is_empty() || self.incoming.is_some();
        buffer.reserve(missing);
        let seconds = if is_within { STALL_SECONDS_MAX } else { SILENCE_SECONDS_MAX };
        let mut space = buffer.limit(missing);
        let read = tokio::time::timeout(Duration::from_secs(seconds), self.stream.read_buf(&mut space)).await;
        match read.map_err(|_| LinkError::Silent)?? {
            0 => Err(LinkError::Closed),
            bytes => {
                self.shared.download.take(bytes).await;
                Ok(())
            }
        }
    }

    async fn tell(&self, said: Said) {
        let _ = self.shared.events.send(Event::Said { link: Arc::clone(&self.link), said }).await;
    }

    fn digest(&self, channel: u16) -> Result<Digest, LinkError> {
        self.channels.get(&channel).copied().ok_or(LinkError::Rules("it speaks of a blob that it did not open"))
    }

    async fn frame(&mut self, frame: Frame) -> Result<(), LinkError> {
        let said = match frame {
            Frame::Hello { .. } => return Err(LinkError::Rules("it greets twice")),
            Frame::Grant { payload, signature } => match self.grant(&payload, &signature)? {
                Some(grant) => Said::Granted(Box::new(grant)),
                None => return Ok(()),
            },
            Frame::Open { channel, digest, pieces } => {
                if self.channels.values().any(|open| *open == digest) || self.channels.contains_key(&channel) {
                    return Err(LinkError::Rules("it opens what is open"));
                }
                self.channels.insert(channel, digest);
                Said::Open { digest, pieces }
            }
            Frame::Close { channel } => {
                let digest = self.digest(channel)?;
                self.channels.remove(&channel);
                self.incoming.take_if(|incoming| incoming.digest == digest);
                Said::Close { digest }
            }
            Frame::Have { channel, pieces } => Said::Have { digest: self.digest(channel)?, pieces },
            Frame::Subscribe { channel, stripes } => {
                Said::Subscribe { digest: self.digest(channel)?, stripes: Stripes::from_bits(stripes) }
            }
            Frame::Request { channel, piece } => Said::Request { digest: self.digest(channel)?, piece },
            Frame::Cancel { channel, piece } => Said::Cancel { digest: self.digest(channel)?, piece },
            Frame::Refuse { channel, piece, .. } => {
                let digest = self.digest(channel)?;
                self.incoming.take_if(|incoming| (incoming.digest, incoming.piece) == (digest, piece));
                Said::Refuse { digest, piece }
            }
            Frame::Part { channel, piece, offset, bytes } => {
                let digest = self.digest(channel)?;
                return self.part(digest, piece, offset as usize, bytes).await;
            }
            Frame::TreeRequest { digest } => Said::TreeWanted { digest },
            Frame::Tree { digest, leaves } => Said::Tree { digest, leaves },
            Frame::Ping { nonce } => {
                self.link.send(Frame::Pong { nonce });
                return Ok(());
            }
            Frame::Pong { .. } => return Ok(()),
        };
        self.tell(said).await;
        Ok(())
    }

    /// A grant that counts; one whose time is over counts for nothing, and may come from a clock that is a little behind.
    fn grant(&self, payload: &[u8], signature: &[u8]) -> Result<Option<grant::Grant>, LinkError> {
        // The hub needs none, and shows none.
        let Who::Host(host) = &self.link.who else { return Err(LinkError::Rules("the hub shows a grant")) };
        match grant::verify(&self.shared.ca, payload, signature, (self.shared.now)()) {
            Ok(grant) => {
                grant.check_holder(host)?;
                Ok(Some(grant))
            }
            Err(grant::GrantError::Expired { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn part(&mut self, digest: Digest, piece: u32, offset: usize, bytes: Bytes) -> Result<(), LinkError> {
        if offset == 0 && self.incoming.is_none() {
            self.begin(digest, piece).await;
        }
        let Some(incoming) = &mut self.incoming else {
            self.unasked_bytes += bytes.len();
            if self.unasked_bytes > UNASKED_BYTES_MAX {
                return Err(LinkError::Rules("it sends what nobody asked for"));
            }
            return Ok(());
        };
        if (incoming.digest, incoming.piece, incoming.bytes.len()) != (digest, piece, offset) {
            return Err(LinkError::Rules("the parts of a piece are not in order"));
        }
        let left = incoming.length - offset;
        if bytes.len() > left || (bytes.len() < left && bytes.len() < PART_BYTES_MIN) {
            return Err(LinkError::Rules("a part of a piece is too long, or too short"));
        }
        let is_whole = bytes.len() == left;
        if is_whole && offset == 0 {
            self.arrived(bytes).await;
        } else {
            incoming.bytes.put_slice(&bytes);
            if is_whole {
                let bytes = std::mem::take(&mut incoming.bytes).freeze();
                self.arrived(bytes).await;
            } else if incoming.told.elapsed() >= PARTS_TOLD {
                incoming.told = Instant::now();
                let _ = self.shared.events.send(Event::Coming { link: Arc::clone(&self.link), digest, piece }).await;
            }
        }
        Ok(())
    }

    /// Takes a piece in, if it may come.
    async fn begin(&mut self, digest: Digest, piece: u32) {
        let layout: Option<Layout> = self.link.asked(&digest);
        let Some(length) = layout.and_then(|layout| layout.bytes_of(piece)).map(|length| length as usize) else {
            return;
        };
        let units = u32::try_from(length / BUDGET_UNIT_BYTES).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.shared.incoming).acquire_many_owned(units).await.ok();
        // Memory is taken as it is written to.
        self.incoming = Some(Incoming {
            digest,
            piece,
            length,
            bytes: BytesMut::with_capacity(length),
            room,
            told: Instant::now(),
        });
    }

    /// A piece is whole: it is verified and written while the next one comes.
    async fn arrived(&mut self, bytes: Bytes) {
        let Some(Incoming { digest, piece, room, .. }) = self.incoming.take() else { return };
        if let Some(before) = self.writing.take() {
            let _ = before.await;
        }
        let (shared, link) = (Arc::clone(&self.shared), Arc::clone(&self.link));
        self.writing = Some(tokio::spawn(async move {
            let length = bytes.len() as u64;
            let written = shared.pieces.write(digest, piece, bytes, &link.who).await;
            drop(room);
            let _ = shared.events.send(Event::Arrived { link, digest, piece, bytes: length, written }).await;
        }));
    }
}

/// The work that a frame makes, in short frames.
fn cost(frame: &Frame) -> usize {
    match frame {
        Frame::Grant { payload, .. } => GRANT_COST + payload.len() / COST_BYTES,
        Frame::Open { pieces, .. } => 1 + pieces.pieces() as usize / 8 / COST_BYTES,
        Frame::Tree { leaves, .. } => 1 + leaves.len() / COST_BYTES,
        _ => 1,
    }
}

impl Said {
    /// What the core is told of it.
    pub(super) fn message(self, blob: crate::core::Blob) -> Option<Message> {
        Some(match self {
            Said::Open { pieces, .. } => Message::Open { blob, pieces },
            Said::Close { .. } => Message::Close { blob },
            Said::Have { pieces, .. } => Message::Have { blob, pieces },
            Said::Subscribe { stripes, .. } => Message::Subscribe { blob, stripes },
            Said::Request { piece, .. } => Message::Request { blob, piece },
            Said::Cancel { piece, .. } => Message::Cancel { blob, piece },
            Said::Refuse { piece, .. } => Message::Refuse { blob, piece },
            Said::Granted(_) | Said::TreeWanted { .. } | Said::Tree { .. } => return None,
        })
    }
}
