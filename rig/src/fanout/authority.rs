//! A hub's CA with what it certifies and grants.

use std::collections::BTreeSet;

use anyhow::Result;
use api::access::{HUB_SERVER_NAME, SignPurpose, host_server_name};
use api::fanout::SignedGrant;
use api::{HostName, Micros};
use base::tls::{Identity, SharedIdentity};
use fanout::grant::{GRANT_VERSION, Grant, GrantedBlob, GrantedImage};
use oci::Digest;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SigningKey as _,
};

/// A CA.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one.
    ///
    /// # Errors
    /// The key cannot be made.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// The identity of whoever these names are of.
    ///
    /// # Errors
    /// A name is none.
    pub fn identity(&self, names: &[String]) -> Result<SharedIdentity> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let identity =
            Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes(), self.pem.as_bytes())?;
        Ok(SharedIdentity::new(identity))
    }

    /// The identity of a host.
    ///
    /// # Errors
    /// See [`Authority::identity`].
    pub fn host(&self, host: &HostName) -> Result<SharedIdentity> {
        self.identity(&[host_server_name(host)])
    }

    /// The identity of the hub.
    ///
    /// # Errors
    /// See [`Authority::identity`].
    pub fn hub(&self) -> Result<SharedIdentity> {
        self.identity(&[HUB_SERVER_NAME.to_owned()])
    }

    /// A grant for these blobs of an image, good for so many seconds.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn grant(&self, host: &HostName, image: Digest, blobs: Vec<GrantedBlob>, seconds: i64) -> Result<SignedGrant> {
        let digests: BTreeSet<Digest> = blobs.iter().map(|blob| blob.digest).collect();
        anyhow::ensure!(digests.len() == blobs.len(), "a grant lists each blob once");
        let issued_at = Micros::now();
        let repository = "rig/image".parse()?;
        let grant = Grant {
            version: GRANT_VERSION,
            host: host.clone(),
            issued_at,
            expires_at: issued_at.plus_seconds(seconds),
            image: GrantedImage { repository, digest: image },
            blobs,
        };
        let payload = serde_json::to_vec(&grant)?;
        let signature = self.issuer.key().sign(&SignPurpose::Grant.message(&payload))?;
        Ok(SignedGrant { payload, signature })
    }
}
