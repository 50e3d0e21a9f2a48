//! How a command reaches its hub: the address and the token that changes need.

use std::path::{Path, PathBuf};

use api::client::HubClient;
use api::{Problem, Result};
use base::folder::FolderError;
use base::guard::TokenFile;
use url::Url;

/// Where a hub keeps its data unless told otherwise, for root.
pub(crate) const DATA_FOLDER_ROOT: &str = "/var/lib/longshore";

/// What `--help` calls the options that every command takes.
const HEADING: &str = "Options of every command";

/// What a file of certificates has at least once.
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Options that every command takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Global {
    /// The hub's address
    #[arg(long, global = true, env = "LONGSHORE_HUB", default_value = "http://127.0.0.1:5000", value_name = "URL", value_parser = hub_url, help_heading = HEADING, display_order = 100)]
    pub(crate) hub: Url,
    /// The hub's data folder, whose token allows changes [default: /var/lib/longshore, or ~/.local/share/longshore if not root]
    #[arg(long, global = true, env = "LONGSHORE_DATA", value_name = "FOLDER", help_heading = HEADING, display_order = 101)]
    pub(crate) data: Option<PathBuf>,
    /// A file with the CA of the hub's certificate, where the system does not know it (PEM)
    #[arg(long, global = true, env = "LONGSHORE_CA", value_name = "FILE", help_heading = HEADING, display_order = 102)]
    pub(crate) ca: Option<PathBuf>,
    /// Print data, and problems, as JSON
    #[arg(long, global = true, help_heading = HEADING, display_order = 103)]
    pub(crate) json: bool,
}

impl Global {
    /// The data folder that was named, or the usual one.
    pub(crate) fn data_folder(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| usual_data_folder(std::env::var_os("HOME").map(PathBuf::from).as_deref()))
    }

    /// A client. The token is read from the data folder; without one, reading still works and the hub says why it
    /// refuses changes.
    pub(crate) fn client(&self) -> Result<HubClient> {
        match self.ca_pem()? {
            None => HubClient::new(self.hub.clone(), self.token()?),
            Some(pem) => HubClient::trusting(self.hub.clone(), self.token()?, &pem),
        }
    }

    /// What the file of the CA holds, if one was named: a certificate at least.
    pub(crate) fn ca_pem(&self) -> Result<Option<Vec<u8>>> {
        let Some(path) = &self.ca else { return Ok(None) };
        let unreadable = |why: String| {
            Problem::new(400, "ca-unreadable", "The hub's CA cannot be read")
                .detail(format!("{}: {why}", path.display()))
                .hint("Name a PEM file with --ca (LONGSHORE_CA), or leave it out if the system knows the CA.")
        };
        let pem =
            base::folder::file_read(path, base::tls::PEM_BYTES_MAX).map_err(|error| unreadable(error.to_string()))?;
        let pem = pem.ok_or_else(|| unreadable("there is no such file".to_owned()))?;
        if !pem.windows(CERTIFICATE.len()).any(|window| window == CERTIFICATE) {
            return Err(unreadable("there is no certificate in it".to_owned()));
        }
        Ok(Some(pem))
    }

    fn token(&self) -> Result<Option<TokenFile>> {
        let folder = self.data_folder();
        match TokenFile::read(&folder) {
            Ok(Some(token)) => Ok(Some(token)),
            Ok(None) if self.data.is_none() => Ok(None),
            // Only a folder that was named on purpose must have a token: reading needs none.
            Err(_) if self.data.is_none() => Ok(None),
            Ok(None) => Err(unreadable(&folder, "there is no token in it")),
            Err(error) => Err(unreadable(&folder, &error.to_string())),
        }
    }
}

/// A hub's address as people write it: the scheme may be left out.
fn hub_url(text: &str) -> std::result::Result<Url, String> {
    let wrong = || "write http://HOST:PORT".to_owned();
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url: Url = full.parse().map_err(|_| wrong())?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() { Ok(url) } else { Err(wrong()) }
}

/// Why a data folder cannot be used, as hub and agent say it.
pub(crate) fn folder_problem(error: &FolderError) -> Problem {
    match error {
        FolderError::InUse { folder, holder } => {
            let holder = holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            Problem::new(409, "data-folder-in-use", "The data folder is in use")
                .detail(format!("{} belongs to {holder}", folder.display()))
                .hint("Stop that process, or name another folder with --data.")
        }
        FolderError::Io { path, action, source } => Problem::new(500, "data-folder", "The data folder cannot be used")
            .detail(format!("{} cannot be {action}: {source}", path.display()))
            .hint("Check the path and its rights, or name another folder with --data."),
    }
}

fn unreadable(folder: &Path, why: &str) -> Problem {
    Problem::new(400, "token-unreadable", "The hub's token cannot be read")
        .detail(format!("{}: {why}", folder.display()))
        .hint("Name the hub's data folder with --data, or run as the user that the hub runs as.")
}

fn usual_data_folder(home: Option<&Path>) -> PathBuf {
    match home {
        Some(home) if !rustix::process::geteuid().is_root() => home.join(".local/share/longshore"),
        _ => PathBuf::from(DATA_FOLDER_ROOT),
    }
}

/// Where `docker login` and `podman login` keep credentials, in the order in which they are looked into: podman's file
/// where one is named, else podman's usual places, then docker's.
pub(crate) fn credential_files() -> Vec<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = folder("REGISTRY_AUTH_FILE") {
        return vec![file];
    }
    let home = folder("HOME");
    let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
    // Without a folder for run-time files podman takes one by the user's number.
    let user = rustix::process::geteuid().as_raw();
    let runtime = folder("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json"));
    let runtime = runtime.unwrap_or_else(|| PathBuf::from(format!("/run/containers/{user}/auth.json")));
    let config = folder("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
    let docker = folder("DOCKER_CONFIG").or_else(|| below_home(".docker"));
    let mut files = vec![runtime];
    files.extend(config.map(|folder| folder.join("containers/auth.json")));
    files.extend(docker.map(|folder| folder.join("config.json")));
    files
}

/// The engine that was named, or that `DOCKER_HOST` names, or the usual socket.
pub(crate) fn engine_address(given: Option<&str>) -> api::Result<engine::Address> {
    given.map_or_else(engine::Address::from_environment, str::parse).map_err(|error| {
        Problem::new(400, "engine-address", "The engine's address is not right").detail(error.to_string()).hint(
            "Write unix:///PATH or tcp://HOST:PORT (--engine, `address` under [engine] in hub.toml, or DOCKER_HOST).",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_is_named_with_or_without_scheme() {
        assert_eq!(hub_url("127.0.0.1:5000").unwrap().as_str(), "http://127.0.0.1:5000/");
        assert_eq!(hub_url("https://hub.example").unwrap().as_str(), "https://hub.example/");
        for wrong in ["", "ftp://hub.example", "file:///hub", "http://"] {
            assert_eq!(hub_url(wrong).unwrap_err(), "write http://HOST:PORT", "{wrong:?}");
        }
    }
}
