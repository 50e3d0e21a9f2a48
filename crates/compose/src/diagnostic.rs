//! What is wrong with a Compose file, where, and what to do about it.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::yaml::Mark;

/// Findings kept; more of them help nobody.
const FINDINGS_MAX: usize = 100;
/// Longest account of what is wrong; values of the file stand in it.
const WHAT_CHARACTERS_MAX: usize = 600;

/// One finding, with the place it was found at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Name of the source, as given to [`crate::load`].
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Where in the document, such as `services.web.ports[0]`; empty for the document itself.
    pub path: String,
    /// What is wrong, and why where that is not plain.
    pub what: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Why a project could not be loaded: at least one diagnostic, in the order of files and lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", diagnostics.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ComposeError {
    /// The findings.
    pub diagnostics: Vec<Diagnostic>,
}

/// Collects findings while the stages go on, so that one run tells of all that is wrong.
pub(crate) struct Findings<'a> {
    files: Vec<Cow<'a, str>>,
    errors: Vec<(Mark, Diagnostic)>,
    warnings: Vec<(Mark, Diagnostic)>,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(files: impl IntoIterator<Item = &'a str>) -> Self {
        let files = files.into_iter().map(Cow::Borrowed).collect();
        Findings { files, errors: Vec::new(), warnings: Vec::new() }
    }

    /// The number that stands for one more file in marks.
    pub(crate) fn file_add(&mut self, name: &str) -> u16 {
        let number = u16::try_from(self.files.len()).unwrap_or(u16::MAX);
        self.files.push(Cow::Owned(name.to_owned()));
        number
    }

    pub(crate) fn error(&mut self, mark: Mark, path: &str, what: impl Into<String>) {
        self.push(mark, path, what.into(), None);
    }

    pub(crate) fn error_with_hint(
        &mut self,
        mark: Mark,
        path: &str,
        what: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        self.push(mark, path, what.into(), hint.into());
    }

    pub(crate) fn warning(&mut self, mark: Mark, path: &str, what: impl Into<String>, hint: Option<String>) {
        if self.warnings.len() < FINDINGS_MAX {
            let diagnostic = self.diagnostic(mark, path, what.into(), hint);
            self.warnings.push((mark, diagnostic));
        }
    }

    /// Whether nothing more will be kept, so that nobody need look for it.
    pub(crate) fn full(&self) -> bool {
        self.errors.len() >= FINDINGS_MAX
    }

    pub(crate) fn failed(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The warnings, or the errors when there is one.
    pub(crate) fn finish(self) -> Result<Vec<Diagnostic>, ComposeError> {
        let sorted = |mut found: Vec<(Mark, Diagnostic)>| {
            found.sort_by_key(|(mark, _)| *mark);
            found.into_iter().map(|(_, diagnostic)| diagnostic).collect::<Vec<_>>()
        };
        if self.errors.is_empty() {
            Ok(sorted(self.warnings))
        } else {
            Err(ComposeError { diagnostics: sorted(self.errors) })
        }
    }

    fn push(&mut self, mark: Mark, path: &str, what: String, hint: Option<String>) {
        if !self.full() {
            let diagnostic = self.diagnostic(mark, path, what, hint);
            self.errors.push((mark, diagnostic));
        }
    }

    fn diagnostic(&self, mark: Mark, path: &str, what: String, hint: Option<String>) -> Diagnostic {
        let what = match what.char_indices().nth(WHAT_CHARACTERS_MAX) {
            Some((end, _)) => format!("{}…", what.get(..end).unwrap_or_default()),
            None => what,
        };
        let file = self.files.get(usize::from(mark.file)).map(|name| name.to_string()).unwrap_or_default();
        Diagnostic { file, line: mark.line, column: mark.column, path: path.to_owned(), what, hint }
    }
}

/// The candidate that was most likely meant, when one is near enough.
pub(crate) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let distance_max = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= distance_max)
        .min()
        .map(|(_, candidate)| candidate)
}

/// "did you mean …?" for [`nearest`].
pub(crate) fn did_you_mean<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean {candidate:?}?"))
}

/// `parent.key`, the way a path is written.
pub(crate) fn child(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// `parent[index]`, the way a path is written.
pub(crate) fn item(parent: &str, index: usize) -> String {
    format!("{parent}[{index}]")
}
