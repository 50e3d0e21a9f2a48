//! `longshore host`.

use std::collections::BTreeMap;

use api::access::HostTokenRequest;
use api::agent::EngineState;
use api::client::PageQuery;
use api::{HostName, Micros};

use crate::output;
use crate::reach::Global;

/// Hosts: machines with an engine and an agent
#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// List hosts
    Ls {
        /// Begin after this host
        #[arg(long, value_name = "HOST")]
        after: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
    },
    /// Make a one-time token with which a machine becomes a host
    ///
    /// The token names the hub's certificate authority, so that the machine cannot be led to another hub. Use it with
    /// `longshore agent --join TOKEN`.
    Token {
        /// The only host that may use it
        #[arg(long, value_name = "NAME")]
        host: Option<HostName>,
        /// A label that the host gets; may be repeated
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
        /// How long it may be used, in minutes
        #[arg(long, default_value_t = 60, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..=10_080))]
        ttl: u64,
    },
    /// Take a host's certificates back: it is no longer one
    ///
    /// The hub refuses it from the next request on, and other hosts within seconds: they are told whose certificates are
    /// void and cut their connections. While the hub is away, a host that was revoked just before can go on exchanging
    /// images that it was granted until that grant ends (`grant_seconds` under [fanout] in hub.toml, an hour unless set).
    /// What runs on the host goes on running. To bring it back, enrol it again with `longshore host token --host NAME`.
    Revoke {
        /// The host
        #[arg(value_name = "HOST")]
        host: HostName,
    },
}

/// `KEY=VALUE`
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

pub(super) async fn run(global: &Global, command: Command) -> api::Result<()> {
    let client = global.client()?;
    match command {
        Command::Ls { after, limit } => {
            let page = client.host_list(&PageQuery { after, limit }).await?;
            if global.json {
                return output::json(&page);
            }
            let now = Micros::now();
            let rows: Vec<Vec<String>> = page
                .items
                .iter()
                .map(|host| {
                    let engine = match host.report.as_ref().map(|report| &report.engine) {
                        None => "-".to_owned(),
                        Some(EngineState::Up { version }) => version.clone(),
                        Some(EngineState::Down { error }) => format!("down: {error}"),
                    };
                    vec![
                        host.name.to_string(),
                        if host.up { "up" } else { "down" }.to_owned(),
                        host.seen_at.map_or("never".to_owned(), |seen| format!("{} ago", output::ago(seen, now))),
                        host.report.as_ref().map_or("-".to_owned(), |report| report.instances.len().to_string()),
                        if host.labels.is_empty() {
                            "-".to_owned()
                        } else {
                            host.labels
                                .iter()
                                .map(|(key, value)| format!("{key}={value}"))
                                .collect::<Vec<_>>()
                                .join(",")
                        },
                        engine,
                    ]
                })
                .collect();
            let none = "No hosts yet. `longshore host token` makes a token; `longshore agent --join TOKEN` uses it.";
            output::table(&["HOST", "STATE", "SEEN", "CONTAINERS", "LABELS", "ENGINE"], &rows, none);
            super::more(page.next.as_ref(), "longshore host ls --after");
            Ok(())
        }
        Command::Token { host, labels, ttl } => {
            let labels: BTreeMap<String, String> = labels.into_iter().collect();
            let token = client.host_token_create(&HostTokenRequest { host, labels, ttl_seconds: ttl * 60 }).await?;
            if global.json {
                return output::json(&token);
            }
            output::line(&token.token);
            output::note(&format!(
                "\nIt can be used once, until {}, on the machine that becomes a host:",
                token.expires_at
            ));
            output::note("  longshore agent --hub-agent HUB:5001 --join TOKEN");
            Ok(())
        }
        Command::Revoke { host } => {
            let revoked = client.host_revoke(&host).await?;
            if global.json {
                return output::json(&revoked);
            }
            let words = match revoked.certificates {
                0 => format!("{host} had no good certificate."),
                1 => format!("{host}: its certificate is void."),
                many => format!("{host}: {many} certificates are void."),
            };
            output::line(&words);
            Ok(())
        }
    }
}
