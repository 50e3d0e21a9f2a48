//! What a project is loaded for, and how files that its Compose files name are read.

use std::cell::Cell;

use crate::interpolate::Environment;

/// Files that are read for one project, beside its Compose files.
pub(crate) const READS_MAX: usize = 256;
/// Bytes of all these files.
pub(crate) const READ_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Reads a file that a Compose file names: its text, or `None` when there is no such file.
///
/// The path is relative to the folder of the first Compose file (it may begin with `../`), absolute, or from `~`. The
/// error says why the file cannot be read; a reader bounds what it reads by itself as well.
pub type Reader<'a> = &'a dyn Fn(&str) -> Result<Option<String>, String>;

/// What a project is loaded for.
#[derive(Clone, Copy)]
pub enum Stage<'a> {
    /// For environments: nothing but the Compose files themselves counts, and nothing of a host is reached.
    Release,
    /// For a developer's own machine: the Compose Specification in full, with a way to read the files it names.
    Workspace(Reader<'a>),
}

/// What stays the same while one project is loaded.
pub(crate) struct Context<'a> {
    pub(crate) stage: Stage<'a>,
    pub(crate) environment: Environment<'a>,
    reads: Cell<usize>,
    read_bytes: Cell<usize>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(stage: Stage<'a>, environment: Environment<'a>) -> Self {
        Context { stage, environment, reads: Cell::new(0), read_bytes: Cell::new(0) }
    }

    /// Whether the project is for a developer's machine.
    pub(crate) fn workspace(&self) -> bool {
        matches!(self.stage, Stage::Workspace(_))
    }

    /// The text of a file, or `None` when there is none.
    pub(crate) fn read(&self, path: &str) -> Result<Option<String>, String> {
        let Stage::Workspace(reader) = self.stage else { return Err("a release has no files beside it".to_owned()) };
        self.reads.set(self.reads.get() + 1);
        if self.reads.get() > READS_MAX {
            return Err(format!("the project names more than {READS_MAX} files"));
        }
        let text = reader(path)?;
        self.read_bytes.set(self.read_bytes.get() + text.as_ref().map_or(0, String::len));
        if self.read_bytes.get() > READ_BYTES_MAX {
            return Err(format!("the files that the project names have more than {READ_BYTES_MAX} bytes"));
        }
        Ok(text)
    }
}
