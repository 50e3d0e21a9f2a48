//! Hosts: those that need a person first.

use api::agent::EngineState;
use api::delivery::Host;
use maud::{Markup, html};

use crate::attention::{engine_error, is_host_trouble};
use crate::overview::View;
use crate::words::{count, since};

/// The most hosts that are listed.
const LISTED_MAX: usize = 50;
/// The most warnings of a host that are listed.
const WARNINGS_MAX: usize = 3;

pub(crate) fn section(view: &View<'_>) -> Markup {
    let mut hosts: Vec<&Host> = view.overview.hosts.iter().collect();
    hosts.sort_by_key(|host| !is_host_trouble(host));
    let rest = hosts.split_off(LISTED_MAX.min(hosts.len()));
    let troubled = rest.iter().filter(|host| is_host_trouble(host)).count();
    html! {
        section.hosts aria-labelledby="hosts" {
            h2 #hosts { "Hosts" }
            div.scroll {
                table.list role="table" aria-labelledby="hosts" {
                    thead role="rowgroup" { tr role="row" {
                        @for column in ["Host", "State", "Containers", "Engine", "Labels"] {
                            th role="columnheader" scope="col" { (column) }
                        }
                    } }
                    tbody role="rowgroup" { @for host in hosts { (row(host, view)) } }
                }
            }
            @if !rest.is_empty() {
                p.small {
                    "and " (count(rest.len())) " more, "
                    @if troubled == 0 { "all up" } @else { (count(troubled)) " of which need attention" }
                    ": " code { "longshore host ls" }
                }
            }
        }
    }
}

fn row(host: &Host, view: &View<'_>) -> Markup {
    let warnings = host.report.as_ref().map_or(&[][..], |report| &report.warnings);
    html! {
        tr role="row" id={ "host-" (host.name) } {
            th role="rowheader" scope="row" { (host.name) }
            td role="cell" data-label="State" {
                div {
                    span class={ "dot " (if host.up { "good" } else { "bad" }) } {}
                    @match (host.up, host.seen_at) {
                        (true, _) => "up",
                        (false, Some(seen)) => { span.bad { "down" } " " span.small { "last seen " (since(seen, view.now)) " ago" } }
                        (false, None) => { span.bad { "down" } " " span.small { "never seen" } }
                    }
                }
                @for warning in warnings.iter().take(WARNINGS_MAX) { div.small.bad { (warning) } }
                @if warnings.len() > WARNINGS_MAX { div.small { "and " (warnings.len() - WARNINGS_MAX) " more warnings" } }
            }
            td role="cell" data-label="Containers" { (host.report.as_ref().map_or(0, |report| report.instances.len())) }
            td role="cell" data-label="Engine" {
                @match host.report.as_ref().map(|report| &report.engine) {
                    Some(EngineState::Up { version }) => (version),
                    Some(EngineState::Down { .. }) => span.bad { "down: " (engine_error(host).unwrap_or_default()) },
                    None => span.none { "unknown" },
                }
            }
            td role="cell" data-label="Labels" {
                @if host.labels.is_empty() { span.none { "none" } }
                @for (key, value) in &host.labels { span.tag { (key) "=" (value) } " " }
            }
        }
    }
}
