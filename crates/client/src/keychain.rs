//! Credentials where people already have them: the files that `docker login` and `podman login` write, and the programs
//! (`docker-credential-NAME`) that those files name, by which cloud registries give passwords for some hours.
//!
//! Nothing of a file or of a program's output reaches an error or a log (a37).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::Credentials;

const FILE_BYTES_MAX: u64 = 4 << 20;
const HELPER_BYTES_MAX: u64 = 64 << 10;
const HELPER_LIMIT: Duration = Duration::from_secs(60);
const DOCKER_HUB: &str = "docker.io";
/// Under which name Docker keeps what is Docker Hub's.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
const DOCKER_HUB_NAMES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", DOCKER_HUB];
/// What a helper says when it knows nothing of a registry.
const HELPER_NOT_FOUND: &str = "credentials not found";

/// Why credentials cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeychainError {
    /// The file cannot be read.
    #[error("{} cannot be read; check its rights", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{} is not a file of credentials as docker and podman write it; log in again or mend it", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The helper cannot be run, or fails.
    #[error("the credential helper {program}, which {} names, {what}; run it by hand, or log in again", path.display())]
    Helper {
        /// The program.
        program: String,
        /// The file.
        path: PathBuf,
        /// What it does instead.
        what: &'static str,
    },
}

/// The files in which credentials are looked for, first come first served.
#[derive(Clone, Debug, Default)]
pub struct Keychain {
    files: Vec<File>,
}

#[derive(Clone, Debug)]
struct File {
    path: PathBuf,
    content: Content,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Content {
    auths: HashMap<String, Entry>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
    #[serde(rename = "credHelpers")]
    helpers: HashMap<String, String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.auths.keys()).entries(self.helpers.keys()).finish()
    }
}

impl Entry {
    fn credentials(&self) -> Option<Credentials> {
        let plain = || Some((self.username.clone()?, self.password.clone()?));
        let coded = || {
            let text = String::from_utf8(STANDARD.decode(self.auth.as_deref()?.trim()).ok()?).ok()?;
            let (user, password) = text.split_once(':')?;
            // Some old versions of Docker padded the password.
            Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
        };
        let filled = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let token = filled(&self.identitytoken).map(|token| ("<token>".to_owned(), token));
        let (user, password) = token.or_else(coded).or_else(plain).filter(|(user, _)| !user.is_empty())?;
        Some(Credentials { user, password })
    }
}

impl Keychain {
    /// Reads those of `paths` that are there.
    ///
    /// # Errors
    /// A file that is there and cannot be read, or is not one of credentials.
    pub fn read(paths: &[PathBuf]) -> Result<Self, KeychainError> {
        let mut files = Vec::new();
        for path in paths {
            let failed = |source| KeychainError::File { path: path.clone(), source };
            let length = match std::fs::metadata(path) {
                Ok(metadata) => metadata.len(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            if length > FILE_BYTES_MAX {
                return Err(KeychainError::Malformed { path: path.clone() });
            }
            let text = std::fs::read(path).map_err(failed)?;
            // An empty file is what some tools begin with.
            let content = if text.iter().all(u8::is_ascii_whitespace) {
                Content::default()
            } else {
                serde_json::from_slice(&text).map_err(|_| KeychainError::Malformed { path: path.clone() })?
            };
            files.push(File { path: path.clone(), content });
        }
        Ok(Self { files })
    }

    /// What is known for a registry, and, as podman keeps it, for a path in it (`registry.example.com/team`); the longest
    /// path wins. `host` is as in references.
    ///
    /// # Errors
    /// A helper that cannot be run, fails or says nothing that can be read.
    pub async fn find(&self, host: &str, path: &str) -> Result<Option<Credentials>, KeychainError> {
        let names = names(host, path);
        for File { path, content } in &self.files {
            let helper = names.iter().find_map(|name| {
                let found = content.helpers.iter().find(|(key, _)| normal(key) == *name)?;
                Some((found.1.as_str(), if host == DOCKER_HUB { DOCKER_HUB_KEY } else { found.0.as_str() }))
            });
            if let Some((helper, address)) = helper {
                if let Some(found) = ask(path, helper, address).await? {
                    return Ok(Some(found));
                }
                continue;
            }
            if let Some(store) = content.store.as_deref().filter(|store| !store.is_empty()) {
                let address = if host == DOCKER_HUB { DOCKER_HUB_KEY } else { host };
                if let Some(found) = ask(path, store, address).await? {
                    return Ok(Some(found));
                }
            }
            let found = names.iter().find_map(|name| {
                content.auths.iter().find(|(key, _)| normal(key) == *name).and_then(|(_, entry)| entry.credentials())
            });
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// `host/a/b`, `host/a`, `host`, and the other names of Docker Hub.
fn names(host: &str, path: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut path = path;
    while !path.is_empty() {
        names.push(format!("{host}/{path}"));
        path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    names.push(host.to_owned());
    if host == DOCKER_HUB {
        names.extend(DOCKER_HUB_NAMES.map(str::to_owned));
    }
    names
}

/// A key without scheme, and without the API's path that old versions of Docker put there.
fn normal(key: &str) -> String {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    key.trim_end_matches("/v1").trim_end_matches("/v2").to_ascii_lowercase()
}

/// Asks a helper as docker does: `get`, the address on its standard input, JSON on its standard output.
async fn ask(file: &Path, helper: &str, address: &str) -> Result<Option<Credentials>, KeychainError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{helper}");
    let failed =
        |what| KeychainError::Helper { program: program.chars().take(100).collect(), path: file.to_owned(), what };
    // The name becomes part of a program's: never a path.
    if helper.is_empty()
        || !helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    {
        return Err(failed("has a name that no helper has"));
    }
    let command = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut child = command.map_err(|_| failed("cannot be started"))?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let exchange = async {
        if let Some(mut input) = input {
            // One that does not read may have said all that it has to say.
            let _ = input.write_all(format!("{address}\n").as_bytes()).await;
        }
        let mut said = Vec::new();
        if let Some(output) = output {
            output.take(HELPER_BYTES_MAX).read_to_end(&mut said).await?;
        }
        Ok::<_, std::io::Error>((said, child.wait().await?))
    };
    let (said, status) = tokio::time::timeout(HELPER_LIMIT, exchange)
        .await
        .map_err(|_| failed("does not answer within a minute"))?
        .map_err(|_| failed("breaks off"))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&said).to_ascii_lowercase();
        return if said.contains(HELPER_NOT_FOUND) { Ok(None) } else { Err(failed("fails")) };
    }
    let answer: Answer =
        serde_json::from_slice(&said).map_err(|_| failed("answers something else than credentials"))?;
    Ok(Some(Credentials { user: answer.username, password: answer.secret }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keychain(text: &str) -> Keychain {
        let content = serde_json::from_str(text).unwrap();
        Keychain { files: vec![File { path: "config.json".into(), content }] }
    }

    #[tokio::test]
    async fn entries_are_found_as_docker_and_podman_write_them() {
        let code = |text: &str| STANDARD.encode(text);
        let text = format!(
            r#"{{"auths": {{
                "https://index.docker.io/v1/": {{"auth": "{}"}},
                "registry.example.com": {{"auth": "{}"}},
                "registry.example.com/team/inner": {{"username": "inner", "password": "p"}},
                "cloud.example.com": {{"auth": "{}", "identitytoken": "refresh"}},
                "empty.example.com": {{}}
            }}, "HttpHeaders": {{"x": "y"}}}}"#,
            code("hub:with:colons"),
            code("team:p\0\0"),
            code("ignored:x")
        );
        let keychain = keychain(&text);
        for (host, path, user, password) in [
            ("docker.io", "library/redis", "hub", "with:colons"),
            ("registry.example.com", "team/app", "team", "p"),
            ("registry.example.com", "team/inner/app", "inner", "p"),
            ("cloud.example.com", "", "<token>", "refresh"),
        ] {
            let found = keychain.find(host, path).await.unwrap().unwrap();
            assert_eq!((found.user.as_str(), found.password.as_str()), (user, password), "{host}/{path}");
        }
        for host in ["empty.example.com", "example.com", "registry.example.com:5000"] {
            assert_eq!(keychain.find(host, "team").await.unwrap(), None, "{host}");
        }
        assert!(!format!("{keychain:?}").contains("with:colons"));
    }

    #[tokio::test]
    async fn a_helper_is_a_program_by_name_and_never_a_path() {
        for name in ["../../bin/sh", "", "a b", "no-such-helper-anywhere"] {
            let text = format!(r#"{{"credHelpers": {{"registry.example.com": "{name}"}}}}"#);
            let error = keychain(&text).find("registry.example.com", "a").await.unwrap_err();
            assert!(matches!(error, KeychainError::Helper { .. }), "{name}");
        }
    }
}
