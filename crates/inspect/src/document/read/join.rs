//! Makes a component of what documents state beside one another: group, name, version and package URL.

use crate::component::{Component, Ecosystem, Evidence};
use crate::purl::{Purl, PurlError, split_name};

/// What a document states of a component.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stated<'a> {
    pub(super) group: &'a str,
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pub(super) purl: Option<&'a str>,
}

impl Stated<'_> {
    /// The component, by the package URL where there is one. The stated name and version stand where the package URL
    /// says the same, as they keep what its normal form does not. With an error, the package URL is not one.
    pub(super) fn component(&self, evidence: Evidence) -> (Component, Option<PurlError>) {
        let Some(text) = self.purl else { return (self.generic(evidence), None) };
        let purl: Purl = match text.parse() {
            Ok(purl) => purl,
            Err(error) => return (self.generic(evidence), Some(error)),
        };
        let Some(mut component) = purl.to_component(evidence) else {
            let mut component = self.generic(evidence);
            component.name = purl.namespace().map_or_else(String::new, |namespace| format!("{namespace}/"));
            component.name.push_str(purl.name());
            if let Some(version) = purl.version() {
                version.clone_into(&mut component.version);
            }
            return (component, None);
        };
        let separator = if component.ecosystem == Ecosystem::Maven { ":" } else { "/" };
        let joined = format!("{}{separator}{}", self.group, self.name);
        let joined = Some(joined.as_str()).filter(|_| !self.group.is_empty());
        for name in joined.into_iter().chain([self.name]) {
            // OS packages have their namespace from the distribution, not from their name.
            let os_package = matches!(component.ecosystem, Ecosystem::Deb | Ecosystem::Rpm | Ecosystem::Apk);
            let (mut namespace, short) = split_name(component.ecosystem, name);
            if os_package {
                namespace = purl.namespace().unwrap_or_default();
            }
            let same = Purl::new(purl.package_type(), namespace, short)
                .is_ok_and(|other| (other.namespace(), other.name()) == (purl.namespace(), purl.name()));
            if same {
                name.clone_into(&mut component.name);
                break;
            }
        }
        if component.version.is_empty() {
            self.version.clone_into(&mut component.version);
        }
        (component, None)
    }

    fn generic(&self, evidence: Evidence) -> Component {
        let name = if self.group.is_empty() { self.name.to_owned() } else { format!("{}/{}", self.group, self.name) };
        Component {
            ecosystem: Ecosystem::Generic,
            name,
            version: self.version.to_owned(),
            architecture: None,
            source: None,
            licences: Vec::new(),
            evidence,
        }
    }
}
