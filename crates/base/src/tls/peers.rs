//! TLS between equals: both sides present certificates of the one CA, and sessions are resumed.
//!
//! A resumed session carries the certificates of the first handshake and asks no verifier. So after every handshake,
//! resumed or not, the same verifier is asked again: for the certificate, the name that was dialled, and the time; and its
//! serial number is looked up among those that were revoked since.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{ClientConfig, CommonState, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use x509_parser::extensions::GeneralName;

use super::{SharedIdentity, TlsError, crypto};
use crate::clock::Micros;

/// Peers whose sessions can be resumed, on each side.
const SESSIONS_MAX: usize = 512;
/// Tickets that a server sends after a handshake: as many as a client can use before it comes again.
const TICKETS: usize = 2;

/// Serial numbers (lowercase hexadecimal) of certificates that count no more; cheap to clone, replaced at any time.
#[derive(Clone, Debug)]
pub struct Revoked {
    serials: Arc<watch::Sender<Arc<HashSet<String>>>>,
}

impl Default for Revoked {
    fn default() -> Self {
        Self { serials: Arc::new(watch::Sender::new(Arc::default())) }
    }
}

impl Revoked {
    /// These are revoked from now on, and no others.
    pub fn replace(&self, serials: impl IntoIterator<Item = String>) {
        let serials: HashSet<String> = serials.into_iter().collect();
        self.serials.send_if_modified(|current| {
            let is_other = **current != serials;
            if is_other {
                *current = Arc::new(serials);
            }
            is_other
        });
    }

    /// Whether this one is.
    pub fn contains(&self, serial: &str) -> bool {
        self.serials.borrow().contains(serial)
    }

    /// Waits until this one is.
    pub async fn wait(&self, serial: &str) {
        let mut serials = self.serials.subscribe();
        if serials.wait_for(|serials| serials.contains(serial)).await.is_err() {
            std::future::pending().await
        }
    }
}

/// The certificate of the other side, as far as it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// DNS names that it was made for.
    pub names: Vec<String>,
    /// Its serial number, lowercase hexadecimal.
    pub serial: String,
    /// When it ends.
    pub expires_at: Micros,
}

impl PeerCertificate {
    /// Reads what stands in a certificate; says nothing of whether it is a good one.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (rest, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let dns = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        };
        rest.is_empty().then(|| Self {
            names: names.value.general_names.iter().filter_map(dns).collect(),
            serial: hex::encode(certificate.raw_serial()),
            expires_at: Micros::from_seconds(certificate.validity().not_after.timestamp()),
        })
    }
}

/// Why the other side of a finished handshake is not talked to.
#[derive(Debug, thiserror::Error)]
pub enum PeerRefused {
    /// It presented nothing that could be looked at.
    #[error("the other side presented no certificate that can be read")]
    Unreadable,
    /// The verifier says no.
    #[error("the other side's certificate does not count: {0}")]
    Invalid(#[from] rustls::Error),
    /// It was revoked.
    #[error("the other side's certificate {serial} was revoked; that host enrols again with a new token")]
    Revoked {
        /// Its serial number.
        serial: String,
    },
    /// It came for something else.
    #[error("the other side speaks another protocol than {}", String::from_utf8_lossy(.0))]
    Protocol(Vec<u8>),
}

impl From<PeerRefused> for io::Error {
    fn from(refused: PeerRefused) -> Self {
        io::Error::new(io::ErrorKind::PermissionDenied, refused)
    }
}

/// Both sides of TLS between peers; cheap to clone. The identity may be replaced at any time, the CA stays.
#[derive(Clone, Debug)]
pub struct PeerTls {
    connector: Arc<ClientConfig>,
    acceptor: Arc<ServerConfig>,
    servers: Arc<dyn ServerCertVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
    protocol: &'static [u8],
    revoked: Revoked,
}

impl PeerTls {
    /// For peers that speak `protocol` and have certificates of the identity's CA.
    ///
    /// # Errors
    /// The CA cannot be used.
    pub fn new(identity: &SharedIdentity, protocol: &'static [u8], revoked: Revoked) -> Result<Self, TlsError> {
        let roots = identity.roots()?;
        let servers = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), crypto()).build()?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots, crypto()).build()?;
        let mut connector = ClientConfig::builder_with_provider(crypto())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_webpki_verifier(Arc::clone(&servers))
            .with_client_cert_resolver(Arc::new(identity.clone()));
        connector.alpn_protocols = vec![protocol.to_vec()];
        connector.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        let mut acceptor = ServerConfig::builder_with_provider(crypto())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::clone(&clients))
            .with_cert_resolver(Arc::new(identity.clone()));
        acceptor.alpn_protocols = vec![protocol.to_vec()];
        acceptor.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        acceptor.send_tls13_tickets = TICKETS;
        Ok(Self { connector: Arc::new(connector), acceptor: Arc::new(acceptor), servers, clients, protocol, revoked })
    }

    /// The certificates that count no more.
    pub fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    /// The protocol that is spoken over it.
    pub fn protocol(&self) -> &'static [u8] {
        self.protocol
    }

    /// What a listener needs; what comes of it must pass [`PeerTls::accepted`] before a byte of it is believed.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.acceptor)
    }

    /// Dials: the other side must have a certificate for `name`.
    ///
    /// # Errors
    /// The handshake failed, or the certificate is not that of `name` now.
    pub async fn connect<S>(&self, stream: S, name: &str) -> io::Result<(client::TlsStream<S>, PeerCertificate)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let wrong = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let name = ServerName::try_from(name.to_owned()).map_err(wrong)?;
        let connector = TlsConnector::from(Arc::clone(&self.connector));
        let stream = connector.connect(name.clone(), stream).await?;
        let certificate = self.look_again(stream.get_ref().1, |certificate, chain| {
            self.servers.verify_server_cert(certificate, chain, &name, &[], UnixTime::now()).map(drop)
        })?;
        Ok((stream, certificate))
    }

    /// Takes a connection in.
    ///
    /// # Errors
    /// The handshake failed, or the certificate does not count now.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(server::TlsStream<S>, PeerCertificate)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsAcceptor::from(self.server_config()).accept(stream).await?;
        let certificate = self.accepted(stream.get_ref().1)?;
        Ok((stream, certificate))
    }

    /// Looks at who came in by [`PeerTls::server_config`].
    ///
    /// # Errors
    /// The certificate does not count now.
    pub fn accepted(&self, connection: &CommonState) -> Result<PeerCertificate, PeerRefused> {
        self.look_again(connection, |certificate, chain| {
            self.clients.verify_client_cert(certificate, chain, UnixTime::now()).map(drop)
        })
    }

    fn look_again(
        &self,
        connection: &CommonState,
        verify: impl Fn(&CertificateDer<'_>, &[CertificateDer<'_>]) -> Result<(), rustls::Error>,
    ) -> Result<PeerCertificate, PeerRefused> {
        if connection.alpn_protocol() != Some(self.protocol) {
            return Err(PeerRefused::Protocol(self.protocol.to_vec()));
        }
        let chain = connection.peer_certificates().unwrap_or_default();
        let (certificate, chain) = chain.split_first().ok_or(PeerRefused::Unreadable)?;
        verify(certificate, chain)?;
        let certificate = PeerCertificate::of(certificate).ok_or(PeerRefused::Unreadable)?;
        if self.revoked.contains(&certificate.serial) {
            return Err(PeerRefused::Revoked { serial: certificate.serial });
        }
        Ok(certificate)
    }
}
