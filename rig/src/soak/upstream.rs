//! A registry from which the hub pulls, and clients that pull from it through the hub.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use oci::Digest;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::TcpListener;

use super::content::{Blob, Manifest};
use super::wire::Wire;
use super::work::Tally;
use super::{Fault, Stop};

/// Where the hub has the upstream's repositories.
pub(super) const PREFIX: &str = "mirror";
/// For so long the hub may take a tag to lead where it did, in seconds.
pub(super) const REVALIDATE_SECONDS: u64 = 1;
const REPOSITORY: &str = "base";
const TAGS: usize = 3;
const IMAGES: u64 = 12;
const LAYERS: u64 = 2;
/// Between two requests of one client a tag is moved so often.
const MOVES_ONE_IN: u32 = 4;
/// Blobs come in pieces with pauses in between, so that a crash finds them half arrived.
const PIECE_BYTES: usize = 16 << 10;
const PIECE_PAUSE: Duration = Duration::from_millis(1);
/// An answer may be as old as this besides the time for which the hub need not ask.
const DELAY_MAX: Duration = Duration::from_secs(20);

/// The registry behind the hub. It is always up, and its tags move.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    images: Vec<Arc<Manifest>>,
    blobs: BTreeMap<Digest, Arc<Blob>>,
    /// Which image each tag led to, from when on.
    tags: Mutex<Vec<Vec<(Instant, usize)>>>,
    server: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Upstream {
    /// `number` tells its content from that of others.
    pub(super) async fn start(number: u64) -> anyhow::Result<Arc<Self>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let blob = |number: u64| Blob::new(number);
        let first = (number << 48) + (1 << 46);
        let images: Vec<Arc<Manifest>> = (0..IMAGES)
            .map(|image| {
                // Neighbours share a layer.
                let layers = (0..=LAYERS).map(|layer| blob(first + image * LAYERS + layer)).collect();
                Manifest::image(first + image, layers, None)
            })
            .collect();
        let blobs = images.iter().flat_map(|image| &image.blobs).map(|blob| (blob.digest, Arc::clone(blob))).collect();
        let tags = (0..TAGS).map(|tag| vec![(Instant::now(), tag)]).collect();
        let upstream = Arc::new(Self {
            address: listener.local_addr()?,
            images,
            blobs,
            tags: Mutex::new(tags),
            server: Mutex::new(None),
        });
        let serving = tokio::spawn(serve(listener, Arc::downgrade(&upstream)));
        *upstream.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(serving);
        Ok(upstream)
    }

    fn tags(&self) -> MutexGuard<'_, Vec<Vec<(Instant, usize)>>> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn move_tag(&self, random: &mut StdRng) {
        let tag = random.random_range(0..TAGS);
        let image = random.random_range(0..self.images.len());
        self.tags()[tag].push((Instant::now(), image));
    }

    /// The images that a tag led to at any time since `since`.
    fn since(&self, tag: usize, since: Instant) -> Vec<Arc<Manifest>> {
        let tags = self.tags();
        let history = &tags[tag];
        let ends = history.iter().skip(1).map(|(from, _)| Some(*from)).chain([None]);
        let during = history.iter().zip(ends).filter(|(_, end)| end.is_none_or(|end| end >= since));
        during.map(|((_, image), _)| Arc::clone(&self.images[*image])).collect()
    }

    fn answer(&self, path: &str) -> Option<(&'static str, Digest, Bytes)> {
        let rest = path.strip_prefix(&format!("/v2/{REPOSITORY}/"))?;
        let (kind, reference) = rest.split_once('/')?;
        let manifest = |image: &Arc<Manifest>| (image.media_type, image.digest, image.bytes.clone());
        match (kind, reference.strip_prefix('t').and_then(|tag| tag.parse::<usize>().ok())) {
            ("manifests", Some(tag)) => {
                let image = self.tags().get(tag)?.last()?.1;
                self.images.get(image).map(manifest)
            }
            ("manifests", None) => self.images.iter().find(|image| image.digest.to_string() == reference).map(manifest),
            ("blobs", _) => {
                let blob = self.blobs.get(&reference.parse().ok()?)?;
                Some(("application/octet-stream", blob.digest, blob.bytes.clone()))
            }
            _ => None,
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).take() {
            server.abort();
        }
    }
}

type Pieces = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

async fn serve(listener: TcpListener, upstream: std::sync::Weak<Upstream>) {
    while let Ok((stream, _)) = listener.accept().await {
        let upstream = upstream.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = upstream.upgrade().map(|upstream| respond(&upstream, &request));
            async move { answer.ok_or("the soak ends") }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn respond(upstream: &Upstream, request: &Request<Incoming>) -> Response<Pieces> {
    let mut response = Response::new(pieces(Bytes::new()));
    if request.uri().path() == "/v2/" {
        return response;
    }
    let Some((media_type, digest, bytes)) = upstream.answer(request.uri().path()) else {
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    headers.insert(header::CONTENT_LENGTH, header::HeaderValue::from(bytes.len()));
    if let Ok(digest) = header::HeaderValue::try_from(digest.to_string()) {
        headers.insert("docker-content-digest", digest);
    }
    if request.method() == Method::GET {
        *response.body_mut() = pieces(bytes);
    }
    response
}

fn pieces(bytes: Bytes) -> Pieces {
    let starts = (0..bytes.len()).step_by(PIECE_BYTES);
    let pieces: Vec<Bytes> = starts.map(|start| bytes.slice(start..(start + PIECE_BYTES).min(bytes.len()))).collect();
    let slowly = stream::iter(pieces.into_iter().enumerate()).then(|(number, piece)| async move {
        if number > 0 {
            tokio::time::sleep(PIECE_PAUSE).await;
        }
        Ok(Frame::data(piece))
    });
    StreamBody::new(slowly.boxed())
}

/// A client that pulls images of the upstream through the hub.
pub(super) struct Puller {
    pub(super) wire: Wire,
    pub(super) tally: Tally,
    random: StdRng,
    upstream: Arc<Upstream>,
}

impl Puller {
    pub(super) fn new(upstream: &Arc<Upstream>, wire: Wire, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { wire, tally: Tally::default(), random, upstream: Arc::clone(upstream) }
    }

    /// Pulls until the crash. Gives what ended it.
    pub(super) async fn work(&mut self) -> Stop {
        loop {
            if self.random.random_ratio(1, MOVES_ONE_IN) {
                self.upstream.move_tag(&mut self.random);
            }
            if let Err(stop) = self.pull().await {
                return stop;
            }
        }
    }

    /// An image with all its blobs, by tag or by digest: byte for byte what the upstream has.
    pub(super) async fn pull(&mut self) -> Result<(), Stop> {
        let image = match self.random.random_ratio(2, 3) {
            true => self.pull_tag().await?,
            false => {
                let image = &self.upstream.images[self.random.random_range(0..self.upstream.images.len())];
                let image = Arc::clone(image);
                let bytes = self.read(&format!("manifests/{}", image.digest)).await?;
                self.same(&format!("manifest {}", image.digest), &bytes, &image.bytes)?;
                image
            }
        };
        for blob in &image.blobs {
            let bytes = self.read(&format!("blobs/{}", blob.digest)).await?;
            self.same(&format!("blob {}", blob.digest), &bytes, &blob.bytes)?;
        }
        self.tally.add("images pulled through");
        Ok(())
    }

    async fn pull_tag(&mut self) -> Result<Arc<Manifest>, Stop> {
        let tag = self.random.random_range(0..TAGS);
        let valid = Duration::from_secs(REVALIDATE_SECONDS) + DELAY_MAX;
        let since = Instant::now().checked_sub(valid).unwrap_or_else(Instant::now);
        let bytes = self.read(&format!("manifests/t{tag}")).await?;
        let images = self.upstream.since(tag, since);
        let image = images.into_iter().find(|image| image.bytes == bytes);
        image.ok_or_else(|| {
            let told = format!(
                "{PREFIX}/{REPOSITORY}: tag t{tag} leads to {}, where it did not lead",
                Digest::sha256_of(&bytes)
            );
            Fault::Wrong(told).into()
        })
    }

    async fn read(&mut self, what: &str) -> Result<Bytes, Stop> {
        let answer = self.wire.get(&format!("/v2/{PREFIX}/{REPOSITORY}/{what}")).await?;
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            _ => Err(Fault::Failed(format!("{PREFIX}/{REPOSITORY}/{what}: {}", answer.shown())).into()),
        }
    }

    fn same(&self, what: &str, found: &Bytes, wanted: &Bytes) -> Result<(), Stop> {
        if found == wanted {
            return Ok(());
        }
        Err(Fault::Wrong(format!("{PREFIX}/{REPOSITORY}: {} other bytes for {what}", found.len())).into())
    }
}
