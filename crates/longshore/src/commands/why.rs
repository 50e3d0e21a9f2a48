//! `longshore why`.

use api::{EnvName, ServiceAddress};

use crate::output;
use crate::reach::Global;

/// Say what a service waits for on its way into an environment.
///
/// Names the gate that is not passed yet, or the step and host that a plan is at and what the agent there says of it.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The app, or one service of it
    #[arg(value_name = "APP[/SERVICE]")]
    address: ServiceAddress,
    /// The environment
    #[arg(long, value_name = "ENV")]
    env: EnvName,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let why = global.client()?.why(&args.address, &args.env).await?;
    if global.json {
        return output::json(&why);
    }
    output::line(&why.summary);
    for reason in &why.reasons {
        output::line(&format!("  - {}", reason.replace('\n', "\n    ")));
    }
    if let Some(next) = &why.next {
        output::note(&format!("\nhint: {next}"));
    }
    Ok(())
}
