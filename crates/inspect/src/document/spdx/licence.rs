//! Licences as SPDX writes them: expressions, and references for what is none.

use std::collections::BTreeMap;

use crate::document::Found;
use crate::document::contents::joined;
use crate::document::emit::short_hash;
use crate::document::ordered::Ordered;

/// The names that are no SPDX expressions, by the reference that stands for each.
pub(super) struct References(BTreeMap<String, String>);

impl References {
    pub(super) fn of(ordered: &Ordered<'_>) -> Self {
        let mut references = BTreeMap::new();
        for found in &ordered.components {
            for licence in found.all_licences() {
                if licence.expression.is_none() {
                    references.insert(reference(&licence.stated), licence.stated);
                }
            }
        }
        Self(references)
    }

    /// Each reference with the text that it stands for.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter()
    }
}

/// `LicenseRef-` with what people recognise it by, and a hash.
pub(super) fn reference(stated: &str) -> String {
    format!("LicenseRef-{}", super::local_id("longshore", stated))
}

/// All licences of a component as one expression, with references for what is none; `None` where none is stated.
pub(super) fn declared(found: &Found) -> Option<String> {
    let mut licences = found.all_licences();
    for licence in &mut licences {
        if licence.expression.is_none() {
            licence.expression = Some(reference(&licence.stated));
        }
    }
    joined(&licences)
}

/// The local name of the element that holds an expression.
pub(super) fn expression_id(expression: &str) -> String {
    format!("licence-{}", short_hash(expression))
}
