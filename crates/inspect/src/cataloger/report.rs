//! What a cataloger found in one file, kept within the limits.

use super::text::excerpt;
use super::{COMPONENTS_MAX, LICENCE_BYTES_MAX, LICENCES_MAX, NAME_BYTES_MAX, NOTES_MAX, VERSION_BYTES_MAX};
use crate::component::{Component, Ecosystem, Evidence};

/// What one file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The components that it speaks of.
    pub components: Vec<Component>,
    /// What of it could not be read or was over a limit, one sentence each. Empty: all was read.
    pub unexamined: Vec<String>,
}

impl Report {
    /// A report that says only this.
    pub(super) fn unread(why: impl Into<String>) -> Self {
        Self { components: Vec::new(), unexamined: vec![why.into()] }
    }

    /// Refuses a file of more than `limit` bytes.
    pub(super) fn oversized(bytes: &[u8], limit: usize) -> Option<Self> {
        (bytes.len() > limit).then(|| Self::unread(format!("it has {} bytes; at most {limit} are read", bytes.len())))
    }

    /// Adds a note, at most [`NOTES_MAX`] of them.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        match self.unexamined.len() {
            ..NOTES_MAX => self.unexamined.push(note.into()),
            NOTES_MAX => self.unexamined.push("more of the same is not listed".to_owned()),
            _ => {}
        }
    }

    /// Adds a component; where it is over a limit, a note.
    pub(super) fn add(
        &mut self,
        ecosystem: Ecosystem,
        evidence: Evidence,
        name: &str,
        version: &str,
        licences: Vec<String>,
    ) {
        let (name, version) = (name.trim(), version.trim());
        if name.is_empty() {
            return self.note("a package without a name is not listed");
        }
        if name.len() > NAME_BYTES_MAX || version.len() > VERSION_BYTES_MAX {
            let excerpt = excerpt(name);
            return self.note(format!("the package {excerpt} is not listed: its name or version is too long"));
        }
        if self.components.len() >= COMPONENTS_MAX {
            return self.note(format!("it has more than {COMPONENTS_MAX} packages; the rest is not listed"));
        }
        let licences = self.bounded(name, licences);
        self.components.push(Component {
            ecosystem,
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: None,
            source: None,
            licences,
            evidence,
        });
    }

    fn bounded(&mut self, name: &str, mut licences: Vec<String>) -> Vec<String> {
        if licences.len() > LICENCES_MAX {
            self.note(format!("of the licences of {} only {LICENCES_MAX} are listed", excerpt(name)));
            licences.truncate(LICENCES_MAX);
        }
        licences.iter_mut().for_each(shorten);
        licences.retain(|licence| !licence.is_empty());
        let mut seen = 0;
        while let Some(licence) = licences.get(seen) {
            if licences.iter().take(seen).any(|before| before == licence) {
                licences.remove(seen);
            } else {
                seen += 1;
            }
        }
        licences
    }

    /// Sorts by name and version and takes out what stands there twice: a lock file has a package once for each place.
    pub(super) fn distinct(mut self) -> Self {
        self.components.sort_by(|a, b| (&a.name, &a.version, &a.licences).cmp(&(&b.name, &b.version, &b.licences)));
        self.components.dedup();
        // The same package without licences says nothing beyond the one with them.
        self.components.dedup_by(|b, a| {
            let same = (&a.name, &a.version) == (&b.name, &b.version) && (a.licences.is_empty());
            if same {
                std::mem::swap(a, b);
            }
            same
        });
        self
    }
}

/// Trims a statement of a licence; a whole licence text becomes its first line with an ellipsis.
fn shorten(licence: &mut String) {
    let whole = licence.trim();
    let first = whole.lines().next().unwrap_or_default().trim_end();
    let mut end = first.len().min(LICENCE_BYTES_MAX);
    while !first.is_char_boundary(end) {
        end -= 1;
    }
    let kept = first.get(..end).unwrap_or_default();
    *licence = if kept.len() < whole.len() { format!("{kept} …") } else { kept.to_owned() };
}
