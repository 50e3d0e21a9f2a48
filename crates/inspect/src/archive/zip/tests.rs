//! Zip archives that lie about themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read as _;

use proptest::prelude::*;

use super::ranges::{Ranges, Taken};
use super::{Archive, Refusal};
use crate::archive::{Budget, Error, Limits};
use crate::content::Content;

/// An entry as a test lays it out, to be made wrong in one place.
#[derive(Clone)]
struct Made {
    name: Vec<u8>,
    local_name: Option<Vec<u8>>,
    data: Vec<u8>,
    method: u16,
    local_method: Option<u16>,
    flags: u16,
    crc: u32,
    size: u32,
    local_size: Option<u32>,
    compressed: u32,
    /// Instead of where its own header is.
    header: Option<u32>,
    descriptor: bool,
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn stored(name: &[u8], data: &[u8]) -> Made {
    Made {
        name: name.to_vec(),
        local_name: None,
        data: data.to_vec(),
        method: 0,
        local_method: None,
        flags: 0,
        crc: crc(data),
        size: data.len() as u32,
        local_size: None,
        compressed: data.len() as u32,
        header: None,
        descriptor: false,
    }
}

fn deflated(name: &[u8], data: &[u8]) -> Made {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, data).unwrap();
    let packed = encoder.finish().unwrap();
    Made {
        method: 8,
        compressed: packed.len() as u32,
        data: packed,
        ..Made { size: data.len() as u32, ..stored(name, data) }
    }
}

fn local(made: &Made) -> Vec<u8> {
    let name = made.local_name.as_ref().unwrap_or(&made.name);
    let sizes =
        if made.descriptor { [0; 3] } else { [made.crc, made.compressed, made.local_size.unwrap_or(made.size)] };
    let mut bytes = b"PK\x03\x04\x14\0".to_vec();
    bytes.extend(made.flags.to_le_bytes());
    bytes.extend(made.local_method.unwrap_or(made.method).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(sizes.iter().flat_map(|number| number.to_le_bytes()));
    bytes.extend((name.len() as u16).to_le_bytes());
    bytes.extend([0; 2]);
    bytes.extend(name);
    bytes
}

fn central(made: &Made, at: u32) -> Vec<u8> {
    let mut bytes = b"PK\x01\x02\x14\0\x14\0".to_vec();
    bytes.extend(made.flags.to_le_bytes());
    bytes.extend(made.method.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend([made.crc, made.compressed, made.size].iter().flat_map(|number| number.to_le_bytes()));
    bytes.extend((made.name.len() as u16).to_le_bytes());
    bytes.extend([0; 12]);
    bytes.extend(made.header.unwrap_or(at).to_le_bytes());
    bytes.extend(&made.name);
    bytes
}

fn end(entries: u16, bytes: u32, at: u32, comment: &[u8]) -> Vec<u8> {
    let mut record = b"PK\x05\x06\0\0\0\0".to_vec();
    record.extend([entries, entries].iter().flat_map(|number| number.to_le_bytes()));
    record.extend([bytes, at].iter().flat_map(|number| number.to_le_bytes()));
    record.extend((comment.len() as u16).to_le_bytes());
    record.extend(comment);
    record
}

fn made(entries: &[Made]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        directory.extend(central(entry, file.len() as u32));
        file.extend(local(entry));
        file.extend(&entry.data);
        if entry.descriptor {
            file.extend([entry.crc, entry.compressed, entry.size].iter().flat_map(|number| number.to_le_bytes()));
        }
    }
    let at = file.len() as u32;
    let end = end(entries.len() as u16, directory.len() as u32, at, b"");
    [file, directory, end].concat()
}

fn budget() -> Budget {
    Budget::new(Limits::default(), 1 << 20)
}

/// Of each entry, its bytes or why there are none.
fn read(bytes: &[u8]) -> Result<Vec<Result<Vec<u8>, Error>>, Error> {
    let budget = budget();
    let archive = Archive::open(Content::memory(bytes))?;
    let mut entries = archive.entries(&budget)?;
    let mut all = Vec::new();
    while let Some(entry) = entries.next_entry()? {
        let mut bytes = Vec::new();
        all.push(entry.reader().and_then(|mut reader| Ok(reader.read_to_end(&mut bytes)?)).map(|_| bytes));
    }
    Ok(all)
}

/// Why the second of three entries is not read; the others are.
#[track_caller]
fn second_is_refused(change: impl FnOnce(&mut Made), why: &str) {
    let mut second = deflated(b"second", &[7; 5000]);
    change(&mut second);
    let all = read(&made(&[stored(b"first", b"1"), second, stored(b"third", b"3")])).unwrap();
    let [Ok(first), Err(error), Ok(third)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((first.as_slice(), third.as_slice()), (b"1".as_slice(), b"3".as_slice()));
    assert!(error.to_string().contains(why), "{error}");
}

#[test]
fn what_contradicts_itself_is_refused_and_the_rest_is_read() {
    assert_eq!(
        read(&made(&[stored(b"first", b"1"), deflated(b"second", &[7; 5000])])).unwrap(),
        [Ok(b"1".to_vec()), Ok(vec![7; 5000])]
    );
    second_is_refused(|entry| entry.local_name = Some(b"sec0nd".to_vec()), "another name");
    second_is_refused(|entry| entry.local_method = Some(0), "another compression method");
    second_is_refused(|entry| entry.local_size = Some(4999), "another size");
    second_is_refused(|entry| entry.crc ^= 1, "checksum differs");
    second_is_refused(|entry| entry.size = 4999, "more bytes");
    second_is_refused(|entry| entry.size = 5001, "fewer bytes");
    let one_more = |entry: &mut Made| {
        entry.data.push(0);
        entry.compressed += 1;
    };
    second_is_refused(one_more, "fewer compressed bytes");
    second_is_refused(|entry| entry.data.fill(0xff), "the deflate data is broken");
}

#[test]
fn what_cannot_be_read_is_told() {
    second_is_refused(|entry| entry.flags = 1, "encrypted");
    second_is_refused(|entry| entry.method = 9, "compression method 9 is not read");
    second_is_refused(|entry| entry.method = 99, "encrypted");
    second_is_refused(|entry| entry.method = 0, "two sizes differ");
    second_is_refused(|entry| entry.header = Some(3), "overlaps another");
    second_is_refused(|entry| entry.header = Some(u32::MAX - 1), "not within the archive");
    second_is_refused(|entry| entry.header = Some(u32::MAX), "zip64 field");
}

#[test]
fn data_descriptors_must_say_what_the_directory_says() {
    let entry = Made { descriptor: true, flags: 8, ..deflated(b"a", &[7; 5000]) };
    let good = made(std::slice::from_ref(&entry));
    assert_eq!(read(&good).unwrap(), [Ok(vec![7; 5000])]);
    let at = local(&entry).len() + entry.data.len() + 8;
    let mut wrong = good;
    *wrong.get_mut(at).unwrap() ^= 1;
    assert!(read(&wrong).unwrap().first().unwrap().clone().unwrap_err().to_string().contains("data descriptor"));
}

#[test]
fn a_directory_that_lies_is_an_error_and_never_nothing() {
    let good = made(&[stored(b"a", b"1"), stored(b"b", b"2")]);
    let record = good.len() - 22;
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        *bytes.get_mut(record + at).unwrap() = byte;
        read(&bytes)
    };
    assert!(with(8, 1).is_err(), "in parts");
    let both = {
        let mut bytes = good.clone();
        *bytes.get_mut(record + 8).unwrap() = 1;
        *bytes.get_mut(record + 10).unwrap() = 1;
        read(&bytes)
    };
    assert!(both.unwrap_err().to_string().contains("another number of entries"));
    assert!(with(4, 1).is_err(), "the second part");
    assert!(with(12, 200).is_err(), "larger than the file");
    assert!(with(12, 60).is_err(), "ends within an entry");
    assert!(with(16, 250).is_err(), "past the end");
    assert!(read(b"").is_err() && read(b"no zip").is_err());
    for length in 0..good.len() {
        assert!(read(good.get(..length).unwrap()).is_err(), "cut at {length}");
    }
    let padded = [good.as_slice(), b"signature"].concat();
    let archive = Archive::open(Content::memory(&padded)).unwrap();
    assert_eq!((archive.stated(), archive.trailing_bytes(), archive.prefix_bytes()), (2, 9, 0));
}

/// Readers differ in which of two archives they see; whichever it is here, the other would be unseen.
#[test]
fn two_archives_in_one_are_refused() {
    let (one, other) = (made(&[stored(b"a", b"1")]), made(&[stored(b"b", b"2")]));
    let body = one.len() - 22;
    let nested = [one.get(..body).unwrap(), &end(1, 47, 32, &other)].concat();
    assert!(read(&nested).unwrap_err().to_string().contains("two end records"));
    assert!(read(&[one.clone(), other].concat()).unwrap_err().to_string().contains("two places"));
    let behind = [one.clone(), made(&[stored(b"another name", b"2")])].concat();
    let archive = Archive::open(Content::memory(&behind)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(archive.prefix_bytes(), one.len() as u64, "what stands before is told");
}

fn refusals(bytes: &[u8]) -> Vec<Option<Refusal>> {
    let budget = budget();
    let archive = Archive::open(Content::memory(bytes)).unwrap();
    let mut entries = archive.entries(&budget).unwrap();
    let mut all = Vec::new();
    while let Some(entry) = entries.next_entry().unwrap() {
        all.push(entry.refusal());
    }
    all
}

/// Many directory entries with one and the same data.
#[test]
fn a25_entries_that_share_their_data_are_refused() {
    let kernel = deflated(b"a", &[0; 100_000]);
    let file = [local(&kernel), kernel.data.clone()].concat();
    let directory = central(&kernel, 0).repeat(1000);
    let bytes = [file.as_slice(), &directory, &end(1000, directory.len() as u32, file.len() as u32, b"")].concat();
    let refusals = refusals(&bytes);
    assert_eq!(refusals.len(), 1000);
    assert_eq!(refusals.iter().filter(|refusal| refusal.is_none()).count(), 1);
    assert_eq!(read(&bytes).unwrap().iter().filter(|read| read.is_ok()).count(), 1);
}

/// Each entry's data is a stored deflate block with the next entry's own header, and then the next entry's data, as in
/// David Fifield's "A better zip bomb" of 2019.
#[test]
fn a25_entries_that_quote_each_other_are_refused() {
    let kernel = deflated(b"zz", &[0; 100_000]);
    let mut tail = [local(&kernel), kernel.data.clone()].concat();
    let (mut plain, mut entries) = (vec![0; 100_000], vec![(kernel, tail.len())]);
    let mut data = entries.first().unwrap().0.data.clone();
    for number in (0..50_u8).rev() {
        let header = tail.get(..tail.len() - data.len()).unwrap().to_vec();
        let length = header.len() as u16;
        let block = [&[0][..], &length.to_le_bytes(), &(!length).to_le_bytes(), &header].concat();
        plain = [header, plain].concat();
        data = [block, data].concat();
        let entry = Made {
            name: vec![b'a', number],
            crc: crc(&plain),
            size: plain.len() as u32,
            compressed: data.len() as u32,
            ..deflated(b"", b"")
        };
        // The header that is quoted is of the next entry alone; the rest of the tail is quoted by that one.
        let own = local(&entry);
        tail = [own, data.clone()].concat();
        entries.push((entry, tail.len()));
        let whole = tail.len();
        data = tail.get(local(&entries.last().unwrap().0).len()..whole).unwrap().to_vec();
    }
    let file = tail.clone();
    let directory: Vec<u8> =
        entries.iter().rev().flat_map(|(entry, length)| central(entry, (file.len() - length) as u32)).collect();
    let bytes =
        [file.as_slice(), &directory, &end(entries.len() as u16, directory.len() as u32, file.len() as u32, b"")]
            .concat();
    let budget = budget();
    let archive = Archive::open(Content::memory(&bytes)).unwrap();
    let mut all = archive.entries(&budget).unwrap();
    let mut readable = 0;
    while let Some(entry) = all.next_entry().unwrap() {
        let ok = entry.reader().and_then(|mut reader| Ok(std::io::copy(&mut reader, &mut std::io::sink())?));
        readable += usize::from(ok.is_ok());
        assert_eq!(ok.is_err(), entry.refusal() == Some(Refusal::Overlaps), "{ok:?}");
    }
    assert_eq!(readable, 1, "only the first is not refused");
    assert!(budget.bytes() < 110_000);
}

proptest! {
    /// Against a map of single bytes.
    #[test]
    fn ranges_are_taken_once(wanted in prop::collection::vec((0_u64..2000, 30_u64..200), 0..60)) {
        let (mut ranges, mut bytes) = (Ranges::default(), vec![false; 3000]);
        for (start, length) in wanted {
            let part = bytes.get_mut(start as usize..(start + length) as usize).unwrap();
            let is_free = !part.contains(&true);
            prop_assert_eq!(ranges.take(start, start + length), if is_free { Ok(()) } else { Err(Taken::Overlaps) });
            if is_free {
                part.fill(true);
            }
        }
    }
}

/// In disorder and with gaps, as nothing writes it, it is refused at some point, and never accepted unseen.
#[test]
fn ranges_are_bounded() {
    let mut ranges = Ranges::default();
    let taken = (0..200_000_u64).rev().filter(|number| ranges.take(number * 100, number * 100 + 31).is_ok()).count();
    assert_eq!(taken, 65_536);
    let mut ranges = Ranges::default();
    for number in 0..200_000_u64 {
        assert_eq!(ranges.take(number * 100, number * 100 + 31), Ok(()));
    }
    assert_eq!(ranges.take(150_000 * 100, 150_000 * 100 + 31), Err(Taken::Overlaps));
}
