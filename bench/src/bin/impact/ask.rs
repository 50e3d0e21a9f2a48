//! Questions to a hub: where something is, and pages of an image.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use api::client::PageQuery;
use api::inspect::{InsideFilter, Sought};
use bench::quantile;
use bench::report::Row;
use inspect::component::Component;

use crate::Ground;
use crate::fresh::pushed;
use crate::hub::refused;

/// Questions of each kind.
const QUESTIONS: usize = 600;
/// Components of an image with many.
const MANY: usize = 2_000;
const TARGET_MILLIS: f64 = 10.0;

/// The path of the question of that number.
type Question<'q> = Box<dyn Fn(usize) -> String + 'q>;

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn by_name(component: &Component) -> String {
    format!("/api/v1/where?component={}&ecosystem={}", encoded(&component.name), component.ecosystem.word())
}

fn row(name: &str, millis: f64, peer: &str, peer_value: Option<f64>) -> Row {
    Row {
        row: name.to_owned(),
        value: millis,
        unit: "ms, p99 over HTTP".to_owned(),
        peer: peer.to_owned(),
        peer_value,
        target: format!("<= {TARGET_MILLIS} ms"),
        holds: Some(millis <= TARGET_MILLIS),
    }
}

/// `where`, by what rare and common components are called and by advisories that speak of them.
pub(crate) async fn places(ground: &Ground) -> anyhow::Result<Vec<Row>> {
    let advisories = affecting(ground).await?;
    let kinds: [(&str, Question<'_>); 3] = [
        (
            "where NAME",
            Box::new(|at| {
                let (rare, common) = ground.portfolio.rare_and_common(at);
                by_name(if at % 3 == 0 { &common } else { &rare })
            }),
        ),
        (
            "where NAME@VERSION",
            Box::new(|at| {
                let (rare, common) = ground.portfolio.rare_and_common(at);
                let one = if at % 3 == 0 { common } else { rare };
                format!("{}&version={}", by_name(&one), encoded(&one.version))
            }),
        ),
        (
            "where CVE",
            Box::new(|at| {
                let id = advisories.keys().nth(at * 7 % advisories.len().max(1)).cloned().unwrap_or_default();
                format!("/api/v1/where?advisory={}", encoded(&id))
            }),
        ),
    ];
    let mut rows = Vec::new();
    for (name, path) in &kinds {
        let mut seconds = Vec::with_capacity(QUESTIONS);
        for at in 0..QUESTIONS {
            seconds.push(ground.hub.get_seconds(&path(at)).await?);
        }
        let millis = |share| quantile(seconds.clone(), share) * 1e3;
        rows.push(row(name, millis(0.99), "its own median", Some(millis(0.5))));
    }
    Ok(rows)
}

/// Advisories that affect an image here, with how many images each does.
async fn affecting(ground: &Ground) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut affecting = BTreeMap::new();
    for record in ground.advisories.records.iter().step_by(23) {
        let id =
            record.subjects.first().and_then(|subject| subject.ids.first()).context("an advisory without a name")?;
        let sought = Sought::Advisory { id: id.clone() };
        let found = ground.hub.client.find(&sought, false, &PageQuery::default()).await.map_err(refused)?;
        if found.images_count > 0 {
            affecting.insert(id.clone(), found.images_count);
        }
    }
    let most = affecting.values().max().copied().unwrap_or_default();
    eprintln!("{} of the advisories that are asked for affect an image, one of them {most} images", affecting.len());
    ensure!(!affecting.is_empty(), "no advisory affects any image");
    Ok(affecting)
}

/// Pages of one image with many components, one after another.
pub(crate) async fn pages(ground: &Ground) -> anyhow::Result<Vec<Row>> {
    let packages: String = (0..MANY)
        .map(|at| {
            let (_, common) = ground.portfolio.rare_and_common(at * 2 + 1);
            format!(
                r#","node_modules/{}-{at}":{{"version":"{}","license":"MIT"}}"#,
                common.name.rsplit('/').next().unwrap_or_default(),
                common.version
            )
        })
        .collect();
    let lock = format!(r#"{{"name":"a","lockfileVersion":3,"packages":{{"":{{}}{packages}}}}}"#);
    let (digest, _) = pushed(&ground.hub, "bench/many", "1", &[("app/package-lock.json", lock.into_bytes())]).await?;
    let (filter, query) = (InsideFilter::default(), PageQuery::default());
    let page = ground.hub.client.inside_components(&digest, &filter, &query).await.map_err(refused)?;
    ensure!(page.next.is_some(), "the image has one page of components");
    let mut first = Vec::new();
    let mut following = Vec::new();
    for path in ["", "/findings", "/components", "/inventory"] {
        first.push(ground.hub.get_seconds(&format!("/api/v1/inside/{digest}{path}")).await?);
        for at in 0..50 {
            let path = match path {
                "/components" => format!("/components?after={}", at * 30),
                other => other.to_owned(),
            };
            following.push(ground.hub.get_seconds(&format!("/api/v1/inside/{digest}{path}")).await?);
        }
    }
    let name = "pages of an image with 2,000 components";
    Ok(vec![row(name, quantile(following, 0.99) * 1e3, "the first of them", first.first().map(|first| first * 1e3))])
}
