//! Variables in values: `$V`, `${V}` and the six forms with a default, a demand or an alternative, nested at will.
//!
//! The rules are the Compose Specification's (12-interpolation): `:-`, `:?` and `:+` take an empty value for none, `-`,
//! `?` and `+` do not; `$$` is a dollar sign; keys are left alone; a word is only looked at when it is used. A dollar sign
//! that begins none of these stays one in a workspace, as the specification has it; a release refuses it.

use crate::diagnostic::{Findings, child, item};
use crate::yaml::{Mark, Node, Value};

/// Forms within forms.
const DEPTH_MAX: usize = 16;
/// Bytes of all values that variables were put into, in one load.
const OUTPUT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How variables are looked up.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Puts variables into every value of documents.
pub(crate) struct Interpolator {
    lone_dollars: bool,
    bytes: usize,
    /// Variables that were told of already as not set.
    unset: Vec<String>,
}

/// Why a value could not be made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) what: String,
    pub(crate) hint: Option<String>,
}

impl Interpolator {
    /// `lone_dollars` says whether a dollar sign that begins no variable stays.
    pub(crate) fn new(lone_dollars: bool) -> Self {
        Interpolator { lone_dollars, bytes: 0, unset: Vec::new() }
    }

    /// Puts variables into the node and all below it.
    pub(crate) fn node(
        &mut self,
        node: &mut Node,
        environment: Environment<'_>,
        path: &str,
        findings: &mut Findings<'_>,
    ) {
        let mark = node.mark;
        match &mut node.value {
            Value::Null => {}
            Value::Scalar(text) => {
                if text.contains('$') {
                    self.scalar(text, environment, mark, path, findings);
                }
            }
            Value::List(items) => {
                for (index, inner) in items.iter_mut().enumerate() {
                    self.node(inner, environment, &item(path, index), findings);
                }
            }
            Value::Map(map) => {
                for (key, entry) in map {
                    self.node(&mut entry.node, environment, &child(path, key), findings);
                }
            }
        }
    }

    fn scalar(
        &mut self,
        text: &mut String,
        environment: Environment<'_>,
        mark: Mark,
        path: &str,
        findings: &mut Findings<'_>,
    ) {
        let mut unset = Vec::new();
        let bytes_max = OUTPUT_BYTES_MAX.saturating_sub(self.bytes);
        let result = expand(text, environment, bytes_max, self.lone_dollars, &mut unset);
        for name in unset {
            if !self.unset.contains(&name) {
                let what = format!("the variable {name} is not set, so it is taken for empty");
                findings.warning(mark, path, what, Some(format!("set it, or write ${{{name}:-}}")));
                self.unset.push(name);
            }
        }
        match result {
            Ok(value) => {
                self.bytes += value.len();
                *text = value;
            }
            Err(problem) => findings.error_with_hint(mark, path, problem.what, problem.hint),
        }
    }
}

/// The text with its variables put in; names of variables that are neither set nor defaulted go to `unset`.
pub(crate) fn expand(
    text: &str,
    environment: Environment<'_>,
    bytes_max: usize,
    lone_dollars: bool,
    unset: &mut Vec<String>,
) -> Result<String, Problem> {
    let mut output = String::new();
    Expansion { environment, bytes_max, lone_dollars, unset }.text(text, 0, &mut output)?;
    Ok(output)
}

struct Expansion<'a, 'e> {
    environment: Environment<'e>,
    bytes_max: usize,
    lone_dollars: bool,
    unset: &'a mut Vec<String>,
}

impl Expansion<'_, '_> {
    fn text(&mut self, text: &str, depth: usize, output: &mut String) -> Result<(), Problem> {
        if depth > DEPTH_MAX {
            return Err(plain(format!("variables stand within variables more than {DEPTH_MAX} deep")));
        }
        let mut rest = text;
        while let Some(position) = rest.find('$') {
            let (before, from) = rest.split_at(position);
            self.push(output, before)?;
            let after = from.get(1..).unwrap_or_default();
            rest = if let Some(after) = after.strip_prefix('$') {
                self.push(output, "$")?;
                after
            } else if let Some(inner) = after.strip_prefix('{') {
                let end = closing(inner).ok_or_else(|| invalid(from))?;
                let (form, tail) = inner.split_at(end);
                self.form(form, depth, output)?;
                tail.get(1..).unwrap_or_default()
            } else if let Some((name, tail)) = name(after) {
                let value = self.value_or_empty(name);
                self.push(output, &value)?;
                tail
            } else if self.lone_dollars {
                self.push(output, "$")?;
                after
            } else {
                return Err(invalid(from));
            };
        }
        self.push(output, rest)
    }

    /// What stands between `${` and its `}`.
    fn form(&mut self, form: &str, depth: usize, output: &mut String) -> Result<(), Problem> {
        let (name, rest) = name(form).ok_or_else(|| invalid(&format!("${{{form}}}")))?;
        if rest.is_empty() {
            let value = self.value_or_empty(name);
            return self.push(output, &value);
        }
        let (empty_is_none, operator) = match rest.strip_prefix(':') {
            Some(operator) => (true, operator),
            None => (false, rest),
        };
        let value = (self.environment)(name).filter(|value| !(empty_is_none && value.is_empty()));
        let mut characters = operator.chars();
        let kind = characters.next();
        let word = characters.as_str();
        match (kind, value) {
            (Some('-' | '?'), Some(value)) => self.push(output, &value),
            (Some('-'), None) | (Some('+'), Some(_)) => self.text(word, depth + 1, output),
            (Some('+'), None) => Ok(()),
            (Some('?'), None) => {
                let mut message = String::new();
                self.text(word, depth + 1, &mut message)?;
                let why = if empty_is_none { "is not set, or empty" } else { "is not set" };
                let colon = if message.is_empty() { "" } else { ": " };
                Err(plain(format!("the variable {name} is required, but {why}{colon}{message}")))
            }
            _ => Err(invalid(&format!("${{{form}}}"))),
        }
    }

    fn value_or_empty(&mut self, name: &str) -> String {
        (self.environment)(name).unwrap_or_else(|| {
            self.unset.push(name.to_owned());
            String::new()
        })
    }

    fn push(&self, output: &mut String, text: &str) -> Result<(), Problem> {
        if output.len() + text.len() > self.bytes_max {
            return Err(plain(format!(
                "with variables put in the files have more than {OUTPUT_BYTES_MAX} bytes of values"
            )));
        }
        output.push_str(text);
        Ok(())
    }
}

/// A variable's name at the beginning, and the rest.
fn name(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_').then_some((name, rest))
}

/// Where the `}` stands that ends a form; those of forms within it are passed over, and so is `$$`.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((index, byte)) = bytes.next() {
        match byte {
            b'$' => {
                if let Some((_, next)) = bytes.next_if(|(_, next)| matches!(next, b'{' | b'$')) {
                    open += usize::from(next == b'{');
                }
            }
            b'}' if open == 0 => return Some(index),
            b'}' => open -= 1,
            _ => {}
        }
    }
    None
}

fn invalid(form: &str) -> Problem {
    const SHOWN_CHARACTERS_MAX: usize = 40;
    let shown: String = form.chars().take(SHOWN_CHARACTERS_MAX).collect();
    Problem {
        what: format!("{shown:?} is not a variable"),
        hint: Some(
            "write $$ for a dollar sign, and ${NAME}, ${NAME:-default} or ${NAME:?message} for a variable".to_owned(),
        ),
    }
}

fn plain(what: String) -> Problem {
    Problem { what, hint: None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "value of A";

    fn environment(name: &str) -> Option<String> {
        match name {
            "A" => Some(A.to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn expanded(text: &str) -> Result<String, String> {
        expand(text, &environment, 1000, false, &mut Vec::new()).map_err(|problem| problem.what)
    }

    /// A text that is known by how it was put together, with what it must become.
    #[derive(Clone, Debug)]
    enum Part {
        Text(String),
        Dollar,
        Bare(&'static str),
        Braced(&'static str),
        Form(&'static str, &'static str, Vec<Part>),
    }

    fn written(parts: &[Part]) -> String {
        parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Dollar => "$$".to_owned(),
                // A space ends the name.
                Part::Bare(name) => format!("${name} "),
                Part::Braced(name) => format!("${{{name}}}"),
                Part::Form(name, operator, word) => format!("${{{name}{operator}{}}}", written(word)),
            })
            .collect()
    }

    fn meant(parts: &[Part]) -> Option<String> {
        parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => Some(text.clone()),
                Part::Dollar => Some("$".to_owned()),
                Part::Bare(name) => Some(environment(name).unwrap_or_default() + " "),
                Part::Braced(name) => Some(environment(name).unwrap_or_default()),
                Part::Form(name, operator, word) => {
                    let value = environment(name);
                    let there = match operator.len() {
                        1 => value.is_some(),
                        _ => value.as_ref().is_some_and(|value| !value.is_empty()),
                    };
                    match (operator.ends_with('-'), operator.ends_with('?'), there) {
                        (true, _, true) | (_, true, true) => value,
                        (true, _, false) | (false, false, true) => meant(word),
                        (_, true, false) => None,
                        (false, false, false) => Some(String::new()),
                    }
                }
            })
            .collect()
    }

    fn parts() -> impl Strategy<Value = Vec<Part>> {
        let name = || prop::sample::select(vec!["A", "EMPTY", "NONE"]);
        let leaf = prop_oneof![
            "[a-z {:?+./-]{0,6}".prop_map(Part::Text),
            Just(Part::Dollar),
            name().prop_map(Part::Bare),
            name().prop_map(Part::Braced),
        ];
        let operator = prop::sample::select(vec!["-", ":-", "?", ":?", "+", ":+"]);
        let part = leaf.prop_recursive(4, 24, 4, move |inner| {
            (name(), operator.clone(), prop::collection::vec(inner, 0..4))
                .prop_map(|(name, operator, word)| Part::Form(name, operator, word))
        });
        prop::collection::vec(part, 0..6)
    }

    proptest! {
        #[test]
        fn expansion_is_what_was_meant(parts in parts()) {
            prop_assert_eq!(expanded(&written(&parts)).ok(), meant(&parts));
        }

        #[test]
        fn any_text_is_expanded_or_refused(text in "[A-Z${}:?+a-z -]{0,40}") {
            let _ = expanded(&text);
        }
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for text in ["$", "a$", "$1", "${", "${}", "${1}", "${A", "${A:}", "${A!b}", "${A:=b}", "${A:-${EMPTY}"] {
            assert!(expanded(text).is_err(), "{text} was taken");
        }
    }

    #[test]
    fn a_lone_dollar_stays_where_it_may() {
        let expanded = |text: &str| expand(text, &environment, 1000, true, &mut Vec::new()).ok();
        for (text, meant) in [("$", "$"), ("^a$ $1 $A", "^a$ $1 value of A"), ("${A:-$}", "value of A")] {
            assert_eq!(expanded(text).as_deref(), Some(meant));
        }
        assert!(expanded("${1}").is_none() && expanded("${A").is_none());
    }

    #[test]
    fn a_demand_tells_its_message() {
        assert_eq!(
            expanded("${NONE:?set ${A} first}").unwrap_err(),
            "the variable NONE is required, but is not set, or empty: set value of A first"
        );
    }

    #[test]
    fn output_and_depth_are_bounded() {
        assert!(expanded(&"$A".repeat(101)).is_err());
        let deep = "${NONE:-".repeat(20) + &"}".repeat(20);
        assert!(expanded(&deep).is_err());
    }
}
