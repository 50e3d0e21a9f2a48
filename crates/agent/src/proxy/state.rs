//! The last table on disk, so that a proxy that starts again serves at once.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ProxyError;
use super::table::Table;

/// Version of the file's form; a file of another version is not read but written anew by the next table.
const FORM: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Saved<T> {
    form: u32,
    table: T,
}

/// Reads the table kept in `path`; none when there is no file. A file that makes no sense is put aside as
/// `PATH.unreadable`, because a proxy that serves nothing until the next table is better than none.
pub(crate) fn load(path: &Path) -> Result<Option<Table>, ProxyError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ProxyError::StateFile { path: path.into(), source }),
    };
    let why = match serde_json::from_slice::<Saved<Table>>(&bytes) {
        Ok(saved) if saved.form != FORM => format!("it has form {}, this program reads {FORM}", saved.form),
        Ok(saved) => match saved.table.validate() {
            Ok(()) => return Ok(Some(saved.table)),
            Err(e) => e.to_string(),
        },
        Err(e) => e.to_string(),
    };
    let aside = beside(path, "unreadable");
    tracing::error!(file = %path.display(), kept_as = %aside.display(), why, "the last table cannot be used: starting empty");
    fs::rename(path, &aside).map_err(|source| ProxyError::StateFile { path: path.into(), source })?;
    Ok(None)
}

/// Keeps `table` in `path`: when this returns, it survives a power loss; a failure leaves the table before.
pub(crate) fn save(path: &Path, table: &Table) -> io::Result<()> {
    let new = beside(path, "new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(&Saved { form: FORM, table })?)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// `path` with `.suffix` added to its last part.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}
