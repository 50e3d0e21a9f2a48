//! The terminal view of `longshore up`: services, what they take, what they write, and keys.
//!
//! [`model`] is the view as a value that changes with what is heard and with [`keys`], [`draw`] makes cells of it; both
//! are pure. This file brings them together with the terminal ([`screen`]), what is told, lines, and [`usage`]. It draws
//! ten times a second at most, and not at all while nothing changes.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use ::workspace::attend::{Moment, Signal};
use ::workspace::control::{Answer, Asked, Order};
use ::workspace::logs::Line;
use ::workspace::progress::Told;
use ::workspace::supervisor::Supervisor;
use ::workspace::workspace::Prepared;
use engine::Engine;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::draw::Size;
use self::keys::{Decoder, Key};
use self::model::{Request, View};
use self::rows::Snapshot;
use self::screen::Screen;
use super::show;
use crate::output;

mod draw;
mod keys;
mod log;
mod model;
mod rows;
mod screen;
#[cfg(test)]
mod tests;
mod text;
mod usage;

/// The shortest time between two frames.
const FRAME: Duration = Duration::from_millis(100);
/// How long something is said in place of the keys.
const NOTICE: Duration = Duration::from_secs(8);
/// How long bytes of one key may be apart.
const KEY_WAIT: Duration = Duration::from_millis(50);
/// How long the view may take to end.
const END_WAIT: Duration = Duration::from_secs(2);
/// Lines that are taken in at once.
const LINES_AT_ONCE: usize = 256;
/// Pieces of input that may wait, and the longest one.
const INPUT_WAITING_MAX: usize = 64;
const INPUT_BYTES_MAX: usize = 1024;

/// Whether the view can be shown here.
pub(super) fn is_possible() -> bool {
    screen::is_there(|name| std::env::var(name).ok())
}

/// What the view is about, hears, and can do.
pub(super) struct Parts {
    /// The workspace's name.
    pub(super) workspace: String,
    /// The environment whose releases run.
    pub(super) env: String,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) told: mpsc::Receiver<Told>,
    pub(super) lines: mpsc::Receiver<Line>,
    pub(super) orders: mpsc::Sender<Asked>,
    pub(super) signals: mpsc::Sender<Signal>,
    /// Services whose lines are not shown with those of others.
    pub(super) detached: BTreeSet<String>,
}

/// The view, shown.
pub(super) struct Showing {
    snapshot: watch::Sender<Snapshot>,
    detached: BTreeSet<String>,
    end: CancellationToken,
    task: JoinHandle<BTreeMap<String, String>>,
}

impl Showing {
    /// Takes the terminal and shows the view.
    pub(super) fn begin(parts: Parts) -> api::Result<Self> {
        let failed = |error: std::io::Error| {
            api::Problem::new(500, "terminal", "The terminal cannot be used for the view")
                .detail(error.to_string())
                .hint("Use `longshore up --plain`.")
        };
        let (snapshot, snapshots) = watch::channel(Snapshot::default());
        let end = CancellationToken::new();
        let detached = parts.detached.clone();
        let room = Room::open(parts).map_err(failed)?;
        let task = tokio::spawn(room.run(snapshots, end.clone()));
        Ok(Self { snapshot, detached, end, task })
    }

    /// Takes in how everything stands.
    pub(super) fn seen(&self, prepared: &Prepared, supervisor: &Supervisor, moment: Moment) {
        let now = rows::snapshot(prepared, supervisor, moment, |service| self.detached.contains(service));
        self.snapshot.send_if_modified(|before| {
            let changes = *before != now;
            *before = now;
            changes
        });
    }

    /// Gives the terminal back, and says what had gone wrong and was not mended.
    pub(super) async fn end(self) {
        self.end.cancel();
        match tokio::time::timeout(END_WAIT, self.task).await {
            Ok(Ok(failures)) => {
                failures.iter().for_each(|(service, why)| output::note(&format!("{service}: failed: {why}")));
            }
            Ok(Err(error)) => tracing::debug!(%error, "the view broke off"),
            // A terminal that takes nothing any more must not hold what has ended.
            Err(_late) => {}
        }
        screen::give_back();
    }
}

/// Where the view meets what it shows.
struct Room {
    parts: Parts,
    view: View,
    screen: Screen,
    colour: bool,
    keys: Decoder,
    /// When what came of a key counts as all of it.
    key_ends: Option<Instant>,
    /// When what is said in place of the keys is over.
    notice_ends: Option<Instant>,
    answers: JoinSet<(String, bool)>,
    /// Something changed since the last frame.
    is_dirty: bool,
    is_suspended: bool,
}

impl Room {
    fn open(parts: Parts) -> std::io::Result<Self> {
        let view = View::new(&parts.workspace, &parts.env);
        let colour = std::env::var("NO_COLOR").is_ok_and(|value| !value.is_empty());
        let mut room = Self {
            parts,
            view,
            screen: Screen::take()?,
            colour: !colour,
            keys: Decoder::default(),
            key_ends: None,
            notice_ends: None,
            answers: JoinSet::new(),
            is_dirty: true,
            is_suspended: false,
        };
        room.resized();
        Ok(room)
    }

    /// Shows the view until the end; what had gone wrong is left.
    async fn run(
        mut self,
        mut snapshots: watch::Receiver<Snapshot>,
        end: CancellationToken,
    ) -> BTreeMap<String, String> {
        let (mut usages, _looking) = usage::look(self.parts.engine.clone(), snapshots.clone());
        let mut input = input();
        let (mut resizes, mut continues) =
            (signal(SignalKind::window_change()).ok(), signal(SignalKind::from_raw(CONTINUED)).ok());
        let mut lines = Vec::with_capacity(LINES_AT_ONCE);
        let mut is_open = true;
        let mut drawn = Instant::now();
        loop {
            tokio::select! {
                () = end.cancelled() => break,
                Some(told) = self.parts.told.recv() => self.told(&told),
                1.. = self.parts.lines.recv_many(&mut lines, LINES_AT_ONCE) => {
                    lines.drain(..).for_each(|line| self.line(&line));
                }
                Ok(()) = snapshots.changed() => {
                    self.view.stands(snapshots.borrow_and_update().clone());
                    self.is_dirty = true;
                }
                Ok(()) = usages.changed() => {
                    let changes = self.view.takes(usages.borrow_and_update().clone());
                    self.is_dirty |= changes;
                }
                bytes = input.recv(), if is_open => match bytes {
                    Some(bytes) => {
                        let keys = self.keys.push(&bytes);
                        self.key_ends = self.keys.is_waiting().then(|| Instant::now() + KEY_WAIT);
                        keys.into_iter().for_each(|key| self.key(key));
                    }
                    None => {
                        is_open = false;
                        self.ask(Signal::Closed);
                    }
                },
                () = at(self.key_ends) => {
                    self.key_ends = None;
                    if let Some(key) = self.keys.rest() {
                        self.key(key);
                    }
                }
                () = at(self.notice_ends) => {
                    (self.view.notice, self.notice_ends) = (None, None);
                    self.is_dirty = true;
                }
                Some(Ok((said, is_bad))) = self.answers.join_next() => {
                    self.view.notes(&said, is_bad);
                    self.is_dirty = true;
                }
                () = next(&mut resizes) => self.resized(),
                () = next(&mut continues) => self.continued(),
                () = sleep_until(drawn + FRAME), if self.is_dirty && self.screen.is_taken() => {
                    self.draw();
                    drawn = Instant::now();
                }
            }
        }
        while let Ok(told) = self.parts.told.try_recv() {
            self.told(&told);
        }
        self.screen.give_back();
        self.view.failures
    }

    fn told(&mut self, told: &Told) {
        if self.is_plain() {
            show::plain(told).iter().for_each(|line| output::note(line));
        }
        self.view.told(told);
        self.is_dirty = true;
    }

    fn line(&mut self, line: &Line) {
        if self.is_plain() {
            output::stream(&super::logs::text(line));
        }
        self.view.line(line);
        self.is_dirty = true;
    }

    /// The terminal was lost to a panic, or is gone: lines are all there is.
    fn is_plain(&self) -> bool {
        !self.screen.is_taken() && !self.is_suspended
    }

    fn draw(&mut self) {
        let (view, colour) = (&self.view, self.colour);
        if self.screen.draw(|buffer| draw::draw(view, colour, buffer)).is_err() {
            // What runs goes on without being seen.
            self.screen.give_back();
        }
        self.is_dirty = false;
        let is_noticed = self.view.notice.is_some();
        self.notice_ends = self.notice_ends.filter(|_| is_noticed).or(is_noticed.then(|| Instant::now() + NOTICE));
    }

    fn redraw(&mut self) {
        if self.screen.clear().is_err() {
            self.screen.give_back();
        }
    }

    fn resized(&mut self) {
        if let Ok((columns, rows)) = self.screen.size() {
            self.view.size = Size { columns: columns.into(), rows: rows.into() };
            self.is_dirty = true;
        }
    }

    /// This process was stopped and goes on: the terminal may be in any state.
    fn continued(&mut self) {
        self.is_suspended = false;
        self.screen.give_back();
        if self.screen.take_again().is_err() {
            self.screen.give_back();
        }
        self.resized();
    }

    fn ask(&self, signal: Signal) {
        // Those that wait already say the same.
        let _full = self.parts.signals.try_send(signal);
    }

    fn key(&mut self, key: Key) {
        self.is_dirty = true;
        match self.view.key(key) {
            None => {}
            Some(Request::Stop) => {
                let said = if self.view.snapshot.is_ending {
                    "killing what still runs …"
                } else {
                    "stopping; again: at once"
                };
                self.view.notes(said, false);
                self.ask(Signal::Stop);
            }
            Some(Request::Switch { service, develop }) => {
                let done = if develop { "runs from source" } else { "is not worked on any more" };
                let order = Order::Switch { service: service.clone(), develop, debugger: None };
                self.order(order, service, done);
            }
            Some(Request::Restart { service }) => {
                self.order(Order::Restart { service: service.clone() }, service, "was started anew");
            }
            Some(Request::Open { url }) => self.go_to(&url),
            Some(Request::Redraw) => self.redraw(),
            Some(Request::Suspend) => {
                self.screen.give_back();
                self.is_suspended = true;
                if rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TSTP).is_err() {
                    self.continued();
                }
            }
        }
    }

    /// Has something done by whoever attends to the workspace, and says what became of it.
    fn order(&mut self, order: Order, service: String, done: &'static str) {
        let (answer, answered) = oneshot::channel();
        if self.parts.orders.try_send(Asked { order, answer }).is_err() {
            self.view.notes(&format!("{service}: too much is asked for at once"), true);
            return;
        }
        self.answers.spawn(async move {
            match answered.await {
                Ok(Answer::Done) => (format!("{service} {done}"), false),
                Ok(Answer::Refused(problem)) => {
                    let why = if problem.detail.is_empty() { problem.title } else { problem.detail };
                    let hint = problem.hint.map(|hint| format!("\n{hint}")).unwrap_or_default();
                    (format!("{service}: {why}{hint}"), true)
                }
                Err(_) => (format!("{service}: not done, everything ends"), false),
            }
        });
    }

    /// Opens an address in a browser; where there is no desktop, the terminal is asked to copy it.
    fn go_to(&mut self, url: &str) {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let opener = match () {
            () if cfg!(target_os = "macos") => Some("open"),
            () if is_set("DISPLAY") || is_set("WAYLAND_DISPLAY") => Some("xdg-open"),
            () => None,
        };
        let open = |opener: &str| {
            let mut command = tokio::process::Command::new(opener);
            command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        };
        if let Some(Ok(mut child)) = opener.map(open) {
            // Its end is waited for, so that nothing of it is left.
            tokio::spawn(async move { child.wait().await });
            return self.view.notes(&format!("opened {url}"), false);
        }
        match self.screen.copy(url) {
            Ok(()) => self.view.notes(&format!("copied {url}"), false),
            Err(error) => self.view.notes(&format!("{url} cannot be copied: {error}"), true),
        }
    }
}

/// The signal with which a process that was stopped goes on.
const CONTINUED: i32 = rustix::process::Signal::CONT.as_raw();

/// The next of these signals; never, where they cannot be had.
async fn next(signals: &mut Option<tokio::signal::unix::Signal>) {
    match signals {
        Some(signals) => drop(signals.recv().await),
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// What is typed; ends when the terminal is gone. A thread of its own waits for it: a terminal that is shared with a shell
/// must not be made non-blocking.
fn input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(INPUT_WAITING_MAX);
    std::thread::spawn(move || {
        let mut bytes = [0; INPUT_BYTES_MAX];
        loop {
            match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    if sender.blocking_send(bytes[..length].to_vec()).is_err() {
                        return;
                    }
                }
            }
        }
    });
    receiver
}
