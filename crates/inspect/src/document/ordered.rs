//! The contents in the one order that all documents have, checked to refer only to what is there.

use std::io;

use crate::component::{Component, Ecosystem, Evidence};
use crate::document::{Contents, Finding, Found, Layer, Place, Secret, Unexamined};

/// Why a document was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The target did not take it.
    #[error("the document could not be written: {0}")]
    Io(#[from] io::Error),
    /// Two components of one id, or two findings of one id on the same component.
    #[error("two entries of the contents have the id \"{id}\"")]
    Duplicate {
        /// The id.
        id: String,
    },
    /// An empty id, or one that begins as those do which the documents make themselves.
    #[error("the id \"{id}\" cannot be used: it is empty or begins with \"image:\", \"os:\" or \"finding:\"")]
    Reserved {
        /// The id.
        id: String,
    },
    /// An owner, a dependency or a finding names a component that is not there.
    #[error("\"{from}\" refers to the component \"{to}\", which is not in the contents")]
    Unknown {
        /// What refers to it.
        from: String,
        /// The id.
        to: String,
    },
    /// A place names a layer that the image does not have.
    #[error("\"{from}\" lies in layer {layer}, the image has {layers}")]
    NoLayer {
        /// What lies there.
        from: String,
        /// The index.
        layer: usize,
        /// How many there are.
        layers: usize,
    },
}

/// References into the contents, sorted.
pub(super) struct Ordered<'a> {
    pub(super) contents: &'a Contents,
    /// By id.
    pub(super) components: Vec<&'a Found>,
    /// By id and component.
    pub(super) findings: Vec<&'a Finding>,
    pub(super) secrets: Vec<&'a Secret>,
    pub(super) unexamined: Vec<&'a Unexamined>,
}

impl<'a> Ordered<'a> {
    pub(super) fn new(contents: &'a Contents) -> Result<Self, WriteError> {
        let mut components: Vec<&Found> = contents.components.iter().collect();
        components.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let mut findings: Vec<&Finding> = contents.findings.iter().collect();
        findings.sort_unstable_by(|a, b| (&a.id, &a.component).cmp(&(&b.id, &b.component)));
        let mut secrets: Vec<&Secret> = contents.secrets.iter().collect();
        secrets.sort_unstable();
        let mut unexamined: Vec<&Unexamined> = contents.unexamined.iter().collect();
        unexamined.sort_unstable();
        let ordered = Self { contents, components, findings, secrets, unexamined };
        ordered.check()?;
        Ok(ordered)
    }

    fn check(&self) -> Result<(), WriteError> {
        let twin = |(a, b): (&&'a Found, &&'a Found)| (a.id == b.id).then(|| a.id.clone());
        if let Some(id) = self.components.iter().zip(self.components.iter().skip(1)).find_map(twin) {
            return Err(WriteError::Duplicate { id });
        }
        let twin = |(a, b): (&&'a Finding, &&'a Finding)| {
            ((&a.id, &a.component) == (&b.id, &b.component)).then(|| a.id.clone())
        };
        if let Some(id) = self.findings.iter().zip(self.findings.iter().skip(1)).find_map(twin) {
            return Err(WriteError::Duplicate { id });
        }
        for found in &self.components {
            if found.id.is_empty() || ["image:", "os:", "finding:"].iter().any(|prefix| found.id.starts_with(prefix)) {
                return Err(WriteError::Reserved { id: found.id.clone() });
            }
            for to in found.owner.iter().chain(&found.depends_on) {
                self.known(&found.id, to)?;
            }
            found.places.iter().try_for_each(|place| self.lies(&found.id, place))?;
        }
        self.findings.iter().try_for_each(|finding| self.known(&finding.id, &finding.component).map(drop))?;
        self.secrets.iter().try_for_each(|secret| self.lies(&secret.rule, &secret.place))?;
        self.unexamined.iter().try_for_each(|unexamined| self.lies(&unexamined.place.text(), &unexamined.place))
    }

    fn known(&self, from: &str, to: &str) -> Result<&'a Found, WriteError> {
        self.component(to).ok_or_else(|| WriteError::Unknown { from: from.to_owned(), to: to.to_owned() })
    }

    fn lies(&self, from: &str, place: &Place) -> Result<(), WriteError> {
        let layers = self.contents.image.layers.len();
        match place.layer.filter(|layer| *layer >= layers) {
            Some(layer) => Err(WriteError::NoLayer { from: from.to_owned(), layer, layers }),
            None => Ok(()),
        }
    }

    /// The component of an id.
    pub(super) fn component(&self, id: &str) -> Option<&'a Found> {
        let at = self.components.binary_search_by(|found| found.id.as_str().cmp(id)).ok()?;
        self.components.get(at).copied()
    }

    /// The layer that a place lies in.
    pub(super) fn layer(&self, place: &Place) -> Option<&'a Layer> {
        self.contents.image.layers.get(place.layer?)
    }

    /// What a document calls the image.
    pub(super) fn image_id(&self) -> String {
        format!("image:{}", self.contents.image.digest.as_ref().unwrap_or(&self.contents.image.name))
    }

    /// What a document calls the distribution.
    pub(super) fn os_id(&self) -> Option<String> {
        self.contents.operating_system.as_ref().map(|os| format!("os:{}-{}", os.id, os.version))
    }

    /// One sentence on how complete the list of components is.
    pub(super) fn completeness(&self) -> String {
        match self.unexamined.len() {
            0 => "Complete: everything in the image was examined.".to_owned(),
            1 => "Incomplete: one item of the image was not examined.".to_owned(),
            count => format!("Incomplete: {count} items of the image were not examined."),
        }
    }
}

/// An item without a layer first, then by layer and chain; each once.
pub(super) fn places(found: &Found) -> Vec<&Place> {
    sorted(&found.places)
}

/// References to the items, sorted, each once.
pub(super) fn sorted<T: Ord>(items: &[T]) -> Vec<&T> {
    let mut items: Vec<&T> = items.iter().collect();
    items.sort_unstable();
    items.dedup();
    items
}

/// The further names, sorted.
pub(super) fn further(found: &Found) -> Vec<&Component> {
    let mut further: Vec<&Component> = found.further.iter().collect();
    further.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
    further
}

type Key<'a> = (Ecosystem, &'a str, &'a str, Option<&'a str>, Option<(&'a str, &'a str)>, Evidence, &'a [String]);

fn key(component: &Component) -> Key<'_> {
    (
        component.ecosystem,
        &component.name,
        &component.version,
        component.architecture.as_deref(),
        component.source.as_ref().map(|source| (source.name.as_str(), source.version.as_str())),
        component.evidence,
        &component.licences,
    )
}
