//! Where something is: from what is sought to components, images, releases, environments and hosts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use api::Page;
use api::delivery::ReleaseId;
use api::inspect::{
    Evidence, Exposure, Fix, NotExamined, Place, Sought, Where, WhereComponent, WhereImage, WhereRelease,
};
use base::page::PageRequest;
use tokio::time::{Duration, Instant};

use super::Service;
use super::error::Error;
use super::store::{Exposed, Held, Holder, ImageRow, Key, ReleaseRow, Seek, State};
use super::views::evidence;
use crate::assemble::id;
use crate::component::Ecosystem;
use crate::licence::Expression;

/// Components of an image that are named.
const COMPONENTS_SHOWN: usize = 20;
/// What runs and is not examined, as far as it is named.
const NOT_EXAMINED_SHOWN: u32 = 100;
/// How long what is known of what runs is good: within it, others on the same database may change it.
const USED_FOR: Duration = Duration::from_secs(1);
/// Bytes of what is sought.
const SOUGHT_BYTES_MAX: usize = 1024;

/// What runs, as of a moment.
pub(super) struct Used {
    read_at: Instant,
    changes: u64,
    /// Images by number.
    images: HashSet<i64>,
    not_examined: Vec<NotExamined>,
    incomplete: u64,
}

/// What is sought, as the index knows it.
pub(super) struct Target {
    pub(super) seek: Option<Seek>,
    /// For an advisory: what it is, and which versions are not affected any more, by component.
    pub(super) advisory: Option<api::inspect::WhereAdvisory>,
    pub(super) fixed_in: HashMap<i64, Vec<String>>,
    /// For an advisory: components of which nobody can say whether it affects them.
    pub(super) undecided: HashSet<i64>,
}

impl Service {
    pub(super) async fn where_is(&self, sought: &Sought, history: bool, page: &PageRequest) -> Result<Where, Error> {
        let after = cursor(page.after.as_deref())?;
        let target = self.target(sought).await?;
        let mut holders = match &target.seek {
            Some(seek) => self.store().holders(seek).await?,
            None => BTreeMap::new(),
        };
        if target.advisory.is_some() {
            // What an OS package owns is that package under another name, and advisories speak of the package.
            holders.retain(|_, holder| {
                holder.components.retain(|_, held| !matches!(held, Some(Held::Component { is_owned: true, .. })));
                !holder.components.is_empty()
            });
        }
        let used = self.used().await?;
        // Those that run somewhere first, then the newest.
        let mut order: Vec<(bool, Reverse<i64>)> =
            holders.keys().map(|number| (!used.images.contains(number), Reverse(*number))).collect();
        order.sort_unstable();
        let begin = after.map_or(0, |after| order.partition_point(|place| *place <= after));
        let limit = page.limit as usize;
        let shown = order.get(begin..order.len().min(begin + limit)).unwrap_or_default();
        let next = (begin + limit < order.len()).then(|| shown.last().map(cursor_text)).flatten();
        let numbers: Vec<i64> = shown.iter().map(|(_, Reverse(number))| *number).collect();
        let images = self.images(&numbers, &holders, &target, history).await?;
        let fixes = match &target.advisory {
            Some(_) => self.fixes(&images, &holders).await?,
            None => Vec::new(),
        };
        Ok(Where {
            at: self.now(),
            advisory: target.advisory,
            images_count: order.len() as u64,
            images: Page { items: images, next },
            fixes,
            not_examined: used.not_examined.clone(),
            images_incomplete: used.incomplete,
        })
    }

    async fn target(&self, sought: &Sought) -> Result<Target, Error> {
        let of = |seek| Target { seek, advisory: None, fixed_in: HashMap::new(), undecided: HashSet::new() };
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
                Ok(of(self.store().licence(name).await?.map(Seek::Licence)))
            }
            Sought::Advisory { id } => self.advisory_target(id).await,
        }
    }

    /// What runs, which is the same for all questions of a second.
    async fn used(&self) -> Result<Arc<Used>, Error> {
        let changes = *self.inner.changes.borrow();
        let mut used = self.inner.used.lock().await;
        if let Some(known) = used.as_ref()
            && known.changes == changes
            && known.read_at.elapsed() < USED_FOR
        {
            return Ok(Arc::clone(known));
        }
        let read = Arc::new(Used {
            read_at: Instant::now(),
            changes,
            images: self.store().images_used().await?,
            not_examined: self.store().not_examined(NOT_EXAMINED_SHOWN).await?,
            incomplete: self.store().images_incomplete().await?,
        });
        *used = Some(Arc::clone(&read));
        Ok(read)
    }

    async fn images(
        &self,
        numbers: &[i64],
        holders: &BTreeMap<i64, Holder>,
        target: &Target,
        history: bool,
    ) -> Result<Vec<WhereImage>, Error> {
        let rows = self.store().images(numbers).await?;
        let digests: Vec<_> = rows.values().map(|row| row.digest).collect();
        let repositories = self.store().repositories(&digests).await?;
        let places: Vec<_> =
            digests.iter().filter_map(|digest| Some((repositories.get(digest)?.clone(), *digest))).collect();
        let tags = self.inner.registry.tags_leading_to(&places).await?;
        let mut components = self.where_components(numbers, holders, target).await?;
        let releases = self.store().releases(&digests).await?;
        let ids: Vec<ReleaseId> =
            releases.iter().map(|row| row.release.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        let exposures = self.store().exposures(&ids, history).await?;
        let mut images = Vec::with_capacity(numbers.len());
        for number in numbers {
            // What left the registry meanwhile is not there.
            let Some(row) = rows.get(number).filter(|row| row.state == State::Done) else { continue };
            let Some(repository) = repositories.get(&row.digest) else { continue };
            images.push(WhereImage {
                repository: repository.clone(),
                digest: row.digest,
                tags: tags
                    .get(&(repository.clone(), row.digest))
                    .map(|tags| tags.iter().map(ToString::to_string).collect())
                    .unwrap_or_default(),
                components: components.remove(number).unwrap_or_default(),
                components_count: holders.get(number).map_or(0, |holder| holder.components.len() as u64),
                complete: row.unexamined == 0,
                releases: where_releases(row, &releases, &exposures),
            });
        }
        Ok(images)
    }

    /// The first components of each image, with where they lie.
    async fn where_components(
        &self,
        numbers: &[i64],
        holders: &BTreeMap<i64, Holder>,
        target: &Target,
    ) -> Result<BTreeMap<i64, Vec<WhereComponent>>, Error> {
        let mut shown: Vec<(i64, i64, Option<Held>)> = Vec::new();
        for number in numbers {
            let Some(holder) = holders.get(number) else { continue };
            let first = holder.components.iter().take(COMPONENTS_SHOWN);
            shown.extend(first.map(|(component, held)| (*number, *component, held.clone())));
        }
        let missing: Vec<(i64, i64)> = shown
            .iter()
            .filter(|(_, _, held)| held.is_none())
            .map(|(number, component, _)| (*number, *component))
            .collect();
        let held_there = self.store().held(&missing).await?;
        for (number, component, held) in &mut shown {
            if held.is_none() {
                *held = held_there.get(&(*number, *component)).cloned();
            }
        }
        let ids: BTreeSet<i64> = shown.iter().map(|(_, component, _)| *component).collect();
        let keys = self.store().keys(&ids.into_iter().collect::<Vec<_>>()).await?;
        let chains: BTreeSet<i64> = shown
            .iter()
            .flat_map(|(_, _, held)| match held {
                Some(Held::Component { places, .. }) => places.iter().map(|(_, chain)| *chain).collect(),
                _ => Vec::new(),
            })
            .collect();
        let chains = self.store().chains(&chains.into_iter().collect::<Vec<_>>()).await?;
        let mut components: BTreeMap<i64, Vec<WhereComponent>> = BTreeMap::new();
        for (number, component, held) in shown {
            let (Some(key), Some(Held::Component { evidence: class, places, .. })) = (keys.get(&component), held)
            else {
                continue;
            };
            components.entry(number).or_default().push(WhereComponent {
                id: id(&Key::component(key)),
                evidence: match target.undecided.contains(&component) {
                    true => Evidence::Inferred,
                    false => evidence(class),
                },
                places: places
                    .into_iter()
                    .filter_map(|(layer, chain)| Some(Place { layer, chain: chains.get(&chain)?.clone() }))
                    .collect(),
                fixed_in: target.fixed_in.get(&component).cloned().unwrap_or_default(),
            });
        }
        Ok(components)
    }

    /// For the services of these images: the first release after the last one that is affected, and where it is.
    async fn fixes(&self, images: &[WhereImage], holders: &BTreeMap<i64, Holder>) -> Result<Vec<Fix>, Error> {
        let services: BTreeSet<_> = images
            .iter()
            .flat_map(|image| &image.releases)
            .map(|release| (release.app.clone(), release.service.clone()))
            .collect();
        let mut fixes = Vec::with_capacity(services.len());
        for (app, service) in services {
            let releases = self.store().releases_of(&app, &service).await?;
            let is_affected = |images: &[(i64, bool)]| images.iter().any(|(number, _)| holders.contains_key(number));
            let last = releases.iter().rposition(|(_, images)| is_affected(images));
            let later = last.and_then(|last| releases.get(last + 1..)).unwrap_or_default();
            // Of what was not read nobody knows whether it is fixed.
            let is_read = |images: &[(i64, bool)]| !images.is_empty() && images.iter().all(|(_, is_read)| *is_read);
            let fixed: Vec<ReleaseId> =
                later.iter().filter(|(_, images)| is_read(images)).map(|(id, _)| id.clone()).collect();
            let exposures = self.store().exposures(&fixed, false).await?;
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
}

fn where_releases(
    image: &ImageRow,
    releases: &[ReleaseRow],
    exposures: &BTreeMap<ReleaseId, Vec<Exposed>>,
) -> Vec<WhereRelease> {
    let of_image = releases.iter().filter(|release| release.image == image.digest);
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
