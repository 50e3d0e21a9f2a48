//! What the SPDX list says to write in the place of ids that it advises against.

use super::{is_deprecated, listed};

/// What is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Successor {
    pub(super) id: &'static str,
    pub(super) exception: Option<&'static str>,
}

/// Those whose successors do not follow from their names.
const OTHERS: &[(&str, &str, Option<&str>)] = &[
    ("BSD-2-Clause-FreeBSD", "BSD-2-Clause-Views", None),
    ("BSD-2-Clause-NetBSD", "BSD-2-Clause", None),
    ("GPL-2.0-with-autoconf-exception", "GPL-2.0-only", Some("Autoconf-exception-2.0")),
    ("GPL-2.0-with-bison-exception", "GPL-2.0-only", Some("Bison-exception-2.2")),
    ("GPL-2.0-with-classpath-exception", "GPL-2.0-only", Some("Classpath-exception-2.0")),
    ("GPL-2.0-with-font-exception", "GPL-2.0-only", Some("Font-exception-2.0")),
    ("GPL-2.0-with-GCC-exception", "GPL-2.0-only", Some("GCC-exception-2.0")),
    ("GPL-3.0-with-autoconf-exception", "GPL-3.0-only", Some("Autoconf-exception-3.0")),
    ("GPL-3.0-with-GCC-exception", "GPL-3.0-only", Some("GCC-exception-3.1")),
    ("StandardML-NJ", "SMLNJ", None),
    ("bzip2-1.0.5", "bzip2-1.0.6", None),
    ("eCos-2.0", "GPL-2.0-or-later", Some("eCos-exception-2.0")),
    ("wxWindows", "GPL-2.0-or-later", Some("WxWindows-exception-3.1")),
];

/// What is to be written instead of an id as the list has it, or of that with a `+`; none where that is as it should be.
pub(super) fn successor(id: &'static str, or_later: bool) -> Option<Successor> {
    if !is_deprecated(id) {
        return None;
    }
    if let Some((_, id, exception)) = OTHERS.iter().find(|(known, ..)| *known == id) {
        // The list has no form for a later version of these.
        return (!or_later).then_some(Successor { id, exception: *exception });
    }
    let (version, or_later) = match id.strip_suffix('+') {
        Some(version) => (version, true),
        None => (id, or_later),
    };
    let id = listed(&format!("{version}-{}", if or_later { "or-later" } else { "only" }))?;
    Some(Successor { id, exception: None })
}
