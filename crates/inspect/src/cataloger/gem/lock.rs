//! Bundler's `Gemfile.lock`: sections at the margin, `specs:` two spaces in, gems four, what they need six.

use crate::cataloger::Report;
use crate::cataloger::text::{decode, excerpt};
use crate::component::{Ecosystem, Evidence};

/// The longest lock file that is read, in bytes.
pub const LOCK_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(super) fn read(bytes: &[u8]) -> Report {
    if let Some(refused) = Report::oversized(bytes, LOCK_BYTES_MAX) {
        return refused;
    }
    let mut report = Report::default();
    let mut listed = false;
    let text = decode(bytes);
    if text.lines().any(|line| line.starts_with("<<<<<<< ")) {
        report.note("it holds the marks of an unresolved merge; both sides are read");
    }
    for line in text.lines() {
        let inner = line.trim_start_matches(' ');
        match line.len() - inner.len() {
            0 => listed = false,
            2 if inner.trim_end() == "specs:" => listed = true,
            4 if listed => match gem(inner.trim_end()) {
                Some((name, version)) => report.add(Ecosystem::Gem, Evidence::Contained, name, version, Vec::new()),
                None => report.note(format!("the line {} names no gem with its version", excerpt(inner))),
            },
            _ => {}
        }
    }
    report.distinct()
}

/// `NAME (VERSION)` or `NAME (VERSION-PLATFORM)`; the lock file lists a gem once for each platform.
fn gem(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once(" (")?;
    let version = rest.strip_suffix(')').or_else(|| rest.strip_suffix(")!"))?;
    Some((name, version.split('-').next()?))
}
