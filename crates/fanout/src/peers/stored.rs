//! The pieces of an agent: those in its store.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use oci::Digest;

use super::{Pieces, Who, Written};
use crate::piece::{Layout, PieceSet, Root};
use crate::store::{PieceKept, Source, Store};

#[async_trait]
impl Pieces for Store {
    async fn read(&self, digest: Digest, piece: u32) -> io::Result<Bytes> {
        self.piece_read(digest, piece).await.map_err(io::Error::other)
    }

    async fn write(&self, digest: Digest, piece: u32, bytes: Bytes, from: &Who) -> io::Result<Written> {
        let source = match from {
            Who::Hub => Source::Hub,
            Who::Host(_) => Source::Peer,
        };
        match self.piece_keep(digest, piece, bytes, source).await.map_err(io::Error::other)? {
            PieceKept::Wrong => Ok(Written::Wrong),
            PieceKept::Already | PieceKept::Kept | PieceKept::Last | PieceKept::Whole => Ok(Written::Kept),
        }
    }

    async fn tree(&self, digest: Digest) -> io::Result<Bytes> {
        Ok(Store::tree(self, digest).await.map_err(io::Error::other)?.to_bytes().into())
    }

    async fn offered(&self, digest: Digest, _: Root, layout: Layout) -> Option<PieceSet> {
        self.pieces(&digest).filter(|pieces| pieces.pieces() == layout.pieces())
    }
}
