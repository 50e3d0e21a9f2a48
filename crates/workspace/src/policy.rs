//! When an image that the project names is pulled, or one from source is built, beyond "when it is not there"
//! (`pull_policy`). Pure. A release is pulled by its digest, so that a policy has nothing to say about it.

use api::Micros;
use compose::model::PullPolicy;
use engine::Image;

use crate::wanted::Origin;

/// What is to be done about an image that a project names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The engine has what is wanted.
    Nothing,
    /// The engine does not have it.
    Pull,
    /// The engine has it, and its registry is to be asked whether there is a newer one.
    Refresh,
    /// The engine does not have it, and it may not be pulled.
    Forbidden,
}

/// Whether an image is looked after with every `up`, whatever runs already.
pub fn is_asked_each_time(origin: &Origin, policy: Option<PullPolicy>) -> bool {
    match (origin, policy) {
        (Origin::Release { .. }, _) => false,
        (Origin::Source(_), policy) => policy == Some(PullPolicy::Build),
        (Origin::Image { .. }, policy) => matches!(policy, Some(PullPolicy::Always | PullPolicy::Every { .. })),
    }
}

/// What is to be done about an image, given what the engine has under its name.
pub fn need(policy: Option<PullPolicy>, reference: &str, image: Option<&Image>, now: Micros) -> Need {
    let Some(image) = image else {
        return if policy == Some(PullPolicy::Never) { Need::Forbidden } else { Need::Pull };
    };
    match policy {
        // What a digest names never changes.
        Some(PullPolicy::Always | PullPolicy::Every { .. }) if reference.contains('@') => Need::Nothing,
        Some(PullPolicy::Always) => Need::Refresh,
        Some(PullPolicy::Every { micros }) => {
            let is_due = |tagged: Micros| u64::try_from(now.0 - tagged.0).is_ok_and(|age| age >= micros);
            if image.tagged.is_none_or(is_due) { Need::Refresh } else { Need::Nothing }
        }
        None | Some(PullPolicy::Never | PullPolicy::Missing | PullPolicy::Build) => Need::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn policies_mean_what_the_specification_says() {
        let image = |tagged: Option<i64>| Image {
            id: "sha256:1".to_owned(),
            tags: Vec::new(),
            digests: Vec::new(),
            labels: BTreeMap::new(),
            exposed: BTreeSet::new(),
            volumes: BTreeSet::new(),
            entrypoint: Vec::new(),
            healthcheck: false,
            architecture: "amd64".to_owned(),
            tagged: tagged.map(Micros),
            size_bytes: 0,
            layers: Vec::new(),
        };
        let now = Micros(1_000_000);
        let every = Some(PullPolicy::Every { micros: 100 });
        let cases = [
            (None, None, Need::Pull),
            (None, Some(image(None)), Need::Nothing),
            (Some(PullPolicy::Missing), None, Need::Pull),
            (Some(PullPolicy::Missing), Some(image(None)), Need::Nothing),
            (Some(PullPolicy::Never), None, Need::Forbidden),
            (Some(PullPolicy::Never), Some(image(None)), Need::Nothing),
            (Some(PullPolicy::Always), None, Need::Pull),
            (Some(PullPolicy::Always), Some(image(Some(now.0))), Need::Refresh),
            (every, None, Need::Pull),
            // An engine that does not say when is asked again.
            (every, Some(image(None)), Need::Refresh),
            (every, Some(image(Some(now.0 - 100))), Need::Refresh),
            (every, Some(image(Some(now.0 - 99))), Need::Nothing),
            // The engine's clock is ahead.
            (every, Some(image(Some(now.0 + 5))), Need::Nothing),
        ];
        for (policy, image, expected) in cases {
            assert_eq!(need(policy, "redis:7", image.as_ref(), now), expected, "{policy:?} {image:?}");
        }
        let by_digest = need(Some(PullPolicy::Always), "redis@sha256:1", Some(&image(None)), now);
        assert_eq!(by_digest, Need::Nothing);
    }
}
