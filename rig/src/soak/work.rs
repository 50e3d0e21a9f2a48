//! One client: random work on a repository of its own, with blobs that all clients share. Every answer is held against the
//! model at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use oci::Digest;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};

use super::Stop;
use super::content::{Blob, Manifest};
use super::model::{Change, Link, Model, Upload};
use super::wire::{Answer, Wire};

/// Manifests of one repository; with more, some are deleted first.
const MANIFESTS_MAX: usize = 10;
const LAYERS_MAX: usize = 3;
const TAGS: u32 = 6;
/// Uploads that are left half done, to be gone on with later.
const UPLOADS_LEFT_MAX: usize = 3;
/// Chunks of one upload.
const CHUNKS_MAX: usize = 4;

/// How often something was acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    pub(super) fn add(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    /// By kind, in the order of their names.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(kind, count)| (*kind, *count))
    }
}

/// A client with its repository.
pub(super) struct Worker {
    pub(super) model: Model,
    pub(super) wire: Wire,
    pub(super) random: StdRng,
    pub(super) tally: Tally,
    pub(super) shared: Arc<Vec<Arc<Blob>>>,
    /// Whose blobs may be mounted.
    pub(super) others: Vec<String>,
    /// Whether the crashes are of the disk, and not of the hub alone.
    pub(super) loses_power: bool,
    /// The number of the next blob or manifest that nobody else has.
    pub(super) number: u64,
}

impl Worker {
    /// Works until the crash. Gives what ended it.
    pub(super) async fn work(&mut self) -> Stop {
        loop {
            if let Err(stop) = self.step().await {
                return stop;
            }
        }
    }

    async fn step(&mut self) -> Result<(), Stop> {
        let room = self.model.there().count() < MANIFESTS_MAX;
        match self.random.random_range(0..100) {
            0..=27 if room => self.image_push(None).await,
            28..=33 if room => {
                let subject = self.any_manifest();
                self.image_push(subject).await
            }
            34..=41 if room => self.index_push().await,
            42..=49 if room => self.push_again().await,
            50..=57 => self.tag_move().await,
            58..=64 => self.tag_delete().await,
            65..=66 => self.blob_delete().await,
            67..=70 => self.upload_begin().await.map(|_| ()),
            71..=75 => self.upload_go_on().await,
            76..=77 => self.upload_cancel().await,
            78..=89 => self.look().await,
            _ => self.manifest_delete().await,
        }
    }

    fn any_manifest(&mut self) -> Option<Arc<Manifest>> {
        self.model.there().choose(&mut self.random).cloned()
    }

    fn any_tag(&mut self) -> String {
        format!("t{}", self.random.random_range(0..TAGS))
    }

    fn fresh_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// One that others have as well, or one that nobody has.
    fn any_blob(&mut self) -> Arc<Blob> {
        match self.random.random_ratio(7, 10) {
            true => self.shared.choose(&mut self.random).cloned(),
            false => None,
        }
        .unwrap_or_else(|| Blob::new(self.fresh_number()))
    }

    async fn image_push(&mut self, subject: Option<Arc<Manifest>>) -> Result<(), Stop> {
        let layers = self.random.random_range(1..=LAYERS_MAX);
        let mut blobs = vec![self.any_blob()];
        while blobs.len() <= layers {
            blobs.push(self.any_blob());
        }
        let manifest = Manifest::image(self.fresh_number(), blobs, subject.as_deref());
        let kind = if manifest.subject.is_some() { "referrers" } else { "images" };
        self.manifest_push(manifest, kind).await
    }

    async fn index_push(&mut self) -> Result<(), Stop> {
        let count = self.random.random_range(1..=LAYERS_MAX);
        let children: Vec<Arc<Manifest>> = self
            .model
            .there()
            .filter(|manifest| manifest.children.is_empty())
            .cloned()
            .choose_multiple(&mut self.random, count);
        if children.is_empty() {
            return Ok(());
        }
        let index = Manifest::index(self.fresh_number(), &children);
        let tag = Some(self.any_tag());
        self.manifest_put(index, tag, "indexes").await.map(|_| ())
    }

    /// The same again as was deleted before, while what it needs may just be collected.
    async fn push_again(&mut self) -> Result<(), Stop> {
        let model = &self.model;
        let gone = model.manifests.values().filter(|held| held.possible.known() == Some(&false));
        let whole = gone.filter(|held| held.manifest.children.iter().all(|child| model.is_there(child)));
        match whole.map(|held| &held.manifest).choose(&mut self.random).cloned() {
            Some(manifest) => self.manifest_push(manifest, "pushed again").await,
            None => Ok(()),
        }
    }

    /// Blobs, then the manifest, as clients do: what is there already is not sent, and may be collected just then. Told
    /// so, all is sent again.
    async fn manifest_push(&mut self, manifest: Arc<Manifest>, kind: &'static str) -> Result<(), Stop> {
        let tag = self.random.random_ratio(3, 4).then(|| self.any_tag());
        for blob in &manifest.blobs {
            if self.random.random_ratio(1, 2) && self.blob_stat(blob).await? {
                continue;
            }
            self.blob_push(blob).await?;
        }
        if !self.manifest_put(Arc::clone(&manifest), tag.clone(), kind).await? {
            for blob in &manifest.blobs {
                self.blob_push(blob).await?;
            }
            self.manifest_put(manifest, tag, kind).await?;
        }
        Ok(())
    }

    /// Whether it was taken. It is refused only when something that it needs may be gone.
    async fn manifest_put(
        &mut self,
        manifest: Arc<Manifest>,
        tag: Option<String>,
        kind: &'static str,
    ) -> Result<bool, Stop> {
        let change = Change::Put { manifest: Arc::clone(&manifest), tag: tag.clone() };
        let before = self.model.clone();
        self.model.begin(&change);
        let reference = tag.clone().unwrap_or_else(|| manifest.digest.to_string());
        let path = format!("/v2/{}/manifests/{reference}", self.model.name);
        let headers = [("content-type", manifest.media_type)];
        let answer = self.wire.call(Method::PUT, &path, &headers, manifest.bytes.clone()).await?;
        if answer.status == StatusCode::CREATED {
            self.model.accept(&change);
            self.tally.add(kind);
            if tag.is_some() {
                self.tally.add("tags put");
            }
            return Ok(true);
        }
        self.model = before;
        if self.model.is_whole(&manifest) || !answer.refuses_with("MANIFEST_BLOB_UNKNOWN") {
            return Err(self.failed(&format!("manifest {} although all it needs is kept", manifest.digest), &answer));
        }
        self.tally.add("refused: what it needs was collected");
        Ok(false)
    }

    async fn manifest_delete(&mut self) -> Result<(), Stop> {
        match self.any_manifest() {
            Some(manifest) => self.delete(&manifest).await,
            None => Ok(()),
        }
    }

    /// Refused while an index needs it.
    async fn delete(&mut self, manifest: &Manifest) -> Result<(), Stop> {
        let change = Change::Delete(manifest.digest);
        let before = self.model.clone();
        self.model.begin(&change);
        let path = format!("/v2/{}/manifests/{}", self.model.name, manifest.digest);
        let answer = self.wire.call(Method::DELETE, &path, &[], Bytes::new()).await?;
        let is_child = before.is_child(&manifest.digest);
        match (answer.status, is_child) {
            // The registry was quicker.
            (StatusCode::NOT_FOUND, false) if before.may_go(&manifest.digest) => {
                self.model.accept(&change);
                Ok(())
            }
            (StatusCode::ACCEPTED, false) => {
                self.model.accept(&change);
                self.tally.add("manifests deleted");
                Ok(())
            }
            (status, true) if status.is_client_error() && status != StatusCode::NOT_FOUND => {
                self.model = before;
                Ok(())
            }
            _ => Err(self.failed(&format!("deletion of manifest {} (needed: {is_child})", manifest.digest), &answer)),
        }
    }

    /// Deletes every manifest, indexes before what they need, and gives up every upload.
    pub(super) async fn delete_all(&mut self) -> Result<(), Stop> {
        while let Some(manifest) = {
            let mut there = self.model.there();
            there.find(|manifest| !self.model.is_child(&manifest.digest)).cloned()
        } {
            self.delete(&manifest).await?;
        }
        for upload in self.model.uploads.clone() {
            if !upload.is_ending {
                self.upload_give_up(&upload).await?;
            }
        }
        Ok(())
    }

    async fn tag_move(&mut self) -> Result<(), Stop> {
        let Some(manifest) = self.any_manifest() else { return Ok(()) };
        let tag = Some(self.any_tag());
        self.manifest_put(manifest, tag, "manifests put again").await.map(|_| ())
    }

    async fn tag_delete(&mut self) -> Result<(), Stop> {
        let tag = self.any_tag();
        let was_there = matches!(self.model.tags.get(&tag).and_then(|possible| possible.known()), Some(Some(_)));
        let change = Change::Untag(tag.clone());
        self.model.begin(&change);
        let path = format!("/v2/{}/manifests/{tag}", self.model.name);
        let answer = self.wire.call(Method::DELETE, &path, &[], Bytes::new()).await?;
        match (answer.status, was_there) {
            (StatusCode::ACCEPTED, true) => self.tally.add("tags deleted"),
            (StatusCode::NOT_FOUND, false) => {}
            _ => return Err(self.failed(&format!("deletion of tag {tag} (there: {was_there})"), &answer)),
        }
        self.model.accept(&change);
        Ok(())
    }

    async fn blob_stat(&mut self, blob: &Arc<Blob>) -> Result<bool, Stop> {
        let path = format!("/v2/{}/blobs/{}", self.model.name, blob.digest);
        let answer = self.wire.call(Method::HEAD, &path, &[], Bytes::new()).await?;
        let is_there = answer.status == StatusCode::OK;
        if !is_there && answer.status != StatusCode::NOT_FOUND
            || is_there && answer.header("content-length") != blob.bytes.len().to_string()
        {
            return Err(self.failed(&format!("HEAD of blob {}", blob.digest), &answer));
        }
        self.check_presence(blob, is_there)?;
        Ok(is_there)
    }

    async fn blob_push(&mut self, blob: &Arc<Blob>) -> Result<(), Stop> {
        match self.random.random_range(0..10) {
            0..=3 => self.blob_post(blob).await,
            4..=5 => self.blob_mount(blob).await,
            _ => {
                let upload = self.upload_create(blob).await?;
                self.upload_finish(upload).await
            }
        }
    }

    async fn blob_post(&mut self, blob: &Arc<Blob>) -> Result<(), Stop> {
        self.model.link_begin(blob);
        let asked = Instant::now();
        let path = format!("/v2/{}/blobs/uploads/?digest={}", self.model.name, blob.digest);
        let answer = self.wire.call(Method::POST, &path, &[], blob.bytes.clone()).await?;
        self.linked(blob, asked, &answer, "blobs in one request")
    }

    async fn blob_mount(&mut self, blob: &Arc<Blob>) -> Result<(), Stop> {
        let Some(from) = self.others.choose(&mut self.random).cloned() else { return self.blob_post(blob).await };
        self.model.link_begin(blob);
        let asked = Instant::now();
        let path = format!("/v2/{}/blobs/uploads/?mount={}&from={from}", self.model.name, blob.digest);
        let answer = self.wire.call(Method::POST, &path, &[], Bytes::new()).await?;
        if answer.status == StatusCode::ACCEPTED {
            let upload = self.upload_created(blob, &answer);
            return self.upload_finish(upload).await;
        }
        self.linked(blob, asked, &answer, "blobs mounted")
    }

    fn linked(&mut self, blob: &Arc<Blob>, asked: Instant, answer: &Answer, kind: &'static str) -> Result<(), Stop> {
        if answer.status != StatusCode::CREATED {
            return Err(self.failed(&format!("push of blob {}", blob.digest), answer));
        }
        self.model.link_accept(blob, asked);
        self.tally.add(kind);
        Ok(())
    }

    async fn blob_delete(&mut self) -> Result<(), Stop> {
        let Some(digest) = self.model.blobs.keys().choose(&mut self.random).copied() else { return Ok(()) };
        let before = self.model.link(&digest);
        if before != Link::Gone {
            self.model.link_resolve(&digest, Link::Perhaps);
            self.model.changed_blobs.insert(digest);
        }
        let path = format!("/v2/{}/blobs/{digest}", self.model.name);
        let answer = self.wire.call(Method::DELETE, &path, &[], Bytes::new()).await?;
        let is_needed = self.model.is_needed(&digest);
        let may_be_needed = self.model.may_be_needed(&digest);
        let in_grace = matches!(before, Link::Held { until } if Instant::now() < until);
        match answer.status {
            StatusCode::ACCEPTED if !is_needed && before != Link::Gone => {
                self.model.link_resolve(&digest, Link::Gone);
                self.tally.add("blobs deleted");
            }
            StatusCode::NOT_FOUND if !is_needed && !in_grace => self.model.link_resolve(&digest, Link::Gone),
            status if may_be_needed && status.is_client_error() && status != StatusCode::NOT_FOUND => {
                self.model.link_resolve(&digest, before);
            }
            _ => return Err(self.failed(&format!("deletion of blob {digest} (needed: {is_needed})"), &answer)),
        }
        Ok(())
    }

    async fn upload_create(&mut self, blob: &Arc<Blob>) -> Result<Upload, Stop> {
        let path = format!("/v2/{}/blobs/uploads/", self.model.name);
        let answer = self.wire.call(Method::POST, &path, &[], Bytes::new()).await?;
        if answer.status != StatusCode::ACCEPTED {
            return Err(self.failed("beginning of an upload", &answer));
        }
        Ok(self.upload_created(blob, &answer))
    }

    /// An upload is in the model from its acknowledgement to its end.
    fn upload_created(&mut self, blob: &Arc<Blob>, answer: &Answer) -> Upload {
        let location = answer.header("location").to_owned();
        let id = self.fresh_number();
        let upload = Upload { id, location, blob: Arc::clone(blob), size: 0, is_torn: false, is_ending: false };
        self.model.uploads.push(upload.clone());
        self.tally.add("uploads begun");
        upload
    }

    fn upload_note(&mut self, upload: &Upload) {
        if let Some(noted) = self.model.uploads.iter_mut().find(|noted| noted.id == upload.id) {
            noted.clone_from(upload);
        }
    }

    fn upload_forget(&mut self, upload: &Upload) {
        self.model.uploads.retain(|noted| noted.id != upload.id);
    }

    /// Sends what is missing up to `end`.
    async fn upload_append(&mut self, upload: &mut Upload, end: usize) -> Result<(), Stop> {
        if upload.size == end {
            return Ok(());
        }
        let bytes = upload.blob.bytes.slice(upload.size..end);
        let range = format!("{}-{}", upload.size, end - 1);
        upload.is_torn = true;
        self.upload_note(upload);
        let headers = [("content-range", range.as_str()), ("content-type", "application/octet-stream")];
        let answer = self.wire.call(Method::PATCH, &upload.location, &headers, bytes).await?;
        if answer.status != StatusCode::ACCEPTED || answer.header("range") != format!("0-{}", end - 1) {
            return Err(self.failed(&format!("bytes {range} of an upload"), &answer));
        }
        answer.header("location").clone_into(&mut upload.location);
        (upload.size, upload.is_torn) = (end, false);
        self.upload_note(upload);
        self.tally.add("chunks");
        Ok(())
    }

    /// Sends the rest in chunks and makes a blob of it.
    async fn upload_finish(&mut self, mut upload: Upload) -> Result<(), Stop> {
        let length = upload.blob.bytes.len();
        let chunk = (length / self.random.random_range(1..=CHUNKS_MAX)).max(1);
        let mut last = Bytes::new();
        while upload.size < length {
            let end = (upload.size + chunk).min(length);
            // The last bytes may come with the end.
            if end == length && self.random.random_ratio(1, 2) {
                last = upload.blob.bytes.slice(upload.size..);
                break;
            }
            self.upload_append(&mut upload, end).await?;
        }
        upload.is_ending = true;
        self.upload_note(&upload);
        self.model.link_begin(&upload.blob);
        let asked = Instant::now();
        let path = with_digest(&upload.location, &upload.blob.digest);
        let answer = self.wire.call(Method::PUT, &path, &[], last).await?;
        self.upload_forget(&upload);
        self.linked(&upload.blob, asked, &answer, "blobs in chunks")
    }

    async fn upload_begin(&mut self) -> Result<(), Stop> {
        if self.model.uploads.len() >= UPLOADS_LEFT_MAX {
            return Ok(());
        }
        let blob = self.any_blob();
        let mut upload = self.upload_create(&blob).await?;
        let end = self.random.random_range(0..=blob.bytes.len());
        self.upload_append(&mut upload, end).await
    }

    /// An upload of an earlier time, often of an earlier process: what was acknowledged of it is there.
    async fn upload_go_on(&mut self) -> Result<(), Stop> {
        let Some(mut upload) = self.model.uploads.choose(&mut self.random).cloned() else { return Ok(()) };
        let answer = self.wire.get(&upload.location).await?;
        if upload.is_ending && answer.status == StatusCode::NOT_FOUND {
            self.upload_forget(&upload);
            return Ok(());
        }
        if answer.status != StatusCode::NO_CONTENT {
            return Err(self.failed(&format!("an upload of which {} bytes were acknowledged", upload.size), &answer));
        }
        let last = answer.header("range").strip_prefix("0-").and_then(|last| last.parse::<usize>().ok());
        // One byte and none look the same.
        let held = match last {
            Some(0) | None => upload.size.min(1),
            Some(last) => last + 1,
        };
        if held < upload.size || (held > upload.size && !upload.is_torn && !upload.is_ending) {
            let what = format!("an upload of which {} bytes were acknowledged has {held}", upload.size);
            return Err(self.lost(held > upload.size, &what));
        }
        if held > upload.size && self.loses_power {
            // What stands behind the acknowledged bytes need not be what was sent.
            return self.upload_give_up(&upload).await;
        }
        (upload.size, upload.is_torn, upload.is_ending) = (held, false, false);
        self.upload_finish(upload).await
    }

    async fn upload_cancel(&mut self) -> Result<(), Stop> {
        match self.model.uploads.choose(&mut self.random).cloned() {
            Some(upload) if !upload.is_ending => self.upload_give_up(&upload).await,
            _ => Ok(()),
        }
    }

    async fn upload_give_up(&mut self, upload: &Upload) -> Result<(), Stop> {
        self.upload_note(&Upload { is_ending: true, ..upload.clone() });
        let answer = self.wire.call(Method::DELETE, &upload.location, &[], Bytes::new()).await?;
        if answer.status != StatusCode::NO_CONTENT {
            return Err(self.failed("giving up an upload", &answer));
        }
        self.upload_forget(upload);
        self.tally.add("uploads cancelled");
        Ok(())
    }

    /// Reads something, and holds it against the model.
    async fn look(&mut self) -> Result<(), Stop> {
        match self.random.random_range(0..4) {
            0 => {
                let tag = self.any_tag();
                self.check_tag(&tag).await
            }
            1 => {
                let digest = self.model.manifests.keys().choose(&mut self.random).copied();
                match digest {
                    Some(digest) => self.check_manifest(&digest).await,
                    None => Ok(()),
                }
            }
            2 => self.look_at_range().await,
            _ => {
                let digest = self.model.blobs.keys().choose(&mut self.random).copied();
                match digest {
                    Some(digest) => self.check_blob(&digest).await,
                    None => Ok(()),
                }
            }
        }
    }

    async fn look_at_range(&mut self) -> Result<(), Stop> {
        let Some(manifest) = self.any_manifest() else { return Ok(()) };
        let Some(blob) = manifest.blobs.iter().find(|blob| !blob.bytes.is_empty()) else { return Ok(()) };
        let first = self.random.random_range(0..blob.bytes.len());
        let last = self.random.random_range(first..blob.bytes.len());
        let path = format!("/v2/{}/blobs/{}", self.model.name, blob.digest);
        let range = format!("bytes={first}-{last}");
        let answer = self.wire.call(Method::GET, &path, &[("range", &range)], Bytes::new()).await?;
        if answer.status == StatusCode::NOT_FOUND && !self.model.is_kept(&blob.digest) {
            return Ok(());
        }
        if answer.status != StatusCode::PARTIAL_CONTENT || answer.body != blob.bytes.slice(first..=last) {
            return Err(self.failed(&format!("{range} of blob {}", blob.digest), &answer));
        }
        Ok(())
    }
}

fn with_digest(location: &str, digest: &Digest) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={digest}")
}
