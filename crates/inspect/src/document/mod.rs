//! The documents that Longshore writes about what an image holds, and those of others that it reads.
//!
//! [`Contents`] is what is known of one image. [`cyclonedx`], [`spdx`], [`sarif`] and [`json`] write it: sorted, with
//! identifiers that are hashes of the content and the image's own time, so that the same contents make the same bytes
//! in whatever order they were found. [`read`] reads software bills of materials, [`vex`] reads statements on
//! exploitability, [`trivyignore`] reads the list of what a team has decided to ignore.

mod contents;
pub mod cyclonedx;
mod emit;
pub mod json;
mod ordered;
pub mod read;
pub mod sarif;
pub mod spdx;
#[cfg(test)]
mod tests;
pub mod trivyignore;
pub mod vex;

pub use contents::{
    Contents, Cvss, Epss, Finding, Found, Hash, HashAlgorithm, Heard, Ignored, Image, Layer, Licence, Matched,
    OperatingSystem, Place, Platform, Secret, Severity, Source, Tool, Unexamined, Verdict,
};
pub use ordered::WriteError;
