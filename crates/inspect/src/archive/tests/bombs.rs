//! Bombs end at the limits (a24, a25).

use std::io::{BufRead as _, Read as _};

use zip::CompressionMethod::{Deflated, Stored};

use super::walk::walked;
use super::{budget, compressed, small_limits};
use crate::archive::{Budget, Compression, Decoder, Error, Limit, Limits, OverLimit, Spool};

const ALL: [Compression; 5] =
    [Compression::Gzip, Compression::Xz, Compression::Zstd, Compression::Bzip2, Compression::Lzma];

/// How much was read, and why it ended where that was too early.
fn read(compression: Compression, bytes: &[u8], budget: &Budget) -> (u64, Option<Error>) {
    let mut decoder = match Decoder::new(compression, bytes, budget) {
        Ok(decoder) => decoder,
        Err(error) => return (0, Some(error)),
    };
    let mut read = 0;
    loop {
        match decoder.fill_buf().map(<[u8]>::len) {
            Ok(0) => return (read, None),
            Ok(length) => {
                read += length as u64;
                decoder.consume(length);
            }
            Err(error) => {
                // It stays an error.
                assert!(decoder.read(&mut [0; 10]).is_err());
                return (read, Some(error.into()));
            }
        }
    }
}

#[track_caller]
fn is_over(error: Option<&Error>, what: Limit) {
    assert!(matches!(error, Some(Error::OverLimit(over)) if over.what == what), "{error:?}");
}

#[test]
fn a24_bombs_end_at_the_ratio() {
    let zeros = vec![0; 64 << 20];
    for compression in ALL {
        let bomb = compressed(compression, &zeros);
        let budget = budget(bomb.len());
        let (read, error) = read(compression, &bomb, &budget);
        is_over(error.as_ref(), Limit::Ratio);
        assert!((15 << 20..18 << 20).contains(&read), "{compression:?}: {read}");
        assert!(budget.bytes() < 18 << 20, "{compression:?}");
    }
    // 10 MiB of zeros are no bomb.
    let small = compressed(Compression::Gzip, &vec![0; 10 << 20]);
    assert_eq!(read(Compression::Gzip, &small, &budget(small.len())), (10 << 20, None));
}

#[test]
fn a24_members_and_all_of_them_are_bounded() {
    // Below the ratio, and one after the other.
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 60) as u8
    };
    let text: Vec<u8> = (0..1_500_000).map(|_| random()).collect();
    for compression in ALL {
        let bytes = compressed(compression, &text);
        let budget = Budget::new(Limits { memory_bytes: 320 << 20, ..small_limits() }, bytes.len() as u64);
        for _ in 0..5 {
            assert_eq!(read(compression, &bytes, &budget), (1_500_000, None), "{compression:?}");
        }
        let (last, error) = read(compression, &bytes, &budget);
        is_over(error.as_ref(), Limit::Bytes);
        assert!(last < 1_500_000 && budget.bytes() < (8 << 20) + (1 << 20));
        let larger = compressed(compression, &[text.clone(), text.clone()].concat());
        let budget = Budget::new(Limits { memory_bytes: 320 << 20, ..small_limits() }, larger.len() as u64);
        is_over(read(compression, &larger, &budget).1.as_ref(), Limit::MemberBytes);
    }
    // A small input may not cost as much as a large one.
    let budget = Budget::new(Limits { expansion: 2, expansion_free_bytes: 1 << 20, ..Limits::default() }, 1000);
    is_over(read(Compression::Gzip, &compressed(Compression::Gzip, &text), &budget).1.as_ref(), Limit::Bytes);
}

#[test]
fn a24_windows_and_dictionaries_are_bounded() {
    // A frame with a window of 2^28 bytes, and one raw block of one byte.
    let frame = |log: u8| [0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3, 9, 0, 0, b'x'];
    is_over(read(Compression::Zstd, &frame(28), &budget(10)).1.as_ref(), Limit::MemoryBytes);
    assert_eq!(read(Compression::Zstd, &frame(27), &budget(10)), (1, None));
    // The same stream, once with its own dictionary, and once with one of 1 GiB.
    let good = compressed(Compression::Xz, b"text");
    let mut large = good.clone();
    let header = large.get_mut(12..24).unwrap();
    assert_eq!(header.get(..4), Some([2, 0, 0x21, 1].as_slice()), "one LZMA2 filter");
    *header.get_mut(4).unwrap() = 36;
    let mut crc = flate2::Crc::new();
    crc.update(header.get(..8).unwrap());
    header.get_mut(8..).unwrap().copy_from_slice(&crc.sum().to_le_bytes());
    assert_eq!(read(Compression::Xz, &good, &budget(10)), (4, None));
    is_over(read(Compression::Xz, &large, &budget(10)).1.as_ref(), Limit::MemoryBytes);
    let mut lzma = compressed(Compression::Lzma, b"text");
    lzma.get_mut(1..5).unwrap().copy_from_slice(&(1_u32 << 30).to_le_bytes());
    is_over(read(Compression::Lzma, &lzma, &budget(10)).1.as_ref(), Limit::MemoryBytes);
}

/// Decompressors within each other share what memory there is.
#[test]
fn a24_memory_does_not_add_up() {
    let budget = budget(0);
    let held: Vec<_> = (0..Limits::DEPTH).map(|_| budget.memory(128 << 20)).collect();
    let bytes: Vec<u64> = held.iter().map(crate::archive::budget::Held::bytes).collect();
    assert!(bytes.iter().sum::<u64>() <= Limits::MEMORY_BYTES);
    assert_eq!(bytes.first(), Some(&(128 << 20)));
    assert!(bytes.get(1).is_some_and(|second| *second > 66 << 20), "as much as `xz -9` needs");
    drop(held);
    assert_eq!(budget.memory(128 << 20).bytes(), 128 << 20, "it was given back");
}

#[test]
fn a24_streams_of_nothing_are_bounded() {
    let empty = compressed(Compression::Bzip2, b"");
    assert_eq!(empty.len(), 14);
    is_over(read(Compression::Bzip2, &empty.repeat(2000), &budget(0)).1.as_ref(), Limit::Parts);
    // Those that tools write in parallel are not.
    let many = compressed(Compression::Bzip2, &vec![b'x'; 100_000]).repeat(1500);
    let budget = Budget::new(Limits { ratio: 10_000, ..Limits::default() }, many.len() as u64);
    assert_eq!(read(Compression::Bzip2, &many, &budget), (150_000_000, None));
    // The others reuse what they have, and cost what their bytes cost.
    for compression in [Compression::Gzip, Compression::Xz, Compression::Zstd] {
        let empty = compressed(compression, b"");
        assert_eq!(read(compression, &empty.repeat(100_000), &super::budget(0)), (0, None), "{compression:?}");
    }
}

#[test]
fn a24_spools_are_bounded() {
    let budget = Budget::new(Limits { spool_bytes: 8 << 20, ..small_limits() }, 0);
    let folder = std::env::temp_dir();
    let small = Spool::new([1; 1 << 20].as_slice(), &folder, &budget).unwrap();
    let large = Spool::new(vec![2; 4_500_000].as_slice(), &folder, &budget).unwrap();
    assert!(!small.is_file() && large.is_file());
    assert_eq!(small.content().whole(8 << 20).unwrap().as_ref(), [1; 1 << 20]);
    assert_eq!(large.content().whole(8 << 20).unwrap().as_ref(), vec![2; 4_500_000]);
    is_over(Spool::new(vec![3; 4_500_000].as_slice(), &folder, &budget).err().as_ref(), Limit::SpoolBytes);
    drop(large);
    assert!(Spool::new(vec![3; 4_500_000].as_slice(), &folder, &budget).unwrap().is_file());
}

/// As `42.zip`: zips of zips of zips, and at the bottom nothing but zeros.
#[test]
fn a25_zips_of_zips_end_at_the_limits() {
    let mut bytes = super::zip(&[("zeros", &vec![0; 60_000], Deflated)]);
    for _ in 0..4 {
        let names: Vec<String> = (0..10).map(|number| format!("{number}.zip")).collect();
        let entries: Vec<_> = names.iter().map(|name| (name.as_str(), bytes.as_slice(), Deflated)).collect();
        bytes = super::zip(&entries);
    }
    assert!(bytes.len() < 20_000);
    let budget = Budget::new(small_limits(), bytes.len() as u64);
    let seen = walked("42.zip", &bytes, &budget);
    assert!(budget.bytes() <= small_limits().bytes + (1 << 20), "{}", budget.bytes());
    assert!(!seen.unexamined.is_empty());
    assert!(seen.unexamined.iter().all(|(_, error)| matches!(error, Error::OverLimit(_))), "{:?}", seen.unexamined);
}

/// Deeper than is read, as a zip that holds itself is without end.
#[test]
fn a25_depth_is_bounded() {
    for how in [Stored, Deflated] {
        let mut bytes = b"bottom".to_vec();
        for _ in 0..40 {
            bytes = super::zip(&[("inner.jar", &bytes, how)]);
        }
        let budget = budget(bytes.len());
        let seen = walked("a.jar", &bytes, &budget);
        let [(name, error)] = seen.unexamined.as_slice() else { panic!("{seen:?}") };
        assert_eq!(name.matches("inner.jar").count() as u64, Limits::DEPTH, "the chain says where: {name}");
        assert_eq!(*error, OverLimit { what: Limit::Depth, limit: Limits::DEPTH }.into());
    }
    let mut bytes = b"bottom".to_vec();
    for _ in 0..40 {
        bytes = compressed(Compression::Gzip, &bytes);
    }
    let seen = walked("a.gz", &bytes, &budget(bytes.len()));
    is_over(seen.unexamined.first().map(|(_, error)| error), Limit::Depth);
}

/// A directory of very many entries costs no memory, and no more than the limit of entries.
#[test]
fn a25_entries_are_bounded() {
    let entry = [b"PK\x01\x02".as_slice(), &[0; 24], &[1, 0], &[0; 16], b"a"].concat();
    let directory = entry.repeat(5000);
    let end =
        [b"PK\x05\x06\0\0\0\0".as_slice(), &[0x88, 0x13, 0x88, 0x13], &(directory.len() as u32).to_le_bytes(), &[0; 6]];
    let bytes = [directory.as_slice(), &end.concat()].concat();
    let budget = Budget::new(small_limits(), bytes.len() as u64);
    let seen = walked("many.jar", &bytes, &budget);
    is_over(seen.unexamined.last().map(|(_, error)| error), Limit::Entries);
    assert_eq!(budget.entries(), 1001);
}
