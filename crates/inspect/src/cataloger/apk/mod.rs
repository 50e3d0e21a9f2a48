//! Alpine packages: apk's database of what is installed.
//!
//! The format is that of apk-tools: apk-v2(5), `lib/apk/db/installed`.

use memchr::memmem;

use crate::cataloger::os::records::{Record, Records, lines, lines_at};
use crate::cataloger::os::{
    self, EachPath, FIELD_BYTES_MAX, Fact, LICENCE_BYTES_MAX, PACKAGES_MAX, Package, Paths, Reporter, WHOLE,
};
use crate::component::{Component, Ecosystem, Evidence, Source};
use crate::content::Content;

/// Bytes of one path; Linux takes no longer ones.
pub const PATH_BYTES_MAX: usize = 4096;

/// Why a part of an apk database could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A record lacks a field that it must have.
    #[error("the record has no usable field {field}:")]
    Field {
        /// Its letter.
        field: char,
    },
    /// A field stands twice in one record, as where the empty line between two is missing.
    #[error("the record has the field {field}: twice")]
    Twice {
        /// Its letter.
        field: char,
    },
    /// A line does not begin with a letter and a colon.
    #[error("the line at byte {at} does not begin with a letter and a colon")]
    Line {
        /// Offset of the line in the file.
        at: u64,
    },
    /// A path is longer than one may be.
    #[error("the path at byte {at} has more than {PATH_BYTES_MAX} bytes")]
    Path {
        /// Offset of its line in the file.
        at: u64,
    },
}

/// Whether [`read`] has something to say of the file at this path inside the image, without leading slash.
pub fn wants(path: &[u8]) -> bool {
    matches!(path, b"lib/apk/db/installed" | b"usr/lib/apk/db/installed")
}

/// Says what the database tells.
pub fn read(content: Content<'_>, facts: &mut dyn FnMut(Fact<'_>)) {
    let mut reporter = Reporter::new(facts);
    let mut records = Records::new(content);
    let mut packages = 0;
    while let Some(record) = records.next() {
        let record = match record {
            Ok(record) => record,
            Err(unreadable) => {
                reporter.unexamined(|| format!("the record at byte {}", unreadable.at), unreadable.why);
                continue;
            }
        };
        if packages >= PACKAGES_MAX {
            reporter.unexamined(|| WHOLE.to_owned(), os::Error::TooManyPackages { limit: PACKAGES_MAX });
            break;
        }
        packages += 1;
        let mut broken = None;
        match component(&record, &mut broken) {
            Ok(component) => {
                reporter.fact(Fact::Package(component.clone()));
                if memmem::find(record.bytes, b"\nR:").is_some() {
                    let files = Files(record.bytes);
                    reporter.fact(Fact::Owns { package: Package::of(&component), paths: Paths::new(&files) });
                }
            }
            Err(why) => broken = Some(why),
        }
        if let Some(why) = broken {
            reporter.unexamined(|| format!("the record at byte {}", record.at), why);
        }
    }
    reporter.finish();
}

/// `first` is told what is wrong with a record that can be used all the same.
fn component(record: &Record<'_>, first: &mut Option<Error>) -> Result<Component, Error> {
    const LETTERS: [u8; 5] = *b"PVAoL";
    let mut values: [Option<&[u8]>; LETTERS.len()] = [None; LETTERS.len()];
    let mut folder = 0;
    for (at, line) in lines_at(record.bytes) {
        let at = record.at + at;
        let [letter, b':', value @ ..] = line else {
            first.get_or_insert(Error::Line { at });
            continue;
        };
        match letter {
            b'F' => {
                folder = value.len();
                if folder > PATH_BYTES_MAX {
                    first.get_or_insert(Error::Path { at });
                }
            }
            b'R' if folder + 1 + value.len() > PATH_BYTES_MAX => {
                first.get_or_insert(Error::Path { at });
            }
            _ => {}
        }
        let Some((letter, place)) = LETTERS.iter().zip(&mut values).find(|(known, _)| *known == letter) else {
            continue;
        };
        if place.is_some() {
            first.get_or_insert(Error::Twice { field: char::from(*letter) });
        } else {
            *place = Some(value);
        }
    }
    let [name, version, architecture, origin, licence] = values;
    let text = |value: Option<&[u8]>, field, limit| match value {
        None | Some([]) => Ok(None),
        Some(value) => os::text(value, limit).map(|value| Some(value.to_owned())).ok_or(Error::Field { field }),
    };
    let name = text(name, 'P', FIELD_BYTES_MAX)?.ok_or(Error::Field { field: 'P' })?;
    let version = text(version, 'V', FIELD_BYTES_MAX)?.ok_or(Error::Field { field: 'V' })?;
    let origin = text(origin, 'o', FIELD_BYTES_MAX)?.filter(|origin| *origin != name);
    Ok(Component {
        ecosystem: Ecosystem::Apk,
        source: origin.map(|name| Source { name, version: version.clone() }),
        name,
        version,
        architecture: text(architecture, 'A', FIELD_BYTES_MAX)?,
        licences: text(licence, 'L', LICENCE_BYTES_MAX)?.into_iter().collect(),
        evidence: Evidence::Installed,
    })
}

/// Files of a record: `F:` names a directory, and each `R:` behind it a file in it.
struct Files<'a>(&'a [u8]);

impl EachPath for Files<'_> {
    fn each_path(&self, visit: &mut dyn FnMut(&[u8])) {
        let mut path = Vec::new();
        let mut folder = Some(0);
        for line in lines(self.0) {
            match (line, folder) {
                ([b'F', b':', name @ ..], _) => {
                    path.clear();
                    folder = (name.len() <= PATH_BYTES_MAX).then(|| {
                        path.extend_from_slice(name);
                        path.push(b'/');
                        path.len()
                    });
                }
                ([b'R', b':', name @ ..], Some(folder)) if folder + name.len() <= PATH_BYTES_MAX => {
                    path.truncate(folder);
                    path.extend_from_slice(name);
                    visit(&path);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
