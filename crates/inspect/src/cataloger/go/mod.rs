//! Go build information: what the Go linker writes into every program since Go 1.13.

mod blob;
mod modules;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashSet;

use crate::cataloger::Found;
use crate::component::{Component, Ecosystem, Evidence};
use crate::executable::{ExecutableError, Executables};

pub use blob::{MODULES_BYTES_MAX, VERSION_BYTES_MAX, read};
pub use modules::{BuildInformation, MODULES_MAX, Module, SETTINGS_MAX, parse};

/// The name that advisories give the standard library and the toolchain.
pub const STANDARD_LIBRARY: &str = "stdlib";
/// What Go writes for a version that it does not know.
const DEVELOPMENT: &str = "(devel)";

/// Why a program's build information was not read.
#[derive(Debug, thiserror::Error)]
pub enum GoError {
    /// The program could not be read.
    #[error("Go build information: {0}")]
    Executable(#[from] ExecutableError),
    /// It is there and is broken.
    #[error("Go build information at byte {at}: {what}")]
    Broken {
        /// Where it begins in the image.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// The components of a program: its modules, those that replaced others in their place, and the standard library.
/// Nothing for a program that is not Go's.
pub fn catalog(executables: &Executables<'_>) -> Found {
    let mut found = Found::default();
    let mut seen = HashSet::new();
    for image in &executables.images {
        match read(image) {
            Ok(None) => {}
            Ok(Some(information)) => {
                for component in components(&information) {
                    if seen.insert((component.name.clone(), component.version.clone())) {
                        found.components.push(component);
                    }
                }
                found.notes.extend(information.notes);
            }
            Err(error) => found.notes.push(error.to_string()),
        }
    }
    found
}

/// The components that build information speaks of, the main module first.
pub fn components(information: &BuildInformation) -> Vec<Component> {
    let mut components = Vec::new();
    match &information.main {
        Some(main) => components.push(main_component(information, main)),
        // Built outside modules: the main package's path begins with the name that its module would have.
        None if is_remote(&information.path) => {
            let main = Module { path: information.path.clone(), ..Module::default() };
            components.push(Component { evidence: Evidence::Inferred, ..main_component(information, &main) });
        }
        None => {}
    }
    components.extend(information.dependencies.iter().map(|module| match &module.replacement {
        Some(by) if !is_folder(&by.path) => component(&by.path, &by.version, Evidence::Installed),
        // Code from a folder has the original's name only by its author's word.
        Some(_) => component(&module.path, &module.version, Evidence::Inferred),
        None => component(&module.path, &module.version, Evidence::Installed),
    }));
    let version = release(&information.go_version);
    if !version.is_empty() {
        components.push(component(STANDARD_LIBRARY, version, Evidence::Installed));
    }
    components
}

/// The main module, whose version Go knows only when it was built as a module of that version, or from a tagged
/// repository since Go 1.24. Otherwise authors set a variable of theirs by the linker's flags.
fn main_component(information: &BuildInformation, main: &Module) -> Component {
    let main = main.replacement.as_deref().filter(|by| !is_folder(&by.path)).unwrap_or(main);
    if !main.version.is_empty() && main.version != DEVELOPMENT {
        return component(&main.path, &main.version, Evidence::Installed);
    }
    match information.setting("-ldflags").and_then(|flags| modules::flag_version(flags, &main.path)) {
        Some(version) => component(&main.path, &version, Evidence::Inferred),
        None => component(&main.path, "", Evidence::Installed),
    }
}

fn component(name: &str, version: &str, evidence: Evidence) -> Component {
    let version = if version == DEVELOPMENT { "" } else { version };
    Component {
        ecosystem: Ecosystem::Go,
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: None,
        source: None,
        licences: Vec::new(),
        evidence,
    }
}

/// Whether a package comes from somewhere: the first part of such a path is a host's name.
fn is_remote(path: &str) -> bool {
    path.split_once('/').is_some_and(|(host, _)| host.contains('.') && !is_folder(path))
}

/// Whether a replacement is a folder on the builder's machine rather than a module.
fn is_folder(path: &str) -> bool {
    path.starts_with("./")
        || path.starts_with("../")
        || path.starts_with('/')
        || path.starts_with('\\')
        || path.get(1..3).is_some_and(|drive| drive == ":\\" || drive == ":/")
}

/// A toolchain's version as Go's advisories write it: `1.22.1` of `go1.22.1 X:boringcrypto`, and `1.24-abcdef` of
/// `devel go1.24-abcdef Tue Nov 5 …`. Empty where it names no release.
fn release(version: &str) -> &str {
    let version = version.strip_prefix("devel ").unwrap_or(version);
    let version = version.split(' ').next().unwrap_or_default();
    version.strip_prefix("go").filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit())).unwrap_or_default()
}
