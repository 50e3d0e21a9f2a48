//! The container engine of this machine: the one that is there, or Debian's, installed and started.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use bollard::Docker;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListNetworksOptions, ListNetworksOptionsBuilder,
    ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
};

/// How long a daemon that was just started may take to answer.
const START_SECONDS_MAX: u64 = 60;
/// How long the engine may take for one answer.
const ANSWER_SECONDS_MAX: u64 = 300;

/// Connects to the engine that `DOCKER_HOST` names, or the usual socket.
pub fn connect() -> anyhow::Result<Docker> {
    let docker = match std::env::var("DOCKER_HOST") {
        Ok(address) if address.starts_with("tcp://") => {
            Docker::connect_with_http(&address, ANSWER_SECONDS_MAX, bollard::API_DEFAULT_VERSION)
        }
        Ok(address) if !address.is_empty() => {
            let path = address.strip_prefix("unix://").unwrap_or(&address);
            Docker::connect_with_unix(path, ANSWER_SECONDS_MAX, bollard::API_DEFAULT_VERSION)
        }
        _ => Docker::connect_with_unix("/var/run/docker.sock", ANSWER_SECONDS_MAX, bollard::API_DEFAULT_VERSION),
    };
    docker.context("the engine's address cannot be used")
}

async fn answering() -> Option<Docker> {
    let docker = connect().ok()?;
    docker.ping().await.ok()?;
    docker.negotiate_version().await.ok()
}

/// Makes sure of an engine: takes the one that answers; on Debian, as root, installs and starts `docker.io` otherwise,
/// saying so.
pub async fn ensure() -> anyhow::Result<Docker> {
    if let Some(docker) = answering().await {
        return Ok(docker);
    }
    if std::env::var("DOCKER_HOST").is_ok_and(|address| !address.is_empty()) {
        bail!("the engine that DOCKER_HOST names does not answer\n\nhint: start it, or unset DOCKER_HOST");
    }
    if !Path::new("/etc/debian_version").exists() || !rustix::process::geteuid().is_root() {
        bail!(
            "no container engine answers on /var/run/docker.sock\n\nhint: install and start Docker Engine 20.10 or newer (Debian: apt-get install docker.io), or run this as root on Debian"
        );
    }
    if !on_path("dockerd") {
        eprintln!("No container engine here: installing Debian's docker.io");
        install(&["docker.io"])?;
    }
    if let Some(docker) = answering().await {
        return Ok(docker);
    }
    if Path::new("/run/systemd/system").exists() {
        eprintln!("Starting the docker service");
        run(Command::new("systemctl").args(["start", "docker"]))?;
    } else {
        let log = "/var/log/dockerd.log";
        eprintln!("Starting dockerd (log: {log})");
        let log = std::fs::File::create(log).context("/var/log/dockerd.log cannot be written")?;
        Command::new("setsid")
            .args(["--fork", "dockerd"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("dockerd cannot be started")?
            .wait()?;
    }
    crate::until(
        "dockerd does not answer (see /var/log/dockerd.log)",
        Duration::from_secs(START_SECONDS_MAX),
        answering,
    )
    .await
}

/// Installs Debian packages.
pub fn install(packages: &[&str]) -> anyhow::Result<()> {
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get").args(arguments).args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    if apt(&install).is_ok() {
        return Ok(());
    }
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    apt(&install).map(|_| ())
}

/// Whether a program can be found.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|folder| folder.join(program).exists())
}

/// Runs a command, its output kept for when it fails.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("{:?} cannot be run", command.get_program()))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        bail!("{:?} {}: {}", command.get_program(), output.status, String::from_utf8_lossy(&text).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Removes every container, network, volume and image that carries a label, and images of repositories that begin with
/// one of `registries` (`127.0.0.1:5000/`). Nothing else is touched.
pub async fn sweep(docker: &Docker, label: &str, registries: &[String]) -> anyhow::Result<usize> {
    let filter = || HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
    let mut removed = 0;
    let containers = ListContainersOptionsBuilder::default().all(true).filters(&filter()).build();
    for container in docker.list_containers(Some(containers)).await? {
        let Some(id) = container.id else { continue };
        let options = RemoveContainerOptionsBuilder::default().force(true).v(false).build();
        ignore_gone(docker.remove_container(&id, Some(options)).await)?;
        removed += 1;
    }
    let networks = ListNetworksOptionsBuilder::default().filters(&filter()).build();
    for network in docker.list_networks(Some(networks)).await? {
        if let Some(id) = network.id {
            ignore_gone(docker.remove_network(&id).await)?;
            removed += 1;
        }
    }
    routes_remove(docker).await?;
    let volumes = ListVolumesOptionsBuilder::default().filters(&filter()).build();
    for volume in docker.list_volumes(Some(volumes)).await?.volumes.unwrap_or_default() {
        let options = RemoveVolumeOptionsBuilder::default().force(true).build();
        ignore_gone(docker.remove_volume(&volume.name, Some(options)).await)?;
        removed += 1;
    }
    for image in docker.list_images(Some(ListImagesOptionsBuilder::default().all(false).build())).await? {
        let ours = |name: &&String| registries.iter().any(|registry| name.starts_with(registry.as_str()));
        let named: Vec<String> = image.repo_tags.iter().chain(&image.repo_digests).filter(ours).cloned().collect();
        for name in &named {
            let options = RemoveImageOptionsBuilder::default().force(true).build();
            ignore_gone(docker.remove_image(name, Some(options), None).await.map(|_| ()))?;
            removed += 1;
        }
        let labelled =
            label.split_once('=').is_some_and(|(key, value)| image.labels.get(key).is_some_and(|v| v == value));
        if labelled && named.is_empty() {
            let options = RemoveImageOptionsBuilder::default().force(true).build();
            ignore_gone(docker.remove_image(&image.id, Some(options), None).await.map(|_| ()))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes the local routes that agents made for networks which are gone. They carry a protocol number of their own.
async fn routes_remove(docker: &Docker) -> anyhow::Result<()> {
    let Ok(routes) = run(Command::new("ip").args(["-4", "route", "show", "table", "local", "proto", "76"])) else {
        return Ok(());
    };
    let networks = docker.list_networks(None::<ListNetworksOptions>).await?;
    let configs = networks.into_iter().filter_map(|network| network.ipam?.config).flatten();
    let subnets: Vec<(u32, u32)> = configs.filter_map(|config| network_of(&config.subnet?)).collect();
    for route in routes.lines().filter_map(|line| line.split_whitespace().find(|word| word.contains('/'))) {
        let Some((address, _)) = network_of(route) else { continue };
        if !subnets.iter().any(|(network, mask)| address & mask == *network) {
            // Another process may have removed it in between.
            let _ = run(Command::new("ip").args(["route", "del", "local", route, "dev", "lo"]));
        }
    }
    Ok(())
}

/// Network and mask of `A.B.C.D/BITS`.
fn network_of(subnet: &str) -> Option<(u32, u32)> {
    let (address, bits) = subnet.split_once('/')?;
    let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits.parse().ok()?)?).unwrap_or(0);
    Some((u32::from(address.parse::<std::net::Ipv4Addr>().ok()?) & mask, mask))
}

fn ignore_gone(result: Result<(), bollard::errors::Error>) -> anyhow::Result<()> {
    match result {
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 404 | 409, .. }) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
