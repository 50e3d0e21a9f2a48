//! What decides whether a service is built again, and how that is said. Pure.

use std::collections::{BTreeMap, BTreeSet};

use compose::Project;
use oci::{Algorithm, Digest, Hasher};

use crate::git::{Entry, EntryKind};

/// How much of a commit id is shown to people.
const COMMIT_DIGITS_SHOWN: usize = 7;
/// How many inputs a reason names before it only counts them.
const REASONS_MAX: usize = 4;

/// Everything that an image depends on: same inputs, same image.
///
/// By name: `context` (digest over the Git tree of the context after `.dockerignore`), `dockerfile` (digest of its
/// bytes), `dockerfile-path`, `platform`, `target` (if any), `arg:NAME`, `label:NAME`, `base:REFERENCE` (the id the
/// engine has under it).
pub type Inputs = BTreeMap<String, String>;

/// SHA-256 over the inputs, each name and value preceded by its length so that no two sets share a text.
pub fn inputs_digest(inputs: &Inputs) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for text in inputs.iter().flat_map(|(name, value)| [name, value]) {
        hasher.update(format!("{}:", text.len()).as_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finish()
}

/// Digest over a context's entries: path, kind and content of each, in order of path.
pub fn context_digest(entries: &[Entry]) -> Digest {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for entry in sorted {
        // A folder is what is in it; its own id would also change with what is left out.
        let id = if entry.kind == EntryKind::Folder { "" } else { &entry.id };
        hasher.update(format!("{} {id} {}\0", entry.kind.mode(), entry.path).as_bytes());
    }
    hasher.finish()
}

/// An earlier build of the same service, for the comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// Its inputs.
    pub inputs: Inputs,
    /// Paths in its context that differ from now, relative to the repository, without the Dockerfile; none when the
    /// earlier commit is not at hand.
    pub changed_paths: Option<Vec<String>>,
}

/// Why a service is built: `first build`, or `rebuilt because …` naming what differs, most telling first.
pub fn reason(now: &Inputs, before: Option<&Before>) -> String {
    let Some(before) = before else { return "first build".to_owned() };
    let differs = |name: &str| now.get(name) != before.inputs.get(name);
    let mut reasons = Vec::new();
    if differs("dockerfile") {
        reasons.push("the Dockerfile changed".to_owned());
    } else if differs("dockerfile-path") {
        reasons.push("another Dockerfile is used".to_owned());
    }
    if differs("context") {
        match before.changed_paths.as_deref() {
            Some([path]) => reasons.push(format!("{path} changed")),
            Some([path, more]) => reasons.push(format!("{path} and {more} changed")),
            Some([path, more @ ..]) => reasons.push(format!("{path} changed (and {} more files)", more.len())),
            // Nothing but the Dockerfile, which lies in its own context, and was named above.
            Some([]) if !reasons.is_empty() => {}
            Some([]) | None => reasons.push("its files changed".to_owned()),
        }
    }
    if differs("target") {
        reasons.push("the target stage changed".to_owned());
    }
    for (prefix, word) in [("arg:", "argument"), ("base:", "base"), ("label:", "label")] {
        let names: BTreeSet<&str> =
            now.keys().chain(before.inputs.keys()).filter_map(|name| name.strip_prefix(prefix)).collect();
        for name in names {
            let key = format!("{prefix}{name}");
            match (now.get(&key), before.inputs.get(&key)) {
                (Some(now), Some(before)) if now == before => {}
                (Some(_), Some(_)) => reasons.push(format!("{word} {name} changed")),
                (Some(_), None) => reasons.push(format!("{word} {name} is new")),
                (None, _) => reasons.push(format!("{word} {name} is gone")),
            }
        }
    }
    if differs("platform") {
        reasons.push("the platform changed".to_owned());
    }
    if reasons.is_empty() {
        return "rebuilt because its image is no longer in the registry".to_owned();
    }
    let more = reasons.len().saturating_sub(REASONS_MAX);
    reasons.truncate(REASONS_MAX);
    let mut text = format!("rebuilt because {}", reasons.join(", "));
    if more > 0 {
        text.push_str(&format!(", and {more} more inputs changed"));
    }
    text
}

/// `unchanged since 3f2a91c`.
pub fn reason_unchanged(commit: &str) -> String {
    format!("unchanged since {}", commit_short(commit))
}

/// A commit id as people see it.
pub fn commit_short(commit: &str) -> &str {
    commit.get(..COMMIT_DIGITS_SHOWN).unwrap_or(commit)
}

/// Paths whose content or kind differs between two listings, sorted, below `folder` of the repository, without folders
/// and without `dockerfile`.
pub fn changed_paths(before: &[Entry], now: &[Entry], folder: &str, dockerfile: &str) -> Vec<String> {
    let by_path = |entries: &[Entry]| -> BTreeMap<String, (EntryKind, String)> {
        let files = entries.iter().filter(|entry| entry.kind != EntryKind::Folder && entry.path != dockerfile);
        files.map(|entry| (entry.path.clone(), (entry.kind, entry.id.clone()))).collect()
    };
    let (before, now) = (by_path(before), by_path(now));
    let paths: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    paths
        .into_iter()
        .filter(|path| before.get(*path) != now.get(*path))
        .map(|path| if folder.is_empty() { path.clone() } else { format!("{folder}/{path}") })
        .collect()
}

/// Why a project cannot become releases: one image and one base definition for each service is what a release has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverlayError {
    /// A service stands only in an overlay.
    #[error("service {service} stands in {file} but not in {base}")]
    ServiceOnlyInOverlay {
        /// The service.
        service: String,
        /// The overlay.
        file: String,
        /// The base file.
        base: String,
    },
    /// An overlay changes what is built.
    #[error("{file} changes what service {service} is built from, and a release has one image for all environments")]
    ImageChanged {
        /// The service.
        service: String,
        /// The overlay.
        file: String,
    },
}

/// Checks that an overlay leaves services and images as they are.
///
/// # Errors
/// The first service that it adds, or whose `build` or `image` it changes.
pub fn overlay_check(base: &Project, base_file: &str, overlay: &Project, file: &str) -> Result<(), OverlayError> {
    for (name, service) in &overlay.services {
        let Some(original) = base.services.get(name) else {
            return Err(OverlayError::ServiceOnlyInOverlay {
                service: name.clone(),
                file: file.to_owned(),
                base: base_file.to_owned(),
            });
        };
        if original.build != service.build || original.image != service.image {
            return Err(OverlayError::ImageChanged { service: name.clone(), file: file.to_owned() });
        }
    }
    Ok(())
}

/// The app's name when `compose.yaml` has none: the last folder of path or URL, normalised as Compose does (lower case,
/// only `[a-z0-9_-]`, beginning with a letter or digit). Empty when nothing is left.
pub fn app_name(repository: &str, folder: &str) -> String {
    let last = |path: &str| path.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default().to_owned();
    let name = if folder.is_empty() {
        let name = last(repository.trim_end_matches('/').trim_end_matches("/.git"));
        name.strip_suffix(".git").unwrap_or(&name).to_owned()
    } else {
        last(folder)
    };
    let kept: String = name
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(*c))
        .collect();
    kept.trim_start_matches(['_', '-']).to_owned()
}

/// Joins a path of the repository with a relative one and normalises it; none when it leads out of the repository, or is
/// absolute.
pub fn path_join(folder: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The names nearest to one that is not there, nearest first.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>, count: usize) -> Vec<String> {
    let mut scored: Vec<(f64, &str)> = names.map(|name| (strsim::jaro_winkler(wanted, name), name)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().filter(|(score, _)| *score > 0.6).take(count).map(|(_, name)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inputs(pairs: &[(&str, &str)]) -> Inputs {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn reason_of(now: &[(&str, &str)], before: &[(&str, &str)], paths: Option<&[&str]>) -> String {
        let changed_paths = paths.map(|paths| paths.iter().map(|path| (*path).to_owned()).collect());
        reason(&inputs(now), Some(&Before { inputs: inputs(before), changed_paths }))
    }

    #[test]
    fn a_reason_names_the_input() {
        let base = [("context", "1"), ("dockerfile", "1")];
        let context = [("context", "2"), ("dockerfile", "1")];
        let both = [("context", "2"), ("dockerfile", "2")];
        assert_eq!(reason(&inputs(&base), None), "first build");
        assert_eq!(reason_of(&context, &base, Some(&["vote/app.py"])), "rebuilt because vote/app.py changed");
        assert_eq!(
            reason_of(&context, &base, Some(&["vote/app.py", "vote/b", "vote/c"])),
            "rebuilt because vote/app.py changed (and 2 more files)"
        );
        assert_eq!(reason_of(&both, &base, Some(&[])), "rebuilt because the Dockerfile changed");
        assert_eq!(reason_of(&both, &base, Some(&["a"])), "rebuilt because the Dockerfile changed, a changed");
        assert_eq!(reason_of(&context, &base, None), "rebuilt because its files changed");
        assert_eq!(
            reason_of(&[("arg:X", "2"), ("arg:Z", "")], &[("arg:X", "1"), ("arg:Y", "1")], None),
            "rebuilt because argument X changed, argument Y is gone, argument Z is new"
        );
        assert_eq!(
            reason_of(&[("base:debian:bookworm-slim", "b")], &[("base:debian:bookworm-slim", "a")], None),
            "rebuilt because base debian:bookworm-slim changed"
        );
        assert_eq!(reason_of(&base, &base, None), "rebuilt because its image is no longer in the registry");
        assert_eq!(reason_unchanged("3f2a91c0000000000"), "unchanged since 3f2a91c");
    }

    #[test]
    fn an_app_is_named_after_its_folder() {
        for (repository, folder, name) in [
            ("https://example.com/team/Shop.git", "", "shop"),
            ("git@example.com:shop.git", "", "shop"),
            ("/srv/my app/", "", "myapp"),
            ("/srv/shop/.git", "", "shop"),
            ("/srv/mono", "apps/_Vote", "vote"),
            ("/", "", ""),
        ] {
            assert_eq!(app_name(repository, folder), name, "{repository} {folder}");
        }
    }

    #[test]
    fn a_path_never_leaves_the_repository() {
        assert_eq!(path_join("apps/vote", "./web"), Some("apps/vote/web".to_owned()));
        assert_eq!(path_join("apps/vote", "../shared/."), Some("apps/shared".to_owned()));
        assert_eq!(path_join("", "."), Some(String::new()));
        assert_eq!(path_join("apps", "../.."), None);
        assert_eq!(path_join("", "/etc"), None);
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        prop::collection::btree_map(
            "[ab]{1,2}",
            (prop_oneof![Just(EntryKind::File), Just(EntryKind::Symlink)], "[01]"),
            0..5,
        )
        .prop_map(|map| map.into_iter().map(|(path, (kind, id))| Entry { path, kind, id, size_bytes: 1 }).collect())
    }

    proptest! {
        #[test]
        fn a_reason_is_given_for_whatever_differs(now in entries(), before in entries(), arg in "[xy]", arg_before in "[xy]") {
            let of = |entries: &[Entry], arg: &str| inputs(&[("context", &context_digest(entries).to_string()), ("arg:A", arg)]);
            let (now_inputs, before_inputs) = (of(&now, &arg), of(&before, &arg_before));
            let changed = changed_paths(&before, &now, "web", "Dockerfile");
            prop_assert_eq!(changed.is_empty(), context_digest(&now) == context_digest(&before));
            let said = reason(&now_inputs, Some(&Before { inputs: before_inputs.clone(), changed_paths: Some(changed.clone()) }));
            prop_assert_eq!(said.contains("argument A changed"), arg != arg_before);
            prop_assert_eq!(said.contains("web/"), !changed.is_empty());
            prop_assert_eq!(inputs_digest(&now_inputs) == inputs_digest(&before_inputs), now_inputs == before_inputs);
        }

        #[test]
        fn a_context_digest_ignores_the_order(entries in entries(), seed in 0usize..7) {
            let mut turned = entries.clone();
            let by = if turned.is_empty() { 0 } else { seed % turned.len() };
            turned.rotate_left(by);
            prop_assert_eq!(context_digest(&turned), context_digest(&entries));
        }
    }
}
