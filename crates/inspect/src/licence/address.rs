//! Addresses that stand where a licence should, as in Maven's files.

use super::{listed, names};

/// The longest address that is looked up, in bytes.
const ADDRESS_BYTES_MAX: usize = 200;

/// Addresses in lower case, without scheme, `www.` and what kind of file it is, and what they mean; sorted.
#[rustfmt::skip]
const ADDRESSES: &[(&str, &str)] = &[
    ("apache.org/licenses/license-1.1", "Apache-1.1"),
    ("apache.org/licenses/license-2.0", "Apache-2.0"),
    ("creativecommons.org/licenses/by/3.0", "CC-BY-3.0"),
    ("creativecommons.org/licenses/by/4.0", "CC-BY-4.0"),
    ("creativecommons.org/licenses/by-sa/3.0", "CC-BY-SA-3.0"),
    ("creativecommons.org/licenses/by-sa/4.0", "CC-BY-SA-4.0"),
    ("creativecommons.org/publicdomain/zero/1.0", "CC0-1.0"),
    ("eclipse.org/legal/epl-2.0", "EPL-2.0"),
    ("eclipse.org/legal/epl-v10", "EPL-1.0"),
    ("eclipse.org/legal/epl-v20", "EPL-2.0"),
    ("eclipse.org/org/documents/edl-v10", "BSD-3-Clause"),
    ("eclipse.org/org/documents/epl-v10", "EPL-1.0"),
    ("json.org/license", "JSON"),
    ("mozilla.org/mpl/2.0", "MPL-2.0"),
    ("mozilla.org/en-us/mpl/2.0", "MPL-2.0"),
    ("opensource.org/licenses/mit-license", "MIT"),
    ("unlicense.org", "Unlicense"),
];

/// Folders whose files are called as the licences are.
const FOLDERS: &[&str] = &["opensource.org/licenses/", "opensource.org/license/", "spdx.org/licenses/"];

/// The SPDX id of the licence that is to be read there.
pub(super) fn find(address: &str) -> Option<&'static str> {
    if address.len() > ADDRESS_BYTES_MAX {
        return None;
    }
    let address = address.to_ascii_lowercase();
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"))?;
    let rest = rest.strip_prefix("www.").unwrap_or(rest).trim_end_matches('/');
    let rest = [".txt", ".html", ".htm", ".php"].iter().find_map(|kind| rest.strip_suffix(kind)).unwrap_or(rest);
    let known = ADDRESSES.iter().find(|(known, _)| *known == rest).map(|(_, id)| *id);
    known.or_else(|| {
        let name = FOLDERS.iter().find_map(|folder| rest.strip_prefix(folder))?;
        listed(name).or_else(|| names::find(name))
    })
}
