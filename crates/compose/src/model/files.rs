//! Configs and secrets: small files that services are given. Workspaces only.

use serde::{Deserialize, Serialize};

/// Where the content of a config or a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileSource {
    /// A file: relative to the first Compose file, absolute, or from `~`.
    File(String),
    /// A variable of the environment that the project was loaded with. Its value is not kept here.
    Environment(String),
    /// This text. Never in a secret.
    Content(String),
}

/// A config or secret in a service's containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileGrant {
    /// Key in the project's `configs` or `secrets`.
    pub source: String,
    /// The file's path in the container, absolute.
    pub target: String,
    /// Who owns it; root when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Which group owns it; root's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Permission bits without those that allow writing; 0o444 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}

impl FileGrant {
    /// Whether the file is a copy of its own in the container: what it is made from is no file, or owner or mode are not
    /// that file's. Otherwise the file itself is mounted, and follows every change.
    pub fn is_copied(&self, source: &FileSource) -> bool {
        let as_it_is = self.uid.is_none() && self.gid.is_none() && self.mode.is_none();
        !(as_it_is && matches!(source, FileSource::File(_)))
    }
}
