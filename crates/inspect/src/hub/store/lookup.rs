//! Looking things up in the index: which images have a component, or something under a licence.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use base::db::{LIST_MAX, Queryable, Row, Tx, sql};
use oci::{Digest, RepositoryName};

use super::contents::hash;
use super::held::{self, Picked, Wanted};
use super::images::{ImageRow, image};
use super::postings;
use super::{Store, damaged, digest, parsed};
use crate::advisory::name::normalised;
use crate::advisory::place::Platform;
use crate::component::{Component, Ecosystem, Evidence, Source};
use crate::hub::error::Error;
use crate::hub::numbers::Numbers;
use crate::hub::stored::ECOSYSTEMS;

/// Images that are listed at once.
const IMAGES_PAGE: u32 = 50_000;
/// Components whose rows are read at once: each has one for every 16,384 images.
const COMPONENTS_AT_ONCE: usize = 200;

/// What tells components apart in the index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::hub) struct Key {
    pub(in crate::hub) ecosystem: Ecosystem,
    pub(in crate::hub) name: String,
    pub(in crate::hub) version: String,
    pub(in crate::hub) architecture: Option<String>,
    pub(in crate::hub) source: Option<(String, String)>,
    /// Whose package it is; none for what is the same everywhere.
    pub(in crate::hub) platform: Option<Platform>,
}

impl Key {
    /// Of a component of an image of that distribution.
    pub(in crate::hub) fn of(component: &Component, platform: Option<&Platform>) -> Self {
        let of_system = matches!(component.ecosystem, Ecosystem::Deb | Ecosystem::Rpm | Ecosystem::Apk);
        Self {
            ecosystem: component.ecosystem,
            name: component.name.clone(),
            version: component.version.clone(),
            architecture: component.architecture.clone(),
            source: component.source.as_ref().map(|source| (source.name.clone(), source.version.clone())),
            platform: platform.filter(|_| of_system).cloned(),
        }
    }

    /// As a component of which nothing else is known.
    pub(in crate::hub) fn component(&self) -> Component {
        let source = self.source.clone().map(|(name, version)| Source { name, version });
        Component {
            ecosystem: self.ecosystem,
            name: self.name.clone(),
            version: self.version.clone(),
            architecture: self.architecture.clone(),
            source,
            licences: Vec::new(),
            evidence: Evidence::Inferred,
        }
    }

    fn platform_text(&self) -> String {
        self.platform.as_ref().map(platform_text).unwrap_or_default()
    }

    pub(super) fn hash(&self) -> Vec<u8> {
        let (source, source_version) = self.source.as_ref().map_or(("", ""), |(name, version)| (name, version));
        let architecture = self.architecture.as_deref().unwrap_or_default();
        let parts = [
            self.ecosystem.word(),
            &self.name,
            &self.version,
            architecture,
            source,
            source_version,
            &self.platform_text(),
        ];
        hash(parts.join("\0").as_bytes())
    }

    pub(super) async fn insert(&self, tx: &mut Tx, id: i64, hash: &[u8]) -> Result<(), Error> {
        let name = normalised(self.ecosystem, &self.name);
        let artifact = match self.ecosystem {
            Ecosystem::Maven => name.rsplit_once(':').map_or("", |(_, artifact)| artifact),
            _ => "",
        };
        let source = self.source.as_ref();
        sql("INSERT INTO component (id, hash, ecosystem, name, version, architecture, source_name, source_version,
             platform, name_key, artifact_key, source_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)")
        .bind(id)
        .bind(hash)
        .bind(self.ecosystem.word())
        .bind(&self.name)
        .bind(&self.version)
        .bind(self.architecture.clone())
        .bind(source.map(|(name, _)| name.clone()))
        .bind(source.map(|(_, version)| version.clone()))
        .bind(self.platform_text())
        .bind(&*name)
        .bind(artifact)
        .bind(source.map_or("", |(name, _)| name))
        .execute(tx)
        .await?;
        Ok(())
    }
}

pub(super) fn key(row: &Row) -> Result<Key, Error> {
    let word: String = row.get("ecosystem")?;
    let ecosystem = ECOSYSTEMS.into_iter().find(|known| known.word() == word);
    let platform: String = row.get("platform")?;
    let source: Option<String> = row.get("source_name")?;
    let source_version: Option<String> = row.get("source_version")?;
    Ok(Key {
        ecosystem: ecosystem.ok_or_else(|| damaged("ecosystem", word))?,
        name: row.get("name")?,
        version: row.get("version")?,
        architecture: row.get("architecture")?,
        source: source.zip(source_version),
        platform: platform_of(&platform),
    })
}

/// A distribution's release as it is kept.
pub(in crate::hub) fn platform_text(platform: &Platform) -> String {
    format!("{}:{}", platform.id, platform.release)
}

/// The distribution's release that was kept.
pub(in crate::hub) fn platform_of(text: &str) -> Option<Platform> {
    let (id, release) = text.split_once(':')?;
    Some(Platform { id: id.to_owned(), release: release.to_owned(), channel: None })
}

/// What is looked for.
#[derive(Clone, Debug)]
pub(in crate::hub) enum Seek {
    /// A component by name.
    Name { ecosystem: Option<Ecosystem>, name: String, version: Option<String> },
    /// Whatever has one of these vulnerabilities.
    Vulnerabilities(Vec<String>),
    /// Components by number.
    Components(Vec<i64>),
    /// Something under a licence, by its number.
    Licence(i64),
}

/// In which images another name of an OS package counts.
#[derive(Clone, Debug, Default)]
pub(in crate::hub) enum OwnedIn {
    /// In all.
    #[default]
    All,
    /// In these alone.
    These(Arc<Numbers>),
}

/// An image that has what is looked for.
#[derive(Debug)]
pub(in crate::hub) struct Holding {
    /// The first by name of those that it is in.
    pub(in crate::hub) repository: RepositoryName,
    pub(in crate::hub) digest: Digest,
    pub(in crate::hub) is_complete: bool,
    pub(in crate::hub) picked: Picked,
}

/// The images that have what is looked for.
#[derive(Debug, Default)]
pub(in crate::hub) struct Holders {
    /// By number.
    pub(in crate::hub) images: Numbers,
    /// What they have it for: components by number, or the licence by its number below zero.
    pub(in crate::hub) subjects: BTreeSet<i64>,
    owned_in: OwnedIn,
}

impl Holders {
    fn new(rows: &[Row], owned_in: OwnedIn) -> Result<Self, Error> {
        let mut holders = Self { owned_in, ..Self::default() };
        for row in rows {
            let (subject, bucket): (i64, i64) = (row.get("subject")?, row.get("bucket")?);
            let runs = postings::runs(&row.get::<Vec<u8>>("images")?)?;
            let of_kind = |is_owned| {
                let runs = runs.iter().filter(move |run| run.is_owned == is_owned);
                runs.map(|run| (postings::image(bucket, run.first), postings::image(bucket, run.end)))
            };
            let is_held = of_kind(false).next().is_some();
            holders.images.insert_runs(of_kind(false));
            // As another name of an OS package, which counts in some images alone.
            let mut owned = Numbers::default();
            owned.insert_runs(of_kind(true));
            let owned = match &holders.owned_in {
                OwnedIn::All => owned,
                OwnedIn::These(images) => owned.both(images),
            };
            if is_held || owned.len() > 0 {
                holders.subjects.insert(subject);
            }
            holders.images.extend(&owned);
        }
        Ok(holders)
    }
}

fn counts(owned_in: &OwnedIn, image: i64, is_owned: bool) -> bool {
    match owned_in {
        OwnedIn::All => true,
        OwnedIn::These(images) => !is_owned || images.contains(image),
    }
}

/// The forms in which a name may be kept.
fn forms(ecosystem: Option<Ecosystem>, name: &str) -> Vec<String> {
    match ecosystem {
        Some(ecosystem) => vec![normalised(ecosystem, name).into_owned()],
        None => [Ecosystem::Npm, Ecosystem::PyPi, Ecosystem::Cargo, Ecosystem::NuGet]
            .into_iter()
            .map(|ecosystem| normalised(ecosystem, name).into_owned())
            .collect(),
    }
}

impl<Q: Queryable> Store<Q> {
    /// Which images have what is looked for.
    pub(in crate::hub) async fn holders(&self, seek: &Seek, owned_in: OwnedIn) -> Result<Holders, Error> {
        let mut rows = Vec::new();
        match seek {
            Seek::Name { ecosystem, name, version } => {
                let forms = forms(*ecosystem, name);
                let form = |at: usize| forms.get(at).or(forms.last()).map_or("", String::as_str);
                let version = version.as_deref().unwrap_or_default();
                let ecosystem = ecosystem.map_or("", Ecosystem::word);
                let statement = sql("SELECT p.subject AS subject, p.bucket AS bucket, p.images AS images \
                     FROM component c JOIN posting p ON p.subject = c.id \
                     WHERE (c.name_key IN ($1, $2, $3, $4) OR (c.artifact_key <> '' AND c.artifact_key = $5)) \
                     AND ($6 = '' OR c.ecosystem = $6) AND ($7 = '' OR c.version = $7)");
                let statement = statement.bind(form(0)).bind(form(1)).bind(form(2)).bind(form(3)).bind(name);
                rows = statement.bind(ecosystem).bind(version).all(&self.db).await?;
            }
            Seek::Vulnerabilities(ids) => {
                for chunk in ids.chunks(LIST_MAX) {
                    let statement = sql("SELECT p.subject AS subject, p.bucket AS bucket, p.images AS images \
                         FROM (SELECT DISTINCT component FROM finding WHERE id = ANY($1)) f \
                         JOIN posting p ON p.subject = f.component");
                    rows.extend(statement.bind(chunk).all(&self.db).await?);
                }
            }
            Seek::Components(components) => {
                for chunk in components.chunks(COMPONENTS_AT_ONCE) {
                    let statement = sql("SELECT subject, bucket, images FROM posting WHERE subject = ANY($1)");
                    rows.extend(statement.bind(chunk).all(&self.db).await?);
                }
            }
            Seek::Licence(licence) => {
                let statement = sql("SELECT subject, bucket, images FROM posting WHERE subject = $1");
                rows = statement.bind(-licence).all(&self.db).await?;
            }
        }
        Holders::new(&rows, owned_in)
    }

    /// The number of a licence.
    pub(in crate::hub) async fn licence(&self, spdx: &str) -> Result<Option<i64>, Error> {
        let row = sql("SELECT id FROM licence WHERE spdx = $1").bind(spdx).optional(&self.db).await?;
        Ok(row.map(|row| row.get("id")).transpose()?)
    }

    /// Components by number.
    pub(in crate::hub) async fn keys(&self, ids: &[i64]) -> Result<HashMap<i64, Key>, Error> {
        let mut keys = HashMap::with_capacity(ids.len());
        for chunk in ids.chunks(LIST_MAX) {
            let statement =
                sql("SELECT id, ecosystem, name, version, architecture, source_name, source_version, platform \
                 FROM component WHERE id = ANY($1)");
            for row in statement.bind(chunk).all(&self.db).await? {
                keys.insert(row.get("id")?, key(&row)?);
            }
        }
        Ok(keys)
    }

    /// Chains of paths by number.
    pub(in crate::hub) async fn chains(&self, ids: &[i64]) -> Result<HashMap<i64, Vec<String>>, Error> {
        let mut chains = HashMap::with_capacity(ids.len());
        for chunk in ids.chunks(LIST_MAX) {
            let statement = sql("SELECT id, chain FROM place WHERE id = ANY($1)");
            for row in statement.bind(chunk).all(&self.db).await? {
                let chain: String = row.get("chain")?;
                let chain = serde_json::from_str(&chain).map_err(|error| damaged("chain", error))?;
                chains.insert(row.get("id")?, chain);
            }
        }
        Ok(chains)
    }

    /// Images by number, without those that are not there.
    pub(in crate::hub) async fn images(&self, numbers: &[i64]) -> Result<HashMap<i64, ImageRow>, Error> {
        let mut images = HashMap::with_capacity(numbers.len());
        for chunk in numbers.chunks(LIST_MAX) {
            let statement =
                sql("SELECT number, digest, state, at, why, system, unexamined, secrets, components FROM image \
                 WHERE number = ANY($1)");
            for row in statement.bind(chunk).all(&self.db).await? {
                images.insert(row.get("number")?, image(&row)?);
            }
        }
        Ok(images)
    }

    /// The first repository by name of each of these images.
    pub(in crate::hub) async fn repositories(
        &self,
        digests: &[Digest],
    ) -> Result<HashMap<Digest, RepositoryName>, Error> {
        let mut repositories = HashMap::with_capacity(digests.len());
        let texts: Vec<String> = digests.iter().map(ToString::to_string).collect();
        for chunk in texts.chunks(LIST_MAX) {
            let statement =
                sql("SELECT digest, MIN(repository) AS repository FROM image_repository WHERE digest = ANY($1) \
                 GROUP BY digest");
            for row in statement.bind(chunk).all(&self.db).await? {
                repositories.insert(digest(&row, "digest")?, parsed(&row, "repository")?);
            }
        }
        Ok(repositories)
    }

    /// Images that were read, by number, with what they have of what is looked for.
    pub(in crate::hub) async fn holdings(
        &self,
        holders: &Holders,
        images: &[i64],
        limit: usize,
    ) -> Result<HashMap<i64, Holding>, Error> {
        let wanted = match holders.subjects.first() {
            Some(licence) if *licence < 0 => Wanted::Under(-licence),
            _ => Wanted::Components(&holders.subjects),
        };
        let mut holdings = HashMap::with_capacity(images.len());
        for chunk in images.chunks(LIST_MAX) {
            let statement =
                sql("SELECT i.number AS number, i.digest AS digest, i.unexamined AS unexamined, h.held AS held, \
                 (SELECT MIN(r.repository) FROM image_repository r WHERE r.digest = i.digest) AS repository \
                 FROM image i JOIN image_held h ON h.number = i.number WHERE i.number = ANY($1) AND i.state = 'done'");
            for row in statement.bind(chunk).all(&self.db).await? {
                let Some(repository) = row.get::<Option<String>>("repository")? else { continue };
                let image = row.get("number")?;
                let counts = |is_owned| counts(&holders.owned_in, image, is_owned);
                let holding = Holding {
                    repository: repository.parse().map_err(|error| damaged("repository", error))?,
                    digest: digest(&row, "digest")?,
                    is_complete: row.get::<i64>("unexamined")? == 0,
                    picked: held::pick(&row.get::<Vec<u8>>("held")?, wanted, limit, counts)?,
                };
                holdings.insert(image, holding);
            }
        }
        Ok(holdings)
    }

    /// Why these vulnerabilities are lifted in images, by image and component.
    pub(in crate::hub) async fn lifted(
        &self,
        ids: &[String],
        images: &[i64],
    ) -> Result<HashMap<(i64, String), String>, Error> {
        let mut lifted = HashMap::new();
        for ids in ids.chunks(LIST_MAX) {
            for images in images.chunks(LIST_MAX) {
                let rows = sql("SELECT image, component, why FROM lifted WHERE image = ANY($1) AND id = ANY($2)");
                for row in rows.bind(images).bind(ids).all(&self.db).await? {
                    lifted.insert((row.get("image")?, row.get("component")?), row.get("why")?);
                }
            }
        }
        Ok(lifted)
    }

    /// The distributions that images are of; empty for none.
    pub(in crate::hub) async fn platforms(&self) -> Result<Vec<String>, Error> {
        let rows = sql("SELECT DISTINCT platform FROM image").all(&self.db).await?;
        rows.iter().map(|row| Ok(row.get("platform")?)).collect()
    }

    /// The images of a distribution.
    pub(in crate::hub) async fn images_of_platform(&self, platform: &str) -> Result<Numbers, Error> {
        let (mut numbers, mut after) = (Numbers::default(), -1_i64);
        loop {
            let rows = sql("SELECT number FROM image WHERE platform = $1 AND number > $2 ORDER BY number LIMIT $3");
            let rows = rows.bind(platform).bind(after).bind(IMAGES_PAGE).all(&self.db).await?;
            for row in &rows {
                after = row.get("number")?;
                numbers.insert(after);
            }
            if rows.len() < IMAGES_PAGE as usize {
                return Ok(numbers);
            }
        }
    }

    /// How many images were not read, or not all of them.
    pub(in crate::hub) async fn images_incomplete(&self) -> Result<u64, Error> {
        let row = sql("SELECT CAST(COUNT(*) AS BIGINT) AS count FROM image \
             WHERE state IN ('waiting', 'failed') OR unexamined > 0");
        Ok(row.one(&self.db).await?.get("count")?)
    }
}
