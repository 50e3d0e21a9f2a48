//! Licences of a Debian package: machine-readable copyright files (DEP-5), and what others refer to in
//! `/usr/share/common-licenses`.
//!
//! <https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/>

use std::collections::HashSet;

use memchr::memmem;

use crate::cataloger::os::records::Records;
use crate::cataloger::os::{self, Fact, LICENCE_BYTES_MAX, Reporter};
use crate::content::Content;

use super::control::{Field, fields};
use super::{COPYRIGHT_BYTES_MAX, Error, LICENCES_MAX, package};

/// Bytes of a file's name.
const FILE_BYTES_MAX: usize = 255;

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

/// Names of files in `/usr/share/common-licenses` that the text speaks of.
fn referred(bytes: &[u8], licences: &mut Licences, reporter: &mut Reporter<'_>) {
    const FOLDER: &[u8] = b"/usr/share/common-licenses/";
    for at in memmem::find_iter(bytes, FOLDER) {
        let rest = bytes.get(at + FOLDER.len()..).unwrap_or_default();
        let is_inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+');
        let length = rest.iter().take(FILE_BYTES_MAX).take_while(|byte| is_inside(byte)).count();
        let name = rest.get(..length).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
        // A sentence may end there.
        let name = name.trim_end_matches(['.', '-']);
        if !name.is_empty() && !licences.add(name) {
            return reporter.unexamined(|| "licences".to_owned(), Error::Licences);
        }
    }
}
