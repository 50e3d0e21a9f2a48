//! Typed access to a canonical tree: each value with the path that leads to it.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Findings, child, did_you_mean, item};
use crate::yaml::{Map, Mark, Node, Value};

/// A value and its path.
#[derive(Clone, Debug)]
pub(crate) struct Field<'n> {
    pub(crate) node: &'n Node,
    /// Where the key stands; the value itself for items of a list.
    pub(crate) mark: Mark,
    pub(crate) path: String,
}

impl<'n> Field<'n> {
    pub(crate) fn root(node: &'n Node) -> Self {
        Field { node, mark: node.mark, path: String::new() }
    }

    /// The value under a key, unless there is none or it is empty.
    pub(crate) fn get(&self, key: &str) -> Option<Field<'n>> {
        let entry = self.map()?.get(key)?;
        let field = Field { node: &entry.node, mark: entry.key, path: child(&self.path, key) };
        (!matches!(entry.node.value, Value::Null)).then_some(field)
    }

    /// The values under the keys of a mapping, empty ones too; none when it is not a mapping.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'n str, Field<'n>)> + use<'n> {
        let path = self.path.clone();
        self.map().into_iter().flatten().map(move |(key, entry)| {
            (key.as_str(), Field { node: &entry.node, mark: entry.key, path: child(&path, key) })
        })
    }

    /// The items of a list; none when it is not a list.
    pub(crate) fn items(&self) -> impl Iterator<Item = Field<'n>> + use<'n> {
        let path = self.path.clone();
        let list: &'n [Node] = match &self.node.value {
            Value::List(items) => items,
            _ => &[],
        };
        list.iter().enumerate().map(move |(index, node)| Field { node, mark: node.mark, path: item(&path, index) })
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    fn map(&self) -> Option<&'n Map> {
        match &self.node.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(crate) fn error(&self, findings: &mut Findings<'_>, what: impl Into<String>) {
        findings.error(self.node.mark, &self.path, what);
    }

    pub(crate) fn error_with_hint(
        &self,
        findings: &mut Findings<'_>,
        what: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        findings.error_with_hint(self.node.mark, &self.path, what, hint);
    }

    /// The text of a single value.
    pub(crate) fn text(&self, findings: &mut Findings<'_>) -> Option<&'n str> {
        match &self.node.value {
            // The engine would cut the text there.
            Value::Scalar(text) if text.contains('\0') => {
                self.error(findings, "there is a NUL character in this text");
                None
            }
            Value::Scalar(text) => Some(text),
            _ => {
                self.error(findings, format!("this should be a single value, but is {}", self.node.kind()));
                None
            }
        }
    }

    pub(crate) fn string(&self, findings: &mut Findings<'_>) -> Option<String> {
        self.text(findings).map(str::to_owned)
    }

    /// What `read` makes of the text.
    pub(crate) fn read<T>(
        &self,
        findings: &mut Findings<'_>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(findings)?;
        read(text).map_err(|what| self.error(findings, what)).ok()
    }

    /// The one of these that the text names.
    pub(crate) fn one_of<T: Copy>(&self, findings: &mut Findings<'_>, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(findings)?;
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
        if found.is_none() {
            let names = || choices.iter().map(|(name, _)| *name);
            let hint =
                did_you_mean(text, names()).unwrap_or_else(|| names().collect::<Vec<_>>().join(", ") + " are known");
            self.error_with_hint(findings, format!("{text:?} is not known here"), hint);
        }
        found
    }

    /// The texts of a list.
    pub(crate) fn strings<C: FromIterator<String>>(&self, findings: &mut Findings<'_>) -> C {
        self.items().filter_map(|item| item.string(findings)).collect()
    }

    /// The texts of a list, each read.
    pub(crate) fn read_all<T, C: FromIterator<T>>(
        &self,
        findings: &mut Findings<'_>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> C {
        self.items().filter_map(|item| item.read(findings, &read)).collect()
    }

    /// Names to texts, empty values as `None`.
    pub(crate) fn pairs(&self, findings: &mut Findings<'_>) -> BTreeMap<String, Option<String>> {
        let mut pairs = BTreeMap::new();
        for (name, field) in self.entries() {
            if name.is_empty() || name.contains(['=', '\0']) {
                findings.error(field.mark, &field.path, format!("{name:?} cannot be a name"));
            } else if field.is_empty() {
                pairs.insert(name.to_owned(), None);
            } else if let Some(text) = field.string(findings) {
                pairs.insert(name.to_owned(), Some(text));
            }
        }
        pairs
    }

    /// Names to texts, empty values as the empty text: labels.
    pub(crate) fn labels(&self, findings: &mut Findings<'_>) -> BTreeMap<String, String> {
        self.pairs(findings).into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect()
    }
}

/// Short ways to the fields of a section.
pub(crate) struct Section<'n, 's, 'f, 'a> {
    pub(crate) field: &'s Field<'n>,
    pub(crate) findings: &'f mut Findings<'a>,
}

impl<'n> Section<'n, '_, '_, '_> {
    pub(crate) fn get(&self, key: &str) -> Option<Field<'n>> {
        self.field.get(key)
    }

    pub(crate) fn string(&mut self, key: &str) -> Option<String> {
        self.get(key)?.string(self.findings)
    }

    pub(crate) fn read<T>(&mut self, key: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.get(key)?.read(self.findings, read)
    }

    pub(crate) fn boolean(&mut self, key: &str) -> bool {
        self.read(key, crate::scalar::boolean).unwrap_or(false)
    }

    pub(crate) fn one_of<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        self.get(key)?.one_of(self.findings, choices)
    }

    pub(crate) fn strings(&mut self, key: &str) -> Vec<String> {
        self.get(key).map(|field| field.strings(self.findings)).unwrap_or_default()
    }

    pub(crate) fn labels(&mut self, key: &str) -> BTreeMap<String, String> {
        self.get(key).map(|field| field.labels(self.findings)).unwrap_or_default()
    }

    pub(crate) fn names(&mut self, key: &str) -> BTreeSet<String> {
        self.get(key).map(|field| field.strings(self.findings)).unwrap_or_default()
    }
}
