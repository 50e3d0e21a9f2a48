//! Reads advisories from a folder, an archive or a file, and the lists that come beside them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use jiff::Timestamp;

use super::{Gathered, RecordsError, Taken};
use crate::advisory::epss::{Epss, EpssError};
use crate::advisory::kev::{self, Catalogue, CatalogueError};
use crate::advisory::osv::{Advisory, MAX_ADVISORY_BYTES};
use crate::archive::{self, Budget, Decoder, HEAD_BYTES, Kind, Limits, Source, Spool, escaped, zip};
use crate::cataloger::file_name;
use crate::content::Content;
use crate::tar;

/// Folders within folders that are walked.
const FOLDERS_MAX: usize = 32;
/// What could not be read and is told one by one.
const NOTES_MAX: usize = 20;
/// How the names of files end that are read in folders and archives.
const ENDINGS: [&[u8]; 11] =
    [b".json", b".csv", b".zip", b".tar", b".tgz", b".gz", b".zst", b".xz", b".bz2", b".tzst", b".txz"];

/// What one source had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Advisories that are new, or in a later version than elsewhere.
    pub kept: u64,
    /// Those that are withdrawn.
    pub withdrawn: u64,
    /// Those that another source has in the same version or a later one.
    pub older: u64,
    /// Entries of a list of vulnerabilities that are known to be exploited (KEV).
    pub exploited: u64,
    /// Entries of a list of likelihoods (EPSS).
    pub likelihoods: u64,
    /// What could not be read.
    pub unread: u64,
    /// What could not be read and why, the first of them.
    pub notes: Vec<String>,
}

/// Why a source cannot be read. Nothing of it may be kept.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Reading failed.
    #[error("{what}: {source}")]
    Read {
        /// What was being read.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// An archive is broken, or over a limit.
    #[error("{what}: {source}")]
    Archive {
        /// Which.
        what: String,
        /// What is wrong.
        source: archive::Error,
    },
    /// A tar is broken.
    #[error("{what}: {source}")]
    Tar {
        /// Which.
        what: String,
        /// What is wrong.
        source: tar::Error,
    },
    /// A list of likelihoods cannot be read.
    #[error("{what}: {source}")]
    Epss {
        /// Which.
        what: String,
        /// What is wrong.
        source: EpssError,
    },
    /// A list of exploited vulnerabilities cannot be read.
    #[error("{what}: {source}")]
    Kev {
        /// Which.
        what: String,
        /// What is wrong.
        source: CatalogueError,
    },
    /// There is too much.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// There is nothing of use in it.
    #[error("there is no advisory in it{0}")]
    Nothing(String),
}

/// Reads what lies at `path`, a folder, an archive or a file, as a source of that name. Unnamed temporary files are made
/// in `folder`.
///
/// # Errors
/// It cannot be read, or nothing of use is in it. An advisory that cannot be read is told in the report.
pub fn read(
    path: &Path,
    name: &str,
    folder: &Path,
    gathered: &mut Gathered,
    now: Timestamp,
) -> Result<Report, ReadError> {
    let source = gathered.begin(name, now)?;
    let failed = |error| ReadError::Read { what: path.display().to_string(), source: error };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    let length = if metadata.is_dir() { u64::MAX } else { metadata.len() };
    let budget = Budget::new(Limits::default(), length);
    let mut reading = Reading { gathered, source, now, folder, report: Report::default() };
    if metadata.is_dir() {
        reading.folder(path, &budget, 0)?;
    } else {
        let file = File::open(path).map_err(failed)?;
        let name = path.file_name().unwrap_or(path.as_os_str()).as_bytes();
        reading.content(name, Content::file(&file, 0, length), &budget)?;
    }
    let report = reading.report;
    if report.kept + report.withdrawn + report.older + report.exploited + report.likelihoods == 0 {
        return Err(ReadError::Nothing(report.notes.first().map(|note| format!(": {note}")).unwrap_or_default()));
    }
    Ok(report)
}

struct Reading<'g> {
    gathered: &'g mut Gathered,
    source: u16,
    now: Timestamp,
    folder: &'g Path,
    report: Report,
}

impl Reading<'_> {
    fn folder(&mut self, folder: &Path, budget: &Budget, depth: usize) -> Result<(), ReadError> {
        let failed = |path: &Path| {
            let what = path.display().to_string();
            move |error| ReadError::Read { what, source: error }
        };
        let entries = std::fs::read_dir(folder).and_then(|entries| {
            let mut names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
            names.sort_unstable();
            Ok(names)
        });
        for name in entries.map_err(failed(folder))? {
            let path = folder.join(&name);
            let metadata = std::fs::symlink_metadata(&path).map_err(failed(&path))?;
            if metadata.is_dir() {
                match depth {
                    ..FOLDERS_MAX => self.folder(&path, budget, depth + 1)?,
                    _ => self.unread(&path.display().to_string(), "too many folders within one another"),
                }
            } else if metadata.is_file() && is_read(name.as_bytes()) {
                let file = File::open(&path).map_err(failed(&path))?;
                self.content(name.as_bytes(), Content::file(&file, 0, metadata.len()), budget)?;
            }
        }
        Ok(())
    }

    fn content(&mut self, name: &[u8], content: Content<'_>, budget: &Budget) -> Result<(), ReadError> {
        let length = HEAD_BYTES.min(usize::try_from(content.len()).unwrap_or(HEAD_BYTES));
        let head = content.read(0, length).map_err(|error| ReadError::Read { what: escaped(name), source: error })?;
        match archive::kind(file_name(name), &head) {
            Some(Kind::Zip) => self.zip(name, content, budget),
            _ => self.stream(name, &mut Source::new(content), budget),
        }
    }

    fn zip(&mut self, name: &[u8], content: Content<'_>, budget: &Budget) -> Result<(), ReadError> {
        let broken = |error| ReadError::Archive { what: escaped(name), source: error };
        let archive = zip::Archive::open(content).map_err(broken)?;
        let mut entries = archive.entries(budget).map_err(broken)?;
        while let Some(entry) = entries.next_entry().map_err(broken)? {
            if !entry.is_directory() && !entry.is_symlink() && is_read(entry.name()) {
                let mut reader = BufReader::new(entry.reader().map_err(broken)?);
                let inner = entry.name().to_vec();
                self.stream(&inner, &mut reader, budget)?;
            }
        }
        Ok(())
    }

    fn stream(&mut self, name: &[u8], mut input: &mut dyn BufRead, budget: &Budget) -> Result<(), ReadError> {
        let failed = |error| ReadError::Read { what: escaped(name), source: error };
        let broken = |error| ReadError::Archive { what: escaped(name), source: error };
        let mut head = Vec::with_capacity(HEAD_BYTES);
        (&mut input).take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(failed)?;
        let kind = archive::kind(file_name(name), &head);
        let mut whole = head.as_slice().chain(input);
        match kind {
            Some(Kind::Compressed(compression)) => {
                let mut decoder = Decoder::new(compression, &mut whole as &mut dyn BufRead, budget).map_err(broken)?;
                self.stream(name, &mut decoder, budget)
            }
            Some(Kind::Tar) => self.tar(name, &mut whole, budget),
            Some(Kind::Zip) => {
                let spool = Spool::new(whole, self.folder, budget).map_err(broken)?;
                self.zip(name, spool.content(), budget)
            }
            Some(_) => {
                self.unread(&escaped(name), "archives of this kind are not read");
                Ok(())
            }
            None => self.document(name, &head.clone(), &mut whole),
        }
    }

    fn tar(&mut self, name: &[u8], input: &mut dyn BufRead, budget: &Budget) -> Result<(), ReadError> {
        let _level =
            budget.enter().map_err(|error| ReadError::Archive { what: escaped(name), source: error.into() })?;
        let mut archive = tar::Archive::new(tar::Stream(input));
        let broken = |error| ReadError::Tar { what: escaped(name), source: error };
        while let Some(mut entry) = archive.next().map_err(broken)? {
            budget.entry().map_err(|error| ReadError::Archive { what: escaped(name), source: error.into() })?;
            if entry.is_file() && is_read(entry.path) {
                let path = entry.path.to_vec();
                match entry.reader() {
                    Some(mut reader) => self.stream(&path, &mut reader, budget)?,
                    None => self.unread(&escaped(&path), "it is sparse"),
                }
            }
        }
        Ok(())
    }

    /// An advisory, or one of the lists.
    fn document(&mut self, name: &[u8], head: &[u8], input: &mut dyn BufRead) -> Result<(), ReadError> {
        let start = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
        if start.starts_with(b"#model_version") || start.starts_with(b"cve,epss") {
            let list = Epss::read(input).map_err(|error| ReadError::Epss { what: escaped(name), source: error })?;
            self.report.likelihoods += list.len() as u64;
            list.notes.iter().for_each(|note| self.unread(&escaped(name), note));
            self.gathered.lists.likelihoods = list;
            return Ok(());
        }
        if !start.starts_with(b"{") {
            return Ok(());
        }
        let most = MAX_ADVISORY_BYTES.max(kev::MAX_CATALOGUE_BYTES) as u64 + 1;
        let mut bytes = Vec::new();
        input
            .take(most)
            .read_to_end(&mut bytes)
            .map_err(|error| ReadError::Read { what: escaped(name), source: error })?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let has = |word: &[u8]| memchr::memmem::find(bytes, word).is_some();
        if has(b"\"vulnerabilities\"") && (has(b"\"cveID\"") || has(b"\"catalogVersion\"")) {
            let list =
                Catalogue::parse(bytes).map_err(|error| ReadError::Kev { what: escaped(name), source: error })?;
            self.report.exploited += list.entries.len() as u64;
            list.notes.iter().for_each(|note| self.unread(&escaped(name), note));
            self.gathered.exploited(list);
            return Ok(());
        }
        match Advisory::parse(bytes) {
            Ok(advisory) => match self.gathered.add(self.source, &advisory, self.now)? {
                Taken::Kept => self.report.kept += 1,
                Taken::Withdrawn => self.report.withdrawn += 1,
                Taken::Older => self.report.older += 1,
            },
            Err(error) => {
                self.gathered.unread(self.source);
                self.unread(&escaped(name), &error.to_string());
            }
        }
        Ok(())
    }

    fn unread(&mut self, what: &str, why: &str) {
        self.report.unread += 1;
        if self.report.notes.len() < NOTES_MAX {
            self.report.notes.push(format!("{what}: {why}"));
        }
    }
}

/// Whether files of that name are read in folders and archives.
fn is_read(name: &[u8]) -> bool {
    let name = file_name(name);
    ENDINGS.iter().any(|ending| {
        name.len()
            .checked_sub(ending.len())
            .and_then(|at| name.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(ending))
    })
}
