//! What the driver does: connections, frames and uploads that the core asks for; trees; the status.

use std::sync::Arc;

use bytes::Bytes;
use oci::Digest;
use tokio::sync::oneshot;

use super::driver::{Driver, TREE_WAITING_BYTES_MAX, TREES_WANTED_MAX};
use super::link::Upload;
use super::{Happened, PeersStatus, dial};
use crate::core::{Blob, Input, Message, Node, Output};
use crate::piece::PieceTree;
use crate::wire::{Frame, HAVE_PIECES_MAX, Refusal};

impl Driver {
    /// Does what the core says.
    pub(super) fn carry_out(&mut self, output: Output) {
        match output {
            Output::Connect { node } => self.connect(node),
            Output::Disconnect { node, avoid_until } => {
                if avoid_until.is_some()
                    && let Some(other) = self.other(node)
                {
                    tracing::warn!(peer = %other.who, "a peer is avoided for a while");
                }
                if let Some(link) = self.other(node).and_then(|other| other.link.take()) {
                    link.cut();
                }
                self.unlink(node);
            }
            Output::Send { node, message } => self.send(node, message),
            Output::Upload { node, blob, piece } => self.upload(node, blob, piece),
            Output::Complete { blob } => self.happened(blob, Happened::Complete),
            // Nobody listens any more while the process stops.
            Output::Complaints => _ = self.happened.send(Happened::Complaints),
            Output::Starving { blob } => self.happened(blob, Happened::Starving),
        }
    }

    fn happened(&self, blob: Blob, happened: fn(Digest) -> Happened) {
        if let Some(exchanged) = self.blobs.get(&blob) {
            // Nobody listens any more while the process stops.
            let _ = self.happened.send(happened(exchanged.digest));
        }
    }

    fn connect(&mut self, node: Node) {
        let (now, shared) = (self.now(), Arc::clone(&self.shared));
        let Some(other) = self.other(node) else { return };
        if other.link.is_some() {
            return self.tell(Input::Connected { node });
        }
        let (who, is_dialled) = (other.who.clone(), other.is_dialled);
        match other.dial(now) {
            Some(address) => {
                shared.shutdown.clone().spawn(dial::dial(shared, who, address));
            }
            None if is_dialled => {}
            None => self.tell(Input::Disconnected { node }),
        }
    }

    fn send(&mut self, node: Node, message: Message) {
        let blob = match &message {
            Message::Open { blob, .. } => return self.open(node, *blob),
            Message::Close { blob }
            | Message::Have { blob, .. }
            | Message::Subscribe { blob, .. }
            | Message::Request { blob, .. }
            | Message::Cancel { blob, .. }
            | Message::Refuse { blob, .. } => *blob,
        };
        let Some((digest, layout)) = self.blobs.get(&blob).map(|exchanged| (exchanged.digest, exchanged.layout)) else {
            return;
        };
        let Some(other) = self.other(node) else { return };
        let (Some(channel), Some(link)) = (other.channel(&digest), other.link.clone()) else { return };
        match message {
            Message::Open { .. } => {}
            Message::Close { .. } => {
                other.channel_close(&digest);
                link.unask(&digest);
                link.send(Frame::Close { channel });
            }
            Message::Have { mut pieces, .. } => {
                pieces.sort_unstable();
                pieces.dedup();
                for pieces in pieces.chunks(HAVE_PIECES_MAX) {
                    link.send(Frame::Have { channel, pieces: pieces.to_vec() });
                }
            }
            Message::Subscribe { stripes, .. } => {
                link.ask(digest, layout);
                link.send(Frame::Subscribe { channel, stripes: stripes.bits() });
            }
            Message::Request { piece, .. } => {
                link.ask(digest, layout);
                link.send(Frame::Request { channel, piece });
            }
            Message::Cancel { piece, .. } => link.send(Frame::Cancel { channel, piece }),
            Message::Refuse { piece, .. } => link.send(Frame::Refuse { channel, piece, why: Refusal::Missing }),
        }
    }

    /// Rights are looked at once more for each piece: they end.
    fn upload(&mut self, node: Node, blob: Blob, piece: u32) {
        let is_allowed = self.may_have(node, blob);
        let exchanged = self.blobs.get(&blob).and_then(|it| Some((it.digest, it.layout.bytes_of(piece)?)));
        if let Some((digest, length)) = exchanged
            && let Some(other) = self.other(node)
            && let (Some(channel), Some(link)) = (other.channel(&digest), other.link.clone())
        {
            if is_allowed {
                return link.upload(Upload { channel, digest, piece, length });
            }
            link.send(Frame::Refuse { channel, piece, why: Refusal::NotGranted });
        }
        self.tell(Input::Sent { node, blob, piece });
    }

    /// Sends the hashes of a blob's pieces to a host that may have it.
    pub(super) fn tree_send(&mut self, node: Node, digest: Digest) {
        let Some(blob) = self.numbers.get(&digest).copied().filter(|blob| self.may_have(node, *blob)) else { return };
        let Some(root) = self.blobs.get(&blob).map(|exchanged| (exchanged.root, exchanged.layout)) else { return };
        let pieces = Arc::clone(&self.shared.pieces);
        let Some(link) = self.other(node).and_then(|other| other.link.clone()) else { return };
        if link.waiting_bytes() > TREE_WAITING_BYTES_MAX {
            return;
        }
        self.shared.shutdown.spawn(async move {
            match pieces.tree(digest).await {
                Ok(leaves) if PieceTree::from_bytes(root.1, root.0, &leaves).is_ok() => {
                    link.send(Frame::Tree { digest, leaves });
                }
                Ok(_) => tracing::warn!(%digest, "the tree of a blob is not the one that the hub granted"),
                Err(error) => tracing::warn!(%digest, %error, "the tree of a blob cannot be read"),
            }
        });
    }

    pub(super) fn tree_ask(&mut self, digest: Digest, reply: oneshot::Sender<Bytes>) {
        self.trees.retain(|(_, reply)| !reply.is_closed());
        if self.trees.len() >= TREES_WANTED_MAX {
            return;
        }
        self.trees.push((digest, reply));
        for link in self.others.iter().filter_map(|other| other.link.as_ref()) {
            link.send(Frame::TreeRequest { digest });
        }
    }

    /// Hashes came: those that do not lead to the root of this host's grant are no answer, and whoever sends them is cut.
    pub(super) fn tree_came(&mut self, node: Node, digest: Digest, leaves: &Bytes) {
        if !self.trees.iter().any(|(wanted, _)| *wanted == digest) {
            return;
        }
        let granted = self.own.values().find_map(|own| own.grant.blob(&digest));
        let Some((root, Ok(layout))) = granted.map(|blob| (blob.root, blob.layout())) else { return };
        if PieceTree::from_bytes(layout, root, leaves).is_err() {
            if let Some(link) = self.other(node).and_then(|other| other.link.as_ref()) {
                tracing::warn!(peer = %link.who, %digest, "a peer sent a wrong tree; it is cut off");
                link.cut();
            }
            return;
        }
        for (_, reply) in self.trees.extract_if(.., |(wanted, _)| *wanted == digest) {
            let _ = reply.send(leaves.clone());
        }
    }

    pub(super) fn status_now(&self) -> PeersStatus {
        let who = |node: Node| self.others.get(node.0 as usize).map(|other| other.who.clone());
        let connected = self.others.iter().filter(|other| other.link.is_some()).map(|other| other.who.clone());
        PeersStatus {
            connected: connected.collect(),
            pieces: self.core.counts(),
            waiting: self.core.waiting(),
            complaints: self.core.complaints(self.now()).into_iter().filter_map(who).collect(),
            ..self.status.clone()
        }
    }
}
