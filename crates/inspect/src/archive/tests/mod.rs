//! Archives within archives, from hostile hands.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bombs;
mod names;
mod walk;

use std::io::Write as _;

use super::{Budget, Compression, Limits};

/// What `plain` is compressed to.
fn compressed(compression: Compression, plain: &[u8]) -> Vec<u8> {
    match compression {
        Compression::Gzip => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            writer.write_all(plain).unwrap();
            writer.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(plain, 3).unwrap(),
        Compression::Bzip2 => {
            let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
            writer.write_all(plain).unwrap();
            writer.finish().unwrap()
        }
        Compression::Xz | Compression::Lzma => {
            let stream = match compression {
                Compression::Xz => liblzma::stream::Stream::new_easy_encoder(1, liblzma::stream::Check::Crc64),
                _ => liblzma::stream::Stream::new_lzma_encoder(&liblzma::stream::LzmaOptions::new_preset(1).unwrap()),
            };
            let mut writer = liblzma::write::XzEncoder::new_stream(Vec::new(), stream.unwrap());
            writer.write_all(plain).unwrap();
            writer.finish().unwrap()
        }
    }
}

/// A zip of entries, each deflated or stored, by another implementation.
fn zip(entries: &[(&str, &[u8], zip::CompressionMethod)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes, method) in entries {
        let options = zip::write::SimpleFileOptions::default().compression_method(*method);
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn small_limits() -> Limits {
    Limits {
        bytes: 8 << 20,
        expansion: 1000,
        expansion_free_bytes: 4 << 20,
        member_bytes: 2 << 20,
        ratio: 100,
        ratio_free_bytes: 64 << 10,
        entries: 1000,
        depth: 6,
        memory_bytes: 32 << 20,
        spool_bytes: 2 << 20,
    }
}

fn budget(input_bytes: usize) -> Budget {
    Budget::new(Limits::default(), input_bytes as u64)
}
