//! Licences: SPDX expressions kept as they were written, common names understood, and a policy that judges them.

mod address;
mod deprecated;
mod expression;
mod list;
mod names;
mod policy;

#[cfg(test)]
mod tests;

pub use expression::{
    EXPRESSION_BYTES_MAX, Exception, Expression, ExpressionError, Licence, NESTING_MAX, Node, TERMS_MAX, Term,
};
pub use policy::{POLICY_BYTES_MAX, Policy, PolicyError, RULES_MAX, Verdict};

/// Whether the SPDX list has the id but advises against it.
pub fn is_deprecated(id: &str) -> bool {
    find(list::DEPRECATED, id).is_some()
}

/// The id of a licence as the SPDX list writes it; case does not matter.
pub fn listed(id: &str) -> Option<&'static str> {
    find(list::LICENCES, id).or_else(|| find(list::DEPRECATED, id))
}

/// The id of an exception as the SPDX list writes it; case does not matter.
pub fn listed_exception(id: &str) -> Option<&'static str> {
    find(list::EXCEPTIONS, id)
}

fn find(table: &[&'static str], id: &str) -> Option<&'static str> {
    let folded = |text: &str, other: &str| {
        let (a, b) = (text.bytes().map(|b| b.to_ascii_lowercase()), other.bytes().map(|b| b.to_ascii_lowercase()));
        a.cmp(b)
    };
    let place = table.binary_search_by(|listed| folded(listed, id)).ok()?;
    table.get(place).copied()
}
