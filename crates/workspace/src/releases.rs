//! What an environment has: asked of the hub with every start, and remembered for when the hub is away.

use std::time::Duration;

use api::client::HubClient;
use api::delivery::EnvironmentReleases;
use api::{AppName, EnvName, Micros, Problem};

use crate::error::{Error, ErrorKind};
use crate::state::{Remembered, Store};

/// How long the hub may take when its last answer is remembered: it is better to begin than to wait for a network.
const PATIENCE_SECONDS: u64 = 3;

/// What an environment has, and whether the hub said so now.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// What it has.
    pub remembered: Remembered,
    /// Why this is what the hub said last, and not now.
    pub stale: Option<String>,
    /// The hub never said anything: what it has is not known, and this is nothing.
    pub is_blank: bool,
}

impl Known {
    /// What is known of an environment that the hub was never asked about, and why it cannot be now.
    pub fn blank(app: &AppName, env: &EnvName, why: String) -> Self {
        let releases = EnvironmentReleases { env: env.clone(), app: app.clone(), releases: Vec::new() };
        let remembered = Remembered { releases, tag: String::new(), at: Micros(0) };
        Self { remembered, stale: Some(why), is_blank: true }
    }
}

/// Asks the hub, or takes what it said last.
///
/// # Errors
/// The hub refuses (there is no such environment), or is away and never said anything.
pub async fn ask(hub: &HubClient, store: &Store, app: &AppName, env: &EnvName) -> Result<Known, Error> {
    let before = store.releases(env)?.filter(|before| before.releases.app == *app);
    let tag = before.as_ref().map(|before| before.tag.as_str());
    let asking = hub.env_releases(app, env, tag);
    let answer = match &before {
        None => asking.await,
        Some(_) => tokio::time::timeout(Duration::from_secs(PATIENCE_SECONDS), asking).await.unwrap_or_else(|_late| {
            Err(Problem::new(504, "hub-late", "The hub does not answer").detail(format!("within {PATIENCE_SECONDS} s")))
        }),
    };
    match (answer, before) {
        (Ok(None), Some(before)) => Ok(Known { remembered: before, stale: None, is_blank: false }),
        (Ok(None), None) => {
            let why = "the hub says that nothing changed, and it was never asked before";
            Err(Error::new(ErrorKind::HubUnreachable, why, "Name the hub's address with --hub."))
        }
        (Ok(Some((releases, tag))), _) => {
            let remembered = Remembered { releases, tag, at: Micros::now() };
            store.releases_save(&remembered)?;
            Ok(Known { remembered, stale: None, is_blank: false })
        }
        (Err(problem), Some(before)) if is_away(&problem) => {
            Ok(Known { remembered: before, stale: Some(problem.to_string()), is_blank: false })
        }
        (Err(problem), _) => Err(Error {
            kind: if is_away(&problem) { ErrorKind::HubUnreachable } else { ErrorKind::Refused },
            why: problem.to_string(),
            hint: problem.hint,
        }),
    }
}

fn is_away(problem: &Problem) -> bool {
    problem.status >= 500
}
