//! Where something is: from what is sought to components, images, releases, environments and hosts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use api::Page;
use api::delivery::ReleaseId;
use api::inspect::{
    Evidence, Exposure, Fix, NotExamined, Place, Sought, Where, WhereComponent, WhereImage, WhereRelease,
};
use base::page::PageRequest;
use futures::FutureExt as _;
use oci::Digest;

use super::Service;
use super::error::Error;
use super::findings::{Known, advisory_target};
use super::numbers::Numbers;
use super::store::{Changes, Exposed, Holders, Holding, Key, Moment, OwnedIn, ReleaseRow, Seek, platform_of};
use super::views::evidence;
use crate::assemble::id;
use crate::component::Ecosystem;
use crate::licence::Expression;

/// Components of an image that are named.
const COMPONENTS_SHOWN: usize = 20;
/// What runs and is not examined, as far as it is named.
const NOT_EXAMINED_SHOWN: u32 = 100;
/// How often a moment is looked for in which the file of advisories is the one that is open.
const MOMENTS_MAX: u32 = 5;
/// Bytes of what is sought.
const SOUGHT_BYTES_MAX: usize = 1024;

/// What runs and what is not examined, which is the same for all questions until something changes.
pub(super) struct Used {
    changes: Changes,
    images: Numbers,
    not_examined: Vec<NotExamined>,
    incomplete: u64,
}

/// Images of whose packages advisories know nothing.
pub(super) struct Unknown {
    images_changes: i64,
    /// Of the advisories.
    version: i64,
    images: Arc<Numbers>,
}

/// What is asked.
struct Question {
    sought: Sought,
    history: bool,
    /// The place after which the page begins.
    after: Option<(bool, Reverse<i64>)>,
    /// Images of a page.
    limit: usize,
}

/// What is sought, as the index knows it.
pub(super) struct Target {
    pub(super) seek: Option<Seek>,
    /// For an advisory: what it is, and the names under which components have it.
    pub(super) advisory: Option<api::inspect::WhereAdvisory>,
    pub(super) vulnerabilities: Vec<String>,
}

impl Service {
    /// Where something is, as of one moment: what of the answer is in this context's database agrees with itself.
    pub(super) async fn where_is(&self, sought: &Sought, history: bool, page: &PageRequest) -> Result<Where, Error> {
        let after = cursor(page.after.as_deref())?;
        let question = Question { sought: sought.clone(), history, after, limit: page.limit as usize };
        let question = Arc::new(question);
        // The file is opened beforehand: to wait for it with a connection in hand would be to wait for those who wait for
        // one.
        let mut known = match sought {
            Sought::Advisory { .. } => self.known_last().await?,
            Sought::Component { .. } | Sought::Licence { .. } => None,
        };
        for _ in 0..MOMENTS_MAX {
            let (service, question) = (self.clone(), Arc::clone(&question));
            let found = self
                .store()
                .read(move |at: Moment<'_>| async move { service.answer(&at, &question, known).await }.boxed());
            if let Some(mut found) = found.await? {
                self.tags_tell(&mut found.images.items).await?;
                return Ok(found);
            }
            known = self.known().await?;
        }
        Err(Error::Work("advisories are taken in faster than they can be read; ask again".to_owned()))
    }

    /// The answer of one moment, without the registry's tags; none if another file of advisories is there in it.
    async fn answer(
        &self,
        at: &Moment<'_>,
        question: &Question,
        known: Option<Arc<Known>>,
    ) -> Result<Option<Where>, Error> {
        let Question { sought, history, after, limit } = question;
        if matches!(sought, Sought::Advisory { .. }) {
            let version = at.advisory_version().await?.map(|(version, _)| version);
            if version != known.as_ref().map(|known| known.version) {
                return Ok(None);
            }
        }
        let now = self.now();
        let is_comparing = known.is_some() && !at.unmatched(0, 1).await?.is_empty();
        let used = self.used(at).await?;
        let target = target(at, sought).await?;
        let holders = match (&target.seek, known) {
            (Some(seek), None) => at.holders(seek, OwnedIn::All).await?,
            (Some(seek), Some(known)) => {
                // What an OS package owns is that package under another name, and advisories speak of the package.
                let unknown = self.unknown(at, &known, used.changes.images).await?;
                at.holders(seek, OwnedIn::These(unknown)).await?
            }
            (None, _) => Holders::default(),
        };
        // Those that run somewhere first, then the newest.
        let running = holders.images.falling(&used.images, true).map(|number| (false, Reverse(number)));
        let idle = holders.images.falling(&used.images, false).map(|number| (true, Reverse(number)));
        let mut order = running.chain(idle).skip_while(|place| after.as_ref().is_some_and(|after| place <= after));
        let shown: Vec<(bool, Reverse<i64>)> = order.by_ref().take(*limit).collect();
        let next = order.next().and_then(|_| shown.last()).map(cursor_text);
        let numbers: Vec<i64> = shown.iter().map(|(_, Reverse(number))| *number).collect();
        let images = images(at, &numbers, &holders, &target, *history).await?;
        let fixes = match &target.advisory {
            Some(_) => fixes(at, &images, &holders.images).await?,
            None => Vec::new(),
        };
        Ok(Some(Where {
            at: now,
            advisory: target.advisory,
            images_count: holders.images.len(),
            images: Page { items: images, next },
            fixes,
            not_examined: used.not_examined.clone(),
            images_incomplete: used.incomplete,
            is_comparing,
        }))
    }

    /// In which images another name of an OS package counts with these advisories, as of now.
    pub(super) async fn owned_in(&self, known: &Arc<Known>) -> Result<OwnedIn, Error> {
        let (service, known) = (self.clone(), Arc::clone(known));
        let unknown = self.store().read(move |at: Moment<'_>| {
            let unknown = async move {
                let changes = at.changes().await?;
                service.unknown(&at, &known, changes.images).await
            };
            unknown.boxed()
        });
        Ok(OwnedIn::These(unknown.await?))
    }

    /// The images of whose packages these advisories know nothing. Whether an advisory affects such a package was not
    /// compared, so its other names count.
    async fn unknown(&self, at: &Moment<'_>, known: &Known, images_changes: i64) -> Result<Arc<Numbers>, Error> {
        let kept = || self.inner.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current = |kept: &&Unknown| kept.images_changes == images_changes && kept.version == known.version;
        if let Some(kept) = kept().as_ref().filter(is_current) {
            return Ok(Arc::clone(&kept.images));
        }
        let mut images = Numbers::default();
        for platform in at.platforms().await? {
            if !known.knows(platform_of(&platform).as_ref()) {
                images.extend(&at.images_of_platform(&platform).await?);
            }
        }
        let images = Arc::new(images);
        *kept() = Some(Unknown { images_changes, version: known.version, images: Arc::clone(&images) });
        Ok(images)
    }

    /// What runs, as the snapshot has it.
    async fn used(&self, at: &Moment<'_>) -> Result<Arc<Used>, Error> {
        let kept = || self.inner.used.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = at.changes().await?;
        if let Some(known) = kept().as_ref().filter(|known| known.changes == changes) {
            return Ok(Arc::clone(known));
        }
        let read = Arc::new(Used {
            changes,
            images: at.images_used().await?,
            not_examined: at.not_examined(NOT_EXAMINED_SHOWN).await?,
            incomplete: at.images_incomplete().await?,
        });
        *kept() = Some(Arc::clone(&read));
        Ok(read)
    }

    /// Says which tags lead to the images, as the registry has them now.
    async fn tags_tell(&self, images: &mut [WhereImage]) -> Result<(), Error> {
        let places: Vec<_> = images.iter().map(|image| (image.repository.clone(), image.digest)).collect();
        let mut tags = self.inner.registry.tags_leading_to(&places).await?;
        for (image, place) in images.iter_mut().zip(&places) {
            image.tags = tags.remove(place).unwrap_or_default().iter().map(ToString::to_string).collect();
        }
        Ok(())
    }
}

async fn target(at: &Moment<'_>, sought: &Sought) -> Result<Target, Error> {
    let of = |seek| Target { seek, advisory: None, vulnerabilities: Vec::new() };
    match sought {
        Sought::Component { ecosystem, name, version } => {
            let is_long = |text: &str| text.len() > SOUGHT_BYTES_MAX;
            if name.is_empty() || is_long(name) || version.as_deref().is_some_and(is_long) {
                return Err(Error::Request(format!("a name has 1 to {SOUGHT_BYTES_MAX} bytes")));
            }
            let ecosystem = ecosystem.as_deref().map(ecosystem_of).transpose()?;
            Ok(of(Some(Seek::Name { ecosystem, name: name.clone(), version: version.clone() })))
        }
        Sought::Licence { id } => {
            let names = Expression::read(id).names();
            // What is no single licence is looked for as it stands.
            let name = if let [name] = names.as_slice() { name } else { id };
            Ok(of(at.licence(name).await?.map(Seek::Licence)))
        }
        Sought::Advisory { id } => advisory_target(at, id).await,
    }
}

async fn images(
    at: &Moment<'_>,
    numbers: &[i64],
    holders: &Holders,
    target: &Target,
    history: bool,
) -> Result<Vec<WhereImage>, Error> {
    // What left the registry, or is read anew, is not there.
    let holdings = at.holdings(holders, numbers, COMPONENTS_SHOWN).await?;
    let digests: Vec<_> = holdings.values().map(|holding| holding.digest).collect();
    let mut components = where_components(at, numbers, &holdings, target).await?;
    let releases = at.releases(&digests).await?;
    let ids: Vec<ReleaseId> =
        releases.iter().map(|row| row.release.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    let exposures = at.exposures(&ids, history).await?;
    let mut images = Vec::with_capacity(numbers.len());
    for number in numbers {
        let Some(holding) = holdings.get(number) else { continue };
        images.push(WhereImage {
            repository: holding.repository.clone(),
            digest: holding.digest,
            tags: Vec::new(),
            components: components.remove(number).unwrap_or_default(),
            components_count: holding.picked.count,
            complete: holding.is_complete,
            releases: where_releases(&holding.digest, &releases, &exposures),
        });
    }
    Ok(images)
}

/// The first components of each image, with where they lie.
async fn where_components(
    at: &Moment<'_>,
    numbers: &[i64],
    holdings: &HashMap<i64, Holding>,
    target: &Target,
) -> Result<BTreeMap<i64, Vec<WhereComponent>>, Error> {
    let shown =
        || holdings.iter().flat_map(|(number, holding)| holding.picked.first.iter().map(move |one| (*number, one)));
    let ids: BTreeSet<i64> = shown().map(|(_, (component, _))| *component).collect();
    let ids: Vec<i64> = ids.into_iter().collect();
    let keys = at.keys(&ids).await?;
    let told = at.found(&target.vulnerabilities, &ids).await?;
    let lifted = at.lifted(&target.vulnerabilities, numbers).await?;
    let chains: BTreeSet<i64> =
        shown().flat_map(|(_, (_, held))| held.places.iter().map(|(_, chain)| *chain)).collect();
    let chains = at.chains(&chains.into_iter().collect::<Vec<_>>()).await?;
    let mut components: BTreeMap<i64, Vec<WhereComponent>> = BTreeMap::new();
    for (number, (component, held)) in shown() {
        let Some(key) = keys.get(component) else { continue };
        let id = id(&Key::component(key));
        components.entry(number).or_default().push(WhereComponent {
            lifted: lifted.get(&(number, id.clone())).cloned(),
            id,
            evidence: match told.get(component) {
                Some(found) if !found.is_certain => Evidence::Inferred,
                _ => evidence(held.evidence),
            },
            places: held
                .places
                .iter()
                .filter_map(|(layer, chain)| Some(Place { layer: *layer, chain: chains.get(chain)?.clone() }))
                .collect(),
            fixed_in: told.get(component).map(|found| found.fixed_in.clone()).unwrap_or_default(),
        });
    }
    Ok(components)
}

/// For the services of these images: the first release after the last one that is affected, and where it is.
async fn fixes(at: &Moment<'_>, images: &[WhereImage], affected: &Numbers) -> Result<Vec<Fix>, Error> {
    let services: BTreeSet<_> = images
        .iter()
        .flat_map(|image| &image.releases)
        .map(|release| (release.app.clone(), release.service.clone()))
        .collect();
    let mut fixes = Vec::with_capacity(services.len());
    for (app, service) in services {
        let releases = at.releases_of(&app, &service).await?;
        let is_affected = |images: &[(i64, bool)]| images.iter().any(|(number, _)| affected.contains(*number));
        let last = releases.iter().rposition(|(_, images)| is_affected(images));
        let later = last.and_then(|last| releases.get(last + 1..)).unwrap_or_default();
        // Of what was not read nobody knows whether it is fixed.
        let is_read = |images: &[(i64, bool)]| !images.is_empty() && images.iter().all(|(_, is_read)| *is_read);
        let fixed: Vec<ReleaseId> =
            later.iter().filter(|(_, images)| is_read(images)).map(|(id, _)| id.clone()).collect();
        let exposures = at.exposures(&fixed, false).await?;
        let environments: BTreeSet<_> = exposures.into_values().flatten().map(|exposed| exposed.env).collect();
        fixes.push(Fix {
            app,
            service,
            release: fixed.into_iter().next(),
            environments: environments.into_iter().collect(),
        });
    }
    Ok(fixes)
}
fn where_releases(
    image: &Digest,
    releases: &[ReleaseRow],
    exposures: &BTreeMap<ReleaseId, Vec<Exposed>>,
) -> Vec<WhereRelease> {
    let of_image = releases.iter().filter(|release| release.image == *image);
    of_image
        .map(|release| WhereRelease {
            release: release.release.clone(),
            app: release.app.clone(),
            service: release.service.clone(),
            environments: exposures
                .get(&release.release)
                .map(|exposures| exposures.iter().map(exposure).collect())
                .unwrap_or_default(),
        })
        .collect()
}

fn exposure(exposed: &Exposed) -> Exposure {
    let Exposed { env, since, until, hosts } = exposed;
    Exposure { environment: env.clone(), from: *since, to: *until, hosts: hosts.clone() }
}

/// The ecosystem of a word.
pub(super) fn ecosystem_of(word: &str) -> Result<Ecosystem, Error> {
    let known = super::stored::ECOSYSTEMS;
    known.into_iter().find(|ecosystem| ecosystem.word() == word).ok_or_else(|| {
        let words: Vec<&str> = known.into_iter().map(Ecosystem::word).collect();
        Error::Request(format!("`{}` is none of {}", word.chars().take(40).collect::<String>(), words.join(", ")))
    })
}

fn cursor(text: Option<&str>) -> Result<Option<(bool, Reverse<i64>)>, Error> {
    let Some(text) = text else { return Ok(None) };
    let read = || {
        let (is_idle, number) = text.split_once('.')?;
        Some((is_idle == "1", Reverse(number.parse().ok()?)))
    };
    read().map(Some).ok_or_else(|| Error::Request("the page cursor is not one".to_owned()))
}

fn cursor_text((is_idle, Reverse(number)): &(bool, Reverse<i64>)) -> String {
    format!("{}.{number}", u8::from(*is_idle))
}

#[cfg(test)]
mod tests;
