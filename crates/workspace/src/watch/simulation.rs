//! The planner against a world that is looked at late, twice or not at all, whose containers are replaced and restarted,
//! whose engine fails half way, and in which the process is killed: in the end the containers have what the source has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::ExecOptions;
use proptest::prelude::*;

use super::ledger::{Below, Ledger};
use super::plan::{Batch, BatchWork, Copied, Keep, Outcome, Planner, Running, Update, Watched};
use super::rule::{Action, After, Filter, Rule};
use super::stamp::{Kind, Stamp};

/// Paths below the project; a state is a kind and a number that only grows.
type Files = BTreeMap<String, Stamp>;
type Kept = BTreeMap<Below, (Stamp, Stamp)>;

const RULES: [&str; 3] = ["src", "conf", "pkg"];

#[derive(Debug, Clone)]
enum Step {
    Write(String),
    Folder(String),
    Link(String),
    Remove(String),
    /// Keeps the states of all that is moved.
    Move(String, String),
    /// The kernel's events are read, and looked after; or some are lost, or come twice.
    Look {
        lost: bool,
        twice: bool,
    },
    /// What was seen is taken in.
    TakeIn,
    /// Time passes, in milliseconds.
    Wait(u64),
    /// The batch under way ends, or fails after so much of it.
    Work {
        fails_after: Option<usize>,
    },
    /// The containers are made anew from the same image.
    Recreate,
    /// Somebody restarts the containers.
    Restart,
    /// Killed, and started again.
    Crash,
}

#[derive(Debug, Default)]
struct World {
    source: Files,
    number: u64,
    /// Events of the kernel: a path, and whether something is new there.
    events: VecDeque<(String, bool)>,
    lost: bool,
    seen: VecDeque<Sight>,
    planner: Planner,
    kept: Vec<(Kept, Option<Running>)>,
    now: Duration,
    under_way: Option<Batch>,
    image: Files,
    images: u64,
    container: Files,
    /// What the processes read when they began: all that they could read.
    process: Files,
    containers: u64,
    started: i64,
    initial: bool,
    batches: usize,
    copied: usize,
}

#[derive(Debug)]
enum Sight {
    Path(String, Stamp),
    Folder(String, Vec<(Box<[u8]>, Stamp)>),
}

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(place, _)| &path[..place])
}

fn is_below(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn remove(files: &mut Files, path: &str) {
    files.retain(|found, _| found != path && !is_below(found, path));
}

/// The part that one rule means, without the rule's own folder.
fn part(files: &Files, rule: &str) -> Files {
    files.iter().filter(|(path, _)| is_below(path, rule)).map(|(path, stamp)| (path.clone(), *stamp)).collect()
}

fn watched(rule: &str, initial: bool, kept: &(Kept, Option<Running>)) -> Watched {
    let path = PathBuf::from(format!("/p/{rule}"));
    let action = match rule {
        "src" => Action::Sync { target: "/app".to_owned(), initial, then: After::Restart },
        "conf" => Action::Restart,
        _ => Action::Rebuild,
    };
    let of = Rule { path: path.clone(), action: action.clone(), ignore: Vec::new(), include: Vec::new() };
    let filter = Filter::new(&of, &path, None).unwrap();
    let lines = kept.0.iter().map(|(path, (target, image))| (path.clone(), *target, *image));
    Watched { path, action, filter, ledger: Ledger::load(lines), known: kept.1.clone() }
}

impl World {
    fn new(initial: bool) -> Self {
        let mut world = Self { initial, now: Duration::from_secs(3600), ..Self::default() };
        for rule in RULES {
            world.folder(rule);
        }
        world.kept = RULES.iter().map(|_| (Kept::new(), None)).collect();
        world.begin();
        world
    }

    fn stamp(&mut self, kind: Kind) -> Stamp {
        self.number += 1;
        Stamp::fold(kind, &[self.number])
    }

    fn event(&mut self, path: &str, is_new: bool) {
        self.events.push_back((path.to_owned(), is_new));
    }

    /// Folders above a path are made; a file that is in the way goes.
    fn make_way(&mut self, path: &str) {
        let above: Vec<String> = parents(path).map(str::to_owned).collect();
        above.iter().for_each(|folder| self.folder(folder));
    }

    fn folder(&mut self, path: &str) {
        self.make_way(path);
        if !self.source.get(path).is_some_and(|stamp| stamp.is_folder()) {
            let stamp = Stamp::fold(Kind::Folder, &[0o755]);
            self.source.insert(path.to_owned(), stamp);
            self.event(path, true);
        }
    }

    fn put(&mut self, path: &str, kind: Kind) {
        self.make_way(path);
        let is_new = !self.source.contains_key(path);
        remove(&mut self.source, path);
        let stamp = self.stamp(kind);
        self.source.insert(path.to_owned(), stamp);
        self.event(path, is_new);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Write(path) => self.put(path, Kind::File),
            Step::Link(path) => self.put(path, Kind::Link),
            Step::Folder(path) => self.folder(path),
            Step::Remove(path) => {
                remove(&mut self.source, path);
                self.event(path, false);
            }
            Step::Move(from, to) => self.rename(from, to),
            Step::Look { lost, twice } => self.look(*lost, *twice),
            Step::TakeIn => self.take_in(),
            Step::Wait(millis) => self.now += Duration::from_millis(*millis),
            Step::Work { fails_after } => self.work(*fails_after),
            Step::Recreate => self.recreate(),
            Step::Restart => self.restart(),
            Step::Crash => self.begin(),
        }
        self.ask();
    }

    fn rename(&mut self, from: &str, to: &str) {
        if !self.source.contains_key(from) || from == to || is_below(to, from) || is_below(from, to) {
            return;
        }
        self.make_way(to);
        remove(&mut self.source, to);
        let moved: Vec<(String, Stamp)> = self
            .source
            .iter()
            .filter(|(path, _)| *path == from || is_below(path, from))
            .map(|(path, stamp)| (path.clone(), *stamp))
            .collect();
        for (path, stamp) in moved {
            self.source.remove(&path);
            self.source.insert(format!("{to}{}", &path[from.len()..]), stamp);
        }
        self.event(from, false);
        self.event(to, true);
    }

    fn look(&mut self, lost: bool, twice: bool) {
        if lost {
            self.events.clear();
            self.lost = true;
        }
        if std::mem::take(&mut self.lost) {
            self.scan("");
        }
        while let Some((path, is_new)) = self.events.pop_front() {
            for _time in 0..=u8::from(twice) {
                let stamp = self.source.get(&path).copied().unwrap_or(Stamp::NONE);
                self.seen.push_back(Sight::Path(path.clone(), stamp));
                if is_new && stamp.is_folder() {
                    self.scan(&path);
                }
            }
        }
    }

    fn scan(&mut self, folder: &str) {
        let skip = if folder.is_empty() { 0 } else { folder.len() + 1 };
        let within = self.source.iter().filter(|(path, _)| is_below(path, folder));
        let children: Vec<(String, Stamp)> = within
            .filter(|(path, _)| !path[skip..].contains('/'))
            .map(|(path, stamp)| (path.clone(), *stamp))
            .collect();
        let names = children.iter().map(|(path, stamp)| (Box::from(&path.as_bytes()[skip..]), *stamp)).collect();
        self.seen.push_back(Sight::Folder(folder.to_owned(), names));
        for (path, _) in children.iter().filter(|(_, stamp)| stamp.is_folder()) {
            self.scan(path);
        }
    }

    fn take_in(&mut self) {
        while let Some(sight) = self.seen.pop_front() {
            let mut news = Vec::new();
            let absolute = |path: &str| if path.is_empty() { "/p".to_owned() } else { format!("/p/{path}") };
            for (service, rule, watched) in self.planner.rules_mut() {
                let is_news = match &sight {
                    Sight::Path(path, stamp) => watched.see(absolute(path).as_bytes(), *stamp),
                    Sight::Folder(path, names) => watched.see_folder(absolute(path).as_bytes(), names),
                };
                if is_news {
                    news.push((service, rule));
                }
            }
            for (service, rule) in news {
                self.planner.changed(service, rule, self.now);
            }
        }
    }

    /// A new process: what was kept, one look at everything, an image of what is there, containers of it.
    fn begin(&mut self) {
        self.planner = Planner::default();
        self.under_way = None;
        self.seen.clear();
        self.events.clear();
        self.lost = false;
        let rules = RULES.iter().zip(&self.kept).map(|(rule, kept)| watched(rule, self.initial, kept)).collect();
        self.planner.service_add("web".to_owned(), true, rules);
        self.scan("");
        self.take_in();
        self.build(None);
    }

    /// Builds from what is there after `meanwhile`, which nobody has seen when the build begins.
    fn build(&mut self, meanwhile: Option<&Step>) {
        self.planner.build_begins("web");
        if let Some(step) = meanwhile {
            self.step(step);
        }
        if self.image != self.source || self.images == 0 {
            self.image = self.source.clone();
            self.images += 1;
            self.container_new();
        }
        self.tell();
    }

    fn container_new(&mut self) {
        self.containers += 1;
        self.container = part(&self.image, "src");
        self.read_in();
    }

    /// The processes begin: they read what there is of files in the container, and of `conf`.
    fn read_in(&mut self) {
        self.started += 1;
        self.process = self.container.clone();
        self.process.extend(part(&self.source, "conf"));
    }

    fn recreate(&mut self) {
        self.container_new();
        self.tell();
    }

    fn restart(&mut self) {
        self.read_in();
        self.tell();
    }

    fn tell(&mut self) {
        let running = Running {
            image: format!("sha256:{}", self.images),
            containers: BTreeMap::from([(format!("container-{}", self.containers), self.started)]),
        };
        // What happened until now is taken in first.
        self.look(false, false);
        self.take_in();
        self.planner.running("web", running, self.now, self.now);
    }

    /// What is due is begun, after what must be kept is kept.
    fn ask(&mut self) {
        let (batches, _) = self.planner.due(self.now);
        for ((_, rule), keep) in self.planner.keep_take() {
            let watched = self.planner.rule(0, rule).unwrap();
            let kept = &mut self.kept[rule];
            kept.1.clone_from(&watched.known);
            match keep {
                Keep::Paths(paths) => {
                    for path in paths {
                        let line = watched.ledger.line(&path);
                        kept.0.insert(path, line);
                    }
                }
                Keep::All => {
                    kept.0 = watched
                        .ledger
                        .lines()
                        .map(|(path, target, image)| (Below::from(path), (target, image)))
                        .collect();
                }
            }
        }
        for batch in batches {
            assert!(self.under_way.is_none(), "one batch of a service at a time");
            self.batches += 1;
            self.under_way = Some(batch);
        }
    }

    fn work(&mut self, fails_after: Option<usize>) {
        let Some(batch) = self.under_way.take() else { return };
        let outcome = match &batch.work {
            BatchWork::Rebuild { .. } if fails_after.is_some() => Outcome::Failed,
            BatchWork::Rebuild { .. } => {
                self.image = self.source.clone();
                self.images += 1;
                self.container_new();
                self.planner.ended(batch.id, &Outcome::Done(Vec::new()), self.now);
                self.tell();
                return;
            }
            BatchWork::Update(update) if update.containers != [format!("container-{}", self.containers)] => {
                Outcome::Failed
            }
            BatchWork::Update(update) => self.update(update, fails_after),
        };
        self.planner.ended(batch.id, &outcome, self.now);
    }

    fn update(&mut self, update: &Update, fails_after: Option<usize>) -> Outcome {
        let mut left = fails_after.unwrap_or(usize::MAX);
        let mut copied = Vec::new();
        for sync in &update.syncs {
            let path = |below: &[u8]| match std::str::from_utf8(below).unwrap() {
                "" => "src".to_owned(),
                below => format!("src/{below}"),
            };
            for below in &sync.remove {
                if left == 0 {
                    return Outcome::Failed;
                }
                left -= 1;
                remove(&mut self.container, &path(below));
            }
            let mut states = Vec::new();
            for below in &sync.put {
                if left == 0 {
                    return Outcome::Failed;
                }
                left -= 1;
                let path = path(below);
                let Some(stamp) = self.source.get(&path).copied() else {
                    states.push(Copied::Changing(Stamp::NONE));
                    continue;
                };
                for above in parents(&path).filter(|above| *above != "src") {
                    let folder = Stamp::fold(Kind::Folder, &[0o755]);
                    if !self.container.entry(above.to_owned()).or_insert(folder).is_folder() {
                        return Outcome::Failed;
                    }
                }
                if !stamp.is_folder() {
                    remove(&mut self.container, &path);
                }
                self.copied += usize::from(self.container.get(&path) != Some(&stamp));
                self.container.insert(path, stamp);
                states.push(Copied::Whole(stamp));
            }
            copied.push(states);
        }
        if update.restart {
            if left == 0 {
                return Outcome::Failed;
            }
            self.read_in();
            // The engine tells of it before or after the end of the batch is told.
            if self.number.is_multiple_of(2) {
                self.tell();
            }
        }
        Outcome::Done(copied)
    }

    /// Nothing changes any more; all is looked at, and all work succeeds.
    fn settle(&mut self) {
        // A build that failed waits for a change.
        self.step(&Step::Write("pkg/last".to_owned()));
        self.step(&Step::Look { lost: false, twice: false });
        self.step(&Step::TakeIn);
        let before = self.batches;
        for _round in 0..20 {
            self.step(&Step::Work { fails_after: None });
            self.step(&Step::Wait(60_000));
        }
        assert!(self.under_way.is_none(), "it comes to rest");
        let mut wanted = part(&self.source, "src");
        wanted.remove("src");
        assert_eq!(self.container, wanted, "the containers have what the source has");
        wanted.extend(part(&self.source, "conf"));
        assert_eq!(self.process, wanted, "the processes began with it");
        assert_eq!(part(&self.image, "pkg"), part(&self.source, "pkg"), "the image is of it");
        assert!(self.batches - before <= 3, "{} batches after the last change", self.batches - before);
        let (batches, copied) = (self.batches, self.copied);
        self.step(&Step::Look { lost: true, twice: true });
        self.step(&Step::TakeIn);
        self.step(&Step::Wait(60_000));
        assert_eq!((self.batches, self.copied), (batches, copied), "nothing is done twice");
        for (_, _, watched) in self.planner.rules_mut() {
            assert_eq!(watched.ledger.pending(), 0, "{}", watched.path.display());
        }
    }
}

fn path() -> impl Strategy<Value = String> {
    let name = || prop_oneof![Just("a"), Just("b"), Just("a-b"), Just("a0")];
    let below = prop::collection::vec(name(), 1..4).prop_map(|names| names.join("/"));
    let rule = prop_oneof![6 => Just("src"), 1 => Just("conf"), 1 => Just("pkg")];
    prop_oneof![12 => (rule, below).prop_map(|(rule, below)| format!("{rule}/{below}")), 1 => Just("src".to_owned())]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => path().prop_map(Step::Write),
        2 => path().prop_filter("a rule's own path stays a folder", |path| path.contains('/')).prop_map(Step::Link),
        3 => path().prop_map(Step::Folder),
        4 => path().prop_map(Step::Remove),
        4 => (path(), path()).prop_map(|(from, to)| Step::Move(from, to)),
        6 => (prop::bool::weighted(0.2), any::<bool>()).prop_map(|(lost, twice)| Step::Look { lost, twice }),
        6 => Just(Step::TakeIn),
        5 => (0..400_u64).prop_map(Step::Wait),
        6 => prop::option::weighted(0.3, 0..4_usize).prop_map(|fails_after| Step::Work { fails_after }),
        1 => Just(Step::Recreate),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn containers_end_with_what_the_source_has(initial in any::<bool>(), steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new(initial);
        for step in &steps {
            // A rule's own path becoming a file is another test's.
            match step {
                Step::Write(path) if !path.contains('/') => continue,
                Step::Move(_, to) if !to.contains('/') => continue,
                step => world.step(step),
            }
        }
        world.settle();
    }
}

/// A world with one rule and its containers, at rest.
fn planner(action: Action, files: &[&str]) -> (Planner, Duration) {
    let now = Duration::from_secs(3600);
    let mut planner = Planner::default();
    let path = PathBuf::from("/p");
    let rule = Rule { path: path.clone(), action: action.clone(), ignore: Vec::new(), include: Vec::new() };
    let filter = Filter::new(&rule, &path, None).unwrap();
    let mut ledger = Ledger::default();
    for file in files {
        ledger.look(file.as_bytes(), Stamp::fold(Kind::File, &[1]));
    }
    planner.service_add("web".to_owned(), true, vec![Watched { path, action, filter, ledger, known: None }]);
    planner.running("web", running(1), now, now);
    (planner, now)
}

fn running(number: i64) -> Running {
    Running { image: "sha256:1".to_owned(), containers: BTreeMap::from([(format!("c{number}"), number)]) }
}

fn change(planner: &mut Planner, path: &str, number: u64, now: Duration) {
    let stamp = Stamp::fold(Kind::File, &[number]);
    let news: Vec<bool> = planner
        .rules_mut()
        .map(|(_, _, watched)| watched.see(Path::new("/p").join(path).as_os_str().as_encoded_bytes(), stamp))
        .collect();
    for (rule, is_news) in news.into_iter().enumerate() {
        if is_news {
            planner.changed(0, rule, now);
        }
    }
}

const MILLI: Duration = Duration::from_millis(1);

#[test]
fn a_save_waits_for_quiet_and_a_flood_for_more_of_it() {
    let sync = Action::Sync { target: "/app".to_owned(), initial: false, then: After::Nothing };
    let (mut planner, mut now) = planner(sync, &["a"]);
    assert_eq!(planner.due(now), (Vec::new(), None));
    change(&mut planner, "a", 2, now);
    assert_eq!(planner.due(now), (Vec::new(), Some(now + 25 * MILLI)));
    let (batches, _) = planner.due(now + 25 * MILLI);
    assert_eq!(batches.len(), 1);
    planner.ended(batches[0].id, &Outcome::Done(vec![vec![Copied::Whole(Stamp::fold(Kind::File, &[2]))]]), now);
    assert_eq!(planner.due(now), (Vec::new(), None));

    // A file that never rests is copied all the same.
    now += Duration::from_secs(10);
    let begin = now;
    let mut number = 10;
    while planner.due(now).0.is_empty() {
        number += 1;
        change(&mut planner, "a", number, now);
        now += 10 * MILLI;
        assert!(now < begin + Duration::from_secs(1));
    }
    assert!(now >= begin + 250 * MILLI);

    // Many at once are one batch, once they rest.
    let (mut planner, mut now) = self::planner(Action::Rebuild, &["a"]);
    for number in 0..500 {
        change(&mut planner, &format!("f{number}"), 1, now);
        now += 2 * MILLI;
        assert_eq!(planner.due(now).0, []);
    }
    let (batches, _) = planner.due(now + 200 * MILLI);
    assert_eq!(batches[0].work, BatchWork::Rebuild { paths: 500 });
}

#[test]
fn what_fails_is_tried_again_later_and_later_and_a_build_only_after_a_change() {
    let sync = Action::Sync { target: "/app".to_owned(), initial: false, then: After::Nothing };
    let (mut planner, mut now) = planner(sync, &["a"]);
    change(&mut planner, "a", 2, now);
    now += 100 * MILLI;
    let mut waits = Vec::new();
    for _time in 0..7 {
        let (batches, _) = planner.due(now);
        planner.ended(batches[0].id, &Outcome::Failed, now);
        let (none, Some(next)) = planner.due(now) else { panic!() };
        assert_eq!(none, []);
        waits.push((next - now).as_secs());
        now = next;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    planner.running("web", running(2), now, now);
    assert_eq!(planner.due(now).1, None, "new containers of an image of the source before have it to be copied");

    let (mut planner, mut now) = self::planner(Action::Rebuild, &["a"]);
    change(&mut planner, "a", 2, now);
    now += 100 * MILLI;
    let (batches, _) = planner.due(now);
    planner.ended(batches[0].id, &Outcome::Failed, now);
    assert_eq!(planner.due(now + Duration::from_secs(60)), (Vec::new(), None));
    change(&mut planner, "b", 2, now);
    let (batches, _) = planner.due(now + 100 * MILLI);
    assert_eq!(batches[0].work, BatchWork::Rebuild { paths: 2 });
}

#[test]
fn a_command_runs_once_after_all_is_copied() {
    let options = ExecOptions { command: vec!["reload".to_owned()], ..ExecOptions::default() };
    let sync = Action::Sync { target: "/app".to_owned(), initial: false, then: After::Exec(options.clone()) };
    let (mut planner, mut now) = planner(sync, &[]);
    let many = super::plan::BATCH_PATHS_MAX + 5;
    for number in 0..many {
        change(&mut planner, &format!("f{number}"), 1, now);
    }
    now += Duration::from_secs(5);
    let mut runs = Vec::new();
    let mut paths = BTreeSet::new();
    loop {
        let (batches, _) = planner.due(now);
        let Some(batch) = batches.first() else { break };
        let BatchWork::Update(update) = &batch.work else { panic!() };
        runs.push(update.execs.clone());
        let copied = update.syncs[0].put.iter().map(|_| Copied::Whole(Stamp::fold(Kind::File, &[1]))).collect();
        paths.extend(update.syncs[0].put.iter().cloned());
        planner.ended(batch.id, &Outcome::Done(vec![copied]), now);
    }
    assert_eq!(runs, [vec![], vec![options]]);
    assert_eq!(paths.len(), many);
}

#[test]
fn what_cannot_be_removed_asks_for_a_build() {
    let sync = Action::Sync { target: "/app".to_owned(), initial: false, then: After::Nothing };
    let (mut planner, now) = planner(sync, &["a", "b"]);
    for (_, _, watched) in planner.rules_mut() {
        assert!(watched.see(b"/p/a", Stamp::NONE));
    }
    planner.changed(0, 0, now);
    let (batches, _) = planner.due(now + 100 * MILLI);
    planner.ended(batches[0].id, &Outcome::NotRemoved(vec![Vec::new()]), now);
    let (batches, _) = planner.due(now + 200 * MILLI);
    assert_eq!(batches[0].work, BatchWork::Rebuild { paths: 0 });
    planner.ended(batches[0].id, &Outcome::Done(Vec::new()), now);
    assert_eq!(planner.due(now + Duration::from_secs(60)), (Vec::new(), None));
}
