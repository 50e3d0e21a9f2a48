//! How a command reaches its hub: the address and the token that changes need.

use std::path::{Path, PathBuf};

use api::client::HubClient;
use api::{Problem, Result};
use base::guard::TokenFile;
use url::Url;

/// Where a hub keeps its data unless told otherwise, for root.
pub(crate) const DATA_FOLDER_ROOT: &str = "/var/lib/longshore";

/// Options that every command takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Global {
    /// The hub's address
    #[arg(long, global = true, env = "LONGSHORE_HUB", default_value = "http://127.0.0.1:5000", value_name = "URL")]
    pub(crate) hub: Url,
    /// The hub's data folder, whose token allows changes [default: /var/lib/longshore, or ~/.local/share/longshore if not root]
    #[arg(long, global = true, env = "LONGSHORE_DATA", value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// Print data, and problems, as JSON
    #[arg(long, global = true)]
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
        HubClient::new(self.hub.clone(), self.token()?)
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
