//! The impact as a picture: from component to image to release to environment to host. What is too much for a picture is
//! grouped and counted; tables beside it have the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use api::Micros;
use api::inspect::{Exposure, Where};
use maud::{Markup, html};
use oci::Digest;

use crate::words::{count, counted, plain};

/// Boxes of a column; what is more stands in the last.
const BOXES_MAX: usize = 12;
/// Hosts that are named in a box that stands for many.
const HOSTS_NAMED_MAX: usize = 2;
/// More lines than this are drawn faintly.
const LINES_CLEAR_MAX: usize = 100;
/// Environments that the text names.
const ENVIRONMENTS_NAMED_MAX: usize = 12;

/// Columns, from left to right.
const HEADS: [&str; 5] = ["Component", "Image", "Release", "Environment", "Hosts"];
const COMPONENT: usize = 0;
const IMAGE: usize = 1;
const RELEASE: usize = 2;
const ENVIRONMENT: usize = 3;
const HOST: usize = 4;

const BOX_WIDTH: usize = 204;
const BOX_HEIGHT: usize = 46;
const BETWEEN_BOXES: usize = 14;
const BETWEEN_COLUMNS: usize = 52;
const HEAD_HEIGHT: usize = 30;
/// Characters that fit into a box: of its first line, and of its second.
const FIRST_CHARS_MAX: usize = 23;
const SECOND_CHARS_MAX: usize = 27;

/// How a box or a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// It was so.
    Past,
    /// It is there and runs nowhere.
    There,
    /// It runs.
    Now,
    /// Nothing is known of it.
    Unknown,
}

impl State {
    fn class(self) -> &'static str {
        match self {
            Self::Past => "past",
            Self::There => "there",
            Self::Now => "now",
            Self::Unknown => "unknown",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    first: String,
    second: String,
    state: State,
    /// Whether it stands for what found no place.
    is_rest: bool,
}

impl Node {
    fn new(first: impl Into<String>, second: impl Into<String>, state: State) -> Self {
        Self { first: first.into(), second: second.into(), state, is_rest: false }
    }
}

/// Columns of boxes, and lines between a column and the next.
#[derive(Debug, Default)]
struct Graph {
    columns: [Vec<Node>; 5],
    /// From which column and box to which box of the next.
    lines: BTreeMap<(usize, usize, usize), State>,
}

/// Boxes by what they stand for.
#[derive(Default)]
struct Known(HashMap<(usize, String), usize>);

impl Graph {
    fn node(&mut self, known: &mut Known, column: usize, key: &str, node: Node) -> usize {
        let Some(nodes) = self.columns.get_mut(column) else { return 0 };
        let at = *known.0.entry((column, key.to_owned())).or_insert(nodes.len());
        match nodes.get_mut(at) {
            Some(there) => there.state = there.state.max(node.state),
            None => nodes.push(node),
        }
        at
    }

    fn line(&mut self, column: usize, from: usize, to: usize, state: State) {
        let line = self.lines.entry((column, from, to)).or_insert(state);
        *line = state.max(*line);
    }

    fn of(found: &Where) -> Self {
        let (mut graph, mut known) = (Self::default(), Known::default());
        let hosts: BTreeSet<&str> = exposures(found).flat_map(|one| &one.hosts).map(|host| host.as_str()).collect();
        let are_named = hosts.len() + usize::from(!found.not_examined.is_empty()) <= BOXES_MAX;
        for image in &found.images.items {
            let state = image.releases.iter().flat_map(|release| &release.environments).map(state_of).max();
            let state = state.unwrap_or(State::There);
            let incomplete = if image.complete { "" } else { " · incomplete" };
            let digits: String = image.digest.hex().chars().take(12).collect();
            let node = Node::new(image.repository.to_string(), format!("{digits}{incomplete}"), state);
            let at = graph.node(&mut known, IMAGE, &image.digest.to_string(), node);
            for component in &image.components {
                let (name, rest) = name_and_rest(&component.id);
                let node = Node::new(name, rest, state);
                let from = graph.node(&mut known, COMPONENT, &component.id, node);
                graph.line(COMPONENT, from, at, state);
            }
            for release in &image.releases {
                let state = release.environments.iter().map(state_of).max().unwrap_or(State::There);
                let first = format!("{}/{}", release.app, release.service);
                let node = Node::new(first, release.release.to_string(), state);
                let to = graph.node(&mut known, RELEASE, release.release.as_str(), node);
                graph.line(IMAGE, at, to, state);
                for exposure in &release.environments {
                    graph.exposure(&mut known, to, exposure, are_named);
                }
            }
        }
        graph.environments(found, &mut known, are_named);
        for (column, nodes) in graph.columns.clone().iter().enumerate() {
            graph.fold(column, nodes);
        }
        graph.untangle();
        if !found.not_examined.is_empty() {
            let first = counted(found.not_examined.len() as u64, "container", "containers");
            if let Some(hosts) = graph.columns.last_mut() {
                hosts.push(Node::new(first, "not examined", State::Unknown));
            }
        }
        graph
    }

    fn exposure(&mut self, known: &mut Known, release: usize, exposure: &Exposure, are_named: bool) {
        let (state, name) = (state_of(exposure), exposure.environment.as_str());
        let node = Node::new(name, "", state);
        let at = self.node(known, ENVIRONMENT, name, node);
        self.line(RELEASE, release, at, state);
        if are_named {
            for host in &exposure.hosts {
                let node = Node::new(host.as_str(), "", state);
                let to = self.node(known, HOST, host.as_str(), node);
                self.line(ENVIRONMENT, at, to, state);
            }
        }
    }

    /// What each environment has of it, and one box for all its hosts where they are too many to be named.
    fn environments(&mut self, found: &Where, known: &mut Known, are_named: bool) {
        let mut all: BTreeMap<&str, (Option<Micros>, BTreeSet<&str>)> = BTreeMap::new();
        for exposure in exposures(found) {
            let (until, hosts) = all.entry(exposure.environment.as_str()).or_default();
            *until = exposure.to.max(*until);
            hosts.extend(exposure.hosts.iter().map(|host| host.as_str()));
        }
        let at = |name: &str| known.0.get(&(ENVIRONMENT, name.to_owned())).copied();
        let mut all: Vec<_> = all.into_iter().filter_map(|(name, there)| Some((at(name)?, name, there))).collect();
        all.sort_by_key(|(at, ..)| *at);
        let groups = all.iter().filter(|(.., (_, hosts))| !hosts.is_empty()).count();
        let (mut grouped, mut rest) = (0, BTreeSet::new());
        for (from, environment, (until, hosts)) in all {
            let number = counted(hosts.len() as u64, "host", "hosts");
            if let Some(node) = self.columns.get_mut(ENVIRONMENT).and_then(|nodes| nodes.get_mut(from)) {
                node.second = match (node.state, until) {
                    (State::Past, Some(until)) => format!("until {}", until.to_string().get(..10).unwrap_or_default()),
                    _ => format!("on {number}"),
                };
            }
            if are_named || hosts.is_empty() {
                continue;
            }
            grouped += 1;
            let (key, node) = if groups > BOXES_MAX && grouped >= BOXES_MAX {
                rest.extend(hosts);
                let others = format!("in {} more environments", count(groups + 1 - BOXES_MAX));
                // No environment has an empty name.
                ("", Node { is_rest: true, ..Node::new("", others, State::Now) })
            } else {
                let named: Vec<&str> = hosts.iter().take(HOSTS_NAMED_MAX).copied().collect();
                let more = if hosts.len() > HOSTS_NAMED_MAX { " …" } else { "" };
                (environment, Node::new(number, format!("{}{more}", named.join(", ")), State::Now))
            };
            let to = self.node(known, HOST, key, node);
            self.line(ENVIRONMENT, from, to, State::Now);
        }
        if let Some(node) = self.columns.get_mut(HOST).and_then(|nodes| nodes.iter_mut().find(|node| node.is_rest)) {
            node.first = counted(rest.len() as u64, "host", "hosts");
        }
    }

    /// Puts what is too much for a column into its last box.
    fn fold(&mut self, column: usize, nodes: &[Node]) {
        if nodes.len() <= BOXES_MAX {
            return;
        }
        let last = BOXES_MAX - 1;
        let (kept, folded) = nodes.split_at(last);
        let state = folded.iter().map(|node| node.state).max().unwrap_or(State::There);
        let rest = Node::new(format!("{} more", count(folded.len())), "in the table below", state);
        let mut kept = kept.to_vec();
        kept.push(Node { is_rest: true, ..rest });
        if let Some(nodes) = self.columns.get_mut(column) {
            *nodes = kept;
        }
        for ((at, from, to), state) in std::mem::take(&mut self.lines) {
            let from = if at == column { from.min(last) } else { from };
            let to = if at + 1 == column { to.min(last) } else { to };
            self.line(at, from, to, state);
        }
    }

    /// Orders each column by where its lines come from, so that few of them cross. What is more stays last.
    fn untangle(&mut self) {
        for column in 1..HEADS.len() {
            let nodes = self.columns.get_mut(column).map(std::mem::take).unwrap_or_default();
            let came = |at: usize| -> usize {
                let from = self.lines.keys().filter(|(before, _, to)| before + 1 == column && *to == at);
                let (sum, number) = from.fold((0, 0), |(sum, number), (_, from, _)| (sum + from, number + 1));
                // In thousandths of a box: enough to tell, and whole.
                (sum * 1000).checked_div(number).unwrap_or(usize::MAX)
            };
            let mut order: Vec<usize> = (0..nodes.len()).collect();
            order.sort_by_key(|&at| (nodes.get(at).is_some_and(|node| node.is_rest), came(at), at));
            let mut places = vec![0; nodes.len()];
            for (place, &at) in order.iter().enumerate() {
                if let Some(slot) = places.get_mut(at) {
                    *slot = place;
                }
            }
            let place = |at: usize| places.get(at).copied().unwrap_or(at);
            let lines = std::mem::take(&mut self.lines).into_iter().map(|((before, from, to), state)| {
                let from = if before == column { place(from) } else { from };
                let to = if before + 1 == column { place(to) } else { to };
                ((before, from, to), state)
            });
            self.lines = lines.collect();
            if let Some(column) = self.columns.get_mut(column) {
                *column = order.iter().filter_map(|&at| nodes.get(at).cloned()).collect();
            }
        }
    }
}

fn exposures(found: &Where) -> impl Iterator<Item = &Exposure> {
    found.images.items.iter().flat_map(|image| &image.releases).flat_map(|release| &release.environments)
}

fn state_of(exposure: &Exposure) -> State {
    if exposure.to.is_none() { State::Now } else { State::Past }
}

/// What people call a component, and what tells it from others: `log4j-core` and `2.14.1 · maven`.
fn name_and_rest(id: &str) -> (&str, String) {
    let (ecosystem, rest) = id.split_once('/').unwrap_or(("", id));
    let (name, version) = rest.rsplit_once('@').filter(|(name, _)| !name.is_empty()).unwrap_or((rest, ""));
    let artifact = name.rsplit_once(':').map_or(name, |(_, artifact)| artifact);
    let known = [version, ecosystem].into_iter().filter(|text| !text.is_empty());
    (artifact, known.collect::<Vec<_>>().join(" · "))
}

/// What the picture shows, in words.
pub(super) fn text(found: &Where) -> String {
    let images = &found.images.items;
    let components: BTreeSet<&str> = images.iter().flat_map(|one| &one.components).map(|one| one.id.as_str()).collect();
    let digests: BTreeSet<&Digest> = images.iter().map(|image| &image.digest).collect();
    let releases: BTreeSet<&str> =
        images.iter().flat_map(|one| &one.releases).map(|one| one.release.as_str()).collect();
    let mut hosts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for exposure in exposures(found).filter(|exposure| exposure.to.is_none()) {
        let there = hosts.entry(exposure.environment.as_str()).or_default();
        there.extend(exposure.hosts.iter().map(|host| host.as_str()));
    }
    let mut text = format!(
        "{} in {}, in {}.",
        counted(components.len() as u64, "component", "components"),
        counted(digests.len() as u64, "image", "images"),
        counted(releases.len() as u64, "release", "releases"),
    );
    if hosts.is_empty() {
        text.push_str(" No environment has any of them now.");
    } else {
        let named = hosts.iter().take(ENVIRONMENTS_NAMED_MAX);
        let named: Vec<String> =
            named.map(|(name, hosts)| format!("{name} on {}", counted(hosts.len() as u64, "host", "hosts"))).collect();
        text.push_str(&format!(" Now in {}", named.join(", ")));
        if hosts.len() > ENVIRONMENTS_NAMED_MAX {
            text.push_str(&format!(" and {} more environments", count(hosts.len() - ENVIRONMENTS_NAMED_MAX)));
        }
        text.push('.');
    }
    if !found.not_examined.is_empty() {
        let number = found.not_examined.len() as u64;
        let run = counted(number, "container runs an image that was", "containers run images that were");
        text.push_str(&format!(" {run} not examined."));
    }
    text
}

/// The picture. `is_bad` when what is sought is wrong where it is.
pub(super) fn picture(found: &Where, is_bad: bool) -> Markup {
    let graph = Graph::of(found);
    let rows = graph.columns.iter().map(Vec::len).max().unwrap_or(0);
    let height = HEAD_HEIGHT + rows * (BOX_HEIGHT + BETWEEN_BOXES);
    let width = HEADS.len() * (BOX_WIDTH + BETWEEN_COLUMNS) - BETWEEN_COLUMNS;
    let left = |column: usize| column * (BOX_WIDTH + BETWEEN_COLUMNS);
    // Columns stand in the middle of the highest.
    let top = |column: usize, at: usize| {
        let above = rows - graph.columns.get(column).map_or(0, Vec::len);
        HEAD_HEIGHT + above * (BOX_HEIGHT + BETWEEN_BOXES) / 2 + at * (BOX_HEIGHT + BETWEEN_BOXES)
    };
    let middle = |column, at| top(column, at) + BOX_HEIGHT / 2;
    html! {
        figure.impact {
            div.scroll role="region" aria-label="Picture of the impact" tabindex="0" {
                svg.bad[is_bad].dense[graph.lines.len() > LINES_CLEAR_MAX] role="img" aria-labelledby="impact-title impact-text" width=(width) height=(height) viewBox={ "0 0 " (width) " " (height) } {
                    title #impact-title { "From component to host" }
                    desc #impact-text { (text(found)) }
                    @for (column, head) in HEADS.iter().enumerate() { text.head x=(left(column)) y="16" { (head) } }
                    @for (&(column, from, to), state) in &graph.lines {
                        @let (x1, x2) = (left(column) + BOX_WIDTH, left(column + 1));
                        @let (y1, y2, between) = (middle(column, from), middle(column + 1, to), x1 + BETWEEN_COLUMNS / 2);
                        path class=(state.class()) d={ "M" (x1) " " (y1) "C" (between) " " (y1) " " (between) " " (y2) " " (x2) " " (y2) } {}
                    }
                    @for (column, nodes) in graph.columns.iter().enumerate() {
                        @for (at, node) in nodes.iter().enumerate() {
                            // A picture within the picture cuts off what is wider than its box.
                            svg x=(left(column)) y=(top(column, at)) width=(BOX_WIDTH) height=(BOX_HEIGHT) {
                                title { (plain(&node.first, 200)) " " (plain(&node.second, 200)) }
                                rect class=(node.state.class()) x="1" y="1" width=(BOX_WIDTH - 2) height=(BOX_HEIGHT - 2) rx="6" {}
                                text x="10" y=(if node.second.is_empty() { "28" } else { "20" }) { (line(&node.first, FIRST_CHARS_MAX)) }
                                @if !node.second.is_empty() { text.second x="10" y="37" { (line(&node.second, SECOND_CHARS_MAX)) } }
                            }
                        }
                    }
                }
            }
            figcaption.small {
                (text(found))
                @if graph.lines.values().any(|state| *state == State::Past) { " Dashed is what was so and is no more." }
            }
        }
    }
}

fn line(text: &str, chars_max: usize) -> String {
    // Cut again: what is spelt out is longer than it was.
    plain(&plain(text, chars_max), chars_max)
}
