//! The OCI client: manifests, blobs, tags and referrers of any registry.
//!
//! Invariants: every byte that is handed out was verified against its digest, or the stream ends with an error; but for
//! [`Client::blob_open`], whose caller verifies. Redirects and token services never lead from a public registry to a
//! private address, whatever their names resolve to at that moment, to plain http, or credentials to another host. Nothing named inside a manifest is followed but digests in the same repository.

mod auth;
mod copy;
mod error;
mod guard;
mod import;
mod keychain;
mod lists;
pub mod pull_through;
mod request;
mod resolve;
mod retry;
mod transfer;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Certificate;

pub use copy::{Amount, Copied, Done};
pub use error::ClientError;
pub use import::{
    Event, Failure, ImportReport, ImportRequest, RepositoryReport, Scheme, Selection, Source, TagPattern, Watcher,
};
pub use keychain::{Keychain, KeychainError};
pub use lists::{NAMES_MAX, Names};
pub use request::{ManifestHead, RemoteManifest};
pub use transfer::{BLOB_RESUMES_MAX, BlobOpen, ByteStream, CHUNK_BYTES, RESUME_BYTES_MIN};

const CONNECT_SECONDS_MAX: u64 = 10;
/// Between two pieces of an answer.
const READ_SECONDS_MAX: u64 = 60;

/// A name and a password, or a token in the password's place.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    // A password never reaches a log (a37).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.user)
    }
}

/// What a client is told.
#[derive(Clone, Debug, Default)]
pub struct ClientConfig {
    /// Credentials by registry as it stands in references (`docker.io`, `registry.example.com:5000`).
    pub credentials: HashMap<String, Credentials>,
    /// Registries that are spoken to in plain http. Those on loopback always are.
    pub plain_http: Vec<String>,
    /// Registries on loopback that are spoken to in https all the same.
    pub https: Vec<String>,
    /// Certificates that are trusted besides the machine's, as PEM; empty for none.
    pub certificates_pem: Vec<u8>,
}

/// A client of any number of registries. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>, Duration);

struct Inner {
    http: reqwest::Client,
    config: ClientConfig,
    /// The Authorization header by registry and scope.
    tokens: Mutex<HashMap<(String, String), auth::Token>>,
    /// Registries that asked to be left alone, and until when.
    resting: Mutex<HashMap<String, Instant>>,
    resolver: resolve::Resolver,
}

impl Client {
    /// A client.
    ///
    /// # Errors
    /// The TLS library cannot be set up, or the certificates are none.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        let certificates = Certificate::from_pem_bundle(&config.certificates_pem).map_err(ClientError::Setup)?;
        let resolver = resolve::Resolver::default();
        let http = reqwest::Client::builder()
            .tls_certs_merge(certificates)
            .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
            .read_timeout(Duration::from_secs(READ_SECONDS_MAX))
            .redirect(guard::redirects())
            .dns_resolver(resolver.clone())
            .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ClientError::Setup)?;
        Ok(Client(
            Arc::new(Inner { http, config, tokens: Mutex::default(), resting: Mutex::default(), resolver }),
            Duration::ZERO,
        ))
    }

    /// The same client with patience: so long may one request wait, in all, for a registry that is busy, failing or not to
    /// be reached. A client has none at first: the first answer counts.
    pub fn patient(&self, patience: Duration) -> Self {
        Client(Arc::clone(&self.0), patience)
    }
}
