//! Upstreams: registries whose repositories are pulled through the hub's own, each under a prefix of its own.
//!
//! Invariants:
//! - One question at a time: any number of clients cause one request, for a manifest, a tag or a blob.
//! - Nothing unverified is kept, and no client gets the last bytes of a blob before all were verified.
//! - Bytes are shared between repositories of one upstream alone, and only after it said that the repository has the
//!   blob: an upstream cannot lay hands on what was pushed to the hub by naming its digest (a06).
//! - Rows never come before bytes: a manifest of an upstream may be here before its blobs, which are then links to be
//!   made; each is made after its bytes were verified.
//! - What is here is served when the upstream is not: tags lead where they last did, and a request that it refuses for
//!   now is not repeated before its time.

mod arriving;
mod blobs;
mod config;
mod error;
mod fetch;
mod flight;
mod keep;
mod lists;
mod manifests;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ::blobs::BlobStore;
use base::metrics::{Counter, counter};
use base::tasks::Tasks;
use client::{Client, ClientConfig, ClientError, Credentials};
use futures::FutureExt;
use oci::{Descriptor, Digest, Reference, RepositoryName, Tag};

use self::config::is_under;
use self::fetch::Fetch;
use self::flight::{Flights, Recent, locked};
use crate::keep::Keeper;
use crate::store::Store;
use crate::{Error, Source};

pub(crate) use arriving::Arriving;
pub(crate) use blobs::Found;
pub use config::{Address, UPSTREAMS_MAX, UpstreamConfig, UpstreamConfigError, UpstreamConfigs};
pub use error::UpstreamError;
pub(crate) use manifests::EVICTIONS_OUTRUN_MAX;

/// A password file has at most so many bytes.
const PASSWORD_BYTES_MAX: u64 = 64 << 10;
/// An upstream has so long for a small answer when there is an older one to give in its place.
const ANSWER_WAIT_WITH_OLD: Duration = Duration::from_secs(5);
/// An upstream has so long for an answer that nothing can be given in place of.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// So long an upstream that did not answer is not asked what an older answer is there for.
const DOWN_PAUSE: Duration = Duration::from_secs(10);
/// So long something is taken not to be there that an upstream did not have.
const ABSENT_HOLDS: Duration = Duration::from_secs(10);
/// So long a blob is not asked for again whose bytes were wrong.
const WRONG_HOLDS: Duration = Duration::from_secs(60);
/// Answers of one kind and upstream that are remembered.
const RECENT_MAX: usize = 100_000;
/// Lists of referrers that are remembered, of an upstream.
const REFERRER_LISTS_MAX: usize = 1000;

/// Questions under way, by what they are about.
type Asked<About, Answer> = Flights<About, Result<Answer, UpstreamError>>;

/// All upstreams of a hub.
#[derive(Clone)]
pub(crate) struct Upstreams(Vec<Arc<Upstream>>);

/// One upstream.
pub(crate) struct Upstream {
    prefix: RepositoryName,
    host: String,
    path: Option<RepositoryName>,
    revalidate: Duration,
    keep: Duration,
    client: Client,
    store: Store,
    blobs: Arc<dyn BlobStore>,
    keeper: Keeper,
    pub(crate) counts: Counts,
    pause: Mutex<Pause>,
    /// Tags that were asked for not long ago, and whether the upstream has them.
    tags_fresh: Recent<(RepositoryName, Tag), bool>,
    tags_asked: Asked<(RepositoryName, Tag), bool>,
    /// Manifests and blobs that were asked for in vain not long ago.
    failed: Recent<(RepositoryName, Digest), UpstreamError>,
    manifests_asked: Asked<(RepositoryName, Digest), ()>,
    heads_asked: Asked<(RepositoryName, Digest), u64>,
    tag_lists_asked: Asked<(RepositoryName, String, u32), Option<Vec<String>>>,
    referrer_lists: Recent<(RepositoryName, Digest), Arc<Vec<Descriptor>>>,
    referrers_asked: Asked<(RepositoryName, Digest), Arc<Vec<Descriptor>>>,
    /// Blobs that are arriving.
    fetches: Mutex<HashMap<Digest, Arc<Fetch>>>,
    uses: keep::Uses,
}

/// When an upstream may be asked again.
#[derive(Default)]
struct Pause {
    /// It asked to be left alone until then.
    busy_until: Option<Instant>,
    /// It did not answer; until then it is asked only what nothing else answers.
    down_until: Option<Instant>,
}

/// What came from an upstream, and what did not have to.
pub(crate) struct Counts {
    pub(crate) blobs_here: Counter,
    blobs_fetched: Counter,
    manifests_here: Counter,
    manifests_fetched: Counter,
    tags_stale: Counter,
    bytes: Counter,
}

impl Counts {
    fn new(prefix: &RepositoryName) -> Self {
        const PULLS: &str = "longshore_registry_upstream_pulls_total";
        const PULLS_HELP: &str = "Pulls of what an upstream has, by whether it was here, had to be fetched, or was answered \
                                  as it last was because the upstream did not answer.";
        let pulls = |kind, outcome| {
            let labels = [("upstream", prefix.as_str()), ("kind", kind), ("outcome", outcome)];
            counter(PULLS, PULLS_HELP, &labels)
        };
        Self {
            blobs_here: pulls("blob", "hit"),
            blobs_fetched: pulls("blob", "miss"),
            manifests_here: pulls("manifest", "hit"),
            manifests_fetched: pulls("manifest", "miss"),
            tags_stale: pulls("tag", "stale"),
            bytes: counter(
                "longshore_registry_upstream_bytes_total",
                "Bytes of blobs that came from an upstream.",
                &[("upstream", prefix.as_str())],
            ),
        }
    }
}

impl Upstreams {
    /// Reads the passwords and sets up the clients.
    pub(crate) fn open(
        configs: &UpstreamConfigs,
        store: &Store,
        blobs: &Arc<dyn BlobStore>,
        keeper: &Keeper,
    ) -> Result<Self, Error> {
        let open = |config| Upstream::open(config, store, blobs, keeper).map(Arc::new);
        configs.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn tasks_spawn(&self, tasks: &Tasks) {
        self.0.iter().for_each(|upstream| keep::spawn(Arc::clone(upstream), tasks));
    }

    /// Where blobs that are damaged here are had again.
    pub(crate) fn source(&self) -> Source {
        let upstreams = self.clone();
        Arc::new(move |repository, digest| {
            let upstreams = upstreams.clone();
            async move {
                let upstream = upstreams.of(&repository).filter(|upstream| !upstream.is_down())?;
                match upstream.source(&repository, digest).await {
                    Ok(source) => Some(source.into_body()),
                    Err(error) => {
                        tracing::warn!(%repository, blob = %digest, %error, "an upstream does not heal a blob");
                        None
                    }
                }
            }
            .boxed()
        })
    }

    /// For each upstream that a blob came from, a repository that it came for.
    pub(crate) async fn blob_repositories(&self, digest: &Digest) -> Result<Vec<RepositoryName>, Error> {
        let mut repositories = Vec::new();
        for upstream in &self.0 {
            repositories.extend(upstream.store.blob_repository_under(&upstream.prefix, digest).await?);
        }
        Ok(repositories)
    }

    /// Fails for a repository that has an upstream.
    pub(crate) fn push_check(&self, repository: &RepositoryName) -> Result<(), Error> {
        match self.of(repository) {
            Some(upstream) => Err(Error::Mirror { repository: repository.clone(), host: upstream.host.clone() }),
            None => Ok(()),
        }
    }

    /// The upstream of a repository.
    pub(crate) fn of(&self, repository: &RepositoryName) -> Option<&Arc<Upstream>> {
        self.0.iter().find(|upstream| is_under(repository, &upstream.prefix))
    }
}

impl Upstream {
    fn open(
        config: &UpstreamConfig,
        store: &Store,
        blobs: &Arc<dyn BlobStore>,
        keeper: &Keeper,
    ) -> Result<Self, Error> {
        let host = &config.address.host;
        let setup = |reason: String| Error::UpstreamSetup { prefix: config.prefix.clone(), reason };
        let mut settings = ClientConfig::default();
        if config.address.is_plain {
            settings.plain_http.push(host.clone());
        }
        if let (Some(user), Some(file)) = (&config.username, &config.password_file) {
            let credentials = Credentials { user: user.clone(), password: password(file).map_err(setup)? };
            settings.credentials.insert(host.clone(), credentials);
        }
        Ok(Self {
            prefix: config.prefix.clone(),
            host: host.clone(),
            path: config.address.path.clone(),
            revalidate: config.revalidate,
            keep: config.keep,
            client: Client::new(settings).map_err(|error| setup(error.to_string()))?,
            store: store.clone(),
            blobs: Arc::clone(blobs),
            keeper: keeper.clone(),
            counts: Counts::new(&config.prefix),
            pause: Mutex::default(),
            tags_fresh: Recent::new(RECENT_MAX),
            tags_asked: Flights::default(),
            failed: Recent::new(RECENT_MAX),
            manifests_asked: Flights::default(),
            heads_asked: Flights::default(),
            tag_lists_asked: Flights::default(),
            referrer_lists: Recent::new(REFERRER_LISTS_MAX),
            referrers_asked: Flights::default(),
            fetches: Mutex::default(),
            uses: keep::Uses::default(),
        })
    }

    /// What a repository is called there; none for the prefix itself, and for a name that is too long there.
    fn reference(&self, repository: &RepositoryName) -> Option<Reference> {
        let name = repository.as_str().strip_prefix(self.prefix.as_str())?.strip_prefix('/')?;
        let there = match &self.path {
            Some(path) => format!("{path}/{name}").parse(),
            None => name.parse(),
        };
        Reference::new(&self.host, there.ok()?).ok()
    }

    fn reference_or_absent(&self, repository: &RepositoryName) -> Result<Reference, UpstreamError> {
        self.reference(repository).ok_or_else(|| UpstreamError::NotFound { host: self.host.clone() })
    }

    /// Asks, unless the upstream asked to be left alone, and remembers how it is.
    async fn ask<T>(
        &self,
        wait: Duration,
        question: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, UpstreamError> {
        self.busy_check()?;
        let answer = match tokio::time::timeout(wait, question).await {
            Ok(answer) => answer.map_err(|error| UpstreamError::of(&self.host, error)),
            Err(_) => {
                let reason = format!("it did not answer within {} s", wait.as_secs());
                Err(UpstreamError::Unavailable { host: self.host.clone(), reason })
            }
        };
        let mut pause = locked(&self.pause);
        match &answer {
            Err(UpstreamError::Busy { seconds, .. }) => {
                // Of requests that were under way together the longest pause holds.
                pause.busy_until = pause.busy_until.max(Some(Instant::now() + Duration::from_secs(*seconds)));
                tracing::warn!(upstream = %self.host, seconds, "the upstream asks to be left alone");
            }
            Err(UpstreamError::Unavailable { reason, .. }) => {
                pause.down_until = Some(Instant::now() + DOWN_PAUSE);
                tracing::warn!(upstream = %self.host, reason, "the upstream cannot be used now");
            }
            // What was asked before the pause may be answered in it; the pause stays.
            _ => pause.down_until = None,
        }
        answer
    }

    /// Fails while the upstream wants to be left alone.
    fn busy_check(&self) -> Result<(), UpstreamError> {
        let left = locked(&self.pause).busy_until.and_then(|until| until.checked_duration_since(Instant::now()));
        match left.filter(|left| !left.is_zero()) {
            Some(left) => Err(UpstreamError::Busy { host: self.host.clone(), seconds: left.as_secs() + 1 }),
            None => Ok(()),
        }
    }

    /// Whether it did not answer just now.
    fn is_down(&self) -> bool {
        locked(&self.pause).down_until.is_some_and(|until| until > Instant::now())
    }

    /// The error of a question that could not be asked.
    fn not_asked(&self) -> UpstreamError {
        let reason = "too many requests wait for it, or it did not answer just now".to_owned();
        UpstreamError::Unavailable { host: self.host.clone(), reason }
    }
}

fn password(file: &Path) -> Result<String, String> {
    let unreadable = |reason: String| format!("its password cannot be read from {}: {reason}", file.display());
    let bytes = base::folder::file_read(file, PASSWORD_BYTES_MAX).map_err(|error| unreadable(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| unreadable("there is no such file".to_owned()))?;
    // Neither the bytes nor what is wrong with them may be shown (a37).
    let text = String::from_utf8(bytes).map_err(|_| unreadable("it is not text".to_owned()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
