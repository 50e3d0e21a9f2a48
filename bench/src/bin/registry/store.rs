//! Large stores, made in seconds: rows and names of files as many pushes would leave them.

use std::path::{Path, PathBuf};

use rusqlite::params;

use crate::image;
use crate::server::Server;
use crate::wire::{Connection, sha256};

/// Names that one file may have on ext4, with room.
const LINKS_MAX: u64 = 60_000;
const CONTENT: &[u8] = b"content";
const CONTENT_SIZE: i64 = CONTENT.len() as i64;
/// Rows in front of what else happens: nothing in these stores is due for anything.
const LATER: i64 = i64::MAX / 2;
pub(crate) const REPOSITORY: &str = "team/app";

/// The rows of a hub that does not run, and the folder of its blobs.
pub(crate) struct Fill {
    database: rusqlite::Connection,
    folder: PathBuf,
    data: PathBuf,
    source: PathBuf,
    files: u64,
}

impl Fill {
    /// Begins: a hub makes the tables and takes one image, `v1`, with the configuration that all others share.
    pub(crate) async fn begin(binary: &Path, data: &Path) -> anyhow::Result<(Self, String)> {
        let (blobs, manifest) = image::small(3);
        let hub = Server::longshore(binary, data).await?;
        let mut connection = Connection::open(hub.address).await?;
        for (digest, bytes) in &blobs {
            connection.push_blob(REPOSITORY, digest, &[bytes]).await?;
        }
        connection.push_manifest(REPOSITORY, "v1", manifest.as_bytes()).await?;
        hub.stop()?;
        let config = blobs.last().map(|(digest, _)| digest.clone()).unwrap_or_default();
        let database = rusqlite::Connection::open(data.join("registry.sqlite"))?;
        database.execute_batch("BEGIN")?;
        let folder = data.join("registry/blobs/sha256");
        Ok((Self { database, folder, data: data.to_owned(), source: PathBuf::new(), files: 0 }, config))
    }

    /// A blob under a name that looks like a hash, in a repository. Its bytes are a file under many names: nobody reads
    /// them.
    pub(crate) fn blob(&mut self, repository: &str) -> anyhow::Result<(String, PathBuf)> {
        if self.files.is_multiple_of(LINKS_MAX) {
            self.source = self.data.join(format!("bytes{}", self.files));
            std::fs::write(&self.source, CONTENT)?;
        }
        self.files += 1;
        // The multiplication spreads the names as hashes are spread.
        let hex = format!("{:016x}{:048x}", self.files.wrapping_mul(0x9E37_79B9_7F4A_7C15), self.files);
        let path = self.folder.join(&hex[..2]).join(&hex);
        std::fs::hard_link(&self.source, &path)?;
        let digest = format!("sha256:{hex}");
        self.run(
            "INSERT INTO repository_blobs (repository, digest, size, linked_at) VALUES (?1, ?2, ?3, ?4)",
            params![repository, digest, CONTENT_SIZE, LATER],
        )?;
        self.run(
            "INSERT INTO blobs (digest, size, state, scrubbed_at) VALUES (?1, ?2, 'kept', ?3)",
            params![digest, CONTENT_SIZE, LATER],
        )?;
        Ok((digest, path))
    }

    /// An image of the shared configuration and one layer of its own, tagged. Gives the manifest's digest.
    pub(crate) fn image(&mut self, config: &str, layer: &str, tag: &str) -> anyhow::Result<String> {
        let config_bytes = image::config();
        let layers = [(layer.to_owned(), CONTENT.len() as u64)];
        let manifest = image::manifest((config, config_bytes.len() as u64), &layers);
        let digest = sha256(&[manifest.as_bytes()]);
        self.run(
            "INSERT INTO manifests (repository, digest, media_type, bytes, size, annotations, pushed_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, '{}', ?6)",
            params![REPOSITORY, digest, image::MANIFEST_TYPE, manifest.as_bytes(), manifest.len() as i64, LATER],
        )?;
        for need in [config, layer] {
            self.run(
                "INSERT INTO manifest_needs (repository, manifest, digest) VALUES (?1, ?2, ?3)",
                params![REPOSITORY, digest, need],
            )?;
        }
        self.run(
            "INSERT INTO tags (repository, tag, digest, updated_at) VALUES (?1, ?2, ?3, ?4)",
            params![REPOSITORY, tag, digest, LATER],
        )?;
        Ok(digest)
    }

    fn run(&self, statement: &str, values: impl rusqlite::Params) -> rusqlite::Result<()> {
        self.database.prepare_cached(statement)?.execute(values).map(drop)
    }

    pub(crate) fn end(self) -> anyhow::Result<()> {
        Ok(self.database.execute_batch("COMMIT")?)
    }
}
