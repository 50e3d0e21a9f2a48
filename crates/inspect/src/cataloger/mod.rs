//! Catalogers: which files each wants, and what it makes of one. The walk hands files over; no cataloger walks or opens.
//!
//! Most are asked by a file's path, those of programs by its first bytes, and Java's sees every zip archive. A path is
//! that inside the image or archive, without a leading slash.

pub mod apk;
pub mod composer;
pub mod dpkg;
pub mod elf;
pub mod gem;
pub mod go;
pub mod java;
mod json;
pub mod npm;
pub mod nuget;
pub mod os;
pub mod python;
mod report;
pub mod rpm;
pub mod rust;
mod text;

pub use report::Report;

use crate::component::Component;
use crate::os_release;

/// The most bytes of a file that any cataloger of a language reads whole; each states its own.
pub const FILE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The most components that are taken from one file.
pub const COMPONENTS_MAX: usize = 100_000;
/// The most notes on one file; the last of them says that there were more.
pub const NOTES_MAX: usize = 100;
/// The longest name of a component, in bytes.
pub const NAME_BYTES_MAX: usize = 512;
/// The longest version of a component, in bytes.
pub const VERSION_BYTES_MAX: usize = 256;
/// The most licences of one component.
pub const LICENCES_MAX: usize = 64;
/// The longest statement of a licence, in bytes; of a longer one its beginning is kept, with an ellipsis.
pub const LICENCE_BYTES_MAX: usize = 1024;

/// What a cataloger makes of one program or Java archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The components that it speaks of.
    pub components: Vec<Component>,
    /// What of it was not examined and why, and what there is to say about a component, in sentences without a stop.
    pub notes: Vec<String>,
}

/// Who wants a file by its path.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    /// dpkg's database.
    Dpkg,
    /// RPM's database.
    Rpm,
    /// The write-ahead log beside RPM's database.
    RpmLog,
    /// apk's database.
    Apk,
    /// What the operating system says of itself.
    System,
    /// A package manager's file in a language: how to read it whole.
    Language(fn(&[u8], &[u8]) -> Report),
    /// Rust's `Cargo.lock`.
    CargoLock,
    /// A Java runtime's `release`.
    JavaRelease,
}

impl Wanted {
    /// Who wants the file at this path.
    pub fn by_path(path: &[u8]) -> Option<Self> {
        Some(match file_name(path) {
            b"Cargo.lock" => Self::CargoLock,
            b"release" => Self::JavaRelease,
            _ if dpkg::wants(path) => Self::Dpkg,
            _ if npm::wants(path) => Self::Language(npm::read),
            _ if python::wants(path) => Self::Language(python::read),
            _ if gem::wants(path) => Self::Language(gem::read),
            _ if composer::wants(path) => Self::Language(composer::read),
            _ if nuget::wants(path) => Self::Language(nuget::read),
            _ if os_release::wants(path) => Self::System,
            _ if rpm::wants(path) => Self::Rpm,
            _ if rpm::database_of_log(path).is_some() => Self::RpmLog,
            _ if apk::wants(path) => Self::Apk,
            _ => return None,
        })
    }
}

/// The last part of a path.
pub(crate) fn file_name(path: &[u8]) -> &[u8] {
    path.get(memchr::memrchr(b'/', path).map_or(0, |slash| slash + 1)..).unwrap_or_default()
}

/// The path of the folder that a path lies in; empty at the root.
fn folder(path: &[u8]) -> &[u8] {
    path.get(..memchr::memrchr(b'/', path).unwrap_or(0)).unwrap_or_default()
}
