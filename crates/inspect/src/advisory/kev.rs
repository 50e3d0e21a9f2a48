//! CISA's catalogue of vulnerabilities that are known to be exploited (KEV), in its JSON form.

use std::collections::HashMap;

use jiff::civil::Date;
use serde::Deserialize;
use serde_json::Value;

#[cfg(test)]
mod tests;

/// The largest catalogue that is read, in bytes.
pub const MAX_CATALOGUE_BYTES: usize = 32 << 20;
/// The most entries of a catalogue.
pub const MAX_ENTRIES: usize = 100_000;
/// The most entries that cannot be read and are told one by one.
const MAX_NOTES: usize = 20;

/// The catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Its version, a date with dots.
    pub version: String,
    /// When it was released, as it states; empty where it does not.
    pub released: String,
    /// Its entries by CVE.
    pub entries: HashMap<String, Exploited>,
    /// Entries that cannot be read, and a wrong count. Where there are any, a CVE that is not among the entries is not
    /// known to be free of exploits.
    pub notes: Vec<String>,
}

/// An entry of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exploited {
    /// The CVE.
    #[serde(rename = "cveID")]
    pub cve: String,
    /// Its name.
    #[serde(default)]
    pub vulnerability_name: String,
    /// Since when it is in the catalogue.
    pub date_added: Date,
    /// By when it is to be fixed.
    #[serde(default)]
    pub due_date: Option<Date>,
    /// What is to be done.
    #[serde(default)]
    pub required_action: String,
    /// `Known` where ransomware uses it, otherwise `Unknown`.
    #[serde(default)]
    pub known_ransomware_campaign_use: String,
}

/// Why a catalogue cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// It is larger than [`MAX_CATALOGUE_BYTES`].
    #[error("a KEV catalogue of {length} bytes; at most {MAX_CATALOGUE_BYTES} are read")]
    TooLarge {
        /// Its length in bytes.
        length: usize,
    },
    /// It has more than [`MAX_ENTRIES`].
    #[error("a KEV catalogue of {count} entries; at most {MAX_ENTRIES} are read")]
    TooMany {
        /// How many it has.
        count: usize,
    },
    /// It is not JSON of the catalogue's form.
    #[error("not a KEV catalogue: {0}")]
    Form(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    catalog_version: String,
    #[serde(default)]
    date_released: String,
    #[serde(default)]
    count: Option<usize>,
    vulnerabilities: Vec<Value>,
}

impl Catalogue {
    /// Reads a catalogue. An entry that cannot be read is told in the notes.
    ///
    /// # Errors
    /// Where it is no catalogue, or a limit of this module is passed.
    pub fn parse(bytes: &[u8]) -> Result<Self, CatalogueError> {
        if bytes.len() > MAX_CATALOGUE_BYTES {
            return Err(CatalogueError::TooLarge { length: bytes.len() });
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(|error| CatalogueError::Form(error.to_string()))?;
        let count = wire.vulnerabilities.len();
        if count > MAX_ENTRIES {
            return Err(CatalogueError::TooMany { count });
        }
        let (mut entries, mut notes, mut unread) = (HashMap::with_capacity(count), Vec::new(), 0_usize);
        for (index, value) in wire.vulnerabilities.into_iter().enumerate() {
            match serde_json::from_value::<Exploited>(value) {
                Ok(entry) => {
                    entries.insert(entry.cve.clone(), entry);
                }
                Err(error) => {
                    unread += 1;
                    if notes.len() < MAX_NOTES {
                        notes.push(format!("vulnerabilities[{index}]: {error}"));
                    }
                }
            }
        }
        if unread > notes.len() {
            notes.push(format!("{unread} entries cannot be read"));
        }
        if let Some(stated) = wire.count.filter(|stated| *stated != count) {
            notes.push(format!("the catalogue says that it has {stated} entries, and has {count}"));
        }
        Ok(Self { version: wire.catalog_version, released: wire.date_released, entries, notes })
    }
}
