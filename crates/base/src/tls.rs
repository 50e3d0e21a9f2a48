//! TLS between parts of the program: identities from PEM that can be replaced while connections are open, mutual
//! authentication under one private CA, and trust in a CA that is known by its fingerprint alone.
//!
//! Everything uses aws-lc-rs and TLS 1.3. Session resumption is off, but between peers: a resumed session would skip the
//! verifier.

mod peers;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::folder::{FolderError, file_read};

pub use peers::{PeerCertificate, PeerRefused, PeerTls, Revoked};

/// Application protocols that are offered and accepted, the preferred one first.
pub const ALPN_PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Bytes of one PEM file at most.
pub const PEM_BYTES_MAX: u64 = 256 * 1024;
/// Certificates in one PEM file at most.
pub const CERTIFICATES_MAX: usize = 16;

/// Why an identity or a CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] FolderError),
    /// A file is missing.
    #[error("{} does not exist; correct the path, or enrol again if this is a host", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The PEM text is wrong.
    #[error("{what} is not what it should be: {why}")]
    Pem {
        /// Which text.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The TLS library refuses certificate, key or CA.
    #[error("the certificate, its key and the CA cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// No verifier can be built from the CA.
    #[error("the CA certificate cannot be used: {0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

fn crypto() -> Arc<CryptoProvider> {
    Arc::new(provider::default_provider())
}

/// SHA-256 of a certificate's DER bytes.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(bytes)
    }

    /// Reads 64 lowercase hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Reads the certificates of a PEM text, at least one; `what` names the text in errors.
///
/// # Errors
/// [`TlsError::Pem`].
pub fn certificates_parse(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |why: String| TlsError::Pem { what: what.to_owned(), why };
    let certificates = CertificateDer::pem_slice_iter(pem)
        .take(CERTIFICATES_MAX + 1)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    match certificates.len() {
        0 => Err(wrong("it holds no certificate".to_owned())),
        1..=CERTIFICATES_MAX => Ok(certificates),
        _ => Err(wrong(format!("it holds more than {CERTIFICATES_MAX} certificates"))),
    }
}

/// A certificate chain with its key and the one CA that is trusted.
#[derive(Clone)]
pub struct Identity {
    /// What others see.
    key: Arc<CertifiedKey>,
    /// The CA whose certificates are accepted from others.
    ca: CertificateDer<'static>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity(CA {:?})", Fingerprint::of(&self.ca))
    }
}

impl Identity {
    /// Puts an identity together. The CA's certificate is sent along, for those who know it by its fingerprint.
    ///
    /// # Errors
    /// [`TlsError::Pem`], or [`TlsError::Unusable`] when certificate and key do not belong together.
    pub fn from_pem(certificate: &[u8], key: &[u8], ca: &[u8]) -> Result<Self, TlsError> {
        let ca_certificates = certificates_parse("the CA certificate", ca)?;
        let ca = ca_certificates.into_iter().next().ok_or_else(|| TlsError::Pem {
            what: "the CA certificate".to_owned(),
            why: "it holds no certificate".to_owned(),
        })?;
        let mut chain = certificates_parse("the certificate", certificate)?;
        if !chain.contains(&ca) {
            chain.push(ca.clone());
        }
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| TlsError::Pem { what: "the private key".to_owned(), why: error.to_string() })?;
        let key = CertifiedKey::from_der(chain, key, &crypto())?;
        Ok(Self { key: Arc::new(key), ca })
    }

    /// The CA that is trusted.
    pub fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    /// The certificate that others see.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.key.cert.first()
    }
}

/// The PEM files of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// Certificate chain, the own certificate first.
    pub certificate: PathBuf,
    /// Private key (PKCS #8 or SEC 1).
    pub key: PathBuf,
    /// The CA's certificate.
    pub ca: PathBuf,
}

impl IdentityFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// Any [`TlsError`], naming the file.
    pub fn load(&self) -> Result<Identity, TlsError> {
        let read =
            |path: &PathBuf| file_read(path, PEM_BYTES_MAX)?.ok_or_else(|| TlsError::Missing { path: path.clone() });
        Identity::from_pem(&read(&self.certificate)?, &read(&self.key)?, &read(&self.ca)?)
    }
}

/// An identity that new handshakes use and that can be replaced at any time; cheap to clone. The CA stays that of the
/// first identity in configurations already made.
#[derive(Clone, Debug)]
pub struct SharedIdentity {
    current: Arc<RwLock<Identity>>,
}

impl SharedIdentity {
    /// Starts with an identity.
    pub fn new(identity: Identity) -> Self {
        Self { current: Arc::new(RwLock::new(identity)) }
    }

    /// Uses another identity from now on.
    pub fn replace(&self, identity: Identity) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    /// The identity in use.
    pub fn current(&self) -> Identity {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.current().ca)?;
        Ok(Arc::new(roots))
    }

    /// A client that presents this identity and accepts only servers certified by the same CA for the name dialled.
    ///
    /// # Errors
    /// The CA cannot be used.
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots()?, crypto()).build()?;
        let mut config = ClientConfig::builder_with_provider(crypto())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_webpki_verifier(verifier)
            .with_client_cert_resolver(Arc::new(self.clone()));
        client_finish(&mut config);
        Ok(config)
    }

    /// A server that presents this identity. A client's certificate is verified against the CA whenever there is one;
    /// whether a client may come without is `clients`.
    ///
    /// # Errors
    /// The CA cannot be used.
    pub fn server_config(&self, clients: Clients) -> Result<ServerConfig, TlsError> {
        let builder = WebPkiClientVerifier::builder_with_provider(self.roots()?, crypto());
        let verifier = match clients {
            Clients::Certified => builder.build()?,
            Clients::CertifiedOrAnonymous => builder.allow_unauthenticated().build()?,
        };
        let mut config = ServerConfig::builder_with_provider(crypto())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = ALPN_PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// Which clients a server lets in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Only those with a certificate of the CA.
    Certified,
    /// Those, and clients without any certificate; what they may do is decided by request.
    CertifiedOrAnonymous,
}

fn client_finish(config: &mut ClientConfig) {
    config.alpn_protocols = ALPN_PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    config.resumption = Resumption::disabled();
}

impl ResolvesServerCert for SharedIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().key)
    }
}

impl ResolvesClientCert for SharedIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current().key)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A client without a certificate that accepts only a server whose chain leads to the CA with this fingerprint; the
/// server must send the CA's certificate along. Name and validity are checked as always.
///
/// # Errors
/// The TLS library refuses the configuration.
pub fn client_config_pinned(ca: Fingerprint) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedCa { ca, crypto: crypto() }))
        .with_no_client_auth();
    client_finish(&mut config);
    Ok(config)
}

/// The server's CA is not the expected one.
#[derive(Copy, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server belongs to another CA than the one with fingerprint {0}; check its address")]
pub struct ForeignCa(pub Fingerprint);

impl std::fmt::Debug for ForeignCa {
    // The TLS library shows the errors of verifiers in this form.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl ForeignCa {
    /// Finds this error among the causes of a failed connection.
    pub fn find(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other)))) =
                error.downcast_ref()
            {
                return other.downcast_ref().copied();
            }
            // An I/O error gives the source of what it wraps and leaves that itself out.
            let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            next = match wrapped {
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            };
        }
        None
    }
}

#[derive(Debug)]
struct PinnedCa {
    ca: Fingerprint,
    crypto: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let foreign = || CertificateError::Other(OtherError(Arc::new(ForeignCa(self.ca))));
        let ca = intermediates
            .iter()
            .take(CERTIFICATES_MAX)
            .find(|certificate| Fingerprint::of(certificate) == self.ca)
            .ok_or_else(foreign)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.crypto))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // Only TLS 1.3 is offered, so no server can get here.
        Err(rustls::Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto.signature_verification_algorithms.supported_schemes()
    }
}
