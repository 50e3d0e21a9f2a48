//! What gates ask of an image, signed by the hub: an in-toto statement in a DSSE envelope.

use api::access::SignPurpose;
use api::inspect::{ContentsEvidence, Inside};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci::{Digest, RepositoryName};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

use super::Service;
use super::error::Error;
use super::examined::{Examined, Haste};
use super::store::ImageRow;
use super::views::inventory;

/// What the payload is.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Characters of a line of PEM.
const PEM_LINE: usize = 64;
/// What the statement is about.
pub(super) const PREDICATE_TYPE: &str = "urn:longshore:contents:1";

/// What is said of an image.
pub(super) struct Said {
    inside: Inside,
    licences: BTreeMap<String, u64>,
}

impl Said {
    /// When the advisories were taken in that this leans on.
    pub(super) fn advisories_at(&self) -> Option<api::Micros> {
        self.inside.advisories.taken_in
    }

    /// A hash of what it says of the image itself. How old the advisories are and whether the base has a newer build is so
    /// for the moment alone: neither makes another statement.
    pub(super) fn hash(&self) -> String {
        let mut inside = json!(self.inside);
        if let Some(inside) = inside.as_object_mut() {
            inside.remove("advisories");
            if let Some(base) = inside.get_mut("base").and_then(Value::as_object_mut) {
                base.remove("newer");
            }
        }
        hex(&Sha256::digest(json!([inside, self.licences]).to_string()))
    }
}

impl Service {
    /// What one look at an image says of it.
    pub(super) async fn said(&self, digest: &Digest, row: &ImageRow, examined: &Examined) -> Result<Said, Error> {
        let inside = self.inside(digest, row, Some(examined)).await?;
        Ok(Said { inside, licences: inventory(&examined.contents).licences })
    }

    pub(super) async fn evidence_of(&self, digest: &Digest) -> Result<ContentsEvidence, Error> {
        let (row, examined) = (self.image_row(digest).await?, self.look_at(digest, Haste::Now).await?);
        let said = self.said(digest, &row, &examined).await?;
        let names = self.store().repositories_of(digest).await?;
        let envelope = self.signed(digest, &names, &said).await?.to_string();
        let certificate = pem(&self.inner.access.ca_certificate());
        Ok(ContentsEvidence { inside: said.inside, licences: said.licences, envelope, certificate })
    }

    /// A signed statement that this is so of an image in these repositories.
    pub(super) async fn signed(&self, digest: &Digest, names: &[RepositoryName], said: &Said) -> Result<Value, Error> {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": names
                .iter()
                .map(|name| json!({ "name": name, "digest": { digest.algorithm().as_str(): digest.hex() } }))
                .collect::<Vec<_>>(),
            "predicateType": PREDICATE_TYPE,
            "predicate": { "inside": said.inside, "licences": said.licences },
        });
        let payload = statement.to_string();
        // What DSSE signs, without the word that it begins with: that is the purpose's.
        let signed = format!("{} {PAYLOAD_TYPE} {} {payload}", PAYLOAD_TYPE.len(), payload.len());
        let signature = self.inner.access.sign(SignPurpose::Dsse, signed.as_bytes()).await?;
        Ok(json!({
            "payloadType": PAYLOAD_TYPE,
            "payload": STANDARD.encode(&payload),
            "signatures": [{ "keyid": self.key_id(), "sig": STANDARD.encode(signature) }],
        }))
    }

    /// The CA's certificate by its hash: its key signs.
    pub(super) fn key_id(&self) -> String {
        hex(&Sha256::digest(self.inner.access.ca_certificate()))
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        (0..text.len()).step_by(PEM_LINE).filter_map(|at| text.get(at..text.len().min(at + PEM_LINE))).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
