//! `longshore version`.

use crate::output;
use crate::reach::Global;

/// Say which version this is.
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(global: &Global, _args: Args) -> api::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    if global.json {
        return output::json(&serde_json::json!({ "version": version, "protocol": api::agent::PROTOCOL_VERSION }));
    }
    output::line(&format!("longshore {version} (agent protocol {})", api::agent::PROTOCOL_VERSION));
    Ok(())
}
