//! `longshore release`.

use api::client::PageQuery;
use api::delivery::{Release, ReleaseFilter};
use api::{Micros, ServiceAddress};

use crate::output;
use crate::reach::Global;

/// Releases: images with their definition and evidence
#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// List releases, newest first
    Ls {
        /// Only of this app, or of one service of it
        #[arg(value_name = "APP[/SERVICE]")]
        address: Option<ServiceAddress>,
        /// Begin after this release
        #[arg(long, value_name = "RELEASE")]
        after: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
    },
    /// Show a release: what it is made of and where it comes from
    Show {
        /// Its id, or the beginning of one
        release: String,
    },
}

pub(super) async fn run(global: &Global, command: Command) -> api::Result<()> {
    let client = global.client()?;
    match command {
        Command::Ls { address, after, limit } => {
            let of = address.as_ref().map_or(String::new(), |address| format!(" of {address}"));
            let (app, service) = address.map_or((None, None), |address| (Some(address.app), address.service));
            let page = client.release_list(&ReleaseFilter { app, service }, &PageQuery { after, limit }).await?;
            if global.json {
                return output::json(&page);
            }
            let now = Micros::now();
            let rows: Vec<Vec<String>> = page
                .items
                .iter()
                .map(|release| {
                    vec![
                        release.id.to_string(),
                        format!("{}/{}", release.app, release.service),
                        output::short(&release.image.digest),
                        output::short_commit(&release.provenance.commit),
                        output::ago(release.created_at, now),
                        release.provenance.reason.clone(),
                    ]
                })
                .collect();
            let none = format!("No releases{of} yet. `longshore build --repo PATH --ref BRANCH` makes some.");
            output::table(&["RELEASE", "SERVICE", "DIGEST", "COMMIT", "AGE", "BUILT BECAUSE"], &rows, &none);
            super::more(page.next.as_ref(), "longshore release ls --after");
            Ok(())
        }
        Command::Show { release } => {
            let release = client.release_get(&release).await?;
            if global.json {
                return output::json(&release);
            }
            show(&release);
            Ok(())
        }
    }
}

fn show(release: &Release) {
    let provenance = &release.provenance;
    let or_none = |list: Vec<String>| if list.is_empty() { "-".to_owned() } else { list.join(", ") };
    let rows = [
        ("release", release.id.to_string()),
        ("service", format!("{}/{}", release.app, release.service)),
        ("image", format!("{}@{}", release.image.repository, release.image.digest)),
        ("kind", if release.job { "job" } else { "service" }.to_owned()),
        ("ports", or_none(release.ports.iter().map(u16::to_string).collect())),
        ("overlays", or_none(release.definitions.overlays.keys().map(ToString::to_string).collect())),
        ("recorded", release.created_at.to_string()),
        ("repository", provenance.repository.clone()),
        ("commit", provenance.commit.clone()),
        ("because", provenance.reason.clone()),
        ("builder", provenance.builder.clone()),
        ("began", provenance.started_at.to_string()),
        ("took", output::span(provenance.started_at, provenance.finished_at)),
        ("log", format!("longshore build --log {}", provenance.run)),
        ("statement", provenance.statement.as_ref().map_or("-".to_owned(), ToString::to_string)),
        ("inputs", provenance.inputs_digest.to_string()),
    ];
    for (name, value) in rows {
        output::line(format!("{name:<11} {value}").trim_end());
    }
    for (name, value) in &provenance.inputs {
        output::line(&format!("{:<11}   {name} = {value}", ""));
    }
}
