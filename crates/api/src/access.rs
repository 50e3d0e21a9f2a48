//! Enrolment of hosts: one-time tokens, certificates, revocation.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{HostName, Micros, Result};

/// The longest life of a host token, in seconds: a week.
pub const TOKEN_SECONDS_MAX: u64 = 7 * 24 * 3600;

/// Asks for a one-time token for a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostTokenRequest {
    /// The only host that may use it; none leaves the name to the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// Labels that the host gets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How long it may be used, in seconds; at most [`TOKEN_SECONDS_MAX`].
    pub ttl_seconds: u64,
}

/// A one-time token. Its text is shown once and kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostToken {
    /// `lsh1.ID.SECRET.CA-FINGERPRINT`
    pub token: String,
    /// When it can no longer be used.
    pub expires_at: Micros,
}

/// What an agent sends to become a host. Sent over TLS without a client certificate, after the agent has checked the
/// hub's CA against the token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The token's text.
    pub token: String,
    /// A PKCS#10 request in PEM; only its public key is taken from it.
    pub csr: String,
    /// The name the host wants.
    pub host: HostName,
    /// Labels the host says of itself; the token's win.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// What an enrolled or renewed agent keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCertificate {
    /// The host's name.
    pub host: HostName,
    /// Its certificate, PEM.
    pub certificate: String,
    /// The CA that signed it and the hub's own, PEM.
    pub ca: String,
    /// Renew from then on.
    pub renew_at: Micros,
    /// Void from then on.
    pub expires_at: Micros,
}

/// Asks for a new certificate over a connection that the old one authenticates.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// A PKCS#10 request in PEM.
    pub csr: String,
}

/// Who speaks on the agent port: read from the client certificate, checked against revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostIdentity {
    /// The host.
    pub host: HostName,
    /// The certificate's serial number, hexadecimal.
    pub serial: String,
    /// The labels of the token with which it was enrolled. What a host says of itself is not in it, for rights hang on
    /// these.
    pub labels: BTreeMap<String, String>,
}

/// An event: a machine became a host. Told at least once, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEnrolled {
    /// The host.
    pub host: HostName,
    /// The labels that it is to have.
    pub labels: BTreeMap<String, String>,
}

/// The name in the certificate of the hub's agent port, whatever address it is reached at.
pub const HUB_SERVER_NAME: &str = "hub.longshore.internal";
/// What follows a host's name in its certificate.
const HOST_DOMAIN: &str = "host.longshore.internal";

/// The name in a host's certificate.
pub fn host_server_name(host: &HostName) -> String {
    format!("{host}.{HOST_DOMAIN}")
}

/// What the CA signs beside certificates. Each purpose has a prefix of its own in what is signed, so that no signature
/// can be taken for another's, or for that of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignPurpose {
    /// The right of a host to exchange an image's blobs with other hosts.
    Grant,
    /// A statement in a DSSE envelope: what is signed is its pre-authentication encoding, whose first word is the prefix.
    Dsse,
}

impl SignPurpose {
    /// What is signed: the purpose's prefix, then the bytes.
    pub fn message(self, bytes: &[u8]) -> Vec<u8> {
        let prefix: &[u8] = match self {
            Self::Grant => b"longshore grant v1\n",
            Self::Dsse => b"DSSEv1 ",
        };
        [prefix, bytes].concat()
    }
}

/// A host's certificates were revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRevoked {
    /// The host.
    pub host: HostName,
    /// How many good certificates it had.
    pub certificates: u64,
}

/// Access, as the hub's other contexts see it.
#[async_trait]
pub trait Access: Send + Sync {
    /// Makes a one-time token.
    async fn host_token_create(&self, request: HostTokenRequest) -> Result<HostToken>;
    /// Turns a token into a certificate. Repeating it with the same key gives the same answer; with another it is spent.
    /// Those who must know of the host hear it by [`HostEnrolled`].
    async fn host_enrol(&self, request: EnrolRequest) -> Result<HostCertificate>;
    /// A new certificate for a host that still has a good one.
    async fn host_renew(&self, identity: &HostIdentity, request: RenewRequest) -> Result<HostCertificate>;
    /// Who presents this certificate (DER); refused when it was revoked or has expired.
    async fn host_identify(&self, certificate_der: &[u8]) -> Result<HostIdentity>;
    /// Revokes all certificates of a host, from the next request on. Its name is free then.
    async fn host_revoke(&self, host: &HostName) -> Result<HostRevoked>;
    /// Serial numbers of certificates that were revoked and have not expired, the last revoked first.
    async fn revoked_list(&self, limit: u32) -> Result<Vec<String>>;
    /// Signs [`SignPurpose::message`] with the CA's key: ECDSA P-256 with SHA-256, in ASN.1 DER.
    async fn sign(&self, purpose: SignPurpose, bytes: &[u8]) -> Result<Vec<u8>>;
    /// The CA's certificate (DER), with which signatures are verified.
    fn ca_certificate(&self) -> Vec<u8>;
}
