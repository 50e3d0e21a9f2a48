//! What the view shows, and how it changes with what is heard and with keys. Pure: nothing here knows of a terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ::workspace::logs::Line;
use ::workspace::progress::Told;

use super::super::show;
use super::draw::{self, Size};
use super::keys::Key;
use super::log::{Entry, Log, Look, Window, Writer};
use super::rows::{Service, Snapshot, State};
use crate::foreign;

/// Characters of a filter.
const FILTER_CHARS_MAX: usize = 100;

/// What somebody at the keys wants to have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// End, and the second time at once.
    Stop,
    /// Run a service from source, or at its release.
    Switch { service: String, develop: bool },
    /// Start a service anew.
    Restart { service: String },
    /// Open an address.
    Open { url: String },
    /// Give the terminal back until this process is continued.
    Suspend,
    /// Draw everything anew.
    Redraw,
}

/// What is being done about a service before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Activity {
    /// Bytes done, and bytes in all as far as they are known.
    Pulling(u64, u64),
    /// BuildKit's count of steps, as `2/5`.
    Building(String),
    /// Its new volumes.
    Filling,
}

/// What the services' containers take together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    /// Percent of one CPU; `None` before the second look.
    pub(super) cpu_percent: Option<f64>,
    pub(super) memory_bytes: u64,
}

/// Something worth saying for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) is_bad: bool,
}

/// Which lines are looked at, beside the filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    Selected,
}

/// The view.
pub(super) struct View {
    /// The workspace's name.
    pub(super) workspace: String,
    /// The environment whose releases run.
    pub(super) env: String,
    pub(super) size: Size,
    pub(super) snapshot: Snapshot,
    pub(super) activities: BTreeMap<String, Activity>,
    /// By container.
    usages: BTreeMap<String, Usage>,
    pub(super) failures: BTreeMap<String, String>,
    /// Why the engine does not answer.
    pub(super) engine_away: Option<String>,
    pub(super) log: Log,
    pub(super) selected: usize,
    pub(super) scope: Scope,
    /// The lowest line that is seen; `None` follows what comes.
    pub(super) lowest: Option<u64>,
    pub(super) filter: String,
    /// The filter is being written.
    pub(super) is_filtering: bool,
    pub(super) is_helping: bool,
    pub(super) notice: Option<Notice>,
    names: BTreeSet<Arc<str>>,
}

impl View {
    pub(super) fn new(workspace: &str, env: &str) -> Self {
        Self {
            workspace: workspace.to_owned(),
            env: env.to_owned(),
            size: Size { columns: 80, rows: 24 },
            snapshot: Snapshot::default(),
            activities: BTreeMap::new(),
            usages: BTreeMap::new(),
            failures: BTreeMap::new(),
            engine_away: None,
            log: Log::default(),
            selected: 0,
            scope: Scope::All,
            lowest: None,
            filter: String::new(),
            is_filtering: false,
            is_helping: false,
            notice: None,
            names: BTreeSet::new(),
        }
    }

    /// Takes in how everything stands. The selection stays with its service.
    pub(super) fn stands(&mut self, snapshot: Snapshot) {
        let selected = self.selected().map(|service| service.name.clone());
        let place = selected.and_then(|name| snapshot.services.iter().position(|service| service.name == name));
        self.selected = place.unwrap_or(self.selected).min(snapshot.services.len().saturating_sub(1));
        let settled = |service: &&Service| !matches!(service.state, State::Waiting | State::Restarting);
        // What was to be said of their end may have been lost.
        for service in snapshot.services.iter().filter(settled) {
            self.activities.retain(|name, activity| **name != *service.name || *activity == Activity::Filling);
        }
        self.snapshot = snapshot;
    }

    /// Takes in what was told.
    pub(super) fn told(&mut self, told: &Told) {
        match told {
            Told::Pulling { service } => drop(self.activities.insert(service.clone(), Activity::Pulling(0, 0))),
            Told::PullBytes { service, done_bytes, total_bytes } => {
                drop(self.activities.insert(service.clone(), Activity::Pulling(*done_bytes, *total_bytes)));
            }
            Told::Building { service } => {
                drop(self.activities.insert(service.clone(), Activity::Building(String::new())));
            }
            Told::BuildStep { service, step } => {
                if let Some(count) = step_count(step) {
                    self.activities.insert(service.clone(), Activity::Building(count));
                }
            }
            Told::Filling { service } => drop(self.activities.insert(service.clone(), Activity::Filling)),
            Told::Pulled { service } | Told::Built { service } | Told::Filled { service } => {
                drop(self.activities.remove(service))
            }
            Told::Started { service } | Told::Ready { service } | Told::Completed { service } => {
                self.activities.remove(service);
                self.failures.remove(service);
            }
            Told::Failed { service, why } => {
                self.activities.remove(service);
                self.failures.insert(service.clone(), why.clone());
            }
            Told::Engine { up: true, .. } => self.engine_away = None,
            Told::Engine { up: false, why } => self.engine_away = Some(foreign::clean(why)),
            Told::Note(_)
            | Told::BuildLog { .. }
            | Told::Synced { .. }
            | Told::Stopped { .. }
            | Told::Removed { .. } => {}
        }
        for (service, line) in show::said(told) {
            let writer = service.map_or(Writer::Longshore, |service| Writer::About(self.name(service)));
            line.lines().for_each(|line| self.log.push(writer.clone(), line));
        }
    }

    /// Takes in a line of a container.
    pub(super) fn line(&mut self, line: &Line) {
        let writer = Writer::Container(self.name(&line.service), line.slot);
        self.log.push(writer, &line.line.text);
    }

    /// Takes in what containers take; whether that changes anything.
    pub(super) fn takes(&mut self, usages: BTreeMap<String, Usage>) -> bool {
        let changes = self.usages != usages;
        self.usages = usages;
        changes
    }

    /// Says something about what was asked for.
    pub(super) fn notes(&mut self, said: &str, is_bad: bool) {
        self.notice = Some(Notice { text: foreign::clean(said.lines().next().unwrap_or_default()), is_bad });
        if is_bad {
            said.lines().for_each(|line| self.log.push(Writer::Longshore, line));
        }
    }

    /// One name is kept once, however many lines have it.
    fn name(&mut self, service: &str) -> Arc<str> {
        if let Some(name) = self.names.get(service) {
            return name.clone();
        }
        let name: Arc<str> = service.into();
        self.names.insert(name.clone());
        name
    }

    /// The service that keys are about.
    pub(super) fn selected(&self) -> Option<&Service> {
        self.snapshot.services.get(self.selected)
    }

    /// What a service takes; `None` when none of its containers was looked at.
    pub(super) fn usage(&self, service: &Service) -> Option<Usage> {
        let of_its = service.running.iter().filter_map(|id| self.usages.get(id));
        of_its.copied().reduce(|sum, one| Usage {
            cpu_percent: match (sum.cpu_percent, one.cpu_percent) {
                (Some(sum), Some(one)) => Some(sum + one),
                (sum, one) => sum.or(one),
            },
            memory_bytes: sum.memory_bytes + one.memory_bytes,
        })
    }

    /// Services that are as they should be.
    pub(super) fn up_count(&self) -> usize {
        let is_up = |service: &&Service| {
            matches!(service.state, State::Running | State::Healthy | State::Done | State::Paused)
                && !self.activities.contains_key(&*service.name)
        };
        self.snapshot.services.iter().filter(is_up).count()
    }

    /// The lines that are seen now.
    pub(super) fn window(&self) -> Window<'_> {
        self.looking(|log, look| log.window(look))
    }

    fn looking<'a, T>(&'a self, with: impl FnOnce(&'a Log, &Look<'_>) -> T) -> T {
        let (columns, rows) = draw::log_size(self);
        let needle = self.filter.to_lowercase();
        let selected = self.selected().map(|service| &service.name);
        let is_seen = |entry: &Entry| {
            let in_scope = match (&self.scope, entry.writer.service()) {
                (Scope::Selected, service) => service.is_some() && service == selected,
                (Scope::All, Some(name)) => {
                    let of_it = self.snapshot.services.iter().find(|service| service.name == *name);
                    !of_it.is_some_and(|service| service.detached)
                }
                (Scope::All, None) => true,
            };
            in_scope && (needle.is_empty() || entry.text.to_lowercase().contains(&needle))
        };
        with(&self.log, &Look { is_seen: &is_seen, columns, rows, lowest: self.lowest })
    }

    /// Takes in a key, and gives what somebody else is to do about it.
    pub(super) fn key(&mut self, key: Key) -> Option<Request> {
        self.notice = None;
        match key {
            Key::Ctrl('c') => return Some(Request::Stop),
            Key::Ctrl('l') => return Some(Request::Redraw),
            Key::Ctrl('z') => return Some(Request::Suspend),
            _ => {}
        }
        if self.is_helping {
            self.is_helping = false;
            return (key == Key::Char('q')).then_some(Request::Stop);
        }
        if self.is_filtering {
            self.key_of_filter(key);
            return None;
        }
        match key {
            Key::Char('q') => return Some(Request::Stop),
            Key::Char('?' | 'h') => self.is_helping = true,
            Key::Char('/') => self.is_filtering = true,
            Key::Up | Key::Char('k') => self.select(self.selected.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.select(self.selected + 1),
            Key::Enter | Key::Char('l') => {
                self.scope = if self.scope == Scope::All { Scope::Selected } else { Scope::All };
                self.lowest = None;
            }
            Key::Escape if !self.filter.is_empty() => self.filter.clear(),
            Key::Escape => (self.scope, self.lowest) = (Scope::All, None),
            Key::PageUp | Key::Ctrl('b') => self.lowest = self.looking(Log::page_up),
            Key::PageDown | Key::Ctrl('f') => self.lowest = self.looking(Log::page_down),
            Key::Home | Key::Char('g') => self.lowest = self.looking(Log::top),
            Key::End | Key::Char('G') => self.lowest = None,
            Key::Char('d' | 'r' | 'o') => return self.key_of_service(key),
            _ => {}
        }
        None
    }

    fn select(&mut self, index: usize) {
        self.selected = index.min(self.snapshot.services.len().saturating_sub(1));
        if self.scope == Scope::Selected {
            self.lowest = None;
        }
    }

    fn key_of_filter(&mut self, key: Key) {
        match key {
            Key::Enter => self.is_filtering = false,
            Key::Escape => {
                self.is_filtering = false;
                self.filter.clear();
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Ctrl('u') => self.filter.clear(),
            Key::Char(char) if self.filter.chars().count() < FILTER_CHARS_MAX => {
                self.filter.push_str(&foreign::clean(char.encode_utf8(&mut [0; 4])));
            }
            _ => {}
        }
    }

    fn key_of_service(&mut self, key: Key) -> Option<Request> {
        let service = self.selected()?;
        let name = service.name.to_string();
        if key == Key::Char('o') {
            let url = service.address.clone();
            if url.is_none() {
                self.notes(&format!("{name} has no published port"), false);
            }
            return url.map(|url| Request::Open { url });
        }
        if self.snapshot.is_ending {
            self.notes("everything is being stopped", false);
            return None;
        }
        let develop = !service.develop;
        match key {
            Key::Char('d') => {
                let to = if develop { "from source" } else { "back to its release" };
                self.notes(&format!("{name}: {to} …"), false);
                Some(Request::Switch { service: name, develop })
            }
            _ => {
                self.notes(&format!("{name}: restarting …"), false);
                Some(Request::Restart { service: name })
            }
        }
    }
}

/// How far a build is, from BuildKit's name of a step: `[build 2/5] RUN make`.
fn step_count(step: &str) -> Option<String> {
    let inner = step.strip_prefix('[')?.split_once(']')?.0;
    let count = inner.rsplit(' ').next()?;
    let (done, of) = count.split_once('/')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(done) && is_number(of)).then(|| count.to_owned())
}
