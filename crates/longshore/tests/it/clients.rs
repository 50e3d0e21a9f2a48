//! Real clients push to a hub and pull from it; what was acknowledged is there after `kill -9`.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rig::engine::run;

use crate::scene::BINARY;

/// How long a hub may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);

struct Hub {
    process: Child,
    listen: String,
}

impl Hub {
    fn start(data: &Path, listen: &str, agents: &str) -> Self {
        let process = Command::new(BINARY)
            .args(["hub", "--listen", listen, "--agent-listen", agents, "--data"])
            .arg(data)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while run(Command::new("curl").args(["-fsS", &format!("http://{listen}/v2/")])).is_err() {
            assert!(begun.elapsed() < START_LIMIT, "the hub does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { process, listen: listen.to_owned() }
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// The digest that the registry gives for a tag, of exactly the bytes it serves.
    fn digest(&self, name: &str) -> String {
        let arguments =
            ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &format!("docker://{}/{name}", self.listen)];
        run(Command::new("skopeo").args(arguments)).unwrap().trim().to_owned()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An image of several layers as an OCI layout, made without an engine.
fn image(folder: &Path) -> String {
    let layout = folder.join("layout");
    let root = folder.join("root");
    let buildah = |arguments: &[&str]| {
        let store = ["--root", root.to_str().unwrap(), "--runroot", root.to_str().unwrap(), "--storage-driver", "vfs"];
        run(Command::new("buildah").args(store).args(arguments)).unwrap().trim().to_owned()
    };
    let mut from = "scratch".to_owned();
    for layer in ["first", "second", "third"] {
        let file = folder.join(layer);
        // Big enough to be sent in several chunks, and not the same twice.
        let bytes: Vec<u8> = (0..3_000_000_u32)
            .flat_map(|n| (n.wrapping_mul(2_654_435_761) ^ u32::from(layer.as_bytes()[0])).to_le_bytes())
            .collect();
        std::fs::write(&file, bytes).unwrap();
        let container = buildah(&["from", &from]);
        buildah(&["copy", &container, file.to_str().unwrap(), "/"]);
        from = format!("localhost/{layer}");
        buildah(&["commit", "--format", "oci", &container, &from]);
    }
    let target = format!("oci:{}:image", layout.display());
    buildah(&["push", &from, &target]);
    target
}

#[test]
fn clients_round_trip_an_image_and_kill_9_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let agents = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let (listen, agents) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{agents}"));
    let hub = Hub::start(&data, &listen, &agents);
    let source = image(folder.path());
    let scratch = |name: &str| folder.path().join(name).display().to_string();

    // skopeo, straight from the layout.
    let digest_file = scratch("digest");
    let to = format!("docker://{listen}/round/skopeo:1");
    run(Command::new("skopeo").args(["copy", "--dest-tls-verify=false", "--digestfile", &digest_file, &source, &to]))
        .unwrap();
    let digest = std::fs::read_to_string(&digest_file).unwrap().trim().to_owned();
    hub.kill();

    let hub = Hub::start(&data, &listen, &agents);
    assert_eq!(hub.digest("round/skopeo:1"), digest);
    let back = format!("oci:{}:image", scratch("back"));
    run(Command::new("skopeo").args(["copy", "--src-tls-verify=false", &to, &back])).unwrap();
    let by_digest = format!("docker://{listen}/round/skopeo@{digest}");
    let again = format!("dir:{}", scratch("again"));
    run(Command::new("skopeo").args(["copy", "--src-tls-verify=false", &by_digest, &again])).unwrap();
    let manifest = std::fs::read(Path::new(&scratch("again")).join("manifest.json")).unwrap();
    assert_eq!(sha256(&manifest), digest);

    // podman and buildah, each with a store of its own.
    for client in ["podman", "buildah"] {
        let root = scratch(&format!("{client}-store"));
        let name = format!("{listen}/round/{client}:1");
        let call = |arguments: &[&str]| {
            let store = ["--root", &root, "--runroot", &root, "--storage-driver", "vfs"];
            run(Command::new(client).args(store).args(arguments)).unwrap()
        };
        let source = format!("{listen}/round/skopeo@{digest}");
        let id = call(&["pull", "--quiet", "--tls-verify=false", &source]);
        let to = format!("docker://{name}");
        call(&["push", "--quiet", "--tls-verify=false", id.trim(), &to]);
        assert_same_image(&hub, &format!("round/{client}:1"), &to, &by_digest);
        call(&["rmi", "--force", id.trim()]);
        call(&["pull", "--quiet", "--tls-verify=false", &name]);
    }

    // docker, through the engine.
    let name = format!("{listen}/round/docker:1");
    let docker = |arguments: &[&str]| run(Command::new("docker").args(arguments));
    docker(&["pull", "--quiet", &format!("{listen}/round/skopeo@{digest}")]).unwrap();
    docker(&["tag", &format!("{listen}/round/skopeo@{digest}"), &name]).unwrap();
    docker(&["push", &name]).unwrap();
    let pushed = hub.digest("round/docker:1");
    hub.kill();
    let hub = Hub::start(&data, &listen, &agents);
    assert_eq!(hub.digest("round/docker:1"), pushed);
    docker(&["rmi", "--force", &name, &format!("{listen}/round/skopeo@{digest}")]).unwrap();
    let pulled = docker(&["pull", &format!("{listen}/round/docker@{pushed}")]);
    let _ = docker(&["rmi", "--force", &format!("{listen}/round/docker@{pushed}")]);
    assert!(pulled.unwrap().contains(&pushed));
}

/// Clients that repack a manifest still must end with the same layers and configuration, and with what the registry says.
fn assert_same_image(hub: &Hub, name: &str, to: &str, source: &str) {
    let raw =
        |place: &str| run(Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", place])).unwrap();
    let manifest = raw(to);
    assert_eq!(sha256(manifest.as_bytes()), hub.digest(name));
    let layers = |text: &str| {
        let manifest: serde_json::Value = serde_json::from_str(text).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].to_string());
        layers.chain([manifest["config"]["digest"].to_string()]).collect::<Vec<_>>()
    };
    assert_eq!(layers(&manifest), layers(&raw(source)));
}

fn sha256(bytes: &[u8]) -> String {
    oci::Digest::sha256_of(bytes).to_string()
}
