//! What a cataloger says: components, with what speaks for them.

use std::fmt;

/// Where a component's name and version order come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ecosystem {
    /// Debian and Ubuntu packages.
    Deb,
    /// RPM packages.
    Rpm,
    /// Alpine packages.
    Apk,
    /// Java: `group:artifact`, or the artifact alone where no group is known.
    Maven,
    /// Python distributions.
    PyPi,
    /// npm packages, `@scope/name` included.
    Npm,
    /// Go modules, by module path; the toolchain is `stdlib`.
    Go,
    /// Rust crates.
    Cargo,
    /// Ruby gems.
    Gem,
    /// PHP packages, `vendor/name`.
    Composer,
    /// .NET packages.
    NuGet,
    /// A program known by its own version string; in no package ecosystem.
    Generic,
}

impl Ecosystem {
    /// A word for it, lowercase.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Rpm => "rpm",
            Self::Apk => "apk",
            Self::Maven => "maven",
            Self::PyPi => "pypi",
            Self::Npm => "npm",
            Self::Go => "go",
            Self::Cargo => "cargo",
            Self::Gem => "gem",
            Self::Composer => "composer",
            Self::NuGet => "nuget",
            Self::Generic => "generic",
        }
    }
}

/// What speaks for a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evidence {
    /// A package manager's record of what it installed, or build information that the compiler wrote.
    Installed,
    /// A package's own archive or files, a lock file: it is there, though nothing says that it is installed.
    Contained,
    /// Concluded from names, fingerprints or version strings.
    Inferred,
}

/// One component that one file speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Whose name and version order.
    pub ecosystem: Ecosystem,
    /// The full name in the ecosystem's own form, never normalised: `@babel/core`, `org.slf4j:slf4j-api`.
    pub name: String,
    /// As the ecosystem writes it, epoch and revision included; empty where it is not known.
    pub version: String,
    /// The package's architecture, as OS packages state it.
    pub architecture: Option<String>,
    /// The source package that it was built from, where that is named otherwise or has another version.
    pub source: Option<Source>,
    /// Licences as stated, each whole: an SPDX expression, a name, or what else stood there.
    pub licences: Vec<String>,
    /// What speaks for it.
    pub evidence: Evidence,
}

/// The source package of an OS package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Evidence {
    /// A word for it, lowercase.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Contained => "contained",
            Self::Inferred => "inferred",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {}", self.ecosystem, self.name, self.version)
    }
}
