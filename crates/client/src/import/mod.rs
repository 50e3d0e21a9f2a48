//! Bringing images in from another registry: find what is there, copy what is missing, read both sides again.
//!
//! There is no state but what the target has: whatever was brought before is skipped, so an import may end at any moment
//! and be begun again. One image that fails does not stop the others; a side that is gone stops all.

mod report;
mod source;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use oci::{Digest, Reference, RepositoryName, Tag};
use tokio::sync::Semaphore;

use crate::copy::Copier;
use crate::{Client, ClientError, Done};
pub use report::{Event, Failure, ImportReport, RepositoryReport};
use source::companions;
pub use source::{Scheme, Selection, Source, TagPattern};

/// Tags whose digests are asked for before their images are copied.
const TAGS_AT_ONCE: usize = 1000;
/// Rounds of tags that belong to images: signatures, what is said about those, and so on.
const ROUNDS_MAX: usize = 4;
/// Failures that are told one by one; of more, only the number is.
const FAILURES_MAX: usize = 1000;
/// After so many images in a row for which a side did not answer, the rest is not tried.
const SILENT_MAX: u32 = 8;

/// What is to be brought, and where to.
#[derive(Clone, Debug)]
pub struct ImportRequest {
    /// Where from.
    pub source: Source,
    /// The repositories, where they are named instead of asked for. Each lies under the source's path.
    pub repositories: Option<Vec<RepositoryName>>,
    /// Which tags.
    pub selection: Selection,
    /// The target: its registry, and the repository that takes the place of the source's path.
    pub to: Reference,
    /// Images, and blobs, at once.
    pub jobs: usize,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Hears what happens. Called from several threads, and must not wait.
pub type Watcher = Arc<dyn Fn(Event<'_>) + Send + Sync>;

/// A repository that is to be brought.
struct Repository {
    from: Reference,
    to: Reference,
    tags: Vec<Tag>,
    /// The one image that is meant, if it was named by digest.
    digest: Option<Digest>,
    /// Every tag that the repository has; where they were not listed, the tags that belong to an image are asked for.
    listed: Option<HashSet<Tag>>,
}

struct Import {
    client: Client,
    request: ImportRequest,
    copier: Copier,
    /// Images, or questions about tags, under way.
    slots: Semaphore,
    watcher: Watcher,
    failures: Mutex<(u64, Vec<Failure>)>,
    silent: AtomicU32,
    stopped: Mutex<Option<String>>,
}

impl Client {
    /// Brings in what `request` says. What fails on the way is in the report.
    ///
    /// # Errors
    /// Nothing could be found out about the source: it cannot be reached or used, lists no repositories, or has none such.
    pub async fn import(&self, request: ImportRequest, watcher: Watcher) -> Result<ImportReport, ClientError> {
        let on_bytes = {
            let watcher = Arc::clone(&watcher);
            Arc::new(move |bytes| watcher(Event::Bytes(bytes)))
        };
        let jobs = request.jobs.max(1);
        let import = Import {
            client: self.clone(),
            copier: Copier::new(self.clone(), jobs, request.dry_run, on_bytes),
            slots: Semaphore::new(jobs),
            request,
            watcher,
            failures: Mutex::default(),
            silent: AtomicU32::new(0),
            stopped: Mutex::default(),
        };
        // Whether both sides are up is told at once, whatever the patience with them later.
        let hasty = self.patient(Duration::ZERO);
        hasty.ping(&import.request.to).await?;
        if let Err(error @ ClientError::Unreachable { .. }) = hasty.ping(import.request.source.registry()).await {
            return Err(error);
        }
        let (names, has_catalog) = import.find().await?;
        (import.watcher)(Event::Repositories(names.len()));
        let repositories: Vec<Repository> = futures::stream::iter(names)
            .map(|name| import.list(name))
            .buffered(jobs)
            .filter_map(std::future::ready)
            .collect()
            .await;
        let reports: Vec<RepositoryReport> = futures::stream::iter(repositories)
            .map(|repository| import.repository(repository))
            .buffered(jobs)
            .collect()
            .await;
        Ok(import.report(reports, has_catalog))
    }
}

impl Import {
    /// The repositories that are meant, and whether the registry lists its own.
    async fn find(&self) -> Result<(Vec<RepositoryName>, bool), ClientError> {
        let source = &self.request.source;
        if let Some(names) = &self.request.repositories {
            return Ok((names.clone(), true));
        }
        if let Some(one) = source.one() {
            return Ok((vec![one.repository().clone()], true));
        }
        let listed = match self.client.catalog(source.registry()).await {
            Ok(listed) => Some(listed),
            Err(ClientError::NotFound { .. } | ClientError::Denied { .. } | ClientError::Protocol { .. }) => None,
            Err(ClientError::Status { status, .. }) if status < 500 || status == 501 => None,
            Err(error) => return Err(error),
        };
        let has_catalog = listed.is_some();
        let mut names = Vec::new();
        if let Some(listed) = listed {
            for name in listed.strange {
                let reason = "the source lists it, and it is not a repository's name".to_owned();
                self.fail(Failure { image: format!("{}/{name}", source.host()), kind: "name".to_owned(), reason });
            }
            names = listed.names.into_iter().filter(|name| source.covers(name)).collect();
        }
        if !names.is_empty() {
            return Ok((names, has_catalog));
        }
        // A list may hold less than there is: the path itself is asked for.
        let unlisted = || ClientError::NoCatalog { host: source.host().to_owned(), what: source.to_string() };
        let nothing = || if has_catalog { ClientError::NotFound { what: source.to_string() } } else { unlisted() };
        let path = source.path().ok_or_else(nothing)?;
        match self.client.tags(source.registry()).await {
            Ok(Some(_)) => Ok((vec![path.clone()], has_catalog)),
            Ok(None) | Err(ClientError::Denied { .. }) => Err(nothing()),
            Err(error) => Err(error),
        }
    }

    /// A repository's tags, those that are meant; none when it cannot be brought at all.
    async fn list(&self, name: RepositoryName) -> Option<Repository> {
        let source = &self.request.source;
        let from = source.repository(&name).ok()?;
        let failed = |error: &ClientError| self.fail_at(&from, error);
        let target = match source.target(&name, self.request.to.repository()) {
            Some(Ok(target)) => Reference::new(self.request.to.host(), target),
            Some(Err(error)) => {
                self.fail(Failure { image: from.to_string(), kind: "name".to_owned(), reason: error.to_string() });
                return None;
            }
            None => return None,
        };
        let to = target.ok()?;
        if let Some(one) = source.one() {
            let tags: Vec<Tag> = one.tag().cloned().into_iter().collect();
            (self.watcher)(Event::Tags(tags.len().max(1) as u64));
            return Some(Repository { from, to, tags, digest: one.digest().copied(), listed: None });
        }
        if self.is_stopped() {
            return None;
        }
        let listed = match self.client.tags(&from).await {
            Ok(Some(listed)) => listed,
            // A registry may list a repository whose last tag is gone; one that was named must be there.
            Ok(None) if self.request.repositories.is_none() => crate::Names { names: Vec::new(), strange: Vec::new() },
            Ok(None) => {
                failed(&ClientError::NotFound { what: from.to_string() });
                return None;
            }
            Err(error) => {
                failed(&error);
                return None;
            }
        };
        for tag in listed.strange {
            let reason = "the source lists it, and it is not a tag".to_owned();
            self.fail(Failure { image: format!("{from}:{tag}"), kind: "name".to_owned(), reason });
        }
        let tags: Vec<Tag> = listed.names.iter().filter(|tag| self.request.selection.takes(tag)).cloned().collect();
        (self.watcher)(Event::Tags(tags.len() as u64));
        Some(Repository { from, to, tags, digest: None, listed: Some(listed.names.into_iter().collect()) })
    }

    async fn repository(&self, repository: Repository) -> RepositoryReport {
        let mut report = RepositoryReport {
            source: repository.from.to_string(),
            target: repository.to.to_string(),
            tags: 0,
            equal: 0,
            failed: 0,
            done: Done::default(),
        };
        let mut taken: HashSet<Tag> = repository.tags.iter().cloned().collect();
        let mut round = repository.tags.clone();
        let mut brought: Vec<(Tag, Digest)> = Vec::new();
        for number in 0..ROUNDS_MAX {
            let mut belonging = Vec::new();
            report.tags += round.len() as u64;
            // An image that is named by digest alone has no tags, and is one round.
            let pieces: Vec<&[Tag]> =
                if number == 0 && round.is_empty() { vec![&[]] } else { round.chunks(TAGS_AT_ONCE).collect() };
            for piece in pieces {
                let (images, failed) = self.resolve(&repository, piece).await;
                report.failed += failed;
                let mut copies = futures::stream::iter(images)
                    .map(|(digest, tags)| self.image(&repository, digest, tags))
                    .buffer_unordered(self.request.jobs.max(1));
                while let Some((digest, tags, copied)) = copies.next().await {
                    let Ok(image) = copied else {
                        report.failed += tags.len().max(1) as u64;
                        continue;
                    };
                    report.failed += image.missing.len() as u64;
                    report.done.merge(&image.done);
                    brought.extend(tags.into_iter().map(|tag| (tag, digest)));
                    belonging.extend(image.digests);
                }
            }
            round = self.belonging(&repository, &belonging, &taken).await;
            (self.watcher)(Event::Tags(round.len() as u64));
            taken.extend(round.iter().cloned());
            if round.is_empty() {
                break;
            }
        }
        if !self.request.dry_run {
            let (equal, failed) = self.verify(&repository, brought).await;
            report.equal = equal;
            report.failed += failed;
        }
        (self.watcher)(Event::Repository(&report));
        report
    }

    /// What tags lead to, and how many lead nowhere. Several tags of one image are brought together.
    async fn resolve(&self, repository: &Repository, tags: &[Tag]) -> (BTreeMap<Digest, Vec<Tag>>, u64) {
        let mut images: BTreeMap<Digest, Vec<Tag>> = BTreeMap::new();
        if let Some(digest) = repository.digest
            && tags.iter().all(|tag| repository.tags.contains(tag))
        {
            images.insert(digest, tags.to_vec());
            return (images, 0);
        }
        let mut failed = 0;
        let mut heads = futures::stream::iter(tags)
            .map(|tag| async move {
                let from = repository.from.clone().with_tag(tag.clone());
                let _slot = self.slots.acquire().await;
                if self.is_stopped() {
                    return (tag, Err(None));
                }
                let found = match self.client.manifest_head(&from).await {
                    Ok(Some(head)) => Ok(head.digest),
                    Ok(None) => Err(ClientError::NotFound { what: from.to_string() }),
                    Err(error) => Err(error),
                };
                (tag, found.map_err(|error| Some((from, error))))
            })
            .buffered(self.request.jobs.max(1));
        while let Some((tag, found)) = heads.next().await {
            match found {
                Ok(digest) => images.entry(digest).or_default().push(tag.clone()),
                Err(why) => {
                    failed += 1;
                    if let Some((from, error)) = why {
                        self.fail_at(&from, &error);
                    }
                    (self.watcher)(Event::Tag);
                }
            }
        }
        (images, failed)
    }

    async fn image(
        &self,
        repository: &Repository,
        digest: Digest,
        tags: Vec<Tag>,
    ) -> (Digest, Vec<Tag>, Result<crate::copy::Image, ()>) {
        let _slot = self.slots.acquire().await;
        if self.is_stopped() {
            return (digest, tags, Err(()));
        }
        let from = &repository.from;
        let named = match tags.first() {
            Some(tag) => from.clone().with_tag(tag.clone()),
            None => from.clone().with_digest(digest),
        };
        let copied = self.copier.image(from, &repository.to, digest, &tags).await;
        match &copied {
            Ok(image) => {
                self.silent.store(0, Ordering::Relaxed);
                for missing in &image.missing {
                    let reason =
                        format!("the source lists {missing} as saying something about it, and does not have it");
                    self.fail(Failure { image: named.to_string(), kind: "incomplete".to_owned(), reason });
                }
            }
            Err(error) => {
                self.fail_at(&named, error);
                for tag in tags.iter().skip(1) {
                    self.fail(Failure::new(&from.clone().with_tag(tag.clone()), error));
                }
            }
        }
        for _ in 0..tags.len().max(1) {
            (self.watcher)(Event::Tag);
        }
        (digest, tags, copied.map_err(drop))
    }

    /// The tags that belong to images that were brought, and were not brought yet.
    async fn belonging(&self, repository: &Repository, digests: &[Digest], taken: &HashSet<Tag>) -> Vec<Tag> {
        let mut seen = HashSet::new();
        let tags = digests.iter().filter(|digest| seen.insert(**digest)).flat_map(companions);
        let tags: Vec<Tag> = tags.filter(|tag| !taken.contains(tag)).collect();
        if let Some(listed) = &repository.listed {
            return tags.into_iter().filter(|tag| listed.contains(tag)).collect();
        }
        let asked = futures::stream::iter(tags).map(|tag| async move {
            let from = repository.from.clone().with_tag(tag.clone());
            match self.client.manifest_head(&from).await {
                Ok(found) => found.map(|_| tag),
                Err(error) => {
                    self.fail_at(&from, &error);
                    None
                }
            }
        });
        asked.buffered(self.request.jobs.max(1)).filter_map(std::future::ready).collect().await
    }

    /// Reads both sides again: how many tags are equal, how many are not.
    async fn verify(&self, repository: &Repository, brought: Vec<(Tag, Digest)>) -> (u64, u64) {
        let (mut equal, mut failed) = (0, 0);
        let mut reads = futures::stream::iter(brought)
            .map(|(tag, digest)| async move {
                let from = repository.from.clone().with_tag(tag.clone());
                let to = repository.to.clone().with_tag(tag);
                let _slot = self.slots.acquire().await;
                // An image that was named by digest need not have this tag at the source.
                let source = match repository.digest {
                    Some(named) if named == digest => Ok(Some(digest)),
                    _ => self.client.manifest_head(&from).await.map(|head| head.map(|head| head.digest)),
                };
                let target = self.client.manifest_head(&to).await.map(|head| head.map(|head| head.digest));
                (from, digest, source, target)
            })
            .buffer_unordered(self.request.jobs.max(1));
        while let Some((from, digest, source, target)) = reads.next().await {
            let shown = |found: Option<Digest>| found.map_or("nothing".to_owned(), |digest| digest.to_string());
            let reason = match (source, target) {
                (Ok(Some(source)), Ok(Some(target))) if source == digest && target == digest => {
                    equal += 1;
                    continue;
                }
                (Err(error), _) | (_, Err(error)) => {
                    failed += 1;
                    self.fail_at(&from, &error);
                    continue;
                }
                (Ok(source), Ok(target)) if source == Some(digest) => {
                    format!("it is {digest} at the source and {} on the target; import it again", shown(target))
                }
                (Ok(source), Ok(_)) => {
                    format!("it was {digest} and is {} at the source now; import it again", shown(source))
                }
            };
            failed += 1;
            self.fail(Failure { image: from.to_string(), kind: "differs".to_owned(), reason });
        }
        (equal, failed)
    }

    fn fail(&self, failure: Failure) {
        (self.watcher)(Event::Failed(&failure));
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.0 += 1;
        if failures.1.len() < FAILURES_MAX {
            failures.1.push(failure);
        }
    }

    /// Notes a failure, and ends the import where it says that the next image would fare no better.
    fn fail_at(&self, image: &Reference, error: &ClientError) {
        self.fail(Failure::new(image, error));
        let is_full = error.is_full();
        if !is_full && !error.is_silence() {
            self.silent.store(0, Ordering::Relaxed);
            return;
        }
        if is_full || self.silent.fetch_add(1, Ordering::Relaxed) + 1 >= SILENT_MAX {
            let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
            stopped.get_or_insert_with(|| error.whole());
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn report(self, repositories: Vec<RepositoryReport>, has_catalog: bool) -> ImportReport {
        let mut total = Done::default();
        repositories.iter().for_each(|repository| total.merge(&repository.done));
        let (failed, failures) = self.failures.into_inner().unwrap_or_else(PoisonError::into_inner);
        let stopped = self.stopped.into_inner().unwrap_or_else(PoisonError::into_inner);
        ImportReport {
            source: self.request.source.to_string(),
            target: self.request.to.to_string(),
            dry_run: self.request.dry_run,
            complete: failed == 0 && stopped.is_none(),
            has_catalog,
            repositories,
            total,
            failures,
            failed,
            stopped,
        }
    }
}
