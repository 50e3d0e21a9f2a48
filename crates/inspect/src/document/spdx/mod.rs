//! SPDX 2.3 in JSON (ISO/IEC 5962 and its second amendment) and SPDX 3.0.1 in JSON-LD.

mod licence;
mod v2;
mod v3;

use std::io::Write;

use crate::document::Contents;
use crate::document::emit::{identified, short_hash};
use crate::document::ordered::{Ordered, WriteError};

/// The time of a document whose image has none; SPDX requires one.
const NO_TIME: &str = "1970-01-01T00:00:00Z";

/// Writes `contents` as an SPDX 2.3 document.
pub fn write(contents: &Contents, mut out: impl Write) -> Result<(), WriteError> {
    let ordered = Ordered::new(contents)?;
    let licences = licence::References::of(&ordered);
    identified(&mut out, |emit, namespace| v2::document(emit, &ordered, &licences, namespace))?;
    Ok(())
}

/// Writes `contents` as an SPDX 3.0.1 document.
pub fn write_3(contents: &Contents, mut out: impl Write) -> Result<(), WriteError> {
    let ordered = Ordered::new(contents)?;
    let licences = licence::References::of(&ordered);
    identified(&mut out, |emit, namespace| v3::document(emit, &ordered, &licences, namespace))?;
    Ok(())
}

/// An element's local name: what people recognise it by, and a hash that keeps two apart.
fn local_id(kind: &str, id: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 48;
    let shown: String =
        id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).take(SHOWN_CHARS_MAX).collect();
    format!("{kind}-{}-{}", shown.trim_matches('-'), short_hash(id))
}
