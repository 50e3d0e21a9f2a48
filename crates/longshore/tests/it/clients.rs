//! Real clients push to a hub and pull from it, over HTTP, over TLS and through a proxy; what was acknowledged is there
//! after `kill -9`.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rig::engine::run;

use crate::scene::BINARY;

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A process that ends with the test.
pub(crate) struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self::start_with(command, Stdio::null())
    }

    /// With its standard output kept.
    pub(crate) fn start_with(command: &mut Command, output: Stdio) -> Self {
        Self(command.stdout(output).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Waits until a command succeeds.
    pub(crate) fn until(&mut self, ready: &mut Command) {
        let begun = Instant::now();
        while run(ready).is_err() {
            assert!(self.0.try_wait().unwrap().is_none(), "it ended at once: {ready:?}");
            assert!(begun.elapsed() < START_LIMIT, "it does not answer: {ready:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn free_address() -> String {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().to_string()
}

pub(crate) struct Hub {
    process: Process,
    pub(crate) listen: String,
    /// The folder of its CA, if it speaks TLS.
    certificates: Option<PathBuf>,
}

impl Hub {
    fn start(data: &Path, listen: &str, agents: &str) -> Self {
        let mut command = Command::new(BINARY);
        command.args(["hub", "--listen", listen, "--agent-listen", agents, "--data"]).arg(data);
        let mut process = Process::start(&mut command);
        process.until(Command::new("curl").args(["-fsS", &format!("http://{listen}/v2/")]));
        Self { process, listen: listen.to_owned(), certificates: None }
    }

    /// With these keys in its `hub.toml`.
    pub(crate) fn start_configured(folder: &Path, config: &str) -> Self {
        let listen = free_address();
        let mut process = configured(folder, &listen, config);
        process.until(Command::new("curl").args(["-fsS", &format!("http://{listen}/v2/")]));
        Self { process, listen, certificates: None }
    }

    /// With a certificate of a CA of its own.
    fn start_tls(folder: &Path) -> Self {
        let (certificates, listen) = (certificates(folder), free_address());
        let [certificate, key] = ["hub.pem", "hub.key"].map(|name| folder.join(name));
        let mut process =
            configured(folder, &listen, &format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n"));
        let ca = certificates.join("ca.crt");
        process.until(Command::new("curl").arg("-fsS").arg("--cacert").arg(&ca).arg(format!("https://{listen}/v2/")));
        Self { process, listen, certificates: Some(certificates) }
    }

    /// How skopeo is told to trust the hub; `side` is `src-`, `dest-` or nothing.
    fn trust(&self, side: &str) -> String {
        trust(self.certificates.as_deref(), side)
    }

    /// The digest that the registry gives for a tag, of exactly the bytes it serves.
    pub(crate) fn digest(&self, name: &str) -> String {
        let arguments =
            ["inspect", &self.trust(""), "--format", "{{.Digest}}", &format!("docker://{}/{name}", self.listen)];
        run(Command::new("skopeo").args(arguments)).unwrap().trim().to_owned()
    }
}

fn configured(folder: &Path, listen: &str, config: &str) -> Process {
    let file = folder.join("hub.toml");
    let text = format!("listen = \"{listen}\"\nagent_listen = \"{}\"\n{config}", free_address());
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(BINARY);
    Process::start(command.arg("hub").arg("--config").arg(&file).arg("--data").arg(folder.join("data")))
}

fn trust(certificates: Option<&Path>, side: &str) -> String {
    match certificates {
        None => format!("--{side}tls-verify=false"),
        Some(folder) => format!("--{side}cert-dir={}", folder.display()),
    }
}

/// A CA in a folder as clients want it, and a certificate for loopback that it made.
fn certificates(folder: &Path) -> PathBuf {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Of another name than what it certifies, which would look like its own issuer.
    ca.distinguished_name.push(DnType::CommonName, "CA of a test");
    let ca_key = KeyPair::generate().unwrap();
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let hub =
        CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned(), "hub.example".to_owned()]).unwrap();
    let hub_key = KeyPair::generate().unwrap();
    let certificate = hub.signed_by(&hub_key, &Issuer::from_params(&ca, &ca_key)).unwrap();
    let certificates = folder.join("certificates");
    std::fs::create_dir(&certificates).unwrap();
    std::fs::write(certificates.join("ca.crt"), ca_certificate.pem()).unwrap();
    std::fs::write(folder.join("hub.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("hub.key"), hub_key.serialize_pem()).unwrap();
    certificates
}

/// An image of several layers as an OCI layout, made without an engine.
pub(crate) fn image(folder: &Path) -> String {
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

/// skopeo pushes the image; gives its digest.
pub(crate) fn push(source: &str, to: &str, trust: &str, folder: &Path) -> String {
    let file = folder.join("digest").display().to_string();
    run(Command::new("skopeo").args(["copy", trust, "--digestfile", &file, source, to])).unwrap();
    std::fs::read_to_string(&file).unwrap().trim().to_owned()
}

/// podman and buildah, each with a store of its own, pull and push.
fn podman_and_buildah(hub: &Hub, digest: &str, folder: &Path) {
    for client in ["podman", "buildah"] {
        let root = folder.join(format!("{client}-store")).display().to_string();
        let name = format!("{}/round/{client}:1", hub.listen);
        let call = |arguments: &[&str]| {
            let store = ["--root", &root, "--runroot", &root, "--storage-driver", "vfs"];
            run(Command::new(client).args(store).args(arguments)).unwrap()
        };
        let source = format!("{}/round/skopeo@{digest}", hub.listen);
        let id = call(&["pull", "--quiet", &hub.trust(""), &source]);
        let to = format!("docker://{name}");
        call(&["push", "--quiet", &hub.trust(""), id.trim(), &to]);
        assert_same_image(hub, &format!("round/{client}:1"), &to, &format!("docker://{source}"));
        call(&["rmi", "--force", id.trim()]);
        call(&["pull", "--quiet", &hub.trust(""), &name]);
    }
}

/// docker pulls and pushes through the engine, which takes any certificate on loopback. Gives the digest that it pushed.
fn docker(hub: &Hub, digest: &str) -> String {
    let (source, name) = (format!("{}/round/skopeo@{digest}", hub.listen), format!("{}/round/docker:1", hub.listen));
    let docker = |arguments: &[&str]| run(Command::new("docker").args(arguments));
    docker(&["pull", "--quiet", &source]).unwrap();
    docker(&["tag", &source, &name]).unwrap();
    docker(&["push", &name]).unwrap();
    docker(&["rmi", "--force", &name, &source]).unwrap();
    hub.digest("round/docker:1")
}

/// containerd, one of the test's own, pulls and pushes.
fn containerd(hub: &Hub, digest: &str, folder: &Path) {
    let home = folder.join("containerd");
    std::fs::create_dir(&home).unwrap();
    let socket = home.join("socket");
    let config = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n",
        home.join("root"),
        home.join("state")
    );
    std::fs::write(home.join("config.toml"), config).unwrap();
    let mut process = Process::start(Command::new("containerd").arg("--config").arg(home.join("config.toml")));
    let ctr = |arguments: &[&str]| {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&socket).args(["--namespace", "test"]).args(arguments);
        command
    };
    process.until(&mut ctr(&["version"]));
    let trust = match &hub.certificates {
        None => vec!["--plain-http".to_owned()],
        Some(certificates) => {
            // On loopback ctr would take plain HTTP for granted.
            let hosts = home.join("hosts").join(&hub.listen);
            std::fs::create_dir_all(&hosts).unwrap();
            let (server, ca) = (format!("https://{}", hub.listen), certificates.join("ca.crt"));
            let text = format!("server = {server:?}\n[host.{server:?}]\nca = {ca:?}\n");
            std::fs::write(hosts.join("hosts.toml"), text).unwrap();
            vec!["--hosts-dir".to_owned(), home.join("hosts").display().to_string()]
        }
    };
    let images = |command: &str, names: &[&str]| {
        let trust = if command == "tag" { &[][..] } else { &trust };
        let trust = trust.iter().map(String::as_str);
        let arguments: Vec<&str> = ["images", command].into_iter().chain(trust).chain(names.iter().copied()).collect();
        run(&mut ctr(&arguments)).unwrap()
    };
    let (source, name) = (format!("{}/round/skopeo@{digest}", hub.listen), format!("{}/round/ctr:1", hub.listen));
    images("pull", &[&source]);
    images("tag", &[&source, &name]);
    images("push", &[&name]);
    assert_eq!(hub.digest("round/ctr:1"), digest);
}

/// The Python client of oras pushes an artefact and pulls it.
fn oras(hub: &Hub, folder: &Path) {
    const SCRIPT: &str = r#"
import os, sys, oras.client
host, folder, scheme = sys.argv[1:]
os.chdir(folder)
open("note.txt", "w").write("an artefact")
client = oras.client.OrasClient(hostname=host, insecure=scheme == "http")
target = host + "/round/oras:1"
client.push(target=target, files=["note.txt:text/plain"], manifest_annotations={"made": "here"})
assert client.get_tags(host + "/round/oras") == ["1"]
(pulled,) = client.pull(target=target, outdir="pulled")
assert open(pulled).read() == "an artefact"
"#;
    let mut command = Command::new(python());
    command.args(["-c", SCRIPT, &hub.listen]).arg(folder);
    match &hub.certificates {
        None => command.arg("http"),
        Some(folder) => command.arg("https").env("REQUESTS_CA_BUNDLE", folder.join("ca.crt")),
    };
    run(&mut command).unwrap();
}

/// The interpreter of the folder that `./test` puts tools into.
fn python() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = folder("LONGSHORE_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("longshore")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/longshore")))
        .unwrap();
    cache.join("tools/bin/python3")
}

#[test]
fn clients_round_trip_an_image_and_kill_9_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (listen, agents) = (free_address(), free_address());
    let mut hub = Hub::start(&data, &listen, &agents);
    let source = image(folder.path());
    let scratch = |name: &str| folder.path().join(name).display().to_string();

    // skopeo, straight from the layout.
    let to = format!("docker://{listen}/round/skopeo:1");
    let digest = push(&source, &to, "--dest-tls-verify=false", folder.path());
    hub.process.kill();

    let mut hub = Hub::start(&data, &listen, &agents);
    assert_eq!(hub.digest("round/skopeo:1"), digest);
    let back = format!("oci:{}:image", scratch("back"));
    run(Command::new("skopeo").args(["copy", "--src-tls-verify=false", &to, &back])).unwrap();
    let by_digest = format!("docker://{listen}/round/skopeo@{digest}");
    let again = format!("dir:{}", scratch("again"));
    run(Command::new("skopeo").args(["copy", "--src-tls-verify=false", &by_digest, &again])).unwrap();
    let manifest = std::fs::read(Path::new(&scratch("again")).join("manifest.json")).unwrap();
    assert_eq!(sha256(&manifest), digest);

    podman_and_buildah(&hub, &digest, folder.path());
    containerd(&hub, &digest, folder.path());
    oras(&hub, folder.path());
    let pushed = docker(&hub, &digest);
    hub.process.kill();
    let hub = Hub::start(&data, &listen, &agents);
    assert_eq!(hub.digest("round/docker:1"), pushed);
    let docker = |arguments: &[&str]| run(Command::new("docker").args(arguments));
    let pulled = docker(&["pull", &format!("{listen}/round/docker@{pushed}")]);
    let _ = docker(&["rmi", "--force", &format!("{listen}/round/docker@{pushed}")]);
    assert!(pulled.unwrap().contains(&pushed));
}

#[test]
fn clients_round_trip_an_image_over_tls_and_through_a_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start_tls(folder.path());
    let source = image(folder.path());
    let to = format!("docker://{}/round/skopeo:1", hub.listen);
    let digest = push(&source, &to, &hub.trust("dest-"), folder.path());
    assert_eq!(hub.digest("round/skopeo:1"), digest);
    podman_and_buildah(&hub, &digest, folder.path());
    containerd(&hub, &digest, folder.path());
    oras(&hub, folder.path());
    docker(&hub, &digest);

    // The command line, which needs the CA.
    let ca = hub.certificates.as_ref().unwrap().join("ca.crt");
    let longshore = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(["--hub", &format!("https://{}", hub.listen)]).args(arguments).args(["env", "ls", "--json"]);
        run(&mut command)
    };
    longshore(&["--ca", ca.to_str().unwrap()]).unwrap();
    assert!(longshore(&[]).is_err(), "the system does not know this CA");
    import(&hub, &ca, "round/skopeo:1", &digest, folder.path());

    // Names that the certificate has, and others: after DNS rebinding the attacker's (a47).
    let curl = |name: &str, path: &str| {
        let (_, port) = hub.listen.split_once(':').unwrap();
        let mut command = Command::new("curl");
        command.args(["-sk", "-o", "/dev/null", "-w", "%{http_code} %{http_version}"]);
        command.args(["--resolve", &format!("{name}:{port}:127.0.0.1"), &format!("https://{name}:{port}{path}")]);
        run(&mut command).unwrap()
    };
    assert_eq!(curl("hub.example", "/v2/"), "200 2");
    assert_eq!(curl("evil.example", "/v2/"), "421 2");
    assert_eq!(curl("evil.example", "/v2/round/skopeo/tags/list"), "421 2");

    // A proxy on another port, which ends TLS itself: Locations are relative, so pushes go on through it.
    let (mut proxy, address) = nginx(&hub, folder.path());
    let to = format!("docker://{address}/proxied/skopeo:1");
    let certificates = trust(hub.certificates.as_deref(), "dest-");
    assert_eq!(push(&source, &to, &certificates, folder.path()), digest);
    assert_eq!(hub.digest("proxied/skopeo:1"), digest);
    let back = format!("dir:{}", folder.path().join("back").display());
    let from = trust(hub.certificates.as_deref(), "src-");
    run(Command::new("skopeo").args(["copy", &from, &to, &back])).unwrap();
    proxy.kill();
}

/// From one hub to another, each with a CA of its own, both of which must be in the file that the command is given.
fn import(source: &Hub, source_ca: &Path, name: &str, digest: &str, folder: &Path) {
    let home = folder.join("importing");
    std::fs::create_dir(&home).unwrap();
    let hub = Hub::start_tls(&home);
    let (own, both) = (hub.certificates.as_ref().unwrap().join("ca.crt"), home.join("both.pem"));
    std::fs::write(&both, [&own, source_ca].map(|path| std::fs::read_to_string(path).unwrap()).concat()).unwrap();
    let longshore = |ca: &Path, arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(["--hub", &format!("https://{}", hub.listen), "--ca"]).arg(ca).args(arguments);
        run(&mut command)
    };
    let from = format!("https://{}/{name}", source.listen);
    let import = ["image", "import", &from, "--to", "brought/in"];
    for one in [&own, source_ca] {
        assert!(longshore(one, &import).is_err(), "one of the two is not known");
    }
    longshore(&both, &import).unwrap();
    assert_eq!(hub.digest("brought/in:1"), digest);
    assert!(longshore(&own, &["image", "ls", "brought/in"]).unwrap().contains('1'));
    longshore(&own, &["image", "rm", "brought/in:1"]).unwrap();
    assert!(longshore(source_ca, &["image", "ls"]).is_err());
}

/// nginx with the hub's certificate before the hub.
fn nginx(hub: &Hub, folder: &Path) -> (Process, String) {
    let home = folder.join("nginx");
    std::fs::create_dir(&home).unwrap();
    let address = free_address();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {};\n", home.join(kind).display()))
        .concat();
    let config = format!(
        "daemon off;\nuser root;\npid {home}/pid;\nerror_log {home}/error.log;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\
         server {{\nlisten {address} ssl;\nssl_certificate {folder}/hub.pem;\nssl_certificate_key {folder}/hub.key;\n\
         client_max_body_size 0;\nproxy_request_buffering off;\nproxy_buffering off;\nproxy_http_version 1.1;\n\
         location / {{\nproxy_pass https://{};\nproxy_set_header Host $http_host;\n}}\n}}\n}}\n",
        hub.listen,
        home = home.display(),
        folder = folder.display(),
    );
    std::fs::write(home.join("nginx.conf"), config).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&home).arg("-c").arg(home.join("nginx.conf")).arg("-e").arg(home.join("error.log"));
    let mut process = Process::start(&mut command);
    process.until(Command::new("curl").args(["-fsSk", &format!("https://{address}/v2/")]));
    (process, address)
}

/// Clients that repack a manifest still must end with the same layers and configuration, and with what the registry says.
fn assert_same_image(hub: &Hub, name: &str, to: &str, source: &str) {
    let raw = |place: &str| run(Command::new("skopeo").args(["inspect", "--raw", &hub.trust(""), place])).unwrap();
    let manifest = raw(to);
    assert_eq!(sha256(manifest.as_bytes()), hub.digest(name));
    let layers = |text: &str| {
        let manifest: serde_json::Value = serde_json::from_str(text).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].to_string());
        layers.chain([manifest["config"]["digest"].to_string()]).collect::<Vec<_>>()
    };
    assert_eq!(layers(&manifest), layers(&raw(source)));
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    oci::Digest::sha256_of(bytes).to_string()
}
