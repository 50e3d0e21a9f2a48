//! A release's image as an archive for an engine that cannot pull from this machine: an OCI layout which `docker load` of
//! any age takes, since it has a `manifest.json` besides. It is made from the hub's blobs while it is sent: never whole on
//! disk or in memory, and no blob is ended before its digest was verified.

use std::collections::BTreeSet;
use std::io;

use api::client::HubClient;
use bytes::{Bytes, BytesMut};
use engine::build::TarBody;
use futures::stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use oci::{Descriptor, Digest, ImageConfig};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::error::Error;
use crate::released::{self, Released};

/// Bytes that are handed on at once: small pieces cost ten times the CPU.
const PIECE_BYTES: usize = 256 * 1024;
/// Pieces that may wait for the engine; with the one being filled, this is the bound on memory.
const PIECES_WAITING_MAX: usize = 4;
/// How often a blob whose transfer broke is taken up where it ended.
const RESUMES_MAX: u32 = 5;
/// What a tar is made of.
const BLOCK_BYTES: u64 = 512;

/// An image that is to be loaded.
#[derive(Clone)]
pub(crate) struct Archive {
    hub: HubClient,
    released: Released,
    config: Bytes,
    /// The layers that are sent, each once.
    layers: Vec<Descriptor>,
}

impl Archive {
    /// The archive of an image, with all of its layers.
    ///
    /// # Errors
    /// Its configuration cannot be had.
    pub(crate) async fn new(hub: HubClient, service: &str, released: Released) -> Result<Self, Error> {
        let config = released::config(&hub, service, &released).await?;
        let mut seen = BTreeSet::new();
        let layers = released.manifest.layers.iter().filter(|layer| seen.insert(layer.digest)).cloned().collect();
        Ok(Self { hub, released, config, layers })
    }

    /// The same without the layers that the engine has already, in the same order on the same ground. `held` are those of
    /// an image that it has, uncompressed, lowest first. An engine whose images are kept by containerd takes none without.
    pub(crate) fn without(&self, held: &[Vec<String>]) -> Self {
        let own = serde_json::from_slice::<ImageConfig>(&self.config).map(|config| config.rootfs.diff_ids);
        let own: Vec<String> = own.unwrap_or_default().iter().map(Digest::to_string).collect();
        let common = |held: &Vec<String>| own.iter().zip(held).take_while(|(own, held)| own == held).count();
        let there = held.iter().map(common).max().unwrap_or(0);
        let mut layers = self.layers.clone();
        let needed: BTreeSet<Digest> =
            self.released.manifest.layers.iter().skip(there).map(|layer| layer.digest).collect();
        layers.retain(|layer| needed.contains(&layer.digest));
        Self { layers, ..self.clone() }
    }

    /// Whether layers are left out.
    pub(crate) fn is_partial(&self) -> bool {
        self.released.manifest.layers.iter().any(|layer| !self.layers.iter().any(|sent| sent.digest == layer.digest))
    }

    /// Bytes of the layers that are sent.
    pub(crate) fn layer_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    /// The archive's bytes, made as they are taken. `progress` is told how many bytes of layers were sent.
    pub(crate) fn body(&self, progress: impl Fn(u64) + Send + Sync + 'static) -> TarBody {
        let (sender, receiver) = mpsc::channel(PIECES_WAITING_MAX);
        let archive = self.clone();
        let making = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut out = Out { sender, buffer: BytesMut::with_capacity(PIECE_BYTES) };
            if let Err(error) = archive.write(&mut out, &progress).await {
                // With the receiver gone nobody waits for the error.
                let _gone = out.sender.send(Err(error)).await;
            }
        }));
        TarBody::from_stream(stream::unfold((receiver, making), |(mut receiver, making)| async move {
            Some((receiver.recv().await?, (receiver, making)))
        }))
    }

    async fn write(&self, out: &mut Out, progress: &(impl Fn(u64) + Sync)) -> io::Result<()> {
        let released = &self.released;
        let image =
            json!({ "mediaType": released.media_type, "digest": released.digest, "size": released.bytes.len() });
        let index = json!({ "schemaVersion": 2, "manifests": [image] });
        let layers: Vec<String> = released.manifest.layers.iter().map(|layer| path(&layer.digest)).collect();
        let saved = json!([{ "Config": path(&released.manifest.config.digest), "RepoTags": null, "Layers": layers }]);
        out.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).await?;
        out.file("index.json", index.to_string().as_bytes()).await?;
        out.file("manifest.json", saved.to_string().as_bytes()).await?;
        out.file(&path(&released.digest), &released.bytes).await?;
        out.file(&path(&released.manifest.config.digest), &self.config).await?;
        let mut sent_bytes = 0;
        for layer in &self.layers {
            out.header(&path(&layer.digest), layer.size).await?;
            self.layer(layer, out, &|bytes| progress(sent_bytes + bytes)).await?;
            out.pad(layer.size).await?;
            sent_bytes += layer.size;
        }
        // A tar ends with two empty blocks.
        out.put(&[0; 2 * BLOCK_BYTES as usize]).await?;
        out.flush().await
    }

    /// Sends a layer; its last bytes only once all of them are what the digest says.
    async fn layer(&self, layer: &Descriptor, out: &mut Out, progress: &(impl Fn(u64) + Sync)) -> io::Result<()> {
        let path = format!("/v2/{}/blobs/{}", self.released.repository, layer.digest);
        let other = |why: String| io::Error::other(format!("{}: {why}", layer.digest));
        let mut hasher = layer.digest.hasher();
        let (mut done, mut told, mut resumes, mut last) = (0_u64, 0, 0, Bytes::new());
        while done < layer.size {
            let mut headers = HeaderMap::new();
            if done > 0 {
                let range = HeaderValue::from_str(&format!("bytes={done}-"));
                headers.insert(header::RANGE, range.map_err(io::Error::other)?);
            }
            let mut broken = None;
            match self.hub.registry(Method::GET, &path, headers).await {
                Err(problem) => broken = Some(problem.to_string()),
                Ok(response) => {
                    let expected = if done > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
                    if response.status() != expected {
                        return Err(other(format!("the hub answered {} to GET {path}", response.status())));
                    }
                    let mut response = response;
                    while done < layer.size {
                        let piece = match response.chunk().await {
                            Ok(Some(piece)) => piece,
                            Ok(None) => {
                                broken = Some("the hub ended it too early".to_owned());
                                break;
                            }
                            Err(error) => {
                                broken = Some(error.to_string());
                                break;
                            }
                        };
                        done += piece.len() as u64;
                        if done > layer.size {
                            return Err(other(format!("the hub gave more than {} bytes", layer.size)));
                        }
                        hasher.update(&piece);
                        out.put(&std::mem::replace(&mut last, piece)).await?;
                        if done - told >= PIECE_BYTES as u64 {
                            told = done;
                            progress(done);
                        }
                    }
                }
            }
            if let Some(why) = broken {
                resumes += 1;
                if resumes > RESUMES_MAX {
                    return Err(other(why));
                }
                tracing::debug!(why, done, digest = %layer.digest, "a layer is taken up where it ended");
            }
        }
        if hasher.finish() != layer.digest {
            return Err(other("the hub gave other bytes than that".to_owned()));
        }
        progress(done);
        out.put(&last).await
    }
}

/// Where an archive has a blob.
fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// Cuts a tar into pieces, and waits while too many are under way.
struct Out {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
}

impl Out {
    async fn file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.header(name, content.len() as u64).await?;
        self.put(content).await?;
        self.pad(content.len() as u64).await
    }

    async fn header(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_path(name)?;
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes);
        header.set_cksum();
        self.put(header.as_bytes()).await
    }

    /// Fills up the last block of so many bytes.
    async fn pad(&mut self, bytes: u64) -> io::Result<()> {
        let rest = (BLOCK_BYTES - bytes % BLOCK_BYTES) % BLOCK_BYTES;
        self.put(&[0; BLOCK_BYTES as usize][..usize::try_from(rest).unwrap_or_default()]).await
    }

    async fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (taken, rest) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(taken);
            bytes = rest;
            if self.buffer.len() == PIECE_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(PIECE_BYTES)).freeze();
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the engine takes no more");
        self.sender.send(Ok(piece)).await.map_err(gone)
    }
}
