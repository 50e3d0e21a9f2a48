//! Which engine Docker's own command line would use: DOCKER_HOST, else DOCKER_CONTEXT, else the current context of its
//! configuration, else the usual socket.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::folder::file_read;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Address, TlsAddress};
use crate::{EngineError, ErrorKind};

/// Bytes of one of Docker's files at most.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The context that stands for DOCKER_HOST and the usual socket.
const CONTEXT_DEFAULT: &str = "default";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    current_context: String,
}

/// A context's `meta.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    #[serde(default)]
    endpoints: BTreeMap<String, Endpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    #[serde(default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

/// The address that these environment variables, and Docker's files below HOME or DOCKER_CONFIG, lead to.
pub(super) fn address(variable: &dyn Fn(&str) -> Option<String>) -> Result<Address, EngineError> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let folder = variable("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".docker")));
    if let Some(host) = variable("DOCKER_HOST") {
        let verify = variable("DOCKER_TLS_VERIFY").is_some();
        let certificates = variable("DOCKER_CERT_PATH").map(PathBuf::from).or(folder);
        return match host.parse()? {
            Address::Tcp(host_port) if verify => match certificates {
                Some(certificates) => Ok(Address::Tls(tls(host_port, &certificates))),
                None => Err(unusable(&host, "DOCKER_TLS_VERIFY asks for TLS, and no folder has its certificates")
                    .with_hint("set DOCKER_CERT_PATH to the folder of ca.pem, cert.pem and key.pem")),
            },
            Address::Tcp(_) if variable("DOCKER_TLS").is_some() => Err(unverified(&host, "DOCKER_TLS")),
            address => Ok(address),
        };
    }
    let named = match (variable("DOCKER_CONTEXT"), &folder) {
        (Some(named), _) => named,
        (None, Some(folder)) => current(&folder.join("config.json"))?,
        (None, None) => String::new(),
    };
    match (named.as_str(), &folder) {
        ("" | CONTEXT_DEFAULT, _) | (_, None) => Ok(Address::socket_default()),
        (named, Some(folder)) => context(&folder.join("contexts"), named),
    }
}

fn current(path: &Path) -> Result<String, EngineError> {
    let config: Option<Config> = json(path)?;
    Ok(config.map(|config| config.current_context).unwrap_or_default())
}

fn context(folder: &Path, name: &str) -> Result<Address, EngineError> {
    let key = hex::encode(Sha256::digest(name));
    let meta: Option<Meta> = json(&folder.join("meta").join(&key).join("meta.json"))?;
    let what = format!("Docker context {name:?}");
    let Some(endpoint) = meta.and_then(|meta| meta.endpoints.into_iter().find(|(kind, _)| kind == "docker")) else {
        return Err(unusable(&what, "there is no such context with a Docker engine")
            .with_hint("see `docker context ls`, and choose with DOCKER_CONTEXT or `docker context use`"));
    };
    let endpoint = endpoint.1;
    if endpoint.host.is_empty() {
        return Ok(Address::socket_default());
    }
    if endpoint.skip_tls_verify {
        return Err(unverified(&what, "SkipTLSVerify"));
    }
    let certificates = folder.join("tls").join(&key).join("docker");
    match endpoint.host.parse()? {
        Address::Tcp(host_port) if certificates.is_dir() => Ok(Address::Tls(tls(host_port, &certificates))),
        address => Ok(address),
    }
}

/// A certificate of one's own is shown where there is one.
fn tls(host_port: String, folder: &Path) -> TlsAddress {
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let identity = (certificate.exists() || key.exists()).then_some((certificate, key));
    TlsAddress { host_port, ca: folder.join("ca.pem"), identity }
}

fn json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, EngineError> {
    let what = path.display().to_string();
    let content = file_read(path, FILE_BYTES_MAX).map_err(|error| unusable(&what, &error.to_string()))?;
    let Some(content) = content else { return Ok(None) };
    serde_json::from_slice(&content)
        .map(Some)
        .map_err(|error| unusable(&what, &format!("it is not as Docker writes it: {error}")))
}

fn unusable(what: &str, why: &str) -> EngineError {
    EngineError::new(ErrorKind::Address, format!("{what} does not lead to a container engine"), why)
}

fn unverified(what: &str, setting: &str) -> EngineError {
    let why = format!("{setting} asks for TLS without a look at the engine's certificate: anybody could be the engine");
    unusable(what, &why).with_hint("verify it: set DOCKER_TLS_VERIFY=1 with a ca.pem, or make the context with one")
}
