//! An archive is read the same from a window and from a stream, and no entry is larger than the archive.
#![no_main]

use std::io::{BufReader, Read as _};

use fuzz::with_tar_checksums;
use inspect::content::Content;
use inspect::tar::{Archive, Stream, Window};
use libfuzzer_sys::fuzz_target;

/// What is compared of an entry, and its content where it has one.
type Listed = (String, Option<Vec<u8>>);

/// The entries, and where and why it stopped.
fn from_window(bytes: &[u8]) -> (Vec<Listed>, Option<u64>) {
    let mut archive = Archive::new(Window::new(Content::memory(bytes)));
    let mut listed = Vec::new();
    let mut last = None;
    loop {
        let entry = match archive.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => return (listed, None),
            Err(error) => {
                assert!(error.offset <= bytes.len() as u64 && !error.to_string().is_empty());
                assert!(matches!(archive.next(), Ok(None)), "nothing follows an error");
                return (listed, Some(error.offset));
            }
        };
        assert!(last.is_none_or(|last| entry.offset > last), "headers that overlap");
        assert!(entry.content_offset() > entry.offset && entry.content_offset() <= bytes.len() as u64);
        last = Some(entry.offset);
        assert!(!entry.path.is_empty() && !entry.path.contains(&0) && !entry.link.contains(&0));
        let content = entry.is_file().then(|| entry.content()).flatten();
        assert!(!entry.is_file() || content.is_some() || entry.is_sparse);
        let content = content.map(|content| content.whole(bytes.len()).expect("it is in memory").into_owned());
        assert!(content.as_ref().is_none_or(|content| content.len() as u64 == entry.size));
        listed.push((of(&entry), content));
    }
}

/// The same from a stream, whose buffer is small so that nothing fits into it by chance.
fn from_stream(bytes: &[u8]) -> (Vec<Listed>, Option<u64>) {
    let mut archive = Archive::new(Stream(BufReader::with_capacity(700, bytes)));
    let mut listed = Vec::new();
    loop {
        let mut entry = match archive.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => return (listed, None),
            Err(error) => return (listed, Some(error.offset)),
        };
        let of = of(&entry);
        let mut content = None;
        // Every second one is left unread, for the archive to skip.
        if entry.is_file() && (listed.len() % 2 == 0) {
            content = entry.reader().map(|mut reader| {
                let mut read = Vec::new();
                reader.read_to_end(&mut read).map(|_| read).unwrap_or_default()
            });
        }
        listed.push((of, content));
    }
}

fn of<S>(entry: &inspect::tar::Entry<'_, S>) -> String {
    let attributes: Vec<&[u8]> = entry.attributes().collect();
    format!(
        "{:?} {:?} {:?} {} {} {:o} {} {} {} {:?} {} {attributes:?}",
        entry.kind,
        entry.path,
        entry.link,
        entry.size,
        entry.is_sparse,
        entry.mode,
        entry.mtime,
        entry.uid,
        entry.gid,
        entry.device,
        entry.offset,
    )
}

fn check(bytes: &[u8]) {
    let (window, window_end) = from_window(bytes);
    let (stream, stream_end) = from_stream(bytes);
    assert_eq!(window_end.is_some(), stream_end.is_some());
    // A stream shows an entry before it is known that its content is cut off.
    assert!(stream.len() == window.len() || (stream.len() == window.len() + 1 && window_end.is_some()));
    for ((of, content), (streamed, streamed_content)) in window.iter().zip(&stream) {
        assert_eq!(of, streamed);
        assert!(streamed_content.is_none() || content == streamed_content, "{of}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    check(&with_tar_checksums(bytes));
});
