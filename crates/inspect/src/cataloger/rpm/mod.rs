//! RPM packages: the database in its three forms, and the manifests of distroless images.

use std::borrow::Cow;

use crate::cataloger::os::{self, Fact, PACKAGES_MAX, Package, Paths, Reporter, WHOLE};
use crate::content::Content;

pub use error::Error;
pub use header::{PATH_BYTES_MAX, PATHS_BYTES_MAX};

mod bdb;
mod error;
mod header;
mod manifest;
mod ndb;
mod pages;
mod sqlite;

/// Bytes of one package's header. That of a package with 100,000 files has about 15 MiB.
pub const HEADER_BYTES_MAX: usize = 32 << 20;
/// Bytes of all paths that one database hands over; a database of 5,000 packages has about 50 MiB of them.
pub const DATABASE_PATHS_BYTES_MAX: u64 = 1 << 30;

/// Who takes the headers of a database: one after the other, or why one could not be had.
type Each<'v> = dyn FnMut(Result<Cow<'_, [u8]>, os::Error>) + 'v;

/// Bytes of a write-ahead log. SQLite itself empties one of some 4 MB, between transactions.
pub const LOG_BYTES_MAX: usize = 32 << 20;

const FOLDERS: [&[u8]; 3] = [b"var/lib/rpm/", b"usr/lib/sysimage/rpm/", b"usr/share/rpm/"];
const LOG_SUFFIX: &[u8] = b"-wal";
const SQLITE: &[u8] = b"rpmdb.sqlite";

/// The name of a file in one of the folders where RPM keeps its database.
fn name(path: &[u8]) -> Option<&[u8]> {
    FOLDERS.iter().find_map(|folder| path.strip_prefix(*folder))
}

/// Whether [`read`] has something to say of the file at this path inside the image, without leading slash.
pub fn wants(path: &[u8]) -> bool {
    matches!(name(path), Some(b"Packages" | b"Packages.db" | SQLITE)) || manifest::wants(path)
}

/// The path of the database whose write-ahead log this path is. Where both are visible in an image, and the log is not
/// empty, the database alone may lack the last packages: [`read`] takes both.
pub fn database_of_log(path: &[u8]) -> Option<&[u8]> {
    let database = path.strip_suffix(LOG_SUFFIX)?;
    (name(database) == Some(SQLITE)).then_some(database)
}

/// Says what a database or manifest tells; `log` is the write-ahead log beside it, where there is one.
pub fn read(path: &[u8], content: Content<'_>, log: Option<Content<'_>>, facts: &mut dyn FnMut(Fact<'_>)) {
    let mut reporter = Reporter::new(facts);
    let result = if manifest::wants(path) {
        manifest::read(content, &mut reporter)
    } else {
        database(content, log, &mut reporter)
    };
    if let Err(why) = result {
        reporter.unexamined(|| WHOLE.to_owned(), why);
    }
    reporter.finish();
}

fn database(content: Content<'_>, log: Option<Content<'_>>, reporter: &mut Reporter<'_>) -> Result<(), os::Error> {
    let mut packages = 0_usize;
    let mut paths_bytes = 0_u64;
    let mut visit = |blob: Result<Cow<'_, [u8]>, os::Error>| {
        if packages >= PACKAGES_MAX {
            packages = packages.saturating_add(1);
            return;
        }
        match blob {
            Err(why) => reporter.unexamined(|| "a package, or several".to_owned(), why),
            Ok(blob) => {
                packages += 1;
                package(&blob, packages, &mut paths_bytes, reporter);
            }
        }
    };
    let length = usize::try_from(content.len()).unwrap_or(usize::MAX).min(16);
    let head = os::read_range(&content, 0, length)?;
    if log.is_some_and(|log| !log.is_empty()) || sqlite::is(&head) {
        sqlite::each(content, log, &mut visit)
    } else if ndb::is(&head) {
        ndb::each(content, &mut visit)
    } else if bdb::is(&head) {
        bdb::each(content, &mut visit)
    } else if content.is_empty() {
        Err(Error::Empty.into())
    } else {
        Err(Error::Form.into())
    }?;
    if packages > PACKAGES_MAX { Err(os::Error::TooManyPackages { limit: PACKAGES_MAX }) } else { Ok(()) }
}

/// Says what a header tells. `number` is its place in the order of the database.
fn package(blob: &[u8], number: usize, paths_bytes: &mut u64, reporter: &mut Reporter<'_>) {
    let mut broken = None;
    let parsed = header::Header::parse(blob).and_then(|header| Ok((header.component(&mut broken)?, header)));
    let (component, header) = match parsed {
        Ok(parsed) => parsed,
        Err(why) => return reporter.unexamined(|| format!("package {number} of the database"), why),
    };
    reporter.fact(Fact::Package(component.clone()));
    let package = Package::of(&component);
    let mut usable = |value: Result<_, Error>| {
        value.unwrap_or_else(|why| {
            broken.get_or_insert(why);
            None
        })
    };
    let (vendor, module) = (usable(header.vendor()), usable(header.module()));
    if vendor.is_some() || module.is_some() {
        reporter.fact(Fact::Origin { package, vendor, module });
    }
    match header.files() {
        Ok(None) => {}
        Ok(Some(files)) => {
            *paths_bytes += files.bytes();
            if *paths_bytes <= DATABASE_PATHS_BYTES_MAX {
                reporter.fact(Fact::Owns { package, paths: Paths::new(&files) });
            } else {
                reporter.unexamined(|| format!("the paths of {component}"), Error::Paths);
            }
        }
        Err(why) => reporter.unexamined(|| format!("the paths of {component}"), why),
    }
    if let Some(why) = broken {
        reporter.unexamined(|| format!("a part of {component}"), why);
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
