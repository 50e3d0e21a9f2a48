//! One blob: its pieces, where they come from, and its way from a first piece to a whole and verified file. Everything here
//! may wait for the disk.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use oci::Digest;
use tokio::sync::watch;

use super::folders::{Folders, Kind, replace};
use super::journal::{self, Journal};
use super::{Counts, PieceKept, Progress, Source, Stage, StoreError};
use crate::piece::{Layout, PieceSet, PieceTree};

/// Read from the disk at once, in bytes.
const READ_BYTES: usize = 1 << 20;

pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) length: u64,
    pub(super) progress: watch::Sender<Progress>,
    /// Orders uses: the greatest was used last.
    pub(super) used: AtomicU64,
    stage: Mutex<At>,
    /// Whoever begins, finishes or takes back holds it; pieces do not.
    turn: Mutex<()>,
    counts: Mutex<Counts>,
}

/// How far a blob is.
#[derive(Clone)]
pub(super) enum At {
    /// What may be on disk was not looked at.
    Dormant,
    Arriving(Arc<Arriving>),
    /// Comes in one run from the hub.
    Filling,
    Whole(Arc<Whole>),
}

/// A blob that lacks pieces.
pub(super) struct Arriving {
    pub(super) tree: Arc<PieceTree>,
    file: File,
    journal: Journal,
    /// Pieces that this process verified.
    pub(super) pieces: Mutex<PieceSet>,
}

/// A blob that is there.
pub(super) struct Whole {
    /// Its tree, as long as anybody uses it.
    tree: Mutex<std::sync::Weak<PieceTree>>,
    /// Pieces whose bytes on disk this process has verified.
    pub(super) checked: Mutex<PieceSet>,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Blob {
    pub(super) fn new(digest: Digest, length: u64, used: u64) -> Self {
        Self {
            digest,
            length,
            progress: watch::Sender::new(Progress { pieces: 0, bytes: 0, stage: Stage::Dormant }),
            used: AtomicU64::new(used),
            stage: Mutex::new(At::Dormant),
            turn: Mutex::new(()),
            counts: Mutex::default(),
        }
    }

    /// A blob that an earlier process left whole.
    pub(super) fn found_whole(digest: Digest, layout: Layout, used: u64) -> Self {
        let blob = Self::new(digest, layout.length(), used);
        blob.whole_set(PieceSet::empty(layout.pieces()), layout.pieces());
        locked(&blob.counts).disk = layout.length();
        blob
    }

    pub(super) fn at(&self) -> At {
        locked(&self.stage).clone()
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(*locked(&self.stage), At::Whole(_))
    }

    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        locked(&self.turn)
    }

    pub(super) fn counts(&self) -> Counts {
        *locked(&self.counts)
    }

    pub(super) fn counted(&self, source: Source, bytes: u64) {
        locked(&self.counts).add(source, bytes);
    }

    fn whole_set(&self, checked: PieceSet, pieces: u32) {
        let whole = Whole { tree: Mutex::default(), checked: Mutex::new(checked) };
        *locked(&self.stage) = At::Whole(Arc::new(whole));
        self.progress.send_replace(Progress { pieces, bytes: self.length, stage: Stage::Whole });
    }

    pub(super) fn filling_set(&self) {
        *locked(&self.stage) = At::Filling;
        self.progress.send_replace(Progress { pieces: 0, bytes: 0, stage: Stage::Arriving });
    }

    /// Nothing more comes for now: readers end. What is on disk stays.
    pub(super) fn dormant_set(&self, why: &str) {
        // Said while nobody can look: whoever fails to read because of it finds out why.
        let mut stage = locked(&self.stage);
        self.progress.send_modify(|progress| progress.stage = Stage::GivenUp(why.into()));
        *stage = At::Dormant;
    }

    /// Notes a use, in memory and for the next process.
    pub(super) fn touch(&self, folders: &Folders, order: u64) {
        self.used.store(order, Ordering::Relaxed);
        let kind = if self.is_whole() { Kind::Blob } else { Kind::Part };
        // What cannot be noted is forgotten with this process, and no more.
        let _ = File::open(folders.file(kind, &self.digest)).and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Takes up what is on disk, verifying each piece again, or begins with nothing. The caller has the turn.
    pub(super) fn begin(&self, folders: &Folders, tree: PieceTree) -> Result<(), StoreError> {
        let (part, journal) = (folders.file(Kind::Part, &self.digest), folders.file(Kind::Journal, &self.digest));
        replace(&folders.file(Kind::Tree, &self.digest), &tree_file(&tree))?;
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&part)
            .map_err(StoreError::io("open", &part))?;
        file.set_len(self.length).map_err(StoreError::io("lengthen", &part))?;
        let layout = tree.layout();
        let mut pieces = PieceSet::empty(layout.pieces());
        for piece in journal::claimed(&journal, layout.pieces())? {
            if tree.verifies(piece, &piece_of(&file, layout, piece).map_err(StoreError::io("read", &part))?) {
                pieces.insert(piece);
            }
        }
        let journal = Journal::begin(&journal, &pieces)?;
        let (count, bytes) = (pieces.count(), bytes_of(layout, &pieces));
        locked(&self.counts).disk = bytes;
        let arriving = Arc::new(Arriving { tree: Arc::new(tree), file, journal, pieces: Mutex::new(pieces) });
        *locked(&self.stage) = At::Arriving(arriving.clone());
        self.progress.send_replace(Progress { pieces: count, bytes, stage: Stage::Arriving });
        if locked(&arriving.pieces).is_full() { self.finish(folders, &arriving) } else { Ok(()) }
    }

    /// Verifies a piece, then keeps it; gives whether the disk is to be waited for.
    pub(super) fn piece_keep(
        &self,
        folders: &Folders,
        piece: u32,
        bytes: &[u8],
        source: Source,
    ) -> Result<(PieceKept, Option<Arc<Arriving>>), StoreError> {
        let arriving = match self.at() {
            At::Arriving(arriving) => arriving,
            At::Whole(_) => return Ok((PieceKept::Already, None)),
            At::Dormant | At::Filling => return Err(StoreError::NotFound { digest: self.digest }),
        };
        if locked(&arriving.pieces).contains(piece) {
            return Ok((PieceKept::Already, None));
        }
        if !arriving.tree.verifies(piece, bytes) {
            return Ok((PieceKept::Wrong, None));
        }
        let (start, length) = (arriving.tree.layout().range(piece).map_or(0, |range| range.start), bytes.len() as u64);
        let failed = |error| StoreError::io("write", folders.file(Kind::Part, &self.digest))(error);
        arriving.file.write_all_at(bytes, start).map_err(failed)?;
        let is_due = arriving.journal.append(piece, length).map_err(failed)?;
        let (is_new, is_full) = {
            let mut pieces = locked(&arriving.pieces);
            (pieces.insert(piece), pieces.is_full())
        };
        let due = is_due.then(|| Arc::clone(&arriving));
        if !is_new {
            return Ok((PieceKept::Already, due));
        }
        self.counted(source, length);
        self.progress.send_modify(|progress| {
            progress.pieces += 1;
            progress.bytes += length;
        });
        Ok((if is_full { PieceKept::Last } else { PieceKept::Kept }, due))
    }

    /// Has what came so far on disk, one at a time. What the disk does not take is not asked for again: it may say then that
    /// it has it.
    pub(super) fn sync(&self, arriving: &Arc<Arriving>) {
        if let Err(error) = arriving.journal.sync(&arriving.file) {
            tracing::error!(digest = %self.digest, %error, "pieces could not be had on disk");
            self.arriving_end(arriving, &format!("the disk failed: {error}"));
        }
    }

    /// Gives up what is arriving, unless it became whole, or was begun again, meanwhile.
    pub(super) fn arriving_end(&self, arriving: &Arc<Arriving>, why: &str) {
        let _turn = self.turn();
        if matches!(self.at(), At::Arriving(now) if Arc::ptr_eq(&now, arriving)) {
            self.dormant_set(why);
        }
    }

    /// Whether all pieces are there, and it is not whole yet.
    pub(super) fn is_full(&self) -> bool {
        matches!(self.at(), At::Arriving(arriving) if locked(&arriving.pieces).is_full())
    }

    /// Makes a blob whole whose pieces are all there; one that is whole stays so.
    pub(super) fn finish_full(&self, folders: &Folders) -> Result<(), StoreError> {
        let _turn = self.turn();
        match self.at() {
            At::Whole(_) => Ok(()),
            At::Arriving(arriving) if locked(&arriving.pieces).is_full() => self.finish(folders, &arriving),
            At::Arriving(_) | At::Dormant | At::Filling => Err(StoreError::NotFound { digest: self.digest }),
        }
    }

    /// The whole digest, always; then bytes, tree, and last the name that says that they are right. The caller has the turn.
    fn finish(&self, folders: &Folders, arriving: &Arriving) -> Result<(), StoreError> {
        let part = folders.file(Kind::Part, &self.digest);
        let found = digest_of(&arriving.file, &self.digest).map_err(StoreError::io("read", &part))?;
        if found != self.digest {
            folders.trash_file(Kind::Part, &self.digest)?;
            folders.remove(Kind::Journal, &self.digest)?;
            folders.remove(Kind::Tree, &self.digest)?;
            self.dormant_set("its bytes were not those of its digest");
            return Err(StoreError::DigestMismatch { digest: self.digest, found: Box::new(found) });
        }
        if let Err(error) = arriving.journal.sync(&arriving.file) {
            self.dormant_set(&format!("the disk failed: {error}"));
            return Err(StoreError::io("sync", &part)(error));
        }
        self.name_whole(folders, Kind::Part)?;
        folders.remove(Kind::Journal, &self.digest)?;
        let pieces = arriving.tree.layout().pieces();
        self.whole_set(PieceSet::full(pieces), pieces);
        Ok(())
    }

    /// Gives a synced file its name as a blob. The tree comes first: without it nothing could be verified again.
    fn name_whole(&self, folders: &Folders, from: Kind) -> Result<(), StoreError> {
        let (path, blob) = (folders.file(from, &self.digest), folders.file(Kind::Blob, &self.digest));
        let tree = folders.file(Kind::Tree, &self.digest);
        File::open(&tree).and_then(|tree| tree.sync_all()).map_err(StoreError::io("sync", &tree))?;
        folders.sync_folder(Kind::Tree)?;
        std::fs::rename(&path, &blob).map_err(StoreError::io("rename", &path))?;
        folders.sync_folder(Kind::Blob).inspect_err(|_error| {
            // Not acknowledged, so it is not there.
            let _ = std::fs::rename(&blob, &path);
        })
    }

    /// Makes a blob of a file that came in one run and was hashed on its way.
    pub(super) fn fill_finish(&self, folders: &Folders, file: &File, tree: &PieceTree) -> Result<(), StoreError> {
        let path = folders.file(Kind::Fill, &self.digest);
        replace(&folders.file(Kind::Tree, &self.digest), &tree_file(tree))?;
        file.sync_all().map_err(StoreError::io("sync", &path))?;
        self.name_whole(folders, Kind::Fill)?;
        let pieces = tree.layout().pieces();
        self.whole_set(PieceSet::full(pieces), pieces);
        Ok(())
    }

    /// The tree of a blob that is arriving or there.
    pub(super) fn tree(&self, folders: &Folders) -> Result<Arc<PieceTree>, StoreError> {
        match self.at() {
            At::Arriving(arriving) => Ok(arriving.tree.clone()),
            At::Whole(whole) => {
                let mut kept = locked(&whole.tree);
                if let Some(tree) = kept.upgrade() {
                    return Ok(tree);
                }
                let tree = tree_load(folders, &self.digest)?.ok_or(StoreError::NotFound { digest: self.digest })?;
                let tree = Arc::new(tree);
                *kept = Arc::downgrade(&tree);
                Ok(tree)
            }
            At::Dormant | At::Filling => Err(StoreError::NotFound { digest: self.digest }),
        }
    }

    /// The pieces that can be read.
    pub(super) fn pieces(&self) -> Option<PieceSet> {
        match self.at() {
            At::Arriving(arriving) => Some(locked(&arriving.pieces).clone()),
            At::Whole(whole) => Some(PieceSet::full(locked(&whole.checked).pieces())),
            At::Dormant | At::Filling => None,
        }
    }

    /// Pieces one after the other from `first` on, as many as are there and fit into `bytes_max`, at least one. What this
    /// process has not seen right is verified before it is given.
    pub(super) fn run_read(&self, folders: &Folders, first: u32, bytes_max: usize) -> Result<Bytes, StoreError> {
        let missing = StoreError::PieceMissing { digest: self.digest, piece: first };
        let (file, set, layout) = match self.at() {
            At::Arriving(arriving) => {
                let set = locked(&arriving.pieces).clone();
                let part = folders.file(Kind::Part, &self.digest);
                let file = arriving.file.try_clone().map_err(StoreError::io("open", part))?;
                (file, set, arriving.tree.layout())
            }
            At::Whole(_) => {
                let layout = Layout::of(self.length)?;
                (self.open(folders)?, PieceSet::full(layout.pieces()), layout)
            }
            At::Dormant | At::Filling => return Err(missing),
        };
        let mut end = first;
        let mut length = 0;
        while set.contains(end)
            && let Some(bytes) = layout.bytes_of(end)
            && (end == first || length + bytes as usize <= bytes_max)
        {
            length += bytes as usize;
            end += 1;
        }
        let Some(range) = layout.range(first).filter(|_| end > first) else { return Err(missing) };
        let mut bytes = vec![0; length];
        let read = file.read_exact_at(&mut bytes, range.start);
        read.map_err(StoreError::io("read", folders.file(Kind::Blob, &self.digest)))?;
        self.check(folders, first..end, &bytes)?;
        Ok(bytes.into())
    }

    /// Verifies pieces that were read from a whole blob and not seen right before.
    fn check(&self, folders: &Folders, run: std::ops::Range<u32>, bytes: &[u8]) -> Result<(), StoreError> {
        let At::Whole(whole) = self.at() else { return Ok(()) };
        let unchecked: Vec<u32> = {
            let checked = locked(&whole.checked);
            run.clone().filter(|piece| !checked.contains(*piece)).collect()
        };
        if unchecked.is_empty() {
            return Ok(());
        }
        let tree = self.tree(folders)?;
        let layout = tree.layout();
        let base = layout.range(run.start).map_or(0, |range| range.start);
        for piece in unchecked {
            let range = layout.range(piece).map_or(0..0, |range| range.start - base..range.end - base);
            let place = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
            let found = place.and_then(|(start, end)| bytes.get(start..end));
            let is_right = found.is_some_and(|found| tree.verifies(piece, found));
            if !is_right {
                self.take_back(folders, &whole, layout, piece)?;
                return Err(StoreError::Damaged { digest: self.digest, piece });
            }
            locked(&whole.checked).insert(piece);
        }
        Ok(())
    }

    /// A blob that has a wrong piece is none: it becomes one that lacks it. Whoever begins it again verifies the others.
    fn take_back(&self, folders: &Folders, whole: &Arc<Whole>, layout: Layout, wrong: u32) -> Result<(), StoreError> {
        let _turn = self.turn();
        match self.at() {
            At::Whole(current) if Arc::ptr_eq(&current, whole) => {}
            _ => return Ok(()),
        }
        let (blob, part) = (folders.file(Kind::Blob, &self.digest), folders.file(Kind::Part, &self.digest));
        let mut claimed = PieceSet::full(layout.pieces());
        claimed.remove(wrong);
        Journal::begin(&folders.file(Kind::Journal, &self.digest), &claimed)?;
        std::fs::rename(&blob, part).map_err(StoreError::io("rename", &blob))?;
        tracing::warn!(digest = %self.digest, piece = wrong, "a blob is damaged on this disk; what is wrong is fetched again");
        self.dormant_set("it is damaged on this disk");
        Ok(())
    }

    /// The file of a whole blob.
    pub(super) fn open(&self, folders: &Folders) -> Result<File, StoreError> {
        let path = folders.file(Kind::Blob, &self.digest);
        File::open(&path).map_err(StoreError::io("open", path))
    }
}

fn bytes_of(layout: Layout, pieces: &PieceSet) -> u64 {
    pieces.iter().filter_map(|piece| layout.bytes_of(piece)).map(u64::from).sum()
}

fn piece_of(file: &File, layout: Layout, piece: u32) -> io::Result<Vec<u8>> {
    let range = layout.range(piece).unwrap_or(0..0);
    let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
}

fn digest_of(file: &File, expected: &Digest) -> io::Result<Digest> {
    let mut hasher = expected.hasher();
    let mut buffer = vec![0; READ_BYTES];
    let mut at = 0;
    loop {
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => {
                hasher.update(buffer.get(..read).unwrap_or_default());
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A tree as a file: the blob's length, the root, the leaves.
fn tree_file(tree: &PieceTree) -> Vec<u8> {
    [tree.layout().length().to_le_bytes().as_slice(), &tree.root().0, &tree.to_bytes()].concat()
}

/// The tree kept beside a blob; none when it is not there, or is not what was written.
pub(super) fn tree_load(folders: &Folders, digest: &Digest) -> Result<Option<PieceTree>, StoreError> {
    let path = folders.file(Kind::Tree, digest);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("open", path)(error)),
    };
    let mut read = || -> io::Result<Option<PieceTree>> {
        let (mut length, mut root) = ([0; 8], [0; crate::piece::HASH_BYTES]);
        file.read_exact(&mut length)?;
        file.read_exact(&mut root)?;
        let Ok(layout) = Layout::of(u64::from_le_bytes(length)) else { return Ok(None) };
        let leaves_max = u64::from(layout.pieces() + 1) * crate::piece::HASH_BYTES as u64;
        let mut leaves = Vec::new();
        (&file).take(leaves_max).read_to_end(&mut leaves)?;
        Ok(PieceTree::from_bytes(layout, crate::piece::Root(root), &leaves).ok())
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        result => result.map_err(StoreError::io("read", path)),
    }
}
