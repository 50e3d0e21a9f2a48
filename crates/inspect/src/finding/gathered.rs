//! Advisories from several sources, put together: each once, those that name the same vulnerability in one group.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::record::{self, Data, Lists, Record, Source, Subject};
use crate::advisory::aliases::{Aliases, TooManyAliases};
use crate::advisory::osv::{Advisory, AdvisoryError};
use crate::advisory::severity::{Assessment, Severity};

/// Sources at most.
pub(super) const SOURCES_MAX: usize = 1_000;
/// Advisories at most.
pub(super) const ADVISORIES_MAX: usize = 4_000_000;

/// Advisories from several sources.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    entries: BTreeMap<String, Entry>,
    sources: Vec<Source>,
    /// What comes beside the advisories.
    pub lists: Lists,
    /// Whether a list of exploited vulnerabilities was read.
    has_exploited: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    modified: Timestamp,
    source: u16,
    text: Box<str>,
}

/// What became of an advisory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is among them.
    Kept,
    /// It was withdrawn, and affects nothing.
    Withdrawn,
    /// It is there from another source, in this version or a later one.
    Older,
}

/// Why no records can be made.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// There are too many identifiers.
    #[error(transparent)]
    Aliases(#[from] TooManyAliases),
    /// There is too much of something.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// One of them cannot be written down or read again.
    #[error("the advisory {id}: {why}")]
    Advisory {
        /// Which.
        id: String,
        /// What is wrong.
        why: String,
    },
}

impl RecordsError {
    fn advisory(id: &str, why: impl std::fmt::Display) -> Self {
        Self::Advisory { id: id.to_owned(), why: why.to_string() }
    }
}

impl Gathered {
    /// Those that were kept before, to which more are added.
    ///
    /// # Errors
    /// A record is no advisory.
    pub fn of(data: &Data, records: impl IntoIterator<Item = Record>, lists: Lists) -> Result<Self, AdvisoryError> {
        let mut gathered = Self {
            entries: BTreeMap::new(),
            sources: data.sources.clone(),
            lists,
            has_exploited: data.exploited.is_some(),
        };
        for record in records {
            let advisory = record.advisory()?;
            let entry = Entry { modified: advisory.modified, source: record.source, text: record.text };
            gathered.entries.insert(advisory.id, entry);
        }
        Ok(gathered)
    }

    /// Forgets what came from a source, and begins it anew; gives its number for [`Gathered::add`].
    ///
    /// # Errors
    /// There are too many sources.
    pub fn begin(&mut self, name: &str, now: Timestamp) -> Result<u16, RecordsError> {
        let too_many = || RecordsError::TooMany { what: "sources", limit: SOURCES_MAX };
        let at = self.sources.iter().position(|source| source.name == name).unwrap_or(self.sources.len());
        let number = u16::try_from(at).ok().filter(|_| at < SOURCES_MAX).ok_or_else(too_many)?;
        self.entries.retain(|_, entry| entry.source != number);
        let source = Source { name: name.to_owned(), fetched: now, advisories: 0, withdrawn: 0, unread: 0 };
        match self.sources.get_mut(at) {
            Some(old) => *old = source,
            None => self.sources.push(source),
        }
        Ok(number)
    }

    /// Adds an advisory of a source.
    ///
    /// # Errors
    /// There are too many, or it cannot be written down.
    pub fn add(&mut self, source: u16, advisory: &Advisory, now: Timestamp) -> Result<Taken, RecordsError> {
        let stated = self.sources.get_mut(usize::from(source));
        if advisory.is_withdrawn(now) {
            if let Some(source) = stated {
                source.withdrawn += 1;
            }
            return Ok(Taken::Withdrawn);
        }
        if let Some(source) = stated {
            source.advisories += 1;
        }
        if self.entries.get(&advisory.id).is_some_and(|there| there.modified >= advisory.modified) {
            return Ok(Taken::Older);
        }
        if self.entries.len() >= ADVISORIES_MAX {
            return Err(RecordsError::TooMany { what: "advisories", limit: ADVISORIES_MAX });
        }
        let text = record::reduced(advisory).map_err(|error| RecordsError::advisory(&advisory.id, error))?;
        let entry = Entry { modified: advisory.modified, source, text: text.into() };
        self.entries.insert(advisory.id.clone(), entry);
        Ok(Taken::Kept)
    }

    /// Counts an advisory of a source that could not be read.
    pub fn unread(&mut self, source: u16) {
        if let Some(source) = self.sources.get_mut(usize::from(source)) {
            source.unread += 1;
        }
    }

    /// Takes the list of vulnerabilities that are known to be exploited, in the place of one that was there.
    pub fn exploited(&mut self, catalogue: crate::advisory::kev::Catalogue) {
        self.has_exploited = true;
        self.lists.exploited = catalogue.entries.into_iter().map(|(cve, entry)| (cve, entry.date_added)).collect();
    }

    /// How many advisories there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The records, by what they speak of, and what they are altogether.
    ///
    /// # Errors
    /// An advisory cannot be read again, or there are too many identifiers.
    pub fn records(self) -> Result<(Data, Vec<Record>, Lists), RecordsError> {
        let mut data = Data {
            sources: self.sources,
            exploited: self.has_exploited.then_some(self.lists.exploited.len() as u64),
            likelihoods: self.lists.likelihoods.date,
            ..Data::default()
        };
        let mut aliases = Aliases::default();
        let mut ratings: Vec<(String, String)> = Vec::new();
        // Records of one package lie together: what one image needs is then in few blocks.
        let mut sorted = Vec::with_capacity(self.entries.len());
        let mut about: HashMap<String, Vec<String>> = HashMap::new();
        for (id, entry) in self.entries {
            let advisory =
                Advisory::parse(entry.text.as_bytes()).map_err(|error| RecordsError::advisory(&id, error))?;
            aliases.add(&advisory)?;
            data.note(&advisory);
            let subjects = Aliases::subjects(&advisory);
            if subjects.is_empty() {
                ratings.extend(rating(&advisory).map(|rating| (id.clone(), rating)));
            } else {
                about.insert(id.clone(), subjects.into_iter().map(str::to_owned).collect());
            }
            let first = advisory.affected.first();
            sorted.push((first.map(|affected| (affected.ecosystem.clone(), affected.name.clone())), id, entry));
        }
        sorted.sort_unstable_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let groups = aliases.groups();
        let mut best: HashMap<&str, &str> = HashMap::new();
        for (id, rating) in &ratings {
            let kept = best.entry(aliases.preferred(id)).or_insert(rating);
            if worth(rating) > worth(kept) {
                *kept = rating;
            }
        }
        let subject = |id: &str| {
            let preferred = aliases.preferred(id);
            let ids = groups.get(preferred).map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
            Subject {
                ids: ids.unwrap_or_else(|| vec![id.to_owned()]),
                rating: best.get(preferred).map(|rating| (*rating).to_owned()),
            }
        };
        let records = sorted
            .into_iter()
            .map(|(_, id, entry)| {
                let mut subjects: Vec<Subject> = match about.get(&id) {
                    Some(others) => others.iter().map(|other| subject(other)).collect(),
                    None => vec![subject(&id)],
                };
                // Two names of one vulnerability among several.
                subjects.sort_by(|a, b| a.ids.cmp(&b.ids));
                subjects.dedup();
                Record { subjects, source: entry.source, text: entry.text }
            })
            .collect();
        Ok((data, records, self.lists))
    }
}

/// The rating of an advisory as a whole, or where it has none that of its packages which is worst.
fn rating(advisory: &Advisory) -> Option<String> {
    let count = advisory.affected.len().max(1);
    let ratings = (0..count).map(|index| advisory.assessment(index));
    ratings
        .filter(|rating| rating.severity != Severity::Unknown)
        .map(|rating| rating_text(&rating))
        .max_by_key(|text| worth(text))
}

fn rating_text(rating: &Assessment) -> String {
    match &rating.vector {
        Some(vector) => vector.as_str().to_owned(),
        None => rating.severity.as_str().to_owned(),
    }
}

/// How a rating ranks among others: a vector before a word, then the worse.
fn worth(rating: &str) -> (bool, Option<u8>, u8) {
    let assessment = Assessment::from_text(rating);
    let score = assessment.score().map_or(0, |score| score.tenths());
    (assessment.vector.is_some(), assessment.severity.rank(), score)
}
