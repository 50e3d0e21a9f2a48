//! Files that are made for logins and have no prefix to look for: `.netrc` and `.pgpass`.

use super::assignment::is_common;
use super::check::is_example;
use super::place::Place;
use super::{Confidence, Found, Rule};

/// What of such a file is read, in bytes from its start.
pub(super) const LOGIN_FILE_BYTES_MAX: usize = 64 * 1024;

/// Logins in the beginning of a file, by its name.
pub(super) fn find(bytes: &[u8], place: &Place) -> Vec<Found> {
    let bytes = bytes.get(..LOGIN_FILE_BYTES_MAX).unwrap_or(bytes);
    if place.is_netrc {
        netrc(bytes)
    } else if place.is_pgpass {
        pgpass(bytes)
    } else {
        Vec::new()
    }
}

/// `machine HOST login USER password PASSWORD`, in any number of lines.
fn netrc(bytes: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut is_password = false;
    let mut at = 0;
    for word in bytes.split_inclusive(u8::is_ascii_whitespace) {
        let start = at;
        at += word.len();
        let word = word.trim_ascii();
        if word.is_empty() {
            continue;
        }
        if is_password && !stands_in(word) {
            found.push(Found::new(Rule::Netrc, Confidence::High, start, start + word.len(), "password "));
        }
        is_password = word == b"password";
    }
    found
}

/// `HOST:PORT:DATABASE:USER:PASSWORD` in each line; `\` keeps a colon from parting.
fn pgpass(bytes: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut at = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let start = at;
        at += line.len();
        let line = line.trim_ascii_end();
        if line.starts_with(b"#") {
            continue;
        }
        let mut colons = memchr::memchr_iter(b':', line).filter(|at| super::check::before(line, *at) != Some(b'\\'));
        let Some(last) = colons.nth(3) else { continue };
        let password = line.get(last + 1..).unwrap_or_default();
        if !password.is_empty() && !stands_in(password) {
            let begin = start + last + 1;
            found.push(Found::new(Rule::Pgpass, Confidence::High, begin, begin + password.len(), "password "));
        }
    }
    found
}

fn stands_in(password: &[u8]) -> bool {
    is_example(password) || (is_common(password) && !password.iter().any(u8::is_ascii_digit))
}
