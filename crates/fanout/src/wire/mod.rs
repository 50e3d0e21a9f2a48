//! What agents say to one another: frames of a bounded length on a stream. Pure: bytes in, frames out.
//!
//! A frame is its length (u32, of what follows), its kind (u8) and its body; numbers are big-endian. Each side numbers the
//! blobs that it speaks of: a channel in a frame is one that the frame's sender has opened, so that two sides that open at
//! once do not collide. A piece travels in parts, in order and one piece at a time, so that what is short and urgent never
//! waits behind megabytes.
//!
//! Invariant: a frame has one form, and only frames within the limits below are read or written.

mod decode;

use bytes::{BufMut as _, Bytes, BytesMut};
use oci::Digest;

pub use decode::{Decoder, WireError};

use crate::piece::{HASH_BYTES, PIECES_MAX, PieceSet};

/// The protocol's version; both sides must speak the same.
pub const VERSION: u16 = 1;
/// Bytes of a grant at most, its signature included.
pub const GRANT_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a grant's signature at most.
pub const SIGNATURE_BYTES_MAX: usize = 256;
/// Bytes of the hashes of one blob at most (2 MiB).
pub const TREE_BYTES_MAX: usize = HASH_BYTES * PIECES_MAX as usize;
/// Bytes of one part of a piece at most.
pub const PART_BYTES_MAX: usize = 64 * 1024;
/// Channels that one side may have open on a connection.
pub const CHANNELS_MAX: u16 = 1024;
/// Pieces that one `Have` may name.
pub const HAVE_PIECES_MAX: usize = 4096;
/// Bytes of what stands before the longest body.
const HEAD_BYTES_MAX: usize = 512;
/// Bytes of a frame at most, without its length.
pub const FRAME_BYTES_MAX: usize = TREE_BYTES_MAX + HEAD_BYTES_MAX;
/// Bytes of the length before a frame.
const LENGTH_BYTES: usize = 4;

/// Why a piece is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is not there.
    Missing,
    /// No grant that is valid now lists the blob.
    NotGranted,
    /// Too much is asked of this peer already.
    Busy,
    /// It was taken back.
    Cancelled,
}

/// One thing that a peer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The first frame of each side.
    Hello {
        /// The version that it speaks.
        version: u16,
    },
    /// What the hub lets the sender have.
    Grant {
        /// The grant's bytes as they were signed.
        payload: Bytes,
        /// The hub's signature.
        signature: Bytes,
    },
    /// The sender takes part in the exchange of a blob.
    Open {
        /// Its number from now on, less than [`CHANNELS_MAX`].
        channel: u16,
        /// The blob.
        digest: Digest,
        /// What the sender has of it.
        pieces: PieceSet,
    },
    /// The sender takes part no more; the number is free.
    Close {
        /// The blob.
        channel: u16,
    },
    /// The sender has more.
    Have {
        /// The blob.
        channel: u16,
        /// The pieces in order, from one to [`HAVE_PIECES_MAX`].
        pieces: Vec<u32>,
    },
    /// The sender wants all pieces of these stripes that it lacks, each as soon as it is there; and no others any more.
    Subscribe {
        /// The blob.
        channel: u16,
        /// A bit for each stripe.
        stripes: u8,
    },
    /// The sender wants a piece.
    Request {
        /// The blob.
        channel: u16,
        /// The piece.
        piece: u32,
    },
    /// The sender wants it no more.
    Cancel {
        /// The blob.
        channel: u16,
        /// The piece.
        piece: u32,
    },
    /// The next bytes of a piece.
    Part {
        /// The blob.
        channel: u16,
        /// The piece.
        piece: u32,
        /// Where in the piece they begin: at 0, and then where the part before ended.
        offset: u32,
        /// From one to [`PART_BYTES_MAX`].
        bytes: Bytes,
    },
    /// The sender does not give a piece, or not the rest of it.
    Refuse {
        /// The blob.
        channel: u16,
        /// The piece.
        piece: u32,
        /// Why.
        why: Refusal,
    },
    /// The sender wants the hashes of a blob's pieces.
    TreeRequest {
        /// The blob, which the sender need not have opened.
        digest: Digest,
    },
    /// The hashes of a blob's pieces; none when the sender does not have them.
    Tree {
        /// The blob.
        digest: Digest,
        /// One after the other.
        leaves: Bytes,
    },
    /// Is anybody there?
    Ping {
        /// What the answer repeats.
        nonce: u64,
    },
    /// Yes.
    Pong {
        /// That of the question.
        nonce: u64,
    },
}

/// Kinds as they stand in a frame.
mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const GRANT: u8 = 2;
    pub(super) const OPEN: u8 = 3;
    pub(super) const CLOSE: u8 = 4;
    pub(super) const HAVE: u8 = 5;
    pub(super) const SUBSCRIBE: u8 = 6;
    pub(super) const REQUEST: u8 = 7;
    pub(super) const CANCEL: u8 = 8;
    pub(super) const PART: u8 = 9;
    pub(super) const REFUSE: u8 = 10;
    pub(super) const TREE_REQUEST: u8 = 11;
    pub(super) const TREE: u8 = 12;
    pub(super) const PING: u8 = 13;
    pub(super) const PONG: u8 = 14;
}

impl Refusal {
    fn code(self) -> u8 {
        match self {
            Refusal::Missing => 1,
            Refusal::NotGranted => 2,
            Refusal::Busy => 3,
            Refusal::Cancelled => 4,
        }
    }

    fn of(code: u8) -> Option<Self> {
        [Refusal::Missing, Refusal::NotGranted, Refusal::Busy, Refusal::Cancelled]
            .into_iter()
            .find(|refusal| refusal.code() == code)
    }
}

impl Frame {
    /// Writes the frame to `out`, but for the bytes that it gives back: they follow, and are not copied.
    pub fn encode(&self, out: &mut BytesMut) -> Bytes {
        let start = out.len();
        out.put_u32(0);
        let rest = self.encode_body(out);
        let length = out.len() - start - LENGTH_BYTES + rest.len();
        // Frames within their limits are shorter than 4 GiB by far; a longer one is refused by whoever reads it.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        if let Some(place) = out.get_mut(start..start + LENGTH_BYTES) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        rest
    }

    fn encode_body(&self, out: &mut BytesMut) -> Bytes {
        let mut numbered = |kind: u8, channel: u16| {
            out.put_u8(kind);
            out.put_u16(channel);
        };
        match self {
            Frame::Hello { version } => numbered(kind::HELLO, *version),
            Frame::Grant { payload, signature } => {
                numbered(kind::GRANT, u16::try_from(signature.len()).unwrap_or(u16::MAX));
                out.put_slice(signature);
                return payload.clone();
            }
            Frame::Open { channel, digest, pieces } => {
                numbered(kind::OPEN, *channel);
                put_digest(out, digest);
                out.put_u32(pieces.pieces());
                out.put_slice(&pieces.to_bytes());
            }
            Frame::Close { channel } => numbered(kind::CLOSE, *channel),
            Frame::Have { channel, pieces } => {
                numbered(kind::HAVE, *channel);
                pieces.iter().for_each(|piece| out.put_u32(*piece));
            }
            Frame::Subscribe { channel, stripes } => {
                numbered(kind::SUBSCRIBE, *channel);
                out.put_u8(*stripes);
            }
            Frame::Request { channel, piece } => {
                numbered(kind::REQUEST, *channel);
                out.put_u32(*piece);
            }
            Frame::Cancel { channel, piece } => {
                numbered(kind::CANCEL, *channel);
                out.put_u32(*piece);
            }
            Frame::Part { channel, piece, offset, bytes } => {
                numbered(kind::PART, *channel);
                out.put_u32(*piece);
                out.put_u32(*offset);
                return bytes.clone();
            }
            Frame::Refuse { channel, piece, why } => {
                numbered(kind::REFUSE, *channel);
                out.put_u32(*piece);
                out.put_u8(why.code());
            }
            Frame::TreeRequest { digest } => {
                out.put_u8(kind::TREE_REQUEST);
                put_digest(out, digest);
            }
            Frame::Tree { digest, leaves } => {
                out.put_u8(kind::TREE);
                put_digest(out, digest);
                return leaves.clone();
            }
            Frame::Ping { nonce } => {
                out.put_u8(kind::PING);
                out.put_u64(*nonce);
            }
            Frame::Pong { nonce } => {
                out.put_u8(kind::PONG);
                out.put_u64(*nonce);
            }
        }
        Bytes::new()
    }
}

fn put_digest(out: &mut BytesMut, digest: &Digest) {
    let digest = digest.to_string();
    out.put_u8(u8::try_from(digest.len()).unwrap_or(u8::MAX));
    out.put_slice(digest.as_bytes());
}
