//! Images that were looked at last, with what advisories say of them: who looks at one asks for page after page of it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::Micros;
use api::inspect::{Finding, Severity};
use oci::Digest;
use tokio::sync::{OnceCell, oneshot};

use super::Service;
use super::error::Error;
use super::findings::listed;
use super::vex::{Spoken, Voices};
use crate::document::Contents;

/// Bytes of all that is kept, about.
const BYTES_MAX: usize = 64 << 20;
/// Images at most, whatever they take.
const IMAGES_MAX: usize = 256;
/// How long one is kept: some advisories end at a time that they name.
const SECONDS_MAX: u64 = 600;
/// Bytes in memory for each that the document of an image has.
const BYTES_FOR_EACH: usize = 3;
/// Bytes that a finding takes with its texts.
const FINDING_BYTES: usize = 1024;

/// Bytes of the documents of images that are looked at together.
const AHEAD_BYTES_MAX: usize = 12 << 20;

/// Of what it was made: it is good while that is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Of {
    image: i64,
    /// When the image was read.
    read_at: Micros,
    /// Of the advisories; none where there are none.
    version: Option<i64>,
    voices: Voices,
}

/// An image that was read, with what advisories say of it.
pub(super) struct Examined {
    pub(super) contents: Contents,
    /// The worst first; none of them says when it was first seen.
    pub(super) findings: Vec<Finding>,
    /// The worst of a component's that nothing lifts.
    pub(super) worst: HashMap<String, Severity>,
    /// Whether anybody states anything of it.
    pub(super) is_voiced: bool,
}

struct Kept {
    of: Of,
    since: Micros,
    bytes: usize,
    cell: Arc<OnceCell<Arc<Examined>>>,
}

/// What is kept, the one that was asked for last at the end.
#[derive(Default)]
pub(super) struct Examinations {
    kept: Mutex<VecDeque<Kept>>,
}

impl Examinations {
    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is, or will be.
    fn cell(&self, of: Of, now: Micros) -> Arc<OnceCell<Arc<Examined>>> {
        let mut kept = self.kept();
        kept.retain(|one| now.since(one.since).as_secs() < SECONDS_MAX);
        let known = kept.iter().position(|one| one.of == of).and_then(|at| kept.remove(at));
        let one = known.unwrap_or_else(|| Kept { of, since: now, bytes: 0, cell: Arc::default() });
        let cell = Arc::clone(&one.cell);
        kept.push_back(one);
        if kept.len() > IMAGES_MAX {
            kept.pop_front();
        }
        cell
    }

    /// Notes what one takes, and lets go of others until all of them take no more than they may.
    fn weigh(&self, cell: &Arc<OnceCell<Arc<Examined>>>, bytes: usize) {
        let mut kept = self.kept();
        for one in kept.iter_mut().filter(|one| Arc::ptr_eq(&one.cell, cell)) {
            one.bytes = bytes;
        }
        let mut all: usize = kept.iter().map(|one| one.bytes).sum();
        while all > BYTES_MAX {
            let Some(gone) = kept.pop_front() else { break };
            all -= gone.bytes;
        }
    }
}

/// Of threads for what nobody waits for: they get about a hundredth of what another thread gets that has work to do.
const ASIDE_NICENESS: i32 = 19;

/// Who waits for a look at an image.
#[derive(Clone, Copy, Debug)]
pub(super) enum Haste {
    /// Somebody does.
    Now,
    /// Nobody: whatever somebody waits for comes first.
    Aside,
}

impl Haste {
    pub(super) async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        match self {
            Self::Now => Ok(tokio::task::spawn_blocking(work).await?),
            Self::Aside => aside(work).await,
        }
    }
}

/// In a thread that others are preferred to.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().name("aside".to_owned()).spawn(move || {
        // On Linux this is the thread's alone. Where the system does not allow it, the thread runs as others do.
        let _ = rustix::process::setpriority_process(None, ASIDE_NICENESS);
        let _ = done.send(work());
    })?;
    result.await.map_err(|_| Error::Work("what ran aside panicked".to_owned()))
}

impl Examined {
    fn new(contents: Contents, is_voiced: bool, now: Micros) -> Self {
        let findings = listed(&contents, now);
        let mut worst: HashMap<String, Severity> = HashMap::new();
        for finding in findings.iter().filter(|finding| !finding.lifted) {
            let known = worst.entry(finding.component.clone()).or_insert(finding.severity);
            *known = finding.severity.max(*known);
        }
        Self { contents, findings, worst, is_voiced }
    }

    /// Bytes in memory, about, where the document of the image has so many.
    fn bytes(&self, document: usize) -> usize {
        document * BYTES_FOR_EACH + self.findings.len() * FINDING_BYTES
    }
}

/// An image that is to be looked at with others.
struct Ahead {
    cell: Arc<OnceCell<Arc<Examined>>>,
    spoken: Spoken,
    contents: Contents,
    document_bytes: usize,
}

impl Service {
    /// An image that was read, with what advisories say of it today; made once for all who ask for it.
    pub(super) async fn look_at(&self, digest: &Digest, haste: Haste) -> Result<Arc<Examined>, Error> {
        let version = self.known().await?.map(|known| known.version);
        let (cell, spoken) = self.place_of(digest, version).await?;
        let mut made = None;
        let examined = cell.get_or_try_init(async || {
            let (_, contents, bytes) = self.contents_with_size(digest, haste).await?;
            let is_voiced = spoken.is_voiced();
            let examined = Examined::new(self.examined(haste, spoken, contents).await?, is_voiced, self.now());
            made = Some(examined.bytes(bytes));
            Ok::<_, Error>(Arc::new(examined))
        });
        let examined = Arc::clone(examined.await?);
        if let Some(bytes) = made {
            self.inner.examined.weigh(&cell, bytes);
        }
        Ok(examined)
    }

    /// Where the look at an image is kept that is good now, and what is stated of the image.
    async fn place_of(
        &self,
        digest: &Digest,
        version: Option<i64>,
    ) -> Result<(Arc<OnceCell<Arc<Examined>>>, Spoken), Error> {
        let row = self.image_row(digest).await?;
        let spoken = self.spoken(digest).await?;
        let of = Of { image: row.number, read_at: row.at, version, voices: spoken.voices() };
        Ok((self.inner.examined.cell(of, self.now()), spoken))
    }

    /// Looks at several images that are soon looked at one by one, as far as they are not too much at once: advisories on
    /// what several of them have are made ready once. Why one cannot be looked at is told when its turn comes.
    pub(super) async fn look_ahead(&self, digests: &[Digest]) -> Result<(), Error> {
        let Some(known) = self.known().await? else { return Ok(()) };
        let (mut ahead, mut bytes) = (Vec::new(), 0);
        for digest in digests {
            let (cell, spoken) = match self.place_of(digest, Some(known.version)).await {
                Ok((cell, _)) if cell.initialized() => continue,
                Ok(place) => place,
                Err(error @ Error::Db(_)) => return Err(error),
                Err(_) => continue,
            };
            let (contents, document_bytes) = match self.contents_with_size(digest, Haste::Aside).await {
                Ok((_, contents, bytes)) => (contents, bytes),
                Err(error @ Error::Db(_)) => return Err(error),
                Err(_) => continue,
            };
            ahead.push(Ahead { cell, spoken, contents, document_bytes });
            bytes += document_bytes;
            if bytes >= AHEAD_BYTES_MAX {
                break;
            }
        }
        let now = self.now();
        let looked = Haste::Aside.run(move || {
            let advisories = known.advisories_on(ahead.iter().map(|one| &one.contents), now)?;
            let look = |Ahead { cell, spoken, mut contents, document_bytes }: Ahead| {
                spoken.examine(&mut contents, &advisories, now);
                (cell, Examined::new(contents, spoken.is_voiced(), now), document_bytes)
            };
            Ok::<_, Error>(ahead.into_iter().map(look).collect::<Vec<_>>())
        });
        for (cell, examined, document_bytes) in looked.await?? {
            let bytes = examined.bytes(document_bytes);
            // Whoever looked meanwhile saw the same.
            let _ = cell.set(Arc::new(examined));
            self.inner.examined.weigh(&cell, bytes);
        }
        Ok(())
    }
}
