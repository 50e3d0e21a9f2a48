//! Things within other things, which no package manager knows of.

use std::io::{Cursor, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use rig::engine::run;
use serde::{Deserialize, Serialize};
use zip::write::SimpleFileOptions;

/// Packages of Debian that lie there as files.
pub(crate) const DEBS: &[&str] = &["hello", "sl"];
/// Classes of one library that are merged into an archive of something else.
const SHADED_CLASSES: usize = 60;

/// What must be found.
#[derive(Deserialize, Serialize)]
pub(crate) struct Planted {
    /// How it is packed.
    pub(crate) what: String,
    /// Of which kind.
    pub(crate) ecosystem: String,
    /// By which name.
    pub(crate) name: String,
    /// In which version, where that can be told.
    pub(crate) version: Option<String>,
}

/// Puts everything into `folder`. `lang` is the jar of commons-lang3.
pub(crate) fn plant(folder: &Path, debs: &[PathBuf], lang: &[u8]) -> anyhow::Result<Vec<Planted>> {
    let mut planted = Vec::new();
    let mut add = |what: &str, ecosystem: &str, name: &str, version: Option<&str>| {
        let (what, ecosystem, name) = (what.to_owned(), ecosystem.to_owned(), name.to_owned());
        planted.push(Planted { what, ecosystem, name, version: version.map(str::to_owned) });
    };
    // Jars in a war in a tar.gz in a zip.
    let (one, two) = ("planted-in-war-one", "planted-in-war-two");
    let war = zipped(&[
        ("WEB-INF/web.xml", b"<web-app/>".to_vec()),
        ("WEB-INF/lib/planted-in-war-one-1.2.3.jar", jar(one, "1.2.3")?),
        ("WEB-INF/lib/planted-in-war-two-4.5.6.jar", jar(two, "4.5.6")?),
    ])?;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&tarred(&[("deploy/app.war", war)])?)?;
    std::fs::write(folder.join("delivery.zip"), zipped(&[("delivery/app.tar.gz", gzip.finish()?)])?)?;
    add("a jar in a war in a tar.gz in a zip", "maven", &format!("example.planted:{one}"), Some("1.2.3"));
    add("a jar in a war in a tar.gz in a zip", "maven", &format!("example.planted:{two}"), Some("4.5.6"));
    // Jars in a tar.xz.
    let (three, four) = ("planted-in-xz-three", "planted-in-xz-four");
    let tar = folder.join("libraries.tar");
    std::fs::write(&tar, tarred(&[("lib/three.jar", jar(three, "7.8.9")?), ("lib/four.jar", jar(four, "10.11")?)])?)?;
    run(Command::new("xz").arg(&tar))?;
    add("a jar in a tar.xz", "maven", &format!("example.planted:{three}"), Some("7.8.9"));
    add("a jar in a tar.xz", "maven", &format!("example.planted:{four}"), Some("10.11"));
    // A wheel.
    let metadata = b"Metadata-Version: 2.1\nName: planted-wheel\nVersion: 0.4.2\nLicense: MIT\n".to_vec();
    let wheel = zipped(&[
        ("planted_wheel/__init__.py", b"".to_vec()),
        ("planted_wheel-0.4.2.dist-info/METADATA", metadata),
        ("planted_wheel-0.4.2.dist-info/WHEEL", b"Wheel-Version: 1.0\n".to_vec()),
    ])?;
    std::fs::write(folder.join("planted_wheel-0.4.2-py3-none-any.whl"), wheel)?;
    add("a wheel", "pypi", "planted-wheel", Some("0.4.2"));
    // Debian packages.
    for deb in debs {
        let name = deb.file_name().context("a package's file")?;
        std::fs::copy(deb, folder.join(name))?;
        let stem = name.to_string_lossy().replace("%3a", ":");
        let mut parts = stem.split('_');
        if let (Some(name), Some(version)) = (parts.next(), parts.next()) {
            add("a deb", "deb", name, Some(version));
        }
    }
    // What `npm pack` makes.
    let manifest = br#"{"name": "@planted/tarball", "version": "3.2.1", "license": "ISC"}"#.to_vec();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&tarred(&[("package/package.json", manifest), ("package/index.js", b"0\n".to_vec())])?)?;
    std::fs::write(folder.join("planted-tarball-3.2.1.tgz"), gzip.finish()?)?;
    add("an npm tgz", "npm", "@planted/tarball", Some("3.2.1"));
    // Classes merged into something else, in another package, with no pom.
    let mut shaded = Vec::new();
    let mut library = zip::ZipArchive::new(Cursor::new(lang))?;
    for at in 0..library.len() {
        let mut entry = library.by_index(at)?;
        let name = entry.name()?.into_owned();
        let Some(inner) = name.strip_prefix("org/apache/").filter(|name| name.ends_with(".class")) else {
            continue;
        };
        let name = format!("com/example/shaded/{inner}");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        shaded.push((name, bytes));
        if shaded.len() == SHADED_CLASSES {
            break;
        }
    }
    let shaded: Vec<(&str, Vec<u8>)> = shaded.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    std::fs::write(folder.join("service.jar"), zipped(&shaded)?)?;
    add("shaded classes without a pom", "maven", "org.apache.commons:commons-lang3", None);
    Ok(planted)
}

fn jar(artifact: &str, version: &str) -> anyhow::Result<Vec<u8>> {
    let folder = format!("META-INF/maven/example.planted/{artifact}/pom.properties");
    let properties = format!("groupId=example.planted\nartifactId={artifact}\nversion={version}\n");
    zipped(&[
        ("META-INF/MANIFEST.MF", b"Manifest-Version: 1.0\r\n\r\n".to_vec()),
        (&folder, properties.into_bytes()),
        ("example/planted/Main.class", vec![0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 52]),
    ])
}

fn zipped(members: &[(&str, Vec<u8>)]) -> anyhow::Result<Vec<u8>> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        archive.start_file(*name, SimpleFileOptions::default())?;
        archive.write_all(bytes)?;
    }
    Ok(archive.finish()?.into_inner())
}

fn tarred(members: &[(&str, Vec<u8>)]) -> anyhow::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &**bytes)?;
    }
    Ok(archive.into_inner()?)
}
