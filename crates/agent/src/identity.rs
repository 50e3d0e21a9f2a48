//! Who this host is: its key, made once, and the certificate that the hub gave for it.
//!
//! The key is on disk before anything is asked for with it, so that asking again after a lost answer gives the same
//! certificate. `identity.json` is written last: where it is, the host is enrolled.

use std::path::{Path, PathBuf};

use api::access::{EnrolRequest, HostCertificate, RenewRequest};
use api::{HostName, Micros};
use base::folder::{FolderError, file_read, file_replace};
use base::tls::{Fingerprint, Identity, IdentityFiles, PEM_BYTES_MAX, SharedIdentity, TlsError, certificates_parse};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde::{Deserialize, Serialize};

use crate::config::AgentConfig;
use crate::hub::{HubClient, HubError, HubName};

const KEY_FILE: &str = "key.pem";
const CERTIFICATE_FILE: &str = "certificate.pem";
const CA_FILE: &str = "ca.pem";
const IDENTITY_FILE: &str = "identity.json";
const SECRET_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;
/// The hub's refusals that end with another certificate alone.
const VOID_KINDS: [&str; 2] = ["certificate-revoked", "certificate-expired"];
/// How a token begins: the version of its form.
const TOKEN_PREFIX: &str = "lsh1";

/// Why a host has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No token, and not enrolled.
    #[error(
        "this host is not enrolled and no token was given; make one on the hub with `longshore host token --host {host}`"
    )]
    TokenMissing {
        /// The host.
        host: HostName,
    },
    /// The token's text.
    #[error("the token is not one of Longshore's: {why}; copy all of what `longshore host token` shows (lsh1.….….…)")]
    TokenMalformed {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The data folder is another host's.
    #[error("the data folder {} belongs to host {found}, not {wanted}; give each host a folder of its own", folder.display())]
    OtherHost {
        /// The folder.
        folder: PathBuf,
        /// Whose it is.
        found: HostName,
        /// Who wants it.
        wanted: HostName,
    },
    /// The hub is not the token's.
    #[error(
        "the hub at {hub} is not the one that made the token: its CA has another fingerprint; nothing was sent to it; check the address, or make a token on that hub"
    )]
    ForeignHub {
        /// Its address.
        hub: String,
    },
    /// The hub's answer contradicts the token or the request.
    #[error("the hub's answer cannot be right: {why}; nothing was kept")]
    Answer {
        /// What is wrong with it.
        why: String,
    },
    /// The hub refused, or cannot be reached.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The file system refuses.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The hub says that the certificate is void, and what is to be replaced cannot be removed.
    #[error("the certificate is void, and {} cannot be removed: {source}; remove the data folder and enrol again", path.display())]
    Void {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What is on disk cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The key cannot be made or used.
    #[error("the host's key cannot be used: {0}; remove the data folder and enrol again with a new token")]
    Key(#[from] rcgen::Error),
    /// `identity.json` is damaged.
    #[error("{} cannot be understood: {why}; restore it, or remove the folder and enrol again", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A one-time token, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    text: String,
    ca: Fingerprint,
}

impl Token {
    /// Reads `lsh1.ID.SECRET.CA-FINGERPRINT`.
    ///
    /// # Errors
    /// It is something else; the text is not repeated in the error, because it is a secret.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let wrong = |why| IdentityError::TokenMalformed { why };
        let text = text.trim();
        let mut parts = text.split('.');
        let (prefix, id, secret, ca) = (parts.next(), parts.next(), parts.next(), parts.next());
        if prefix != Some(TOKEN_PREFIX) {
            return Err(wrong("it does not begin with lsh1."));
        }
        let (Some(id), Some(secret), Some(ca), None) = (id, secret, ca, parts.next()) else {
            return Err(wrong("it does not have four parts"));
        };
        if id.is_empty() || secret.is_empty() {
            return Err(wrong("one of its parts is empty"));
        }
        let ca = Fingerprint::parse(ca).ok_or_else(|| wrong("its last part is not a fingerprint"))?;
        Ok(Self { text: text.to_owned(), ca })
    }

    /// The CA of the hub that made it.
    pub fn ca(&self) -> Fingerprint {
        self.ca
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    host: HostName,
    renew_at: Micros,
    expires_at: Micros,
}

/// The identity of an enrolled host.
#[derive(Debug, Clone)]
pub struct HostIdentity {
    folder: PathBuf,
    kept: Kept,
    shared: SharedIdentity,
}

impl HostIdentity {
    /// The identity in `config.data`, or a new one for the token: where there is none, and where the hub says that the one
    /// there is void. Asking is repeated by the caller when the hub cannot be reached: see [`HubError::is_passing`].
    ///
    /// # Errors
    /// Any [`IdentityError`].
    pub async fn load_or_enrol(config: &AgentConfig, hub: &HubName) -> Result<Self, IdentityError> {
        if let Some(identity) = Self::load(&config.data)? {
            if identity.kept.host != config.host {
                let folder = config.data.clone();
                return Err(IdentityError::OtherHost {
                    folder,
                    found: identity.kept.host,
                    wanted: config.host.clone(),
                });
            }
            // An enrolled host may be started with its first token for ever, and goes on without the hub.
            if config.token.is_none() || !identity.is_void(hub).await {
                return Ok(identity);
            }
            tracing::info!("the hub says that the host's certificate is void: enrolling anew, with another key");
            // In this order: without the first the host is not enrolled, whatever else is there.
            for file in [IDENTITY_FILE, KEY_FILE] {
                let path = config.data.join(file);
                std::fs::remove_file(&path).map_err(|source| IdentityError::Void { path, source })?;
            }
        }
        let missing = || IdentityError::TokenMissing { host: config.host.clone() };
        let token = Token::parse(config.token.as_deref().ok_or_else(missing)?)?;
        let key = key_ensure(&config.data)?;
        let request = EnrolRequest {
            token: token.text.clone(),
            csr: csr(&config.host, &key)?,
            host: config.host.clone(),
            labels: config.labels.clone(),
        };
        let client = HubClient::pinned(hub, token.ca())?;
        let certificate = match client.enrol(&request).await {
            Err(HubError::ForeignCa) => return Err(IdentityError::ForeignHub { hub: hub.to_string() }),
            answer => answer?,
        };
        let ca = certificates_parse("the hub's CA", certificate.ca.as_bytes())?;
        if ca.first().map(Fingerprint::of) != Some(token.ca()) {
            return Err(IdentityError::Answer { why: "its CA is not the token's".to_owned() });
        }
        if certificate.host != config.host {
            let why = format!("it enrolled {} and not {}", certificate.host, config.host);
            return Err(IdentityError::Answer { why });
        }
        Self::keep(&config.data, &key, &certificate)
    }

    /// Whether the hub says that its certificate is void; not when the hub does not answer.
    async fn is_void(&self, hub: &HubName) -> bool {
        let Ok(client) = HubClient::new(hub, &self.shared) else { return false };
        let known = client.known().await;
        matches!(known, Err(HubError::Refused(problem)) if VOID_KINDS.contains(&problem.kind.as_ref()))
    }

    fn load(folder: &Path) -> Result<Option<Self>, IdentityError> {
        let path = folder.join(IDENTITY_FILE);
        let Some(content) = file_read(&path, PEM_BYTES_MAX)? else { return Ok(None) };
        let kept = serde_json::from_slice(&content)
            .map_err(|error| IdentityError::Content { path, why: error.to_string() })?;
        let shared = SharedIdentity::new(files(folder).load()?);
        Ok(Some(Self { folder: folder.to_owned(), kept, shared }))
    }

    fn keep(folder: &Path, key: &KeyPair, given: &HostCertificate) -> Result<Self, IdentityError> {
        // Checked before anything is replaced: a certificate for another key would lock the host out.
        let pem = key.serialize_pem();
        let identity = Identity::from_pem(given.certificate.as_bytes(), pem.as_bytes(), given.ca.as_bytes())?;
        let kept = Kept { host: given.host.clone(), renew_at: given.renew_at, expires_at: given.expires_at };
        let IdentityFiles { certificate, ca, .. } = files(folder);
        file_replace(&ca, given.ca.as_bytes(), PUBLIC_MODE)?;
        file_replace(&certificate, given.certificate.as_bytes(), PUBLIC_MODE)?;
        let path = folder.join(IDENTITY_FILE);
        let content = serde_json::to_vec(&kept)
            .map_err(|error| IdentityError::Content { path: path.clone(), why: error.to_string() })?;
        file_replace(&path, &content, PUBLIC_MODE)?;
        Ok(Self { folder: folder.to_owned(), kept, shared: SharedIdentity::new(identity) })
    }

    /// What connections to the hub present.
    pub fn shared(&self) -> &SharedIdentity {
        &self.shared
    }

    /// The PEM files, for the proxy.
    pub fn files(&self) -> IdentityFiles {
        files(&self.folder)
    }

    /// Renew from then on.
    pub fn renew_at(&self) -> Micros {
        self.kept.renew_at
    }

    /// Void from then on.
    pub fn expires_at(&self) -> Micros {
        self.kept.expires_at
    }

    /// Gets a new certificate for the same key. New connections present it at once; the proxy reads the files again.
    ///
    /// # Errors
    /// The hub refused or cannot be reached, or the answer cannot be kept; the old certificate stays.
    pub async fn renew(&mut self, client: &HubClient) -> Result<(), IdentityError> {
        let key = key_ensure(&self.folder)?;
        let given = client.renew(&RenewRequest { csr: csr(&self.kept.host, &key)? }).await?;
        if given.host != self.kept.host {
            return Err(IdentityError::Answer { why: format!("it renewed {} and not {}", given.host, self.kept.host) });
        }
        let renewed = Self::keep(&self.folder, &key, &given)?;
        self.kept = renewed.kept;
        self.shared.replace(renewed.shared.current());
        Ok(())
    }
}

fn files(folder: &Path) -> IdentityFiles {
    IdentityFiles { certificate: folder.join(CERTIFICATE_FILE), key: folder.join(KEY_FILE), ca: folder.join(CA_FILE) }
}

fn key_ensure(folder: &Path) -> Result<KeyPair, IdentityError> {
    let path = folder.join(KEY_FILE);
    if let Some(content) = file_read(&path, PEM_BYTES_MAX)? {
        return Ok(KeyPair::from_pem(&String::from_utf8_lossy(&content))?);
    }
    let key = KeyPair::generate()?;
    file_replace(&path, key.serialize_pem().as_bytes(), SECRET_MODE)?;
    Ok(key)
}

fn csr(host: &HostName, key: &KeyPair) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, host.as_str());
    params.serialize_request(key)?.pem()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn only_a_whole_token_is_taken_and_errors_never_repeat_it(
            secret in "[A-Za-z0-9]{20,40}", cut in 1usize..60, fingerprint in "[0-9a-f]{64}",
        ) {
            let text = format!("lsh1.abc.{secret}.{fingerprint}");
            prop_assert_eq!(Token::parse(&text).unwrap().ca().to_string(), fingerprint);
            let error = Token::parse(&text[..text.len() - cut]).unwrap_err().to_string();
            prop_assert!(!error.contains(&secret));
            let longer = format!("{text}.x");
            prop_assert!(Token::parse(&longer).is_err());
            prop_assert!(Token::parse(&text.replace("lsh1", "lsh2")).is_err());
        }
    }
}
