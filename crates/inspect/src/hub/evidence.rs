//! What gates ask of an image, signed by the hub: an in-toto statement in a DSSE envelope.

use api::access::SignPurpose;
use api::inspect::ContentsEvidence;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci::Digest;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Service;
use super::error::Error;

/// What the payload is.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// What the statement is about.
const PREDICATE_TYPE: &str = "urn:longshore:contents:1";

impl Service {
    pub(super) async fn evidence_of(&self, digest: &Digest) -> Result<ContentsEvidence, Error> {
        let licences = self.inventory_of(digest).await?.licences;
        let inside = self.inside_of(digest).await?;
        let names = self.store().repositories_of(digest).await?;
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": names
                .iter()
                .map(|name| json!({ "name": name, "digest": { digest.algorithm().as_str(): digest.hex() } }))
                .collect::<Vec<_>>(),
            "predicateType": PREDICATE_TYPE,
            "predicate": { "inside": inside, "licences": licences },
        });
        let payload = statement.to_string();
        // What DSSE signs, without the word that it begins with: that is the purpose's.
        let signed = format!("{} {PAYLOAD_TYPE} {} {payload}", PAYLOAD_TYPE.len(), payload.len());
        let signature = self.inner.access.sign(SignPurpose::Dsse, signed.as_bytes()).await?;
        let key = Sha256::digest(self.inner.access.ca_certificate());
        let envelope = json!({
            "payloadType": PAYLOAD_TYPE,
            "payload": STANDARD.encode(&payload),
            "signatures": [{
                "keyid": key.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
                "sig": STANDARD.encode(signature),
            }],
        });
        Ok(ContentsEvidence { inside, licences, envelope: envelope.to_string() })
    }
}
