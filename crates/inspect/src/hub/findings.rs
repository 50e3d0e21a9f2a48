//! What is wrong with images, as advisories say. A new file of advisories is compared with components, of which there are
//! few, and never with images; and with those components alone of which what is new in it speaks.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Write as _;
use std::sync::Arc;

use api::Micros;
use api::inspect::{Advisories, Finding, Severity, WhereAdvisory};
use base::db::Queryable;
use base::tasks::Progress;
use bytes::Bytes;
use jiff::Timestamp;
use oci::Digest;

use super::Service;
use super::error::Error;
use super::examined::Haste;
use super::find::Target;
use super::store::{Change, ImageRow, Key, Match, Seek, Store};
use super::vex::Spoken;
use super::views::{evidence, place};
use super::vulnerabilities;
use crate::advisory::place::Platform;
use crate::component::{Component, Ecosystem};
use crate::document::{self, Contents, Found};
use crate::finding::store::Store as File;
use crate::finding::{self, Record};

/// Components that are compared at once.
const PAGE: u32 = 10_000;
/// Pages that are compared with advisories that are made ready once.
const PAGES_IN_A_ROW: u32 = 1000;
/// So many and more are compared with all advisories; for fewer, those that may speak of them are looked for.
const ALL_FROM: usize = 3000;
/// Places that a finding names.
const PLACES_SHOWN: usize = 3;
/// Bytes of a file of advisories.
pub(super) const FILE_BYTES_MAX: usize = 512 << 20;

/// The file of advisories, ready to be read.
pub(super) struct Known {
    pub(super) version: i64,
    taken_in: Micros,
    file: File,
}

impl Known {
    /// Whether anything is known of the packages of a distribution's release.
    pub(super) fn knows(&self, platform: Option<&Platform>) -> bool {
        self.file.data().knows(Ecosystem::Deb, platform)
    }

    /// The advisories that may speak of what was found in images.
    pub(super) fn advisories_on<'c>(
        &self,
        images: impl IntoIterator<Item = &'c Contents>,
        now: Micros,
    ) -> Result<finding::Advisories, Error> {
        let found = images.into_iter().flat_map(|contents| &contents.components);
        let components = found.flat_map(|found| std::iter::once(&found.component).chain(&found.further));
        Ok(self.file.advisories_on(components, timestamp(now))?)
    }
}

impl Service {
    /// Takes in a file of advisories, as `longshore advisories update` writes it, in the place of the one before.
    pub(super) async fn advisories_take(&self, bytes: Bytes) -> Result<Advisories, Error> {
        let before = self.known().await?;
        let version = before.as_ref().map_or(0, |known| known.version);
        let folder = self.inner.config.folder.clone();
        let change = tokio::task::spawn_blocking(move || change(before.as_deref(), bytes, &folder)).await??;
        let (new, names) = (change.new.len(), change.names.len());
        if !self.store().advisories_change(version, change, self.now()).await? {
            return Err(Error::Request("another file of advisories was taken in meanwhile; send it again".to_owned()));
        }
        tracing::info!(new, names, "advisories were taken in");
        self.inner.matching.wake();
        self.changed();
        self.advisories_known().await
    }

    /// The file of advisories; none where there is none.
    pub(super) async fn known(&self) -> Result<Option<Arc<Known>>, Error> {
        let mut held = self.inner.advisories.lock().await;
        let Some((version, taken_in)) = self.store().advisory_version().await? else { return Ok(None) };
        if let Some(known) = held.as_ref()
            && known.version == version
        {
            return Ok(Some(Arc::clone(known)));
        }
        let Some((version, bytes)) = self.store().advisory_bytes().await? else { return Ok(None) };
        let folder = self.inner.config.folder.clone();
        let file = tokio::task::spawn_blocking(move || opened(&bytes, &folder)).await??;
        let known = Arc::new(Known { version, taken_in, file });
        *held = Some(Arc::clone(&known));
        Ok(Some(known))
    }

    /// The file of advisories that was opened last, which another hub may have replaced since.
    pub(super) async fn known_last(&self) -> Result<Option<Arc<Known>>, Error> {
        let held = self.inner.advisories.lock().await.clone();
        if held.is_some() { Ok(held) } else { self.known().await }
    }

    pub(super) async fn advisories_known(&self) -> Result<Advisories, Error> {
        let Some(known) = self.known().await? else { return Ok(Advisories::default()) };
        let data = known.file.data();
        Ok(Advisories {
            waiting: self.store().unmatched_count().await?,
            count: data.advisories,
            newest: data.newest.map(|time| Micros(time.as_microsecond())),
            taken_in: Some(known.taken_in),
        })
    }

    /// Compares components with the advisories that there are, a page at a time.
    ///
    /// # Errors
    /// A database failed, or the advisories are damaged; the next run goes on.
    pub(super) async fn match_some(&self) -> Result<Progress, Error> {
        let Some(fence) = self.lease().await? else { return Ok(Progress::Done) };
        let Some(known) = self.known().await? else { return Ok(Progress::Done) };
        let (mut after, mut prepared, mut found) = (0, None, None);
        for pages in 0..PAGES_IN_A_ROW {
            let page = self.store().unmatched(after, PAGE).await?;
            if pages == 0 && page.is_empty() {
                // Evidence is made anew once for all that is new in it.
                self.inner.attaching.wake();
                return self.alerts_record(fence, &known).await;
            }
            if self.lease().await?.is_none() {
                return Ok(Progress::Done);
            }
            let Some((last, _)) = page.last() else {
                self.keep_matches(known.version, found).await?;
                return Ok(Progress::More);
            };
            after = *last;
            let (file, ready, now) = (Arc::clone(&known), prepared.take(), timestamp(self.now()));
            let compare = async {
                let compared = tokio::task::spawn_blocking(move || {
                    let ready = match ready {
                        Some(ready) => ready,
                        None if page.len() < ALL_FROM => {
                            return Ok((matches(&file.file.advisories_on(&named(&page), now)?, &page), None));
                        }
                        None => file.file.advisories(now)?,
                    };
                    Ok::<_, Error>((matches(&ready, &page), Some(ready)))
                });
                compared.await?
            };
            // While a page is compared, what was found with the one before is kept.
            let (compared, is_current) = tokio::try_join!(compare, self.keep_matches(known.version, found))?;
            if !is_current {
                return Ok(Progress::More);
            }
            prepared = compared.1;
            found = Some(compared.0);
        }
        self.keep_matches(known.version, found).await?;
        Ok(Progress::More)
    }

    /// Keeps what was found, if anything was compared; false where there is another file of advisories meanwhile.
    async fn keep_matches(
        &self,
        version: i64,
        found: Option<BTreeMap<i64, BTreeMap<String, Match>>>,
    ) -> Result<bool, Error> {
        let Some(found) = found else { return Ok(true) };
        let is_current = self.store().matched(version, found, self.now()).await?;
        self.changed();
        Ok(is_current)
    }

    /// An image that was read, with what advisories say of it today.
    pub(super) async fn examined_of(&self, digest: &Digest) -> Result<(ImageRow, Contents), Error> {
        let (row, contents) = self.contents_of(digest).await?;
        Ok((row, self.examined(Haste::Now, self.spoken(digest).await?, contents).await?))
    }

    /// What was found, with what advisories, and those who may push, say of it today.
    pub(super) async fn examined(
        &self,
        haste: Haste,
        spoken: Spoken,
        mut contents: Contents,
    ) -> Result<Contents, Error> {
        let Some(known) = self.known().await? else { return Ok(contents) };
        let now = self.now();
        let examined = haste.run(move || {
            let advisories = known.advisories_on([&contents], now)?;
            spoken.examine(&mut contents, &advisories, now);
            Ok::<_, Error>(contents)
        });
        examined.await?
    }

    /// Says when each was first seen here.
    pub(super) async fn first_seen_tell(&self, findings: &mut [Finding]) -> Result<(), Error> {
        let ids: BTreeSet<String> = findings.iter().map(|finding| finding.id.clone()).collect();
        let seen = self.store().first_seen(&ids.into_iter().collect::<Vec<_>>()).await?;
        for finding in findings {
            finding.first_seen = seen.get(&finding.id).copied().unwrap_or(finding.first_seen);
        }
        Ok(())
    }
}

/// What is wrong with an image, the worst first, as if it were seen for the first time.
pub(super) fn listed(contents: &Contents, now: Micros) -> Vec<Finding> {
    let found: HashMap<&str, &Found> = contents.components.iter().map(|found| (&*found.id, found)).collect();
    let one = |one: &document::Finding| finding(one, found.get(&*one.component).copied(), now);
    let mut findings: Vec<Finding> = contents.findings.iter().map(one).collect();
    let rank = |finding: &Finding| (finding.lifted, !finding.known_exploited, std::cmp::Reverse(finding.severity));
    findings.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| (&a.id, &a.component).cmp(&(&b.id, &b.component))));
    findings
}

/// The components that an advisory speaks of, by any of its names.
pub(super) async fn advisory_target<Q: Queryable>(at: &Store<Q>, name: &str) -> Result<Target, Error> {
    let mut known = at.vulnerabilities(name).await?;
    if known.is_empty() {
        known = at.vulnerabilities(&name.to_uppercase()).await?;
    }
    let ids: Vec<String> = known.iter().map(|one| one.id.clone()).collect();
    let seen = at.first_seen(&ids).await?;
    Ok(Target {
        advisory: known.into_iter().next().map(|one| WhereAdvisory {
            aliases: one.names.iter().filter(|name| **name != one.id).cloned().collect(),
            summary: Some(one.summary).filter(|summary| !summary.is_empty()),
            severity: severity_of(&one.severity),
            known_exploited: one.known_exploited,
            published: one.published,
            first_seen: seen.values().min().copied(),
            id: one.id,
        }),
        seek: Some(Seek::Vulnerabilities(seen.keys().cloned().collect())).filter(|_| !seen.is_empty()),
        vulnerabilities: seen.into_keys().collect(),
    })
}

pub(super) fn timestamp(time: Micros) -> Timestamp {
    Timestamp::from_microsecond(time.0).unwrap_or_default()
}

pub(super) fn unusable(error: impl std::fmt::Display) -> Error {
    Error::Advisories(error.to_string())
}

impl From<finding::store::StoreError> for Error {
    fn from(error: finding::store::StoreError) -> Self {
        unusable(error)
    }
}

fn opened(bytes: &[u8], folder: &std::path::Path) -> Result<File, Error> {
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(bytes)?;
    Ok(File::open(file)?)
}

/// What differs between two files.
fn change(before: Option<&Known>, bytes: Bytes, folder: &std::path::Path) -> Result<Change, Error> {
    let after = opened(&bytes, folder)?;
    let lists = after.lists()?;
    let (old, old_lists) = match before {
        Some(known) => (known.file.records()?, known.file.lists()?),
        None => (Vec::new(), finding::Lists::default()),
    };
    let new = after.records()?;
    let exploited_anew: HashSet<&String> = lists
        .exploited
        .keys()
        .filter(|cve| !old_lists.exploited.contains_key(*cve))
        .chain(old_lists.exploited.keys().filter(|cve| !lists.exploited.contains_key(*cve)))
        .collect();
    let is_exploited_anew =
        |record: &Record| record.subjects.iter().flat_map(|subject| &subject.ids).any(|id| exploited_anew.contains(id));
    fn content(record: &Record) -> (Vec<&[String]>, &str) {
        (record.subjects.iter().map(|subject| &*subject.ids).collect(), &record.text)
    }
    let known: HashSet<_> = old.iter().map(content).collect();
    let there: HashSet<_> = new.iter().map(content).collect();
    let mut change = Change { bytes: bytes.to_vec(), ..Change::default() };
    let changed = new.iter().filter(|record| !known.contains(&content(record)) || is_exploited_anew(record));
    let left = old.iter().filter(|record| !there.contains(&content(record)));
    let mut named: HashSet<&String> = HashSet::new();
    for record in changed.chain(left) {
        let advisory = record.advisory().map_err(unusable)?;
        change.names.extend(advisory.names().into_iter().map(|(ecosystem, name)| (ecosystem.word(), name)));
        named.extend(record.subjects.iter().flat_map(|subject| &subject.ids));
    }
    let is_first = before.is_none();
    let vulnerabilities = vulnerabilities::of(&new, &lists, &named)?;
    if !is_first {
        change.worse = vulnerabilities::worse(&vulnerabilities::of(&old, &old_lists, &named)?, &vulnerabilities);
    }
    fn ids(records: &[Record]) -> HashSet<&String> {
        records.iter().flat_map(|record| &record.subjects).filter_map(|subject| subject.ids.first()).collect()
    }
    let ids_now = ids(&new);
    change.gone = ids(&old).into_iter().filter(|id| !ids_now.contains(*id)).cloned().collect();
    change.new = vulnerabilities.into_values().collect();
    Ok(change)
}

/// Components as advisories name them.
fn named(page: &[(i64, Key)]) -> Vec<Component> {
    page.iter().map(|(_, key)| key.component()).collect()
}

/// What each component has.
fn matches(advisories: &finding::Advisories, page: &[(i64, Key)]) -> BTreeMap<i64, BTreeMap<String, Match>> {
    let components = named(page);
    let mut by_platform: BTreeMap<Option<&Platform>, Vec<usize>> = BTreeMap::new();
    for (at, (_, key)) in page.iter().enumerate() {
        by_platform.entry(key.platform.as_ref()).or_default().push(at);
    }
    let mut all = BTreeMap::new();
    for (platform, positions) in by_platform {
        let scope = advisories.on(platform);
        for at in positions {
            let (Some((id, _)), Some(component)) = (page.get(at), components.get(at)) else { continue };
            let found = advisories.matches(&scope, component, component.evidence, "");
            let mut has: BTreeMap<String, Match> = found
                .findings
                .into_iter()
                .map(|finding| (finding.id, Match { is_certain: true, fixed_in: finding.fixed_in }))
                .collect();
            for undecided in found.undecided {
                has.entry(undecided.id).or_insert(Match { is_certain: false, fixed_in: Vec::new() });
            }
            all.insert(*id, has);
        }
    }
    all
}

pub(super) fn severity_of(word: &str) -> Severity {
    match word {
        "critical" => Severity::Critical,
        "high" => Severity::High,
        "medium" => Severity::Medium,
        "low" => Severity::Low,
        "none" | "negligible" => Severity::Negligible,
        _ => Severity::Unknown,
    }
}

fn finding(of: &document::Finding, found: Option<&Found>, first_seen: Micros) -> Finding {
    let verdict = of.verdict.as_ref().map(|verdict| {
        let statement = verdict.statement.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
        format!("{} says {}{statement}", verdict.document, verdict.status.word())
    });
    let verdict = verdict.or_else(|| {
        let heard = of.heard.iter().find(|heard| heard.passed_over.is_some())?;
        let why = heard.passed_over.as_deref().unwrap_or_default();
        Some(format!("{} says {}, which does not apply: {why}", heard.document, heard.status.word()))
    });
    Finding {
        id: of.id.clone(),
        aliases: of.aliases.clone(),
        component: of.component.clone(),
        summary: of.summary.clone(),
        severity: severity_of(of.severity.word()),
        cvss_tenths: of.cvss.as_ref().map(|cvss| (cvss.score * 10.0).round() as u32),
        epss_basis_points: of.epss.as_ref().map(|epss| (epss.score * 10_000.0).round() as u32),
        known_exploited: of.known_exploited,
        range: of.range.clone(),
        fixed_in: of.fixed_in.clone(),
        evidence: evidence(of.evidence),
        verdict,
        lifted: !of.counts(),
        first_seen,
        places: found.map(|found| found.places.iter().take(PLACES_SHOWN).map(place).collect()).unwrap_or_default(),
    }
}
