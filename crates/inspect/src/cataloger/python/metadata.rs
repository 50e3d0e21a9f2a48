//! Core metadata (`METADATA`, `PKG-INFO`): headers as in mail, then a description.
//!
//! The format is that of the Python packaging specifications, versions 1.0 to 2.5.

use crate::cataloger::Report;
use crate::component::{Ecosystem, Evidence};

/// The longest metadata file that is read, in bytes. Descriptions are long, headers are not.
pub const METADATA_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest head of a metadata file, in bytes: a whole licence may stand in it.
const HEAD_BYTES_MAX: usize = 1024 * 1024;

const UNSTATED: &str = "UNKNOWN";

pub(super) fn read(bytes: &[u8]) -> Report {
    if let Some(refused) = Report::oversized(bytes, METADATA_BYTES_MAX) {
        return refused;
    }
    let mut report = Report::default();
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let whole = head(bytes);
    let head = whole.get(..HEAD_BYTES_MAX).unwrap_or(whole);
    if head.len() < whole.len() {
        report.note(format!("its head has more than {HEAD_BYTES_MAX} bytes; the rest is not read"));
    }
    let head = String::from_utf8_lossy(head);
    let (mut name, mut version) = (None, None);
    let (mut expression, mut licence, mut classifiers) = (None, None, Vec::new());
    for (key, value) in headers(&head) {
        let field = match key.len() {
            4 if key.eq_ignore_ascii_case("name") => &mut name,
            7 if key.eq_ignore_ascii_case("version") => &mut version,
            7 if key.eq_ignore_ascii_case("license") => &mut licence,
            18 if key.eq_ignore_ascii_case("license-expression") => &mut expression,
            10 if key.eq_ignore_ascii_case("classifier") => {
                if value.trim_start().starts_with("License ::") && classifiers.len() <= crate::cataloger::LICENCES_MAX {
                    classifiers.push(value.trim().to_owned());
                }
                continue;
            }
            _ => continue,
        };
        // The first one is what the packaging library takes, too.
        field.get_or_insert(value);
    }
    let stated = |value: &&str| !value.trim().is_empty() && value.trim() != UNSTATED;
    let Some(name) = name.filter(stated) else {
        report.note("it names no package: there is no Name in its head");
        return report;
    };
    let version = version.filter(stated);
    if version.is_none() {
        report.note("it states no version");
    }
    let licences = match expression.filter(stated) {
        Some(expression) => vec![expression.to_owned()],
        None => licence.filter(stated).map(str::to_owned).into_iter().chain(classifiers).collect(),
    };
    report.add(Ecosystem::PyPi, Evidence::Installed, name, version.unwrap_or_default(), licences);
    report
}

/// What stands before the first empty line.
fn head(bytes: &[u8]) -> &[u8] {
    let mut start = 0;
    for newline in memchr::memchr_iter(b'\n', bytes) {
        let line = bytes.get(start..newline).unwrap_or_default();
        if line.is_empty() || line == b"\r" {
            return bytes.get(..start).unwrap_or_default();
        }
        start = newline + 1;
    }
    bytes
}

/// Keys and values; a value goes on in the lines that begin with a space or tab. Lines that are no header are left out.
fn headers(head: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = head;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let bytes = rest.as_bytes();
            let mut end = bytes.len();
            for newline in memchr::memchr_iter(b'\n', bytes) {
                if !matches!(bytes.get(newline + 1), Some(b' ' | b'\t')) {
                    end = newline + 1;
                    break;
                }
            }
            let (header, after) = rest.split_at_checked(end)?;
            rest = after;
            if let Some((key, value)) = header.split_once(':')
                && !key.contains(char::is_whitespace)
            {
                return Some((key, value));
            }
        }
        None
    })
}
