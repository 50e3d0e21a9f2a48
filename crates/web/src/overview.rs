//! The overview: what needs attention, plans under way host by host, services against environments, hosts.
//!
//! A function of the overview and of the images on their way. What a fleet has more of than a person reads is counted, never cut silently, and
//! what is not in order is listed before what is.

use std::collections::{BTreeMap, BTreeSet};

use api::delivery::{AppOverview, Overview, Plan, ServiceInEnvironment, ServiceOverview};
use api::fanout::Swarm;
use api::{EnvName, HostName, Micros};
use maud::{Markup, html};

use crate::words::{commit, digest, since};
use crate::{attention, hosts, instances, plans};

/// Beyond so many containers those that are in order are counted, not listed.
const INSTANCES_LISTED_MAX: usize = 400;

/// What every part of the page looks at.
pub(crate) struct View<'a> {
    pub(crate) overview: &'a Overview,
    pub(crate) now: Micros,
    pub(crate) down: BTreeSet<&'a HostName>,
    /// Whether containers that are in order are counted, not listed.
    pub(crate) fold: bool,
}

impl<'a> View<'a> {
    fn new(overview: &'a Overview) -> Self {
        let services = overview.apps.iter().flat_map(|app| &app.services);
        let instances: usize =
            services.flat_map(|service| service.environments.values()).map(|there| there.instances.len()).sum();
        Self {
            overview,
            now: overview.at,
            down: overview.hosts.iter().filter(|host| !host.up).map(|host| &host.name).collect(),
            fold: instances > INSTANCES_LISTED_MAX,
        }
    }
}

/// The images of plans that are under way, by the plan's id.
pub(crate) type Swarms = BTreeMap<String, Vec<Swarm>>;

/// The page's `<main>`.
pub(crate) fn main(overview: &Overview, swarms: &Swarms, exposed: &[Markup]) -> Markup {
    let view = View::new(overview);
    let (under_way, ended): (Vec<&Plan>, Vec<&Plan>) = overview.plans.iter().partition(|plan| !plan.state.is_final());
    html! {
        // The script corrects for a browser whose clock differs from the hub's.
        div #overview data-now=(overview.at.0) {
            h1.aside { "Overview" }
            p.summary role="status" { (attention::summary(&view, under_way.len())) }
            (attention::section(&view, &under_way, &ended, exposed))
            @if !under_way.is_empty() { (plans::under_way_section(&under_way, swarms, view.now)) }
            @for app in &overview.apps { (app_section(app, &view)) }
            @if overview.apps.is_empty() { (first_steps(overview)) }
            @if !overview.hosts.is_empty() { (hosts::section(&view)) }
            @if !ended.is_empty() { (plans::ended_section(&ended, view.now)) }
        }
    }
}

fn first_steps(overview: &Overview) -> Markup {
    html! {
        section #first-steps {
            h2 { "Nothing is built yet" }
            ol.steps {
                @if overview.hosts.is_empty() {
                    li {
                        "Make a machine with a container engine a host: a token from the hub, then the agent on that machine:"
                        pre { code { "longshore host token\nlongshore agent --join TOKEN" } }
                    }
                }
                @if overview.environments.is_empty() {
                    li { "Say what environments there are:" pre { code { "longshore env apply -f environments.yaml" } } }
                }
                li { "Build an app from its repository:" pre { code { "longshore build --repo PATH --ref main" } } }
                li { "Promote it:" pre { code { "longshore promote APP --to ENV" } } }
            }
        }
    }
}

fn app_section(app: &AppOverview, view: &View<'_>) -> Markup {
    let environments = &view.overview.environments;
    let heading = format!("app-{}", app.app);
    html! {
        section.app aria-labelledby=(heading) {
            h2 id=(heading) { (app.app) }
            // Roles are said because narrow screens lay the table out as cards, which would take them away.
            div.scroll {
                table.matrix role="table" aria-labelledby=(heading) {
                    thead role="rowgroup" { tr role="row" {
                        th role="columnheader" scope="col" { "Service" }
                        th role="columnheader" scope="col" { "Newest build" }
                        @for env in environments { th role="columnheader" scope="col" { (env) } }
                    } }
                    tbody role="rowgroup" { @for service in &app.services { (service_row(service, environments, view)) } }
                }
            }
        }
    }
}

fn service_row(service: &ServiceOverview, environments: &[EnvName], view: &View<'_>) -> Markup {
    html! {
        tr role="row" {
            th role="rowheader" scope="row" { (service.service) @if service.job { " " span.tag { "job" } } }
            td role="cell" data-label="Newest build" {
                @match &service.newest {
                    Some(newest) => { div { (digest(&newest.digest)) } div.small { "commit " (commit(&newest.commit)) } }
                    None => span.none { "none" },
                }
            }
            @for env in environments {
                td role="cell" data-label=(env) {
                    @match service.environments.get(env) {
                        Some(there) => (cell(service, there, view)),
                        None => span.none { "not there" },
                    }
                }
            }
        }
    }
}

fn cell(service: &ServiceOverview, there: &ServiceInEnvironment, view: &View<'_>) -> Markup {
    let older = service.newest.as_ref().is_some_and(|newest| newest.id != there.release.id);
    html! {
        div { (digest(&there.release.digest)) @if older { " " span.tag { "older" } } }
        div.small { "for " (since(there.since, view.now)) " · commit " (commit(&there.release.commit)) }
        @if !service.job { (instances::list(there, view)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn the_page_as_it_is_written() {
        let mut settings = insta::Settings::clone_current();
        settings.set_omit_expression(true);
        for (name, overview) in samples::all() {
            settings.bind(|| {
                insta::assert_snapshot!(name, samples::lines(&main(&overview, &Swarms::new(), &[]).into_string()))
            });
        }
    }

    #[test]
    fn a_rollout_says_how_its_images_come() {
        let overview = samples::rollout();
        let id = overview.plans.iter().find(|plan| !plan.state.is_final()).unwrap().id.clone();
        let page = main(&overview, &Swarms::from([(id, crate::fanout::tests::swarms().items)]), &[]).into_string();
        let card = page.split("<article").nth(1).unwrap().split("<ol").next().unwrap();
        let mut settings = insta::Settings::clone_current();
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!("rollout_images", samples::lines(&format!("<article{card}"))));
    }

    #[test]
    fn text_of_strangers_stays_text() {
        let page = main(&samples::hostile(), &Swarms::new(), &[]).into_string();
        // Wherever it came from, none of it became an element, an attribute, or the end of one.
        for element in ["<script", "<img", "onerror=\"", "</pre><"] {
            let own = page.matches(element).count();
            let expected = if element == "</pre><" { page.matches("<pre").count() } else { 0 };
            assert!(own <= expected, "{element} {own} times");
        }
        assert!(page.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count() > 20, "the sample is not on the page");
    }

    #[test]
    fn a_large_fleet_is_folded_into_a_small_page() {
        let overview = samples::large(200, 5, 1000);
        let page = main(&overview, &Swarms::new(), &[]).into_string();
        assert!(page.len() < 1_000_000, "{} bytes", page.len());
        let text: String = page.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text).collect();
        for said in [
            "1,000 hosts, 1 down",
            "host0007 is down",
            "app3/service32 in env1: 1 of 143 containers unhealthy, on host0032",
            "142 healthy",
            "and 950 more, all up",
            "5 of 1,000 steps",
            "188 waves to come",
        ] {
            assert!(text.contains(said), "{said:?} is not on the page");
        }
    }
}
