//! Frames out of a stream, however it is cut.

use bytes::{Buf as _, Bytes, BytesMut};
use oci::Digest;

use super::{
    CHANNELS_MAX, FRAME_BYTES_MAX, Frame, GRANT_BYTES_MAX, HAVE_PIECES_MAX, LENGTH_BYTES, PART_BYTES_MAX, Refusal,
    SIGNATURE_BYTES_MAX, TREE_BYTES_MAX, kind,
};
use crate::piece::{HASH_BYTES, PIECE_BYTES_MAX, PIECES_MAX, PieceSet};

/// Why bytes are no frame. The stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It is longer than any frame, or empty.
    #[error("a frame of {bytes} bytes: from 1 to {FRAME_BYTES_MAX} are allowed")]
    Length {
        /// Bytes that it says it has.
        bytes: u32,
    },
    /// A kind that this version does not have.
    #[error("a frame of the unknown kind {kind}")]
    Kind {
        /// The kind.
        kind: u8,
    },
    /// The body is not one of that kind.
    #[error("a frame of kind {kind} is wrong: {why}")]
    Body {
        /// The kind.
        kind: u8,
        /// What is wrong.
        why: &'static str,
    },
}

/// Reads frames from bytes that come in pieces. Holds one frame at most that is not whole, and what was read behind it.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Where bytes that came are put.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// How many bytes are missing at least until [`Decoder::next_frame`] may give something.
    pub fn bytes_missing(&self) -> usize {
        let whole = match self.length() {
            None => LENGTH_BYTES,
            Some(length) => LENGTH_BYTES + (length as usize).min(FRAME_BYTES_MAX),
        };
        whole.saturating_sub(self.buffer.len())
    }

    fn length(&self) -> Option<u32> {
        self.buffer.first_chunk::<LENGTH_BYTES>().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// The next frame; none until more bytes came. The bytes of parts and trees are not copied.
    ///
    /// # Errors
    /// What came is no frame. All further calls fail, too.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        let Some(bytes) = self.length() else { return Ok(None) };
        let length = bytes as usize;
        if length == 0 || length > FRAME_BYTES_MAX {
            return Err(WireError::Length { bytes });
        }
        let Some(kind) = self.buffer.get(LENGTH_BYTES).copied() else { return Ok(None) };
        // Said as early as it can be known, so that no memory is taken for what is refused anyway.
        if length > bytes_max(kind).ok_or(WireError::Kind { kind })? {
            return Err(WireError::Body { kind, why: "it is too long" });
        }
        if self.buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        let mut bytes = self.buffer.split_to(LENGTH_BYTES + length).freeze();
        bytes.advance(LENGTH_BYTES + 1);
        Body { kind, bytes }.decode().map(Some)
    }
}

/// Bytes that a frame of a kind has at most, the kind included; none for an unknown kind.
fn bytes_max(kind: u8) -> Option<usize> {
    const NUMBERS: usize = 32;
    const DIGEST_TEXT: usize = 256;
    match kind {
        kind::GRANT => Some(NUMBERS + GRANT_BYTES_MAX),
        kind::OPEN => Some(NUMBERS + DIGEST_TEXT + PIECES_MAX.div_ceil(8) as usize),
        kind::HAVE => Some(NUMBERS + 4 * HAVE_PIECES_MAX),
        kind::PART => Some(NUMBERS + PART_BYTES_MAX),
        kind::TREE => Some(NUMBERS + DIGEST_TEXT + TREE_BYTES_MAX),
        kind::TREE_REQUEST => Some(NUMBERS + DIGEST_TEXT),
        kind::HELLO..=kind::PONG => Some(NUMBERS),
        _ => None,
    }
}

/// What is left of a frame's body.
struct Body {
    kind: u8,
    bytes: Bytes,
}

impl Body {
    fn wrong(&self, why: &'static str) -> WireError {
        WireError::Body { kind: self.kind, why }
    }

    fn decode(mut self) -> Result<Frame, WireError> {
        let frame = match self.kind {
            kind::HELLO => Frame::Hello { version: self.u16()? },
            kind::GRANT => self.grant()?,
            kind::OPEN => self.open()?,
            kind::CLOSE => Frame::Close { channel: self.channel()? },
            kind::HAVE => self.have()?,
            kind::SUBSCRIBE => Frame::Subscribe { channel: self.channel()?, stripes: self.u8()? },
            kind::REQUEST => Frame::Request { channel: self.channel()?, piece: self.piece()? },
            kind::CANCEL => Frame::Cancel { channel: self.channel()?, piece: self.piece()? },
            kind::PART => self.part()?,
            kind::REFUSE => self.refuse()?,
            kind::TREE_REQUEST => Frame::TreeRequest { digest: self.digest()? },
            kind::TREE => self.tree()?,
            kind::PING => Frame::Ping { nonce: self.u64()? },
            kind::PONG => Frame::Pong { nonce: self.u64()? },
            kind => return Err(WireError::Kind { kind }),
        };
        if self.bytes.is_empty() { Ok(frame) } else { Err(self.wrong("bytes are left over")) }
    }

    fn short(&self) -> WireError {
        self.wrong("it is too short")
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        self.bytes.try_get_u8().map_err(|_| self.short())
    }

    fn u16(&mut self) -> Result<u16, WireError> {
        self.bytes.try_get_u16().map_err(|_| self.short())
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        self.bytes.try_get_u32().map_err(|_| self.short())
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        self.bytes.try_get_u64().map_err(|_| self.short())
    }

    fn take(&mut self, length: usize) -> Result<Bytes, WireError> {
        if length > self.bytes.len() { Err(self.short()) } else { Ok(self.bytes.split_to(length)) }
    }

    fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes)
    }

    fn channel(&mut self) -> Result<u16, WireError> {
        let channel = self.u16()?;
        if channel < CHANNELS_MAX { Ok(channel) } else { Err(self.wrong("there is no such channel")) }
    }

    fn piece(&mut self) -> Result<u32, WireError> {
        let piece = self.u32()?;
        if piece < PIECES_MAX { Ok(piece) } else { Err(self.wrong("no blob has so many pieces")) }
    }

    fn digest(&mut self) -> Result<Digest, WireError> {
        let length = usize::from(self.u8()?);
        let digest = self.take(length)?;
        let digest = std::str::from_utf8(&digest).ok().and_then(|text| text.parse().ok());
        digest.ok_or_else(|| self.wrong("it names no digest"))
    }

    fn grant(&mut self) -> Result<Frame, WireError> {
        let length = usize::from(self.u16()?);
        if length > SIGNATURE_BYTES_MAX {
            return Err(self.wrong("its signature is too long"));
        }
        let signature = self.take(length)?;
        let payload = self.rest();
        if payload.len() + length > GRANT_BYTES_MAX {
            return Err(self.wrong("it is too long"));
        }
        Ok(Frame::Grant { payload, signature })
    }

    fn open(&mut self) -> Result<Frame, WireError> {
        let channel = self.channel()?;
        let digest = self.digest()?;
        let pieces = self.u32()?;
        if pieces > PIECES_MAX {
            return Err(self.wrong("no blob has so many pieces"));
        }
        let bits = self.rest();
        let pieces = PieceSet::from_bytes(pieces, &bits).map_err(|_| self.wrong("its pieces are not a set"))?;
        Ok(Frame::Open { channel, digest, pieces })
    }

    fn have(&mut self) -> Result<Frame, WireError> {
        let channel = self.channel()?;
        let mut pieces = Vec::with_capacity(self.bytes.len() / 4);
        while !self.bytes.is_empty() {
            let piece = self.piece()?;
            if pieces.last().is_some_and(|last| *last >= piece) {
                return Err(self.wrong("its pieces are not in order"));
            }
            pieces.push(piece);
        }
        if pieces.is_empty() || pieces.len() > HAVE_PIECES_MAX {
            return Err(self.wrong("it names no piece, or too many"));
        }
        Ok(Frame::Have { channel, pieces })
    }

    fn part(&mut self) -> Result<Frame, WireError> {
        let (channel, piece, offset) = (self.channel()?, self.piece()?, self.u32()?);
        let bytes = self.rest();
        if bytes.is_empty() || bytes.len() > PART_BYTES_MAX {
            return Err(self.wrong("it has no bytes, or too many"));
        }
        if u64::from(offset) + bytes.len() as u64 > PIECE_BYTES_MAX {
            return Err(self.wrong("no piece is that long"));
        }
        Ok(Frame::Part { channel, piece, offset, bytes })
    }

    fn refuse(&mut self) -> Result<Frame, WireError> {
        let (channel, piece, why) = (self.channel()?, self.piece()?, self.u8()?);
        let why = Refusal::of(why).ok_or_else(|| self.wrong("it gives no known reason"))?;
        Ok(Frame::Refuse { channel, piece, why })
    }

    fn tree(&mut self) -> Result<Frame, WireError> {
        let digest = self.digest()?;
        let leaves = self.rest();
        if leaves.len() > TREE_BYTES_MAX || !leaves.len().is_multiple_of(HASH_BYTES) {
            return Err(self.wrong("its bytes are not hashes"));
        }
        Ok(Frame::Tree { digest, leaves })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(length: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), length).prop_map(Bytes::from)
    }

    fn frames() -> impl Strategy<Value = Frame> {
        let (channel, piece) = (|| 0..CHANNELS_MAX, || 0..PIECES_MAX);
        let set = (0..=2000_u32, proptest::collection::vec(any::<u32>(), 0..50)).prop_map(|(pieces, members)| {
            let mut set = PieceSet::empty(pieces);
            members.into_iter().for_each(|member| {
                set.insert(member % pieces.max(1));
            });
            set
        });
        let why = prop_oneof![
            Just(Refusal::Missing),
            Just(Refusal::NotGranted),
            Just(Refusal::Busy),
            Just(Refusal::Cancelled)
        ];
        prop_oneof![
            any::<u16>().prop_map(|version| Frame::Hello { version }),
            (bytes(0..2000), bytes(0..=SIGNATURE_BYTES_MAX))
                .prop_map(|(payload, signature)| Frame::Grant { payload, signature }),
            (channel(), any::<[u8; 4]>(), set).prop_map(|(channel, seed, pieces)| Frame::Open {
                channel,
                digest: Digest::sha256_of(&seed),
                pieces
            }),
            channel().prop_map(|channel| Frame::Close { channel }),
            (channel(), proptest::collection::btree_set(piece(), 1..50))
                .prop_map(|(channel, pieces)| Frame::Have { channel, pieces: pieces.into_iter().collect() }),
            (channel(), any::<u8>()).prop_map(|(channel, stripes)| Frame::Subscribe { channel, stripes }),
            (channel(), piece()).prop_map(|(channel, piece)| Frame::Request { channel, piece }),
            (channel(), piece()).prop_map(|(channel, piece)| Frame::Cancel { channel, piece }),
            (channel(), piece(), 0..1_000_000_u32, bytes(1..2000))
                .prop_map(|(channel, piece, offset, bytes)| { Frame::Part { channel, piece, offset, bytes } }),
            (channel(), piece(), why).prop_map(|(channel, piece, why)| Frame::Refuse { channel, piece, why }),
            any::<[u8; 4]>().prop_map(|seed| Frame::TreeRequest { digest: Digest::sha256_of(&seed) }),
            (any::<[u8; 4]>(), 0..40_usize).prop_map(|(seed, leaves)| Frame::Tree {
                digest: Digest::sha256_of(&seed),
                leaves: vec![7; leaves * HASH_BYTES].into()
            }),
            any::<u64>().prop_map(|nonce| Frame::Ping { nonce }),
            any::<u64>().prop_map(|nonce| Frame::Pong { nonce }),
        ]
    }

    fn written(frames: &[Frame]) -> Vec<u8> {
        let mut out = BytesMut::new();
        for frame in frames {
            let rest = frame.encode(&mut out);
            out.extend_from_slice(&rest);
        }
        out.to_vec()
    }

    fn all(decoder: &mut Decoder) -> Result<Vec<Frame>, WireError> {
        std::iter::from_fn(|| decoder.next_frame().transpose()).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_the_stream_is_cut(
            frames in proptest::collection::vec(frames(), 0..12),
            cuts in proptest::collection::vec(1..300_usize, 1..20),
        ) {
            let stream = written(&frames);
            let (mut decoder, mut read, mut rest) = (Decoder::default(), Vec::new(), stream.as_slice());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, after) = rest.split_at(rest.len().min(*cut));
                let missing = decoder.bytes_missing();
                decoder.buffer().extend_from_slice(now);
                let found = all(&mut decoder).unwrap();
                prop_assert!(missing > 0 && (found.is_empty() || now.len() >= missing));
                read.extend(found);
                rest = after;
            }
            prop_assert_eq!(read, frames);
            prop_assert_eq!(decoder.buffer().len(), 0);
        }

        #[test]
        fn any_bytes_are_frames_or_refused_at_once(stream in proptest::collection::vec(any::<u8>(), 0..400), kind in 0..17_u8) {
            // Mostly a length and a kind that exist, so that bodies are reached.
            let length = u32::try_from(stream.len() + 1).unwrap().to_be_bytes();
            let stream = [&length[..], &[kind], &stream].concat();
            let mut decoder = Decoder::default();
            decoder.buffer().extend_from_slice(&stream);
            if let Ok(frames) = all(&mut decoder) {
                prop_assert_eq!(written(&frames), stream);
            }
        }
    }

    #[test]
    fn a46_no_memory_is_taken_for_what_is_refused() {
        let refused = |stream: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.buffer().extend_from_slice(stream);
            decoder.next_frame().unwrap_err().to_string()
        };
        assert_eq!(refused(&[0, 0, 0, 0]), "a frame of 0 bytes: from 1 to 2097664 are allowed");
        assert_eq!(refused(&[0xff; 4]), "a frame of 4294967295 bytes: from 1 to 2097664 are allowed");
        assert_eq!(refused(&[0, 1, 0, 0, 99]), "a frame of the unknown kind 99");
        // The body never comes: its kind says that it is too long.
        assert_eq!(refused(&[0, 1, 0, 0, kind::PING]), "a frame of kind 13 is wrong: it is too long");
        assert_eq!(refused(&[0, 2, 0, 0, kind::PART]), "a frame of kind 9 is wrong: it is too long");
    }

    #[test]
    fn the_longest_of_each_kind_is_read() {
        let longest = [
            Frame::Grant { payload: vec![1; GRANT_BYTES_MAX - 72].into(), signature: vec![2; 72].into() },
            Frame::Open { channel: 1, digest: Digest::sha256_of(b""), pieces: PieceSet::full(PIECES_MAX) },
            Frame::Have { channel: 1, pieces: (0..u32::try_from(HAVE_PIECES_MAX).unwrap()).collect() },
            Frame::Part { channel: 1, piece: 2, offset: 3, bytes: vec![4; PART_BYTES_MAX].into() },
            Frame::Tree { digest: Digest::sha256_of(b""), leaves: vec![5; TREE_BYTES_MAX].into() },
        ];
        let mut decoder = Decoder::default();
        decoder.buffer().extend_from_slice(&written(&longest));
        assert_eq!(all(&mut decoder).unwrap(), longest);
    }
}
