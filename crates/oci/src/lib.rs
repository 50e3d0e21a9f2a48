//! The words of the OCI specifications as types: digests, references, manifests, the paths under `/v2/`, queries and
//! the headers that carry more than a name: byte ranges, entity tags, challenges.
//!
//! Invariants: no IO, no async, no clock. A value of a type in this crate is valid: whoever holds a [`Digest`], a
//! [`Tag`] or a [`RepositoryName`] need not check it again, and may put it into a path, a header or a log line. Nothing
//! here panics on input, whatever it is; the fuzz targets `oci_*` hold that.

mod challenge;
mod config;
mod digest;
mod etag;
mod manifest;
pub mod media;
mod name;
mod path;
mod query;
mod range;
mod reference;

pub use challenge::Challenge;
pub use config::{ContainerConfig, Healthcheck, HistoryEntry, ImageConfig, RootFs};
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use etag::etag_matches;
pub use manifest::{
    Descriptor, Document, DocumentKind, Index, MANIFEST_BYTES_MAX, Manifest, ManifestError, Platform, REFERENCES_MAX,
};
pub use name::{NameError, RepositoryName, Tag};
pub use path::{Endpoint, ManifestReference, PathError, UploadName};
pub use query::Query;
pub use range::{ByteRange, ContentRange, RangeError};
pub use reference::{Reference, ReferenceError};

/// What came from outside, cut and escaped so that it can stand in an error: no control characters, bounded length.
pub(crate) fn excerpt(text: &str) -> String {
    const EXCERPT_CHARS_MAX: usize = 96;
    let mut shown: String = text.chars().take(EXCERPT_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(EXCERPT_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}
