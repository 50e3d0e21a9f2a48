//! The watch on real files, with the engine in memory and the real one.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use engine::fake::{Behaviour, FakeEngine, FakeFile};
use engine::{Address, Docker, Engine, NetworkSpec, Progress, WantedContainer};
use workspace::watch::{
    Action, After, Batch, BatchWork, Hands, Outcome, Rule, Running, ServiceRules, WatchEvent, Watcher,
};

const DEADLINE: Duration = Duration::from_secs(60);

/// A project in a temporary folder, its watch, and an engine with one container.
struct Lab<E> {
    folder: tempfile::TempDir,
    engine: E,
    container: String,
    watcher: Watcher,
    hands: Hands,
    /// Batches that were carried out, as the kinds of work in them.
    work: Vec<String>,
    notices: Vec<String>,
}

fn sync(path: &Path, then: After, initial: bool) -> Rule {
    let action = Action::Sync { target: "/srv/app".to_owned(), initial, then };
    Rule { path: path.to_owned(), action, ignore: Vec::new(), include: Vec::new() }
}

fn rules(service: &str, build: &Path, rules: Vec<Rule>) -> Vec<ServiceRules> {
    vec![ServiceRules { service: service.to_owned(), build: Some((build.to_owned(), "Dockerfile".to_owned())), rules }]
}

async fn fake() -> (FakeEngine, String) {
    let engine = FakeEngine::new();
    engine.registry_add("app", Behaviour::default());
    engine.image_pull("app", Progress::none()).await.unwrap();
    let spec =
        NetworkSpec { name: "net".to_owned(), labels: BTreeMap::new(), internal: true, subnet: None, workspace: None };
    engine.network_create(&spec).await.unwrap();
    let id = engine.container_create(&WantedContainer::new("web", "app", "net")).await.unwrap();
    engine.container_start(&id).await.unwrap();
    (engine, id)
}

fn running(container: &str, image: &str) -> Running {
    Running { image: image.to_owned(), containers: BTreeMap::from([(container.to_owned(), 1)]) }
}

async fn lab(files: &[(&str, &str)], make: impl Fn(&Path) -> Vec<Rule>) -> Lab<FakeEngine> {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("project");
    std::fs::create_dir_all(project.join("src")).unwrap();
    for (path, content) in files {
        write(&project.join(path), content);
    }
    let (engine, container) = fake().await;
    let rules = rules("web", &project, make(&project));
    let watcher = Watcher::start(&project, &folder.path().join("state"), rules).await.unwrap();
    let mut lab =
        Lab { folder, engine, container, watcher, hands: Hands::default(), work: Vec::new(), notices: Vec::new() };
    lab.watcher.running("web", running(&lab.container, "sha256:1"));
    lab
}

fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

impl<E: Engine> Lab<E> {
    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join("project").join(below)
    }

    /// Carries out what is due until the condition holds, or fails the test.
    async fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let begin = Instant::now();
        while !holds(self) {
            assert!(begin.elapsed() < DEADLINE, "not in time: {what}; {:?} {:?}", self.work, self.notices);
            self.step(Duration::from_millis(20)).await;
        }
    }

    /// Carries out what is due until nothing came for a while.
    async fn rest(&mut self) {
        while self.step(Duration::from_millis(700)).await {}
    }

    async fn step(&mut self, wait: Duration) -> bool {
        match tokio::time::timeout(wait, self.watcher.next()).await {
            Err(_elapsed) => false,
            Ok(Err(error)) => panic!("{error}"),
            Ok(Ok(WatchEvent::Notice(text))) => {
                self.notices.push(text);
                true
            }
            Ok(Ok(WatchEvent::Batch(batch))) => {
                self.carry_out(&batch).await;
                true
            }
        }
    }

    async fn carry_out(&mut self, batch: &Batch) {
        let outcome = match &batch.work {
            BatchWork::Rebuild { .. } => {
                self.work.push("rebuild".to_owned());
                Outcome::Done(Vec::new())
            }
            BatchWork::Update(update) => {
                let count =
                    |count: usize, what: &str| if count > 0 { format!("{what} {count} ") } else { String::new() };
                let put = update.syncs.iter().map(|sync| sync.put.len()).sum();
                let remove = update.syncs.iter().map(|sync| sync.remove.len()).sum();
                let restart = if update.restart { "restart" } else { "" };
                let work =
                    [count(put, "put"), count(remove, "remove"), count(update.execs.len(), "exec"), restart.to_owned()];
                self.work.push(work.concat().trim().to_owned());
                let report = self.hands.update(&self.engine, update, Duration::ZERO).await;
                self.notices.extend(report.notices);
                report.outcome
            }
        };
        self.watcher.ended(batch.id, &outcome);
    }
}

/// What the container should have at /srv/app of a folder here.
fn expected(folder: &Path) -> BTreeMap<String, FakeFile> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(folder).unwrap().display().to_string();
            let found = path.symlink_metadata().unwrap();
            let mode = found.permissions().mode() & 0o7777;
            let file = if found.is_dir() {
                folders.push(path);
                FakeFile::Folder(mode)
            } else if found.is_symlink() {
                FakeFile::Link(std::fs::read_link(&path).unwrap().display().to_string())
            } else {
                FakeFile::File(mode, std::fs::read(&path).unwrap())
            };
            files.insert(below, file);
        }
    }
    files
}

fn in_container(engine: &FakeEngine, container: &str) -> BTreeMap<String, FakeFile> {
    let below = |(path, file): (String, FakeFile)| Some((path.strip_prefix("srv/app/")?.to_owned(), file));
    engine.files(container).into_iter().filter_map(below).collect()
}

impl Lab<FakeEngine> {
    async fn until_equal(&mut self) {
        let source = self.path("src");
        self.until("the container has what the source has", |lab| {
            in_container(&lab.engine, &lab.container) == expected(&source)
        })
        .await;
        self.rest().await;
        assert_eq!(in_container(&self.engine, &self.container), expected(&source));
    }
}

#[tokio::test]
async fn whatever_is_done_to_files_is_done_in_the_container() {
    let mut lab = lab(&[("src/a", "1"), ("src/deep/er/b", "2")], |project| {
        vec![sync(&project.join("src"), After::Nothing, true)]
    })
    .await;
    lab.until_equal().await;
    assert_eq!(lab.work, ["put 4"]);
    lab.work.clear();

    // As editors save: a temporary file in the folder, renamed over the old one.
    write(&lab.path("src/.a.swp"), "x");
    write(&lab.path("src/a.tmp1234"), "saved");
    std::fs::rename(lab.path("src/a.tmp1234"), lab.path("src/a")).unwrap();
    std::fs::remove_file(lab.path("src/.a.swp")).unwrap();
    lab.until_equal().await;
    assert_eq!(lab.work, ["put 1"], "one save is one copy");

    std::fs::set_permissions(lab.path("src/a"), std::fs::Permissions::from_mode(0o755)).unwrap();
    symlink("deep/er", lab.path("src/link")).unwrap();
    lab.until_equal().await;
    std::fs::rename(lab.path("src/deep"), lab.path("src/moved")).unwrap();
    write(&lab.path("src/moved/er/c"), "3");
    lab.until_equal().await;
    std::fs::remove_dir_all(lab.path("src/moved")).unwrap();
    write(&lab.path("src/moved"), "a file now");
    std::fs::remove_file(lab.path("src/link")).unwrap();
    write(&lab.path("src/link/in/a/new/folder"), "x");
    lab.until_equal().await;
    // Folders that come from elsewhere, go, and come back as they were.
    write(&lab.folder.path().join("outside/x/y"), "y");
    std::fs::rename(lab.folder.path().join("outside"), lab.path("src/inside")).unwrap();
    lab.until_equal().await;
    std::fs::rename(lab.path("src/inside"), lab.folder.path().join("outside")).unwrap();
    lab.until_equal().await;
    std::fs::rename(lab.folder.path().join("outside"), lab.path("src/inside")).unwrap();
    lab.until_equal().await;
    write(&lab.path("src/inside/x/y"), "another");
    lab.until_equal().await;
    // The whole folder goes, and comes back.
    std::fs::remove_dir_all(lab.path("src")).unwrap();
    lab.until("all is gone", |lab| in_container(&lab.engine, &lab.container).is_empty()).await;
    write(&lab.path("src/again"), "x");
    lab.until_equal().await;
    assert_eq!(lab.notices, Vec::<String>::new());
}

#[tokio::test]
async fn each_action_is_done_once_for_many_changes() {
    let mut lab = lab(&[("src/a", "1"), ("conf/c", "1"), ("pkg/p", "1"), (".dockerignore", "**/*.log\n")], |project| {
        let plain =
            |path: &str, action| Rule { path: project.join(path), action, ignore: Vec::new(), include: Vec::new() };
        vec![
            Rule { ignore: vec!["*.tmp".to_owned()], ..sync(&project.join("src"), After::Restart, false) },
            plain("conf", Action::Restart),
            plain("pkg/p", Action::Rebuild),
        ]
    })
    .await;
    lab.rest().await;
    assert_eq!(lab.work, Vec::<String>::new(), "an image of the source needs nothing");
    for number in 0..300 {
        write(&lab.path(&format!("src/many/f{number}")), "x");
    }
    lab.rest().await;
    assert_eq!(lab.work, ["put 301 restart"]);
    lab.work.clear();
    write(&lab.path("conf/c"), "2");
    write(&lab.path("conf/d"), "2");
    lab.rest().await;
    assert_eq!(lab.work, ["restart"]);
    lab.work.clear();
    for path in ["src/x.tmp", "src/x.log", "src/.git/HEAD", "src/y~", "pkg/other", "other"] {
        write(&lab.path(path), "x");
    }
    lab.rest().await;
    assert_eq!(lab.work, Vec::<String>::new());
    write(&lab.path("pkg/p.new"), "2");
    std::fs::rename(lab.path("pkg/p.new"), lab.path("pkg/p")).unwrap();
    lab.rest().await;
    assert_eq!(lab.work, ["rebuild"]);
}

#[tokio::test]
async fn nothing_is_lost_while_nobody_watches() {
    let mut lab =
        lab(&[("src/a", "1"), ("src/b/c", "1")], |project| vec![sync(&project.join("src"), After::Nothing, false)])
            .await;
    write(&lab.path("src/a"), "2");
    write(&lab.path("src/new"), "2");
    lab.until("both are copied", |lab| in_container(&lab.engine, &lab.container).len() == 2).await;
    lab.rest().await;

    // Another process: the same container, then one of the same image, then one of a new image.
    let project = lab.path("");
    let state = lab.folder.path().join("state");
    let again = async |lab: &mut Lab<FakeEngine>, image: &str| {
        let rules = rules("web", &project, vec![sync(&project.join("src"), After::Nothing, false)]);
        lab.watcher = Watcher::start(&project, &state, rules).await.unwrap();
        lab.watcher.running("web", running(&lab.container, image));
        lab.work.clear();
    };
    std::fs::remove_file(lab.path("src/new")).unwrap();
    write(&lab.path("src/b/c"), "3");
    again(&mut lab, "sha256:1").await;
    lab.rest().await;
    assert_eq!(lab.work, ["put 1 remove 1"]);
    let files = in_container(&lab.engine, &lab.container);
    assert_eq!(files.keys().collect::<Vec<_>>(), ["a", "b", "b/c"]);
    again(&mut lab, "sha256:1").await;
    lab.rest().await;
    assert_eq!(lab.work, Vec::<String>::new(), "what is copied is not copied again");

    let mut wanted = WantedContainer::new("web-2", "app", "net");
    wanted.command = Some(Vec::new());
    lab.container = lab.engine.container_create(&wanted).await.unwrap();
    lab.engine.container_start(&lab.container).await.unwrap();
    again(&mut lab, "sha256:1").await;
    lab.rest().await;
    assert_eq!(lab.work, ["put 2"], "what changed since the image was built: a and b/c");

    lab.watcher.build_begins("web");
    lab.watcher.running("web", running("another", "sha256:2"));
    lab.rest().await;
    assert_eq!(lab.work, ["put 2"], "the new image has it all");
}

/// A process that is killed between the engine's work and its own note of it.
#[tokio::test]
async fn a_copy_that_nobody_heard_the_end_of_is_found_again() {
    let mut lab = lab(&[("src/a", "1")], |project| vec![sync(&project.join("src"), After::Nothing, false)]).await;
    lab.rest().await;
    write(&lab.path("src/new"), "x");
    let event = tokio::time::timeout(DEADLINE, lab.watcher.next()).await.unwrap().unwrap();
    let WatchEvent::Batch(batch) = event else { panic!("{event:?}") };
    let BatchWork::Update(update) = &batch.work else { panic!() };
    lab.hands.update(&lab.engine, update, Duration::ZERO).await;
    assert!(in_container(&lab.engine, &lab.container).contains_key("new"));
    std::fs::remove_file(lab.path("src/new")).unwrap();

    let project = lab.path("");
    let rules = rules("web", &project, vec![sync(&project.join("src"), After::Nothing, false)]);
    lab.watcher = Watcher::start(&project, &lab.folder.path().join("state"), rules).await.unwrap();
    lab.watcher.running("web", running(&lab.container, "sha256:1"));
    lab.until("it is removed", |lab| in_container(&lab.engine, &lab.container).is_empty()).await;
}

#[tokio::test]
async fn what_goes_wrong_is_said_and_done_again() {
    let mut lab = lab(&[("src/a", "1"), ("src/b", "1")], |project| {
        let reload = engine::ExecOptions { command: vec!["reload".to_owned()], ..Default::default() };
        vec![sync(&project.join("src"), After::Exec(reload), true)]
    })
    .await;
    lab.engine.program_set("reload", Some(engine::fake::Reply { output: "no such app".to_owned(), code: 3 }));
    lab.until_equal().await;
    lab.engine.fail_after(Some(0));
    write(&lab.path("src/a"), "2");
    lab.until("it fails", |lab| lab.notices.iter().any(|text| text.contains("it is gone"))).await;
    lab.engine.fail_after(None);
    lab.until_equal().await;
    let ended = format!("`reload` in container {} ended with 3: no such app", &lab.container[..12]);
    assert!(lab.notices.contains(&ended), "{:?}", lab.notices);

    lab.engine.program_set("rm", None);
    std::fs::remove_file(lab.path("src/b")).unwrap();
    lab.until("a build is asked for", |lab| lab.work.last().is_some_and(|work| work == "rebuild")).await;
    assert!(lab.notices.iter().any(|text| text.contains("no `rm`")), "{:?}", lab.notices);
    lab.rest().await;
    assert_eq!(lab.work.iter().filter(|work| *work == "rebuild").count(), 1);
}

/// What is copied then is newer than what was seen, and what is seen next is heard all the same.
#[tokio::test]
async fn a_save_while_another_is_being_copied_is_copied_once_more_at_most() {
    let mut lab = lab(&[("src/a", "1")], |project| vec![sync(&project.join("src"), After::Nothing, true)]).await;
    lab.until_equal().await;
    write(&lab.path("src/a"), "2");
    let next = tokio::time::timeout(DEADLINE, lab.watcher.next()).await.unwrap().unwrap();
    let WatchEvent::Batch(batch) = next else { panic!("{next:?}") };
    write(&lab.path("src/a"), "3");
    lab.work.clear();
    lab.carry_out(&batch).await;
    tokio::time::timeout(DEADLINE, lab.until_equal()).await.expect("it is copied again and again");
    assert!(lab.work.len() <= 2, "{:?}", lab.work);
}

/// More changes than the kernel's queue holds while nobody reads it.
#[tokio::test]
async fn a_flood_of_changes_loses_none() {
    let mut lab = lab(&[("src/a", "1")], |project| vec![sync(&project.join("src"), After::Nothing, true)]).await;
    lab.until_equal().await;
    for branch in 0..3 {
        for number in 0..4000 {
            let path = lab.path(&format!("src/d{}/f{number}", number % 40));
            match (number + branch) % 3 {
                0 => write(&path, &format!("{branch}")),
                1 => drop(std::fs::remove_file(&path)),
                _ => {}
            }
        }
    }
    lab.until_equal().await;
    assert!(lab.work.len() < 12, "{:?}", lab.work);
}

#[tokio::test]
async fn a_watch_on_20_000_files_begins_and_follows_quickly() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("project");
    for number in 0..20_000 {
        let path = project.join(format!("src/m{}/p{}/f{number}.py", number % 40, number % 400));
        if number < 400 {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        std::fs::write(path, "x").unwrap();
    }
    let rules = rules("web", &project, vec![sync(&project.join("src"), After::Nothing, false)]);
    let begin = Instant::now();
    let watcher = Watcher::start(&project, &folder.path().join("state"), rules).await.unwrap();
    let took = begin.elapsed();
    assert!(watcher.paths() >= 20_000);
    assert!(took < Duration::from_secs(5), "{took:?}");
    let (engine, container) = fake().await;
    let mut lab =
        Lab { folder, engine, container, watcher, hands: Hands::default(), work: Vec::new(), notices: Vec::new() };
    lab.watcher.running("web", running(&lab.container, "sha256:1"));
    lab.rest().await;
    let begin = Instant::now();
    write(&lab.path("src/m1/p1/f1.py"), "saved");
    lab.until("it is copied", |lab| !in_container(&lab.engine, &lab.container).is_empty()).await;
    eprintln!("began in {took:?}; a save took {:?}", begin.elapsed());
    assert_eq!(lab.work, ["put 1"]);
}

/// The real engine: a saved file is there, with the rights of the container's user; a removed one is gone.
#[tokio::test]
async fn a_save_is_in_a_real_container() {
    let docker = Docker::connect(Address::from_environment().unwrap()).await.expect("these tests need a Docker engine");
    let name = format!("lsw-{}", &uuid::Uuid::now_v7().simple().to_string()[16..]);
    let run = ["run", "-d", "--init", "--network", "none", "--name", &name, "--user", "1234:2345"];
    let script = ["debian:bookworm-slim", "sleep", "600"];
    let run = Command::new("docker").args(run).args(script).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    let id = String::from_utf8(run.stdout).unwrap().trim().to_owned();
    let _removed = Removed(name.clone());

    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("project");
    write(&project.join("src/kept"), "1");
    let rules = rules("web", &project, vec![sync(&project.join("src"), After::Nothing, true)]);
    let watcher = Watcher::start(&project, &folder.path().join("state"), rules).await.unwrap();
    let mut lab = Lab {
        folder,
        engine: docker,
        container: id.clone(),
        watcher,
        hands: Hands::default(),
        work: Vec::new(),
        notices: Vec::new(),
    };
    lab.watcher.running("web", running(&id, "sha256:1"));
    let shell = |script: &str| {
        let output = Command::new("docker").args(["exec", &name, "sh", "-c", script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    lab.until("the first copy", |_| shell("cat /srv/app/kept") == "1").await;
    let mut saves = Vec::new();
    for number in 0..5 {
        lab.rest().await;
        let (begin, batches) = (Instant::now(), lab.work.len());
        write(&lab.path("src/folder/saved"), &format!("save {number}"));
        lab.until("the save is copied", |lab| lab.work.len() > batches).await;
        saves.push(begin.elapsed());
        let saved = shell("cat /srv/app/folder/saved; stat -c %u:%g:%a /srv/app/folder/saved");
        assert!(saved.starts_with(&format!("save {number}1234:2345:")), "{saved}");
    }
    eprintln!("saves took {saves:?}");
    let there = shell("stat -c %.Y /srv/app/folder/saved");
    let here = std::fs::metadata(lab.path("src/folder/saved")).unwrap();
    let nanos = std::os::unix::fs::MetadataExt::mtime_nsec(&here);
    assert!(there.trim().ends_with(&format!("{nanos:09}")), "{there} {nanos}");
    std::fs::remove_dir_all(lab.path("src/folder")).unwrap();
    lab.until("it is removed", |_| shell("ls /srv/app") == "kept\n").await;
    assert_eq!(lab.notices, Vec::<String>::new());
}

/// A container that goes with the test.
struct Removed(String);

impl Drop for Removed {
    fn drop(&mut self) {
        let _gone = Command::new("docker").args(["rm", "-fv", &self.0]).output();
    }
}
