//! This host's certificate towards other hosts, read from PEM files and read again when they change.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::{RootCertStore, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use super::table::Mesh;

/// Both sides of mutual TLS with other hosts, made from one reading of the files.
pub(crate) struct Identity {
    pub(crate) acceptor: Arc<ServerConfig>,
    pub(crate) connector: Arc<ClientConfig>,
    files: Files,
}

#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    ca: Vec<u8>,
}

/// Why the certificates cannot be used.
#[derive(Debug, Error)]
pub(crate) enum IdentityError {
    #[error("cannot read {}: {source}; the agent writes it when the host is enrolled", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} holds no usable PEM: {detail}; enrol the host again", path.display())]
    Pem { path: PathBuf, detail: String },
    #[error("certificate, key and authority do not fit together: {0}; enrol the host again")]
    Unfit(String),
}

impl Identity {
    /// Reads the files. `Ok(None)` when they are those that `current` was made from.
    pub(crate) fn load(mesh: &Mesh, current: Option<&Identity>) -> Result<Option<Self>, IdentityError> {
        let files = Files { certificate: read(&mesh.certificate)?, key: read(&mesh.key)?, ca: read(&mesh.ca)? };
        if current.is_some_and(|current| current.files == files) {
            return Ok(None);
        }
        let chain = certificates(&mesh.certificate, &files.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&files.key)
            .map_err(|e| IdentityError::Pem { path: mesh.key.clone(), detail: e.to_string() })?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(&mesh.ca, &files.ca)? {
            roots.add(authority).map_err(unfit)?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build().map_err(unfit)?;
        let acceptor = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(unfit)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(unfit)?;
        let connector = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(unfit)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(unfit)?;
        Ok(Some(Self { acceptor: Arc::new(acceptor), connector: Arc::new(connector), files }))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read(path).map_err(|source| IdentityError::Read { path: path.into(), source })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let fail = |detail: String| IdentityError::Pem { path: path.into(), detail };
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|e| fail(e.to_string()))?;
    if all.is_empty() { Err(fail("no certificate in it".into())) } else { Ok(all) }
}

fn unfit(error: impl std::fmt::Display) -> IdentityError {
    IdentityError::Unfit(error.to_string())
}
