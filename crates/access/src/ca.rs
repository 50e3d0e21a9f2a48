//! The hub's certificate authority: one ECDSA P-256 key that signs the certificates of hosts and of the hub itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::access::{HUB_SERVER_NAME, SignPurpose, host_server_name};
use api::{HostName, Micros};
use base::tls::{Fingerprint, Identity};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKey, PublicKeyData as _, SanType, SerialNumber, SigningKey as _,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use crate::error::AccessError;
use crate::model::{StoredCertificate, renew_at, sha256};

/// How long a host's certificate is valid, in days.
pub const CERTIFICATE_DAYS: i64 = 30;
/// How long the hub's own certificate is valid, in days; a new one is made at each start and at two thirds of its life.
pub const HUB_CERTIFICATE_DAYS: i64 = 30;
const CA_DAYS: i64 = 3650;
/// Certificates are valid a little before they are made, for hosts whose clocks are behind.
const CLOCK_SKEW_SECONDS: i64 = 300;
const DAY_SECONDS: i64 = 24 * 3600;
const SERIAL_BYTES: usize = 16;
const CSR_BYTES_MAX: usize = 16 * 1024;

/// What is kept of the CA.
pub(crate) struct StoredAuthority {
    pub(crate) certificate: Vec<u8>,
    pub(crate) private_key: Vec<u8>,
}

/// The CA, ready to sign.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// The hub's own identity and when to make the next.
pub(crate) struct HubIdentity {
    pub(crate) identity: Identity,
    pub(crate) renew_at: Micros,
}

fn serial_new() -> Result<SerialNumber, AccessError> {
    let mut bytes = [0u8; SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| AccessError::Ca("the system gives no random numbers".to_owned()))?;
    // Positive and without leading zeros, so that DER and hexadecimal text have the same bytes.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn date(time: Micros) -> Result<OffsetDateTime, AccessError> {
    OffsetDateTime::from_unix_timestamp(time.seconds()).map_err(|error| AccessError::Ca(error.to_string()))
}

/// Parameters that all certificates share; gives the real end of validity, which has whole seconds.
fn params(common_name: &str, days: i64, now: Micros) -> Result<(CertificateParams, Micros), AccessError> {
    let mut params = CertificateParams::default();
    let end = Micros::from_seconds(now.seconds().saturating_add(days * DAY_SECONDS));
    params.not_before = date(now.plus_seconds(-CLOCK_SKEW_SECONDS))?;
    params.not_after = date(end)?;
    params.serial_number = Some(serial_new()?);
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok((params, end))
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    // RFC 7468: lines of 64 characters. Base64 is ASCII, so any index is a boundary.
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// The public key of a certificate request; nothing else is taken from it.
pub(crate) struct RequestedKey(PublicKey);

impl RequestedKey {
    /// Reads a PKCS #10 request in PEM and checks that its own key signed it.
    pub(crate) fn parse(csr: &str) -> Result<Self, AccessError> {
        if csr.len() > CSR_BYTES_MAX {
            return Err(AccessError::CsrInvalid(format!("it has more than {CSR_BYTES_MAX} bytes")));
        }
        let request = CertificateSigningRequestParams::from_pem(csr)
            .map_err(|error| AccessError::CsrInvalid(error.to_string()))?;
        let strong = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
        if !strong.contains(&request.public_key.algorithm()) {
            return Err(AccessError::CsrInvalid("its key is neither ECDSA P-256, P-384 nor Ed25519".to_owned()));
        }
        Ok(Self(request.public_key))
    }

    pub(crate) fn sha256(&self) -> Vec<u8> {
        sha256(self.0.der_bytes())
    }
}

impl Authority {
    /// Makes a CA.
    pub(crate) fn generate(now: Micros) -> Result<StoredAuthority, AccessError> {
        let key = KeyPair::generate()?;
        let (mut params, _) = params("Longshore hub CA", CA_DAYS, now)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        Ok(StoredAuthority { certificate: certificate.der().to_vec(), private_key: key.serialize_der() })
    }

    pub(crate) fn from_stored(stored: StoredAuthority) -> Result<Self, AccessError> {
        let certificate = CertificateDer::from(stored.certificate);
        let key = KeyPair::try_from(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(stored.private_key)))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { issuer, certificate })
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.certificate
    }

    /// Signs what is no certificate, under the prefix of its purpose.
    pub(crate) fn sign(&self, purpose: SignPurpose, bytes: &[u8]) -> Result<Vec<u8>, AccessError> {
        Ok(self.issuer.key().sign(&purpose.message(bytes))?)
    }

    /// Signs a host's certificate, for its client and server side.
    pub(crate) fn issue_host(
        &self,
        host: &HostName,
        labels: &BTreeMap<String, String>,
        key: &RequestedKey,
        now: Micros,
    ) -> Result<StoredCertificate, AccessError> {
        let (mut params, expires_at) = params(host.as_str(), CERTIFICATE_DAYS, now)?;
        params.subject_alt_names = vec![san(&host_server_name(host))?];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let serial = params.serial_number.as_ref().map(|serial| hex::encode(serial.to_bytes())).unwrap_or_default();
        let certificate = params.signed_by(&key.0, &self.issuer)?;
        Ok(StoredCertificate {
            serial,
            host: host.clone(),
            labels: labels.clone(),
            der: certificate.der().to_vec(),
            issued_at: now,
            expires_at,
            revoked_at: None,
        })
    }

    /// Makes the hub's own identity under its fixed name and these names and addresses.
    pub(crate) fn issue_hub(&self, names: &[String], now: Micros) -> Result<HubIdentity, AccessError> {
        let key = KeyPair::generate()?;
        let (mut params, end) = params(HUB_SERVER_NAME, HUB_CERTIFICATE_DAYS, now)?;
        params.subject_alt_names = vec![san(HUB_SERVER_NAME)?];
        for name in names.iter().filter(|name| *name != HUB_SERVER_NAME) {
            params.subject_alt_names.push(san(name)?);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let identity =
            Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes(), self.pem().as_bytes())?;
        Ok(HubIdentity { identity, renew_at: renew_at(now, end) })
    }
}

fn san(name: &str) -> Result<SanType, AccessError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let name =
        name.try_into().map_err(|_| AccessError::Ca(format!("`{name}` is neither a host name nor an address")))?;
    Ok(SanType::DnsName(name))
}

/// The serial number of a certificate as hexadecimal text.
pub(crate) fn serial_of(der: &[u8]) -> Option<String> {
    let (rest, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    rest.is_empty().then(|| hex::encode(certificate.raw_serial()))
}
