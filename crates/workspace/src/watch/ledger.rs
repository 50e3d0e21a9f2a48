//! What one rule knows of each path: what the source has, what the target has, and so what is to be done. Pure.
//!
//! Invariants: a path is pending exactly while source and target differ; where there is no folder there is nothing below it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::stamp::Stamp;

/// A path below a rule's own, `/` between its parts, in whatever bytes the file system has.
pub(super) type Below = Box<[u8]>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// What was last seen on disk.
    source: Stamp,
    /// What the target has of it.
    target: Stamp,
    /// What the source had when the present image was built: a new container of it begins with this.
    image: Stamp,
    /// What the source had when the build that is under way began.
    building: Stamp,
}

const NOTHING: Entry = Entry { source: Stamp::NONE, target: Stamp::NONE, image: Stamp::NONE, building: Stamp::NONE };

/// What is to be done to make the target equal to the source.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Paths to copy, folders before what is in them.
    pub(super) put: Vec<(Below, Stamp)>,
    /// Paths to remove, each with all below it.
    pub(super) remove: Vec<Below>,
    /// Whether the processes in the target could tell: not so for what is copied onto the same content.
    pub(super) matters: bool,
}

/// One line of what is kept: a path's stamps in the target and in the image.
pub(super) type Line = (Below, Stamp, Stamp);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: BTreeMap<Below, Entry>,
    pending: BTreeSet<Below>,
    /// A build is reading the source: of what changes meanwhile nobody knows which state the image gets.
    is_building: bool,
}

/// Everything below a folder; everything, for the rule's own path.
fn below(folder: &[u8]) -> (Bound<Below>, Bound<Below>) {
    if folder.is_empty() {
        // The empty path is the rule's own.
        return (Bound::Excluded(Box::default()), Bound::Unbounded);
    }
    let with = |byte: u8| [folder, &[byte]].concat().into_boxed_slice();
    (Bound::Excluded(with(b'/')), Bound::Excluded(with(b'/' + 1)))
}

impl Ledger {
    /// From what was kept.
    pub(super) fn load(lines: impl Iterator<Item = Line>) -> Self {
        let mut ledger = Self::default();
        for (path, target, image) in lines {
            ledger.change(&path, |entry| (entry.target, entry.image) = (target, image));
        }
        ledger
    }

    /// What must be kept of it.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&[u8], Stamp, Stamp)> {
        let kept = self.entries.iter().filter(|(_, entry)| entry.target.is_some() || entry.image.is_some());
        kept.map(|(path, entry)| (path.as_ref(), entry.target, entry.image))
    }

    /// What must be kept of one path.
    pub(super) fn line(&self, path: &[u8]) -> (Stamp, Stamp) {
        let entry = self.entries.get(path).unwrap_or(&NOTHING);
        (entry.target, entry.image)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    fn change(&mut self, path: &[u8], change: impl FnOnce(&mut Entry)) {
        let mut entry = self.entries.get(path).copied().unwrap_or(NOTHING);
        change(&mut entry);
        if entry.source == entry.target {
            self.pending.remove(path);
        } else {
            self.pending.insert(path.into());
        }
        match self.entries.get_mut(path) {
            _ if entry == NOTHING => {
                self.entries.remove(path);
            }
            Some(old) => *old = entry,
            None => {
                self.entries.insert(path.into(), entry);
            }
        }
    }

    fn source(&self, path: &[u8]) -> Stamp {
        self.entries.get(path).map_or(Stamp::NONE, |entry| entry.source)
    }

    /// A look found this at a path. Says whether that is news.
    pub(super) fn look(&mut self, path: &[u8], stamp: Stamp) -> bool {
        let (mut news, is_building) = (false, self.is_building);
        if !stamp.is_folder() {
            let range = self.entries.range(below(path)).filter(|(_, entry)| entry.source.is_some());
            let gone: Vec<Below> = range.map(|(path, _)| path.clone()).collect();
            for path in gone {
                self.change(&path, |entry| {
                    entry.source = Stamp::NONE;
                    if is_building {
                        entry.building = Stamp::UNSURE;
                    }
                });
                news = true;
            }
        }
        // The target folder of a rule's own path is there by itself.
        let stamp = if path.is_empty() && stamp.is_folder() { Stamp::NONE } else { stamp };
        let changed = self.source(path) != stamp;
        // What came and went between two looks may be in the image, too.
        let is_doubtful = is_building && !path.is_empty() && (changed || stamp == Stamp::NONE);
        if is_doubtful || self.entries.contains_key(path) || stamp.is_some() {
            self.change(path, |entry| {
                entry.source = stamp;
                if is_doubtful {
                    entry.building = Stamp::UNSURE;
                }
            });
        }
        news || changed
    }

    /// A look at a whole folder found these names and nothing else. Says whether something is gone.
    pub(super) fn names(&mut self, folder: &[u8], is_there: impl Fn(&[u8]) -> bool) -> bool {
        let mut gone = Vec::new();
        let skip = if folder.is_empty() { 0 } else { folder.len() + 1 };
        let (mut from, to) = below(folder);
        while let Some((path, _)) = self.entries.range((from, to.clone())).next() {
            let rest = &path[skip..];
            let name = rest.split(|byte| *byte == b'/').next().unwrap_or(rest);
            let child = &path[..skip + name.len()];
            if !is_there(name) {
                gone.push(Below::from(child));
            }
            // Other names sort between a name and what is below it, and none within that.
            from = if path.len() == child.len() {
                Bound::Excluded(path.clone())
            } else {
                Bound::Included([child, &[b'/' + 1]].concat().into_boxed_slice())
            };
        }
        let mut news = false;
        for path in gone {
            news |= self.look(&path, Stamp::NONE);
        }
        news
    }

    /// A build begins with the source as it is.
    pub(super) fn build_begins(&mut self) {
        self.is_building = true;
        self.change_all(|entry| entry.building = entry.source);
    }

    /// The image is that of the build that began last.
    pub(super) fn image_is_built(&mut self) {
        self.is_building = false;
        self.change_all(|entry| (entry.image, entry.building) = (entry.building, Stamp::NONE));
    }

    /// The image was built from the source as it is.
    pub(super) fn image_is_source(&mut self) {
        self.is_building = false;
        self.change_all(|entry| (entry.image, entry.building) = (entry.source, Stamp::NONE));
    }

    /// The target is what the image made it.
    pub(super) fn target_is_image(&mut self) {
        self.change_all(|entry| entry.target = entry.image);
    }

    /// The target is what the image made it, and gets everything all the same.
    pub(super) fn target_is_image_to_be_copied(&mut self) {
        self.change_all(|entry| {
            entry.target = if entry.image.is_some() { Stamp::IMAGE } else { Stamp::NONE };
        });
    }

    /// The target is what the source is.
    pub(super) fn target_is_source(&mut self) {
        self.change_all(|entry| entry.target = entry.source);
    }

    fn change_all(&mut self, change: impl Fn(&mut Entry)) {
        for entry in self.entries.values_mut() {
            change(entry);
        }
        self.entries.retain(|_, entry| *entry != NOTHING);
        let pending = self.entries.iter().filter(|(_, entry)| entry.source != entry.target);
        self.pending = pending.map(|(path, _)| path.clone()).collect();
    }

    /// Takes at most so many pending paths to work on: removals before all else, because what is copied may stand in their
    /// way. Until their end is told the target's state of them is unsure.
    pub(super) fn take(&mut self, paths_max: usize) -> Work {
        let mut work = Work::default();
        let gone = |ledger: &Self, path: &[u8]| ledger.source(path) == Stamp::NONE;
        work.remove = self.pending.iter().filter(|path| gone(self, path)).take(paths_max).cloned().collect();
        let room = paths_max - work.remove.len();
        let puts = self.pending.iter().filter(|path| !gone(self, path)).take(room);
        work.put = puts.map(|path| (path.clone(), self.source(path))).collect();
        work.matters = !work.remove.is_empty();
        for (path, stamp) in &work.put {
            let entry = self.entries.get(path).unwrap_or(&NOTHING);
            work.matters |= !(entry.target == Stamp::IMAGE && entry.image == *stamp);
        }
        for path in work.remove.iter().chain(work.put.iter().map(|(path, _)| path)) {
            self.change(path, |entry| entry.target = Stamp::UNSURE);
        }
        work
    }

    /// What is pending, to be marked with [`Ledger::done`] once something as a whole was done about it.
    pub(super) fn pending_now(&self) -> Vec<(Below, Stamp)> {
        self.pending.iter().map(|path| (path.clone(), self.source(path))).collect()
    }

    /// Work on these paths failed: perhaps what is above them in the target is not what it was thought to be.
    pub(super) fn doubt_above<'p>(&mut self, paths: impl Iterator<Item = &'p Below>) {
        let mut above = BTreeSet::new();
        for path in paths {
            let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            above.extend(slashes.map(|(place, _)| Below::from(&path[..place])));
        }
        for path in above {
            if self.entries.contains_key(&path) {
                self.change(&path, |entry| entry.target = Stamp::UNSURE);
            }
        }
    }

    /// The target has this of a path now. Says whether the source is thought to have something else.
    pub(super) fn done(&mut self, path: &[u8], stamp: Stamp) -> bool {
        self.change(path, |entry| entry.target = stamp);
        self.source(path) != stamp
    }
}
