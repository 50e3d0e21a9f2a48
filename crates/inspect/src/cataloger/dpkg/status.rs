//! dpkg's status file, and the single paragraphs of images without dpkg.

use std::collections::HashMap;

use crate::cataloger::os::records::{Record, Records};
use crate::cataloger::os::{self, FIELD_BYTES_MAX, Fact, PACKAGES_MAX, Reporter, WHOLE};
use crate::component::{Component, Ecosystem, Evidence, Source};
use crate::content::Content;

use super::Error;
use super::control::fields;

/// Reads paragraph by paragraph. dpkg refuses two of one package and architecture: alike they are told once, and
/// otherwise both are told.
pub(super) fn read(content: Content<'_>, reporter: &mut Reporter<'_>) {
    let mut versions: HashMap<(String, Option<String>), Vec<String>> = HashMap::new();
    let mut packages = 0;
    let mut records = Records::new(content);
    while let Some(record) = records.next() {
        let record = match record {
            Ok(record) => record,
            Err(unreadable) => {
                reporter.unexamined(|| format!("the paragraph at byte {}", unreadable.at), unreadable.why);
                continue;
            }
        };
        let Some(component) = paragraph(&record, reporter) else { continue };
        let before = versions.entry((component.name.clone(), component.architecture.clone())).or_default();
        if before.contains(&component.version) {
            continue;
        }
        if !before.is_empty() {
            reporter.unexamined(|| format!("the paragraph at byte {}", record.at), Error::Repeated);
        }
        if packages >= PACKAGES_MAX || before.len() >= VERSIONS_MAX {
            reporter.unexamined(|| WHOLE.to_owned(), os::Error::TooManyPackages { limit: PACKAGES_MAX });
            break;
        }
        packages += 1;
        before.push(component.version.clone());
        reporter.fact(Fact::Package(component));
    }
}

/// Versions of one package and architecture, of which dpkg has one.
const VERSIONS_MAX: usize = 100;

/// The installed package that a paragraph is about.
fn paragraph(record: &Record<'_>, reporter: &mut Reporter<'_>) -> Option<Component> {
    const NAMES: [&str; 5] = ["Package", "Version", "Architecture", "Source", "Status"];
    let mut values: [Option<&[u8]>; NAMES.len()] = [None; NAMES.len()];
    let mut is_empty = true;
    let mut broken = None;
    for field in fields(record) {
        is_empty = false;
        let field = match field {
            Ok(field) => field,
            Err(why) => {
                broken.get_or_insert(why);
                continue;
            }
        };
        let Some((name, value)) = NAMES.iter().zip(&mut values).find(|(name, _)| field.is(name)) else { continue };
        if value.is_some() {
            broken.get_or_insert(Error::Twice { field: name });
        } else {
            *value = Some(field.value);
        }
    }
    if is_empty {
        return None;
    }
    let [name, version, architecture, source, status] = values;
    let result = (|| {
        let name = text(name, "Package")?.ok_or(Error::Field { field: "Package" })?;
        // What cannot be told to be gone counts as there.
        let is_installed = status.map_or(Ok(true), is_installed).unwrap_or_else(|why| {
            broken.get_or_insert(why);
            true
        });
        let version = text(version, "Version")?;
        if is_installed && version.is_none() {
            broken.get_or_insert(Error::Field { field: "Version" });
        }
        let version = version.unwrap_or_default();
        let source = text(source, "Source")?.and_then(|source| source_of(source, name, version));
        let component = Component {
            ecosystem: Ecosystem::Deb,
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: text(architecture, "Architecture")?.map(str::to_owned),
            source,
            licences: Vec::new(),
            evidence: Evidence::Installed,
        };
        Ok(is_installed.then_some(component))
    })();
    let (component, why) = match result {
        Ok(component) => (component, broken),
        Err(why) => (None, Some(why)),
    };
    if let Some(why) = why {
        reporter.unexamined(|| format!("the paragraph at byte {}", record.at), why);
    }
    component
}

/// A field's text; `None` where it is missing or empty.
fn text<'r>(value: Option<&'r [u8]>, field: &'static str) -> Result<Option<&'r str>, Error> {
    match value {
        None | Some([]) => Ok(None),
        Some(value) => os::text(value, FIELD_BYTES_MAX).map(Some).ok_or(Error::Field { field }),
    }
}

/// The third word says what is there: all but nothing and configuration files means files of the package.
fn is_installed(status: &[u8]) -> Result<bool, Error> {
    let mut words = status.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(_), Some(_), Some(state), None) => match state {
            b"not-installed" | b"config-files" => Ok(false),
            b"installed" | b"half-installed" | b"unpacked" | b"half-configured" | b"triggers-awaited"
            | b"triggers-pending" => Ok(true),
            _ => Err(Error::Status),
        },
        _ => Err(Error::Status),
    }
}

/// `Source: name` or `Source: name (version)`; `None` where that is the package's own name and version.
fn source_of(field: &str, name: &str, version: &str) -> Option<Source> {
    let (source, stated) = match field.split_once('(') {
        Some((source, rest)) => (source.trim(), rest.trim_end().trim_end_matches(')').trim()),
        None => (field, ""),
    };
    let stated = if stated.is_empty() { version } else { stated };
    (!source.is_empty() && (source != name || stated != version))
        .then(|| Source { name: source.to_owned(), version: stated.to_owned() })
}
