//! Records ready to be matched, and what they say of one component.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::record::{Data, Lists, Record, Subject, real};
use super::{Gathered, RecordsError};
use crate::advisory::index::{Found, Index, Package, Scope};
use crate::advisory::osv::{Advisory, AdvisoryError};
use crate::advisory::place::Platform;
use crate::advisory::range::{Hit as Reached, Match};
use crate::advisory::severity::{Assessment, Severity as Rated};
use crate::component::Evidence;
use crate::document::{Cvss, Epss, Finding, Severity, Source};

/// Advisories that are kept as they were read: those of one package are asked for again and again.
const READ_MAX: usize = 2_048;

/// Records with their index, and what comes beside them.
#[derive(Clone, Debug, Default)]
pub struct Advisories {
    index: Index,
    /// In the order of the index.
    records: Vec<Record>,
    lists: Lists,
    data: Data,
    read: Arc<Mutex<HashMap<u32, Arc<Advisory>>>>,
}

/// A vulnerability that an advisory names a component for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit<'a> {
    /// The preferred identifier: `CVE-2021-44228`.
    pub id: &'a str,
    /// The advisory's own identifier.
    pub advisory: &'a str,
    /// Whether it affects the component for certain; otherwise nobody can say.
    pub is_affected: bool,
}

/// What is known of one component.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matches {
    /// What affects it, by identifier, each once.
    pub findings: Vec<Finding>,
    /// What names it, and may affect it or not.
    pub undecided: Vec<Undecided>,
}

/// An advisory that names a component, without its being known whether it affects it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// The preferred identifier of the vulnerability.
    pub id: String,
    /// Why nothing can be said.
    pub why: String,
}

/// What one advisory says of a component on one vulnerability.
struct Claim<'a> {
    advisory: usize,
    affected: usize,
    whole_name: bool,
    hit: Option<&'a Reached>,
    why: Option<String>,
    subject: &'a Subject,
    is_notice: bool,
    rating: Assessment,
}

impl Advisories {
    /// Makes records ready.
    ///
    /// # Errors
    /// A record is no advisory.
    pub fn new(
        data: Data,
        records: impl IntoIterator<Item = Record>,
        lists: Lists,
        now: Timestamp,
    ) -> Result<Self, AdvisoryError> {
        let mut advisories = Self { lists, data, ..Self::default() };
        for record in records {
            let advisory = record.advisory()?;
            // What is withdrawn from a day to come was kept.
            if !advisory.is_withdrawn(now) {
                advisories.index.add(&advisory);
                advisories.records.push(record);
            }
        }
        Ok(advisories)
    }

    /// Advisories by themselves, as they are published.
    ///
    /// # Errors
    /// There are too many identifiers.
    pub fn of<'a>(advisories: impl IntoIterator<Item = &'a Advisory>, now: Timestamp) -> Result<Self, RecordsError> {
        let mut gathered = Gathered::default();
        let source = gathered.begin("", now)?;
        for advisory in advisories {
            gathered.add(source, advisory, now)?;
        }
        let (data, records, lists) = gathered.records()?;
        let why = |error: AdvisoryError| RecordsError::Advisory { id: String::new(), why: error.to_string() };
        Self::new(data, records, lists, now).map_err(why)
    }

    /// Which advisories these are a part of, or all.
    pub const fn data(&self) -> &Data {
        &self.data
    }

    /// How many are here.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The advisories that count on a distribution. To be made once for many components.
    pub fn on(&self, platform: Option<&Platform>) -> Scope<'_> {
        self.index.on(platform)
    }

    /// The vulnerabilities that are known of a component: nothing but their identifiers.
    pub fn hits<'p>(&self, scope: &Scope<'_>, package: impl Into<Package<'p>>) -> Vec<Hit<'_>> {
        let mut hits = Vec::new();
        for found in scope.component(package) {
            let (Some(record), Some(advisory)) =
                (self.records.get(found.advisory as usize), self.index.id(found.advisory))
            else {
                continue;
            };
            let is_affected = matches!(found.outcome, Match::Affected(_));
            let ids = record.subjects.iter().filter_map(|subject| subject.ids.first());
            hits.extend(ids.map(|id| Hit { id, advisory, is_affected }));
        }
        hits.sort_unstable_by_key(|hit| (hit.id, !hit.is_affected, hit.advisory));
        hits.dedup_by_key(|hit| hit.id);
        hits
    }

    /// What is known of a component. `evidence` is what speaks for it, `component` what findings call it.
    pub fn matches<'p>(
        &self,
        scope: &Scope<'_>,
        package: impl Into<Package<'p>>,
        evidence: Evidence,
        component: &str,
    ) -> Matches {
        let found = scope.component(package);
        let read: Vec<Option<Arc<Advisory>>> = found.iter().map(|found| self.advisory(found)).collect();
        let mut claims: BTreeMap<&str, Vec<Claim<'_>>> = BTreeMap::new();
        for (at, (found, advisory)) in found.iter().zip(&read).enumerate() {
            let (Some(advisory), Some(record)) = (advisory, self.records.get(found.advisory as usize)) else {
                continue;
            };
            let (hit, why) = match &found.outcome {
                Match::Affected(hit) => (Some(hit), None),
                Match::Undecided(why) => (None, Some(why.to_string())),
                Match::Unaffected => continue,
            };
            let affected = found.affected as usize;
            let rating = advisory.assessment(affected);
            let is_notice = record.subjects.iter().all(|subject| !subject.ids.contains(&advisory.id));
            for subject in &record.subjects {
                let Some(id) = subject.ids.first() else { continue };
                claims.entry(id).or_default().push(Claim {
                    advisory: at,
                    affected,
                    whole_name: found.whole_name,
                    hit,
                    why: why.clone(),
                    subject,
                    is_notice,
                    rating: rating.clone(),
                });
            }
        }
        let mut matches = Matches::default();
        for (id, claims) in claims {
            match self.finding(id, &claims, &read, evidence, component) {
                Some(finding) => matches.findings.push(finding),
                None => {
                    let why = claims.iter().find_map(|claim| claim.why.clone()).unwrap_or_default();
                    matches.undecided.push(Undecided { id: id.to_owned(), why });
                }
            }
        }
        matches
    }

    fn advisory(&self, found: &Found) -> Option<Arc<Advisory>> {
        let known = |read: &HashMap<_, _>| read.get(&found.advisory).map(Arc::clone);
        if let Some(advisory) = known(&self.read.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Some(advisory);
        }
        let advisory = Arc::new(self.records.get(found.advisory as usize)?.advisory().ok()?);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.len() >= READ_MAX {
            read.clear();
        }
        read.insert(found.advisory, Arc::clone(&advisory));
        Some(advisory)
    }

    /// One finding of all that speak of one vulnerability; `None` where none of them says that it affects.
    fn finding(
        &self,
        id: &str,
        claims: &[Claim<'_>],
        read: &[Option<Arc<Advisory>>],
        evidence: Evidence,
        component: &str,
    ) -> Option<Finding> {
        let rank = |claim: &&Claim<'_>| {
            let id = read.get(claim.advisory).and_then(Option::as_ref).map(|advisory| advisory.id.as_str());
            // The first of those that say it best: about this very package, and about this vulnerability alone.
            (claim.whole_name, !claim.is_notice, claim.rating.severity.rank(), std::cmp::Reverse(id))
        };
        let affecting = || claims.iter().filter(|claim| claim.hit.is_some());
        let first = affecting().max_by_key(rank)?;
        let advisory = read.get(first.advisory)?.as_ref()?;
        let affected = advisory.affected.get(first.affected)?;
        let rating = rating(affecting());
        let mut aliases: Vec<String> = first.subject.ids.clone();
        let advisories = affecting().filter_map(|claim| read.get(claim.advisory)?.as_ref());
        aliases.extend(advisories.clone().map(|advisory| advisory.id.clone()));
        aliases.retain(|alias| alias != id);
        aliases.sort_unstable();
        aliases.dedup();
        let mut fixed_in: Vec<String> = Vec::new();
        for fixed in affecting().filter_map(|claim| claim.hit?.fixed.as_deref()) {
            if !fixed_in.iter().any(|known| known == fixed) {
                fixed_in.push(fixed.to_owned());
            }
        }
        let ids = || std::iter::once(id).chain(aliases.iter().map(String::as_str));
        Some(Finding {
            id: id.to_owned(),
            component: component.to_owned(),
            package: format!("{} {}", affected.ecosystem, affected.name),
            summary: Some(advisory.summary.clone()).filter(|summary| !summary.is_empty()),
            severity: severity(rating.severity),
            cvss: rating.vector.as_ref().map(|vector| Cvss {
                score: f64::from(vector.score().tenths()) / 10.0,
                vector: vector.as_str().to_owned(),
            }),
            epss: ids()
                .find_map(|id| self.lists.likelihoods.get(id))
                .map(|likely| Epss { score: shortest(likely.score), percentile: shortest(likely.percentile) }),
            known_exploited: ids().any(|id| self.lists.exploited.contains_key(id)),
            range: first.hit.map(|hit| affected.text(hit.reason)).unwrap_or_default(),
            fixed_in,
            evidence: if first.whole_name { evidence } else { Evidence::Inferred },
            verdict: None,
            heard: Vec::new(),
            ignored: None,
            source: Source {
                name: database(&advisory.id).to_owned(),
                url: advisory.references.first().map(|reference| reference.url.clone()),
            },
            published: advisory.published.and_then(real),
            modified: advisories.filter_map(|advisory| real(advisory.modified)).max(),
            aliases,
        })
    }
}

/// How bad it is: as those rate it that speak of this vulnerability alone, then as others rate it, then as a notice on
/// several rates the worst of them.
fn rating<'c>(claims: impl Iterator<Item = &'c Claim<'c>> + Clone) -> Assessment {
    let worst = |is_notice: bool| {
        claims
            .clone()
            .filter(|claim| claim.is_notice == is_notice)
            .map(|claim| &claim.rating)
            .filter(|rating| rating.severity != Rated::Unknown)
            .max_by_key(|rating| (rating.severity.rank(), rating.score().map(|score| score.tenths())))
            .cloned()
    };
    let others = || {
        let stated = claims.clone().find_map(|claim| claim.subject.rating.as_deref());
        stated.map(Assessment::from_text).filter(|rating| rating.severity != Rated::Unknown)
    };
    worst(false).or_else(others).or_else(|| worst(true)).unwrap_or_default()
}

fn severity(rated: Rated) -> Severity {
    match rated {
        Rated::Unknown => Severity::Unknown,
        Rated::None => Severity::None,
        Rated::Negligible | Rated::Low => Severity::Low,
        Rated::Medium => Severity::Medium,
        Rated::High => Severity::High,
        Rated::Critical => Severity::Critical,
    }
}

/// The number with the fewest digits that is this one: widened as it is, 0.97 would be 0.9700000286102295.
fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}

/// Who publishes advisories whose identifiers begin like this one.
fn database(id: &str) -> &str {
    let prefix = id.split('-').next().unwrap_or(id);
    match prefix {
        "GHSA" => "GitHub",
        "CVE" => "NVD",
        "DSA" | "DLA" | "DTSA" | "DEBIAN" => "Debian",
        "USN" | "UBUNTU" | "LSN" => "Ubuntu",
        "ALPINE" => "Alpine",
        "ALSA" | "ALBA" | "ALEA" => "AlmaLinux",
        "RLSA" | "RXSA" => "Rocky Linux",
        "RHSA" | "RHBA" | "RHEA" => "Red Hat",
        "GO" => "Go",
        "PYSEC" => "PyPA",
        "RUSTSEC" => "RustSec",
        "BIT" => "Bitnami",
        "MAL" => "OpenSSF malicious packages",
        other => other,
    }
}
