//! A thread that looks at the disk: it reads the kernel's events, looks where they point, and tells what is there.
//!
//! Folders are watched before they are read, so that nothing falls between. When the kernel's queue overflows, or it watches
//! no more folders, whole folders are looked at again: what is told is always what is there, never what happened.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::WatchError;
use super::rule::Filter;
use super::stamp::Stamp;

/// Files and folders below all watched paths at most, without what is left out: more are a mistake in a pattern.
pub const PATHS_MAX: usize = 1_000_000;
/// Lists of sights that may wait to be taken in; the kernel keeps what comes meanwhile.
const LISTS_WAITING_MAX: usize = 64;
/// Names in one list, about.
const LIST_NAMES: usize = 4096;
/// Bytes of the kernel's events read at once.
const EVENTS_BYTES: usize = 64 * 1024;
/// Without the kernel's events, all is looked at again this often, or four times as slowly as that takes.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often a thread that waits sees whether it is still wanted.
const WANTED_EVERY: Duration = Duration::from_millis(100);

/// Names in a folder, and what each is.
pub(super) type Names = Vec<(Box<[u8]>, Stamp)>;

/// What is told of the disk.
#[derive(Debug)]
pub(super) enum Seen {
    /// At this path there is this.
    Path(Vec<u8>, Stamp),
    /// In this folder there are these names and nothing else.
    Folder(Vec<u8>, Names),
    /// All that happened before this mark was made has been told, but for folders that are told next because what is in
    /// them may be later; nothing that happened after it has been told, but as unsure.
    Mark(u64),
    /// All was looked at for the first time.
    Ready,
    /// Something that a person should know.
    Notice(String),
    /// It cannot go on.
    Failed(WatchError),
}

/// What is to be looked at.
#[derive(Debug)]
pub(super) struct Scope {
    /// Folders that looking begins with. They must stay.
    pub(super) anchors: Vec<PathBuf>,
    /// Each rule's path and filter.
    pub(super) rules: Vec<(PathBuf, Filter)>,
    /// A folder where files named by numbers are marks: the kernel tells of them in order with everything else.
    pub(super) marks: PathBuf,
}

/// The part of a path below another; empty for the same.
pub(super) fn below<'p>(path: &'p [u8], of: &[u8]) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(of)?;
    match rest.split_first() {
        None => Some(rest),
        Some((b'/', rest)) => Some(rest),
        _ if of == b"/" => Some(rest),
        _ => None,
    }
}

/// A path in a folder.
pub(super) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder == b"/" { [folder, name].concat() } else { [folder, b"/", name].concat() }
}

impl Scope {
    /// Whether a path is a rule's, in one, or on the way to one.
    fn concerns(&self, path: &[u8]) -> bool {
        self.rules.iter().any(|(rule, _)| {
            let rule = rule.as_os_str().as_bytes();
            below(path, rule).is_some() || below(rule, path).is_some()
        })
    }

    /// Whether a folder is in a rule's path, or that path itself.
    fn is_within(&self, folder: &[u8]) -> bool {
        self.rules.iter().any(|(rule, _)| below(folder, rule.as_os_str().as_bytes()).is_some())
    }

    /// Whether something in this folder can be meant.
    fn descends(&mut self, folder: &[u8]) -> bool {
        self.rules.iter_mut().any(|(rule, filter)| {
            let rule = rule.as_os_str().as_bytes();
            below(rule, folder).is_some()
                || below(folder, rule).is_some_and(|path| filter.descends(&String::from_utf8_lossy(path)))
        })
    }
}

/// Holds the thread; dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Eyes {
    unwanted: Arc<AtomicBool>,
    inotify: Option<Arc<OwnedFd>>,
    /// A watch whose removal is an event, and wakes the thread.
    anchor: Arc<AtomicI32>,
}

impl Drop for Eyes {
    fn drop(&mut self) {
        self.unwanted.store(true, Ordering::Release);
        if let Some(inotify) = &self.inotify {
            // Without a watch there is no thread that waits for one.
            let _none = inotify::remove_watch(&**inotify, self.anchor.load(Ordering::Acquire));
        }
    }
}

struct Thread {
    scope: Scope,
    out: mpsc::Sender<Vec<Seen>>,
    list: Vec<Seen>,
    list_names: usize,
    unwanted: Arc<AtomicBool>,
    anchor: Arc<AtomicI32>,
    /// `None` while the kernel tells nothing.
    inotify: Option<Arc<OwnedFd>>,
    watches: HashMap<i32, Vec<u8>>,
    folders: BTreeMap<Vec<u8>, i32>,
    marks: Option<i32>,
    paths: usize,
}

/// What the kernel told of a path.
#[derive(Default)]
struct News {
    /// It may be another folder than before.
    is_new: bool,
    /// Something happened to it after a mark of the same round, when this was there.
    at_mark: Option<Stamp>,
}

/// The thread ends: nobody listens, or it cannot go on and has said so.
struct Over;

/// Begins to look. The receiver gets everything there is, then [`Seen::Ready`], then what changes.
pub(super) fn open(scope: Scope) -> std::io::Result<(Eyes, mpsc::Receiver<Vec<Seen>>)> {
    let (out, receiver) = mpsc::channel(LISTS_WAITING_MAX);
    let (mut thread, refused) = Thread::new(scope, out);
    let eyes = Eyes {
        unwanted: Arc::clone(&thread.unwanted),
        inotify: thread.inotify.clone(),
        anchor: Arc::clone(&thread.anchor),
    };
    std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
        if let Some(error) = refused {
            thread.notice(no_instance(error));
        }
        // However it ends, the receiver finds the channel closed.
        let Err(Over) = thread.run();
    })?;
    Ok((eyes, receiver))
}

fn no_instance(error: Errno) -> String {
    format!(
        "the kernel tells of no changes ({error}), so all is looked at every {} s; raise fs.inotify.max_user_instances: \
         `sudo sysctl fs.inotify.max_user_instances=1024`",
        LOOK_EVERY.as_secs()
    )
}

fn no_watches(folders: usize) -> String {
    format!(
        "the kernel watches no more than {folders} folders for this user, so all is looked at every {} s; raise \
         fs.inotify.max_user_watches: `sudo sysctl fs.inotify.max_user_watches=524288`",
        LOOK_EVERY.as_secs()
    )
}

impl Thread {
    /// The thread, and why the kernel tells it nothing, if so.
    fn new(scope: Scope, out: mpsc::Sender<Vec<Seen>>) -> (Self, Option<Errno>) {
        let (inotify, refused) = match inotify::init(CreateFlags::CLOEXEC) {
            Ok(inotify) => (Some(Arc::new(inotify)), None),
            Err(error) => (None, Some(error)),
        };
        let thread = Self {
            scope,
            out,
            list: Vec::new(),
            list_names: 0,
            unwanted: Arc::new(AtomicBool::new(false)),
            anchor: Arc::new(AtomicI32::new(-1)),
            inotify,
            watches: HashMap::new(),
            folders: BTreeMap::new(),
            marks: None,
            paths: 0,
        };
        (thread, refused)
    }

    /// Looks at everything for the first time.
    fn begin(&mut self) -> Result<Duration, Over> {
        if let Some(inotify) = &self.inotify {
            // Without it, marks are found by looking.
            self.marks = inotify::add_watch(&**inotify, &self.scope.marks, WatchFlags::CREATE).ok();
        }
        let took = self.scan_all()?;
        self.list.push(Seen::Ready);
        self.flush()?;
        Ok(took)
    }

    fn run(&mut self) -> Result<std::convert::Infallible, Over> {
        let mut took = self.begin()?;
        loop {
            if let Some(inotify) = self.inotify.clone() {
                self.follow(&inotify)?;
            }
            let wait = LOOK_EVERY.max(took * 4);
            let begin = Instant::now();
            while begin.elapsed() < wait {
                if self.unwanted.load(Ordering::Acquire) || self.out.is_closed() {
                    return Err(Over);
                }
                std::thread::sleep(WANTED_EVERY);
            }
            took = self.scan_all()?;
            self.flush()?;
        }
    }

    /// Follows the kernel's events until it watches no more folders.
    fn follow(&mut self, inotify: &Arc<OwnedFd>) -> Result<(), Over> {
        let mut buffer = [MaybeUninit::uninit(); EVENTS_BYTES];
        let mut reader = inotify::Reader::new(&**inotify, &mut buffer);
        while self.inotify.is_some() {
            self.round(inotify, &mut reader)?;
            self.flush()?;
        }
        Ok(())
    }

    /// Waits for events, and looks where they point.
    fn round(&mut self, inotify: &Arc<OwnedFd>, reader: &mut inotify::Reader<'_, &OwnedFd>) -> Result<(), Over> {
        let mut lost = false;
        let mut news: BTreeMap<Vec<u8>, News> = BTreeMap::new();
        let mut marks = Vec::new();
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => lost = true,
                Ok(event) if Some(event.wd()) == self.marks => {
                    marks.extend(event.file_name().and_then(|name| name.to_str().ok()?.parse::<u64>().ok()));
                }
                Ok(event) => self.event(&event, inotify, !marks.is_empty(), &mut news)?,
                Err(Errno::INTR) => {}
                Err(error) => return self.fail(WatchError::Kernel(error.into())),
            }
            if reader.is_buffer_empty() {
                break;
            }
        }
        if self.unwanted.load(Ordering::Acquire) {
            return Err(Over);
        }
        if lost {
            return self.scan_all().map(drop);
        }
        // A look shows what is there now. For what came after a mark that is more than was there at the mark.
        let (before, after): (Vec<_>, Vec<_>) = news.into_iter().partition(|(path, news)| {
            let may_hold_later = news.is_new && Path::new(OsStr::from_bytes(path)).is_dir();
            marks.is_empty() || !(news.at_mark.is_some() || may_hold_later)
        });
        for (path, news) in before {
            self.look(&path, news.is_new)?;
        }
        for (path, news) in after.iter().filter(|(path, _)| !self.folders.contains_key(path)) {
            // It may have been looked at since the mark was made, so that the next look shows nothing new.
            self.list.push(Seen::Path(path.clone(), news.at_mark.unwrap_or(Stamp::UNSURE)));
        }
        self.list.extend(marks.into_iter().map(Seen::Mark));
        for (path, news) in after {
            self.look(&path, news.is_new)?;
        }
        Ok(())
    }

    fn event(
        &mut self,
        event: &inotify::Event<'_>,
        inotify: &OwnedFd,
        is_after_mark: bool,
        news: &mut BTreeMap<Vec<u8>, News>,
    ) -> Result<(), Over> {
        let flags = event.events();
        if flags.contains(ReadFlags::IGNORED) {
            if let Some(folder) = self.watches.remove(&event.wd())
                && self.folders.get(&folder) == Some(&event.wd())
            {
                self.folders.remove(&folder);
            }
            return Ok(());
        }
        let Some(folder) = self.watches.get(&event.wd()) else { return Ok(()) };
        let Some(name) = event.file_name() else {
            // Everything but an anchor is told of by the folder that it is in.
            let moved = flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF);
            let anchor = self.scope.anchors.iter().find(|anchor| anchor.as_os_str().as_bytes() == folder);
            return match anchor.filter(|anchor| moved && !anchor.is_dir()).cloned() {
                Some(path) => self.fail(WatchError::Gone { path }),
                None => Ok(()),
            };
        };
        let path = join(folder, name.to_bytes());
        if !self.scope.concerns(&path) {
            return Ok(());
        }
        if flags.contains(ReadFlags::MOVED_FROM) && flags.contains(ReadFlags::ISDIR) {
            self.unwatch(&path, inotify);
        }
        let news = news.entry(path).or_default();
        news.is_new |= flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
        if is_after_mark && news.at_mark.is_none() {
            // What is made was not there.
            let is_made = flags.contains(ReadFlags::CREATE);
            news.at_mark = Some(if is_made { Stamp::NONE } else { Stamp::UNSURE });
        }
        Ok(())
    }

    /// Looks at one path.
    fn look(&mut self, path: &[u8], is_new: bool) -> Result<(), Over> {
        let stamp = match CString::new(path).map(|name| statat(CWD, &name, AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(Ok(stat)) => Stamp::of(&stat).unwrap_or(Stamp::NONE),
            Ok(Err(Errno::NOENT | Errno::NOTDIR)) | Err(_) => Stamp::NONE,
            Ok(Err(error)) => {
                self.notice(unreadable(path, error));
                return Ok(());
            }
        };
        let watched = self.folders.contains_key(path);
        if watched
            && !stamp.is_folder()
            && let Some(inotify) = self.inotify.clone()
        {
            self.unwatch(path, &inotify);
        }
        self.say(Seen::Path(path.to_vec(), stamp), 1)?;
        if stamp.is_folder() && (is_new || !watched) && self.scope.descends(path) {
            self.scan(path.to_vec())?;
        }
        Ok(())
    }

    fn scan_all(&mut self) -> Result<Duration, Over> {
        let begin = Instant::now();
        self.paths = 0;
        let marks: Vec<u64> = std::fs::read_dir(&self.scope.marks)
            .map(|names| names.filter_map(|name| name.ok()?.file_name().to_str()?.parse().ok()).collect())
            .unwrap_or_default();
        // What is found from here on may have come after them.
        self.list.extend(marks.into_iter().map(Seen::Mark));
        for anchor in self.scope.anchors.clone() {
            if !anchor.is_dir() {
                return self.fail(WatchError::Gone { path: anchor });
            }
            let folder = anchor.as_os_str().as_bytes().to_vec();
            let place = self.scan(folder.clone());
            if let Some(watch) = self.folders.get(&folder) {
                self.anchor.store(*watch, Ordering::Release);
            }
            place?;
        }
        Ok(begin.elapsed())
    }

    /// Looks at a folder and all below it that can be meant.
    fn scan(&mut self, folder: Vec<u8>) -> Result<(), Over> {
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            if self.unwanted.load(Ordering::Acquire) {
                return Err(Over);
            }
            self.watch(&folder);
            match self.read(&folder, &mut folders) {
                Ok(names) => {
                    self.paths += names.len();
                    if self.paths > PATHS_MAX {
                        return self.fail(WatchError::TooMany);
                    }
                    let count = names.len();
                    self.say(Seen::Folder(folder, names), count)?;
                }
                // Whoever removed it is told of by the folder that it was in.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => self.notice(unreadable(&folder, error)),
            }
        }
        Ok(())
    }

    fn read(&mut self, folder: &[u8], folders: &mut Vec<Vec<u8>>) -> Result<Names, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::RDONLY;
        let open = openat(CWD, OsStr::from_bytes(folder), flags, Mode::empty())?;
        let is_within = self.scope.is_within(folder);
        let mut names = Vec::new();
        for entry in Dir::read_from(&open)? {
            let entry = entry?;
            let name = entry.file_name();
            let bytes = name.to_bytes();
            let kind = entry.file_type();
            let special =
                !matches!(kind, FileType::RegularFile | FileType::Directory | FileType::Symlink | FileType::Unknown);
            if special || bytes == b"." || bytes == b".." {
                continue;
            }
            let path =
                (!is_within || matches!(kind, FileType::Directory | FileType::Unknown)).then(|| join(folder, bytes));
            if !is_within && path.as_deref().is_some_and(|path| !self.scope.concerns(path)) {
                continue;
            }
            let stamp = match statat(&open, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Stamp::of(&stat),
                Err(Errno::NOENT) => None,
                Err(error) => return Err(error),
            };
            let Some(stamp) = stamp else { continue };
            if let Some(path) = path.filter(|path| stamp.is_folder() && self.scope.descends(path)) {
                folders.push(path);
            }
            names.push((Box::from(bytes), stamp));
        }
        Ok(names)
    }

    fn watch(&mut self, folder: &[u8]) {
        let Some(inotify) = self.inotify.clone() else { return };
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW
            | WatchFlags::EXCL_UNLINK;
        match inotify::add_watch(&*inotify, OsStr::from_bytes(folder), flags) {
            Ok(watch) => {
                if let Some(old) = self.watches.insert(watch, folder.to_vec())
                    && old != folder
                    && self.folders.get(&old) == Some(&watch)
                {
                    self.folders.remove(&old);
                }
                self.folders.insert(folder.to_vec(), watch);
            }
            Err(Errno::NOSPC | Errno::NOMEM) => {
                self.notice(no_watches(self.folders.len()));
                for watch in self.watches.keys() {
                    // The thread goes on without any: they are another's to use.
                    let _gone = inotify::remove_watch(&*inotify, *watch);
                }
                self.watches.clear();
                self.folders.clear();
                self.marks = None;
                self.inotify = None;
            }
            // Reading it says why, or it is gone.
            Err(_) => {}
        }
    }

    /// Folders that were moved away are another's, or are found again at their new place.
    fn unwatch(&mut self, folder: &[u8], inotify: &OwnedFd) {
        let end = join(folder, b"");
        let below = self.folders.range(end.clone()..).take_while(|(path, _)| path.starts_with(&end));
        let mut gone: Vec<Vec<u8>> = below.map(|(path, _)| path.clone()).collect();
        gone.push(folder.to_vec());
        for path in gone {
            if let Some(watch) = self.folders.remove(&path) {
                self.watches.remove(&watch);
                // It is gone with its folder.
                let _gone = inotify::remove_watch(inotify, watch);
            }
        }
    }

    fn say(&mut self, seen: Seen, names: usize) -> Result<(), Over> {
        self.list.push(seen);
        self.list_names += names + 1;
        if self.list_names >= LIST_NAMES { self.flush() } else { Ok(()) }
    }

    fn notice(&mut self, text: String) {
        self.list.push(Seen::Notice(text));
    }

    fn fail<T>(&mut self, error: WatchError) -> Result<T, Over> {
        self.list.push(Seen::Failed(error));
        self.flush()?;
        Err(Over)
    }

    fn flush(&mut self) -> Result<(), Over> {
        self.list_names = 0;
        if self.list.is_empty() {
            return Ok(());
        }
        self.out.blocking_send(std::mem::take(&mut self.list)).map_err(|_closed| Over)
    }
}

fn unreadable(path: &[u8], error: Errno) -> String {
    let path = Path::new(OsStr::from_bytes(path)).display();
    format!("{path} cannot be read ({error}), and is not watched; change its rights, or ignore it")
}

#[cfg(test)]
mod tests {
    use super::super::rule::{Action, After, Rule};
    use super::*;

    /// What is told until nothing more is, with the kernel's queue filled before the thread reads it.
    fn told(before: impl Fn(&Path), after: impl Fn(&Path)) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let (source, marks) = (folder.path().join("source"), folder.path().join("marks"));
        for made in [&source, &source.join("old"), &marks] {
            std::fs::create_dir(made).unwrap();
        }
        let action = Action::Sync { target: "/srv".to_owned(), initial: false, then: After::Nothing };
        let rule = Rule { path: source.clone(), action, ignore: Vec::new(), include: Vec::new() };
        let filter = Filter::new(&rule, &source, None).unwrap();
        let scope =
            Scope { anchors: vec![source.clone()], rules: vec![(source.clone(), filter)], marks: marks.clone() };
        let (out, mut receiver) = mpsc::channel(LISTS_WAITING_MAX);
        let (mut thread, _) = Thread::new(scope, out);
        let Ok(_took) = thread.begin() else { panic!("it begins") };
        while receiver.try_recv().is_ok() {}
        before(&source);
        std::fs::write(marks.join("1"), "").unwrap();
        after(&source);
        let inotify = thread.inotify.clone().unwrap();
        let mut buffer = [MaybeUninit::uninit(); EVENTS_BYTES];
        let mut reader = inotify::Reader::new(&*inotify, &mut buffer);
        let Ok(()) = thread.round(&inotify, &mut reader) else { panic!("it goes on") };
        let name =
            |path: &[u8]| String::from_utf8_lossy(below(path, source.as_os_str().as_bytes()).unwrap()).into_owned();
        let list = thread.list.iter().map(|seen| match seen {
            Seen::Path(path, Stamp::UNSURE) => format!("{} unsure", name(path)),
            Seen::Path(path, Stamp::NONE) => format!("no {}", name(path)),
            Seen::Path(path, _) => name(path),
            Seen::Folder(path, names) => format!("{}/ {}", name(path), names.len()),
            Seen::Mark(mark) => format!("mark {mark}"),
            other => panic!("{other:?}"),
        });
        list.collect()
    }

    #[test]
    fn what_comes_after_a_mark_is_not_taken_for_what_was_there() {
        let write = |name: &'static str| move |source: &Path| std::fs::write(source.join(name), "x").unwrap();
        assert_eq!(told(write("a"), |_| {}), ["a", "mark 1"]);
        assert_eq!(told(|_| {}, write("a")), ["no a", "mark 1", "a"]);
        assert_eq!(told(write("a"), write("a")), ["a unsure", "mark 1", "a"]);
        assert_eq!(told(write("a"), write("b")), ["a", "no b", "mark 1", "b"]);
        // Nobody knows which of what is in a new folder came before the mark.
        let folder = |source: &Path| std::fs::create_dir(source.join("new")).unwrap();
        assert_eq!(told(folder, write("new/b")), ["new unsure", "mark 1", "new", "new/ 1"]);
        // What is below a folder that stays is not unsure with it.
        let rights = |source: &Path| {
            let rights = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            std::fs::set_permissions(source.join("old"), rights).unwrap();
        };
        assert_eq!(told(|_| {}, rights), ["mark 1", "old"]);
    }
}
