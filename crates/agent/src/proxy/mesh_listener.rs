//! The listener for other hosts: its address and its certificates, as the table says.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::accept::{accept_loop, bind};
use super::identity::Identity;
use super::mesh;
use super::status::MeshStatus;
use super::table::Mesh;

/// The one listener for other hosts. Changed by one caller at a time.
pub(crate) struct MeshListener {
    shared: Arc<Shared>,
    wanted: Option<Mesh>,
    bound: Option<Bound>,
    bind_error: Option<String>,
    identity_error: Option<String>,
}

struct Bound {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl MeshListener {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, wanted: None, bound: None, bind_error: None, identity_error: None }
    }

    /// Follows the table: address and certificates.
    pub(crate) async fn apply(&mut self, wanted: Option<&Mesh>) {
        self.wanted = wanted.cloned();
        if wanted.is_none() {
            *self.shared.identity.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        if self.bound.as_ref().map(|b| b.address) != wanted.map(|m| m.listen) {
            self.close().await;
        }
        self.refresh_identity().await;
        self.bind_missing();
    }

    /// Reads the certificates again; those in use stay when the new ones are no good.
    pub(crate) async fn refresh_identity(&mut self) {
        let Some(mesh) = self.wanted.clone() else {
            self.identity_error = None;
            return;
        };
        let current = self.shared.identity();
        let loaded = tokio::task::spawn_blocking(move || Identity::load(&mesh, current.as_deref())).await;
        let error = match loaded {
            Ok(Ok(Some(new))) => {
                *self.shared.identity.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(new));
                tracing::info!("certificates for other hosts read");
                None
            }
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let (Some(error), true) = (&error, self.identity_error != error) {
            tracing::warn!(error, "certificates for other hosts cannot be used");
        }
        self.identity_error = error;
    }

    /// Whether a certificate is wanted and there is none that can be used.
    pub(crate) fn lacks_identity(&self) -> bool {
        self.identity_error.is_some()
    }

    /// Binds the address unless it is.
    pub(crate) fn bind_missing(&mut self) {
        let Some(address) = self.wanted.as_ref().map(|m| m.listen) else {
            self.bind_error = None;
            return;
        };
        if self.bound.is_some() {
            return;
        }
        match bind(address) {
            Ok(socket) => {
                let (stop, shared) = (CancellationToken::new(), self.shared.clone());
                let (closing, connections_max) = (stop.clone(), shared.limits.connections_max);
                let task =
                    tokio::spawn(accept_loop(socket, connections_max, stop.clone(), move |stream, _, permit| {
                        let (serving, closing) = (shared.clone(), closing.clone());
                        shared.tasks.spawn(async move {
                            mesh::serve(serving, stream, closing).await;
                            drop(permit);
                        });
                    }));
                self.bound = Some(Bound { address, stop, task });
                self.bind_error = None;
            }
            Err(error) => self.bind_error = Some(format!("cannot bind {address}: {error}")),
        }
    }

    /// Frees the address; tunnels under way go on.
    pub(crate) async fn close(&mut self) {
        if let Some(bound) = self.bound.take() {
            bound.stop.cancel();
            if let Err(error) = bound.task.await {
                tracing::error!(%error, "the task of the listener for other hosts failed");
            }
        }
    }

    pub(crate) fn status(&self) -> Option<MeshStatus> {
        let mesh = self.wanted.as_ref()?;
        let counters = &self.shared.mesh_counters;
        Some(MeshStatus {
            address: mesh.listen,
            bound: self.bound.is_some(),
            error: self.bind_error.clone().or_else(|| self.identity_error.clone()),
            tunnels_total: counters.tunnels.load(Relaxed),
            refused_total: counters.refused.load(Relaxed),
            handshakes_failed_total: counters.handshakes_failed.load(Relaxed),
        })
    }
}
