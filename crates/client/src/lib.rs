//! The OCI client: manifests, blobs, tags and referrers of any registry.
//!
//! Invariants: every byte that is handed out was verified against its digest, or the stream ends with an error. Redirects
//! and token services never lead from a public registry to a private address, to plain http, or credentials to another
//! host. Nothing named inside a manifest is followed but digests in the same repository.

mod auth;
mod copy;
mod error;
mod guard;
mod request;
mod transfer;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use copy::Copied;
pub use error::ClientError;
pub use request::{ManifestHead, RemoteManifest};
pub use transfer::{BLOB_RESUMES_MAX, ByteStream, CHUNK_BYTES};

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
}

/// A client of any number of registries. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    config: ClientConfig,
    /// The Authorization header by registry and scope.
    tokens: Mutex<HashMap<(String, String), auth::Token>>,
}

impl Client {
    /// A client.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
            .read_timeout(Duration::from_secs(READ_SECONDS_MAX))
            .redirect(guard::redirects())
            .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ClientError::Setup)?;
        Ok(Client(Arc::new(Inner { http, config, tokens: Mutex::default() })))
    }
}
