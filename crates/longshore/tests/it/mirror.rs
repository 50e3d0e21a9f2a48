//! Images of another registry, Debian's `docker-registry`, that real clients pull through a hub: each part is fetched
//! once, and what was pulled stays to be had when that registry is gone.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use rig::engine::run;
use serde_json::Value;

use crate::clients::{Hub, Process, free_address, sha256};

/// Bytes of a layer: enough that it is still arriving when the second client asks.
const LAYER_BYTES: u32 = 4 << 20;

/// Another registry, which writes down every request.
struct Upstream {
    process: Process,
    address: String,
}

impl Upstream {
    fn start(folder: &Path) -> Self {
        let address = free_address();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: false}}}}\n\
             storage: {{filesystem: {{rootdirectory: {:?}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            folder.join("upstream")
        );
        std::fs::write(folder.join("config.yml"), config).unwrap();
        let requests = File::create(folder.join("requests")).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(folder.join("config.yml"));
        let mut process = Process::start_with(&mut command, requests.into());
        process.until(Command::new("curl").args(["-fsS", &format!("http://{address}/v2/")]));
        Self { process, address }
    }
}

/// How often the hub got each thing under a path of the upstream.
fn fetched(folder: &Path, under: &str) -> BTreeMap<String, usize> {
    let mut fetched = BTreeMap::new();
    for line in std::fs::read_to_string(folder.join("requests")).unwrap().lines() {
        let Some((_, path)) = line.split_once(&format!("\"GET {under}")) else { continue };
        *fetched.entry(path.split_once(' ').unwrap().0.to_owned()).or_default() += 1;
    }
    fetched
}

/// Pushes an image of two platforms; gives its digest.
fn push(to: &str, folder: &Path) -> String {
    let root = folder.join("root").display().to_string();
    let buildah = |arguments: &[&str]| {
        let store = ["--root", &root, "--runroot", &root, "--storage-driver", "vfs"];
        run(Command::new("buildah").args(store).args(arguments)).unwrap().trim().to_owned()
    };
    buildah(&["manifest", "create", "localhost/index"]);
    for (number, platform) in (1..).zip(["amd64", "arm64"]) {
        let file = folder.join(platform);
        let bytes: Vec<u8> =
            (0..LAYER_BYTES / 4).flat_map(|n| (n.wrapping_mul(2_654_435_761) ^ number).to_le_bytes()).collect();
        std::fs::write(&file, bytes).unwrap();
        let container = buildah(&["from", "--arch", platform, "scratch"]);
        buildah(&["copy", &container, file.to_str().unwrap(), "/content"]);
        buildah(&["config", "--arch", platform, "--cmd", "/content", &container]);
        let name = format!("localhost/{platform}");
        buildah(&["commit", "--format", "oci", &container, &name]);
        buildah(&["manifest", "add", "localhost/index", &name]);
    }
    let file = folder.join("digest").display().to_string();
    let to = format!("docker://{to}");
    buildah(&["manifest", "push", "--all", "--tls-verify=false", "--digestfile", &file, "localhost/index", &to]);
    std::fs::read_to_string(&file).unwrap().trim().to_owned()
}

/// An image that the engine pulls, and loses again with this value.
struct Pulled(String);

impl Pulled {
    fn new(name: String) -> Self {
        run(Command::new("docker").args(["pull", "--quiet", &name])).unwrap();
        Self(name)
    }
}

impl Drop for Pulled {
    fn drop(&mut self) {
        let _ = run(Command::new("docker").args(["rmi", "--force", &self.0]));
    }
}

/// skopeo copies all platforms into a folder, which then has the image's own bytes.
fn copy(name: &str, digest: &str, to: &Path) {
    let (source, target) = (format!("docker://{name}"), format!("dir:{}", to.display()));
    run(Command::new("skopeo").args(["copy", "--all", "--src-tls-verify=false", &source, &target])).unwrap();
    assert_eq!(sha256(&std::fs::read(to.join("manifest.json")).unwrap()), digest);
    std::fs::remove_dir_all(to).unwrap();
}

#[test]
fn clients_pull_through_a_hub_what_another_registry_has_or_had() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut upstream = Upstream::start(folder);
    let digest = push(&format!("{}/team/app:1", upstream.address), folder);
    let config = format!(
        "[[registry.upstreams]]\nprefix = \"mirror\"\naddress = \"{}/team\"\nrevalidate = \"0s\"\n",
        upstream.address
    );
    let hub = Hub::start_configured(folder, &config);
    let by_tag = format!("{}/mirror/app:1", hub.listen);
    let by_digest = format!("{}/mirror/app@{digest}", hub.listen);

    // All at once, from nothing.
    std::thread::scope(|scope| {
        scope.spawn(|| drop(Pulled::new(by_tag.clone())));
        scope.spawn(|| copy(&by_tag, &digest, &folder.join("one")));
        scope.spawn(|| copy(&by_digest, &digest, &folder.join("other")));
    });
    drop(Pulled::new(by_digest.clone()));
    assert_eq!(hub.digest("mirror/app:1"), digest);

    // A layer and a configuration for each platform, and the index with its two images, each once.
    let blobs = fetched(folder, "/v2/team/app/blobs/");
    assert_eq!(blobs.values().copied().collect::<Vec<_>>(), [1; 4], "{blobs:?}");
    let manifests = fetched(folder, "/v2/team/app/manifests/");
    assert_eq!(manifests.values().copied().collect::<Vec<_>>(), [1; 3], "{manifests:?}");
    assert!(manifests.contains_key(&digest));

    upstream.process.kill();
    drop(Pulled::new(by_tag.clone()));
    drop(Pulled::new(by_digest.clone()));
    copy(&by_tag, &digest, &folder.join("by tag"));
    copy(&by_digest, &digest, &folder.join("by digest"));
    let tags = run(Command::new("skopeo").args([
        "list-tags",
        "--tls-verify=false",
        &format!("docker://{}/mirror/app", hub.listen),
    ]));
    let tags: Value = serde_json::from_str(&tags.unwrap()).unwrap();
    assert_eq!(tags["Tags"], serde_json::json!(["1"]));

    // What nobody pulled in time is refused, with the reason.
    let never = format!("http://{}/v2/mirror/app/manifests/2", hub.listen);
    let refused = run(Command::new("curl").args(["-sS", "-w", "%{http_code}", &never])).unwrap();
    assert!(refused.ends_with("502") && refused.contains(&upstream.address), "{refused}");
}
