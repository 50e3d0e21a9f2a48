//! What is named on the command line: a path, an image of a registry, an image of the engine.

use std::path::{Path, PathBuf};

use ::inspect::document::Image;
use ::inspect::image::ImageError;
use api::Problem;
use client::{ByteStream, Client, ClientConfig, ClientError, Keychain, RemoteManifest};
use engine::Docker;
use futures::{Stream, StreamExt as _};
use oci::{Descriptor, Digest, DocumentKind, Platform, Reference, media};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use super::Args;
use crate::output::{self, Progress};
use crate::reach::Global;

/// Names a container engine's image for certain.
const ENGINE: &str = "docker:";
/// Names a registry's image for certain.
const REGISTRY: &str = "registry:";
/// Bytes of an image that are brought from a registry or an engine.
const IMAGE_BYTES_MAX: u64 = 256 << 30;
/// Layers of one image.
const LAYERS_MAX: usize = ::inspect::image::LAYERS_MAX;
/// Marks statements about an image that BuildKit puts beside it.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// Where the thing lies now.
pub(super) struct Thing {
    path: PathBuf,
    /// What goes with it once it was looked into.
    _folder: Option<TempDir>,
    reference: Option<Reference>,
    name: Option<String>,
}

impl Thing {
    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a platform is still to be chosen.
    pub(super) fn has_platforms(&self) -> bool {
        self.reference.is_none()
    }

    /// Says of an image from elsewhere where it is from.
    pub(super) fn describe(&self, image: &mut Image) {
        if let Some(name) = &self.name {
            image.name.clone_from(name);
        }
        if let Some(reference) = &self.reference {
            image.repository = Some(format!("{}/{}", reference.host(), reference.repository()));
            image.tag = reference.tag().map(ToString::to_string);
        }
    }
}

/// Which of the three a text names.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Path(PathBuf),
    Registry(String),
    Engine(String),
}

impl Named {
    /// `exists` says whether there is something at a path.
    fn of(text: &str, exists: impl Fn(&Path) -> bool) -> api::Result<Self> {
        if let Some(name) = text.strip_prefix(ENGINE) {
            return Ok(Self::Engine(name.to_owned()));
        }
        if let Some(name) = text.strip_prefix(REGISTRY) {
            return Ok(Self::Registry(name.to_owned()));
        }
        let path = PathBuf::from(text);
        let is_path = text.starts_with(['/', '.']) || text.is_empty();
        let has_host = text.split_once('/').is_some_and(|(host, rest)| {
            !rest.is_empty() && (host.contains(['.', ':']) || host == "localhost") && text.parse::<Reference>().is_ok()
        });
        match (exists(&path), has_host && !is_path) {
            (true, true) => Err(Problem::new(400, "thing-ambiguous", format!("{text} may be two things"))
                .detail("there is a file of that name, and it is the name of an image of a registry")
                .hint(format!("Write ./{text} for the file, {REGISTRY}{text} for the image."))),
            (_, true) => Ok(Self::Registry(text.to_owned())),
            (false, false) if !is_path && text.parse::<Reference>().is_ok() => Ok(Self::Engine(text.to_owned())),
            _ => Ok(Self::Path(path)),
        }
    }
}

/// Finds what is named; brings it here where it is elsewhere.
pub(super) async fn find(global: &Global, args: &Args, progress: &Progress) -> api::Result<Thing> {
    let is_guessed = !args.thing.starts_with(ENGINE);
    match Named::of(&args.thing, |path| path.symlink_metadata().is_ok())? {
        Named::Path(path) => Ok(Thing { path, _folder: None, reference: None, name: None }),
        Named::Registry(name) => of_registry(global, args, &name, progress).await,
        Named::Engine(name) => of_engine(args, &name, progress).await.map_err(|problem| {
            if !is_guessed || !matches!(problem.status, 404 | 502..=504) {
                return problem;
            }
            Problem::new(404, "thing-unknown", format!("{name} cannot be inspected"))
                .detail(format!("there is no file of that name; of the container engine: {}", problem.detail))
                .hint(
                    "Give the path of an image's archive or layout, of a folder or of a file; HOST/REPOSITORY:TAG for an \
                     image of a registry; docker:NAME for one of the engine.",
                )
        }),
    }
}

/// Why what lies at a path cannot be looked into.
pub(super) fn problem(thing: &str, error: &ImageError) -> Problem {
    let what = format!("{thing} cannot be inspected");
    let (status, kind, hint) = match error {
        ImageError::Read(error) if error.kind() == std::io::ErrorKind::NotFound => {
            (404, "thing-unknown", "give the path of an image's archive or layout, of a folder or of a file")
        }
        ImageError::Read(_) => (400, "thing-unreadable", "look at its permissions"),
        ImageError::Platform { .. } => (404, "platform-unknown", "leave --platform out to see all of them"),
        ImageError::Bill(_) => {
            (422, "bill-invalid", "have it written anew, as CycloneDX 1.2 to 1.7 or SPDX 2.2 or 2.3")
        }
        _ => (422, "thing-broken", "make the archive anew: with `docker save`, or `skopeo copy … oci:FOLDER`"),
    };
    Problem::new(status, kind, what).detail(error.to_string()).hint(hint)
}

fn folder() -> api::Result<TempDir> {
    tempfile::tempdir().map_err(|error| {
        Problem::new(500, "temporary-folder", "There is no room for the image")
            .detail(error.to_string())
            .hint("Set TMPDIR to a folder that can be written to.")
    })
}

async fn of_engine(args: &Args, name: &str, progress: &Progress) -> api::Result<Thing> {
    progress.now("Reading it from the container engine");
    let failed = |error: engine::EngineError| {
        let status = match error.kind {
            engine::ErrorKind::NotFound => 404,
            engine::ErrorKind::Unreachable | engine::ErrorKind::Timeout => 503,
            engine::ErrorKind::Forbidden => 403,
            engine::ErrorKind::Invalid => 400,
            _ => 502,
        };
        let problem = Problem::new(status, "engine-image", format!("{name} cannot be read from the container engine"))
            .detail(format!("{}: {}", error.what, error.why));
        match error.hint {
            Some(hint) => problem.hint(hint),
            None => problem.hint("List its images with `docker image ls`."),
        }
    };
    let docker = Docker::new(crate::reach::engine_address(args.engine.as_deref())?);
    let archive = docker.image_save(name).await.map_err(failed)?;
    let folder = folder()?;
    let path = folder.path().join("image.tar");
    write(archive, &path, IMAGE_BYTES_MAX).await.map_err(|error| {
        Problem::new(502, "engine-image", format!("{name} cannot be read from the container engine"))
            .detail(error.to_string())
            .hint("Set TMPDIR to a folder with more room, or look at the engine.")
    })?;
    Ok(Thing { path, _folder: Some(folder), reference: None, name: Some(name.to_owned()) })
}

/// Brings an image here as an OCI layout.
async fn of_registry(global: &Global, args: &Args, name: &str, progress: &Progress) -> api::Result<Thing> {
    let reference: Reference = name.parse().map_err(|error: oci::ReferenceError| {
        Problem::new(400, "image-name", "That is not an image's name")
            .detail(error.to_string())
            .hint("Write HOST/REPOSITORY:TAG or HOST/REPOSITORY@DIGEST.")
    })?;
    progress.now(&format!("Asking {}", reference.host()));
    let client = client(global, args, &reference).await?;
    let folder = folder()?;
    let manifests = manifests(&client, &reference, args.platform.as_ref()).await?;
    let blobs = folder.path().join("blobs");
    for manifest in &manifests {
        let DocumentKind::Manifest(image) = &manifest.document.kind else { continue };
        if image.layers.len() > LAYERS_MAX {
            return Err(broken(&reference, format!("it has {} layers", image.layers.len())));
        }
        put(&blobs, &manifest.digest, &manifest.content)
            .await
            .map_err(|error| broken(&reference, error.to_string()))?;
        // What is no layer of files is listed as such, and not brought.
        let wanted = image.layers.iter().filter(|layer| !media::is_foreign_layer(&layer.media_type));
        for (number, blob) in std::iter::once(&image.config).chain(wanted).enumerate() {
            progress.now(&format!("Reading layer {number} of {}, {}", image.layers.len(), output::bytes(blob.size)));
            bring(&client, &reference, blob, &blobs).await?;
        }
    }
    let listed: Vec<_> = manifests
        .iter()
        .map(|manifest| {
            json!({
                "mediaType": manifest.document.media_type, "digest": manifest.digest.to_string(),
                "size": manifest.content.len(), "annotations": { "io.containerd.image.name": name },
            })
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "manifests": listed }).to_string();
    for (file, text) in [("index.json", index.as_str()), ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)] {
        tokio::fs::write(folder.path().join(file), text).await.map_err(|error| Problem::internal(&error))?;
    }
    Ok(Thing {
        path: folder.path().to_owned(),
        _folder: Some(folder),
        reference: Some(reference),
        name: Some(name.to_owned()),
    })
}

async fn client(global: &Global, args: &Args, reference: &Reference) -> api::Result<Client> {
    let host = reference.host();
    let mut config = ClientConfig { certificates_pem: global.ca_pem()?.unwrap_or_default(), ..ClientConfig::default() };
    let hub = global.hub.host_str().map(|name| match global.hub.port() {
        Some(port) => format!("{name}:{port}"),
        None => name.to_owned(),
    });
    if args.plain_http {
        config.plain_http.push(host.to_owned());
    } else if global.hub.scheme() == "https" && hub.as_deref() == Some(host) {
        config.https.push(host.to_owned());
    }
    let unreadable = |error: client::KeychainError| {
        Problem::new(400, "credentials-unreadable", "The registry's credentials cannot be had")
            .detail(error.to_string())
    };
    let keychain = Keychain::read(&crate::reach::credential_files()).map_err(unreadable)?;
    if let Some(found) = keychain.find(host, reference.repository().as_str()).await.map_err(unreadable)? {
        config.credentials.insert(host.to_owned(), found);
    }
    Client::new(config).map_err(refused)
}

/// The manifests of one image: of an index the one for the platform that is asked for, or for this machine.
async fn manifests(
    client: &Client,
    reference: &Reference,
    asked: Option<&Platform>,
) -> api::Result<Vec<RemoteManifest>> {
    let first = client.manifest_get(reference).await.map_err(refused)?;
    let DocumentKind::Index(index) = &first.document.kind else { return Ok(vec![first]) };
    let here = Platform {
        os: "linux".to_owned(),
        architecture: architecture(std::env::consts::ARCH).to_owned(),
        variant: None,
        os_version: None,
        os_features: Vec::new(),
    };
    let wanted = asked.unwrap_or(&here);
    let images: Vec<&Descriptor> =
        index.manifests.iter().filter(|manifest| !manifest.annotations.contains_key(ATTESTATION)).collect();
    let fits = |manifest: &&&Descriptor| {
        manifest.platform.as_ref().is_some_and(|platform| {
            platform.os == wanted.os
                && platform.architecture == wanted.architecture
                && (wanted.variant.is_none() || platform.variant == wanted.variant)
        })
    };
    let chosen = match images.as_slice() {
        [only] if asked.is_none() => Some(*only),
        several => several.iter().find(fits).copied(),
    };
    let chosen = chosen.ok_or_else(|| {
        let there: Vec<String> =
            images.iter().filter_map(|image| image.platform.as_ref()).map(ToString::to_string).collect();
        Problem::new(404, "platform-unknown", format!("{reference} is not for {wanted}"))
            .detail(format!("there are: {}", there.join(", ")))
            .hint("Choose one with --platform.")
    })?;
    let child = client.manifest_get(&reference.clone().with_digest(chosen.digest)).await.map_err(refused)?;
    match child.document.kind {
        DocumentKind::Manifest(_) => Ok(vec![child]),
        DocumentKind::Index(_) => Err(broken(reference, "its index names another index".to_owned())),
    }
}

/// What the rest of the world calls a processor.
fn architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

async fn bring(client: &Client, reference: &Reference, blob: &Descriptor, blobs: &Path) -> api::Result<()> {
    let path = place(blobs, &blob.digest);
    if tokio::fs::try_exists(&path).await.unwrap_or(false) {
        return Ok(());
    }
    if blob.size > IMAGE_BYTES_MAX {
        return Err(broken(reference, format!("a blob of {}", output::bytes(blob.size))));
    }
    let stream: ByteStream = client.blob_get(reference, &blob.digest, blob.size).await.map_err(refused)?;
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(|error| Problem::internal(&error))?;
    }
    write(stream, &path, blob.size).await.map_err(|error| broken(reference, error.to_string()))
}

fn place(blobs: &Path, digest: &Digest) -> PathBuf {
    blobs.join(digest.algorithm().as_str()).join(digest.hex())
}

async fn put(blobs: &Path, digest: &Digest, content: &[u8]) -> std::io::Result<()> {
    let path = place(blobs, digest);
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    tokio::fs::write(path, content).await
}

/// Writes what streams in, at most so many bytes.
async fn write(
    mut stream: impl Stream<Item = std::io::Result<impl AsRef<[u8]>>> + Unpin,
    path: &Path,
    bytes_max: u64,
) -> std::io::Result<()> {
    let mut file = tokio::fs::File::create_new(path).await?;
    let mut length = 0_u64;
    while let Some(bytes) = stream.next().await {
        let bytes = bytes?;
        length += bytes.as_ref().len() as u64;
        if length > bytes_max {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        file.write_all(bytes.as_ref()).await?;
    }
    file.flush().await
}

fn broken(reference: &Reference, why: String) -> Problem {
    Problem::new(502, "registry-image", format!("{reference} cannot be read"))
        .detail(why)
        .hint("Try again; where it stays so, push the image anew.")
}

fn refused(error: ClientError) -> Problem {
    let (status, title, hint) = match &error {
        ClientError::Unreachable { .. } => {
            (502, "The registry cannot be reached", "Look at its address; plain http is allowed with --plain-http.")
        }
        ClientError::Denied { .. } => (403, "The registry refuses", "Sign in with `docker login HOST`."),
        ClientError::NotFound { .. } => (404, "There is no such image", "Look at its name: HOST/REPOSITORY:TAG."),
        ClientError::Busy { .. } => (429, "The registry is too busy", "Try again later."),
        ClientError::Status { status, .. } if *status < 500 => {
            (*status, "The registry refuses", "Look at its name and your rights.")
        }
        _ => (502, "The registry cannot be used", "Try again later."),
    };
    Problem::new(status, format!("registry-{}", error.kind()), title).detail(error.whole()).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_one_thing_or_is_refused() {
        let there = |path: &Path| matches!(path.to_str(), Some("app.tar" | "redis" | "host.example/app"));
        let named = |text: &str| Named::of(text, there).unwrap();
        let path = |text: &str| Named::Path(PathBuf::from(text));
        assert_eq!(named("app.tar"), path("app.tar"));
        assert_eq!(named("redis"), path("redis"), "what is there is meant");
        assert_eq!(named("./nothing"), path("./nothing"));
        assert_eq!(named("/etc/nothing"), path("/etc/nothing"));
        assert_eq!(named("UPPER.TAR"), path("UPPER.TAR"), "no image has such a name");
        for text in ["127.0.0.1:5000/app/svc:tag", "localhost/app", "registry.example/app@sha256:0"] {
            let wanted = text.parse::<Reference>().is_ok();
            assert_eq!(matches!(named(text), Named::Registry(_)), wanted, "{text}");
        }
        assert_eq!(named("registry:redis:7"), Named::Registry("redis:7".to_owned()));
        assert_eq!(named("docker:app.tar"), Named::Engine("app.tar".to_owned()));
        assert_eq!(named("team/app:1"), Named::Engine("team/app:1".to_owned()));
        let problem = Named::of("host.example/app", there).unwrap_err();
        assert_eq!(
            problem.hint.as_deref(),
            Some("Write ./host.example/app for the file, registry:host.example/app for the image.")
        );
    }
}
