//! The Compose Specification's model: parse, interpolate, merge, normalise, validate.
//!
//! Pure: no files, no environment, no clock; the caller hands in texts and a way to look variables up. Nothing of a file
//! is ignored in silence: a key is understood, or refused by name and line. What aliases and variables multiply is
//! bounded, and no text makes it panic (`fuzz/fuzz_targets/compose_load.rs`).

mod assemble;
mod diagnostic;
mod dotenv;
mod field;
mod interpolate;
mod merge;
pub mod model;
mod normalise;
mod scalar;
mod schema;
mod shape;
mod stage;
mod validate;
mod yaml;

use std::collections::BTreeMap;

use assemble::Assembler;
use diagnostic::Findings;
pub use diagnostic::{ComposeError, Diagnostic};
use field::Field;
pub use model::{Project, Service, ServiceDefinition};
use schema::Kind;
use stage::Context;
pub use stage::{Reader, Stage};

/// Files that can be laid over one another.
pub const SOURCES_MAX: usize = 16;

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

/// Loads a project from files, each laid over those before it.
///
/// `stage` says what for, and reads the files that the Compose files name. `environment` looks variables up, for `${…}`
/// and for entries of `environment` and `args` without a value. Errors with all that is wrong, up to a bound, in the order
/// of files and lines.
pub fn load(
    files: &[Source<'_>],
    stage: Stage<'_>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, ComposeError> {
    let context = Context::new(stage, environment);
    let mut findings = Findings::new(files.iter().map(|file| file.name));
    let start = yaml::Mark { file: 0, line: 1, column: 1 };
    if files.is_empty() || files.len() > SOURCES_MAX {
        let what = format!("a project has 1 to {SOURCES_MAX} Compose files, not {}", files.len());
        findings.error(start, "", what);
    }
    let top = Kind::Section(schema::TOP);
    let merged = Assembler::new(&context, &mut findings).project(files.get(..SOURCES_MAX).unwrap_or(files));
    let mut project = Project::default();
    if let (Some(mut root), false) = (merged, findings.failed()) {
        shape::check(&root, top, stage, "", &mut findings);
        if !context.workspace() {
            shape::prune(&mut root, top, stage);
        }
        let field = Field::root(&root);
        project = normalise::project(&field, &context, &mut findings);
        validate::project(&project, &field, &mut findings);
    }
    findings.finish().map(|warnings| Loaded { project, warnings })
}

/// The variables in a file such as `.env`, by name. `environment` looks up what their values refer to, before those of the
/// file itself; a name without a value that it does not have is left out.
pub fn variables(
    file: Source<'_>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, ComposeError> {
    let mut findings = Findings::new([file.name]);
    let values = dotenv::parse(file.text, 0, dotenv::Format::default(), environment, &mut findings);
    findings.finish()?;
    Ok(values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}
