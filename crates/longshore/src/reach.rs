//! How a command reaches its hub: the address and the token that changes need.

use std::path::{Path, PathBuf};

use api::client::HubClient;
use api::{Problem, Result};
use url::Url;

/// Where a hub keeps its data unless told otherwise, for root.
pub const DATA_FOLDER_ROOT: &str = "/var/lib/longshore";

/// Options that every command takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// The hub's address
    #[arg(long, global = true, env = "LONGSHORE_HUB", default_value = "http://127.0.0.1:5000", value_name = "URL")]
    pub hub: Url,
    /// The hub's data folder, whose token allows changes [default: /var/lib/longshore, or ~/.local/share/longshore if not root]
    #[arg(long, global = true, env = "LONGSHORE_DATA", value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Print data, and problems, as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

impl Global {
    /// The data folder that was named, or the usual one.
    pub fn data_folder(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| usual_data_folder(std::env::var_os("HOME").map(PathBuf::from).as_deref()))
    }

    /// A client. The token is read from the data folder; without one, reading still works and the hub says why it
    /// refuses changes.
    pub fn client(&self) -> Result<HubClient> {
        HubClient::new(self.hub.clone(), self.token()?)
    }

    fn token(&self) -> Result<Option<String>> {
        let file = self.data_folder().join(base::guard::TOKEN_FILE);
        match std::fs::read_to_string(&file) {
            Ok(token) => Ok(Some(token.trim().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.data.is_none() => Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && self.data.is_none() => Ok(None),
            Err(error) => Err(Problem::new(400, "token-unreadable", format!("The hub's token cannot be read from {}", file.display())).detail(error.to_string())
            .hint("Name the hub's data folder with --data, or run as the user that the hub runs as.")),
        }
    }
}

fn usual_data_folder(home: Option<&Path>) -> PathBuf {
    match home {
        Some(home) if !rustix::process::geteuid().is_root() => home.join(".local/share/longshore"),
        _ => PathBuf::from(DATA_FOLDER_ROOT),
    }
}
