//! The rules of enrolment, pure: tokens as text, what a token may become, and what a certificate is worth now.

use std::collections::BTreeMap;

use api::{HostName, Micros};
use aws_lc_rs::digest::{SHA256, digest};
use base::tls::Fingerprint;

use crate::error::AccessError;

/// Labels of a host at most.
pub const LABELS_MAX: usize = 64;
/// Bytes of a label's key or value at most.
pub const LABEL_BYTES_MAX: usize = 256;
/// Good certificates of one host at most: renewals whose answers were lost leave some behind.
pub const CERTIFICATES_PER_HOST_MAX: usize = 16;

const TOKEN_PREFIX: &str = "lsh1";
const TOKEN_BYTES_MAX: usize = 256;
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

pub(crate) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

/// A token as its owner has it: `lsh1.ID.SECRET.CA-FINGERPRINT`, all in lowercase hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) id: String,
    secret: String,
    pub(crate) ca: Fingerprint,
}

impl Token {
    /// A new token; none when the system gives no random numbers.
    pub(crate) fn generate(ca: Fingerprint) -> Option<Self> {
        let (mut id, mut secret) = ([0u8; ID_BYTES], [0u8; SECRET_BYTES]);
        aws_lc_rs::rand::fill(&mut id).ok()?;
        aws_lc_rs::rand::fill(&mut secret).ok()?;
        Some(Self { id: hex::encode(id), secret: hex::encode(secret), ca })
    }

    pub(crate) fn parse(text: &str) -> Result<Self, AccessError> {
        let text = text.trim();
        let parts: Vec<&str> = if text.len() > TOKEN_BYTES_MAX { Vec::new() } else { text.split('.').collect() };
        let is_hex = |part: &str, bytes: usize| {
            part.len() == bytes * 2 && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        match parts.as_slice() {
            [TOKEN_PREFIX, id, secret, ca] if is_hex(id, ID_BYTES) && is_hex(secret, SECRET_BYTES) => {
                let ca = Fingerprint::parse(ca).ok_or(AccessError::TokenInvalid)?;
                Ok(Self { id: (*id).to_owned(), secret: (*secret).to_owned(), ca })
            }
            _ => Err(AccessError::TokenInvalid),
        }
    }

    pub(crate) fn text(&self) -> String {
        format!("{TOKEN_PREFIX}.{}.{}.{}", self.id, self.secret, self.ca)
    }

    /// What is kept of the secret. It has 256 random bits, so a plain hash cannot be searched.
    pub(crate) fn secret_sha256(&self) -> Vec<u8> {
        sha256(self.secret.as_bytes())
    }
}

/// A token as the hub keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredToken {
    pub(crate) secret_sha256: Vec<u8>,
    pub(crate) host: Option<HostName>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) expires_at: Micros,
    pub(crate) spent: Option<Spent>,
}

/// How a token was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) at: Micros,
    pub(crate) by: HostName,
    pub(crate) key_sha256: Vec<u8>,
    pub(crate) serial: String,
}

/// What a token may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Enrolment {
    /// A new certificate. `replaces` when the token names the host: then an earlier machine of that name is out.
    New { replaces: bool },
    /// The answer was lost: the same certificate again.
    Again { serial: String },
}

/// Decides about a token that claims to be of this hub.
pub(crate) fn enrolment(
    stored: Option<&StoredToken>,
    token: &Token,
    host: &HostName,
    key_sha256: &[u8],
    host_is_enrolled: bool,
    now: Micros,
) -> Result<Enrolment, AccessError> {
    let Some(stored) = stored else { return Err(AccessError::TokenUnknown) };
    // A wrong secret is told apart from an unknown token for nobody, and no sooner.
    aws_lc_rs::constant_time::verify_slices_are_equal(&stored.secret_sha256, &token.secret_sha256())
        .map_err(|_| AccessError::TokenUnknown)?;
    if let Some(wanted) = stored.host.as_ref().filter(|wanted| *wanted != host) {
        return Err(AccessError::TokenHost { token: wanted.clone(), asked: host.clone() });
    }
    let expired = now >= stored.expires_at;
    match &stored.spent {
        Some(spent) if expired || spent.by != *host || spent.key_sha256 != key_sha256 => {
            Err(AccessError::TokenSpent { host: spent.by.clone(), at: spent.at })
        }
        Some(spent) => Ok(Enrolment::Again { serial: spent.serial.clone() }),
        None if expired => Err(AccessError::TokenExpired(stored.expires_at)),
        None if host_is_enrolled && stored.host.is_none() => Err(AccessError::HostExists(host.clone())),
        None => Ok(Enrolment::New { replaces: stored.host.is_some() }),
    }
}

/// A certificate as the hub keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredCertificate {
    pub(crate) serial: String,
    pub(crate) host: HostName,
    /// Those of the token that it came from.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) der: Vec<u8>,
    pub(crate) issued_at: Micros,
    pub(crate) expires_at: Micros,
    pub(crate) revoked_at: Option<Micros>,
}

impl StoredCertificate {
    /// Whether the certificate may still be used.
    pub(crate) fn check(&self, now: Micros) -> Result<(), AccessError> {
        if let Some(at) = self.revoked_at {
            return Err(AccessError::CertificateRevoked { host: self.host.clone(), at });
        }
        if now >= self.expires_at {
            return Err(AccessError::CertificateExpired { host: self.host.clone(), until: self.expires_at });
        }
        Ok(())
    }

    /// From two thirds of its life on it is to be renewed: what is left bridges a hub that is away for days.
    pub(crate) fn renew_at(&self) -> Micros {
        renew_at(self.issued_at, self.expires_at)
    }
}

pub(crate) fn renew_at(issued_at: Micros, expires_at: Micros) -> Micros {
    Micros(issued_at.0 + (expires_at.0 - issued_at.0) / 3 * 2)
}

/// The labels of a host: those it says of itself, and over them those of its token.
pub(crate) fn labels_merged(
    said: BTreeMap<String, String>,
    token: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, AccessError> {
    let mut labels = said;
    labels.extend(token.iter().map(|(key, value)| (key.clone(), value.clone())));
    labels_check(&labels)?;
    Ok(labels)
}

pub(crate) fn labels_check(labels: &BTreeMap<String, String>) -> Result<(), AccessError> {
    if labels.len() > LABELS_MAX {
        return Err(AccessError::LabelsInvalid(format!("{} labels are more than {LABELS_MAX}", labels.len())));
    }
    for (key, value) in labels {
        let key_fine =
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
        let value_fine = !value.chars().any(char::is_control);
        if !key_fine || !value_fine || key.len() > LABEL_BYTES_MAX || value.len() > LABEL_BYTES_MAX {
            let shown: String = key.chars().filter(|c| !c.is_control()).take(40).collect();
            return Err(AccessError::LabelsInvalid(format!(
                "the label `{shown}` is not valid: a key has letters, digits and `._-/`, a value no control characters, each at most {LABEL_BYTES_MAX} bytes"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base::tls::Fingerprint;
    use proptest::prelude::*;

    use super::*;

    fn ca() -> Fingerprint {
        Fingerprint::parse(&"ab".repeat(32)).unwrap()
    }

    proptest! {
        #[test]
        fn a_token_is_read_back_from_its_text_and_from_nothing_near_it(index in 0usize..154, byte in any::<u8>()) {
            let token = Token::generate(ca()).unwrap();
            let text = token.text();
            let padded = format!(" {text}\n");
            prop_assert!(Token::parse(&padded).is_ok_and(|read| read == token));
            let mut changed = text.clone().into_bytes();
            let index = index.min(changed.len() - 1);
            changed[index] = byte;
            if let Ok(changed) = String::from_utf8(changed) {
                prop_assert!(changed.trim() == text || Token::parse(&changed).map_or(true, |read| read != token));
            }
        }

        #[test]
        fn parsing_never_panics(text in "\\PC*") {
            let _ = Token::parse(&text);
        }

        /// All facts about an enrolment at once, against the rule in words: a good secret of the right host makes one
        /// certificate while the token lives, and the same one again for the same key and host.
        #[test]
        fn enrolment_follows_the_rule(
            known: bool, secret: bool, named: Option<bool>, spent: Option<(bool, bool)>, expired: bool, taken: bool,
        ) {
            let token = Token::generate(ca()).unwrap();
            let (host, other): (HostName, HostName) = ("a".parse().unwrap(), "b".parse().unwrap());
            let stored = StoredToken {
                secret_sha256: if secret { token.secret_sha256() } else { sha256(b"else") },
                host: named.map(|same| if same { host.clone() } else { other.clone() }),
                labels: BTreeMap::new(),
                expires_at: Micros(10),
                spent: spent.map(|(same_host, same_key)| Spent {
                    at: Micros(1),
                    by: if same_host { host.clone() } else { other.clone() },
                    key_sha256: if same_key { vec![1] } else { vec![2] },
                    serial: "5".to_owned(),
                }),
            };
            let now = if expired { Micros(10) } else { Micros(9) };
            let found = enrolment(known.then_some(&stored), &token, &host, &[1], taken, now);
            let entitled = known && secret && named != Some(false) && !expired;
            match found {
                Ok(Enrolment::New { replaces }) => {
                    prop_assert!(entitled && spent.is_none() && (replaces || !taken));
                    prop_assert_eq!(replaces, named.is_some());
                }
                Ok(Enrolment::Again { serial }) => {
                    prop_assert!(entitled && spent == Some((true, true)));
                    prop_assert_eq!(serial, "5");
                }
                Err(AccessError::HostExists(_)) => prop_assert!(entitled && taken && named.is_none()),
                Err(_) => prop_assert!(!entitled || spent.is_some_and(|same| same != (true, true))),
            }
        }
    }

    #[test]
    fn renewal_begins_at_two_thirds() {
        assert_eq!(renew_at(Micros(100), Micros(400)), Micros(300));
    }

    #[test]
    fn labels_are_bounded() {
        let label = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        assert!(labels_check(&label("zone/a.b-c_d", "ä b=")).is_ok());
        let long = "x".repeat(LABEL_BYTES_MAX + 1);
        for (key, value) in [("", ""), ("a b", ""), ("a", "\n"), (long.as_str(), ""), ("a", long.as_str())] {
            assert!(labels_check(&label(key, value)).is_err(), "{key}={value}");
        }
        let many = (0..=LABELS_MAX).map(|n| (n.to_string(), String::new())).collect();
        assert!(labels_check(&many).is_err());
    }
}
