//! The example app as a Git repository, and the changes that the demo and the tests make to it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::engine::run;

/// A work tree with its repository.
pub struct Repository {
    folder: PathBuf,
}

impl Repository {
    /// A new repository in `folder` with a copy of `source` as its first commit.
    pub fn create(source: &Path, folder: &Path) -> anyhow::Result<Self> {
        copy(source, folder)?;
        let repository = Self { folder: folder.to_owned() };
        repository.git(&["init", "--quiet", "--initial-branch=main"])?;
        repository.commit("The app")?;
        Ok(repository)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Replaces text in a file, which must have it.
    pub fn edit(&self, file: &str, from: &str, to: &str) -> anyhow::Result<()> {
        let path = self.folder.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("{file} cannot be read"))?;
        anyhow::ensure!(text.contains(from), "{file} has no {from:?} to change");
        std::fs::write(&path, text.replace(from, to))?;
        Ok(())
    }

    /// Commits what is in the work tree and answers the commit's id.
    pub fn commit(&self, message: &str) -> anyhow::Result<String> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message])?;
        Ok(self.git(&["rev-parse", "HEAD"])?.trim().to_owned())
    }

    fn git(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let identity = ["-c", "user.name=demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false"];
        run(Command::new("git").arg("-C").arg(&self.folder).args(identity).args(arguments))
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("{} cannot be read", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
