//! The hub as a peer that has everything: it gives pieces of blobs that it made trees of to hosts that show a grant, over
//! the agent port and the hosts' own protocol. What stands on its end is read from the registry piece by piece.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use base::listen::OtherProtocol;
use base::shutdown::Shutdown;
use base::tls::{SharedIdentity, TlsError};
use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, StreamExt as _};
use oci::Digest;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::Service;
use super::error::Error;
use crate::peers::{PROTOCOL, Peers, PeersConfig, Pieces, Role, Who, Written, yielding};
use crate::piece::{Layout, PieceSet, Root};

/// Repositories that are looked at for one that still has a blob.
const REPOSITORIES_MAX: u32 = 16;

impl Service {
    /// Begins to give pieces away, as this identity: what the agent port does with those who come for it.
    ///
    /// # Errors
    /// The identity's CA cannot be used.
    pub fn origin_start(&self, identity: &SharedIdentity, shutdown: &Shutdown) -> Result<OtherProtocol, TlsError> {
        let config = PeersConfig { role: Role::Origin, upload_bytes_per_second: None, download_bytes_per_second: None };
        let pieces = Arc::new(Registered { service: self.clone() });
        let (peers, mut happenings) = Peers::start(config, identity, pieces, shutdown.clone())?;
        // The hub wants nothing, so nothing of this concerns it; it ends with the exchange.
        shutdown.spawn(async move { while happenings.recv().await.is_some() {} });
        self.inner.tracking.revoked_shared(peers.revoked().clone());
        let config = peers.tls().server_config();
        let handler = Arc::new(move |stream: TlsStream<TcpStream>, _| {
            yielding::mark(stream.get_ref().0);
            peers.clone().speak(stream).boxed()
        });
        Ok(OtherProtocol { protocol: PROTOCOL, config, handler })
    }

    /// A piece of a blob that has a tree, from whichever repository has it still.
    async fn piece(&self, digest: Digest, piece: u32) -> Result<Bytes, Error> {
        let wrong = |why: &str| Error::Blob { digest, why: why.to_owned() };
        let tree = self.inner.store.tree_root(&digest).await?.ok_or_else(|| wrong("it has no tree of hashes"))?;
        let layout = Layout::of(tree.length_bytes).map_err(|error| wrong(&error.to_string()))?;
        let range = layout.range(piece).ok_or_else(|| wrong("it has no such piece"))?;
        for repository in self.inner.store.tree_repositories(&digest, REPOSITORIES_MAX).await? {
            let found = self.inner.registry.blob_open(&repository, &digest, Some(range.clone())).await?;
            let Some(mut blob) = found else { continue };
            let length = layout.bytes_of(piece).unwrap_or_default() as usize;
            let mut bytes = BytesMut::with_capacity(length);
            while let Some(part) = blob.body.next().await {
                let part = part?;
                if bytes.len() + part.len() > length {
                    return Err(wrong("it is longer than its tree of hashes says"));
                }
                // A piece in one part is not copied.
                if part.len() == length {
                    return Ok(part);
                }
                bytes.extend_from_slice(&part);
            }
            return if bytes.len() == length { Ok(bytes.freeze()) } else { Err(wrong("it ended before its end")) };
        }
        Err(wrong("no repository has it any more"))
    }
}

/// The registry's blobs, in pieces.
struct Registered {
    service: Service,
}

#[async_trait]
impl Pieces for Registered {
    async fn read(&self, digest: Digest, piece: u32) -> io::Result<Bytes> {
        self.service.piece(digest, piece).await.map_err(io::Error::other)
    }

    async fn write(&self, digest: Digest, _: u32, _: Bytes, from: &Who) -> io::Result<Written> {
        Err(io::Error::new(io::ErrorKind::Unsupported, format!("the hub takes no pieces: {from} sent one of {digest}")))
    }

    async fn tree(&self, digest: Digest) -> io::Result<Bytes> {
        let tree = self.service.trees().get(&digest).await.map_err(io::Error::other)?;
        tree.map(|tree| tree.to_bytes().into()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    async fn offered(&self, digest: Digest, root: Root, layout: Layout) -> Option<PieceSet> {
        let tree = self.service.inner.store.tree_root(&digest).await;
        let known = tree.inspect_err(|error| tracing::warn!(%digest, %error, "a tree cannot be read")).ok()??;
        (known.root == root && known.length_bytes == layout.length()).then(|| PieceSet::full(layout.pieces()))
    }
}
