//! Engines on TCP with TLS, as `dockerd --tlsverify` wants it: the server's certificate is verified against the named CA, and
//! this side shows a certificate of its own.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use base::folder::file_read;
use bollard::BollardRequest;
use bollard::errors::Error;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::raw::RawClient;
use super::{TlsAddress, transport_error};
use crate::{EngineError, ErrorKind};

/// Bytes of one PEM file at most.
const PEM_BYTES_MAX: u64 = 256 * 1024;

type Answered = Pin<Box<dyn Future<Output = Result<http::Response<hyper::body::Incoming>, Error>> + Send>>;

/// A way for bollard's requests: a connection for each.
pub(super) fn transport(raw: RawClient) -> impl Fn(BollardRequest) -> Answered + Send + Sync + 'static {
    move |request| {
        let raw = raw.clone();
        Box::pin(async move {
            raw.forward(request).await.map_err(|error| Error::IOError { err: std::io::Error::other(error) })
        })
    }
}

/// Opens a connection; the files are read each time, so that renewed certificates are taken.
pub(super) async fn connect(address: &TlsAddress, what: &str) -> Result<TlsStream<TcpStream>, EngineError> {
    let config = config(address, what)?;
    let host = address.host_port.rsplit_once(':').map_or(address.host_port.as_str(), |(host, _port)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| EngineError::new(ErrorKind::Address, what, format!("{host:?} is no host's name: {error}")))?;
    let stream = TcpStream::connect(&address.host_port).await.map_err(|error| transport_error(what, &error))?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| {
        if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
            EngineError::new(ErrorKind::Forbidden, what, format!("no trust by TLS: {error}")).with_hint(format!(
                "check that {} is the CA of the engine's certificate, and that the engine's CA made yours",
                address.ca.display()
            ))
        } else {
            transport_error(what, &error)
        }
    })
}

fn config(address: &TlsAddress, what: &str) -> Result<ClientConfig, EngineError> {
    let wrong = |path: &Path, why: &dyn std::fmt::Display| {
        EngineError::new(ErrorKind::Address, what, format!("{} cannot be used: {why}", path.display()))
            .with_hint("put ca.pem, cert.pem and key.pem where DOCKER_CERT_PATH or the Docker context says")
    };
    let read = |path: &Path| {
        let content = file_read(path, PEM_BYTES_MAX).map_err(|error| wrong(path, &error))?;
        content.ok_or_else(|| wrong(path, &"there is no such file"))
    };
    let certificates = |path: &Path| {
        let pem = read(path)?;
        let found: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let found = found.map_err(|error| wrong(path, &error))?;
        if found.is_empty() { Err(wrong(path, &"it holds no certificate")) } else { Ok(found) }
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&address.ca)? {
        roots.add(certificate).map_err(|error| wrong(&address.ca, &error))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&address.ca, &error))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &address.identity else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(certificate)?;
    let pem = read(key)?;
    let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| wrong(key, &error))?;
    builder.with_client_auth_cert(chain, private).map_err(|error| wrong(key, &error))
}
