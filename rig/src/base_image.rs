//! `debian:bookworm-slim` where no public registry can be reached: made from Debian's packages, under the same name.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use bollard::Docker;
use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptions};
use futures::StreamExt;
use tokio_util::io::ReaderStream;

use crate::engine;

/// The image's name.
pub const NAME: &str = "debian:bookworm-slim";
/// Marks an image that was made here. Images built on it inherit the label, so it says nothing about them.
const MADE_LABEL: (&str, &str) = ("dev.longshore.base-image", "made-from-packages");
const ARCHIVE: &str = "debian-bookworm-slim.tar";
/// How long a public registry may take to hand over the image.
const PULL_SECONDS_MAX: u64 = 120;
/// How long it may take to answer at all.
const PULL_BEGIN_SECONDS_MAX: u64 = 10;

/// Makes sure that the engine has the image, and says how: present, pulled or made. What is made keeps its archive in
/// `cache`.
pub async fn ensure(docker: &Docker, cache: &Path) -> anyhow::Result<&'static str> {
    if docker.inspect_image(NAME).await.is_ok() {
        return Ok("present");
    }
    if pull(docker).await {
        return Ok("pulled");
    }
    let archive = archive(cache)?;
    let (repository, tag) = NAME.split_once(':').unwrap_or((NAME, "latest"));
    let options = CreateImageOptionsBuilder::default()
        .from_src("-")
        .repo(repository)
        .tag(tag)
        .changes(vec!["CMD [\"bash\"]".to_owned(), format!("LABEL {}={}", MADE_LABEL.0, MADE_LABEL.1)])
        .build();
    let file = tokio::fs::File::open(&archive).await?;
    let body = ReaderStream::with_capacity(file, 1 << 20).map(|chunk| chunk.unwrap_or_default());
    let mut answers = docker.create_image(Some(options), Some(bollard::body_try_stream(body.map(Ok))), None);
    while let Some(answer) = answers.next().await {
        answer.context("the engine did not take the base image")?;
    }
    Ok("made from Debian packages")
}

/// Removes the image if it was made here, and its archive.
pub async fn remove(docker: &Docker, cache: &Path) -> anyhow::Result<()> {
    let labels = docker.inspect_image(NAME).await.ok().and_then(|image| image.config?.labels).unwrap_or_default();
    if labels.get(MADE_LABEL.0).is_some_and(|value| value == MADE_LABEL.1) {
        docker.remove_image(NAME, None::<RemoveImageOptions>, None).await?;
    }
    match std::fs::remove_file(cache.join(ARCHIVE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

async fn pull(docker: &Docker) -> bool {
    let mut answers =
        docker.create_image(Some(CreateImageOptionsBuilder::default().from_image(NAME).build()), None, None);
    let limit = |seconds| Duration::from_secs(seconds);
    if !matches!(tokio::time::timeout(limit(PULL_BEGIN_SECONDS_MAX), answers.next()).await, Ok(Some(Ok(_)))) {
        return false;
    }
    let rest = async { while let Some(Ok(_)) = answers.next().await {} };
    tokio::time::timeout(limit(PULL_SECONDS_MAX), rest).await.is_ok() && docker.inspect_image(NAME).await.is_ok()
}

/// The image's file tree as a tar archive, made once.
///
/// # Errors
/// It is not there and cannot be made.
pub fn archive(cache: &Path) -> anyhow::Result<PathBuf> {
    let archive = cache.join(ARCHIVE);
    if archive.exists() {
        return Ok(archive);
    }
    std::fs::create_dir_all(cache)?;
    if !engine::on_path("mmdebstrap") {
        eprintln!("Installing Debian's mmdebstrap");
        engine::install(&["mmdebstrap"])?;
    }
    eprintln!("No public registry answers: making {NAME} from Debian packages");
    let unfinished = cache.join(format!("debian-bookworm-slim.{}.tar", std::process::id()));
    engine::run(
        Command::new("mmdebstrap")
            .args(["--variant=minbase", "--include=ca-certificates"])
            .args(
                ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"]
                    .map(|path| format!("--dpkgopt=path-exclude={path}")),
            )
            .arg("--customize-hook=rm -rf \"$1\"/var/lib/apt/lists/* \"$1\"/var/cache/apt/*.bin")
            .arg("bookworm")
            .arg(&unfinished),
    )?;
    std::fs::rename(&unfinished, &archive)?;
    Ok(archive)
}
