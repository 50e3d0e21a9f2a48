//! What the driver is told by the agent: whom to deal with, what the hub grants, which blobs are exchanged.

use std::collections::HashSet;

use api::HostName;
use bytes::Bytes;
use oci::Digest;

use super::driver::{Driver, Exchanged, Own};
use super::{Command, Plan, Role, Who};
use crate::core::{Blob, Input, Message, Node, STRIPES, Source};
use crate::grant;
use crate::piece::{Layout, PieceSet, Root};
use crate::wire::Frame;

impl Driver {
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Plan(plan) => self.plan(plan),
            Command::Grant(signed) => self.own_grant(signed.payload.into(), signed.signature.into()),
            Command::Blob { digest, root, layout, pieces } => self.blob(digest, root, layout, pieces),
            Command::Forget(digest) => self.forget(digest),
            Command::Kept { digest, pieces } => self.kept(digest, &pieces),
            Command::Tree { digest, reply } => self.tree_ask(digest, reply),
            Command::Status(reply) => {
                let _ = reply.send(self.status_now());
            }
        }
    }

    fn kept(&mut self, digest: Digest, pieces: &PieceSet) {
        let Some(blob) = self.numbers.get(&digest).copied() else { return };
        let Some(exchanged) = self.blobs.get(&blob).filter(|it| it.have.pieces() == pieces.pieces()) else { return };
        for piece in pieces.without(&exchanged.have).collect::<Vec<_>>() {
            self.have(blob, piece);
            self.tell(Input::Kept { blob, piece });
        }
    }

    fn own_grant(&mut self, payload: Bytes, signature: Bytes) {
        let grant = match grant::verify(&self.shared.ca, &payload, &signature, (self.shared.now)()) {
            Ok(grant) => grant,
            Err(error) => return tracing::warn!(%error, "a grant of this host counts for nothing"),
        };
        let frame = Frame::Grant { payload, signature };
        for link in self.others.iter().filter_map(|other| other.link.as_ref()) {
            link.send(frame.clone());
        }
        let now = (self.shared.now)();
        self.own.retain(|_, own| own.grant.check_time(now).is_ok());
        self.own.insert(grant.image.digest, Own { frame, grant });
    }

    fn plan(&mut self, plan: Plan) {
        for other in &mut self.others {
            other.address = None;
        }
        let mut nodes = Vec::with_capacity(plan.neighbours.len());
        for (host, address) in &plan.neighbours {
            let node = self.node(&Who::Host(host.clone()));
            if let Some(other) = self.other(node) {
                other.address = Some(*address);
            }
            nodes.push(node);
        }
        let origin = plan.hub.map(|address| {
            let node = self.node(&Who::Hub);
            if let Some(other) = self.other(node) {
                other.address = Some(address);
            }
            node
        });
        self.plan = plan;
        (self.neighbours, self.origin) = (nodes.clone(), origin);
        self.tell(Input::Neighbours { nodes, origin });
        for blob in self.blobs.keys().copied().collect::<Vec<_>>() {
            self.parents(blob);
        }
    }

    /// Tells the core who sends the stripes of a blob, as the plan says it.
    fn parents(&mut self, blob: Blob) {
        let Some(digest) = self.blobs.get(&blob).map(|exchanged| exchanged.digest) else { return };
        let planned = self.plan.parents.iter().find(|(blob, _)| *blob == digest).map(|(_, parents)| parents.clone());
        let mut parents = [None; STRIPES];
        for (parent, source) in parents.iter_mut().zip(planned.into_iter().flatten()) {
            *parent = source.map(|source| self.node(&of_source(source)));
        }
        self.tell(Input::Parents { blob, parents });
    }

    /// A blob is exchanged from now on.
    pub(super) fn blob(&mut self, digest: Digest, root: Root, layout: Layout, pieces: PieceSet) {
        if self.numbers.contains_key(&digest) || pieces.pieces() != layout.pieces() {
            return;
        }
        let blob = Blob(self.blob_next);
        self.blob_next = self.blob_next.wrapping_add(1);
        self.numbers.insert(digest, blob);
        self.blobs.insert(blob, Exchanged { digest, root, layout, have: pieces.clone() });
        let shift = digest.as_bytes().first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        self.tell(Input::Blob { blob, pieces, stripe_shift: shift });
        // What others said of it before it was known here counts now.
        for node in (0..self.others.len()).filter_map(|at| u32::try_from(at).ok()).map(Node) {
            self.open(node, blob);
            let pieces = self.other(node).and_then(|other| other.pieces(&digest)).cloned();
            if let Some(pieces) = pieces {
                self.tell(Input::Message { node, message: Message::Open { blob, pieces } });
            }
        }
        self.parents(blob);
    }

    fn forget(&mut self, digest: Digest) {
        let Some(blob) = self.numbers.remove(&digest) else { return };
        self.blobs.remove(&blob);
        self.tell(Input::Forget { blob });
        for other in &mut self.others {
            let closed = other.channel_close(&digest);
            let Some(link) = &other.link else { continue };
            link.unask(&digest);
            if let Some(channel) = closed {
                link.send(Frame::Close { channel });
            }
        }
    }

    /// The hub offers only what somebody who is connected has a grant for.
    pub(super) fn forget_unshown(&mut self) {
        if self.shared.role != Role::Origin {
            return;
        }
        let now = (self.shared.now)();
        let linked = self.others.iter().filter(|other| other.link.is_some());
        let shown: HashSet<Digest> = linked.flat_map(|other| other.rights.all(now)).map(|(digest, _)| digest).collect();
        let unshown: Vec<Digest> = self.numbers.keys().filter(|digest| !shown.contains(digest)).copied().collect();
        for digest in unshown {
            self.forget(digest);
        }
    }
}

fn of_source(source: Source<HostName>) -> Who {
    match source {
        Source::Hub => Who::Hub,
        Source::Host(host) => Who::Host(host),
    }
}
