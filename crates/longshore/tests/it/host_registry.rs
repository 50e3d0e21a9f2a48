//! The real runtimes pull through a host's agent, from the hub when the agent is down, and from the agent when the hub is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rig::engine::run;
use serde_json::Value;

use crate::clients::{Process, free_address, image, push};
use crate::scene::BINARY;

const HOST: &str = "pulls";

/// A hub and an agent, and runtimes whose storage and configuration is the test's.
struct Scene {
    folder: tempfile::TempDir,
    hub: Process,
    agent: Process,
    listen: String,
    agents: String,
    registry: String,
    mesh: String,
    _containerd: Process,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.agent.kill();
        self.hub.kill();
        // The agent's proxy outlives it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _ = runtime.block_on(rig::stage::end_processes(self.folder.path(), &[]));
        let pulled = format!("{}/round/skopeo:1", self.registry);
        let _ = run(Command::new("docker").args(["rmi", "--force", &pulled]));
    }
}

impl Scene {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [listen, agents, registry, mesh] = [(); 4].map(|()| free_address());
        let hub = start_hub(folder.path(), &listen, &agents);
        let token = longshore(
            folder.path(),
            "hub",
            &["--hub", &format!("http://{listen}"), "host", "token", "--host", HOST, "--json"],
        );
        let token: Value = serde_json::from_str(&run(&mut { token }).unwrap()).unwrap();
        let containerd = start_containerd(folder.path());
        std::fs::create_dir_all(folder.path().join("home/.config/containers")).unwrap();
        let storage = folder.path().join("podman");
        let storage =
            format!("[storage]\ndriver = \"vfs\"\ngraphroot = {:?}\nrunroot = {:?}\n", storage, storage.join("run"));
        std::fs::write(folder.path().join("storage.conf"), storage).unwrap();
        let placeholder = Process::start_with(&mut Command::new("true"), Stdio::null());
        let mut scene =
            Self { folder, hub, agent: placeholder, listen, agents, registry, mesh, _containerd: containerd };
        scene.agent_start(&["--join", token["token"].as_str().unwrap()]);
        scene
    }

    fn agent_start(&mut self, more: &[&str]) {
        let Self { listen, agents, registry, mesh, .. } = &*self;
        let mut command = longshore(self.folder.path(), "agent", &["agent", "--name", HOST, "--hub-agent", agents]);
        command.args(["--registry", registry, "--mesh", mesh, "--address", "127.0.0.1", "--no-peers"]);
        command.args(["--mirror", listen, "--store-bytes-max", "1GiB"]).args(more);
        self.agent = Process::start_with(&mut command, Stdio::null());
        let mut ready = longshore(self.folder.path(), "agent", &["agent", "status"]);
        self.agent.until(&mut ready);
    }

    fn agent(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(&mut longshore(self.folder.path(), "agent", &[&["agent"], arguments].concat()))
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.agent(&["status", "--json"]).unwrap()).unwrap()
    }

    fn etc(&self) -> PathBuf {
        self.folder.path().join("home/.config")
    }

    fn image(&self) -> String {
        format!("{}/round/skopeo:1", self.listen)
    }

    /// Pulls anew, by the image's own name.
    fn podman(&self) -> anyhow::Result<String> {
        let _ = run(runtime(self.folder.path(), "podman").args(["rmi", "--force", &self.image()]));
        run(runtime(self.folder.path(), "podman").args(["pull", "--quiet", "--tls-verify=false", &self.image()]))
    }

    fn ctr(&self) -> anyhow::Result<String> {
        let _ = run(runtime(self.folder.path(), "ctr").args(["images", "rm", "--sync", &self.image()]));
        let hosts = self.etc().join("containerd/certs.d");
        run(runtime(self.folder.path(), "ctr").args(["images", "pull", "--hosts-dir"]).arg(hosts).arg(self.image()))
    }

    fn docker(&self) -> anyhow::Result<String> {
        let image = format!("{}/round/skopeo:1", self.registry);
        let _ = run(Command::new("docker").args(["rmi", "--force", &image]));
        run(Command::new("docker").args(["pull", "--quiet", &image]))
    }
}

/// A program with the storage and configuration of the test.
fn runtime(folder: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("HOME", folder.join("home")).env_remove("XDG_CONFIG_HOME");
    command.env("CONTAINERS_STORAGE_CONF", folder.join("storage.conf"));
    command.env("CONTAINERD_ADDRESS", folder.join("containerd/socket"));
    command.env("CONTAINERD_NAMESPACE", "test").env("CONTAINERD_SNAPSHOTTER", "native");
    command
}

fn longshore(folder: &Path, data: &str, arguments: &[&str]) -> Command {
    let mut command = runtime(folder, BINARY);
    command.arg("--data").arg(folder.join(data)).args(arguments);
    command
}

fn start_hub(folder: &Path, listen: &str, agents: &str) -> Process {
    let mut command = longshore(folder, "hub", &["hub", "--listen", listen, "--agent-listen", agents]);
    let mut hub = Process::start_with(&mut command, Stdio::null());
    hub.until(Command::new("curl").args(["-fsS", &format!("http://{listen}/v2/")]));
    hub
}

fn start_containerd(folder: &Path) -> Process {
    let home = folder.join("containerd");
    std::fs::create_dir(&home).unwrap();
    let (root, state, socket) = (home.join("root"), home.join("state"), home.join("socket"));
    let config = format!(
        "version = 2\nroot = {root:?}\nstate = {state:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n"
    );
    std::fs::write(home.join("config.toml"), config).unwrap();
    let mut command = Command::new("containerd");
    let mut containerd = Process::start_with(command.arg("--config").arg(home.join("config.toml")), Stdio::null());
    containerd.until(runtime(folder, "ctr").arg("version"));
    containerd
}

#[test]
fn docker_podman_and_ctr_pull_through_the_agent_and_past_it_when_it_is_down() {
    let mut scene = Scene::start();
    let source = image(scene.folder.path());
    let to = format!("docker://{}", scene.image());
    let digest = push(&source, &to, "--dest-tls-verify=false", scene.folder.path());

    let etc = scene.etc();
    let etc = etc.to_str().unwrap();
    let image = scene.image();
    let told = scene.agent(&["install", "--etc", etc, "--image", &image]).unwrap();
    for expected in [
        "docker: nothing to write".to_owned(),
        format!("docker: pulled {}/round/skopeo:1 through the agent", scene.registry),
        format!("wrote {etc}/containerd/certs.d/{}/hosts.toml", scene.listen),
        format!("containerd: pulled {image} through the agent"),
        format!("wrote {etc}/containers/registries.conf.d/50-longshore.conf"),
        format!("podman: pulled {image} through the agent"),
    ] {
        assert!(told.contains(&expected), "{expected}: {told}");
    }
    let again = scene.agent(&["install", "--etc", etc]).unwrap();
    assert!(!again.contains("wrote") && again.contains("is as it should be"), "{again}");

    // Three runtimes, one copy from the hub.
    let status = scene.status();
    let held = status["images"].as_array().unwrap().iter().find(|held| held["digest"] == *digest).unwrap();
    assert!(held["bytes"].as_u64().unwrap() > 1_000_000);
    assert_eq!((&held["bytes_there"], &held["from_hub"]), (&held["bytes"], &held["bytes"]));
    assert_eq!((&held["is_on_engine"], &status["held_twice_bytes"]), (&true.into(), &held["bytes"]));
    assert_eq!(status["store"]["used_bytes"], held["bytes"]);
    assert!(scene.agent(&["status"]).unwrap().contains("complete"));

    // Without the agent the runtimes go to the hub by themselves.
    scene.agent.kill();
    scene.podman().unwrap();
    scene.ctr().unwrap();
    let away = scene.agent(&["status"]).unwrap_err().to_string();
    assert!(away.contains("No agent answers on this machine"), "{away}");

    // Without the hub they have what the agent has, killed and started as it was.
    scene.hub.kill();
    scene.agent_start(&[]);
    scene.podman().unwrap();
    scene.ctr().unwrap();
    scene.docker().unwrap();
    let status = scene.status();
    let held = status["images"].as_array().unwrap().iter().find(|held| held["digest"] == *digest).unwrap();
    assert_eq!((&held["from_disk"], &held["from_hub"]), (&held["bytes"], &0.into()));

    let left = scene.agent(&["leave"]).unwrap();
    assert_eq!(left.lines().filter(|line| line.starts_with("removed ")).count(), 2, "{left}");
    assert!(
        !Path::new(etc).join("containerd").exists() && !Path::new(etc).join("containers/registries.conf.d").exists()
    );
    scene.podman().unwrap_err();
}

/// An agent that gives pieces to others, and asks them.
struct Member {
    process: Process,
    data: String,
    registry: String,
}

impl Member {
    fn start(folder: &Path, name: &str, hub: (&str, &str)) -> Self {
        let token = ["--hub", &format!("http://{}", hub.0), "host", "token", "--host", name, "--json"];
        let token: Value = serde_json::from_str(&run(&mut longshore(folder, "hub", &token)).unwrap()).unwrap();
        let [registry, mesh] = [(); 2].map(|()| free_address());
        let mut command = longshore(folder, name, &["agent", "--name", name, "--hub-agent", hub.1]);
        command.args(["--registry", &registry, "--mesh", &mesh, "--address", "127.0.0.1", "--peers", "127.0.0.1:0"]);
        // No engine: only its registry is asked.
        command.args(["--engine", &format!("unix://{}", folder.join("no-engine").display())]);
        command.args(["--join", token["token"].as_str().unwrap()]);
        let log = std::fs::File::create(folder.join(format!("{name}.log"))).unwrap();
        let mut process = Process::start_with(&mut command, log.into());
        process.until(&mut longshore(folder, name, &["agent", "status"]));
        Self { process, data: name.to_owned(), registry }
    }

    fn pull(&self, folder: &Path) -> Value {
        let to = format!("dir:{}", folder.join(format!("{}-pulled", self.data)).display());
        let from = format!("docker://{}/round/skopeo:1", self.registry);
        run(Command::new("skopeo").args(["copy", "--src-tls-verify=false", &from, &to])).unwrap();
        let status = run(&mut longshore(folder, &self.data, &["agent", "status", "--json"])).unwrap();
        serde_json::from_str::<Value>(&status).unwrap()
    }
}

#[test]
fn a_host_takes_pieces_from_another_and_hardly_any_from_the_hub() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (listen, agents) = (free_address(), free_address());
    let mut hub = start_hub(folder, &listen, &agents);
    let source = image(folder);
    push(&source, &format!("docker://{listen}/round/skopeo:1"), "--dest-tls-verify=false", folder);
    let [mut first, mut second] = ["host-a", "host-b"].map(|name| Member::start(folder, name, (&listen, &agents)));
    let of = |status: &Value, what: &str| status["images"][0][what].as_u64().unwrap();

    let status = first.pull(folder);
    let bytes = of(&status, "bytes");
    assert!(bytes > 1_000_000 && of(&status, "from_hub") == bytes, "{status}");
    let status = second.pull(folder);
    println!("the second host: {} of {bytes} bytes from the first", of(&status, "from_peers"));
    assert_eq!((of(&status, "bytes_there"), &status["fallbacks"]["count"]), (bytes, &0.into()), "{status}");
    // 1.1 copies from the hub for both.
    assert!(of(&status, "from_hub") <= bytes / 10, "{status}");
    assert!(of(&status, "from_peers") >= bytes / 10 * 9, "{status}");

    for process in [&mut first.process, &mut second.process, &mut hub] {
        process.kill();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(rig::stage::end_processes(folder, &[])).unwrap();
}
