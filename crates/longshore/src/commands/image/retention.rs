//! `longshore image retention`.

use api::Micros;
use api::client::PageQuery;
use oci::RepositoryName;

use crate::output;
use crate::reach::Global;

/// Show what the rules of retention would remove now, and why. Nothing is removed.
///
/// The hub removes it by itself, within the hour. A tag takes its image along unless another tag, an index or a release
/// needs that. To keep something, change `retain` in hub.toml, or let a release hold it.
#[derive(clap::Args)]
pub(in crate::commands) struct Args {
    /// Only of this repository
    #[arg(value_name = "REPOSITORY")]
    repository: Option<RepositoryName>,
    /// Begin after this item
    #[arg(long, value_name = "ITEM")]
    after: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

pub(super) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let Args { repository, after, limit } = args;
    let query = PageQuery { after, limit: Some(limit) };
    let page = global.client()?.retention_list(repository.as_ref(), &query).await?;
    if global.json {
        return output::json(&page);
    }
    let now = Micros::now();
    let row = |going: &api::registry::Going| {
        let image = match &going.tag {
            Some(tag) => format!("{}:{tag}", going.repository),
            None => format!("{}@{}", going.repository, going.digest),
        };
        vec![image, output::short(&going.digest), output::ago(going.since, now), going.rule.clone(), going.why.clone()]
    };
    let rows: Vec<Vec<String>> = page.items.iter().map(row).collect();
    let none =
        if page.next.is_some() { "Nothing would go from the repositories looked at." } else { "Nothing would go." };
    output::table(&["IMAGE", "DIGEST", "SINCE", "RULE", "WHY"], &rows, none);
    let of = repository.map(|repository| format!(" {repository}")).unwrap_or_default();
    super::super::more(page.next.as_ref(), &format!("longshore image retention{of} --after"));
    Ok(())
}
