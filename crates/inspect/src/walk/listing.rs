//! What a layer's archive lists, entry by entry, for whoever keeps that. Contents are hashed as they stream by.

use std::cell::RefCell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

use crate::content::Content;
use crate::path::{CleanPath, Whiteout};
use crate::tar::{self, Entry};

/// Bytes of a file that are hashed at a time.
const STEP_BYTES: usize = 256 * 1024;

/// A SHA-256.
pub type Hash = [u8; 32];

/// An entry of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'e> {
    /// Where it lies in the image; a whiteout at what it hides.
    pub path: &'e [u8],
    /// What is there.
    pub thing: Thing<'e>,
}

/// What an entry says of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing<'e> {
    /// Something is there.
    Node(Node<'e>),
    /// What lower layers have there is not.
    Whiteout,
    /// What lower layers have in that directory is not.
    Opaque,
}

/// What a layer has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node<'e> {
    /// What it is.
    pub kind: tar::Kind,
    /// The twelve bits of permissions, setuid, setgid and sticky.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Bytes of a file.
    pub size: u64,
    /// What a link leads to, as written.
    pub link: &'e [u8],
    /// The SHA-256 of a file, where all of it could be read.
    pub hash: Option<Hash>,
}

/// Who takes what a layer lists.
pub type Lister<'l> = dyn FnMut(Listed<'_>) + 'l;

/// Hands on how an entry is listed.
pub(super) fn tell<S>(path: &CleanPath<'_>, entry: &Entry<'_, S>, hash: Option<Hash>, to: &mut Lister<'_>) {
    let (parent, _) = path.split();
    match path.whiteout() {
        Ok(Whiteout::None) => {
            let size = if entry.is_file() { entry.size } else { 0 };
            let (kind, mode, uid, gid, link) = (entry.kind, entry.mode, entry.uid, entry.gid, entry.link);
            let node = Node { kind, mode, uid, gid, size, link, hash };
            to(Listed { path: path.as_bytes(), thing: Thing::Node(node) });
        }
        Ok(Whiteout::Of(name)) if parent.is_empty() => to(Listed { path: name, thing: Thing::Whiteout }),
        Ok(Whiteout::Of(name)) => to(Listed { path: &[parent, b"/", name].concat(), thing: Thing::Whiteout }),
        Ok(Whiteout::Opaque) => to(Listed { path: parent, thing: Thing::Opaque }),
        Err(_) => {}
    }
}

/// The hash of a file that can be read from anywhere.
pub(super) fn hashed(content: Content<'_>) -> Option<Hash> {
    let (mut hasher, mut reader) = (Sha256::new(), content.reader());
    let mut buffer = vec![0; STEP_BYTES.min(usize::try_from(content.len()).unwrap_or(STEP_BYTES))];
    loop {
        match reader.read(&mut buffer).ok()? {
            0 => return Some(hasher.finalize().into()),
            read => hasher.update(buffer.get(..read)?),
        }
    }
}

/// Hashes what streams by, whoever reads it, while that is wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Hashing(Rc<RefCell<Option<Sha256>>>);

impl Hashing {
    /// Begins with what is read next.
    pub(super) fn begin(&self) {
        *self.0.borrow_mut() = Some(Sha256::new());
    }

    /// The hash of an entry's content that some of was read: what is left is read here.
    pub(super) fn finish<R: BufRead>(&self, entry: &mut Entry<'_, tar::Stream<R>>) -> Option<Hash> {
        let whole = entry.reader().map(|mut rest| {
            loop {
                let there = rest.fill_buf()?.len();
                if there == 0 {
                    return Ok::<_, io::Error>(());
                }
                rest.consume(there);
            }
        });
        let hasher = self.0.borrow_mut().take()?;
        matches!(whole, Some(Ok(()))).then(|| hasher.finalize().into())
    }
}

/// A stream that is hashed.
#[derive(Debug)]
pub(super) struct Tap<R> {
    pub(super) inner: R,
    pub(super) hashing: Hashing,
}

impl<R: BufRead> Read for Tap<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(hasher) = self.hashing.0.borrow_mut().as_mut() {
            hasher.update(buffer.get(..read).unwrap_or_default());
        }
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Tap<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        if let Some(hasher) = self.hashing.0.borrow_mut().as_mut()
            && let Ok(there) = self.inner.fill_buf()
        {
            hasher.update(there.get(..amount).unwrap_or_default());
        }
        self.inner.consume(amount);
    }
}
