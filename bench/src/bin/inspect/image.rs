//! A real image, made once and kept: Debian with a runtime of each kind, PyPI, npm, Debian's Java packages, a program in
//! Rust, and what is packed within other things.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use rig::engine::run;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::planted;

/// Files within the folder; it is there when all are.
const ARCHIVE: &str = "image.tar";
const LAYOUT: &str = "layout";
const COMPLETE: &str = "complete-1";
const BYTES_MIN: u64 = 700_000_000;
const NAME: &str = "bench/inspect:latest";

const DEBIAN: &[&str] = &[
    "openjdk-17-jre-headless",
    "nodejs",
    "python3",
    "ruby",
    "php-cli",
    "git",
    "curl",
    "rclone",
    "redis-server",
    "nginx-light",
    "man-db",
];
const PYPI: &[&str] = &[
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "matplotlib",
    "pyarrow",
    "django",
    "flask",
    "fastapi",
    "sqlalchemy",
    "boto3",
    "cryptography",
    "requests",
    "lxml",
    "pillow",
    "celery",
    "ansible-core",
    "uv",
];
const NPM: &[&str] = &[
    "express",
    "next",
    "react",
    "react-dom",
    "webpack",
    "typescript",
    "eslint",
    "jest",
    "@nestjs/core",
    "@babel/core",
    "esbuild",
    "vite",
    "prisma",
    "aws-sdk",
    "lodash",
];
const JAVA: &[&str] = &[
    "libguava-java",
    "libcommons-lang3-java",
    "libcommons-io-java",
    "libcommons-collections3-java",
    "libspring-core-java",
    "libspring-beans-java",
    "libspring-context-java",
    "libspring-web-java",
    "libtomcat9-java",
    "libjackson2-core-java",
    "libjackson2-databind-java",
    "libjackson2-annotations-java",
    "liblog4j2-java",
    "libnetty-java",
    "libbcprov-java",
    "libxerces2-java",
    "libpostgresql-jdbc-java",
    "libhttpclient-java",
    "libhttpcore-java",
    "libmaven3-core-java",
    "ant",
    "groovy",
    "scala-library",
    "libyaml-snake-java",
    "libslf4j-java",
    "junit4",
    "liblucene4.10-java",
    "libhsqldb-java",
];
const CRATES: &str = "[package]\nname = \"bench-app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\n\
                      regex = \"1\"\nserde_json = \"1\"\n\n[workspace]\n";
const PROGRAM: &str = "fn main() {\n    let found = regex::Regex::new(\"[a-z]+\").unwrap().find(\"bench\").is_some();\n    \
                       println!(\"{}\", serde_json::json!({ \"found\": found }));\n}\n";

/// The image, in both forms.
pub(crate) struct Made {
    pub(crate) archive: PathBuf,
    pub(crate) layout: PathBuf,
    /// The compressed layers, lowest first.
    pub(crate) layers: Vec<PathBuf>,
    /// Of the layers as they are unpacked.
    pub(crate) bytes: u64,
    pub(crate) planted: Vec<planted::Planted>,
}

impl Made {
    /// The image that is kept in `folder`; made where it is not there.
    pub(crate) fn ensure(folder: &Path, cache: &Path) -> anyhow::Result<Self> {
        let complete = folder.join(COMPLETE);
        if !complete.exists() {
            std::fs::create_dir_all(folder)?;
            let work = tempfile::tempdir_in(folder)?;
            make(work.path(), folder, cache)?;
            std::fs::write(&complete, "")?;
        }
        let read = |name: &str| -> anyhow::Result<serde_json::Value> {
            Ok(serde_json::from_slice(&std::fs::read(folder.join(name))?)?)
        };
        let sizes: Vec<(String, u64)> = serde_json::from_value(read("layers.json")?)?;
        Ok(Self {
            archive: folder.join(ARCHIVE),
            layout: folder.join(LAYOUT),
            layers: sizes.iter().map(|(hex, _)| folder.join(LAYOUT).join("blobs/sha256").join(hex)).collect(),
            bytes: sizes.iter().map(|(_, bytes)| bytes).sum(),
            planted: serde_json::from_value(read("planted.json")?)?,
        })
    }
}

fn make(work: &Path, folder: &Path, cache: &Path) -> anyhow::Result<()> {
    let tars: Vec<PathBuf> = (0..6).map(|number| work.join(format!("{number}.tar"))).collect();
    let [base, debian, python, npm, java, app] = &tars[..] else { bail!("there are six layers") };
    eprintln!("Making the image in {}: once, some minutes", folder.display());
    std::fs::copy(rig::base_image::archive(cache)?, base)?;
    debian_layer(work, base, debian)?;
    let root = |name: &str| -> anyhow::Result<PathBuf> {
        let root = work.join(name);
        std::fs::create_dir(&root)?;
        Ok(root)
    };
    let inner = |root: &Path, path: &str| -> anyhow::Result<PathBuf> {
        let inner = root.join(path);
        std::fs::create_dir_all(&inner)?;
        Ok(inner)
    };
    let place = root("python")?;
    run(Command::new(cache.join("tools/bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target"])
        .arg(inner(&place, "usr/local/lib/python3.11/dist-packages")?)
        .args(PYPI))?;
    pack(&place, python)?;
    let place = root("npm")?;
    let app_folder = inner(&place, "srv/web")?;
    std::fs::write(app_folder.join("package.json"), r#"{"name": "bench-web", "version": "1.0.0", "private": true}"#)?;
    run(Command::new("npm")
        .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .args(NPM)
        .current_dir(&app_folder))?;
    pack(&place, npm)?;
    let place = root("java")?;
    let downloads = inner(work, "downloads")?;
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get").args(["download", "-qq"]).args(JAVA).args(planted::DEBS).current_dir(&downloads))?;
    let debs = files(&downloads)?;
    let is_planted = |deb: &Path| {
        let name = deb.file_name().unwrap_or_default().to_string_lossy();
        planted::DEBS.iter().any(|planted| name.starts_with(&format!("{planted}_")))
    };
    for deb in debs.iter().filter(|deb| !is_planted(deb)) {
        run(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(&place))?;
    }
    let lang = std::fs::read(place.join("usr/share/java/commons-lang3.jar")).context("libcommons-lang3-java")?;
    pack(&place, java)?;
    let place = root("app")?;
    rust_program(work, &inner(&place, "usr/local/bin")?, &inner(&place, "srv/app")?)?;
    let planted_debs: Vec<PathBuf> = debs.into_iter().filter(|deb| is_planted(deb)).collect();
    let planted = planted::plant(&inner(&place, "srv/vendor")?, &planted_debs, &lang)?;
    pack(&place, app)?;
    let bytes = tars.iter().map(|tar| Ok(std::fs::metadata(tar)?.len())).sum::<anyhow::Result<u64>>()?;
    ensure!(bytes >= BYTES_MIN, "the image has only {bytes} bytes");
    let layers = images(&tars, folder)?;
    std::fs::write(folder.join("layers.json"), serde_json::to_vec(&layers)?)?;
    std::fs::write(folder.join("planted.json"), serde_json::to_vec(&planted)?)?;
    Ok(())
}

pub(crate) fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

fn pack(root: &Path, tar: &Path) -> anyhow::Result<()> {
    let owner = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner"];
    run(Command::new("tar").args(owner).arg("-cf").arg(tar).arg("-C").arg(root).arg("."))?;
    std::fs::remove_dir_all(root)?;
    Ok(())
}

/// What `apt-get install` in a container adds to the base: a whole system with the packages, less what the base has.
fn debian_layer(work: &Path, base: &Path, layer: &Path) -> anyhow::Result<()> {
    let whole = work.join("debian-whole.tar");
    run(Command::new("mmdebstrap")
        .args(["--variant=minbase", &format!("--include=ca-certificates,{}", DEBIAN.join(","))])
        .arg("--customize-hook=rm -rf \"$1\"/var/lib/apt/lists/* \"$1\"/var/cache/apt/*.bin")
        .arg("bookworm")
        .arg(&whole))?;
    type Known = HashMap<Vec<u8>, (u8, u64, u64)>;
    fn of<R: Read>(entry: &tar::Entry<'_, R>) -> anyhow::Result<(u8, u64, u64)> {
        let header = entry.header();
        Ok((header.entry_type().as_byte(), entry.size(), header.mtime()?))
    }
    let mut known = Known::new();
    let mut archive = tar::Archive::new(BufReader::new(File::open(base)?));
    for entry in archive.entries()? {
        let entry = entry?;
        known.insert(entry.path_bytes().into_owned(), of(&entry)?);
    }
    let mut out = tar::Builder::new(BufWriter::new(File::create(layer)?));
    let mut archive = tar::Archive::new(BufReader::new(File::open(&whole)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if known.get(&*entry.path_bytes()) == Some(&of(&entry)?) {
            continue;
        }
        let path = entry.path()?.into_owned();
        let mut header = entry.header().clone();
        match entry.link_name()?.map(|link| link.into_owned()) {
            Some(link) => out.append_link(&mut header, path, link)?,
            None => out.append_data(&mut header, path, &mut entry)?,
        }
    }
    out.into_inner()?.flush()?;
    std::fs::remove_file(&whole)?;
    Ok(())
}

/// A small program with its lock file, and with what cargo-auditable writes into it.
fn rust_program(work: &Path, bin: &Path, source: &Path) -> anyhow::Result<()> {
    let project = work.join("rust");
    std::fs::create_dir_all(project.join("src"))?;
    std::fs::write(project.join("Cargo.toml"), CRATES)?;
    std::fs::write(project.join("src/main.rs"), PROGRAM)?;
    run(Command::new("cargo")
        .args(["build", "--release", "--quiet", "--target-dir"])
        .arg(project.join("target"))
        .current_dir(&project))?;
    let lock = std::fs::read_to_string(project.join("Cargo.lock"))?;
    let mut packages = Vec::new();
    for block in lock.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
            line.and_then(|line| line.strip_suffix('"')).unwrap_or_default().to_owned()
        };
        let name = value("name");
        let source = if name == "bench-app" { "local" } else { "crates.io" };
        packages.push(json!({ "name": name, "version": value("version"), "source": source }));
    }
    let section = project.join("section");
    let mut encoder = flate2::write::ZlibEncoder::new(File::create(&section)?, flate2::Compression::default());
    encoder.write_all(&serde_json::to_vec(&json!({ "packages": packages }))?)?;
    encoder.finish()?;
    run(Command::new("objcopy")
        .arg(format!("--add-section=.dep-v0={}", section.display()))
        .arg(project.join("target/release/bench-app"))
        .arg(bin.join("bench-app")))?;
    std::fs::copy(project.join("Cargo.lock"), source.join("Cargo.lock"))?;
    Ok(())
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let mut hasher = Sha256::new();
    let (mut file, mut buffer) = (File::open(path)?, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
}

/// The image's configuration.
pub(crate) fn config(diff_ids: &[String]) -> anyhow::Result<Vec<u8>> {
    let ids: Vec<String> = diff_ids.iter().map(|hex| format!("sha256:{hex}")).collect();
    let history: Vec<_> = (1..=ids.len()).map(|step| json!({ "created_by": format!("bench step {step}") })).collect();
    Ok(serde_json::to_vec(&json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "config": {},
        "rootfs": { "type": "layers", "diff_ids": ids }, "history": history,
    }))?)
}

/// Writes a layout around blobs that are in its place already: hexadecimal digest and size of each compressed layer.
pub(crate) fn layout(folder: &Path, layers: &[(String, u64)], diff_ids: &[String]) -> anyhow::Result<()> {
    let blobs = folder.join("blobs/sha256");
    let blob = |bytes: &[u8]| -> anyhow::Result<(String, usize)> {
        let hex = hex::encode(Sha256::digest(bytes));
        std::fs::write(blobs.join(&hex), bytes)?;
        Ok((hex, bytes.len()))
    };
    let descriptor = |kind: &str, hex: &str, size: u64| {
        let media = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": media, "digest": format!("sha256:{hex}"), "size": size })
    };
    let (config_hex, config_bytes) = blob(&config(diff_ids)?)?;
    let layers: Vec<_> = layers.iter().map(|(hex, size)| descriptor("layer.v1.tar+gzip", hex, *size)).collect();
    let (manifest_hex, manifest_bytes) = blob(&serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &config_hex, config_bytes as u64), "layers": layers,
    }))?)?;
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let manifest = descriptor("manifest.v1+json", &manifest_hex, manifest_bytes as u64);
    std::fs::write(
        folder.join("index.json"),
        serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [manifest] }))?,
    )?;
    Ok(())
}

/// Both forms of the image. Gives back the compressed layers' digests and the sizes of their tars.
fn images(tars: &[PathBuf], folder: &Path) -> anyhow::Result<Vec<(String, u64)>> {
    let blobs = folder.join(LAYOUT).join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    let mut archive = tar::Builder::new(BufWriter::new(File::create(folder.join(ARCHIVE))?));
    let mut append = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes)
    };
    let diff_ids = tars.iter().map(|tar| sha256(tar)).collect::<anyhow::Result<Vec<_>>>()?;
    let config = config(&diff_ids)?;
    let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let names: Vec<String> = diff_ids.iter().map(|hex| format!("{hex}/layer.tar")).collect();
    append(&config_name, &config)?;
    let manifest = json!([{ "Config": config_name, "RepoTags": [NAME], "Layers": names }]);
    append("manifest.json", &serde_json::to_vec(&manifest)?)?;
    let (mut packed, mut sizes) = (Vec::new(), Vec::new());
    for (tar, name) in tars.iter().zip(&names) {
        archive.append_path_with_name(tar, name)?;
        let bytes = std::fs::metadata(tar)?.len();
        run(Command::new("gzip").arg("-n").arg(tar))?;
        let compressed = tar.with_extension("tar.gz");
        let hex = sha256(&compressed)?;
        packed.push((hex.clone(), std::fs::metadata(&compressed)?.len()));
        sizes.push((hex.clone(), bytes));
        std::fs::rename(&compressed, blobs.join(&hex))?;
    }
    archive.into_inner()?.flush()?;
    layout(&folder.join(LAYOUT), &packed, &diff_ids)?;
    Ok(sizes)
}
