//! What a walk found.

use siphasher::sip::SipHasher13;

use crate::component::Component;
use crate::os_release::OsRelease;
use crate::secret::Secret;

/// What one walk found in a layer, a folder or a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The files of which there is something to say, in the order of the walk.
    pub files: Vec<Examined>,
    /// Files that were looked at, those within archives included.
    pub files_count: u64,
}

/// What one file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// Its path, then the path of a file within it, and so on: bytes as the archives have them, without leading slash.
    pub chain: Vec<Vec<u8>>,
    /// What it says, never empty.
    pub facts: Vec<Fact>,
}

/// One thing that a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A component is there.
    Component(Component),
    /// Which operating system this is.
    System(OsRelease),
    /// An OS package owns files.
    Owns {
        /// Which package.
        package: Package,
        /// Their paths' hashes, by [`owned_hash`].
        paths: Vec<u64>,
    },
    /// Licences of an OS package.
    Licence {
        /// Which package.
        package: Package,
        /// Each as stated.
        licences: Vec<String>,
    },
    /// Where an RPM comes from.
    Origin {
        /// Which package.
        package: Package,
        /// Who made it.
        vendor: Option<String>,
        /// The module that it belongs to.
        module: Option<String>,
    },
    /// A key, a token or a password is left in it.
    Secret(Secret),
    /// The file, or a part of it, was not examined; why.
    Unexamined(String),
}

/// Names a package of an OS package database. What is `None` the file does not say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// Its architecture.
    pub architecture: Option<String>,
}

impl From<crate::cataloger::os::Package<'_>> for Package {
    fn from(package: crate::cataloger::os::Package<'_>) -> Self {
        Self {
            name: package.name.to_owned(),
            version: package.version.map(str::to_owned),
            architecture: package.architecture.map(str::to_owned),
        }
    }
}

/// The hash by which a path is known to be a package's. Whoever makes an image can say of any path that a package owns it,
/// so nothing is gained by finding two with one hash.
pub fn owned_hash(path: &[u8]) -> u64 {
    SipHasher13::new().hash(path)
}
