//! What people see: help, lists, progress and refusals as whole transcripts, with exit codes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use api::agent::EngineState;
use api::delivery::{Host, Instance, Plan, Release};
use api::pipeline::Run;
use api::{Page, Problem};
use rig::example::Repository;
use rig::stage::free_block;
use serde::de::DeserializeOwned;

use crate::scene::{BINARY, LIMIT, Scene, folder, on_scene};

/// How long one command, or the start of a process, may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(180);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What differs between runs.
pub(crate) const FILTERS: [(&str, &str); 20] = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "[id]"),
    (r"lsh1\.[0-9a-f]+\.[0-9a-f]+\.[0-9a-f]+", "[token]"),
    (r"\b[0-9a-f]{64}\b", "[hash]"),
    (r"\b[0-9a-f]{40}\b", "[commit]"),
    (r"\b[0-9a-f]{16}\b", "[release]"),
    (r"\b[0-9a-f]{12}\b", "[short]"),
    (r"-[0-9a-f]{10}\b", "-[definition]"),
    (r"(at|commit) [0-9a-f]{7}\b", "$1 [commit]"),
    (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "[time]"),
    (r"\b\d+(\.\d+)? (s|min)\b", "[span]"),
    (r"127\.[1-9]\d*\.\d+\.(\d+)", "127.x.y.$1"),
    (r"test\d+-(\d) +", "host$1 "),
    (r"test\d+-(\d)", "host$1"),
    (r"tester@\S+", "tester@[machine]"),
    (r"process \d+", "process [pid]"),
    (r"after \d+ ms", "after [n] ms"),
    (r"/[^/\s'\x22][^\s'\x22]*/(stage|app|other|hub|hub2|agents)\b", "[folder]/$1"),
    (r"\d+\.\d+\.\d+\+dfsg\d+|Engine \d+\.\S+", "[engine]"),
    (r"API \d\.\d+", "API [version]"),
    (r"last \d+ lines", "last [n] lines"),
];

macro_rules! assert_seen {
    ($name:expr, $text:expr) => {
        insta::with_settings!({ filters => $crate::command_line::FILTERS, omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!($name, $text);
        })
    };
}
pub(crate) use assert_seen;

/// What a command wrote and how it ended.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A person at a terminal: runs commands and keeps what was seen.
pub(crate) struct Terminal {
    pub(crate) home: tempfile::TempDir,
    /// The hub's address and data folder, when there is one.
    hub: Option<(String, PathBuf)>,
    /// What the environment says besides.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) seen: String,
}

impl Terminal {
    pub(crate) fn new(hub: Option<(String, PathBuf)>) -> Self {
        Self { home: tempfile::tempdir().unwrap(), hub, environment: Vec::new(), seen: String::new() }
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(BINARY);
        for name in ["HUB", "DATA", "LOG", "JOIN_TOKEN"] {
            command.env_remove(format!("LONGSHORE_{name}"));
        }
        if let Some((hub, data)) = &self.hub {
            command.env("LONGSHORE_HUB", hub).env("LONGSHORE_DATA", data);
        }
        command.env_remove("SUDO_USER").env("USER", "tester").env_remove("COLUMNS");
        command.envs(self.environment.iter().cloned());
        command.args(line.split_whitespace()).current_dir(self.home.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command without keeping what was seen.
    pub(crate) fn quietly(&self, line: &str) -> Said {
        let (out, err) = (self.home.path().join(".out"), self.home.path().join(".err"));
        let mut command = self.command(line);
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let mut child = Running(command.spawn().unwrap());
        let begun = Instant::now();
        let code = loop {
            if let Some(status) = child.0.try_wait().unwrap() {
                break status.code();
            }
            let so_far = || fs::read_to_string(&err).unwrap_or_default();
            assert!(begun.elapsed() < COMMAND_LIMIT, "`longshore {line}` does not end:\n{}", so_far());
            std::thread::sleep(LOOK_INTERVAL);
        };
        Said { code, out: fs::read_to_string(out).unwrap(), err: fs::read_to_string(err).unwrap() }
    }

    /// Runs a command that is to end with this code, and keeps what was seen.
    pub(crate) fn run(&mut self, line: &str, code: i32) -> Said {
        let said = self.quietly(line);
        assert_eq!(said.code, Some(code), "`longshore {line}`\n{}{}", said.out, said.err);
        self.seen.push_str(&format!("$ longshore {}\n", line.trim()));
        self.seen.push_str(&tidy(&said.out));
        for line in tidy(&said.err).lines() {
            self.seen.push_str(&format!("! {line}").trim_end().replace("\r", ""));
            self.seen.push('\n');
        }
        self.seen.push_str(&format!("exit {code}\n\n"));
        said
    }

    /// Runs a command with `--json`, whose data must be what the API says.
    pub(crate) fn json<T: DeserializeOwned>(&self, line: &str) -> T {
        let said = self.quietly(&format!("{line} --json"));
        assert_eq!(said.code, Some(0), "`longshore {line} --json`\n{}", said.err);
        serde_json::from_str(&said.out)
            .unwrap_or_else(|error| panic!("`longshore {line} --json`: {error}\n{}", said.out))
    }

    /// Waits until the engines of all hosts are so.
    fn engines_are(&self, state: impl Fn(&EngineState) -> bool) {
        let is_so = |host: &Host| host.report.as_ref().is_some_and(|report| state(&report.engine));
        let begun = Instant::now();
        loop {
            let hosts = self.json::<Page<Host>>("host ls").items;
            if !hosts.is_empty() && hosts.iter().all(is_so) {
                return;
            }
            assert!(begun.elapsed() < COMMAND_LIMIT, "{hosts:#?}");
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    pub(crate) fn file(&self, name: &str, text: &str) {
        fs::write(self.home.path().join(name), text).unwrap();
    }
}

/// Columns are as wide as what stands in them, builds of two services take turns, and what crashes does so a few times:
/// gaps become two spaces, lines of single services go, lines that repeat stand once.
fn tidy(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let words: Vec<&str> = line[indent..].split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
        let line = format!("{}{}", &line[..indent], words.join("  "));
        let of_service = ["web | ", "prepare | ", "app/prepare  "].iter().any(|start| line.starts_with(start));
        if !of_service && lines.last() != Some(&line) {
            lines.push(line);
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// A process that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everything that was started from a folder is gone when this is.
struct Processes(tempfile::TempDir);

impl Drop for Processes {
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Runtime::new() {
            let _ = runtime.block_on(rig::stage::end_processes(self.0.path(), &[]));
        }
    }
}

/// One exchange of HTTP as a browser or a script could send it: the status line and the body.
fn http(address: &str, method: &str, path: &str, headers: &[&str]) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let host = if headers.iter().any(|header| header.starts_with("Host:")) {
        String::new()
    } else {
        format!("Host: {address}\r\n")
    };
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(stream, "{method} {path} HTTP/1.1\r\n{host}{headers}Content-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some(format!("{}\n{body}\n", head.lines().next()?))
}

/// A hub whose engine is down.
fn hub_start(terminal: &Terminal, data: &Path, block: [u8; 2]) -> (Running, String) {
    let address = format!("127.{}.{}.1", block[0], block[1]);
    let config = data.with_extension("toml");
    let text = format!(
        "listen = \"{address}:5000\"\nagent_listen = \"{address}:5001\"\ndata = {data:?}\n[engine]\naddress = \"unix:///nonexistent.sock\"\n"
    );
    fs::write(&config, text).unwrap();
    let mut command = terminal.command("hub --config");
    command.arg(config).stderr(Stdio::null()).env_remove("LONGSHORE_DATA").current_dir("/");
    let running = Running(command.spawn().unwrap());
    let listen = format!("{address}:5000");
    let begun = Instant::now();
    while http(&listen, "GET", "/healthz", &[]).is_none() {
        assert!(begun.elapsed() < COMMAND_LIMIT, "the hub does not answer");
        std::thread::sleep(LOOK_INTERVAL);
    }
    (running, listen)
}

/// The help of a command and of all commands below it.
fn help(terminal: &mut Terminal, path: &str) {
    let text = terminal.quietly(&format!("{path} --help")).out;
    terminal
        .seen
        .push_str(&format!("$ longshore {path} --help\n{text}\n").replace("longshore  --help", "longshore --help"));
    let commands = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = commands.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    for name in names.filter(|name| *name != "help") {
        help(terminal, format!("{path} {name}").trim_start());
    }
}

#[test]
fn help_teaches() {
    let mut terminal = Terminal::new(None);
    help(&mut terminal, "");
    assert_seen!("help", terminal.seen);
    let completions = terminal.quietly("completions bash");
    assert!(completions.code == Some(0) && completions.out.contains("_longshore()"), "{}", completions.out);
}

#[test]
fn a_slip_of_the_hand_is_explained() {
    let mut terminal = Terminal::new(None);
    for line in ["nonsense", "promot app --to qa", "promote", "promote app/We!b --to qa", "promote app --to qa --force"]
    {
        terminal.run(line, 2);
    }
    for line in ["--hub ftp://hub host ls", "host token --label x", "build", "env apply -f nofile.yaml"] {
        terminal.run(line, 2);
    }
    terminal.run("release ls --hub 127.0.0.1:1", 5);
    terminal.run("--hub 127.0.0.1:1 promote app --to qa --data .", 2);
    terminal.run("version", 0);
    terminal.run("version --json", 0);
    assert_seen!("slips", terminal.seen);
    let said = terminal.quietly("release ls --hub 127.0.0.1:1 --json");
    let problem: Problem = serde_json::from_str(&said.err).unwrap();
    assert_eq!((said.code, said.out.as_str(), problem.kind.as_str()), (Some(5), "", "hub-unreachable"));
}

#[test]
fn what_a_hub_cannot_do_or_take_is_refused_whole() {
    let processes = Processes(tempfile::tempdir().unwrap());
    let root = processes.0.path();
    let [block, foreign] = [free_block([77, 41]).unwrap(), free_block([77, 42]).unwrap()];
    let (data, address) = (root.join("hub"), format!("127.{}.{}", block[0], block[1]));
    let mut terminal = Terminal::new(None);
    let (_hub, listen) = hub_start(&terminal, &data, block);

    hubs_refused(&mut terminal, root, &address);
    assert_seen!("hubs_refused", terminal.seen);

    let guarded: String = [
        http(&listen, "POST", "/api/v1/promotions", &[]),
        http(&listen, "POST", "/api/v1/promotions", &["Authorization: Bearer guessed"]),
        http(&listen, "GET", "/api/v1/releases", &["Host: hub.example"]),
        http(&listen, "POST", "/api/v1/promotions", &["Origin: http://page.example"]),
        http(&listen, "POST", "/v2/app/blobs/uploads/", &["Origin: http://page.example"]),
        http(&listen, "GET", "/api/v1/nothing", &[]),
    ]
    .into_iter()
    .map(Option::unwrap)
    .collect();
    assert_seen!("a47_pages_and_strangers", guarded);

    terminal = Terminal::new(Some((format!("http://{listen}"), data)));
    for line in ["release ls", "env ls", "rollout status", "host ls"] {
        terminal.run(line, 0);
    }
    environments_refused(&mut terminal);
    unknown(&mut terminal);
    let repository = Repository::create(&folder("tests/app"), &root.join("app")).unwrap();
    terminal.run(&format!("build --repo {}", repository.folder().display()), 5);
    assert!(
        http(&listen, "POST", "/v2/app/blobs/uploads/", &[]).unwrap().starts_with("HTTP/1.1 202"),
        "the registry works"
    );
    assert!(terminal.json::<Page<Release>>("release ls").items.is_empty());
    assert!(terminal.json::<Page<Plan>>("rollout status").items.is_empty());
    assert_seen!("refused", terminal.seen);

    terminal.seen.clear();
    let (_foreign, other) = hub_start(&terminal, &root.join("hub2"), foreign);
    let stranger = Terminal::new(Some((format!("http://{other}"), root.join("hub2"))));
    agents_refused(&mut terminal, &stranger, root, &address);
    assert_seen!("agents_refused", terminal.seen);
}

/// Hubs that do not start, and what they leave behind.
fn hubs_refused(terminal: &mut Terminal, root: &Path, address: &str) {
    let made = root.join("app");
    let files = [
        "lisen = \"127.0.0.1:5000\"",
        "listen = \"127.0.0.1\"",
        "listen = \"0.0.0.0:5000\"",
        "[build]\nparallel = 0",
        "[engine]\naddress = \"ftp://engine\"",
        "[database]\nurl = \"mysql://me:secret@there/db\"",
        "[build\n",
    ];
    for file in files {
        terminal.file("hub.toml", file);
        terminal.seen.push_str(&format!("# hub.toml\n{file}\n"));
        terminal.run(&format!("hub --config hub.toml --data {}", made.display()), 2);
    }
    terminal.run(&format!("hub --config nothing.toml --data {}", made.display()), 2);
    assert!(!made.exists(), "a configuration that is refused touches nothing");
    let taken = format!("--listen {address}.1:5000 --agent-listen {address}.2:5001");
    terminal.run(&format!("hub --data {} {taken}", made.display()), 4);
    let left: Vec<_> = fs::read_dir(&made).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"], "a hub that cannot listen begins nothing");
    fs::remove_dir_all(&made).unwrap();
    let free = format!("--listen {address}.2:5000 --agent-listen {address}.2:5001");
    terminal.run(&format!("hub --data {} {free}", root.join("hub").display()), 4);
}

fn environments_refused(terminal: &mut Terminal) {
    let target = "target: {docker: {hosts: [host1]}}";
    terminal.file(
        "environments.yaml",
        &format!("environments:\n  qa:\n    {target}\n  prod:\n    after: qa\n    {target}\n"),
    );
    terminal.run("env apply -f environments.yaml", 0);
    let files = [
        "environments:\n  qa:\n    targt: {docker: {hosts: [host1]}}\n".to_owned(),
        "environments:\n  qa: [\n".to_owned(),
        String::new(),
        format!("environments:\n  Q!:\n    {target}\n"),
        "environments:\n  qa:\n    target: {docker: {}}\n".to_owned(),
        format!("environments:\n  lab:\n    {target}\n  qa:\n    after: prdo\n    {target}\n"),
        format!("environments:\n  a:\n    after: b\n    {target}\n  b:\n    after: a\n    {target}\n"),
        format!("environments:\n  qa:\n    {target}\n    rollout: {{max_unavailable: 0}}\n"),
    ];
    for file in files {
        terminal.file("bad.yaml", &file);
        terminal.seen.push_str(&format!("# bad.yaml\n{file}"));
        terminal.run("env apply -f bad.yaml", 2);
    }
    terminal.run("env ls", 0);
}

/// Names that the hub does not know.
fn unknown(terminal: &mut Terminal) {
    let unknown = [
        "release show abc",
        "env diff app --env prdo",
        "rollout status nope",
        "rollout status -f",
        "why app --env prdo",
        "promote app --to prdo",
        "rollback app --env prdo",
        "logs app --env qa",
        "ps app --env qa",
        "ps --env qa",
        "build --log nope",
    ];
    for line in unknown {
        terminal.run(line, 3);
    }
    terminal.run("release show xyz", 2);
    terminal.run("promote app --to qa", 4);
    terminal.run("promote app --to qa --data .", 2);
}

/// Machines that do not become hosts, and one whose engine is down.
fn agents_refused(terminal: &mut Terminal, stranger: &Terminal, root: &Path, address: &str) {
    let agent = |number: u8, more: &str| {
        let data = root.join("agents").join(number.to_string());
        let at = format!("{address}.{number}");
        let places = format!("--address {at} --mesh {at}:5200 --registry {at}:5100 --peers {at}:5101");
        let places = format!("{places} --hub-agent {address}.1:5001");
        format!("agent --data {} --name host1 {places} --engine unix:///nonexistent.sock {more}", data.display())
    };
    let token = |terminal: &Terminal| terminal.quietly("host token --host host1").out.trim().to_owned();
    let good = token(terminal);
    let mut command = terminal.command(&agent(11, &format!("--join {good}")));
    let _host = Running(command.stderr(Stdio::null()).spawn().unwrap());
    terminal.engines_are(|state| matches!(state, EngineState::Down { error } if error.contains("nonexistent")));
    terminal.run("host ls", 0);
    terminal.run(&agent(12, &format!("--join {good}")), 4);
    terminal.run(&agent(12, &format!("--join {}", token(stranger))), 4);
    terminal.run(&agent(12, "--join garbage"), 2);
    terminal.run(&agent(12, ""), 2);
    terminal.run(&agent(11, ""), 4);
    for file in ["identity.json", "certificate.pem"] {
        assert!(root.join("agents/11").join(file).exists() && !root.join("agents/12").join(file).exists(), "{file}");
    }
    assert_eq!(terminal.json::<Page<Host>>("host ls").items.len(), 1);
}

#[test]
fn the_way_of_a_release_as_it_is_seen() {
    on_scene(folder("tests/app"), |scene| async move {
        let result = seen(&scene);
        (scene, result)
    });
}

fn seen(scene: &Scene) -> anyhow::Result<()> {
    let mut terminal = Terminal::new(Some((scene.stage.url(), scene.stage.data())));
    let [qa, prod, _] = scene.hosts;
    terminal.file(
        "environments.yaml",
        &format!(
            "environments:\n  qa:\n    target: {{docker: {{hosts: [{qa}]}}}}\n  prod:\n    after: qa\n    target: {{docker: {{hosts: [{prod}]}}}}\n"
        ),
    );
    first_release(&mut terminal, scene)?;
    builds_refused(&mut terminal, scene)?;
    later_releases(&mut terminal, scene)
}

fn first_release(terminal: &mut Terminal, scene: &Scene) -> anyhow::Result<()> {
    let build = format!("build --repo {} --ref main", scene.repository.folder().display());
    terminal.engines_are(|state| matches!(state, EngineState::Up { .. }));
    terminal.run("host ls", 0);
    for line in ["env apply -f environments.yaml --dry-run", "env apply -f environments.yaml"] {
        terminal.run(line, 0);
    }
    terminal.run("env apply -f environments.yaml", 0);
    terminal.run("env ls", 0);
    let said = terminal.run(&build, 0);
    ensure!(said.err.contains(" [2/4] RUN "), "the log of the build is not shown:\n{}", said.err);
    terminal.run("release ls app/web", 0);
    let releases: Page<Release> = terminal.json("release ls app/web");
    terminal.run(&format!("release show {}", releases.items[0].id), 0);
    terminal.run("env diff app --env qa", 0);
    terminal.run("why app --env qa", 0);
    terminal.run("promote app --to prod", 4);
    terminal.run("promote app --to qa", 0);
    terminal.run("promote app --to qa", 0);
    terminal.run("rollback app --env qa", 4);
    terminal.run("promote app/wob --to qa", 3);
    terminal.run("rollout status", 0);
    let plans: Page<Plan> = terminal.json("rollout status --env qa");
    terminal.run(&format!("rollout status {}", plans.items[0].id), 0);
    terminal.run("rollout status -f", 0);
    terminal.run("ps --env qa", 0);
    terminal.run("ps wob --env qa", 3);
    terminal.run("logs --env qa web", 0);
    terminal.run("why app/web --env prod", 0);
    terminal.run("env diff app --env prod --from qa", 0);
    assert_seen!("first_release", std::mem::take(&mut terminal.seen));

    let shown: Release = terminal.json(&format!("release show {}", releases.items[0].id));
    let _: Plan = terminal.json(&format!("rollout status {}", plans.items[0].id));
    let instances: Vec<Instance> = terminal.json("ps app --env qa");
    let web = instances.iter().find(|instance| instance.service.as_str() == "web");
    ensure!(web.is_some_and(|web| web.digest == shown.image.digest), "{instances:#?}");
    let again: Run = terminal.json(&build);
    ensure!(again.builds.iter().all(|build| build.reason.starts_with("unchanged")), "{again:#?}");
    let line: api::delivery::LogLine = terminal.json("logs --env qa web");
    ensure!(line.text == "serving version 1", "{line:?}");
    for line in ["env ls", "env diff app --env prod", "why app --env prod", "host ls", "promote app --to qa"] {
        let _: serde_json::Value = terminal.json(line);
    }
    Ok(())
}

/// Commits that cannot be built, each taken back afterwards.
fn builds_refused(terminal: &mut Terminal, scene: &Scene) -> anyhow::Result<()> {
    let repository = &scene.repository;
    let build = format!("build web --repo {}", repository.folder().display());
    let before: Page<Release> = terminal.json("release ls");
    let broken = [
        ("web/Dockerfile", "COPY . .", "RUN echo some output >&2 && cp /nothing /there", 6),
        ("web/Dockerfile", "FROM debian", "FORM debian", 6),
        ("compose.yaml", "build: ./web", "build: ./wob", 3),
        ("compose.yaml", "restart: \"no\"", "restrat: \"no\"", 2),
        ("compose.yaml", "services:", "services: [", 2),
        ("compose.yaml", "    restart: \"no\"", "    restart: \"no\"\n    ports: [\"8080:9000\"]", 2),
    ];
    for (file, from, to, code) in broken {
        let good = fs::read_to_string(repository.folder().join(file))?;
        repository.edit(file, from, to)?;
        repository.commit("Broken")?;
        terminal.seen.push_str(&format!("# {file}: {}\n", to.trim().replace('\n', "\n# ")));
        terminal.run(&build, code);
        fs::write(repository.folder().join(file), good)?;
        repository.commit("Mended")?;
    }
    let elsewhere = [
        (format!("{build} --ref mian"), 3),
        (format!("{build} --ref a..b"), 2),
        (format!("{build} --folder sub"), 3),
        (build.replace("build web", "build wob"), 3),
        ("build --repo /nowhere/at/all".to_owned(), 5),
        ("build --repo http://127.0.0.1:1/shop.git".to_owned(), 5),
        ("build --repo https://me:secret@hub.example/shop.git".to_owned(), 2),
    ];
    for (line, code) in elsewhere {
        terminal.run(&line, code);
    }
    assert_seen!("builds_refused", std::mem::take(&mut terminal.seen));
    let after: Page<Release> = terminal.json("release ls");
    ensure!(before.items == after.items, "a build that failed recorded releases: {after:#?}");
    Ok(())
}

fn later_releases(terminal: &mut Terminal, scene: &Scene) -> anyhow::Result<()> {
    let repository = &scene.repository;
    let build = |repository: &Repository| format!("build --repo {}", repository.folder().display());
    // A second app that publishes the same port of the same host.
    let other = Repository::create(&folder("tests/app"), &terminal.home.path().join("other"))?;
    other.edit("compose.yaml", "services:", "name: other\nservices:")?;
    other.commit("Another app")?;
    ensure!(terminal.quietly(&build(&other)).code == Some(0), "the other app is built");
    terminal.run("promote other --to qa", 4);
    terminal.run("ps --env qa", 2);

    repository.edit("web/server.py", "VERSION = \"1\"", "VERSION = \"2\"")?;
    repository.commit("Version 2")?;
    terminal.run(&build(repository), 0);
    let begun = Instant::now();
    terminal.run("promote app --to prod --force --reason urgent", 0);
    ensure!(begun.elapsed() < LIMIT, "promoting takes {:?}", begun.elapsed());
    terminal.run("promote app/web --to qa", 0);
    terminal.run("rollback app --env qa --reason slow", 0);
    let detached = terminal.run("promote app/web --to qa --detach", 0);
    terminal.run(&format!("rollout status -f {}", detached.out.trim()), 0);

    let failing = "raise SystemExit('the key of the safe is lost')\nserver = Server";
    repository.edit("web/server.py", "server = Server", failing)?;
    repository.commit("A version that does not start")?;
    ensure!(terminal.quietly(&build(repository)).code == Some(0), "the failing version is built");
    terminal.run("promote app/web --to qa", 7);
    terminal.run("why app/web --env qa", 0);
    let plans: Page<Plan> = terminal.json("rollout status --app app");
    terminal.run(&format!("rollout status {}", plans.items[0].id), 0);
    terminal.run("ps app --env qa", 0);
    terminal.run("rollout status --app app --env qa --limit 1", 0);
    assert_seen!("later_releases", std::mem::take(&mut terminal.seen));
    Ok(())
}
