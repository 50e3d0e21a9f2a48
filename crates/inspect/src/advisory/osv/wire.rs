//! The JSON of an advisory, and what is checked of it.

use std::borrow::Cow;
use std::collections::HashMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::super::place::Place;
use super::{
    AdvisoryError, Event, MAX_AFFECTED, MAX_EVENTS, MAX_ID_BYTES, MAX_IDS, MAX_NAME_BYTES, MAX_RANGES, MAX_VERSIONS,
    Range, RangeKind, Rating, Reference,
};
use crate::version::MAX_VERSION_BYTES;

#[derive(Deserialize)]
pub(super) struct Advisory<'a> {
    #[serde(borrow, default)]
    schema_version: Option<Cow<'a, str>>,
    id: String,
    #[serde(borrow)]
    modified: Cow<'a, str>,
    #[serde(borrow, default)]
    published: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    withdrawn: Option<Cow<'a, str>>,
    #[serde(default)]
    aliases: Option<Vec<String>>,
    #[serde(default)]
    upstream: Option<Vec<String>>,
    #[serde(default)]
    related: Option<Vec<String>>,
    #[serde(default)]
    summary: Option<String>,
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    severity: Option<Vec<Rating>>,
    #[serde(borrow, default)]
    affected: Option<Vec<Affected<'a>>>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
    #[serde(default)]
    database_specific: Option<Specific>,
}

#[derive(Deserialize)]
struct Affected<'a> {
    #[serde(borrow, default)]
    package: Option<Package<'a>>,
    #[serde(default)]
    severity: Option<Vec<Rating>>,
    #[serde(borrow, default)]
    ranges: Option<Vec<WireRange<'a>>>,
    #[serde(default)]
    versions: Option<Vec<String>>,
    #[serde(default)]
    ecosystem_specific: Option<Specific>,
    #[serde(default)]
    database_specific: Option<Specific>,
}

#[derive(Deserialize)]
struct Package<'a> {
    #[serde(borrow)]
    ecosystem: Cow<'a, str>,
    name: String,
}

#[derive(Deserialize)]
struct WireRange<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    events: Option<Vec<WireEvent>>,
}

#[derive(Deserialize)]
struct WireEvent {
    introduced: Option<String>,
    fixed: Option<String>,
    last_affected: Option<String>,
    limit: Option<String>,
}

/// What databases state beside the format, of any type; a rating counts only where it is a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Specific {
    Fields {
        #[serde(default)]
        severity: Option<Loose>,
        #[serde(default)]
        urgency: Option<Loose>,
        #[serde(default)]
        cvss: Option<Loose>,
    },
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Loose {
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl Specific {
    fn word(self) -> Option<String> {
        let Self::Fields { severity, urgency, cvss } = self else { return None };
        [cvss, severity, urgency].into_iter().flatten().find_map(|value| match value {
            Loose::Text(text) => Some(text),
            Loose::Other(_) => None,
        })
    }
}

impl Advisory<'_> {
    pub(super) fn checked(self) -> Result<super::Advisory, AdvisoryError> {
        let schema = self.schema_version.as_deref().unwrap_or("1.0.0");
        if schema.split('.').next() != Some("1") {
            return Err(AdvisoryError::field("schema_version", "only schema 1.x is read"));
        }
        check_id("id", &self.id)?;
        let ids = |name: &str, ids: Option<Vec<String>>| {
            let ids = ids.unwrap_or_default();
            check_count(name, ids.len(), MAX_IDS)?;
            ids.iter().enumerate().try_for_each(|(index, id)| check_id(&format!("{name}[{index}]"), id))?;
            Ok(ids)
        };
        let optional = |name, time: Option<Cow<'_, str>>| time.map(|time| timestamp(name, &time)).transpose();
        let affected = self.affected.unwrap_or_default();
        check_count("affected", affected.len(), MAX_AFFECTED)?;
        // Most packages of one advisory are of one ecosystem.
        let mut places = HashMap::new();
        let affected = affected
            .into_iter()
            .enumerate()
            .map(|(index, affected)| affected.checked(index, &mut places))
            .collect::<Result<_, _>>()?;
        let references = self.references.unwrap_or_default();
        check_count("references", references.len(), MAX_IDS)?;
        Ok(super::Advisory {
            aliases: ids("aliases", self.aliases)?,
            upstream: ids("upstream", self.upstream)?,
            related: ids("related", self.related)?,
            modified: timestamp("modified", &self.modified)?,
            published: optional("published", self.published)?,
            withdrawn: optional("withdrawn", self.withdrawn)?,
            id: self.id,
            summary: self.summary.unwrap_or_default(),
            details: self.details.unwrap_or_default(),
            references,
            severity: self.severity.unwrap_or_default(),
            word: self.database_specific.and_then(Specific::word),
            affected,
        })
    }
}

type Places = HashMap<String, Result<Place, super::UnknownEcosystem>>;

impl Affected<'_> {
    fn checked(self, index: usize, places: &mut Places) -> Result<super::Affected, AdvisoryError> {
        let at = |rest: &str| format!("affected[{index}].{rest}");
        let (ecosystem, name) =
            self.package.map(|package| (package.ecosystem.into_owned(), package.name)).unwrap_or_default();
        if name.len() > MAX_NAME_BYTES || ecosystem.len() > MAX_NAME_BYTES {
            return Err(AdvisoryError::field(at("package"), format!("longer than {MAX_NAME_BYTES} bytes")));
        }
        let place = match places.get(&ecosystem) {
            Some(place) => place.clone(),
            None => {
                let place = Place::parse(&ecosystem);
                places.insert(ecosystem.clone(), place.clone());
                place
            }
        };
        let ranges = self.ranges.unwrap_or_default();
        check_count(&at("ranges"), ranges.len(), MAX_RANGES)?;
        let ranges = ranges
            .into_iter()
            .enumerate()
            .map(|(number, range)| range.checked(|| at(&format!("ranges[{number}]"))))
            .collect::<Result<_, _>>()?;
        let versions = self.versions.unwrap_or_default();
        check_count(&at("versions"), versions.len(), MAX_VERSIONS)?;
        Ok(super::Affected {
            ecosystem,
            name,
            place,
            ranges,
            versions,
            severity: self.severity.unwrap_or_default(),
            word: [self.ecosystem_specific, self.database_specific].into_iter().flatten().find_map(Specific::word),
        })
    }
}

impl WireRange<'_> {
    fn checked(self, at: impl Fn() -> String) -> Result<Range, AdvisoryError> {
        let kind = match &*self.kind {
            "SEMVER" => RangeKind::SemVer,
            "ECOSYSTEM" => RangeKind::Ecosystem,
            "GIT" => RangeKind::Git,
            other => RangeKind::Other(other.to_owned()),
        };
        let events = self.events.unwrap_or_default();
        if events.len() > MAX_EVENTS {
            check_count(&format!("{}.events", at()), events.len(), MAX_EVENTS)?;
        }
        let events: Vec<Event> = events
            .into_iter()
            .enumerate()
            .map(|(index, event)| {
                event.checked().map_err(|problem| AdvisoryError::field(format!("{}.events[{index}]", at()), problem))
            })
            .collect::<Result<_, _>>()?;
        let introduces = events.iter().any(|event| matches!(event, Event::Introduced(_)));
        if !introduces && matches!(kind, RangeKind::SemVer | RangeKind::Ecosystem) {
            return Err(AdvisoryError::field(format!("{}.events", at()), "no event says where the range begins"));
        }
        Ok(Range { kind, events })
    }
}

impl WireEvent {
    fn checked(self) -> Result<Event, &'static str> {
        let event = match (self.introduced, self.fixed, self.last_affected, self.limit) {
            (Some(version), None, None, None) => Event::Introduced(version),
            (None, Some(version), None, None) => Event::Fixed(version),
            (None, None, Some(version), None) => Event::LastAffected(version),
            (None, None, None, Some(version)) => Event::Limit(version),
            _ => return Err("an event is exactly one of introduced, fixed, last_affected and limit"),
        };
        if event.version().len() > MAX_VERSION_BYTES {
            return Err("the version is too long");
        }
        Ok(event)
    }
}

fn check_count(field: &str, count: usize, most: usize) -> Result<(), AdvisoryError> {
    if count > most {
        return Err(AdvisoryError::field(field, format!("{count} entries; at most {most} are read")));
    }
    Ok(())
}

fn check_id(field: &str, id: &str) -> Result<(), AdvisoryError> {
    if id.is_empty() || id.len() > MAX_ID_BYTES || id.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(AdvisoryError::field(field, "an identifier is 1 to 256 bytes without spaces"));
    }
    Ok(())
}

fn timestamp(field: &str, text: &str) -> Result<Timestamp, AdvisoryError> {
    text.parse().map_err(|_| AdvisoryError::field(field, "not a time as RFC 3339 has it"))
}
