//! Whether a version is affected: the evaluation that the OSV schema defines, over bounds that are prepared once.

use std::cmp::Ordering;
use std::sync::Arc;

use super::osv::{Advisory, Affected, Event, Range, RangeKind};
use crate::version::{Scheme, Version, VersionError};

#[cfg(test)]
mod tests;

/// How many intervals are looked at to leave out listed versions that are in one. Only to save memory.
const PRUNING_INTERVALS: usize = 64;

/// What an advisory says of one version of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is not affected.
    Unaffected,
    /// It is affected.
    Affected(Hit),
    /// The advisory names the package, but this cannot be said. Never the same as not affected.
    Undecided(Undecided),
}

/// Why a version is affected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// What named it.
    pub reason: Reason,
    /// The version that fixes it: the end of the range that it is in, or the first fix after it; `None` where the advisory
    /// knows none.
    pub fixed: Option<Arc<str>>,
}

/// What named a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A range, by the positions in [`Affected::ranges`] and [`Range::events`].
    Range {
        /// The range.
        range: usize,
        /// The event from which on it is affected.
        introduced: usize,
        /// The event up to which it is; `None` where there is none.
        end: Option<usize>,
    },
    /// A listed version, by its position in [`Affected::versions`].
    Listed {
        /// Which.
        version: usize,
    },
}

/// Why nothing can be said of a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// The version cannot be compared.
    #[error("the package's version: {0}")]
    Version(Arc<VersionError>),
    /// A bound of a range cannot be compared.
    #[error("range {range} of the advisory: {error}")]
    Bound {
        /// The range, by its position.
        range: usize,
        /// What is wrong with the bound.
        error: VersionError,
    },
    /// The range is of a kind that is not known.
    #[error("range {range} of the advisory is of a kind that is not known")]
    Kind {
        /// The range, by its position.
        range: usize,
    },
    /// There are only ranges of commits, and no list of versions.
    #[error("the advisory names commits only")]
    Commits,
    /// There are neither ranges nor versions.
    #[error("the advisory names no versions")]
    Nothing,
    /// The package is in an ecosystem that is not known.
    #[error("the advisory's ecosystem is not known")]
    Ecosystem,
}

/// A package's ranges and versions, ready to be compared with.
#[derive(Clone, Debug)]
pub struct Prepared {
    scheme: Scheme,
    intervals: Box<[Interval]>,
    /// Listed versions, in order, with their positions; most of those that an interval has are left out.
    listed: Box<[(Key, u32)]>,
    /// Listed versions that cannot be compared, with their positions.
    unread: Box<[(Box<str>, u32)]>,
    undecided: Option<Box<Undecided>>,
}

type Key = Box<[u8]>;

#[derive(Clone, Debug)]
struct Interval {
    /// The first affected version; `None` for all from the beginning.
    low: Option<Key>,
    high: High,
    range: u32,
    introduced: u32,
    end: Option<u32>,
    /// The end's text, where it is a fix.
    fixed: Option<Arc<str>>,
}

#[derive(Clone, Debug)]
enum High {
    Open,
    Before(Key),
    Through(Key),
}

impl Interval {
    fn contains(&self, key: &[u8]) -> bool {
        self.low.as_deref().is_none_or(|low| low <= key)
            && match &self.high {
                High::Open => true,
                High::Before(high) => key < &**high,
                High::Through(high) => key <= &**high,
            }
    }

    fn is_everything(&self) -> bool {
        self.low.is_none() && matches!(self.high, High::Open)
    }

    fn hit(&self) -> Hit {
        Hit {
            reason: Reason::Range {
                range: self.range as usize,
                introduced: self.introduced as usize,
                end: self.end.map(|end| end as usize),
            },
            fixed: self.fixed.clone(),
        }
    }
}

impl Advisory {
    /// What the advisory says of `version` of the package `affected[index]`. Whether the advisory was withdrawn is not
    /// looked at.
    pub fn matches(&self, index: usize, version: &str) -> Match {
        let Some(affected) = self.affected.get(index) else { return Match::Unaffected };
        match affected.prepare() {
            Some(prepared) => prepared.matches_text(version),
            None => Match::Undecided(Undecided::Ecosystem),
        }
    }
}

impl Affected {
    /// What named a version, in words: `>= 2.0, < 2.15.0`, or the listed version.
    pub fn text(&self, reason: Reason) -> String {
        let (range, introduced, end) = match reason {
            Reason::Range { range, introduced, end } => (range, introduced, end),
            Reason::Listed { version } => {
                return self.versions.get(version).map(|version| format!("= {version}")).unwrap_or_default();
            }
        };
        let event = |index: usize| self.ranges.get(range).and_then(|range| range.events.get(index));
        let low = event(introduced).map(Event::version).filter(|version| *version != "0");
        let low = low.map(|version| format!(">= {version}"));
        let high = end.and_then(event).map(|event| match event {
            Event::LastAffected(version) => format!("<= {version}"),
            event => format!("< {}", event.version()),
        });
        match [low, high] {
            [None, None] => "all versions".to_owned(),
            bounds => bounds.into_iter().flatten().collect::<Vec<_>>().join(", "),
        }
    }

    /// Reads the bounds; `None` where the ecosystem is not known.
    pub fn prepare(&self) -> Option<Prepared> {
        let scheme = self.place.as_ref().ok()?.scheme;
        let mut intervals: Vec<Interval> = Vec::new();
        let mut undecided = None;
        let (mut evaluated, mut commits) = (false, false);
        for (index, range) in (0_u32..).zip(&self.ranges) {
            match &range.kind {
                RangeKind::Git => commits = true,
                RangeKind::Other(_) => undecided = Some(Undecided::Kind { range: index as usize }),
                RangeKind::SemVer | RangeKind::Ecosystem => {
                    evaluated = true;
                    if let Err(error) = read(scheme, index, range, &mut intervals) {
                        undecided = Some(Undecided::Bound { range: index as usize, error });
                    }
                }
            }
        }
        if !evaluated && self.versions.is_empty() && undecided.is_none() {
            undecided = Some(if commits { Undecided::Commits } else { Undecided::Nothing });
        }
        let (mut listed, mut unread) = (Vec::new(), Vec::new());
        for (index, version) in (0_u32..).zip(&self.versions) {
            match Version::parse(scheme, version) {
                Ok(version)
                    if intervals.iter().take(PRUNING_INTERVALS).any(|interval| interval.contains(version.key())) => {}
                Ok(version) => listed.push((version.into_key(), index)),
                Err(_) => unread.push((version.as_str().into(), index)),
            }
        }
        listed.sort_unstable();
        Some(Prepared {
            scheme,
            intervals: intervals.into(),
            listed: listed.into(),
            unread: unread.into(),
            undecided: undecided.map(Box::new),
        })
    }
}

impl Prepared {
    /// How the versions are ordered.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// What is said of a version that was read by [`Prepared::scheme`].
    pub fn matches(&self, version: &Version) -> Match {
        let key = version.key();
        if let Some(interval) = self.intervals.iter().find(|interval| interval.contains(key)) {
            return Match::Affected(interval.hit());
        }
        if let Ok(found) = self.listed.binary_search_by(|(listed, _)| (**listed).cmp(key)) {
            let version = self.listed.get(found).map_or(0, |(_, index)| *index as usize);
            return Match::Affected(Hit { reason: Reason::Listed { version }, fixed: self.fix_after(key) });
        }
        match &self.undecided {
            Some(undecided) => Match::Undecided((**undecided).clone()),
            None => Match::Unaffected,
        }
    }

    /// What is said of a version that cannot be compared: only what names it as it is written, or names every version.
    pub fn matches_unread(&self, version: &str, error: &Arc<VersionError>) -> Match {
        if let Some(interval) = self.intervals.iter().find(|interval| interval.is_everything()) {
            return Match::Affected(interval.hit());
        }
        match self.unread.iter().find(|(listed, _)| &**listed == version) {
            Some((_, index)) => {
                Match::Affected(Hit { reason: Reason::Listed { version: *index as usize }, fixed: None })
            }
            None => Match::Undecided(Undecided::Version(Arc::clone(error))),
        }
    }

    /// What is said of a version as it is written.
    pub fn matches_text(&self, version: &str) -> Match {
        match Version::parse(self.scheme, version) {
            Ok(version) => self.matches(&version),
            Err(error) => self.matches_unread(version, &Arc::new(error)),
        }
    }

    /// The positions of the listed versions that count: all others are within a range.
    pub(crate) fn listed(&self) -> impl Iterator<Item = usize> {
        let listed = self.listed.iter().map(|(_, index)| *index).chain(self.unread.iter().map(|(_, index)| *index));
        listed.map(|index| index as usize)
    }

    /// What of the advisory cannot be evaluated for any version.
    pub fn undecided(&self) -> Option<&Undecided> {
        self.undecided.as_deref()
    }

    /// The first fix after a version.
    fn fix_after(&self, key: &[u8]) -> Option<Arc<str>> {
        let fixes = self.intervals.iter().filter_map(|interval| match (&interval.high, &interval.fixed) {
            (High::Before(high), Some(fixed)) if &**high > key => Some((high, fixed)),
            _ => None,
        });
        fixes.min_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, fixed)| fixed.clone())
    }
}

/// Turns a timeline into the intervals in which it says "affected".
fn read(scheme: Scheme, range: u32, of: &Range, intervals: &mut Vec<Interval>) -> Result<(), VersionError> {
    struct Point<'a> {
        /// `None` is before all versions.
        at: Option<Key>,
        event: &'a Event,
        index: u32,
    }
    let mut points = Vec::with_capacity(of.events.len());
    let mut limit: Option<Option<(Key, u32)>> = None;
    for (index, event) in (0_u32..).zip(&of.events) {
        let key = || Version::parse(scheme, event.version()).map(Version::into_key);
        match event {
            Event::Limit(version) if version.contains('*') => limit = Some(None),
            Event::Limit(_) => {
                // A version is in the range where it is before any of the limits.
                let key = key()?;
                limit = Some(match limit.take() {
                    None => Some((key, index)),
                    Some(Some((other, at))) => Some(if other < key { (key, index) } else { (other, at) }),
                    Some(None) => None,
                });
            }
            Event::Introduced(version) if version == "0" => points.push(Point { at: None, event, index }),
            _ => points.push(Point { at: Some(key()?), event, index }),
        }
    }
    // At one version, the last affected one is after all else: it ends only what comes later.
    points.sort_by(|a, b| {
        let last = |point: &Point<'_>| matches!(point.event, Event::LastAffected(_));
        a.at.cmp(&b.at).then_with(|| last(a).cmp(&last(b)))
    });
    let limit = limit.flatten();
    let mut begun: Option<(Option<Key>, u32)> = None;
    let mut add = |(low, introduced): (Option<Key>, u32), high: High, end: Option<(u32, &Event)>| {
        let mut interval = Interval {
            low,
            high,
            range,
            introduced,
            end: end.map(|(index, _)| index),
            fixed: end.and_then(|(_, event)| match event {
                Event::Fixed(version) => Some(version.as_str().into()),
                _ => None,
            }),
        };
        if let Some((limit, index)) = &limit {
            let is_before_limit = match &interval.high {
                High::Open => false,
                High::Before(high) => high <= limit,
                High::Through(high) => high < limit,
            };
            if !is_before_limit {
                interval.high = High::Before(limit.clone());
                interval.end = Some(*index);
                interval.fixed = None;
            }
        }
        let is_empty = match (&interval.low, &interval.high) {
            (Some(low), High::Before(high)) => low.cmp(high) != Ordering::Less,
            (Some(low), High::Through(high)) => low > high,
            _ => false,
        };
        if !is_empty {
            intervals.push(interval);
        }
    };
    for Point { at, event, index } in points {
        match (event, at) {
            (Event::Introduced(_), at) => {
                begun.get_or_insert((at, index));
            }
            (Event::Fixed(_), Some(at)) => {
                if let Some(begun) = begun.take() {
                    add(begun, High::Before(at), Some((index, event)));
                }
            }
            (Event::LastAffected(_), Some(at)) => {
                if let Some(begun) = begun.take() {
                    add(begun, High::Through(at), Some((index, event)));
                }
            }
            _ => {}
        }
    }
    if let Some(begun) = begun {
        add(begun, High::Open, None);
    }
    Ok(())
}
