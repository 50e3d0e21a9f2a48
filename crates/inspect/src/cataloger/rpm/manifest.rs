//! The manifest that distroless images of Azure Linux (CBL-Mariner) have in place of a database.
//!
//! A package a line, with tabs between: name, version and release, time of installation, time of building, vendor,
//! epoch, size, architecture, epoch as a number, source package.

use crate::cataloger::os::{self, FIELD_BYTES_MAX, Fact, PACKAGES_MAX, Package, Reporter};
use crate::component::{Component, Ecosystem, Evidence};
use crate::content::Content;

use super::{Error, header};

/// Bytes of a manifest.
const BYTES_MAX: usize = 32 << 20;

pub(super) fn wants(path: &[u8]) -> bool {
    path == b"var/lib/rpmmanifest/container-manifest-2"
}

pub(super) fn read(content: Content<'_>, reporter: &mut Reporter<'_>) -> Result<(), os::Error> {
    let bytes = os::read_whole(&content, BYTES_MAX)?;
    let mut packages = 0;
    for (line, number) in os::records::lines(&bytes).zip(1_u64..).filter(|(line, _)| !line.is_empty()) {
        packages += 1;
        if packages > PACKAGES_MAX {
            return Err(os::Error::TooManyPackages { limit: PACKAGES_MAX });
        }
        let Some((component, vendor)) = component(line) else {
            reporter.unexamined(|| "a package".to_owned(), Error::Line { line: number });
            continue;
        };
        let package = Package::of(&component);
        if vendor.is_some() {
            reporter.fact(Fact::Origin { package, vendor, module: None });
        }
        reporter.fact(Fact::Package(component));
    }
    Ok(())
}

fn component(line: &[u8]) -> Option<(Component, Option<&str>)> {
    let mut columns = line.split(|byte| *byte == b'\t');
    let mut next = || os::text(columns.next()?, FIELD_BYTES_MAX);
    let (name, version) = (next()?, next()?);
    let (_, _, vendor, epoch, _, architecture, _, source) =
        (next()?, next()?, next()?, next()?, next()?, next()?, next()?, next()?);
    let stated = |text: &str| text != "(none)";
    let source = if stated(source) { Some(header::source_of(source)?) } else { None };
    let component = Component {
        ecosystem: Ecosystem::Rpm,
        name: name.to_owned(),
        version: if stated(epoch) { format!("{epoch}:{version}") } else { version.to_owned() },
        architecture: Some(architecture.to_owned()).filter(|architecture| stated(architecture)),
        source: source.filter(|source| source.name != name || source.version != version),
        licences: Vec::new(),
        evidence: Evidence::Installed,
    };
    Some((component, Some(vendor).filter(|vendor| stated(vendor))))
}
