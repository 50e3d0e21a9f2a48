//! An advisory as it is kept: what matching and telling need of it.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::advisory::epss::Epss;
use crate::advisory::osv::{Advisory, AdvisoryError, Affected, Event, RangeKind, Rating};
use crate::advisory::place::Platform;
use crate::component::Ecosystem;

/// Characters of a summary that are kept.
const SUMMARY_CHARS: usize = 300;
/// What counts as a time: some databases write the year 1 for one that they do not know.
const FIRST_YEAR: i16 = 1980;

/// An advisory with the vulnerabilities that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The vulnerabilities, at least one; several where it is a notice on several.
    pub subjects: Vec<Subject>,
    /// Which of [`Data::sources`] it comes from.
    pub source: u16,
    /// The advisory in OSV form, without what nobody needs here.
    pub text: Box<str>,
}

/// One vulnerability under all its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its identifiers, the preferred one first.
    pub ids: Vec<String>,
    /// How others rate it, where the advisory itself does not: a CVSS vector or a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<String>,
}

/// Which advisories these are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// Where they come from.
    pub sources: Vec<Source>,
    /// How many there are.
    pub advisories: u64,
    /// When the youngest was changed.
    pub newest: Option<Timestamp>,
    /// Languages that they speak of, by their words.
    pub ecosystems: BTreeSet<String>,
    /// Distributions and their releases that they speak of; a release may be empty, which means all.
    pub platforms: BTreeSet<(String, String, Option<String>)>,
    /// Entries of the list of vulnerabilities that are known to be exploited; `None` without the list.
    pub exploited: Option<u64>,
    /// The day of the list of likelihoods; `None` without the list.
    pub likelihoods: Option<Timestamp>,
}

/// Where advisories come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// A path or an address.
    pub name: String,
    /// When it was read.
    pub fetched: Timestamp,
    /// How many advisories it had.
    pub advisories: u64,
    /// Those that were withdrawn, which affect nothing.
    pub withdrawn: u64,
    /// Those that could not be read. Where there are any, that nothing was found says less.
    pub unread: u64,
}

/// Lists of vulnerabilities that come beside the advisories.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lists {
    /// CVEs that are known to be exploited, with the day on which they were listed.
    pub exploited: HashMap<String, jiff::civil::Date>,
    /// How likely others are to be.
    pub likelihoods: Epss,
}

impl Data {
    /// Whether anything is known of packages of this ecosystem, on this distribution where it is one of its packages.
    pub fn knows(&self, ecosystem: Ecosystem, platform: Option<&Platform>) -> bool {
        match ecosystem {
            Ecosystem::Deb | Ecosystem::Rpm | Ecosystem::Apk => platform.is_some_and(|installed| {
                self.platforms.iter().any(|(id, release, channel)| {
                    let known = Platform { id: id.clone(), release: release.clone(), channel: channel.clone() };
                    known.covers(installed)
                })
            }),
            _ => self.ecosystems.contains(ecosystem.word()),
        }
    }

    /// When the source that was read longest ago was read.
    pub fn fetched(&self) -> Option<Timestamp> {
        self.sources.iter().map(|source| source.fetched).min()
    }

    /// Adds what an advisory speaks of.
    pub(super) fn note(&mut self, advisory: &Advisory) {
        self.advisories += 1;
        self.newest = self.newest.max(real(advisory.modified));
        for place in advisory.affected.iter().filter_map(|affected| affected.place.as_ref().ok()) {
            match &place.platform {
                Some(Platform { id, release, channel }) => {
                    self.platforms.insert((id.clone(), release.clone(), channel.clone()));
                }
                None => {
                    self.ecosystems.insert(place.ecosystem.word().to_owned());
                }
            }
        }
    }
}

impl Record {
    /// The advisory.
    ///
    /// # Errors
    /// The text is none.
    pub fn advisory(&self) -> Result<Advisory, AdvisoryError> {
        Advisory::parse(self.text.as_bytes())
    }
}

/// A time, where it is one.
pub(super) fn real(time: Timestamp) -> Option<Timestamp> {
    let year = time.to_zoned(jiff::tz::TimeZone::UTC).year();
    (year >= FIRST_YEAR).then_some(time)
}

#[derive(Serialize)]
struct Wire<'a> {
    id: &'a str,
    modified: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    withdrawn: Option<Timestamp>,
    #[serde(skip_serializing_if = "slice_is_empty")]
    aliases: &'a [String],
    #[serde(skip_serializing_if = "slice_is_empty")]
    upstream: &'a [String],
    #[serde(skip_serializing_if = "slice_is_empty")]
    related: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    summary: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    severity: Vec<WireRating<'a>>,
    affected: Vec<WireAffected<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    references: Vec<WireReference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    database_specific: Option<Word<'a>>,
}

#[derive(Serialize)]
struct Word<'a> {
    severity: &'a str,
}

#[derive(Serialize)]
struct WireReference<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    url: &'a str,
}

#[derive(Serialize)]
struct WireRating<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    score: &'a str,
}

#[derive(Serialize)]
struct WirePackage<'a> {
    ecosystem: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct WireAffected<'a> {
    package: WirePackage<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    severity: Vec<WireRating<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<WireRange<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    versions: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    database_specific: Option<Word<'a>>,
}

#[derive(Serialize)]
struct WireRange<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    events: Vec<HashMap<&'static str, &'a str>>,
}

fn slice_is_empty(slice: &[String]) -> bool {
    slice.is_empty()
}

/// The advisory in OSV form without what nobody needs here: details, most references, listed versions that are within a
/// range, commits, and packages of ecosystems that are not known. What it says of any version stays the same.
pub(super) fn reduced(advisory: &Advisory) -> Result<String, serde_json::Error> {
    let summary = advisory.summary.trim();
    // Many databases have no summary; the first line of the details is as good.
    let summary = if summary.is_empty() { advisory.details.trim().lines().next().unwrap_or_default() } else { summary };
    let end = summary.char_indices().nth(SUMMARY_CHARS).map_or(summary.len(), |(at, _)| at);
    let reference = ["ADVISORY", "WEB"]
        .iter()
        .find_map(|kind| advisory.references.iter().find(|reference| reference.kind == *kind))
        .map(|reference| WireReference { kind: &reference.kind, url: &reference.url });
    let word = advisory.word.as_deref().or_else(|| stated_first(summary));
    serde_json::to_string(&Wire {
        id: &advisory.id,
        modified: advisory.modified,
        published: advisory.published,
        withdrawn: advisory.withdrawn,
        aliases: &advisory.aliases,
        upstream: &advisory.upstream,
        related: &advisory.related,
        summary: summary.get(..end).unwrap_or_default(),
        severity: ratings(&advisory.severity),
        affected: advisory.affected.iter().filter_map(affected).collect(),
        references: reference.into_iter().collect(),
        database_specific: word.map(|severity| Word { severity }),
    })
}

/// The rating that notices of distributions with RPM begin with: `Important: kernel security update`.
fn stated_first(summary: &str) -> Option<&str> {
    let (word, _) = summary.split_once(": ")?;
    matches!(word, "Critical" | "Important" | "Moderate" | "Low").then_some(word)
}

fn ratings(ratings: &[Rating]) -> Vec<WireRating<'_>> {
    ratings.iter().map(|rating| WireRating { kind: &rating.kind, score: &rating.score }).collect()
}

fn affected(affected: &Affected) -> Option<WireAffected<'_>> {
    let prepared = affected.prepare()?;
    let ranges = affected.ranges.iter().map(|range| WireRange {
        kind: match &range.kind {
            RangeKind::SemVer => "SEMVER",
            RangeKind::Ecosystem => "ECOSYSTEM",
            RangeKind::Git => "GIT",
            RangeKind::Other(kind) => kind,
        },
        events: match range.kind {
            RangeKind::SemVer | RangeKind::Ecosystem => range.events.iter().map(event).collect(),
            RangeKind::Git | RangeKind::Other(_) => Vec::new(),
        },
    });
    let mut listed: Vec<usize> = prepared.listed().collect();
    listed.sort_unstable();
    let versions = listed.into_iter().filter_map(|at| affected.versions.get(at)).map(String::as_str);
    Some(WireAffected {
        package: WirePackage { ecosystem: &affected.ecosystem, name: &affected.name },
        severity: ratings(&affected.severity),
        ranges: ranges.collect(),
        versions: versions.collect(),
        database_specific: affected.word.as_deref().map(|severity| Word { severity }),
    })
}

fn event(event: &Event) -> HashMap<&'static str, &str> {
    let name = match event {
        Event::Introduced(_) => "introduced",
        Event::Fixed(_) => "fixed",
        Event::LastAffected(_) => "last_affected",
        Event::Limit(_) => "limit",
    };
    HashMap::from([(name, event.version())])
}
