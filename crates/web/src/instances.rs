//! The containers of a service in an environment.

use std::collections::BTreeMap;

use api::agent::InstanceState;
use api::delivery::{Instance, ServiceInEnvironment};
use maud::{Markup, html};

use crate::overview::View;
use crate::words::{count, digest, since, word};

/// The most containers of a cell that are listed when there are many.
const LISTED_MAX: usize = 6;

/// How a container stands for a person; worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Bad,
    Busy,
    Unknown,
    Good,
}

/// Whether a container needs a person: it runs on a host that answers, and is not well.
pub(crate) fn is_trouble(instance: &Instance, view: &View<'_>) -> bool {
    standing(instance, view) == Standing::Bad
}

fn standing(instance: &Instance, view: &View<'_>) -> Standing {
    match instance.state {
        _ if view.down.contains(&instance.host) => Standing::Unknown,
        InstanceState::Healthy => Standing::Good,
        InstanceState::Starting | InstanceState::Draining => Standing::Busy,
        InstanceState::Unhealthy | InstanceState::Exited => Standing::Bad,
    }
}

fn class(standing: Standing) -> &'static str {
    match standing {
        Standing::Bad => "bad",
        Standing::Busy => "busy",
        Standing::Unknown => "unknown",
        Standing::Good => "good",
    }
}

/// All of them; when there are many, those that are not as they should be, and counts of the others.
pub(crate) fn list(there: &ServiceInEnvironment, view: &View<'_>) -> Markup {
    if there.instances.is_empty() {
        return html! { div.small { "no container" } };
    }
    let as_it_should =
        |instance: &Instance| standing(instance, view) == Standing::Good && instance.digest == there.release.digest;
    let (mut listed, counted): (Vec<&Instance>, Vec<&Instance>) =
        there.instances.iter().partition(|instance| !view.fold || !as_it_should(instance));
    if view.fold {
        listed.sort_by_key(|instance| standing(instance, view));
    }
    let rest = listed.split_off(if view.fold { LISTED_MAX.min(listed.len()) } else { listed.len() });
    let mut counts: BTreeMap<(Standing, String), usize> = BTreeMap::new();
    for instance in rest.into_iter().chain(counted) {
        *counts.entry((standing(instance, view), words(instance, view))).or_default() += 1;
    }
    html! {
        ul.instances {
            @for instance in listed { (item(instance, there, view)) }
            @for ((standing, words), number) in counts {
                li { span class={ "dot " (class(standing)) } {} (count(number)) " " (words) }
            }
        }
    }
}

fn words(instance: &Instance, view: &View<'_>) -> String {
    if view.down.contains(&instance.host) { "on a host that is down".to_owned() } else { word(&instance.state) }
}

fn item(instance: &Instance, there: &ServiceInEnvironment, view: &View<'_>) -> Markup {
    let standing = standing(instance, view);
    html! {
        li title={ "container " (instance.container.chars().take(12).collect::<String>()) } {
            span class={ "dot " (class(standing)) } {} (instance.host) " "
            @if standing == Standing::Unknown { span.small { "host down" } }
            @else { span class={ "small " (class(standing)) } { (word(&instance.state)) " " (since(instance.since, view.now)) } }
            @if instance.digest != there.release.digest { " " (digest(&instance.digest)) }
        }
    }
}
