//! One layer's paths by their hashes.

use super::key::{PathHasher, PathKey, STATE_BITS};
use crate::path::{CleanPath, PathError, Whiteout};

/// Paths of a layer at most, directories included: 128 MiB of them.
pub const PATHS_MAX: usize = 16 << 20;
/// Values that are gathered before equal ones are first put together.
const GATHERED_MIN: usize = 1 << 20;

/// What has happened to a path; also what state it is in. In the lowest bits of a value, so that values of a path lie
/// side by side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Something that is no directory.
    Other = 0,
    /// A directory, by its own entry or because something lies in it.
    Directory = 1,
    /// A directory, because something lies in it: an event only.
    Implied = 2,
    /// A whiteout: an event only. It counts where there is nothing else.
    Whiteout = 3,
    /// Something that is no directory and took a directory's place.
    Replaced = 4,
    /// Different unpackers end with different things.
    Unsettled = 5,
}

impl State {
    const fn of(value: u64) -> Self {
        match value & ((1 << STATE_BITS) - 1) {
            0 => Self::Other,
            1 => Self::Directory,
            2 => Self::Implied,
            3 => Self::Whiteout,
            4 => Self::Replaced,
            _ => Self::Unsettled,
        }
    }

    /// What a path is after an event; events come in the order of the layer's entries. A state that was put together
    /// before is the first event.
    const fn after(self, event: Self) -> Self {
        use State::{Directory, Implied, Other, Replaced, Unsettled, Whiteout};
        match (self, event) {
            (Other, Directory) => Directory,
            (Other, Implied) => Unsettled,
            (Other, _) => Other,
            (Directory, Other) => Replaced,
            (Directory, _) => Directory,
            (Replaced, Directory | Implied) => Unsettled,
            (Replaced, _) => Replaced,
            (Unsettled, Other) => Replaced,
            (Unsettled, _) => Unsettled,
            (Implied | Whiteout, _) => self,
        }
    }

    /// The state after a first event.
    const fn first(self) -> Self {
        match self {
            Self::Implied => Self::Directory,
            Self::Whiteout => Self::Other,
            state => state,
        }
    }
}

/// What an entry was recorded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// A file, a directory or another thing that the layer has.
    Node,
    /// A mark that hides what is below. It is not itself part of the image.
    Whiteout,
}

/// Why an entry is not recorded. The tree stays usable; what the entry would hide, if anything, stays visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayerError {
    /// The name looks like a whiteout and is none that could be followed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Over [`PATHS_MAX`]. All that was recorded is forgotten: half of a layer could hide what the whole of it does not.
    #[error("the layer has more than {PATHS_MAX} paths; what it hides of the layers below stays visible")]
    TooMany,
}

/// Gathers a layer's paths, in the order of its entries.
#[derive(Debug)]
pub struct TreeBuilder {
    key: PathKey,
    values: Vec<u64>,
    opaques: Vec<u64>,
    /// When to put equal values together next; 0 where there were too many.
    full: usize,
    /// The last entry's directory, whose own directories are recorded.
    parent: Vec<u8>,
}

/// One layer's paths.
#[derive(Debug)]
pub struct LayerTree {
    key: PathKey,
    /// Hash and state, sorted.
    values: Box<[u64]>,
    /// Hashes of opaque directories, sorted.
    opaques: Box<[u64]>,
    unsettled: usize,
}

impl TreeBuilder {
    /// Starts a layer.
    pub const fn new(key: PathKey) -> Self {
        Self { key, values: Vec::new(), opaques: Vec::new(), full: GATHERED_MIN, parent: Vec::new() }
    }

    /// Records an entry of the layer. Whiteouts are told by their names.
    pub fn record(&mut self, path: &CleanPath<'_>, is_directory: bool) -> Result<Recorded, LayerError> {
        if path.is_root() {
            return Ok(Recorded::Node);
        }
        let whiteout = path.whiteout()?;
        let (parent, name) = path.split();
        let in_parent = self.record_parents(parent)?;
        let hash = |name: &[u8]| {
            let mut hasher = in_parent.clone();
            if !parent.is_empty() {
                hasher.write(b"/");
            }
            hasher.write(name);
            hasher.value()
        };
        match whiteout {
            Whiteout::None => {
                self.push(hash(name), if is_directory { State::Directory } else { State::Other })?;
                // A directory that was replaced must be recorded anew when something lies in it.
                if !is_directory && self.parent.starts_with(path.as_bytes()) {
                    self.parent.clear();
                }
                return Ok(Recorded::Node);
            }
            Whiteout::Of(name) => self.push(hash(name), State::Whiteout)?,
            Whiteout::Opaque => {
                let value = in_parent.value();
                if self.full > 0 && self.opaques.last() != Some(&value) {
                    self.opaques.push(value);
                }
            }
        }
        Ok(Recorded::Whiteout)
    }

    /// Records the directories above an entry, and returns the hasher that has the last of them in it.
    fn record_parents(&mut self, parent: &[u8]) -> Result<PathHasher, LayerError> {
        let mut hasher = self.key.hasher();
        if parent == self.parent {
            hasher.write(parent);
            return Ok(hasher);
        }
        let same = parent.iter().zip(&self.parent).take_while(|(one, other)| one == other).count();
        let mut start = 0;
        while start < parent.len() {
            let rest = parent.get(start + 1..).unwrap_or_default();
            let end = memchr::memchr(b'/', rest).map_or(parent.len(), |at| start + 1 + at);
            hasher.write(parent.get(start..end).unwrap_or_default());
            // Up to here the last entry's directories are the same ones, each ending where this one does.
            let is_known = end <= same && self.parent.get(end).is_none_or(|byte| *byte == b'/');
            if !is_known {
                self.push(hasher.value(), State::Implied)?;
            }
            start = end;
        }
        self.parent.clear();
        self.parent.extend_from_slice(parent);
        Ok(hasher)
    }

    fn push(&mut self, hash: u64, event: State) -> Result<(), LayerError> {
        if self.full == 0 {
            return Err(LayerError::TooMany);
        }
        if self.values.len() + self.opaques.len() >= self.full {
            settle(&mut self.values);
            self.opaques.sort_unstable();
            self.opaques.dedup();
            let length = self.values.len() + self.opaques.len();
            if length >= PATHS_MAX {
                (self.values, self.opaques, self.full) = (Vec::new(), Vec::new(), 0);
                return Err(LayerError::TooMany);
            }
            self.full = (length * 2).clamp(GATHERED_MIN, PATHS_MAX);
        }
        self.values.push(hash | event as u64);
        Ok(())
    }

    /// The finished layer.
    pub fn finish(mut self) -> LayerTree {
        settle(&mut self.values);
        self.opaques.sort_unstable();
        self.opaques.dedup();
        let unsettled = self.values.iter().filter(|value| State::of(**value) == State::Unsettled).count();
        LayerTree {
            key: self.key,
            values: self.values.into_boxed_slice(),
            opaques: self.opaques.into_boxed_slice(),
            unsettled,
        }
    }
}

/// Sorts by path, and leaves of each path what came of its events.
fn settle(values: &mut Vec<u64>) {
    // Stable: events of a path stay in their order.
    values.sort_by_key(|value| value >> STATE_BITS);
    values.dedup_by(|next, kept| {
        let is_same = *next >> STATE_BITS == *kept >> STATE_BITS;
        let state = State::of(*kept).first();
        let state = if is_same { state.after(State::of(*next)) } else { state };
        *kept = *kept >> STATE_BITS << STATE_BITS | state as u64;
        is_same
    });
    // The last one has had no other after it.
    if let Some(last) = values.last_mut() {
        *last = *last >> STATE_BITS << STATE_BITS | State::of(*last).first() as u64;
    }
}

impl LayerTree {
    /// The key of its hashes, to be kept with it.
    pub const fn key(&self) -> PathKey {
        self.key
    }

    /// To be kept: the key, then how many opaque directories and how many values there are, then all of them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size_of::<[u64; 4]>() + self.heap_bytes());
        bytes.extend_from_slice(&self.key.to_bytes());
        bytes.extend_from_slice(&(self.opaques.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&(self.values.len() as u64).to_le_bytes());
        self.opaques.iter().chain(&self.values).for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        bytes
    }

    /// One that was kept; none where it is cut off or too large.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk::<16>()?;
        let (opaques, rest) = rest.split_first_chunk::<8>()?;
        let (values, rest) = rest.split_first_chunk::<8>()?;
        let (words, []) = rest.as_chunks::<8>() else { return None };
        let count = |bytes| usize::try_from(u64::from_le_bytes(bytes)).ok();
        let (opaques, values) = (count(*opaques)?, count(*values)?);
        if opaques.checked_add(values)? != words.len() || words.len() > PATHS_MAX {
            return None;
        }
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let (opaques, values) = words.split_at_checked(opaques)?;
        Some(Self {
            key: PathKey::from_bytes(*key),
            unsettled: values.iter().filter(|value| State::of(**value) == State::Unsettled).count(),
            values: values.into(),
            opaques: opaques.into(),
        })
    }

    /// How many paths it has, directories included.
    pub const fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Bytes on the heap.
    pub const fn heap_bytes(&self) -> usize {
        (self.values.len() + self.opaques.len()) * size_of::<u64>()
    }

    /// Paths of which it is not certain what an unpacker leaves there. They hide nothing of what lies below them; where
    /// there are any, say so.
    pub const fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// Whether this layer hides what a layer below has at `path`, which is not a directory.
    pub fn hides(&self, path: &CleanPath<'_>) -> bool {
        let bytes = path.as_bytes();
        let mut hasher = self.key.hasher();
        let mut start = 0;
        while start < bytes.len() {
            let rest = bytes.get(start + 1..).unwrap_or_default();
            let end = memchr::memchr(b'/', rest).map_or(bytes.len(), |at| start + 1 + at);
            hasher.write(bytes.get(start..end).unwrap_or_default());
            let hash = hasher.value();
            // Nothing can lie below a path that the layer does not have.
            let Some(state) = self.state(hash) else { return false };
            match state {
                // Whatever it is, it has taken the place of what was there.
                _ if end == bytes.len() => return true,
                State::Other | State::Whiteout | State::Replaced => return true,
                State::Unsettled => return false,
                State::Directory | State::Implied if self.opaques.binary_search(&hash).is_ok() => return true,
                State::Directory | State::Implied => {}
            }
            start = end;
        }
        false
    }

    fn state(&self, hash: u64) -> Option<State> {
        let at = self.values.partition_point(|value| *value < hash);
        self.values.get(at).filter(|value| **value >> STATE_BITS == hash >> STATE_BITS).map(|value| State::of(*value))
    }
}
