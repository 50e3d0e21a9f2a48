//! The manifest of chiselled Ubuntu images: JSON lines, the first of which says what it is.
//!
//! The format is that of Chisel's `manifest` and `jsonwall` packages, schema 1.0.

use std::borrow::Cow;

use serde::Deserialize;

use crate::cataloger::os::{self, EachPath, FIELD_BYTES_MAX, Fact, PACKAGES_MAX, Package, Paths, Reporter, WHOLE};
use crate::component::{Component, Ecosystem, Evidence};
use crate::content::Content;

use super::{Error, LIST_BYTES_MAX};

/// Bytes of a line: those of one path and its slices.
const LINE_BYTES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    jsonwall: Cow<'a, str>,
    #[serde(borrow)]
    schema: Cow<'a, str>,
    count: u64,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line<'a> {
    Package {
        name: String,
        version: String,
        arch: Option<String>,
    },
    Path {
        #[serde(borrow)]
        path: Cow<'a, str>,
        #[serde(borrow, default)]
        slices: Vec<Cow<'a, str>>,
    },
    /// Slices, and contents, which repeat what paths say.
    #[serde(other)]
    Other,
}

struct One<'a>(&'a [u8]);

impl EachPath for One<'_> {
    fn each_path(&self, visit: &mut dyn FnMut(&[u8])) {
        visit(self.0);
    }
}

pub(super) fn read(content: Content<'_>, reporter: &mut Reporter<'_>) -> Result<(), os::Error> {
    let bytes = os::read_whole(&content, LIST_BYTES_MAX)?;
    if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Err(Error::Compressed.into());
    }
    let mut lines = os::records::lines(&bytes);
    let head: Head<'_> = lines
        .next()
        .filter(|line| line.len() <= LINE_BYTES_MAX)
        .and_then(|line| serde_json::from_slice(line).ok())
        .filter(|head: &Head<'_>| head.jsonwall.starts_with("1.") && head.schema.starts_with("1."))
        .ok_or(Error::NotManifest)?;
    let (mut found, mut packages) = (1, 0);
    for line in lines.filter(|line| !line.is_empty()) {
        found += 1;
        if line.len() > LINE_BYTES_MAX {
            let why = format!("it has more than {LINE_BYTES_MAX} bytes");
            reporter.unexamined(|| "a line".to_owned(), Error::ManifestLine { line: found, why });
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(Line::Package { name, version, arch }) => {
                let is_usable = |value: &str| os::text(value.as_bytes(), FIELD_BYTES_MAX) == Some(value);
                if ![&name, &version].into_iter().chain(&arch).all(|value| is_usable(value)) {
                    let why = "a name, version or architecture is no such".to_owned();
                    reporter.unexamined(|| "a package".to_owned(), Error::ManifestLine { line: found, why });
                    continue;
                }
                packages += 1;
                if packages > PACKAGES_MAX {
                    return Err(os::Error::TooManyPackages { limit: PACKAGES_MAX });
                }
                reporter.fact(Fact::Package(Component {
                    ecosystem: Ecosystem::Deb,
                    name,
                    version,
                    architecture: arch,
                    source: None,
                    licences: Vec::new(),
                    evidence: Evidence::Installed,
                }));
            }
            Ok(Line::Path { path, slices }) => owns(&path, &slices, reporter),
            Ok(Line::Other) => {}
            Err(error) => {
                let why = error.to_string();
                reporter.unexamined(|| "a line".to_owned(), Error::ManifestLine { line: found, why });
            }
        }
    }
    if found != head.count {
        reporter.unexamined(|| WHOLE.to_owned(), Error::Count { stated: head.count, found });
    }
    Ok(())
}

/// A slice is a package's name, an underscore, and the slice's own name. Several slices of one package stand together.
fn owns(path: &str, slices: &[Cow<'_, str>], reporter: &mut Reporter<'_>) {
    let mut before = None;
    for name in slices.iter().filter_map(|slice| Some(slice.split_once('_')?.0)) {
        if before.replace(name) != Some(name) {
            let package = Package { name, version: None, architecture: None };
            reporter.fact(Fact::Owns { package, paths: Paths::new(&One(path.as_bytes())) });
        }
    }
}
