//! What a repository serves against what it must hold.

use std::collections::BTreeSet;
use std::time::Instant;

use hyper::StatusCode;
use oci::Digest;
use rand::Rng;
use serde_json::Value;

use super::content::Blob;
use super::model::{Held, Link};
use super::wire::Answer;
use super::work::Worker;
use super::{Fault, Stop};

/// Of what did not change since it was last looked at, one in so many is looked at again.
const SAMPLE_EVERY: u32 = 10;

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// What changed, and a sample of the rest.
    Changed,
    /// All there is.
    Everything,
}

impl Worker {
    /// Compares all in scope with what is served. What the crash left open is settled by what is found: from then on it
    /// must stay so.
    pub(super) async fn check(&mut self, scope: Scope) -> Result<(), Stop> {
        let chosen = |is_changed: bool, random: &mut rand::rngs::StdRng| {
            scope == Scope::Everything || is_changed || random.random_ratio(1, SAMPLE_EVERY)
        };
        let model = &self.model;
        let random = &mut self.random;
        let manifests: Vec<Digest> = model.manifests.keys().copied().collect();
        let manifests: Vec<Digest> =
            manifests.into_iter().filter(|digest| chosen(model.changed_manifests.contains(digest), random)).collect();
        let tags: Vec<String> = model.tags.keys().cloned().collect();
        let tags: Vec<String> =
            tags.into_iter().filter(|tag| chosen(model.changed_tags.contains(tag), random)).collect();
        let blobs: Vec<Digest> = model.blobs.keys().copied().collect();
        let mut blobs: BTreeSet<Digest> =
            blobs.into_iter().filter(|digest| chosen(model.changed_blobs.contains(digest), random)).collect();

        for digest in &manifests {
            self.check_manifest(digest).await?;
            if let Some(held) = self.model.manifests.get(digest) {
                blobs.extend(held.manifest.blobs.iter().map(|blob| blob.digest));
            }
        }
        for tag in &tags {
            self.check_tag(tag).await?;
        }
        for digest in &blobs {
            self.check_blob(digest).await?;
        }
        self.check_tag_list().await?;
        for subject in &manifests {
            self.check_referrers(subject).await?;
        }
        // All was answered: nothing of it is open any more.
        self.model.changed_manifests.clear();
        self.model.changed_tags.clear();
        self.model.changed_blobs.clear();
        self.model.prune();
        Ok(())
    }

    pub(super) async fn check_manifest(&mut self, digest: &Digest) -> Result<(), Stop> {
        let Some(Held { manifest, possible, .. }) = self.model.manifests.get(digest).cloned() else { return Ok(()) };
        let answer = self.wire.get(&format!("/v2/{}/manifests/{digest}", self.model.name)).await?;
        let is_there = self.presence(&answer, || format!("manifest {digest}"))?;
        if is_there && (answer.body != manifest.bytes || answer.header("content-type") != manifest.media_type) {
            return Err(self.wrong(format!("other bytes for manifest {digest}")));
        }
        if !possible.allows(&is_there) {
            if is_there || !self.model.may_go(digest) {
                return Err(self.lost(is_there, &format!("manifest {digest}")));
            }
            self.tally.add("collected: manifests");
        }
        self.model.manifest_resolve(digest, is_there);
        Ok(())
    }

    pub(super) async fn check_tag(&mut self, tag: &str) -> Result<(), Stop> {
        let Some(possible) = self.model.tags.get(tag).cloned() else { return Ok(()) };
        let answer = self.wire.get(&format!("/v2/{}/manifests/{tag}", self.model.name)).await?;
        let digest = match self.presence(&answer, || format!("tag {tag}"))? {
            true => Some(Digest::sha256_of(&answer.body)),
            false => None,
        };
        if let Some(digest) = digest
            && digest.to_string() != answer.header("docker-content-digest")
        {
            return Err(self.wrong(format!("tag {tag} with bytes that are {digest} and not the digest in the header")));
        }
        if !possible.allows(&digest) {
            let what = format!("tag {tag} is {digest:?} and may be {possible:?}");
            return Err(self.lost(digest.is_some(), &what));
        }
        self.model.tag_resolve(tag, digest);
        Ok(())
    }

    pub(super) async fn check_blob(&mut self, digest: &Digest) -> Result<(), Stop> {
        let Some((blob, _)) = self.model.blobs.get(digest).cloned() else { return Ok(()) };
        let answer = self.wire.get(&format!("/v2/{}/blobs/{digest}", self.model.name)).await?;
        let is_there = self.presence(&answer, || format!("blob {digest}"))?;
        if is_there && answer.body != blob.bytes {
            return Err(self.wrong(format!("{} other bytes for blob {digest}", answer.body.len())));
        }
        self.check_presence(&blob, is_there)
    }

    /// Whether a blob that was just found, or not, may be so.
    pub(super) fn check_presence(&mut self, blob: &Blob, is_there: bool) -> Result<(), Stop> {
        let link = self.model.link(&blob.digest);
        let is_kept = self.model.is_kept(&blob.digest);
        match (is_there, link) {
            (true, Link::Gone) if !is_kept => Err(self.lost(true, &format!("blob {}", blob.digest))),
            // Nobody acknowledged it, so nothing keeps it but a manifest.
            (true, Link::Gone | Link::Perhaps) => {
                self.model.link_resolve(&blob.digest, Link::Held { until: Instant::now() });
                Ok(())
            }
            (true, Link::Held { .. }) => Ok(()),
            (false, _) if is_kept => Err(self.lost(false, &format!("blob {}", blob.digest))),
            (false, Link::Held { .. }) => {
                self.tally.add("collected: blobs of a repository");
                self.model.link_resolve(&blob.digest, Link::Gone);
                Ok(())
            }
            (false, _) => {
                self.model.link_resolve(&blob.digest, Link::Gone);
                Ok(())
            }
        }
    }

    async fn check_tag_list(&mut self) -> Result<(), Stop> {
        let answer = self.wire.get(&format!("/v2/{}/tags/list", self.model.name)).await?;
        let mut listed = BTreeSet::new();
        if self.presence(&answer, || "the list of tags".to_owned())? {
            let document = self.document(&answer)?;
            listed
                .extend(document["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
        }
        let wanted = self.model.tags.iter().filter(|(_, possible)| possible.known().is_some_and(Option::is_some));
        let wanted: BTreeSet<String> = wanted.map(|(tag, _)| tag.clone()).collect();
        if listed != wanted {
            return Err(self.lost(listed.len() > wanted.len(), &format!("tags: {listed:?} in place of {wanted:?}")));
        }
        Ok(())
    }

    pub(super) async fn check_referrers(&mut self, subject: &Digest) -> Result<(), Stop> {
        let answer = self.wire.get(&format!("/v2/{}/referrers/{subject}", self.model.name)).await?;
        let document = self.document(&answer)?;
        let listed = document["manifests"].as_array().into_iter().flatten();
        let listed: BTreeSet<String> = listed.filter_map(|entry| entry["digest"].as_str()).map(str::to_owned).collect();
        let referrers = self.model.there().filter(|manifest| manifest.subject == Some(*subject));
        let wanted: BTreeSet<String> = referrers.map(|manifest| manifest.digest.to_string()).collect();
        let may_go = |text: &String| text.parse().is_ok_and(|digest| self.model.may_go(&digest));
        if !listed.is_subset(&wanted) || !wanted.difference(&listed).all(may_go) {
            let what = format!("referrers of {subject}: {listed:?} in place of {wanted:?}");
            return Err(self.lost(listed.len() > wanted.len(), &what));
        }
        Ok(())
    }

    fn presence(&self, answer: &Answer, what: impl Fn() -> String) -> Result<bool, Stop> {
        match answer.status {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.failed(&what(), answer)),
        }
    }

    fn document(&self, answer: &Answer) -> Result<Value, Stop> {
        serde_json::from_slice(&answer.body).map_err(|_| self.failed("a list", answer))
    }

    fn wrong(&self, what: String) -> Stop {
        Fault::Wrong(format!("{}: {what}", self.model.name)).into()
    }

    pub(super) fn lost(&self, is_there: bool, what: &str) -> Stop {
        let how = if is_there { "is there and must not be" } else { "was acknowledged and is gone" };
        Fault::Lost(format!("{}: {what} {how}", self.model.name)).into()
    }

    pub(super) fn failed(&self, what: &str, answer: &Answer) -> Stop {
        Fault::Failed(format!("{}: {what}: {}", self.model.name, answer.shown())).into()
    }
}
