//! What a repository must hold: exact after an answer, either of two while nobody can say. It has one writer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use oci::Digest;

use super::content::{Blob, Manifest};

/// What was deleted is looked for so long as there is no more of it than this.
const GONE_KEPT_MAX: usize = 24;

/// What may be true: one thing after an answer, several after a crash that came in between.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Possible<T>(Vec<T>);

impl<T: Clone + PartialEq> Possible<T> {
    pub(super) fn sure(value: T) -> Self {
        Self(vec![value])
    }

    pub(super) fn allows(&self, value: &T) -> bool {
        self.0.contains(value)
    }

    /// The one thing that is true, when that is known.
    pub(super) fn known(&self) -> Option<&T> {
        if let [value] = self.0.as_slice() { Some(value) } else { None }
    }

    fn add(&mut self, value: T) {
        if !self.allows(&value) {
            self.0.push(value);
        }
    }
}

/// A blob in a repository.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Link {
    /// Acknowledged: the grace keeps it until then, whoever needs it.
    Held { until: Instant },
    /// Pushed or deleted when the crash came.
    Perhaps,
    /// Deleted, or collected.
    Gone,
}

/// An upload that may be gone on with.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) id: u64,
    pub(super) location: String,
    pub(super) blob: Arc<Blob>,
    /// Bytes that were acknowledged.
    pub(super) size: usize,
    /// More was being sent when the crash came; the power may have left others than these behind the acknowledged ones.
    pub(super) is_torn: bool,
    /// It was being ended when the crash came.
    pub(super) is_ending: bool,
}

/// A manifest in a repository.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) manifest: Arc<Manifest>,
    pub(super) possible: Possible<bool>,
    /// It lost an index that needed it, or its subject: without another one it may go from then on.
    goes_from: Option<Instant>,
}

/// A change of manifests and tags.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Put { manifest: Arc<Manifest>, tag: Option<String> },
    Delete(Digest),
    Untag(String),
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) name: String,
    grace: Duration,
    pub(super) manifests: BTreeMap<Digest, Held>,
    pub(super) tags: BTreeMap<String, Possible<Option<Digest>>>,
    pub(super) blobs: BTreeMap<Digest, (Arc<Blob>, Link)>,
    pub(super) uploads: Vec<Upload>,
    /// What changed, or may have, since it was last looked at.
    pub(super) changed_manifests: BTreeSet<Digest>,
    pub(super) changed_tags: BTreeSet<String>,
    pub(super) changed_blobs: BTreeSet<Digest>,
}

impl Model {
    pub(super) fn new(name: String, grace: Duration) -> Self {
        Self {
            name,
            grace,
            manifests: BTreeMap::new(),
            tags: BTreeMap::new(),
            blobs: BTreeMap::new(),
            uploads: Vec::new(),
            changed_manifests: BTreeSet::new(),
            changed_tags: BTreeSet::new(),
            changed_blobs: BTreeSet::new(),
        }
    }

    /// A change is asked for: from now on both what was and what will be is possible.
    pub(super) fn begin(&mut self, change: &Change) {
        self.note(change);
        match change {
            Change::Put { manifest, tag } => {
                self.held(manifest).possible.add(true);
                self.unseen(&manifest.digest);
                if let Some(tag) = tag {
                    self.tag(tag).add(Some(manifest.digest));
                }
            }
            Change::Delete(digest) => {
                self.orphan(digest, Instant::now() + self.grace);
                if let Some(held) = self.manifests.get_mut(digest) {
                    held.possible.add(false);
                }
                for possible in self.tags.values_mut().filter(|possible| possible.allows(&Some(*digest))) {
                    possible.add(None);
                }
            }
            Change::Untag(tag) => self.tag(tag).add(None),
        }
    }

    /// The change was acknowledged.
    pub(super) fn accept(&mut self, change: &Change) {
        match change {
            Change::Put { manifest, tag } => {
                self.unseen(&manifest.digest);
                self.held(manifest).possible = Possible::sure(true);
                if let Some(tag) = tag {
                    *self.tag(tag) = Possible::sure(Some(manifest.digest));
                }
            }
            Change::Delete(digest) => {
                if let Some(held) = self.manifests.get_mut(digest) {
                    held.possible = Possible::sure(false);
                }
                for possible in self.tags.values_mut().filter(|possible| possible.allows(&Some(*digest))) {
                    *possible = Possible::sure(None);
                }
            }
            Change::Untag(tag) => *self.tag(tag) = Possible::sure(None),
        }
    }

    pub(super) fn manifest_resolve(&mut self, digest: &Digest, is_there: bool) {
        if !is_there && self.manifests.get(digest).is_some_and(|held| held.possible.allows(&true)) {
            // What was collected takes along what was there for it.
            self.orphan(digest, Instant::now());
        }
        if let Some(held) = self.manifests.get_mut(digest) {
            held.possible = Possible::sure(is_there);
        }
    }

    fn held(&mut self, manifest: &Arc<Manifest>) -> &mut Held {
        self.manifests.entry(manifest.digest).or_insert_with(|| Held {
            manifest: Arc::clone(manifest),
            possible: Possible::sure(false),
            goes_from: None,
        })
    }

    /// What is there for a manifest: the children of an index, and referrers.
    fn depending(&self, manifest: &Digest) -> Vec<Digest> {
        let index = self.manifests.get(manifest);
        let is_child = |digest: &Digest| index.is_some_and(|held| held.manifest.children.contains(digest));
        let all = self.manifests.iter();
        all.filter(|(digest, held)| is_child(digest) || held.manifest.subject == Some(*manifest))
            .map(|(digest, _)| *digest)
            .collect()
    }

    /// Notes that what is there for a manifest loses it, and may go from a time on. What may be gone already stays so.
    fn orphan(&mut self, digest: &Digest, from: Instant) {
        for other in self.depending(digest) {
            let from = if self.may_go(&other) { Instant::now() } else { from };
            if let Some(held) = self.manifests.get_mut(&other) {
                held.goes_from = Some(from);
                self.changed_manifests.insert(other);
            }
        }
    }

    /// Whether the registry may collect a manifest that is there, or may have done so: it lost what it was there for a
    /// grace ago, or that may be collected just now and takes it along; and no tag keeps it.
    pub(super) fn may_go(&self, digest: &Digest) -> bool {
        let Some(held) = self.manifests.get(digest) else { return false };
        if self.tags.values().any(|possible| possible.known() == Some(&Some(*digest))) {
            return false;
        }
        let needs_it = |other: &&Held| {
            other.possible.known() == Some(&true)
                && (other.manifest.children.contains(digest) || held.manifest.subject == Some(other.manifest.digest))
        };
        let mut may_follow = held.goes_from.is_some_and(|from| from <= Instant::now());
        for other in self.manifests.values().filter(needs_it) {
            if !self.may_go(&other.manifest.digest) {
                return false;
            }
            may_follow = true;
        }
        may_follow
    }

    /// A manifest comes (back): what is there for it, and for that in turn, may have been collected before, unseen.
    fn unseen(&mut self, manifest: &Digest) {
        let mut gone = self.depending(manifest);
        gone.retain(|digest| self.may_go(digest));
        let mut looked_at = 0;
        while let Some(digest) = gone.get(looked_at).copied() {
            looked_at += 1;
            let more = self.depending(&digest).into_iter().filter(|other| self.may_go(other) && !gone.contains(other));
            gone.extend(more.collect::<Vec<_>>());
        }
        for digest in gone {
            if let Some(held) = self.manifests.get_mut(&digest) {
                held.possible.add(false);
                self.changed_manifests.insert(digest);
            }
        }
    }

    pub(super) fn tag_resolve(&mut self, tag: &str, digest: Option<Digest>) {
        *self.tag(tag) = Possible::sure(digest);
    }

    fn tag(&mut self, tag: &str) -> &mut Possible<Option<Digest>> {
        self.tags.entry(tag.to_owned()).or_insert_with(|| Possible::sure(None))
    }

    fn note(&mut self, change: &Change) {
        match change {
            Change::Put { manifest, tag } => {
                self.changed_manifests.insert(manifest.digest);
                self.changed_tags.extend(tag.clone());
                // Whoever asks what it says something about, asks for it.
                self.changed_manifests.extend(manifest.subject);
            }
            Change::Delete(digest) => {
                self.changed_manifests.insert(*digest);
                let tags = self.tags.iter().filter(|(_, possible)| possible.allows(&Some(*digest)));
                self.changed_tags.extend(tags.map(|(tag, _)| tag.clone()));
                let entry = self.manifests.get(digest);
                self.changed_manifests.extend(entry.and_then(|held| held.manifest.subject));
                self.changed_blobs
                    .extend(entry.iter().flat_map(|held| held.manifest.blobs.iter().map(|blob| blob.digest)));
            }
            Change::Untag(tag) => {
                self.changed_tags.insert(tag.clone());
            }
        }
    }

    /// A push or a mount of a blob is under way.
    pub(super) fn link_begin(&mut self, blob: &Arc<Blob>) {
        self.changed_blobs.insert(blob.digest);
        let (_, link) = self.blobs.entry(blob.digest).or_insert_with(|| (Arc::clone(blob), Link::Gone));
        if *link == Link::Gone {
            *link = Link::Perhaps;
        }
    }

    /// A push or a mount that was asked for at `asked` was acknowledged.
    pub(super) fn link_accept(&mut self, blob: &Arc<Blob>, asked: Instant) {
        self.blobs.insert(blob.digest, (Arc::clone(blob), Link::Held { until: asked + self.grace }));
    }

    pub(super) fn link_resolve(&mut self, digest: &Digest, link: Link) {
        if let Some((_, held)) = self.blobs.get_mut(digest) {
            *held = link;
        }
    }

    pub(super) fn link(&self, digest: &Digest) -> Link {
        self.blobs.get(digest).map_or(Link::Gone, |(_, link)| *link)
    }

    /// Whether a manifest that must be there needs this blob.
    pub(super) fn is_needed(&self, blob: &Digest) -> bool {
        let mut needing = self.there().filter(|manifest| manifest.blobs.iter().any(|needed| needed.digest == *blob));
        needing.any(|manifest| !self.may_go(&manifest.digest))
    }

    /// Whether a manifest that may be there needs this blob.
    pub(super) fn may_be_needed(&self, blob: &Digest) -> bool {
        let mut possible = self.manifests.values().filter(|held| held.possible.allows(&true));
        possible.any(|held| held.manifest.blobs.iter().any(|needed| needed.digest == *blob))
    }

    /// Whether nothing but a deletion may have taken this blob away by now.
    pub(super) fn is_kept(&self, blob: &Digest) -> bool {
        let in_grace = matches!(self.link(blob), Link::Held { until } if Instant::now() < until);
        in_grace || self.is_needed(blob)
    }

    /// Manifests that are there for all that clients did.
    pub(super) fn there(&self) -> impl Iterator<Item = &Arc<Manifest>> {
        self.manifests.values().filter(|held| held.possible.known() == Some(&true)).map(|held| &held.manifest)
    }

    pub(super) fn is_there(&self, manifest: &Digest) -> bool {
        self.manifests.get(manifest).is_some_and(|held| held.possible.known() == Some(&true))
    }

    /// Whether a manifest's needs can all be counted on.
    pub(super) fn is_whole(&self, manifest: &Manifest) -> bool {
        manifest.blobs.iter().all(|blob| self.is_kept(&blob.digest))
            && manifest.children.iter().all(|child| self.is_there(child) && !self.may_go(child))
    }

    /// Whether an index needs this manifest.
    pub(super) fn is_child(&self, manifest: &Digest) -> bool {
        self.there().any(|index| index.children.contains(manifest))
    }

    /// Forgets some of what is gone for long.
    pub(super) fn prune(&mut self) {
        let gone = self.manifests.iter().filter(|(_, held)| held.possible.known() == Some(&false));
        let surplus: Vec<Digest> = gone.map(|(digest, _)| *digest).skip(GONE_KEPT_MAX).collect();
        self.manifests.retain(|digest, _| !surplus.contains(digest));
        let gone = self.blobs.iter().filter(|(_, (_, link))| *link == Link::Gone);
        let surplus: Vec<Digest> = gone.map(|(digest, _)| *digest).skip(GONE_KEPT_MAX).collect();
        self.blobs.retain(|digest, _| !surplus.contains(digest));
    }
}
