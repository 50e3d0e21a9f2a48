//! Where in an image an entry of a layer lands, and what its name hides of the layers below.
//!
//! Paths are resolved as Docker's and containerd's unpackers do it, by their text alone and before any link is followed:
//! slashes in front are dropped, `.` and doubled slashes too, and `..` takes the component before it away. With a slash
//! in front, `..` at the root stays there; without one, a path that leaves the root is refused, as those do.
//!
//! Whiteouts are those of the OCI image specification ("Image Layer Filesystem Changeset", section "Whiteouts").

use std::borrow::Cow;

#[cfg(test)]
mod tests;

/// Bytes of a path at most, as Linux has it; before and after cleaning.
pub const PATH_BYTES_MAX: usize = 4096;
/// Components of a path at most. Each costs a hash for every entry in it.
pub const COMPONENTS_MAX: usize = 256;

/// What whiteouts begin with.
const WHITEOUT: &[u8] = b".wh.";
/// What marks a directory as opaque, and what the unpackers of old storage drivers kept for themselves.
const RESERVED: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A path inside the image: components with one slash between them, none in front or behind; empty for the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanPath<'a>(Cow<'a, [u8]>);

/// Why a name is not a path inside the image, or hides nothing that could be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No bytes at all.
    #[error("the path is empty")]
    Empty,
    /// A NUL inside.
    #[error("the path has a NUL at byte {at}")]
    Nul {
        /// Where.
        at: usize,
    },
    /// `..` that leads out of the image (a19).
    #[error("the path leads out of the image")]
    Outside,
    /// Over [`PATH_BYTES_MAX`].
    #[error("the path has {bytes} bytes; the most that is taken is {PATH_BYTES_MAX}")]
    Long {
        /// What it has.
        bytes: usize,
    },
    /// Over [`COMPONENTS_MAX`].
    #[error("the path has more than {COMPONENTS_MAX} components")]
    Deep,
    /// `.wh.`, `.wh..` or `.wh...`: the whiteout of nothing, of its own directory or of the one above.
    #[error("a whiteout of nothing, or of a directory that it lies in")]
    OddWhiteout,
    /// `.wh..wh..opq` at the root: some storage drivers drop all layers below, some none.
    #[error("the root of the image is marked as opaque, which not all storage drivers follow")]
    OpaqueRoot,
    /// Another name with `.wh..wh.` in front, which old storage drivers used for themselves.
    #[error("a name that is reserved for storage drivers")]
    Reserved,
}

/// What an entry hides by its name. Its own content is never part of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteout<'a> {
    /// All that the layers below have in the entry's directory.
    Opaque,
    /// What the layers below have under this name in the entry's directory.
    Of(&'a [u8]),
    /// Nothing: an entry like any other.
    None,
}

impl CleanPath<'_> {
    /// The bytes, without a slash in front.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is the image's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// All but the last component, and that; the root has two empty ones.
    pub fn split(&self) -> (&[u8], &[u8]) {
        match memchr::memrchr(b'/', &self.0) {
            Some(at) => {
                let (parent, name) = self.0.split_at(at);
                (parent, name.get(1..).unwrap_or_default())
            }
            None => (&[], &self.0),
        }
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.split().1
    }

    /// What the last component says it hides. The entry's type does not matter.
    pub fn whiteout(&self) -> Result<Whiteout<'_>, PathError> {
        let (parent, name) = self.split();
        let Some(hidden) = name.strip_prefix(WHITEOUT) else { return Ok(Whiteout::None) };
        match hidden {
            b"" | b"." | b".." => Err(PathError::OddWhiteout),
            _ if name == OPAQUE && parent.is_empty() => Err(PathError::OpaqueRoot),
            _ if name == OPAQUE => Ok(Whiteout::Opaque),
            _ if name.starts_with(RESERVED) => Err(PathError::Reserved),
            _ => Ok(Whiteout::Of(hidden)),
        }
    }
}

/// The path inside the image that an entry's name, or a hard link's target, stands for. Allocates only where it must be
/// put together anew.
pub fn clean(path: &[u8]) -> Result<CleanPath<'_>, PathError> {
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(PathError::Long { bytes: path.len() });
    }
    if let Some(at) = memchr::memchr(0, path) {
        return Err(PathError::Nul { at });
    }
    let mut inner = path;
    while let [b'/', rest @ ..] | [b'.', b'/', rest @ ..] = inner {
        inner = rest;
    }
    while let [rest @ .., b'/'] = inner {
        inner = rest;
    }
    let mut components = 0;
    let mut is_clean = true;
    for component in inner.split(|byte| *byte == b'/') {
        components += 1;
        is_clean &= !matches!(component, b"" | b"." | b"..");
    }
    if is_clean && components <= COMPONENTS_MAX {
        return Ok(CleanPath(Cow::Borrowed(inner)));
    }
    put_together(path)
}

fn put_together(path: &[u8]) -> Result<CleanPath<'_>, PathError> {
    let is_rooted = path.first() == Some(&b'/');
    let mut joined: Vec<u8> = Vec::with_capacity(path.len());
    let mut components = 0_usize;
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if components == 0 && is_rooted => {}
            b".." if components == 0 => return Err(PathError::Outside),
            b".." => {
                joined.truncate(memchr::memrchr(b'/', &joined).unwrap_or(0));
                components -= 1;
            }
            _ => {
                if components > 0 {
                    joined.push(b'/');
                }
                joined.extend_from_slice(component);
                components += 1;
            }
        }
    }
    if components > COMPONENTS_MAX { Err(PathError::Deep) } else { Ok(CleanPath(Cow::Owned(joined))) }
}
