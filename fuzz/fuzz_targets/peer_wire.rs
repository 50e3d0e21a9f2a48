//! A stream from a peer is read as the same frames however it is cut, and each has one form.
#![no_main]

#[allow(dead_code, unused_imports, reason = "agents use more of it")]
#[path = "../../crates/fanout/src/piece/mod.rs"]
mod piece;
#[allow(dead_code, reason = "agents use more of it")]
#[path = "../../crates/fanout/src/wire/mod.rs"]
mod wire;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use wire::{Decoder, FRAME_BYTES_MAX, Frame};

fn read(stream: &[u8], cut: usize) -> (Vec<Frame>, bool) {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    for bytes in stream.chunks(cut) {
        decoder.buffer().extend_from_slice(bytes);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
        assert!((1..=FRAME_BYTES_MAX + 4).contains(&decoder.bytes_missing()));
    }
    (frames, false)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, stream)) = bytes.split_first() else { return };
    let whole = read(stream, stream.len().max(1));
    assert_eq!(whole, read(stream, usize::from(*cut) + 1));
    let mut written = BytesMut::new();
    for frame in &whole.0 {
        let rest = frame.encode(&mut written);
        written.extend_from_slice(&rest);
    }
    assert!(stream.starts_with(&written));
});
