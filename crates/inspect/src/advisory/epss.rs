//! EPSS: how likely a vulnerability is to be exploited within 30 days. Reads the daily CSV, unpacked.

use std::io::{self, BufRead};

use jiff::Timestamp;

#[cfg(test)]
mod tests;

/// The longest line that is read, in bytes.
pub const MAX_LINE_BYTES: usize = 1024;
/// The most lines of a list.
pub const MAX_LINES: usize = 4_000_000;
/// Bytes of an entry, as [`Epss::to_bytes`] writes it.
const ENTRY_BYTES: usize = 14;
/// The most lines that cannot be read and are told one by one.
const MAX_NOTES: usize = 20;

/// The list of one day.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Epss {
    /// The model's version; empty where the list does not state it.
    pub model: String,
    /// The day that it is for.
    pub date: Option<Timestamp>,
    /// In order of their CVEs.
    entries: Vec<(Cve, Likelihood)>,
    /// Lines that cannot be read.
    pub notes: Vec<String>,
}

/// How likely one vulnerability is to be exploited.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likelihood {
    /// The probability, 0 to 1.
    pub score: f32,
    /// The share of all vulnerabilities that are no more likely, 0 to 1.
    pub percentile: f32,
}

/// A CVE's year and number.
type Cve = (u16, u32);

/// Why a list cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EpssError {
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A line is longer than [`MAX_LINE_BYTES`].
    #[error("line {line} of the EPSS list is longer than {MAX_LINE_BYTES} bytes")]
    Line {
        /// Which, from 1.
        line: usize,
    },
    /// There are more than [`MAX_LINES`].
    #[error("an EPSS list of more than {MAX_LINES} lines")]
    TooMany,
    /// The line that names the columns is missing, or names others.
    #[error("not an EPSS list: there is no line \"cve,epss,percentile\"")]
    Columns,
}

impl Epss {
    /// Reads a list to its end. A line that cannot be read is told in the notes.
    ///
    /// # Errors
    /// Where it is no such list, reading fails, or a limit of this module is passed.
    pub fn read(mut from: impl BufRead) -> Result<Self, EpssError> {
        let mut epss = Self::default();
        let mut buffer = Vec::with_capacity(MAX_LINE_BYTES);
        let (mut columns, mut unread, mut line) = (false, 0_usize, 0_usize);
        loop {
            line += 1;
            if !read_line(&mut from, &mut buffer, line)? {
                break;
            }
            if line > MAX_LINES {
                return Err(EpssError::TooMany);
            }
            let text = buffer.trim_ascii();
            if let Some(comment) = text.strip_prefix(b"#") {
                epss.header(&String::from_utf8_lossy(comment));
            } else if text.is_empty() {
            } else if !columns {
                if text != b"cve,epss,percentile" {
                    return Err(EpssError::Columns);
                }
                columns = true;
            } else if let Some(entry) = entry(text) {
                epss.entries.push(entry);
            } else {
                unread += 1;
                if epss.notes.len() < MAX_NOTES {
                    epss.notes.push(format!("line {line} cannot be read"));
                }
            }
        }
        if !columns {
            return Err(EpssError::Columns);
        }
        if unread > epss.notes.len() {
            epss.notes.push(format!("{unread} lines cannot be read"));
        }
        epss.entries.sort_by_key(|(cve, _)| *cve);
        epss.entries.dedup_by_key(|(cve, _)| *cve);
        epss.entries.shrink_to_fit();
        Ok(epss)
    }

    /// The likelihood for a CVE; `None` where the list does not have it.
    pub fn get(&self, cve: &str) -> Option<Likelihood> {
        let cve = self::cve(cve.as_bytes())?;
        let at = self.entries.binary_search_by_key(&cve, |(cve, _)| *cve).ok()?;
        self.entries.get(at).map(|(_, likelihood)| *likelihood)
    }

    /// The list in few bytes, which [`Epss::from_bytes`] reads.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.model.len() + 16 + ENTRY_BYTES * self.entries.len());
        bytes.extend(self.date.map_or(i64::MIN, Timestamp::as_second).to_le_bytes());
        bytes.extend(u32::try_from(self.model.len()).unwrap_or_default().to_le_bytes());
        bytes.extend(self.model.as_bytes());
        for ((year, number), likelihood) in &self.entries {
            bytes.extend(year.to_le_bytes());
            bytes.extend(number.to_le_bytes());
            bytes.extend(likelihood.score.to_le_bytes());
            bytes.extend(likelihood.percentile.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`Epss::to_bytes`] wrote; `None` where it is something else.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (seconds, bytes) = bytes.split_first_chunk()?;
        let (length, bytes) = bytes.split_first_chunk()?;
        let (model, bytes) = bytes.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        if bytes.len() % ENTRY_BYTES != 0 || bytes.len() / ENTRY_BYTES > MAX_LINES {
            return None;
        }
        let entry = |bytes: &[u8]| {
            let (year, bytes) = bytes.split_first_chunk()?;
            let (number, bytes) = bytes.split_first_chunk()?;
            let (score, bytes) = bytes.split_first_chunk()?;
            let score = f32::from_le_bytes(*score);
            let percentile = f32::from_le_bytes(*bytes.first_chunk()?);
            Some(((u16::from_le_bytes(*year), u32::from_le_bytes(*number)), Likelihood { score, percentile }))
        };
        Some(Self {
            model: String::from_utf8(model.to_vec()).ok()?,
            date: Timestamp::from_second(i64::from_le_bytes(*seconds)).ok(),
            entries: bytes.chunks_exact(ENTRY_BYTES).map(entry).collect::<Option<_>>()?,
            notes: Vec::new(),
        })
    }

    /// How many CVEs the list has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// `model_version:v2025.03.14,score_date:2026-01-02T00:00:00+0000`
    fn header(&mut self, comment: &str) {
        for (name, value) in comment.split(',').filter_map(|part| part.split_once(':')) {
            match name.trim() {
                "model_version" => self.model = value.trim().to_owned(),
                "score_date" => self.date = value.trim().parse().ok(),
                _ => {}
            }
        }
    }
}

/// The next line without its end; `false` at the end of the list.
fn read_line(from: &mut impl BufRead, buffer: &mut Vec<u8>, line: usize) -> Result<bool, EpssError> {
    buffer.clear();
    let mut began = false;
    loop {
        let available = match from.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        if available.is_empty() {
            return Ok(began);
        }
        began = true;
        let end = memchr::memchr(b'\n', available);
        let part = available.get(..end.unwrap_or(available.len())).unwrap_or_default();
        if buffer.len() + part.len() > MAX_LINE_BYTES {
            return Err(EpssError::Line { line });
        }
        buffer.extend_from_slice(part);
        let taken = part.len() + usize::from(end.is_some());
        from.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
    }
}

fn entry(line: &[u8]) -> Option<(Cve, Likelihood)> {
    let mut fields = str::from_utf8(line).ok()?.split(',');
    let cve = cve(fields.next()?.as_bytes())?;
    let mut share = || fields.next()?.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    let likelihood = Likelihood { score: share()?, percentile: share()? };
    Some((cve, likelihood))
}

fn cve(text: &[u8]) -> Option<Cve> {
    let text = str::from_utf8(text).ok()?.strip_prefix("CVE-")?;
    let (year, number) = text.split_once('-')?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if year.len() != 4 || number.len() < 4 || !is_number(year) || !is_number(number) {
        return None;
    }
    Some((year.parse().ok()?, number.parse().ok()?))
}
