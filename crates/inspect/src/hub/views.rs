//! What pages and programs ask of one image.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read as _;

use api::Page;
use api::inspect::{
    self, Advisories, Alert, Component, ComponentDifference, ConfigurationDifference, ContentsEvidence, DocumentFormat,
    Evidence, Examination, Finding, ImageDifference, Inside, InsideFilter, Inspect, Inventory, Place, Secret, Sought,
    UNCOMPARED_MAX, Unexamined, Where,
};
use async_trait::async_trait;
use base::page::PageRequest;
use bytes::Bytes;
use oci::{Digest, Document, DocumentKind, ImageConfig, RepositoryName};

use tokio::sync::watch;

use super::Service;
use super::error::Error;
use super::examined::{Examined, Haste};
use super::reading::CONFIGURATION_BYTES_MAX;
use super::store::{ImageRow, State};
use crate::component;
use crate::document::{self, Contents, Found, cyclonedx, json, sarif, spdx};

/// Bytes of what is kept of an image, unpacked.
const CONTENTS_BYTES_MAX: u64 = 1 << 30;

impl Service {
    /// An image that some repository has.
    pub(super) async fn image_row(&self, digest: &Digest) -> Result<ImageRow, Error> {
        let row = self.store().image(digest).await?;
        row.filter(|row| row.state != State::Other).ok_or(Error::ImageUnknown { digest: *digest })
    }

    /// What was found in an image that was read.
    pub(super) async fn contents_of(&self, digest: &Digest) -> Result<(ImageRow, Contents), Error> {
        let (row, contents, _) = self.contents_with_size(digest, Haste::Now).await?;
        Ok((row, contents))
    }

    /// The same, with how many bytes its document has.
    pub(super) async fn contents_with_size(
        &self,
        digest: &Digest,
        haste: Haste,
    ) -> Result<(ImageRow, Contents, usize), Error> {
        let row = self.image_row(digest).await?;
        let kept = match row.state {
            State::Done => self.store().contents(row.number).await?,
            _ => None,
        };
        let Some(kept) = kept else {
            let why = match (row.state, &*row.why) {
                (State::Waiting, "") => "it waits to be read".to_owned(),
                (_, why) => why.to_owned(),
            };
            return Err(Error::NotExamined { digest: *digest, why });
        };
        let (contents, bytes) = haste.run(move || unpacked(&kept)).await??;
        Ok((row, contents, bytes))
    }

    pub(super) async fn components_page(
        &self,
        digest: &Digest,
        filter: &InsideFilter,
        page: &PageRequest,
    ) -> Result<Page<Component>, Error> {
        let examined = self.look_at(digest, Haste::Now).await?;
        let components = examined.contents.components.iter().filter(|found| passes(found, filter));
        cut(components, page, |found| component(&examined.contents, found, examined.worst.get(&found.id).copied()))
    }

    pub(super) async fn findings_page(
        &self,
        digest: &Digest,
        filter: &InsideFilter,
        page: &PageRequest,
    ) -> Result<Page<Finding>, Error> {
        let examined = self.look_at(digest, Haste::Now).await?;
        let components = &examined.contents.components;
        let found: HashMap<&str, &Found> = components.iter().map(|found| (&*found.id, found)).collect();
        let without_search = InsideFilter { search: None, ..filter.clone() };
        let seen = examined.findings.iter().filter(|finding| {
            let names = [&finding.id, &finding.component].into_iter().chain(&finding.aliases);
            holds(filter.search.as_deref(), names.map(String::as_str))
                && found.get(&*finding.component).is_none_or(|found| passes(found, &without_search))
        });
        let mut cut = cut(seen, page, Finding::clone)?;
        self.first_seen_tell(&mut cut.items).await?;
        Ok(cut)
    }

    pub(super) async fn unexamined_page(&self, digest: &Digest, page: &PageRequest) -> Result<Page<Unexamined>, Error> {
        let examined = self.look_at(digest, Haste::Now).await?;
        cut(examined.contents.unexamined.iter(), page, |one| Unexamined {
            place: place(&one.place),
            why: one.why.clone(),
        })
    }

    pub(super) async fn secrets_page(&self, digest: &Digest, page: &PageRequest) -> Result<Page<Secret>, Error> {
        let (_, contents) = self.contents_of(digest).await?;
        cut(contents.secrets.iter(), page, |secret| Secret {
            rule: secret.rule.clone(),
            place: place(&secret.place),
            line: secret.line,
            redacted: secret.redacted.clone(),
            deleted: secret.deleted,
        })
    }

    pub(super) async fn document_of(&self, digest: &Digest, format: DocumentFormat) -> Result<Bytes, Error> {
        let (_, mut contents) = self.examined_of(digest).await?;
        let repository = self.store().repositories_of(digest).await?.into_iter().next();
        name(&mut contents, digest, repository);
        let bytes = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            match format {
                DocumentFormat::Json => json::write(&contents, &mut bytes),
                DocumentFormat::Cyclonedx => cyclonedx::write(&contents, cyclonedx::Version::V1_6, &mut bytes),
                DocumentFormat::Spdx => spdx::write(&contents, &mut bytes),
                DocumentFormat::Sarif => sarif::write(&contents, &mut bytes),
            }
            .map(|()| bytes)
        });
        Ok(Bytes::from(bytes.await??))
    }

    pub(super) async fn difference_of(&self, first: &Digest, second: &Digest) -> Result<ImageDifference, Error> {
        let configs = (self.configuration_of(first).await?, self.configuration_of(second).await?);
        let files = self.files_difference(&self.image_row(first).await?, &self.image_row(second).await?).await?;
        let (first, second) = (self.look_at(first, Haste::Now).await?, self.look_at(second, Haste::Now).await?);
        let without = |these: &[Finding], those: &[Finding]| -> Vec<Finding> {
            let is_there = |finding: &Finding| {
                let (id, component) = (&finding.id, unversioned(&finding.component));
                those.iter().any(|known| known.id == *id && unversioned(&known.component) == component)
            };
            these.iter().filter(|finding| !is_there(finding)).cloned().collect()
        };
        let mut findings_new = without(&second.findings, &first.findings);
        let mut findings_gone = without(&first.findings, &second.findings);
        self.first_seen_tell(&mut findings_new).await?;
        self.first_seen_tell(&mut findings_gone).await?;
        Ok(ImageDifference {
            components: components_difference(&first.contents, &second.contents),
            findings_new,
            findings_gone,
            configuration: configuration_difference(&configs.0, &configs.1),
            files,
        })
    }

    /// The configuration of an image, from the registry.
    async fn configuration_of(&self, digest: &Digest) -> Result<ImageConfig, Error> {
        let text = digest.to_string();
        for repository in self.store().repositories_of(digest).await? {
            let Some(stored) = self.inner.registry.manifest_get(&repository, &text).await? else { continue };
            let document = Document::parse(&stored.bytes, Some(&stored.media_type))?;
            let DocumentKind::Manifest(manifest) = document.kind else { continue };
            let config = &manifest.config.digest;
            let bytes = self.inner.registry.blob_get(&repository, config, CONFIGURATION_BYTES_MAX).await?;
            let unreadable = |why: String| Error::NotExamined { digest: *digest, why };
            let bytes = bytes.ok_or_else(|| unreadable("its configuration is not here".to_owned()))?;
            return serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()));
        }
        Err(Error::ImageUnknown { digest: *digest })
    }

    async fn inside_of(&self, digest: &Digest) -> Result<Inside, Error> {
        let row = self.image_row(digest).await?;
        let examined = match row.state {
            State::Done => Some(self.look_at(digest, Haste::Now).await?),
            _ => None,
        };
        self.inside(digest, &row, examined.as_deref()).await
    }

    /// What gates ask of an image, of one look at it.
    pub(super) async fn inside(
        &self,
        digest: &Digest,
        row: &ImageRow,
        examined: Option<&Examined>,
    ) -> Result<Inside, Error> {
        let mut inside = Inside {
            digest: *digest,
            examination: match row.state {
                State::Done => Examination::Done { at: row.at, unexamined: row.unexamined },
                State::Failed => Examination::Failed { at: row.at, why: row.why.clone() },
                State::Waiting | State::Other => Examination::Waiting,
            },
            operating_system: row.system.clone(),
            components: row.components,
            findings: BTreeMap::new(),
            known_exploited: 0,
            lifted: 0,
            secrets: row.secrets,
            base: self.base_of(row).await?,
            advisories: self.advisories_known().await?,
            uncompared: Vec::new(),
            notes: Vec::new(),
        };
        let Some(examined) = examined else { return Ok(inside) };
        for finding in &examined.findings {
            if finding.lifted {
                inside.lifted += 1;
            } else {
                *inside.findings.entry(finding.severity).or_default() += 1;
                inside.known_exploited += u64::from(finding.known_exploited);
            }
        }
        let matched = examined.contents.matched.as_ref();
        inside.uncompared = uncompared(matched.map(|matched| matched.gaps.clone()).unwrap_or_default());
        inside.notes = matched.map(|matched| matched.notes.clone()).unwrap_or_default();
        Ok(inside)
    }
}

/// The components of an image by ecosystem, layer and licence.
pub(super) fn inventory(contents: &Contents) -> Inventory {
    let mut inventory = Inventory { layers: vec![0; contents.image.layers.len()], ..Inventory::default() };
    for found in &contents.components {
        *inventory.ecosystems.entry(found.component.ecosystem.word().to_owned()).or_default() += 1;
        let layer = found.places.iter().filter_map(|place| place.layer).min();
        if let Some(count) = layer.and_then(|layer| inventory.layers.get_mut(layer)) {
            *count += 1;
        }
        let licences = licences(found);
        inventory.unlicensed += u64::from(licences.is_empty());
        for licence in licences {
            *inventory.licences.entry(licence).or_default() += 1;
        }
    }
    inventory
}

/// The first of the sentences, and how many more there are.
fn uncompared(mut gaps: Vec<String>) -> Vec<String> {
    if gaps.len() > UNCOMPARED_MAX {
        let more = gaps.split_off(UNCOMPARED_MAX - 1).len();
        gaps.push(format!("{more} more of this kind"));
    }
    gaps
}

fn unpacked(kept: &[u8]) -> Result<(Contents, usize), Error> {
    let mut bytes = Vec::new();
    zstd::stream::read::Decoder::new(kept)?.take(CONTENTS_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok((json::read(&bytes)?, bytes.len()))
}

/// The image is called by where it is.
pub(super) fn name(contents: &mut Contents, digest: &Digest, repository: Option<RepositoryName>) {
    if let Some(repository) = repository {
        contents.image.name = format!("{repository}@{digest}");
        contents.image.repository = Some(repository.to_string());
    }
}

/// A page of what is listed, whose cursor is how many came before.
fn cut<T, U>(items: impl Iterator<Item = T>, page: &PageRequest, make: impl Fn(T) -> U) -> Result<Page<U>, Error> {
    let after = match page.after.as_deref() {
        None => 0,
        Some(after) => after.parse::<usize>().map_err(|_| Error::Request("the page cursor is not one".to_owned()))?,
    };
    let limit = page.limit as usize;
    let mut items: Vec<U> = items.skip(after).take(limit + 1).map(make).collect();
    let is_more = items.len() > limit;
    items.truncate(limit);
    let next = is_more.then(|| (after + items.len()).to_string());
    Ok(Page { items, next })
}

/// Whether one of the texts holds what is searched for, in upper or lower case.
fn holds<'t>(search: Option<&str>, texts: impl IntoIterator<Item = &'t str>) -> bool {
    let Some(search) = search.map(str::to_lowercase).filter(|search| !search.is_empty()) else { return true };
    texts.into_iter().any(|text| text.to_lowercase().contains(&search))
}

fn passes(found: &Found, filter: &InsideFilter) -> bool {
    let layer = filter.layer.and_then(|layer| usize::try_from(layer).ok());
    holds(filter.search.as_deref(), [&*found.id, &*found.component.name])
        && layer.is_none_or(|layer| found.places.iter().any(|place| place.layer == Some(layer)))
        && filter.ecosystem.as_ref().is_none_or(|ecosystem| found.component.ecosystem.word() == ecosystem)
        && filter.licence.as_ref().is_none_or(|licence| licences(found).contains(licence))
}

/// SPDX expressions, or what was stated where that is none.
fn licences(found: &Found) -> Vec<String> {
    let mut licences: Vec<String> = found
        .licences
        .iter()
        .map(|licence| licence.expression.clone().unwrap_or_else(|| licence.stated.clone()))
        .filter(|licence| !licence.trim().is_empty())
        .collect();
    licences.sort_unstable();
    licences.dedup();
    licences
}

pub(super) fn evidence(evidence: component::Evidence) -> Evidence {
    match evidence {
        component::Evidence::Installed => Evidence::Installed,
        component::Evidence::Contained => Evidence::Contained,
        component::Evidence::Inferred => Evidence::Inferred,
    }
}

pub(super) fn place(place: &document::Place) -> Place {
    Place { layer: place.layer.and_then(|layer| u32::try_from(layer).ok()), chain: place.chain.clone() }
}

fn component(contents: &Contents, found: &Found, worst: Option<inspect::Severity>) -> Component {
    Component {
        id: found.id.clone(),
        ecosystem: found.component.ecosystem.word().to_owned(),
        name: found.component.name.clone(),
        version: found.component.version.clone(),
        purl: contents.purl(&found.component).ok().map(|purl| purl.to_string()),
        evidence: evidence(found.component.evidence),
        places: found.places.iter().map(place).collect(),
        owner: found.owner.clone(),
        licences: licences(found),
        worst,
    }
}

/// What a component is called, without its version.
fn unversioned(id: &str) -> &str {
    id.rsplit_once('@').map_or(id, |(name, _)| name)
}

fn components_difference(first: &Contents, second: &Contents) -> Vec<ComponentDifference> {
    type Versions<'c> = BTreeMap<(&'c str, &'c str), (Vec<String>, Vec<String>)>;
    let mut versions: Versions<'_> = BTreeMap::new();
    for (contents, is_second) in [(first, false), (second, true)] {
        for found in &contents.components {
            let key = (found.component.ecosystem.word(), &*found.component.name);
            let (before, after) = versions.entry(key).or_default();
            let side = if is_second { after } else { before };
            if !side.contains(&found.component.version) {
                side.push(found.component.version.clone());
            }
        }
    }
    versions
        .into_iter()
        .filter_map(|((ecosystem, name), (mut before, mut after))| {
            before.sort_unstable();
            after.sort_unstable();
            (before != after).then(|| ComponentDifference {
                ecosystem: ecosystem.to_owned(),
                name: name.to_owned(),
                before,
                after,
            })
        })
        .collect()
}

fn configuration_difference(first: &ImageConfig, second: &ImageConfig) -> Vec<ConfigurationDifference> {
    let (before, after) = (settings(first), settings(second));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| ConfigurationDifference {
            key: key.clone(),
            before: before.get(key).cloned(),
            after: after.get(key).cloned(),
        })
        .collect()
}

/// Everything that a container has from its image's configuration, one by one.
fn settings(image: &ImageConfig) -> BTreeMap<String, String> {
    let config = &image.config;
    let variant = image.variant.as_deref().map(|variant| format!("/{variant}")).unwrap_or_default();
    let mut settings =
        BTreeMap::from([("platform".to_owned(), format!("{}/{}{variant}", image.os, image.architecture))]);
    for (key, value) in &config.labels {
        settings.insert(format!("label {key}"), value.clone());
    }
    for variable in &config.env {
        let (key, value) = variable.split_once('=').unwrap_or((variable, ""));
        settings.insert(format!("env {key}"), value.to_owned());
    }
    let words = |words: &[String]| serde_json::to_string(words).unwrap_or_default();
    let names = |names: &BTreeMap<String, serde_json::Value>| names.keys().cloned().collect::<Vec<_>>().join(" ");
    for (key, value) in [
        ("user", config.user.clone()),
        ("working directory", config.working_dir.clone()),
        ("stop signal", config.stop_signal.clone().unwrap_or_default()),
        ("entrypoint", if config.entrypoint.is_empty() { String::new() } else { words(&config.entrypoint) }),
        ("command", if config.cmd.is_empty() { String::new() } else { words(&config.cmd) }),
        ("exposed ports", names(&config.exposed_ports)),
        ("volumes", names(&config.volumes)),
        ("healthcheck", config.healthcheck.as_ref().map(|check| words(&check.test)).unwrap_or_default()),
    ] {
        if !value.is_empty() {
            settings.insert(key.to_owned(), value);
        }
    }
    settings
}

#[async_trait]
impl Inspect for Service {
    async fn inside(&self, digest: &Digest) -> api::Result<Inside> {
        Ok(self.inside_of(digest).await?)
    }

    async fn inventory(&self, digest: &Digest) -> api::Result<Inventory> {
        Ok(inventory(&self.look_at(digest, Haste::Now).await?.contents))
    }

    async fn components(
        &self,
        digest: &Digest,
        filter: &InsideFilter,
        page: &PageRequest,
    ) -> api::Result<Page<Component>> {
        Ok(self.components_page(digest, filter, page).await?)
    }

    async fn findings(&self, digest: &Digest, filter: &InsideFilter, page: &PageRequest) -> api::Result<Page<Finding>> {
        Ok(self.findings_page(digest, filter, page).await?)
    }

    async fn unexamined(&self, digest: &Digest, page: &PageRequest) -> api::Result<Page<Unexamined>> {
        Ok(self.unexamined_page(digest, page).await?)
    }

    async fn secrets(&self, digest: &Digest, page: &PageRequest) -> api::Result<Page<Secret>> {
        Ok(self.secrets_page(digest, page).await?)
    }

    async fn document(&self, digest: &Digest, format: DocumentFormat) -> api::Result<Bytes> {
        Ok(self.document_of(digest, format).await?)
    }

    async fn evidence(&self, digest: &Digest) -> api::Result<ContentsEvidence> {
        Ok(self.evidence_of(digest).await?)
    }

    async fn difference(&self, first: &Digest, second: &Digest) -> api::Result<ImageDifference> {
        Ok(self.difference_of(first, second).await?)
    }

    async fn find(&self, sought: &Sought, history: bool, page: &PageRequest) -> api::Result<Where> {
        Ok(self.where_is(sought, history, page).await?)
    }

    async fn advisories(&self) -> api::Result<Advisories> {
        Ok(self.advisories_known().await?)
    }

    async fn advisories_take(&self, file: Bytes) -> api::Result<Advisories> {
        Ok(Service::advisories_take(self, file).await?)
    }

    async fn alerts(&self, page: &PageRequest) -> api::Result<Page<Alert>> {
        Ok(self.alerts_page(page).await?)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }
}
