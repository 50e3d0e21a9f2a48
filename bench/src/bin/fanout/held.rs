//! A pull through the agent of what it has already, beside `docker load` of the same layers, compressed alike.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent::status::ask;
use anyhow::{Context as _, ensure};
use bench::median;
use bench::report::Row;
use oci::Digest;
use rig::engine::{self, run};
use serde_json::json;

use crate::ground::{Process, REPOSITORY, TAG, config, hub_filled, token};
use crate::pull;

const LAYERS: u64 = 4;
const FILES: u64 = 512;
const FILE_BYTES: usize = 256 * 1024;
/// The part of a file that no compression makes shorter; the rest is words.
const NOISE_SHARE: f64 = 0.45;
const WORDS: usize = 1 << 12;
const ROUNDS: usize = 3;
const RATIO_MAX: f64 = 1.2;
const LIMIT: Duration = Duration::from_secs(120);
/// The name of what is loaded.
const LOADED: &str = "longshore-bench/held:load";

pub(crate) async fn rows(binary: &Path, folder: &Path) -> anyhow::Result<Vec<Row>> {
    engine::ensure().await?;
    std::fs::create_dir_all(folder)?;
    eprintln!("Making an image of {LAYERS} layers");
    let (mut diff_ids, mut layers) = (Vec::new(), Vec::new());
    for number in 0..LAYERS {
        let tar = layer(number)?;
        diff_ids.push(Digest::sha256_of(&tar));
        layers.push(gzip(tar)?);
    }
    let [hub, agents, registry, mesh] = [(); 4].map(|()| free_address());
    let [hub, agents, registry, mesh] = [hub?, agents?, registry?, mesh?];
    let data = folder.join("hub");
    let mut command = Command::new(binary);
    command.arg("--data").arg(&data).args(["hub", "--listen", &hub, "--agent-listen", &agents]);
    let _hub = Process::start(command, &folder.join("hub.log"))?;
    let url = format!("http://{hub}");
    hub_filled(&url, &diff_ids, &layers).await?;
    let token = token(&url, &data, "held").await?;
    let data = folder.join("agent");
    let mut command = Command::new(binary);
    command.arg("--data").arg(&data).args(["agent", "--name", "held", "--hub-agent", &agents, "--join", &token]);
    command.args(["--registry", &registry, "--mesh", &mesh, "--address", "127.0.0.1", "--peers", "127.0.0.1:0"]);
    command.args(["--engine", &format!("unix://{}", folder.join("no-engine").display())]);
    let agent = Process::start(command, &folder.join("agent.log"))?;
    rig::until("the agent does not answer", LIMIT, || async { ask(&data).await.ok() }).await?;
    let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?;
    pull::one(&client, &format!("http://{registry}")).await?;

    let archive = folder.join("image.tar");
    archive_write(&archive, &diff_ids, &layers)?;
    let pulled = format!("{registry}/{REPOSITORY}:{TAG}");
    let measured = measure(&pulled, &archive);
    // The engine is the machine's: what was brought there goes, however it went.
    for image in [pulled.as_str(), LOADED] {
        let _ = docker(&["rmi", "--force", image]);
    }
    let (pulls, loads) = measured?;
    drop(agent);
    rig::stage::end_processes(folder, &[]).await?;

    let bytes: usize = layers.iter().map(Vec::len).sum();
    let (pull, load) = (median(pulls), median(loads));
    Ok(vec![Row {
        row: format!("docker pull of {} MiB that the agent has", bytes >> 20),
        value: pull,
        unit: "seconds".to_owned(),
        peer: "docker load".to_owned(),
        peer_value: Some(load),
        target: format!("≤ {RATIO_MAX} × the peer's"),
        holds: Some(pull <= RATIO_MAX * load),
    }])
}

/// Pulls and loads in turn, each time into an engine that has none of it.
fn measure(pulled: &str, archive: &Path) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let (mut pulls, mut loads) = (Vec::new(), Vec::new());
    let archive = archive.to_str().context("a path that is text")?;
    let mut ids = Vec::new();
    for _ in 0..ROUNDS {
        for (image, command, times) in
            [(pulled, ["pull", "--quiet", pulled], &mut pulls), (LOADED, ["load", "--input", archive], &mut loads)]
        {
            // What was written before is not waited for by what is measured.
            rustix::fs::sync();
            let begun = Instant::now();
            docker(&command)?;
            times.push(begun.elapsed().as_secs_f64());
            ids.push(docker(&["image", "inspect", "--format", "{{.Id}}", image])?);
            docker(&["rmi", image])?;
        }
    }
    ensure!(ids.iter().all(|id| Some(id) == ids.first()), "pull and load brought different images: {ids:?}");
    Ok((pulls, loads))
}

fn docker(arguments: &[&str]) -> anyhow::Result<String> {
    run(Command::new("docker").args(arguments)).with_context(|| format!("docker {}", arguments.join(" ")))
}

fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// A layer of many files that compress as programs and their data do, to somewhat less than half.
fn layer(number: u64) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let words = bench::noise(WORDS * 8, 1);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length")]
    let noise = (FILE_BYTES as f64 * NOISE_SHARE) as usize;
    for file in 0..FILES {
        let mut content = bench::noise(noise, number * FILES + file + 2);
        let choices = bench::noise((FILE_BYTES - noise) / 4, number * FILES + file + 1_000_003);
        for choice in choices.chunks_exact(2) {
            let word = usize::from(u16::from_le_bytes([choice[0], choice[1]])) % WORDS;
            content.extend_from_slice(words.get(word * 8..word * 8 + 8).unwrap_or_default());
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("srv/layer-{number}/{}/{file}", file % 32), content.as_slice())?;
    }
    Ok(tar.into_inner()?)
}

fn gzip(content: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let mut command = Command::new("gzip");
    let mut child = command.arg("--no-name").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("no input")?;
    let writing = std::thread::spawn(move || input.write_all(&content));
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "gzip failed");
    writing.join().map_err(|_| anyhow::anyhow!("gzip was not written to"))??;
    Ok(output.stdout)
}

/// What `docker save` writes, with the layers compressed as they are in the registry.
fn archive_write(file: &Path, diff_ids: &[Digest], layers: &[Vec<u8>]) -> anyhow::Result<()> {
    let mut tar = tar::Builder::new(std::io::BufWriter::new(std::fs::File::create(file)?));
    let mut add = |name: &str, content: &[u8]| -> anyhow::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        Ok(tar.append_data(&mut header, name, content)?)
    };
    let names: Vec<String> = (0..layers.len()).map(|number| format!("{number}/layer.tar")).collect();
    let manifest = json!([{ "Config": "config.json", "RepoTags": [LOADED], "Layers": names }]);
    add("config.json", &config(diff_ids))?;
    for (name, layer) in names.iter().zip(layers) {
        add(name, layer)?;
    }
    add("manifest.json", manifest.to_string().as_bytes())?;
    tar.into_inner()?.flush()?;
    Ok(())
}
