//! The watch as a whole: looks become batches, and what containers have is kept before and after each of them.

use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::clock::Micros;
use base::folder::{FolderError, file_read};
use tokio::sync::mpsc;

use super::eyes::{self, Eyes, Scope, Seen};
use super::kept::{self, Found, Kept};
use super::ledger::Ledger;
use super::plan::{Batch, Keep, Outcome, Planner, Running, Watched};
use super::rule::{Filter, Rule, RuleError, ServiceRules};
use super::stamp::Stamp;

/// Bytes of a `.dockerignore` at most.
const IGNORE_BYTES_MAX: u64 = 1024 * 1024;

/// Lists of sights that are taken in before anything is done about them.
const LISTS_AT_ONCE: usize = 64;

/// The folder of marks in the state folder.
const MARKS: &str = "marks";

/// Where the clock begins, so that there is a time before now.
const CLOCK_BEGIN: Duration = Duration::from_secs(3600);

/// Why a watch cannot begin, or go on.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// A rule makes no sense.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// What must be kept cannot be.
    #[error(transparent)]
    Kept(#[from] FolderError),
    /// A folder that a rule begins with is not there.
    #[error("{} is not there to be watched; make it, or correct the rule's path", path.display())]
    Gone {
        /// The folder.
        path: PathBuf,
    },
    /// Below the watched paths there is more than anybody can mean.
    #[error(
        "more than {} files and folders are to be watched; leave out what need not be, with `ignore` or a .dockerignore",
        eyes::PATHS_MAX
    )]
    TooMany,
    /// The kernel's events cannot be read.
    #[error("the kernel's events cannot be read: {0}; start the watch again")]
    Kernel(std::io::Error),
}

/// What a watch has to say.
#[derive(Debug)]
pub enum WatchEvent {
    /// Work is due. Its end is told with [`Watcher::ended`].
    Batch(Batch),
    /// Something that a person should know.
    Notice(String),
}

/// Watches the rules of all services of a project. Reading [`Watcher::next`] drives it.
///
/// The order that loses nothing: start it; tell [`Watcher::build_begins`] before each build of a service's image; tell
/// [`Watcher::running`] after each change of a service's containers; carry out the batches.
#[derive(Debug)]
pub struct Watcher {
    planner: Planner,
    /// In the order of the planner's rules.
    kept: Vec<((usize, usize), Kept)>,
    seen: mpsc::Receiver<Vec<Seen>>,
    waiting: VecDeque<WatchEvent>,
    /// Containers that were told of, and the marks that they wait for: what happened before them is taken in first.
    told: VecDeque<(u64, String, Running, Duration)>,
    marks: PathBuf,
    marks_made: u64,
    origin: Instant,
    paths: usize,
    _eyes: Eyes,
}

impl Watcher {
    /// Begins to watch, and returns when everything was looked at once. `project` is the folder that most rules' paths are
    /// in; `state` is where it is kept what containers have, for this workspace alone.
    ///
    /// # Errors
    /// A rule or a pattern is wrong, a path's folder is not there, or the state cannot be read or written.
    pub async fn start(project: &Path, state: &Path, services: Vec<ServiceRules>) -> Result<Self, WatchError> {
        let project = std::fs::canonicalize(project).map_err(|_error| WatchError::Gone { path: project.to_owned() })?;
        std::fs::create_dir_all(state).map_err(io(state, "made"))?;
        let (mut planner, mut kept, mut names) = (Planner::default(), Vec::new(), Vec::new());
        let marks = state.join(MARKS);
        // Marks of a process that was killed say nothing.
        if marks.exists() {
            std::fs::remove_dir_all(&marks).map_err(io(&marks, "removed"))?;
        }
        std::fs::create_dir(&marks).map_err(io(&marks, "made"))?;
        let mut scope = Scope { anchors: Vec::new(), rules: Vec::new(), marks: marks.clone() };
        for (number, service) in services.into_iter().enumerate() {
            let ignore = match &service.build {
                Some((context, dockerfile)) => Some((canonical(context), ignore_text(context, dockerfile)?)),
                None => None,
            };
            let mut rules = Vec::new();
            for (place, rule) in service.rules.iter().enumerate() {
                rule.check(&service)?;
                let path = canonical(&rule.path);
                let build = ignore.as_ref().map(|(context, text)| (context.as_path(), text.as_str()));
                let name = kept::file_name(&service.service, rule);
                let (file, found) = Kept::open(state.join(&name))?;
                names.push(name);
                kept.push(((number, place), file));
                rules.push(watched(rule, path.clone(), build, found)?);
                let anchor = if path.starts_with(&project) { project.clone() } else { anchor_of(&path) };
                if !scope.anchors.contains(&anchor) {
                    scope.anchors.push(anchor);
                }
                scope.rules.push((path.clone(), Filter::new(rule, &path, build)?));
            }
            planner.service_add(service.service, service.build.is_some(), rules);
        }
        kept::sweep(state, &names).map_err(io(state, "read"))?;
        let (eyes, seen) = eyes::open(scope).map_err(WatchError::Kernel)?;
        let mut watcher = Self {
            planner,
            kept,
            seen,
            waiting: VecDeque::new(),
            told: VecDeque::new(),
            marks,
            marks_made: 0,
            origin: Instant::now(),
            paths: 0,
            _eyes: eyes,
        };
        while !watcher.sights().await? {}
        Ok(watcher)
    }

    /// How many files and folders the rules mean together; a path that two rules mean counts twice.
    pub fn paths(&self) -> usize {
        self.paths
    }

    /// The next thing to do or to say. May be dropped and called again at any time.
    ///
    /// # Errors
    /// It cannot go on: the project's folder is gone, or its state cannot be kept. Every further call says the same, or
    /// that the kernel's events ended.
    pub async fn next(&mut self) -> Result<WatchEvent, WatchError> {
        loop {
            // What is due follows from what was seen, so that comes first: else work on what is past is due for ever.
            for _ in 0..LISTS_AT_ONCE {
                match self.seen.try_recv() {
                    Ok(list) => drop(self.take_in(list)?),
                    // The end of the thread is told below.
                    Err(_) => break,
                }
            }
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            let (batches, next) = self.planner.due(self.now());
            self.keep()?;
            if !batches.is_empty() {
                self.waiting.extend(batches.into_iter().map(WatchEvent::Batch));
                continue;
            }
            let wait = next.map(|next| next.saturating_sub(self.now()));
            match wait {
                None => drop(self.sights().await?),
                Some(wait) => {
                    if let Ok(seen) = tokio::time::timeout(wait, self.sights()).await {
                        seen?;
                    }
                }
            }
        }
    }

    /// A build of the service's image begins now, from the source as it is.
    pub fn build_begins(&mut self, service: &str) {
        self.planner.build_begins(service);
    }

    /// These are the service's containers now, running or not; none while they are being replaced. Only with containers
    /// there is something to sync or restart.
    pub fn running(&mut self, service: &str, running: Running) {
        let now = self.now();
        let started = running.containers.values().min().copied().unwrap_or(0);
        let ago = Duration::from_micros(u64::try_from(Micros::now().0 - started).unwrap_or(0));
        let began = now.saturating_sub(ago);
        if running.containers.is_empty() {
            self.told.retain(|(_, of, ..)| of != service);
            self.planner.running(service, running, began, now);
            return;
        }
        self.marks_made += 1;
        match std::fs::File::create(self.marks.join(self.marks_made.to_string())) {
            Ok(_made) => self.told.push_back((self.marks_made, service.to_owned(), running, began)),
            // Without a mark, what is still on its way is taken for news.
            Err(_) => self.planner.running(service, running, began, now),
        }
    }

    /// All that happened before this mark was taken in.
    fn marked(&mut self, mark: u64, now: Duration) {
        while let Some((number, ..)) = self.told.front()
            && *number <= mark
            && let Some((number, service, running, began)) = self.told.pop_front()
        {
            self.planner.running(&service, running, began, now);
            // It has said what it had to say, and goes with the next start at the latest.
            let _left = std::fs::remove_file(self.marks.join(number.to_string()));
        }
    }

    /// How a batch ended. A batch that nobody tells the end of holds its service's work back.
    pub fn ended(&mut self, batch: u64, outcome: &Outcome) {
        self.planner.ended(batch, outcome, self.now());
    }

    fn now(&self) -> Duration {
        CLOCK_BEGIN + self.origin.elapsed()
    }

    /// Waits for what is seen, and takes it in; says whether the first look at everything is over.
    async fn sights(&mut self) -> Result<bool, WatchError> {
        let list = self.seen.recv().await.ok_or_else(|| WatchError::Kernel(std::io::ErrorKind::BrokenPipe.into()))?;
        self.take_in(list)
    }

    fn take_in(&mut self, list: Vec<Seen>) -> Result<bool, WatchError> {
        let (now, mut ready) = (self.now(), false);
        let mut news = Vec::new();
        for seen in list {
            match seen {
                Seen::Path(path, stamp) => {
                    for (service, rule, watched) in self.planner.rules_mut() {
                        if watched.see(&path, stamp) {
                            news.push((service, rule));
                        }
                    }
                }
                Seen::Folder(folder, names) => {
                    for (service, rule, watched) in self.planner.rules_mut() {
                        if watched.see_folder(&folder, &names) {
                            news.push((service, rule));
                        }
                    }
                }
                Seen::Mark(mark) => {
                    for (service, rule) in std::mem::take(&mut news) {
                        self.planner.changed(service, rule, now);
                    }
                    self.marked(mark, now);
                }
                Seen::Ready => ready = true,
                Seen::Notice(text) => self.waiting.push_back(WatchEvent::Notice(text)),
                Seen::Failed(error) => return Err(error),
            }
        }
        news.dedup();
        for (service, rule) in news {
            self.planner.changed(service, rule, now);
        }
        if ready {
            self.paths = self.planner.rules_mut().map(|(_, _, watched)| watched.ledger.len()).sum();
        }
        Ok(ready)
    }

    /// Writes down what must be known if this process ends now.
    fn keep(&mut self) -> Result<(), WatchError> {
        for (place, keep) in self.planner.keep_take() {
            let Some(watched) = self.planner.rule(place.0, place.1) else { continue };
            let Some((_, kept)) = self.kept.iter_mut().find(|(of, _)| *of == place) else { continue };
            let ledger = &watched.ledger;
            let running = watched.known.as_ref();
            match keep {
                Keep::Paths(paths) if !kept.is_long(ledger.len()) => {
                    let lines = paths.iter().map(|path| {
                        let (target, image) = ledger.line(path);
                        (path.as_ref(), target, image)
                    });
                    kept.add(running, lines)?;
                }
                _ => kept.replace(running, ledger.lines())?,
            }
        }
        Ok(())
    }
}

fn watched(rule: &Rule, path: PathBuf, build: Option<(&Path, &str)>, found: Found) -> Result<Watched, RuleError> {
    let mut filter = Filter::new(rule, &path, build)?;
    // What a pattern leaves out by now stays where it is.
    let lines = found.lines.into_iter().filter(|(below, ..)| filter.takes(&String::from_utf8_lossy(below)));
    let ledger = Ledger::load(lines);
    Ok(Watched { path, action: rule.action.clone(), filter, ledger, known: found.running })
}

impl Watched {
    /// A look found this at an absolute path. Says whether that is news for the rule.
    pub(super) fn see(&mut self, path: &[u8], stamp: Stamp) -> bool {
        let own = self.path.as_os_str().as_bytes();
        if let Some(below) = eyes::below(path, own) {
            return self.see_below(below, stamp);
        }
        // Something on the way to the rule's path.
        eyes::below(own, path).is_some() && !stamp.is_folder() && self.ledger.look(b"", Stamp::NONE)
    }

    fn see_below(&mut self, below: &[u8], stamp: Stamp) -> bool {
        match (self.filter.takes(&String::from_utf8_lossy(below)), stamp.is_folder()) {
            (true, _) => self.ledger.look(below, stamp),
            (false, true) => false,
            // Where there was a folder and is none, all below it is gone, whatever a pattern says of its name.
            (false, false) => self.ledger.look(below, Stamp::NONE),
        }
    }

    /// A look at a whole folder found this.
    pub(super) fn see_folder(&mut self, folder: &[u8], names: &[(Box<[u8]>, Stamp)]) -> bool {
        let own = self.path.as_os_str().as_bytes();
        let mut news = false;
        if let Some(below) = eyes::below(folder, own) {
            let there: std::collections::HashSet<&[u8]> = names.iter().map(|(name, _)| name.as_ref()).collect();
            news |= self.ledger.names(below, |name| there.contains(name));
            for (name, stamp) in names {
                let path = if below.is_empty() { name.to_vec() } else { eyes::join(below, name) };
                news |= self.see_below(&path, *stamp);
            }
        } else if let Some(rest) = eyes::below(own, folder) {
            let next = rest.split(|byte| *byte == b'/').next().unwrap_or(rest);
            let found = names.iter().find(|(name, _)| **name == *next).map_or(Stamp::NONE, |(_, stamp)| *stamp);
            let is_own = next.len() == rest.len();
            if is_own || !found.is_folder() {
                news |= self.ledger.look(b"", if is_own { found } else { Stamp::NONE });
            }
        }
        news
    }
}

/// Symbolic links on the way are followed; what is not there yet is where it will be.
fn canonical(path: &Path) -> PathBuf {
    let mut rest = Vec::new();
    let mut there = path;
    loop {
        if let Ok(found) = std::fs::canonicalize(there) {
            return rest.iter().rev().fold(found, |path, name| path.join(name));
        }
        match (there.parent(), there.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name);
                there = parent;
            }
            _ => return path.to_owned(),
        }
    }
}

fn anchor_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

/// The text of the `.dockerignore` that a build takes: the Dockerfile's own, else the context's.
fn ignore_text(context: &Path, dockerfile: &str) -> Result<String, FolderError> {
    let own = file_read(&context.join(format!("{dockerfile}.dockerignore")), IGNORE_BYTES_MAX)?;
    let text = match own {
        Some(text) => Some(text),
        None => file_read(&context.join(".dockerignore"), IGNORE_BYTES_MAX)?,
    };
    Ok(String::from_utf8_lossy(&text.unwrap_or_default()).into_owned())
}

fn io<'p>(path: &'p Path, action: &'static str) -> impl FnOnce(std::io::Error) -> FolderError + 'p {
    move |source| FolderError::Io { path: path.to_owned(), action, source }
}
