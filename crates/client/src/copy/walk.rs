//! The walk over an image: what it is made of, what says something about it, and in which order a registry takes it.
//! Pure: whoever walks fetches what is asked for and hands it in.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use oci::{Descriptor, Digest, Document, media};

/// Manifests of one image at most, with all that refers to it: an index of indexes could name any number.
pub(crate) const MANIFESTS_MAX: usize = 20_000;
/// Levels of one image at most: an index, its images, their signatures, those signatures' signatures.
pub(crate) const LEVELS_MAX: usize = 8;
/// Bytes of the manifests of one image at most.
pub(crate) const MANIFEST_BYTES_MAX: usize = 128 << 20;

/// One manifest to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) digest: Digest,
    /// What it must say something about, where that is why it is wanted.
    pub(crate) subject: Option<Digest>,
}

/// One manifest of an image.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) digest: Digest,
    pub(crate) media_type: &'static str,
    pub(crate) content: Bytes,
    /// Whether the target has it.
    pub(crate) is_there: bool,
    /// Config and layers with their lengths; layers that registries do not carry are left out.
    pub(crate) blobs: Vec<(Digest, u64)>,
    children: Vec<Digest>,
}

/// What a walk refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooLarge {
    Manifests,
    Levels,
    Bytes,
}

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Manifests => write!(f, "an image of more than {MANIFESTS_MAX} manifests"),
            Self::Levels => write!(f, "an image of more than {LEVELS_MAX} levels"),
            Self::Bytes => write!(f, "an image with more than {} MiB of manifests", MANIFEST_BYTES_MAX >> 20),
        }
    }
}

/// A walk that is under way, level by level.
pub(crate) struct Walk {
    root: Digest,
    nodes: HashMap<Digest, Node>,
    /// What was found or will be fetched: a cycle, or a manifest in two places, is walked once.
    wanted: HashSet<Digest>,
    /// How much was ever wanted.
    wants: usize,
    /// What an index needs.
    needed: HashSet<Digest>,
    level: Vec<Want>,
    levels: usize,
    /// What refers to something, in the order of its being found.
    referrers: Vec<Digest>,
    bytes: usize,
}

impl Walk {
    pub(crate) fn new(root: Digest) -> Self {
        Self {
            root,
            nodes: HashMap::new(),
            wanted: HashSet::from([root]),
            wants: 1,
            needed: HashSet::new(),
            level: vec![Want { digest: root, subject: None }],
            levels: 0,
            referrers: Vec::new(),
            bytes: 0,
        }
    }

    /// The next level, to be fetched in any order and handed in before the one after it is asked for; empty at the end.
    pub(crate) fn level(&mut self) -> Result<Vec<Want>, TooLarge> {
        if !self.level.is_empty() {
            self.levels += 1;
        }
        if self.levels > LEVELS_MAX {
            return Err(TooLarge::Levels);
        }
        Ok(std::mem::take(&mut self.level))
    }

    /// Hands in a manifest with what refers to it. One that was wanted for its subject and has another is left out.
    pub(crate) fn found(
        &mut self,
        want: Want,
        document: &Document,
        content: Bytes,
        is_there: bool,
        referrers: &[Descriptor],
    ) -> Result<(), TooLarge> {
        if want.subject.is_some() {
            // It may be about another part of the image than the registry said.
            let subject = document.subject().map(|subject| subject.digest);
            let is_about = subject == want.subject || subject.is_some_and(|subject| self.nodes.contains_key(&subject));
            if !is_about && !self.needed.contains(&want.digest) {
                self.wanted.remove(&want.digest);
                return Ok(());
            }
            self.referrers.push(want.digest);
        }
        self.bytes += content.len();
        if self.bytes > MANIFEST_BYTES_MAX {
            return Err(TooLarge::Bytes);
        }
        let blobs = document.blobs().filter(|blob| !media::is_foreign_layer(&blob.media_type));
        let mut known = HashSet::new();
        let node = Node {
            digest: want.digest,
            media_type: document.media_type,
            content,
            is_there,
            blobs: blobs.map(|blob| (blob.digest, blob.size)).filter(|(digest, _)| known.insert(*digest)).collect(),
            children: document.manifests().iter().map(|child| child.digest).collect(),
        };
        let children = node.children.iter().map(|digest| Want { digest: *digest, subject: None });
        let about = referrers.iter().map(|entry| Want { digest: entry.digest, subject: Some(want.digest) });
        let wanted: Vec<Want> = children.chain(about).filter(|want| self.wanted.insert(want.digest)).collect();
        self.needed.extend(&node.children);
        self.wants += wanted.len();
        if self.wants > MANIFESTS_MAX {
            return Err(TooLarge::Manifests);
        }
        self.level.extend(wanted);
        self.nodes.insert(want.digest, node);
        Ok(())
    }

    /// All that was found, children before what needs them, subjects before what says something about them.
    pub(crate) fn finish(mut self) -> Vec<Node> {
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut entered = HashSet::new();
        for start in std::iter::once(self.root).chain(std::mem::take(&mut self.referrers)) {
            let mut stack = vec![(start, false)];
            while let Some((digest, is_done)) = stack.pop() {
                if is_done {
                    order.extend(self.nodes.remove(&digest));
                } else if entered.insert(digest)
                    && let Some(node) = self.nodes.get(&digest)
                {
                    stack.push((digest, true));
                    stack.extend(node.children.iter().map(|child| (*child, false)));
                }
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    struct World {
        manifests: Vec<(Digest, Bytes, Document)>,
        /// Children and subject of each, all earlier ones.
        shape: Vec<(Vec<usize>, Option<usize>)>,
        /// What the registry says refers to what, wrongly.
        lies: Vec<(usize, usize)>,
    }

    fn world(shape: Vec<(Vec<usize>, Option<usize>)>, lies: Vec<(usize, usize)>) -> World {
        let mut manifests: Vec<(Digest, Bytes, Document)> = Vec::new();
        let mut cut = Vec::new();
        for (at, (children, subject)) in shape.into_iter().enumerate() {
            let children: Vec<usize> = children.into_iter().filter(|_| at > 0).map(|child| child % at.max(1)).collect();
            let subject = subject.filter(|_| at > 0).map(|subject| subject % at.max(1));
            let entry = |of: usize| -> Value {
                let (digest, bytes, document) = &manifests[of];
                json!({ "mediaType": document.media_type, "digest": digest, "size": bytes.len() })
            };
            let mut content = json!({
                "schemaVersion": 2, "mediaType": media::OCI_INDEX, "annotations": { "at": at.to_string() },
                "manifests": children.iter().map(|child| entry(*child)).collect::<Vec<_>>(),
            });
            if let Some(subject) = subject {
                content["subject"] = entry(subject);
            }
            let bytes = Bytes::from(content.to_string());
            let document = Document::parse(&bytes, Some(media::OCI_INDEX)).unwrap();
            manifests.push((Digest::sha256_of(&bytes), bytes, document));
            cut.push((children, subject));
        }
        let number = manifests.len();
        let lies = lies.into_iter().map(|(from, to)| (from % number, to % number)).collect();
        World { manifests, shape: cut, lies }
    }

    impl World {
        /// What belongs to the last manifest, by the plainest way there is.
        fn belongs(&self) -> HashSet<usize> {
            let mut found = HashSet::from([self.manifests.len() - 1]);
            loop {
                let before = found.len();
                for (at, (children, subject)) in self.shape.iter().enumerate() {
                    if found.contains(&at) {
                        found.extend(children);
                    }
                    if subject.is_some_and(|subject| found.contains(&subject)) {
                        found.insert(at);
                    }
                }
                if found.len() == before {
                    return found;
                }
            }
        }

        fn referrers(&self, of: usize) -> Vec<Descriptor> {
            let truly =
                self.shape.iter().enumerate().filter(|(_, (_, subject))| *subject == Some(of)).map(|(at, _)| at);
            let lies = self.lies.iter().filter(|(subject, _)| *subject == of).map(|(_, at)| *at);
            let entry = |at: usize| {
                let (digest, bytes, document) = &self.manifests[at];
                let entry = json!({ "mediaType": document.media_type, "digest": digest, "size": bytes.len() });
                serde_json::from_value(entry).unwrap()
            };
            lies.chain(truly).map(entry).collect()
        }
    }

    proptest! {
        #[test]
        fn a_walk_finds_what_belongs_to_an_image_in_an_order_that_a_registry_takes(
            shape in prop::collection::vec((prop::collection::vec(0usize..8, 0..3), prop::option::of(0usize..8)), 1..LEVELS_MAX),
            lies in prop::collection::vec((0usize..8, 0usize..8), 0..4),
        ) {
            let world = world(shape, lies);
            let at: HashMap<Digest, usize> = world.manifests.iter().enumerate().map(|(at, found)| (found.0, at)).collect();
            let mut walk = Walk::new(world.manifests.last().unwrap().0);
            loop {
                let level = walk.level().unwrap();
                if level.is_empty() {
                    break;
                }
                for want in level {
                    let (_, bytes, document) = &world.manifests[at[&want.digest]];
                    walk.found(want, document, bytes.clone(), false, &world.referrers(at[&want.digest])).unwrap();
                }
            }
            let order: Vec<usize> = walk.finish().iter().map(|node| at[&node.digest]).collect();
            prop_assert_eq!(order.iter().copied().collect::<HashSet<_>>(), world.belongs());
            prop_assert_eq!(order.len(), world.belongs().len());
            for (place, node) in order.iter().enumerate() {
                for child in &world.shape[*node].0 {
                    prop_assert!(order[..place].contains(child), "{} before its child {}: {:?}", node, child, order);
                }
            }
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let chain: Vec<(Vec<usize>, Option<usize>)> =
            (0..=LEVELS_MAX).map(|at| (vec![at.saturating_sub(1)], None)).collect();
        let world = world(chain, Vec::new());
        let mut walk = Walk::new(world.manifests[LEVELS_MAX].0);
        let refused = loop {
            match walk.level() {
                Ok(level) => {
                    let (_, bytes, document) = world.manifests.iter().find(|found| found.0 == level[0].digest).unwrap();
                    walk.found(level[0], document, bytes.clone(), false, &[]).unwrap();
                }
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused, TooLarge::Levels);

        let (digest, bytes, document) = &world.manifests[0];
        let flood = |number: usize| -> Descriptor {
            let digest = Digest::sha256_of(&number.to_le_bytes());
            serde_json::from_value(json!({ "mediaType": media::OCI_INDEX, "digest": digest, "size": 1 })).unwrap()
        };
        let mut walk = Walk::new(*digest);
        let want = walk.level().unwrap()[0];
        let flood: Vec<Descriptor> = (0..=MANIFESTS_MAX).map(flood).collect();
        assert_eq!(walk.found(want, document, bytes.clone(), false, &flood), Err(TooLarge::Manifests));
    }
}
