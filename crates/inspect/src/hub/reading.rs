//! Reading what enters the registry: each layer once, as it streams out of the registry through an unnamed file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use api::Micros;
use api::images::ManifestKind;
use api::registry::PushedManifest;
use base::shutdown::Shutdown;
use base::tasks::Progress;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use oci::{Descriptor, Digest, Document, DocumentKind, ImageConfig, Manifest, RepositoryName, media};
use tokio::io::AsyncWriteExt as _;

use super::Service;
use super::error::Error;
use super::files::Builder;
use super::store::{Due, Entry, Kept, Key, LayerRow, Outcome};
use super::stored;
use crate::advisory::place::Platform;
use crate::archive::Limits;
use crate::assemble::assemble;
use crate::content::Content;
use crate::document::{self, Contents, Found, json};
use crate::licence::Expression;
use crate::local;
use crate::walk::{self, Gathering, Layer};

/// Manifests that are listed at once.
const PAGE: u32 = 500;
/// A push that began before others may be seen after them, by so many seconds at most.
const OVERLAP_SECONDS: u64 = 30;
/// Images that are read before others get a turn.
const IMAGES_IN_A_ROW: u32 = 8;
/// Layers of an image that are read side by side. Each takes a core, and room for itself as it is in the registry.
const LAYERS_PARALLEL: usize = 2;
/// Readings of an image that may end with the hub, before no more are begun.
const TRIES_MAX: u32 = 5;
/// How long an image waits after a reading that ended with the hub, or whose blobs are not here.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Bytes of a configuration.
pub(super) const CONFIGURATION_BYTES_MAX: u64 = 8 << 20;
/// Bytes of a layer as it is in the registry. A larger one is told to be unexamined.
const LAYER_BYTES_MAX: u64 = 64 << 30;
/// Characters of a licence by which images are found; longer ones are texts and no names.
const LICENCE_CHARS_MAX: usize = 120;
const LEVEL: i32 = 3;

/// What entered in the last seconds and was noted, so that it is not noted again and again.
pub(super) type Noted = BTreeSet<(Micros, String, String)>;

/// What reading an image came to.
enum Read {
    Kept(Box<Kept>),
    Not(Outcome),
}

impl Service {
    /// Notes what entered the registry, and reads some of what waits.
    ///
    /// # Errors
    /// A database failed, or the registry; the next run goes on.
    pub(super) async fn look(&self, shutdown: &Shutdown) -> Result<Progress, Error> {
        if self.lease().await?.is_none() {
            return Ok(Progress::Done);
        }
        self.take_in().await?;
        self.store().outdated_wait(PAGE, self.now()).await?;
        let due = self.store().due(self.now(), IMAGES_IN_A_ROW).await?;
        let mut is_more = due.len() == IMAGES_IN_A_ROW as usize;
        if due.is_empty() && self.inner.scanner.is_some() {
            // A few at a time: nothing is said of an image while it waits.
            is_more = self.store().unsearched_wait(IMAGES_IN_A_ROW, self.now()).await? > 0;
        }
        for image in due {
            if shutdown.has_begun() || self.lease().await?.is_none() {
                return Ok(Progress::Done);
            }
            self.read_one(image).await?;
        }
        Ok(if is_more { Progress::More } else { Progress::Done })
    }

    /// Notes all manifests that were pushed since the last look.
    async fn take_in(&self) -> Result<(), Error> {
        let known = self.store().pushed_after().await?;
        let from = known.0.minus(Duration::from_secs(OVERLAP_SECONDS));
        let mut after = (from, String::new(), String::new());
        self.inner.noted.lock().unwrap_or_else(PoisonError::into_inner).retain(|(at, ..)| *at >= from);
        loop {
            let page = self.inner.registry.manifests_pushed(&after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = (last.pushed_at, last.repository.to_string(), last.digest.to_string());
            let is_last = page.len() < PAGE as usize;
            let new: Vec<PushedManifest> = {
                let noted = self.inner.noted.lock().unwrap_or_else(PoisonError::into_inner);
                page.into_iter().filter(|pushed| !noted.contains(&mark(pushed))).collect()
            };
            if !new.is_empty() {
                self.note(&new, after.clone().max(known.clone())).await?;
                self.inner.noted.lock().unwrap_or_else(PoisonError::into_inner).extend(new.iter().map(mark));
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn note(&self, new: &[PushedManifest], after: (Micros, String, String)) -> Result<(), Error> {
        let (mut images, mut children, mut spoken_of) = (Vec::new(), Vec::new(), Vec::new());
        let places: Vec<_> = new
            .iter()
            .filter(|pushed| pushed.kind == ManifestKind::Image)
            .map(|pushed| (pushed.repository.clone(), pushed.digest))
            .collect();
        let tags = self.inner.registry.tags_leading_to(&places).await?;
        let tag = |pushed: &PushedManifest| {
            let tags = tags.get(&(pushed.repository.clone(), pushed.digest))?;
            tags.first().map(ToString::to_string)
        };
        for pushed in new {
            match pushed.kind {
                ManifestKind::Image => {
                    images.push((pushed.repository.clone(), pushed.digest, tag(pushed).unwrap_or_default()));
                }
                ManifestKind::Index => {
                    let digest = pushed.digest.to_string();
                    let found = self.inner.registry.manifest_get(&pushed.repository, &digest).await?;
                    let Some(found) = found else { continue };
                    let Ok(document) = Document::parse(&found.bytes, Some(&found.media_type)) else { continue };
                    children.extend(document.manifests().iter().map(|child| (pushed.digest, child.digest)));
                }
                ManifestKind::Artifact => spoken_of.extend(self.spoken_of(pushed).await?),
            }
        }
        let pushed: Vec<Digest> = images.iter().map(|(_, digest, _)| *digest).collect();
        if self.store().entered(images, children, after, self.now()).await? > 0 {
            self.changed();
        }
        self.attach_again(pushed, spoken_of).await
    }

    async fn read_one(&self, due: Due) -> Result<(), Error> {
        let (number, digest, now) = (due.number, due.digest, self.now());
        if due.tries >= TRIES_MAX {
            let why = format!("{} readings of it ended with the hub", due.tries);
            tracing::warn!(image = %digest, why, "an image cannot be examined");
            self.store().outcome(number, Outcome::Failed(why), now).await?;
            self.changed();
            return Ok(());
        }
        self.store().begin(number, now.plus(AGAIN_AFTER)).await?;
        match self.read(&due).await {
            Ok(Read::Kept(kept)) => {
                let (components, unexamined) = (kept.components, kept.unexamined);
                self.store().keep(vec![*kept], self.now()).await?;
                self.inner.matching.wake();
                self.inner.attaching.wake();
                tracing::info!(image = %digest, components, unexamined, "an image was examined");
            }
            Ok(Read::Not(outcome)) => {
                if let Outcome::Failed(why) = &outcome {
                    tracing::warn!(image = %digest, why, "an image cannot be examined");
                }
                self.store().outcome(number, outcome, self.now()).await?;
            }
            // What the registry or the disk refuses now may be had later; other images need not wait for it.
            Err(error @ (Error::Other(_) | Error::Work(_) | Error::Damaged { .. })) => {
                tracing::warn!(image = %digest, %error, "an image cannot be examined now");
                let later = Outcome::Later(self.now().plus(AGAIN_AFTER), error.to_string());
                self.store().outcome(number, later, self.now()).await?;
            }
            Err(error) => return Err(error),
        }
        self.changed();
        Ok(())
    }

    async fn read(&self, due: &Due) -> Result<Read, Error> {
        let later = |why: &str| Ok(Read::Not(Outcome::Later(self.now().plus(AGAIN_AFTER), why.to_owned())));
        let failed = |why: String| Ok(Read::Not(Outcome::Failed(why)));
        let mut found = None;
        for repository in &due.repositories {
            if let Some(manifest) = self.inner.registry.manifest_get(repository, &due.digest.to_string()).await? {
                found = Some((repository, manifest));
                break;
            }
        }
        let Some((repository, stored)) = found else { return later("its manifest is not here") };
        let document = match Document::parse(&stored.bytes, Some(&stored.media_type)) {
            Ok(document) => document,
            Err(error) => return failed(format!("its manifest cannot be read: {error}")),
        };
        let DocumentKind::Manifest(manifest) = &document.kind else { return Ok(Read::Not(Outcome::Other)) };
        if !is_image(manifest) {
            return Ok(Read::Not(Outcome::Other));
        }
        // Nothing is fetched from an upstream for this: what is pulled through is read once it is here.
        let needed: Vec<Digest> = document.blobs().filter(|blob| !is_elsewhere(blob)).map(|blob| blob.digest).collect();
        if self.inner.registry.blobs_known(&needed).await?.len() < needed.iter().collect::<BTreeSet<_>>().len() {
            return later("not all of its blobs are here yet");
        }
        let config = &manifest.config.digest;
        let Some(bytes) = self.inner.registry.blob_get(repository, config, CONFIGURATION_BYTES_MAX).await? else {
            return later("its configuration is not here yet");
        };
        let config: ImageConfig = match serde_json::from_slice(&bytes) {
            Ok(config) => config,
            Err(error) => return failed(format!("its configuration cannot be read: {error}")),
        };
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return failed(format!(
                "its configuration has {} layers, its manifest {}",
                config.rootfs.diff_ids.len(),
                manifest.layers.len()
            ));
        }
        let layers = self.layers(repository, manifest).await?;
        let (digest, number, manifest) = (due.digest, due.number, (**manifest).clone());
        let kept = tokio::task::spawn_blocking(move || kept(number, &digest, &manifest, &config, &layers)).await??;
        Ok(Read::Kept(Box::new(kept)))
    }

    /// What the layers of an image say, from the lowest.
    async fn layers(&self, repository: &RepositoryName, manifest: &Manifest) -> Result<Vec<Arc<Layer>>, Error> {
        let distinct: BTreeMap<Digest, &Descriptor> =
            manifest.layers.iter().map(|layer| (layer.digest, layer)).collect();
        let readings: Vec<_> =
            distinct.into_values().map(|layer| self.layer_named(repository, layer).boxed()).collect();
        let mut readings = futures::stream::iter(readings).buffer_unordered(LAYERS_PARALLEL);
        let mut gathering = Gathering::default();
        while let Some((digest, layer)) = readings.try_next().await? {
            gathering.add(digest, layer);
        }
        let read: BTreeMap<Digest, Arc<Layer>> =
            gathering.finish().into_iter().map(|(digest, layer)| (digest, Arc::new(layer))).collect();
        let all = manifest.layers.iter().map(|layer| read.get(&layer.digest).map(Arc::clone));
        all.collect::<Option<_>>().ok_or_else(|| Error::Work("a layer was not read".to_owned()))
    }

    async fn layer_named(&self, repository: &RepositoryName, layer: &Descriptor) -> Result<(Digest, Layer), Error> {
        Ok((layer.digest, self.layer(repository, layer).await?))
    }

    async fn layer(&self, repository: &RepositoryName, layer: &Descriptor) -> Result<Layer, Error> {
        if is_elsewhere(layer) {
            return Ok(Layer::unread("the layer is not in the registry, but at the addresses that its manifest names"));
        }
        if let Some(kept) = self.store().layer(&layer.digest).await? {
            let read = tokio::task::spawn_blocking(move || stored::read(&kept)).await?;
            match read {
                // Secrets are to be looked for, and were not.
                Ok(layer) if self.inner.scanner.is_some() && !layer.report.sought_secrets => {}
                Ok(layer) => return Ok(layer),
                Err(error) => tracing::warn!(layer = %layer.digest, %error, "what was kept of a layer is read anew"),
            }
        }
        let Some(mut blob) = self.inner.registry.blob_open(repository, &layer.digest, None).await? else {
            return Err(Error::Work(format!("the blob {} is not here", layer.digest)));
        };
        if blob.length > LAYER_BYTES_MAX {
            return Ok(Layer::unread("the layer is larger than any that is read"));
        }
        let folder = self.inner.config.folder.clone();
        let mut file = tokio::fs::File::from_std(tempfile::tempfile_in(&folder)?);
        let mut length = 0_u64;
        while let Some(bytes) = blob.body.next().await {
            let bytes = bytes?;
            length = length.saturating_add(bytes.len() as u64);
            file.write_all(&bytes).await?;
            // Reading may take longer than the lease lasts.
            self.lease().await?;
        }
        file.flush().await?;
        if length != blob.length {
            return Err(Error::Work(format!("the blob {} ended after {length} bytes", layer.digest)));
        }
        let (file, service) = (file.into_std().await, self.clone());
        let (read, kept) = tokio::task::spawn_blocking(move || {
            let mut files = Builder::default();
            let blob = Content::file(&file, 0, length);
            let (limits, scanner) = (Limits::default(), service.inner.scanner.as_ref());
            let layer = walk::layer_listing(blob, &folder, limits, scanner, &mut |listed| files.add(listed));
            // Where the layer was not read to its end, half a list would tell of files that are gone.
            let is_whole = layer.report.files.iter().all(|file| !file.chain.is_empty());
            let kept = stored::write(&layer).map(|kept| (kept, files.finish().filter(|_| is_whole)));
            (layer, kept)
        })
        .await?;
        if let Some((kept, files)) = kept {
            self.store().layer_keep(layer.digest, kept, files, self.now()).await?;
        }
        Ok(read)
    }
}

fn mark(pushed: &PushedManifest) -> (Micros, String, String) {
    (pushed.pushed_at, pushed.repository.to_string(), pushed.digest.to_string())
}

/// Whether this is an image. Statements on one are written like it, with a platform that is none and layers that are none.
fn is_image(manifest: &Manifest) -> bool {
    matches!(manifest.config.media_type.as_str(), media::OCI_CONFIG | media::DOCKER_CONFIG)
        && (manifest.layers.is_empty()
            || manifest.layers.iter().any(|layer| !layer.media_type.starts_with("application/vnd.in-toto")))
}

/// Whether a layer is only to be had elsewhere.
fn is_elsewhere(layer: &Descriptor) -> bool {
    media::is_foreign_layer(&layer.media_type)
}

/// Puts an image together from its layers.
fn kept(
    number: i64,
    digest: &Digest,
    manifest: &Manifest,
    config: &ImageConfig,
    layers: &[Arc<Layer>],
) -> Result<Kept, Error> {
    let layers: Vec<&Layer> = layers.iter().map(|layer| &**layer).collect();
    let are_sought = layers.iter().all(|layer| layer.report.sought_secrets);
    let contents = local::contents(described(digest, manifest, config), assemble(&layers));
    let rows = manifest.layers.iter().zip(&config.rootfs.diff_ids);
    let rows = rows.map(|(layer, diff_id)| LayerRow { digest: layer.digest, diff_id: *diff_id }).collect();
    Ok(Kept { secrets: are_sought.then_some(contents.secrets.len() as u64), ..packed(number, &contents, rows)? })
}

/// What is kept of an image that holds this, where nobody looked for secrets.
pub(super) fn packed(number: i64, contents: &Contents, layers: Vec<LayerRow>) -> Result<Kept, Error> {
    let mut json = Vec::new();
    json::write(contents, &mut json)?;
    Ok(Kept {
        number,
        system: contents.operating_system.as_ref().map(|system| system.name.clone()),
        platform: platform(contents),
        unexamined: contents.unexamined.len() as u64,
        secrets: None,
        components: contents.components.len() as u64,
        contents: zstd::bulk::compress(&json, LEVEL)?,
        layers,
        entries: entries(contents),
    })
}

fn described(digest: &Digest, manifest: &Manifest, config: &ImageConfig) -> document::Image {
    let steps: Vec<_> = config.history.iter().filter(|step| !step.empty_layer).collect();
    let matches = steps.len() == manifest.layers.len();
    let created_by = |at: usize| steps.get(at).filter(|_| matches).and_then(|step| step.created_by.clone());
    document::Image {
        name: digest.to_string(),
        digest: Some(digest.to_string()),
        platform: Some(document::Platform {
            os: config.os.clone(),
            architecture: config.architecture.clone(),
            variant: config.variant.clone(),
        }),
        created: config.created.as_deref().and_then(|created| created.parse().ok()),
        labels: config.config.labels.clone(),
        layers: manifest
            .layers
            .iter()
            .zip(&config.rootfs.diff_ids)
            .enumerate()
            .map(|(at, (layer, diff_id))| document::Layer {
                digest: layer.digest.to_string(),
                diff_id: diff_id.to_string(),
                size: layer.size,
                created_by: created_by(at),
            })
            .collect(),
        ..document::Image::default()
    }
}

/// The distribution's release, as advisories name it.
pub(super) fn platform(contents: &Contents) -> Option<Platform> {
    let system = contents.operating_system.as_ref()?;
    Some(Platform::from_os_release(&system.id, &system.version))
}

/// What the index has of an image: each component, and the other names of what OS packages own.
pub(super) fn entries(contents: &Contents) -> Vec<Entry> {
    let platform = platform(contents);
    let mut entries = BTreeMap::new();
    for found in &contents.components {
        let places: Vec<_> = found
            .places
            .iter()
            .map(|place| (place.layer.and_then(|layer| u32::try_from(layer).ok()), place.chain.clone()))
            .collect();
        let further = found.further.iter().map(|component| (component, true));
        for (component, is_owned) in std::iter::once((&found.component, false)).chain(further) {
            let key = Key::of(component, platform.as_ref());
            let (places, evidence) = (places.clone(), component.evidence);
            let entry = Entry { key: key.clone(), evidence, is_owned, places, licences: licences(found) };
            // What is there by itself, too, counts as that.
            if !is_owned || !entries.contains_key(&key) {
                entries.insert(key, entry);
            }
        }
    }
    entries.into_values().collect()
}

/// The names of a component's licences, without what connects them.
fn licences(found: &Found) -> Vec<String> {
    let stated = found.licences.iter().map(|licence| Expression::read(&licence.stated));
    let mut names: BTreeSet<String> = stated.flat_map(|stated| stated.names()).collect();
    names.retain(|name| !name.is_empty() && name.chars().count() <= LICENCE_CHARS_MAX);
    names.into_iter().collect()
}
