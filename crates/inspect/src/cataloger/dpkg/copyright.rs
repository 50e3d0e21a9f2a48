//! Licences of a Debian package: machine-readable copyright files (DEP-5), and what others refer to in
//! `/usr/share/common-licenses`.
//!
//! <https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/>

use std::collections::{BTreeSet, HashSet};

use memchr::memmem;

use crate::cataloger::os::records::Records;
use crate::cataloger::os::{self, Fact, LICENCE_BYTES_MAX, Reporter};
use crate::content::Content;

use super::control::{Field, fields};
use super::{COPYRIGHT_BYTES_MAX, Error, LICENCES_MAX, package};

/// Bytes of a file's name.
const FILE_BYTES_MAX: usize = 255;

/// How far before "any later version" the licence's name and version stand, in bytes.
const GRANT_BYTES_MAX: usize = 512;

/// Licences in the order in which they come, each once.
#[derive(Default)]
struct Licences {
    in_order: Vec<String>,
    known: HashSet<String>,
}

impl Licences {
    /// Adds a licence that is not there yet; false where there are too many.
    fn add(&mut self, licence: &str) -> bool {
        if self.known.contains(licence) {
            return true;
        }
        let has_room = self.in_order.len() < LICENCES_MAX;
        if has_room {
            self.known.insert(licence.to_owned());
            self.in_order.push(licence.to_owned());
        }
        has_room
    }
}

pub(super) fn read(name: &[u8], content: Content<'_>, reporter: &mut Reporter<'_>) -> Result<(), os::Error> {
    let package = package(name)?;
    let bytes = os::read_whole(&content, COPYRIGHT_BYTES_MAX)?;
    let mut licences = Licences::default();
    if is_machine_readable(&bytes) {
        stated(&bytes, &mut licences, reporter);
    }
    if licences.in_order.is_empty() {
        referred(&bytes, &mut licences, reporter);
    }
    if !licences.in_order.is_empty() {
        reporter.fact(Fact::Licence { package, licences: licences.in_order });
    }
    Ok(())
}

/// The first field of such a file is `Format`, `Format-Specification` in drafts.
fn is_machine_readable(bytes: &[u8]) -> bool {
    let mut records = Records::new(Content::memory(bytes));
    let Some(Ok(record)) = records.next() else { return false };
    let is_format = |field: Field<'_>| field.is("Format") || field.is("Format-Specification");
    fields(&record).next().is_some_and(|field| field.is_ok_and(is_format))
}

/// The first lines of all `License` fields; the licence's text follows them.
fn stated(bytes: &[u8], licences: &mut Licences, reporter: &mut Reporter<'_>) {
    let mut records = Records::new(Content::memory(bytes));
    while let Some(record) = records.next() {
        let record = match record {
            Ok(record) => record,
            Err(unreadable) => {
                reporter.unexamined(|| format!("the paragraph at byte {}", unreadable.at), unreadable.why);
                continue;
            }
        };
        // What else is wrong in a file written by hand says nothing of licences.
        for field in fields(&record).flatten().filter(|field| field.is("License") && !field.value.is_empty()) {
            match os::text(field.value, LICENCE_BYTES_MAX) {
                None => reporter.unexamined(|| "a licence".to_owned(), Error::Licence { at: record.at }),
                Some(licence) if licences.add(licence) => {}
                Some(_) => return reporter.unexamined(|| "licences".to_owned(), Error::Licences),
            }
        }
    }
}

/// Names of files in `/usr/share/common-licenses` that the text speaks of. Where it grants later versions, too, that is
/// written as DEP-5 does.
fn referred(bytes: &[u8], licences: &mut Licences, reporter: &mut Reporter<'_>) {
    const FOLDER: &[u8] = b"/usr/share/common-licenses/";
    let later = granted_later(bytes);
    for at in memmem::find_iter(bytes, FOLDER) {
        let rest = bytes.get(at + FOLDER.len()..).unwrap_or_default();
        let is_inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+');
        let length = rest.iter().take(FILE_BYTES_MAX).take_while(|byte| is_inside(byte)).count();
        let name = rest.get(..length).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
        // A sentence may end there.
        let name = name.trim_end_matches(['.', '-']);
        let added = match name {
            "" => true,
            // The file has the University's three clauses.
            "BSD" => licences.add("BSD-3-clause"),
            _ if later.contains(name) => licences.add(&format!("{name}+")),
            _ => licences.add(name),
        };
        if !added {
            return reporter.unexamined(|| "licences".to_owned(), Error::Licences);
        }
    }
}

/// GNU's licences of which a text says "either version N, or (at your option) any later version", as their files are
/// called: `GPL-2`.
fn granted_later(bytes: &[u8]) -> BTreeSet<String> {
    const NAMES: [(&str, &str); 5] = [
        ("Lesser General Public License", "LGPL-"),
        ("Library General Public License", "LGPL-"),
        ("Affero General Public License", "AGPL-"),
        ("General Public License", "GPL-"),
        ("Free Documentation License", "GFDL-"),
    ];
    let mut granted = BTreeSet::new();
    for at in memmem::find_iter(bytes, b"later") {
        let after = bytes.get(at + b"later".len()..).unwrap_or_default();
        let after = after.get(..GRANT_BYTES_MAX).unwrap_or(after).trim_ascii_start();
        let before = bytes.get(at.saturating_sub(GRANT_BYTES_MAX)..at).unwrap_or_default().trim_ascii_end();
        if !before.ends_with(b"any") || !after.starts_with(b"version") {
            continue;
        }
        // It runs over several lines.
        let words = String::from_utf8_lossy(before).split_whitespace().collect::<Vec<_>>().join(" ");
        let named = NAMES.iter().filter_map(|(name, family)| Some((words.rfind(name)? + name.len(), *family)));
        // Of two that end in the same place the first is the whole name.
        let family = named.rev().max_by_key(|(end, _)| *end).map(|(_, family)| family);
        let version = words.rfind("ersion ").and_then(|at| words.get(at + "ersion ".len()..));
        let Some((family, version)) = family.zip(version) else { continue };
        let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
        let version = version.get(..end).unwrap_or_default().trim_end_matches('.');
        let version = version.strip_suffix(".0").unwrap_or(version);
        if !version.is_empty() {
            granted.insert(format!("{family}{version}"));
        }
    }
    granted
}
