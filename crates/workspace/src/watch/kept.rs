//! What a rule's containers have, kept on disk: changes that are made while nobody watches are found at the next start, and
//! files that were copied and then removed here are removed there.
//!
//! One file for each rule: a head, then lines that are added as work goes on, of which the last for a path counts. Before
//! anything is copied a line says that the containers' state of the path is unsure, so that a process may be killed at any
//! moment. A last line without an end was being written then, and what it speaks of was not begun.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base::folder::{FolderError, file_read, file_replace};
use sha2::{Digest as _, Sha256};

use super::ledger::{Below, Line};
use super::plan::Running;
use super::rule::{Action, Rule};
use super::stamp::Stamp;

/// The first line; another version is not read, and everything is found out anew.
const HEAD: &[u8] = b"longshore watch 1\n";
/// Bytes of one rule's file at most: a million long paths.
const FILE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// A file with so many more lines than paths is written anew.
const LINES_SPARE: usize = 5_000;
const MODE: u32 = 0o600;

/// What is kept of one rule.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    file: Option<File>,
    has_head: bool,
    lines: usize,
}

/// What was kept of a rule.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) running: Option<Running>,
    pub(super) lines: Vec<Line>,
}

/// The name of a rule's file: another path, target, action or filter is another rule.
pub(super) fn file_name(service: &str, rule: &Rule) -> String {
    let mut hasher = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(bytes);
    };
    part(service.as_bytes());
    part(rule.path.as_os_str().as_bytes());
    match &rule.action {
        Action::Rebuild => part(b"rebuild"),
        Action::Restart => part(b"restart"),
        Action::Sync { target, initial, .. } => {
            part(b"sync");
            part(target.as_bytes());
            part(&[u8::from(*initial)]);
        }
    }
    for patterns in [&rule.ignore, &rule.include] {
        part(&[]);
        patterns.iter().for_each(|pattern| part(pattern.as_bytes()));
    }
    format!("{}.watch", hex::encode(&hasher.finalize()[..16]))
}

impl Kept {
    /// Reads what was kept, if it can be read.
    pub(super) fn open(path: PathBuf) -> Result<(Self, Found), FolderError> {
        let content = file_read(&path, FILE_BYTES_MAX)?.unwrap_or_default();
        let (found, lines, whole) = read(&content);
        let mut kept = Self { path, file: None, has_head: !content.is_empty(), lines };
        if !whole || lines > found.lines.len() + LINES_SPARE {
            let lines = found.lines.iter().map(|(path, target, image)| (path.as_ref(), *target, *image));
            kept.replace(found.running.as_ref(), lines)?;
        }
        Ok((kept, found))
    }

    /// Keeps exactly this.
    pub(super) fn replace<'a>(
        &mut self,
        running: Option<&Running>,
        lines: impl Iterator<Item = (&'a [u8], Stamp, Stamp)>,
    ) -> Result<(), FolderError> {
        let mut content = HEAD.to_vec();
        write_running(&mut content, running);
        self.lines = 0;
        for line in lines {
            self.lines += 1;
            write_line(&mut content, line);
        }
        self.file = None;
        file_replace(&self.path, &content, MODE)?;
        self.has_head = true;
        Ok(())
    }

    /// Keeps this beside what is kept.
    pub(super) fn add<'a>(
        &mut self,
        running: Option<&Running>,
        lines: impl Iterator<Item = (&'a [u8], Stamp, Stamp)>,
    ) -> Result<(), FolderError> {
        let mut content = Vec::new();
        if !self.has_head {
            content.extend_from_slice(HEAD);
        }
        write_running(&mut content, running);
        for line in lines {
            self.lines += 1;
            write_line(&mut content, line);
        }
        let path = self.path.clone();
        self.append(&content).map_err(|source| FolderError::Io { path, action: "written", source })
    }

    fn append(&mut self, content: &[u8]) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new().append(true).create(true).mode(MODE).open(&self.path)?,
        };
        // One write: a process that is killed leaves a part at most, and never another one's line within it.
        file.write_all(content)?;
        self.file = Some(file);
        self.has_head = true;
        Ok(())
    }

    /// Whether it has grown by what no longer counts.
    pub(super) fn is_long(&self, paths: usize) -> bool {
        self.lines > 2 * paths + LINES_SPARE
    }
}

/// Removes what was kept of rules that are no more.
pub(super) fn sweep(folder: &Path, names: &[String]) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".watch") && !names.iter().any(|kept| **kept == *name) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn write_running(content: &mut Vec<u8>, running: Option<&Running>) {
    // A map of strings and numbers always has a text.
    if let Some(text) = running.and_then(|running| serde_json::to_string(running).ok()) {
        content.extend_from_slice(b"R ");
        content.extend_from_slice(text.as_bytes());
        content.push(b'\n');
    }
}

fn write_line(content: &mut Vec<u8>, (path, target, image): (&[u8], Stamp, Stamp)) {
    content.extend_from_slice(format!("P {:x} {:x} ", target.number(), image.number()).as_bytes());
    for byte in path {
        match byte {
            b'\n' => content.extend_from_slice(b"\\n"),
            b'\\' => content.extend_from_slice(b"\\\\"),
            byte => content.push(*byte),
        }
    }
    content.push(b'\n');
}

/// What a file says, how many lines of paths it has, and whether all of it could be read.
fn read(content: &[u8]) -> (Found, usize, bool) {
    let Some(rest) = content.strip_prefix(HEAD) else { return (Found::default(), 0, content.is_empty()) };
    let mut found = Found::default();
    let mut places: HashMap<Below, usize> = HashMap::new();
    let mut lines = 0;
    let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut whole = end == rest.len();
    for line in rest[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let understood = match line.split_at_checked(2) {
            Some((b"R ", text)) => serde_json::from_slice(text).map(|running| found.running = Some(running)).is_ok(),
            Some((b"P ", text)) => match read_line(text) {
                Some(line) => {
                    lines += 1;
                    match places.get(&line.0) {
                        Some(place) => found.lines[*place] = line,
                        None => {
                            places.insert(line.0.clone(), found.lines.len());
                            found.lines.push(line);
                        }
                    }
                    true
                }
                None => false,
            },
            _ => false,
        };
        whole &= understood;
    }
    found.lines.retain(|(_, target, image)| target.is_some() || image.is_some());
    (found, lines, whole)
}

fn read_line(text: &[u8]) -> Option<Line> {
    let mut parts = text.splitn(3, |byte| *byte == b' ');
    let mut stamp = || {
        let number = std::str::from_utf8(parts.next()?).ok()?;
        u64::from_str_radix(number, 16).ok().map(Stamp::from_number)
    };
    let (target, image) = (stamp()?, stamp()?);
    let mut path = Vec::new();
    let mut bytes = parts.next()?.iter();
    while let Some(byte) = bytes.next() {
        path.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'\\' => b'\\',
                _ => return None,
            },
            byte => *byte,
        });
    }
    Some((path.into_boxed_slice(), target, image))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: u64) -> Stamp {
        Stamp::from_number(number)
    }

    #[test]
    fn what_is_kept_is_found_whenever_the_writer_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rule.watch");
        let running = Running { image: "sha256:1".to_owned(), containers: [("one".to_owned(), 7)].into() };
        let (mut kept, found) = Kept::open(path.clone()).unwrap();
        assert_eq!(found, Found::default());
        let odd: &[u8] = b"a \xff\n\\n/b";
        kept.add(Some(&running), [(odd, stamp(5), stamp(0)), (b"x".as_slice(), stamp(1), stamp(2))].into_iter())
            .unwrap();
        kept.add(None, [(b"x".as_slice(), stamp(9), stamp(2)), (b"".as_slice(), stamp(3), stamp(0))].into_iter())
            .unwrap();
        kept.add(None, [(b"".as_slice(), stamp(0), stamp(0))].into_iter()).unwrap();
        let line = |path: &[u8], target, image| (Below::from(path), stamp(target), stamp(image));
        let all = vec![line(odd, 5, 0), line(b"x", 9, 2)];
        assert_eq!(Kept::open(path.clone()).unwrap().1, Found { running: Some(running.clone()), lines: all.clone() });

        let content = std::fs::read(&path).unwrap();
        for end in 0..content.len() {
            std::fs::write(&path, &content[..end]).unwrap();
            let (mut kept, found) = Kept::open(path.clone()).unwrap();
            assert!(found.lines.len() <= 3, "{found:?}");
            // And it goes on from there.
            kept.add(None, [(b"later".as_slice(), stamp(4), stamp(0))].into_iter()).unwrap();
            let again = Kept::open(path.clone()).unwrap().1;
            assert_eq!(again.lines[..found.lines.len()], found.lines);
            assert_eq!(again.lines.last(), Some(&line(b"later", 4, 0)));
        }
        kept.replace(Some(&running), [(b"only".as_slice(), stamp(4), stamp(4))].into_iter()).unwrap();
        let found = Kept::open(path.clone()).unwrap().1;
        assert_eq!(found, Found { running: Some(running), lines: vec![line(b"only", 4, 4)] });
        sweep(folder.path(), &["rule.watch".to_owned()]).unwrap();
        assert!(path.exists());
        sweep(folder.path(), &[]).unwrap();
        assert!(!path.exists());
    }
}
