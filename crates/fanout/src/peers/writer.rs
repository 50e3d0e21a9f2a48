//! What goes out on a connection: short frames first, pieces in chunks at the host's rate, in turn with other connections.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncWriteExt as _, WriteHalf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::driver::Event;
use super::link::{Link, LinkError, Upload};
use super::network::Stream;
use super::{BUDGET_UNIT_BYTES, Shared};
use crate::wire::{Frame, Refusal};

/// How often something is sent, so that the other side knows that this one is there, in seconds.
const PING_SECONDS: u64 = 5;
/// How long the other side may take no byte, in seconds.
const STALL_SECONDS_MAX: u64 = 30;
/// How slowly a piece may be taken, in bytes a second, beside [`STALL_SECONDS_MAX`]; waiting for the own rate does not count.
const TAKEN_BYTES_PER_SECOND_MIN: u64 = 4 * 1024;
/// Short frames are written together up to so many bytes.
const BATCH_BYTES: usize = 16 * 1024;

pub(super) struct Writer {
    shared: Arc<Shared>,
    link: Arc<Link>,
    stream: WriteHalf<Box<dyn Stream>>,
    buffer: BytesMut,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, link: Arc<Link>, stream: WriteHalf<Box<dyn Stream>>) -> Self {
        Self { shared, link, stream, buffer: BytesMut::new() }
    }

    /// Writes until that fails; gives why.
    pub(super) async fn run(&mut self) -> LinkError {
        loop {
            if let Err(error) = self.step().await {
                return error;
            }
        }
    }

    async fn step(&mut self) -> Result<(), LinkError> {
        self.frames().await?;
        if let Some(upload) = self.link.next_upload() {
            return self.upload(upload).await;
        }
        let link = Arc::clone(&self.link);
        tokio::select! {
            biased;
            () = link.wake.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(PING_SECONDS)) => link.send(Frame::Ping { nonce: link.id }),
        }
        Ok(())
    }

    /// Writes all short frames.
    async fn frames(&mut self) -> Result<(), LinkError> {
        while let Some(frame) = self.link.next_frame() {
            let mut rest = frame.encode(&mut self.buffer);
            while rest.is_empty() && self.buffer.len() < BATCH_BYTES {
                let Some(frame) = self.link.next_frame() else { break };
                rest = frame.encode(&mut self.buffer);
            }
            self.shared.upload.charge(self.buffer.len() + rest.len());
            self.write(rest).await?;
        }
        Ok(())
    }

    /// Writes the buffer and what follows it.
    async fn write(&mut self, rest: Bytes) -> Result<(), LinkError> {
        let mut all = self.buffer.split().freeze().chain(rest);
        let written = async {
            self.stream.write_all_buf(&mut all).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(Duration::from_secs(STALL_SECONDS_MAX), written).await {
            Err(_) => Err(LinkError::Unread),
            Ok(written) => Ok(written?),
        }
    }

    /// Waits for something while short frames go on.
    async fn meanwhile<T>(&mut self, wait: impl Future<Output = T>) -> Result<T, LinkError> {
        let mut wait = pin!(wait);
        let link = Arc::clone(&self.link);
        loop {
            tokio::select! {
                biased;
                () = link.wake.notified() => self.frames().await?,
                outcome = &mut wait => return Ok(outcome),
            }
        }
    }

    async fn upload(&mut self, upload: Upload) -> Result<(), LinkError> {
        let Upload { channel, digest, piece, length } = upload;
        let shared = Arc::clone(&self.shared);
        let units = u32::try_from(length as usize / BUDGET_UNIT_BYTES).unwrap_or(u32::MAX);
        let read = async {
            let room: Option<OwnedSemaphorePermit> = Arc::clone(&shared.outgoing).acquire_many_owned(units).await.ok();
            (room, shared.pieces.read(digest, piece).await)
        };
        let (_room, bytes) = self.meanwhile(read).await?;
        let sent_bytes = match bytes {
            Ok(bytes) if bytes.len() == length as usize => {
                self.parts(channel, piece, bytes).await?;
                u64::from(length)
            }
            outcome => {
                let why = outcome.err().map_or_else(|| "it has another length".to_owned(), |error| error.to_string());
                tracing::warn!(%digest, piece, %why, "a piece that is to be sent cannot be read");
                if self.link.is_open(channel) {
                    self.link.send(Frame::Refuse { channel, piece, why: Refusal::Missing });
                }
                0
            }
        };
        let sent = Event::Sent { link: Arc::clone(&self.link), digest, piece, bytes: sent_bytes };
        let _ = shared.events.send(sent).await;
        Ok(())
    }

    async fn parts(&mut self, channel: u16, piece: u32, mut bytes: Bytes) -> Result<(), LinkError> {
        let shared = Arc::clone(&self.shared);
        let seconds = STALL_SECONDS_MAX + bytes.len() as u64 / TAKEN_BYTES_PER_SECOND_MIN;
        let (mut offset, mut blocked) = (0, Duration::ZERO);
        while !bytes.is_empty() {
            let part = bytes.split_to(shared.upload.chunk_bytes().min(bytes.len()));
            let length = part.len();
            self.meanwhile(shared.upload.take(length)).await?;
            if !self.link.is_open(channel) {
                return Ok(());
            }
            let begun = Instant::now();
            let rest = Frame::Part { channel, piece, offset, bytes: part }.encode(&mut self.buffer);
            self.write(rest).await?;
            blocked += begun.elapsed();
            if blocked > Duration::from_secs(seconds) {
                return Err(LinkError::Unread);
            }
            offset = offset.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        }
        Ok(())
    }
}
