//! `longshore preheat`.

use std::time::{Duration, Instant};

use api::fanout::PreheatRequest;
use api::{EnvName, HostName, Problem};

use crate::output;
use crate::reach::Global;

/// How often the hub is asked how far hosts are.
const LOOK: Duration = Duration::from_secs(2);
/// How long the command waits for hosts at most; they go on without it.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// Hosts that are named at most.
const NAMED_MAX: usize = 10;

/// Have a release's image on all hosts of an environment before it is rolled out there.
///
/// Every host of the environment fetches the image, from the hub and from one another, and keeps it for a day whether or
/// not anything runs from it. A rollout then starts at once. Rollouts do the same by themselves for the hosts whose turn
/// comes next. Nothing is started or replaced; asking again says how far hosts are.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The release, by its id or the beginning of it
    #[arg(value_name = "RELEASE")]
    release: String,
    /// The environment whose hosts are to have it
    #[arg(long, value_name = "ENV")]
    env: EnvName,
    /// Do not wait until all hosts have it
    #[arg(long)]
    detach: bool,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let client = global.client()?;
    let request = PreheatRequest { release: args.release, env: args.env, requested_by: super::requested_by() };
    let (begun, mut shown) = (Instant::now(), None);
    loop {
        let preheat = client.preheat(&request).await?;
        let (done, all) = (preheat.done.len(), preheat.hosts.len());
        let is_over = args.detach || done == all;
        if is_over && global.json {
            return output::json(&preheat);
        }
        if !global.json && shown != Some(done) {
            let words = format!("{done} of {all} hosts of {} have {}", preheat.env, preheat.release);
            if is_over {
                output::line(&words)
            } else {
                output::note(&words)
            }
            shown = Some(done);
        }
        if is_over {
            return Ok(());
        }
        if begun.elapsed() > WAIT_MAX {
            let missing: Vec<&HostName> = preheat.hosts.iter().filter(|host| !preheat.done.contains(host)).collect();
            let named: Vec<&str> = missing.iter().take(NAMED_MAX).map(|host| host.as_str()).collect();
            return Err(Problem::new(504, "preheat-slow", "Not all hosts have the image yet")
                .detail(format!("{} do not, such as {}", missing.len(), named.join(", ")))
                .hint("`longshore host ls` shows which are down; the page /fanout shows how far the others are."));
        }
        tokio::time::sleep(LOOK).await;
    }
}
