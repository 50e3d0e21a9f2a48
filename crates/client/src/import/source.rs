//! What is to be brought in, as people write it, and where it goes. Pure.

use std::str::FromStr;

use oci::{Digest, NameError, Reference, ReferenceError, RepositoryName, Tag};

/// A registry, a prefix of its repositories, a repository, or one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// A reference to the registry; its repository counts only where there is a path.
    any: Reference,
    path: Option<RepositoryName>,
    /// Whether an address began with `https://` or `http://`.
    scheme: Option<Scheme>,
}

/// How a registry is spoken to, where that was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Over TLS, on loopback too.
    Https,
    /// Without.
    Http,
}

impl Source {
    /// The registry as references name it.
    pub fn host(&self) -> &str {
        self.any.host()
    }

    /// The repository or prefix; none for the whole registry.
    pub fn path(&self) -> Option<&RepositoryName> {
        self.path.as_ref()
    }

    /// The scheme, if it was written.
    pub fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// The one tag or digest that is meant; none where everything is.
    pub fn one(&self) -> Option<&Reference> {
        (self.path.is_some() && (self.any.tag().is_some() || self.any.digest().is_some())).then_some(&self.any)
    }

    /// The registry, for questions about it as a whole.
    pub fn registry(&self) -> &Reference {
        &self.any
    }

    /// A repository of this registry, without tag or digest.
    pub fn repository(&self, name: &RepositoryName) -> Result<Reference, ReferenceError> {
        Reference::new(self.any.host(), name.clone())
    }

    /// Whether a repository is the path or lies under it.
    pub fn covers(&self, name: &RepositoryName) -> bool {
        self.below(name).is_some()
    }

    fn below<'a>(&self, name: &'a RepositoryName) -> Option<&'a str> {
        let Some(path) = &self.path else { return Some(name.as_str()) };
        let rest = name.as_str().strip_prefix(path.as_str())?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
    }

    /// Where a repository goes: the path is replaced by `to`. None for one that does not lie under the path.
    pub fn target(&self, name: &RepositoryName, to: &RepositoryName) -> Option<Result<RepositoryName, NameError>> {
        let rest = self.below(name)?;
        Some(if rest.is_empty() { Ok(to.clone()) } else { format!("{to}/{rest}").parse() })
    }
}

impl FromStr for Source {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (scheme, text) = match text.split_once("://") {
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            _ => (None, text),
        };
        let text = text.trim_end_matches('/');
        let is_host = |text: &str| {
            let name = text.split_once(':').map_or(text, |(name, _)| name);
            !text.contains(['/', '@'])
                && (scheme.is_some() || name.contains('.') || name == "localhost" || text.starts_with('['))
        };
        if is_host(text) {
            // Reads the host as a reference does; the repository stands for none.
            let any: Reference = format!("{text}/any").parse()?;
            return Ok(Self { any, path: None, scheme });
        }
        let any: Reference = text.parse()?;
        Ok(Self { path: Some(any.repository().clone()), any, scheme })
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path {
            None => f.write_str(self.any.host()),
            Some(_) => self.any.fmt(f),
        }
    }
}

/// A pattern of tags: `*` stands for any text, `?` for one character, the rest for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPattern(String);

impl FromStr for TagPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'*' | b'?');
        if text.is_empty() || text.len() > 256 || !text.bytes().all(is_known) {
            return Err("a tag pattern has letters, digits, '_', '.', '-', and the wildcards '*' and '?'".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl TagPattern {
    /// Whether a tag fits. Time is bounded by the product of the two lengths.
    pub fn fits(&self, tag: &str) -> bool {
        let (pattern, tag) = (self.0.as_bytes(), tag.as_bytes());
        let (mut at, mut seen) = (0, 0);
        // Where to go on when what follows the last star does not fit.
        let mut back: Option<(usize, usize)> = None;
        while seen < tag.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    back = Some((at, seen));
                    at += 1;
                }
                Some(byte) if *byte == b'?' || *byte == tag[seen] => {
                    at += 1;
                    seen += 1;
                }
                _ => {
                    let Some((star, from)) = back else { return false };
                    back = Some((star, from + 1));
                    (at, seen) = (star + 1, from + 1);
                }
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

/// Which tags are brought in.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only tags that fit one of these; all where there are none.
    pub tags: Vec<TagPattern>,
    /// But not those that fit one of these.
    pub exclude: Vec<TagPattern>,
}

impl Selection {
    /// Whether a tag is meant. Tags that only say something about an image (`sha256-….sig`) come with that image, and by
    /// themselves only where everything is meant.
    pub fn takes(&self, tag: &Tag) -> bool {
        let fits = |patterns: &[TagPattern]| patterns.iter().any(|pattern| pattern.fits(tag.as_str()));
        if fits(&self.exclude) {
            return false;
        }
        if self.tags.is_empty() && self.exclude.is_empty() {
            return true;
        }
        !is_companion(tag) && (self.tags.is_empty() || fits(&self.tags))
    }
}

/// What stands after the digest in tags that belong to an image: referrers where there is no API, and cosign's signature,
/// attestations and list of contents.
const COMPANIONS: [&str; 4] = ["", ".sig", ".att", ".sbom"];

/// The tags that belong to the image with this digest, if there are any.
pub(crate) fn companions(digest: &Digest) -> impl Iterator<Item = Tag> {
    let start = format!("{}-{}", digest.algorithm().as_str(), digest.hex());
    COMPANIONS.into_iter().filter_map(move |end| format!("{start}{end}").parse().ok())
}

/// Whether a tag belongs to an image by its digest.
fn is_companion(tag: &Tag) -> bool {
    let Some((algorithm, rest)) = tag.as_str().split_once('-') else { return false };
    let (hex, end) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
    COMPANIONS.contains(&end) && format!("{algorithm}:{hex}").parse::<Digest>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_as_people_write_them() {
        for (text, shown, path, one) in [
            ("registry.example.com", "registry.example.com", None, false),
            ("localhost:5000", "localhost:5000", None, false),
            ("10.0.0.1:5000/", "10.0.0.1:5000", None, false),
            ("https://hub:5000", "hub:5000", None, false),
            ("https://registry.example.com/team/", "registry.example.com/team", Some("team"), false),
            ("registry.example.com/team", "registry.example.com/team", Some("team"), false),
            ("hub:5000/team/app:v1", "hub:5000/team/app:v1", Some("team/app"), true),
            ("redis:7", "docker.io/library/redis:7", Some("library/redis"), true),
            ("docker.io/team/app", "docker.io/team/app", Some("team/app"), false),
        ] {
            let source: Source = text.parse().unwrap();
            assert_eq!(source.to_string(), shown);
            assert_eq!(source.path().map(RepositoryName::as_str), path, "{text}");
            assert_eq!(source.one().is_some(), one, "{text}");
        }
        for wrong in ["", "https://", "registry.example.com/Team", "registry.example.com/a@sha256:1", "-.example.com"] {
            assert!(wrong.parse::<Source>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn repositories_keep_what_stands_after_the_path() {
        let name = |text: &str| text.parse::<RepositoryName>().unwrap();
        let goes = |source: &str, from: &str| {
            let source: Source = source.parse().unwrap();
            source.target(&name(from), &name("to/here")).map(|target| target.unwrap().to_string())
        };
        assert_eq!(goes("r.example/team", "team/a/b").as_deref(), Some("to/here/a/b"));
        assert_eq!(goes("r.example/team", "team").as_deref(), Some("to/here"));
        assert_eq!(goes("r.example/team", "teams"), None);
        assert_eq!(goes("r.example", "team").as_deref(), Some("to/here/team"));
    }

    #[test]
    fn patterns_and_companions() {
        let fits = |pattern: &str, tag: &str| pattern.parse::<TagPattern>().unwrap().fits(tag);
        for (pattern, tag) in [("v*", "v1.2"), ("*", "x"), ("v?.*-rc*", "v1.2-rc3"), ("a*b*c", "aXbXbc"), ("**", "a")] {
            assert!(fits(pattern, tag), "{pattern} {tag}");
        }
        for (pattern, tag) in [("v*", "1v"), ("v?", "v"), ("a*b", "abc"), ("V1", "v1"), ("v?", "v12")] {
            assert!(!fits(pattern, tag), "{pattern} {tag}");
        }
        assert!("v[12]".parse::<TagPattern>().is_err());
        let tag = |text: &str| text.parse::<Tag>().unwrap();
        let signature = tag(&format!("sha256-{}.sig", "a".repeat(64)));
        let some = Selection { tags: vec!["*".parse().unwrap()], exclude: Vec::new() };
        assert!(Selection::default().takes(&signature) && !some.takes(&signature));
        assert!(some.takes(&tag("sha256-abc.sig")) && some.takes(&tag("v1")));
        let without = Selection { tags: Vec::new(), exclude: vec!["*-rc*".parse().unwrap()] };
        assert!(without.takes(&tag("v1")) && !without.takes(&tag("v1-rc1")) && !without.takes(&signature));
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        assert_eq!(companions(&digest).nth(1), Some(signature));
    }
}
