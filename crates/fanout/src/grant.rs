//! The right of a host to exchange an image's blobs with other hosts: signed by the hub's CA, good for a stated time, so
//! that agents can tell it by themselves while the hub is away. Pure: the clock comes in.

use api::access::SignPurpose;
pub use api::fanout::SignedGrant;
use api::fanout::{GRANT_BLOBS_MAX, GRANT_BYTES_MAX};
use api::{HostName, Micros};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use oci::{Digest, RepositoryName};
use serde::{Deserialize, Serialize};

use crate::piece::{HASH_BYTES, Layout, LayoutError, Root};

/// The version of [`Grant`] that is made and understood.
pub const GRANT_VERSION: u32 = 1;
/// The longest signature, in bytes: two numbers of 32 bytes in DER.
pub const SIGNATURE_BYTES_MAX: usize = 72;

/// What a grant says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// [`GRANT_VERSION`].
    pub version: u32,
    /// The only host that it is for.
    pub host: HostName,
    /// When the hub signed it.
    pub issued_at: Micros,
    /// Void from then on.
    pub expires_at: Micros,
    /// The image.
    pub image: GrantedImage,
    /// Its blobs, each once.
    pub blobs: Vec<GrantedBlob>,
}

/// The image that a grant is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantedImage {
    /// Its repository in the hub's registry.
    pub repository: RepositoryName,
    /// The digest of its manifest.
    pub digest: Digest,
}

/// A blob that a grant lets a host exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantedBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub length_bytes: u64,
    /// The root of the tree of hashes over its pieces.
    #[serde(with = "root_hex")]
    pub root: Root,
}

impl GrantedBlob {
    /// How the blob is cut.
    ///
    /// # Errors
    /// It is too long to be cut.
    pub fn layout(&self) -> Result<Layout, LayoutError> {
        Layout::of(self.length_bytes)
    }
}

/// Why a grant counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The CA's certificate has no key of the kind that signs grants.
    #[error("the hub's CA certificate cannot be used to verify grants; enrol the host again")]
    Authority,
    /// It is longer than any grant.
    #[error("a grant of {bytes} bytes is longer than {GRANT_BYTES_MAX}")]
    Length {
        /// Its length.
        bytes: usize,
    },
    /// The hub of this CA did not sign these bytes.
    #[error("the grant was not signed by this hub")]
    Signature,
    /// It is signed and cannot be read.
    #[error("the grant cannot be read: {why}; hub and agent may be of versions too far apart")]
    Content {
        /// What is wrong with it.
        why: String,
    },
    /// Its time is over.
    #[error("the grant was good until {until}")]
    Expired {
        /// The end of its life.
        until: Micros,
    },
    /// It is for another host.
    #[error("the grant is for host {granted}, and {holder} shows it")]
    Holder {
        /// The host that it is for.
        granted: HostName,
        /// The host that shows it.
        holder: HostName,
    },
}

/// Reads a grant that the hub with this CA certificate (DER) signed, and that is good now.
///
/// # Errors
/// See [`GrantError`]. Nothing is read before the signature was verified.
pub fn verify(ca_certificate: &[u8], payload: &[u8], signature: &[u8], now: Micros) -> Result<Grant, GrantError> {
    if payload.len() > GRANT_BYTES_MAX {
        return Err(GrantError::Length { bytes: payload.len() });
    }
    let (rest, ca) = x509_parser::parse_x509_certificate(ca_certificate).map_err(|_| GrantError::Authority)?;
    if !rest.is_empty() {
        return Err(GrantError::Authority);
    }
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &*ca.public_key().subject_public_key.data);
    if signature.len() > SIGNATURE_BYTES_MAX {
        return Err(GrantError::Signature);
    }
    key.verify(&SignPurpose::Grant.message(payload), signature).map_err(|_| GrantError::Signature)?;
    let content = |why: String| GrantError::Content { why };
    let grant: Grant = serde_json::from_slice(payload).map_err(|error| content(error.to_string()))?;
    if grant.version != GRANT_VERSION {
        return Err(content(format!("its version is {}, not {GRANT_VERSION}", grant.version)));
    }
    if grant.blobs.len() > GRANT_BLOBS_MAX {
        return Err(content(format!("{} blobs are more than {GRANT_BLOBS_MAX}", grant.blobs.len())));
    }
    if let Some(error) = grant.blobs.iter().find_map(|blob| blob.layout().err()) {
        return Err(content(error.to_string()));
    }
    grant.check_time(now)?;
    Ok(grant)
}

impl Grant {
    /// Whether it is good now; asked again with every use, for it may outlive none.
    ///
    /// # Errors
    /// [`GrantError::Expired`].
    pub fn check_time(&self, now: Micros) -> Result<(), GrantError> {
        if now >= self.expires_at { Err(GrantError::Expired { until: self.expires_at }) } else { Ok(()) }
    }

    /// Whether the host that shows it (named by its certificate) is the one that it is for.
    ///
    /// # Errors
    /// [`GrantError::Holder`].
    pub fn check_holder(&self, holder: &HostName) -> Result<(), GrantError> {
        if self.host == *holder {
            Ok(())
        } else {
            Err(GrantError::Holder { granted: self.host.clone(), holder: holder.clone() })
        }
    }

    /// What it says of a blob; none when it does not list it.
    pub fn blob(&self, digest: &Digest) -> Option<&GrantedBlob> {
        self.blobs.iter().find(|blob| blob.digest == *digest)
    }

    /// From the half of its life on it is to be renewed.
    pub fn renew_at(&self) -> Micros {
        Micros(self.issued_at.0 + (self.expires_at.0.saturating_sub(self.issued_at.0)) / 2)
    }
}

/// A root as lowercase hexadecimal text.
mod root_hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use super::{HASH_BYTES, Root};

    pub(super) fn serialize<S: Serializer>(root: &Root, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(root.0))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Root, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut root = [0; HASH_BYTES];
        hex::decode_to_slice(text, &mut root).map_err(de::Error::custom)?;
        Ok(Root(root))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SigningKey as _};

    use super::*;

    const NOW: Micros = Micros(1_795_293_000_000_000);

    /// A hub's CA.
    struct Hub {
        key: KeyPair,
        certificate: Vec<u8>,
    }

    impl Hub {
        fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            let certificate = params.self_signed(&key).unwrap().der().to_vec();
            Self { key, certificate }
        }

        fn sign(&self, grant: &Grant) -> SignedGrant {
            let payload = serde_json::to_vec(grant).unwrap();
            let signature = self.key.sign(&SignPurpose::Grant.message(&payload)).unwrap();
            SignedGrant { payload, signature }
        }

        fn verify(&self, signed: &SignedGrant, now: Micros) -> Result<Grant, GrantError> {
            verify(&self.certificate, &signed.payload, &signed.signature, now)
        }
    }

    fn grant() -> Grant {
        let blob = Digest::sha256_of(b"layer");
        Grant {
            version: GRANT_VERSION,
            host: "web-1".parse().unwrap(),
            issued_at: NOW,
            expires_at: NOW.plus_seconds(3600),
            image: GrantedImage { repository: "app/web".parse().unwrap(), digest: Digest::sha256_of(b"manifest") },
            blobs: vec![GrantedBlob { digest: blob, length_bytes: 5, root: Root([7; HASH_BYTES]) }],
        }
    }

    #[test]
    fn a_grant_is_read_back_and_is_good_until_its_end() {
        let (hub, grant) = (Hub::new(), grant());
        let signed = hub.sign(&grant);
        assert_eq!(hub.verify(&signed, NOW), Ok(grant.clone()));
        assert_eq!(hub.verify(&signed, Micros(grant.expires_at.0 - 1)), Ok(grant.clone()));
        let until = grant.expires_at;
        assert_eq!(hub.verify(&signed, until), Err(GrantError::Expired { until }));
        assert_eq!(grant.renew_at(), NOW.plus_seconds(1800));
        assert!(grant.blob(&grant.blobs[0].digest).is_some() && grant.blob(&grant.image.digest).is_none());
    }

    #[test]
    fn a33_a_grant_of_another_host_or_hub_counts_for_nothing() {
        let (hub, other, grant) = (Hub::new(), Hub::new(), grant());
        assert_eq!(hub.verify(&other.sign(&grant), NOW), Err(GrantError::Signature));
        assert!(grant.check_holder(&"web-1".parse().unwrap()).is_ok());
        let refused = grant.check_holder(&"web-2".parse().unwrap());
        assert!(matches!(refused, Err(GrantError::Holder { .. })), "{refused:?}");
    }

    #[test]
    fn a_signature_of_the_same_key_over_something_else_is_no_grants() {
        let (hub, grant) = (Hub::new(), grant());
        let payload = serde_json::to_vec(&grant).unwrap();
        let signature = hub.key.sign(&payload).unwrap();
        assert_eq!(hub.verify(&SignedGrant { payload, signature }, NOW), Err(GrantError::Signature));
    }

    #[test]
    fn what_a_hub_signed_and_this_version_does_not_know_is_refused() {
        let hub = Hub::new();
        let later = Grant { version: GRANT_VERSION + 1, ..grant() };
        assert!(matches!(hub.verify(&hub.sign(&later), NOW), Err(GrantError::Content { .. })));
        let blob = GrantedBlob { length_bytes: u64::MAX, ..grant().blobs[0].clone() };
        let long = Grant { blobs: vec![blob], ..grant() };
        assert!(matches!(hub.verify(&hub.sign(&long), NOW), Err(GrantError::Content { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a33_one_wrong_bit_anywhere_and_it_is_forged(at in any::<prop::sample::Index>(), bit in 0..8_u32, in_payload: bool) {
            let hub = Hub::new();
            let mut signed = hub.sign(&grant());
            let bytes = if in_payload { &mut signed.payload } else { &mut signed.signature };
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(hub.verify(&signed, NOW), Err(GrantError::Signature));
        }

        #[test]
        fn any_bytes_are_refused(payload in any::<Vec<u8>>(), signature in any::<Vec<u8>>(), ca in any::<Vec<u8>>()) {
            let signed = SignedGrant { payload: payload.clone(), signature: signature.clone() };
            prop_assert!(Hub::new().verify(&signed, NOW).is_err());
            prop_assert_eq!(verify(&ca, &payload, &signature, NOW), Err(GrantError::Authority));
        }
    }
}
