//! How a blob that is not here comes: from the swarm, and from the hub where the swarm does not do. One fetch at a time for
//! each blob, whoever waits for it; it goes on to its end when nobody does any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::delivery::ImageAddress;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use oci::{Digest, RepositoryName};
use tokio::sync::{mpsc, oneshot, watch};

use super::answer::{Refusal, ask};
use super::{Inner, Told, Want};
use crate::store::{Fill, FillBegun, Hold, Source, Stage, StoreError};

/// How long the swarm may take to begin a blob, in seconds.
const BEGIN_SECONDS_MAX: u64 = 10;
/// How long the swarm may give nothing of a blob, in seconds; then the hub gives what is missing.
const STARVE_SECONDS_MAX: u64 = 20;
/// Requests to the hub for one blob that may fail, one after the other.
const FAILURES_MAX: u32 = 5;
/// The pause after a failure, in milliseconds; it doubles with each.
const PAUSE_MILLIS: u64 = 250;
/// What one request to the hub asks for of a blob that lacks pieces, in bytes.
const RUN_BYTES: u64 = 8 << 20;

/// Where a blob comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coming {
    /// It is here.
    There,
    FromPeers,
    FromHub,
    /// It comes past the store, which cannot keep it.
    Past,
}

/// How far a fetch is.
#[derive(Debug, Clone)]
enum Step {
    Asking,
    Coming(Coming),
    Failed(Refusal),
}

/// Fetches under way.
#[derive(Default)]
pub(super) struct Fetches(Mutex<HashMap<Digest, watch::Receiver<Step>>>);

/// Sees to it that a blob is here or on its way, and waits until it can be read.
pub(super) async fn bring(inner: &Arc<Inner>, repository: &RepositoryName, digest: Digest) -> Result<Coming, Refusal> {
    if inner.store.is_whole(&digest) {
        return Ok(Coming::There);
    }
    let mut step = {
        let mut under_way = inner.fetches.0.lock().unwrap_or_else(PoisonError::into_inner);
        match under_way.get(&digest) {
            Some(step) => step.clone(),
            None => {
                let (sender, step) = watch::channel(Step::Asking);
                under_way.insert(digest, step.clone());
                let fetch = Fetch { inner: inner.clone(), repository: repository.clone(), digest, step: sender };
                tokio::spawn(fetch.run());
                step
            }
        }
    };
    let ended = step.wait_for(|step| !matches!(step, Step::Asking)).await.map(|step| step.clone());
    match ended {
        Ok(Step::Coming(coming)) => Ok(coming),
        Ok(Step::Failed(refusal)) => Err(refusal),
        // It ended between the two looks.
        Ok(Step::Asking) | Err(_) if inner.store.is_whole(&digest) => Ok(Coming::There),
        Ok(Step::Asking) | Err(_) => Err(Refusal::hub_away("the fetch ended early; pull again")),
    }
}

struct Fetch {
    inner: Arc<Inner>,
    repository: RepositoryName,
    digest: Digest,
    step: watch::Sender<Step>,
}

/// The end of a fetch, however it comes.
impl Drop for Fetch {
    fn drop(&mut self) {
        self.inner.fetches.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
    }
}

/// Why the hub did not give a blob.
enum Failure {
    /// It may work if it is tried again.
    Passing(Refusal),
    Final(Refusal),
    /// The store cannot keep it.
    Unkept(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::BudgetFull { .. }
            | StoreError::NoSpace { .. }
            | StoreError::TooLong(_)
            | StoreError::Io { .. } => Self::Unkept(error),
            error => Self::Passing(Refusal::hub_away(error)),
        }
    }
}

impl Fetch {
    async fn run(self) {
        let digest = self.digest;
        // Open until the end: the exchange does not give up what is brought here.
        let (starves, mut starving) = mpsc::channel(1);
        if let Err(why) = self.ask_swarm(starves, &mut starving).await {
            if let Some(why) = &why {
                self.inner.fell_back(digest, why);
            }
            match self.ask_hub().await {
                Ok(()) => {
                    if let Some(swarm) = &self.inner.swarm {
                        let _ = swarm.send(Told::Brought(digest)).await;
                    }
                }
                Err(Failure::Unkept(error)) => {
                    tracing::warn!(%digest, %error, "a blob is passed on from the hub and not kept");
                    if why.is_none() {
                        self.inner.fell_back(digest, &format!("it cannot be kept here: {error}"));
                    }
                    self.is_coming(Coming::Past);
                }
                Err(Failure::Passing(refusal) | Failure::Final(refusal)) => {
                    tracing::warn!(%digest, why = refusal.text, "a blob cannot be had");
                    // Those who read it already end now, the others are told.
                    let _ = self.inner.store.give_up(digest, refusal.text.clone()).await;
                    self.step.send_replace(Step::Failed(refusal));
                }
            }
        }
    }

    fn is_coming(&self, coming: Coming) {
        self.step.send_replace(Step::Coming(coming));
    }

    /// Until the blob is whole. An error says that the hub has to do, and why it is that this is to be known.
    async fn ask_swarm(
        &self,
        starves: mpsc::Sender<String>,
        starving: &mut mpsc::Receiver<String>,
    ) -> Result<(), Option<String>> {
        let (inner, digest) = (&self.inner, self.digest);
        let (begun, told) = oneshot::channel();
        let asked = self.want(begun, starves);
        // One that is fetched ahead comes, whether the exchange hears that it is wanted now or not.
        if inner.store.hold(&digest).is_none() {
            asked?;
            match tokio::time::timeout(Duration::from_secs(BEGIN_SECONDS_MAX), told).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(why))) => return Err(Some(why)),
                Ok(Err(_)) => return Err(Some("the fan-out ended".to_owned())),
                Err(_) => return Err(Some(format!("the fan-out did not begin it within {BEGIN_SECONDS_MAX} s"))),
            }
        }
        let held = inner.store.hold(&digest).ok_or_else(|| Some("the fan-out gave it up".to_owned()))?;
        self.is_coming(Coming::FromPeers);
        tokio::select! {
            followed = follow(&held) => followed.map_err(Some),
            Some(why) = starving.recv() => Err(Some(why)),
        }
    }

    /// Tells the exchange that the blob is wanted.
    fn want(
        &self,
        begun: oneshot::Sender<Result<(), String>>,
        starves: mpsc::Sender<String>,
    ) -> Result<(), Option<String>> {
        let (inner, blob) = (&self.inner, self.digest);
        let Some(swarm) = &inner.swarm else { return Err(None) };
        let Some(image) = inner.store.image_of(&blob, &self.repository) else {
            return Err(Some("no image that has it was asked for".to_owned()));
        };
        let image = ImageAddress { repository: self.repository.clone(), digest: image };
        let asked = swarm.try_send(Told::Want(Want { image, blob, begun, starves }));
        asked.map_err(|_| Some("the fan-out does not run, or has too much to do".to_owned()))
    }

    async fn ask_hub(&self) -> Result<(), Failure> {
        let mut failures = 0;
        loop {
            let failure = match self.attempt().await {
                Ok(()) => return Ok(()),
                Err(Failure::Passing(refusal)) => refusal,
                Err(failure) => return Err(failure),
            };
            failures += 1;
            if failures >= FAILURES_MAX {
                return Err(Failure::Final(failure));
            }
            tokio::time::sleep(Duration::from_millis(PAUSE_MILLIS << failures)).await;
        }
    }

    async fn attempt(&self) -> Result<(), Failure> {
        let (store, digest) = (&self.inner.store, self.digest);
        let length = match store.length(&digest) {
            Some(length) => length,
            None => {
                let answer = self.ask(Method::HEAD, None).await?;
                let length = answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
                let length = length.and_then(|length| length.parse().ok());
                length.ok_or_else(|| Failure::Final(Refusal::hub_away("it does not say how long the blob is")))?
            }
        };
        match store.fill(digest, length).await? {
            FillBegun::Mine(fill) => {
                self.is_coming(Coming::FromHub);
                self.fill(fill, length).await
            }
            FillBegun::Others(held) => {
                self.is_coming(if held.progress().stage == Stage::Whole { Coming::There } else { Coming::FromHub });
                self.pieces(&held).await
            }
        }
    }

    /// The whole of it in one run, taken up again where it broke off.
    async fn fill(&self, mut fill: Fill, length: u64) -> Result<(), Failure> {
        let mut failures = 0;
        while fill.written() < length {
            let before = fill.written();
            let failure = match self.ask(Method::GET, (before > 0).then_some((before, length))).await {
                Ok(mut answer) => loop {
                    match answer.chunk().await {
                        Ok(Some(chunk)) => fill.write(chunk).await?,
                        Ok(None) => break Refusal::hub_away("its answer was too short"),
                        Err(error) => break Refusal::hub_away(format!("its answer broke off: {error}")),
                    }
                },
                Err(Failure::Passing(refusal)) => refusal,
                Err(failure) => return Err(failure),
            };
            failures = if fill.written() > before { 0 } else { failures + 1 };
            if fill.written() < length && failures >= FAILURES_MAX {
                return Err(Failure::Final(failure));
            }
            if failures > 0 {
                tokio::time::sleep(Duration::from_millis(PAUSE_MILLIS << failures)).await;
            }
        }
        fill.finish().await?;
        Ok(())
    }

    /// The pieces that lack, in their order, as long as nobody else gives them.
    async fn pieces(&self, held: &Hold) -> Result<(), Failure> {
        let (store, digest) = (&self.inner.store, self.digest);
        loop {
            if held.progress().stage == Stage::Whole {
                return Ok(());
            }
            let Some(there) = store.pieces(&digest) else {
                // Another fill, whose end is awaited.
                return follow(held).await.map_err(|why| Failure::Passing(Refusal::hub_away(why)));
            };
            let tree = store.tree(digest).await?;
            let layout = tree.layout();
            let Some(first) = (0..layout.pieces()).find(|piece| !there.contains(*piece)) else {
                return follow(held).await.map_err(|why| Failure::Passing(Refusal::hub_away(why)));
            };
            let start = layout.range(first).map_or(0, |range| range.start);
            let run = (first..layout.pieces()).take_while(|piece| {
                let is_near = layout
                    .range(*piece)
                    .is_some_and(|range| range.end - start <= RUN_BYTES.max(range.end - range.start));
                is_near && !there.contains(*piece)
            });
            let end = run.last().and_then(|last| layout.range(last)).map_or(start, |range| range.end);
            let mut answer = self.ask(Method::GET, Some((start, end))).await?;
            let (mut piece, mut gathered) = (first, BytesMut::new());
            while let Some(chunk) = answer
                .chunk()
                .await
                .map_err(|error| Failure::Passing(Refusal::hub_away(format!("its answer broke off: {error}"))))?
            {
                gathered.extend_from_slice(&chunk);
                while let Some(length) = layout.bytes_of(piece).map(|length| length as usize)
                    && gathered.len() >= length
                {
                    let bytes: Bytes = gathered.split_to(length).freeze();
                    if store.piece_write(digest, piece, bytes, Source::Hub).await? == crate::store::PieceKept::Wrong {
                        let text = format!("the hub gave a wrong piece {piece} of {digest}");
                        return Err(Failure::Final(Refusal::new(StatusCode::BAD_GATEWAY, "BLOB_INVALID", text)));
                    }
                    piece += 1;
                    // One that is not heard of now is with the next.
                    if let Some(swarm) = &self.inner.swarm {
                        let _ = swarm.try_send(Told::Brought(digest));
                    }
                }
            }
            if piece == first {
                return Err(Failure::Passing(Refusal::hub_away("its answer was too short")));
            }
        }
    }

    async fn ask(&self, method: Method, range: Option<(u64, u64)>) -> Result<reqwest::Response, Failure> {
        let mut headers = HeaderMap::new();
        if let Some((start, end)) = range
            && let Ok(value) = HeaderValue::try_from(format!("bytes={start}-{}", end.saturating_sub(1)))
        {
            headers.insert(RANGE, value);
        }
        let path = format!("/v2/{}/blobs/{}", self.repository, self.digest);
        let answer = ask(&self.inner, method, path, &headers).await.map_err(Failure::Passing)?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT if range.is_some() => Ok(answer),
            StatusCode::OK if range.is_none_or(|(start, _)| start == 0) => Ok(answer),
            StatusCode::OK => Err(Failure::Final(Refusal::hub_away("it does not give parts of blobs"))),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(Failure::Passing(Refusal::of_hub(answer).await))
            }
            _ => Err(Failure::Final(Refusal::of_hub(answer).await)),
        }
    }
}

/// Until the blob is whole; an error when it was given up, or nothing comes of it.
async fn follow(held: &Hold) -> Result<(), String> {
    let mut changes = held.watch();
    loop {
        match &changes.borrow_and_update().stage {
            Stage::Whole => return Ok(()),
            Stage::GivenUp(why) => return Err(why.to_string()),
            Stage::Dormant => return Err("nobody fetches it".to_owned()),
            Stage::Arriving => {}
        }
        match tokio::time::timeout(Duration::from_secs(STARVE_SECONDS_MAX), changes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err("the store was closed".to_owned()),
            Err(_) => return Err(format!("no agent gave anything of it for {STARVE_SECONDS_MAX} s")),
        }
    }
}
