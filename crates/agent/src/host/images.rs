//! Images that this agent had the engine pull, and which of them may go: those that nobody wants or uses any more, but for
//! the last ones, to which a release may be rolled back.

use std::collections::{BTreeMap, BTreeSet};

use api::Micros;
use engine::{Engine, EngineError, Labels};
use oci::{Digest, RepositoryName};
use serde::{Deserialize, Serialize};

/// Images of a repository that stay after they were replaced: what may be rolled back to.
const ROLLBACK_IMAGES: usize = 2;
/// Images that are remembered at most. Those beyond are left to the engine.
pub const PULLED_MAX: usize = 4096;

/// An image that this agent had the engine pull.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulledImage {
    /// Its repository.
    pub repository: RepositoryName,
    /// What it was pulled as.
    pub reference: String,
    /// Its own name, with which it was tagged; none where the hub's registry has no name.
    pub name: Option<String>,
    /// Since when it is not wanted any more.
    pub unwanted_since: Option<Micros>,
}

/// Notes which images are wanted now, and since when others are not.
pub fn note_wanted(images: &mut BTreeMap<Digest, PulledImage>, wanted: &BTreeSet<Digest>, now: Micros) {
    for (digest, image) in images {
        if wanted.contains(digest) {
            image.unwanted_since = None;
        } else {
            image.unwanted_since.get_or_insert(now);
        }
    }
}

/// Images that run, or may be rolled back to: they stay, on the engine and in the agent's store.
pub fn kept(images: &BTreeMap<Digest, PulledImage>, wanted: &BTreeSet<Digest>) -> BTreeSet<Digest> {
    let mut by_repository: BTreeMap<&RepositoryName, Vec<(Micros, Digest)>> = BTreeMap::new();
    for (digest, image) in images.iter().filter(|(digest, _)| !wanted.contains(*digest)) {
        // What was not noted yet is as new as can be.
        let since = image.unwanted_since.unwrap_or(Micros(i64::MAX));
        by_repository.entry(&image.repository).or_default().push((since, *digest));
    }
    let last = by_repository.into_values().flat_map(|mut replaced| {
        replaced.sort_unstable();
        replaced.into_iter().rev().take(ROLLBACK_IMAGES).map(|(_, digest)| digest)
    });
    wanted.iter().copied().chain(last).collect()
}

/// Removes images that may go from the engine; gives those that are gone. One that a container has, whosever it is, stays.
///
/// # Errors
/// The engine cannot say what there is.
pub async fn remove(engine: &dyn Engine, surplus: BTreeMap<Digest, PulledImage>) -> Result<Vec<Digest>, EngineError> {
    let mut gone = Vec::new();
    if surplus.is_empty() {
        return Ok(gone);
    }
    let used: BTreeSet<String> =
        engine.container_list(&Labels::new()).await?.into_iter().map(|container| container.image_id).collect();
    for (digest, image) in surplus {
        match engine.image_inspect(&image.reference).await? {
            Some(found) if used.contains(&found.id) => continue,
            Some(_) => {}
            None => {
                gone.push(digest);
                continue;
            }
        }
        // The names that the agent gave, and no other: somebody else's name keeps the image.
        let mut removed = Ok(());
        for name in image.name.iter().chain([&image.reference]) {
            if removed.is_ok() {
                removed = engine.image_remove(name).await;
            }
        }
        match removed {
            Ok(()) => {
                tracing::info!(reference = image.reference, "an image that nothing needs any more was removed");
                gone.push(digest);
            }
            Err(error) => tracing::warn!(%error, reference = image.reference, "an old image stays on the engine"),
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_and_the_last_two_that_were_stay() {
        let digest = |name: &str| Digest::sha256_of(name.as_bytes());
        let mut images = BTreeMap::new();
        let pull = |images: &mut BTreeMap<Digest, PulledImage>, name: &str, repository: &str| {
            let repository: RepositoryName = repository.parse().unwrap();
            let image = PulledImage { repository, reference: name.to_owned(), name: None, unwanted_since: None };
            images.insert(digest(name), image);
        };
        for (at, name) in ["a1", "a2", "a3", "a4"].into_iter().enumerate() {
            pull(&mut images, name, "app/a");
            if at == 0 {
                pull(&mut images, "b1", "app/b");
            }
            let wanted = [digest(name), digest("b1")].into();
            note_wanted(&mut images, &wanted, Micros(at as i64));
        }
        let wanted: BTreeSet<Digest> = [digest("a4"), digest("b1")].into();
        assert_eq!(kept(&images, &wanted), ["a4", "b1", "a3", "a2"].map(digest).into());
        // A rollback to the oldest makes the newest one that may go back.
        let wanted: BTreeSet<Digest> = [digest("a1")].into();
        note_wanted(&mut images, &wanted, Micros(9));
        assert_eq!(kept(&images, &wanted), ["a1", "a4", "a3", "b1"].map(digest).into());
        assert_eq!(kept(&BTreeMap::new(), &wanted), wanted);
    }
}
