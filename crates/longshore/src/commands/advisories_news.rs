//! `longshore advisories news`.

use ::inspect::archive::escaped;
use api::Micros;
use api::client::PageQuery;
use api::inspect::{AdvisoryNews, Alert, AlertReason, Delivery, News, Severity, SummaryNews};

use crate::output;
use crate::reach::Global;

/// Environments that a row names.
const RUNNING_SHOWN: usize = 3;

/// Show what new advisories meant for what the hub knew already, the last first
///
/// One line for each vulnerability by which images became affected, or that was rated worse or has become known to be
/// exploited; of a file that brought very many, the rest in one line. Counts are those of the moment: `longshore where`
/// says what is so now.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Go on after this, the end of the list before
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// At most so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<u32>,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let page = PageQuery { after: args.after, limit: args.limit };
    let alerts = global.client()?.alerts(&page).await?;
    if global.json {
        return output::json(&alerts);
    }
    let now = Micros::now();
    let rows: Vec<Vec<String>> = alerts.items.iter().map(|alert| row(alert, now)).collect();
    let headings = ["AGE", "SEVERITY", "ADVISORY", "WHY", "IMAGES", "RAN IN", "FIXED IN", "WEBHOOK"];
    output::table(&headings, &rows, "No file of advisories has changed what is known of an image.");
    super::more(alerts.next.as_ref(), "--after");
    Ok(())
}

fn row(alert: &Alert, now: Micros) -> Vec<String> {
    let mut row = vec![output::ago(alert.at, now)];
    row.extend(match &alert.news {
        News::Advisory(news) => advisory(news),
        News::Summary(news) => summary(news),
    });
    row.push(match &alert.delivery {
        None => String::new(),
        Some(Delivery::Waiting { why: None, .. }) => "waits".to_owned(),
        Some(Delivery::Waiting { why: Some(why), .. }) => format!("waits: {}", safe(why)),
        Some(Delivery::Sent { .. }) => "sent".to_owned(),
        Some(Delivery::Dead { why, .. }) => format!("never taken: {}", safe(why)),
    });
    row
}

fn advisory(news: &AdvisoryNews) -> [String; 6] {
    let exploited = if news.known_exploited { ", exploited" } else { "" };
    let reason = |reason: &AlertReason| match reason {
        AlertReason::Affected => "newly affected".to_owned(),
        AlertReason::Exploited => "now exploited".to_owned(),
        AlertReason::Severity { before } => format!("was {}", severity(*before)),
    };
    let running: Vec<String> = news
        .running
        .iter()
        .take(RUNNING_SHOWN)
        .map(|one| format!("{}/{} in {}", one.app, one.service, one.environment))
        .collect();
    let more = usize::try_from(news.running_count).unwrap_or(usize::MAX).saturating_sub(running.len());
    [
        format!("{}{exploited}", severity(news.severity)),
        safe(&news.id),
        news.reasons.iter().map(reason).collect::<Vec<_>>().join(", "),
        news.images_count.to_string(),
        if more > 0 { format!("{} and {more} more", running.join(", ")) } else { running.join(", ") },
        safe(&news.fixed_in.join(" ")),
    ]
}

fn summary(news: &SummaryNews) -> [String; 6] {
    let counts = news.severities.iter().rev().map(|(of, count)| format!("{count} {}", severity(*of)));
    let why = if news.first { "the first advisories" } else { "came with those above" };
    [
        counts.collect::<Vec<_>>().join(", "),
        format!("{} together", news.count()),
        why.to_owned(),
        news.images_count.to_string(),
        String::new(),
        String::new(),
    ]
}

fn severity(of: Severity) -> String {
    format!("{of:?}").to_lowercase()
}

fn safe(text: &str) -> String {
    escaped(text.as_bytes())
}
