//! What a walk found.

use siphasher::sip::SipHasher13;

use crate::component::Component;
use crate::os_release::{self, OsRelease};
use crate::secret::Secret;

/// What one walk found in a layer, a folder or a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The files of which there is something to say, in the order of the walk.
    pub files: Vec<Examined>,
    /// Files that were looked at, those within archives included.
    pub files_count: u64,
    /// Whether secrets were looked for.
    pub sought_secrets: bool,
}

impl Report {
    /// Bytes of memory that it takes up, more or less.
    pub(super) fn bytes(&self) -> u64 {
        let file = |file: &Examined| {
            let chain = file.chain.iter().map(|path| size_of::<Vec<u8>>() + path.len()).sum::<usize>();
            size_of::<Examined>() + chain + file.facts.iter().map(Fact::bytes).sum::<usize>()
        };
        self.files.iter().map(|one| file(one) as u64).sum()
    }
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
    /// An OS package's documentation is that of another.
    SameLicences {
        /// Which package.
        package: String,
        /// The other's name.
        of: String,
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
    /// The build identifier of an ELF file in which components are, in hexadecimal digits.
    BuildId(String),
    /// The file, or a part of it, was not examined; why.
    Unexamined(String),
}

impl Fact {
    /// Bytes of memory that it takes up, more or less.
    pub(super) fn bytes(&self) -> usize {
        let texts = |texts: &[String]| texts.iter().map(|text| size_of::<String>() + text.len()).sum::<usize>();
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        size_of::<Self>()
            + match self {
                Self::Component(component) => {
                    let source = component.source.as_ref().map_or(0, |source| source.name.len() + source.version.len());
                    let own = component.name.len() + component.version.len() + optional(&component.architecture);
                    own + source + texts(&component.licences)
                }
                Self::System(_) => os_release::VALUE_BYTES_MAX,
                Self::Owns { package, paths } => package.bytes() + size_of_val(&**paths),
                Self::Licence { package, licences } => package.bytes() + texts(licences),
                Self::Origin { package, vendor, module } => package.bytes() + optional(vendor) + optional(module),
                Self::SameLicences { package, of } => package.len() + of.len(),
                Self::Secret(secret) => secret.excerpt.len(),
                Self::BuildId(text) | Self::Unexamined(text) => text.len(),
            }
    }
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

impl Package {
    fn bytes(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.name.len() + optional(&self.version) + optional(&self.architecture)
    }
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
