//! The Compose Specification's model: parse, interpolate, merge, normalise, validate.
//!
//! Pure: no files, no environment, no clock; the caller hands in texts and a way to look variables up. Nothing of a file
//! is ignored in silence: a key is understood, or refused by name and line.

mod diagnostic;
pub mod model;

pub use diagnostic::{ComposeError, Diagnostic};
pub use model::{Project, Service, ServiceDefinition};

/// One Compose file.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Name for messages, such as `compose.prod.yaml`.
    pub name: &'a str,
    /// The file's text.
    pub text: &'a str,
}

/// A project, and what is worth saying of its files though it stops nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The project.
    pub project: Project,
    /// Such as variables that are not set and have no default.
    pub warnings: Vec<Diagnostic>,
}
