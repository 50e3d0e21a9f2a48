//! The certificate that a listener shows to everyone: PEM files, read again when they change, so that whatever renews
//! them need not know of this process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs as provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use crate::folder::file_read;
use crate::shutdown::Shutdown;
use crate::tls::{ALPN_PROTOCOLS, PEM_BYTES_MAX, TlsError, certificates_parse};

/// How often the files are looked at.
const REREAD_INTERVAL: Duration = Duration::from_secs(10);

/// A certificate with its key, as the files had them last.
#[derive(Debug)]
pub struct ServerCertificate {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    changed: [Option<SystemTime>; 2],
}

impl ServerCertificate {
    /// Reads both files: the certificate with the chain behind it, and its private key.
    ///
    /// # Errors
    /// Any [`TlsError`], naming the file.
    pub fn load(certificate: PathBuf, key: PathBuf) -> Result<Arc<Self>, TlsError> {
        let current = RwLock::new(read(&certificate, &key)?);
        Ok(Arc::new(Self { certificate, key, current }))
    }

    /// What a listener needs to show it, to clients of TLS 1.2 too.
    ///
    /// # Errors
    /// The TLS library refuses the configuration.
    pub fn server_config(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = ALPN_PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(config)
    }

    /// The names and addresses that it was made for.
    pub fn names(&self) -> Vec<String> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.key.cert.first().map(|certificate| names(certificate)).unwrap_or_default()
    }

    /// Reads the files again whenever one of them has changed, until the stop. Files that cannot be used are logged, and
    /// the certificate at hand is kept.
    pub async fn watch(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                () = tokio::time::sleep(REREAD_INTERVAL) => {}
            }
            let this = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || this.reread()).await {
                Ok(Ok(true)) => tracing::info!(path = %self.certificate.display(), "the certificate was read again"),
                Ok(Err(error)) => tracing::warn!(%error, "the certificate has changed and cannot be used"),
                Ok(Ok(false)) | Err(_) => {}
            }
        }
    }

    /// Says whether there was something new.
    fn reread(&self) -> Result<bool, TlsError> {
        let changed = [&self.certificate, &self.key].map(|path| changed(path));
        if self.current.read().unwrap_or_else(PoisonError::into_inner).changed == changed {
            return Ok(false);
        }
        let fresh = read(&self.certificate, &self.key)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(true)
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).key))
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

fn read(certificate: &Path, key: &Path) -> Result<Current, TlsError> {
    let changed = [certificate, key].map(changed);
    let text = |path: &Path| file_read(path, PEM_BYTES_MAX)?.ok_or_else(|| TlsError::Missing { path: path.to_owned() });
    let chain = certificates_parse(&certificate.display().to_string(), &text(certificate)?)?;
    let wrong = |why: String| TlsError::Pem { what: key.display().to_string(), why };
    let key = PrivateKeyDer::from_pem_slice(&text(key)?).map_err(|error| wrong(error.to_string()))?;
    let key = CertifiedKey::from_der(chain, key, &provider::default_provider())?;
    Ok(Current { key: Arc::new(key), changed })
}

fn names(certificate: &[u8]) -> Vec<String> {
    use x509_parser::extensions::GeneralName;
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from)).ok().map(|ip| ip.to_string())
        }
        _ => None,
    };
    names.value.general_names.iter().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str) {
        let made = rcgen::generate_simple_self_signed([name.to_owned(), "10.0.0.5".to_owned()]).unwrap();
        std::fs::write(folder.join("certificate.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn files_that_change_are_read_again_and_wrong_ones_are_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
        let missing = ServerCertificate::load(certificate.clone(), key.clone()).unwrap_err();
        assert!(missing.to_string().contains("certificate.pem"), "{missing}");
        write(folder.path(), "hub.example");
        let server = ServerCertificate::load(certificate.clone(), key.clone()).unwrap();
        assert_eq!(server.names(), ["hub.example", "10.0.0.5"]);
        assert!(server.server_config().is_ok());
        assert!(!server.reread().unwrap());

        let later = SystemTime::now() + Duration::from_secs(60);
        let touch = |path: &Path, by: u64| {
            std::fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(later + Duration::from_secs(by))
                .unwrap();
        };
        write(folder.path(), "new.example");
        touch(&key, 1);
        assert!(server.reread().unwrap());
        assert_eq!(server.names(), ["new.example", "10.0.0.5"]);
        std::fs::write(&key, "nonsense").unwrap();
        touch(&key, 2);
        assert!(server.reread().unwrap_err().to_string().contains("key.pem"));
        assert_eq!(server.names(), ["new.example", "10.0.0.5"]);
    }
}
