//! What the edges of regions fetch for the hosts there, and which hosts therefore need not ask the hub. Pure: the clock comes
//! in.
//!
//! A region is served image by image: its hosts take an image from the edge as long as the edge has it, fetches it, or has just
//! been told to; what it may not have, or does not fetch, comes from the hub as where there is no edge.

use std::collections::{BTreeMap, BTreeSet};

use api::access::HostIdentity;
use api::fanout::ImageStanding as Announcement;
use api::{HostName, Micros};
use oci::Digest;

use super::board::Announced;
use crate::core::HostStanding;

/// How long hosts wait for an edge that was told to fetch an image and has not begun, in seconds: less than they wait for the
/// first piece of it.
const BEGIN_SECONDS_MAX: u64 = 8;
/// How long it is said that an edge is gone, in seconds.
const GONE_SAID_SECONDS: u64 = 600;

type Hosts = BTreeMap<HostName, Announced>;

/// How an image comes to a region.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Coming {
    ByEdge,
    /// The registry's rules do not let the edge have it.
    NotAllowed(HostName),
    /// The edge was told to, and does not.
    NotFetched(HostName),
}

/// What edges do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Doing {
    /// The edges of each region that has one.
    regions: BTreeMap<String, BTreeSet<HostName>>,
    /// What hosts of these regions fetch.
    wanted: BTreeMap<(String, Digest), Coming>,
    /// What each edge is to fetch for them.
    fetches: BTreeMap<HostName, BTreeSet<Digest>>,
    /// The edge that a region had last, and when it was found to be gone.
    gone: BTreeMap<String, (HostName, Micros)>,
}

/// The edges.
#[derive(Debug, Default)]
pub(super) struct Edges {
    doing: Doing,
    /// Since when an edge is told to fetch an image that it has not begun.
    told: BTreeMap<(HostName, Digest), Micros>,
}

/// How a host is served by the edge of its region.
#[derive(Debug, Default)]
pub(super) struct Served<'a> {
    pub(super) edge: Option<&'a HostName>,
    /// Whether the edge does for all that the host wants.
    pub(super) is_whole: bool,
    /// Why it does not, for people.
    pub(super) note: Option<String>,
}

/// How an image stands on an edge, if it has it or fetches it.
fn taken<'a>(edge: &'a Announced, image: &Digest) -> Option<&'a Announcement> {
    let standing = edge.images.iter().find(|its| its.digest == *image);
    standing.filter(|its| its.is_wanted || its.bytes_there == its.bytes)
}

impl Edges {
    /// Looks at what hosts announced. `may` says whether a host may have an image, when it is known where that is. A host whose
    /// region is not known is in none. Gives whether something is otherwise than before.
    pub(super) fn look<'a>(
        &mut self,
        hosts: &Hosts,
        region: impl Fn(&HostName) -> Option<&'a str>,
        may: impl Fn(&HostIdentity, &Digest) -> Option<bool>,
        now: Micros,
    ) -> bool {
        let mut doing = Doing::default();
        for (host, _known) in hosts.iter().filter(|(_, known)| known.is_edge) {
            if let Some(region) = region(host) {
                doing.regions.entry(region.to_owned()).or_default().insert(host.clone());
            }
        }
        let mut wanted = BTreeSet::new();
        for (host, known) in hosts.iter().filter(|(_, known)| !known.is_edge) {
            if let Some(region) = region(host).filter(|region| doing.regions.contains_key(*region)) {
                let images = known.images.iter().filter(|image| image.is_wanted);
                wanted.extend(images.map(|image| (region.to_owned(), image.digest)));
            }
        }
        let told = std::mem::take(&mut self.told);
        for (region, image) in wanted {
            let edges = doing.regions.get(&region).into_iter().flatten();
            let mut comings = Vec::new();
            for (edge, known) in edges.filter_map(|edge| Some((edge, hosts.get(edge)?))) {
                let standing = taken(known, &image);
                let is_whole = standing.is_some_and(|standing| standing.bytes_there == standing.bytes);
                let may = may(&known.identity, &image);
                if !is_whole && may == Some(true) {
                    doing.fetches.entry(edge.clone()).or_default().insert(image);
                }
                comings.push(match (standing, may) {
                    (Some(_), _) => Coming::ByEdge,
                    (None, Some(true)) => {
                        let key = (edge.clone(), image);
                        let since = told.get(&key).copied().unwrap_or(now);
                        self.told.insert(key, since);
                        let is_late = now.since(since).as_secs() >= BEGIN_SECONDS_MAX;
                        if is_late { Coming::NotFetched(edge.clone()) } else { Coming::ByEdge }
                    }
                    (None, Some(false)) => Coming::NotAllowed(edge.clone()),
                    (None, None) => Coming::NotFetched(edge.clone()),
                });
            }
            let by_edge = comings.iter().position(|coming| *coming == Coming::ByEdge).unwrap_or_default();
            if !comings.is_empty() {
                doing.wanted.insert((region, image), comings.swap_remove(by_edge));
            }
        }
        doing.gone = std::mem::take(&mut self.doing.gone);
        for (region, edges) in &self.doing.regions {
            doing.gone.extend(edges.first().map(|edge| (region.clone(), (edge.clone(), now))));
        }
        let is_past = |at: Micros| now.since(at).as_secs() >= GONE_SAID_SECONDS;
        doing.gone.retain(|region, (_, at)| !doing.regions.contains_key(region) && !is_past(*at));
        let before = std::mem::replace(&mut self.doing, doing);
        before.regions != self.doing.regions
            || before.wanted != self.doing.wanted
            || before.fetches != self.doing.fetches
            || !before.gone.keys().eq(self.doing.gone.keys())
    }

    /// What an edge is to fetch for its region.
    pub(super) fn fetches(&self, host: &HostName) -> impl Iterator<Item = Digest> {
        self.doing.fetches.get(host).into_iter().flatten().copied()
    }

    /// What an edge is told to fetch counts for the tracker as what it fetches, as long as hosts wait for it. `blobs` are those
    /// of an image.
    pub(super) fn complete<'a>(
        &self,
        host: &HostName,
        standing: &mut HostStanding<HostName, Digest>,
        blobs: impl Fn(&Digest) -> Option<&'a [Digest]>,
    ) {
        let region = &standing.zone.region;
        let by_edge = |image: &Digest| self.doing.wanted.get(&(region.clone(), *image)) == Some(&Coming::ByEdge);
        let images: Vec<Digest> = self.fetches(host).filter(by_edge).collect();
        for blob in images.iter().filter_map(blobs).flatten().filter(|blob| !standing.whole.contains(*blob)) {
            standing.fetching.insert(*blob);
        }
    }

    /// How a host of this region is served.
    pub(super) fn served(&self, known: &Announced, region: Option<&str>) -> Served<'_> {
        let Some(region) = region.filter(|_| !known.is_edge) else { return Served::default() };
        let place =
            if region.is_empty() { "the hosts without a region".to_owned() } else { format!("region {region}") };
        let Some(edge) = self.doing.regions.get(region).and_then(BTreeSet::first) else {
            let gone = self.doing.gone.get(region);
            let note = gone.map(|(edge, _)| format!("{edge}, the edge of {place}, is gone: pieces come from the hub"));
            return Served { note, ..Served::default() };
        };
        let wanted = known.images.iter().filter(|image| image.is_wanted);
        let comings = wanted.map(|image| (image.digest, self.doing.wanted.get(&(region.to_owned(), image.digest))));
        let mut note = None;
        let mut is_whole = true;
        for (image, coming) in comings {
            let (edge, why) = match coming {
                // The next look finds it.
                Some(Coming::ByEdge) | None => continue,
                Some(Coming::NotAllowed(edge)) => (edge, "may not have"),
                Some(Coming::NotFetched(edge)) => (edge, "does not fetch"),
            };
            is_whole = false;
            note.get_or_insert_with(|| {
                format!("{edge}, the edge of {place}, {why} image {}: its pieces come from the hub", image.short())
            });
        }
        Served { edge: Some(edge), is_whole, note }
    }
}

#[cfg(test)]
mod tests {
    use super::super::board::Board;
    use super::super::board::tests::{announce, identity, standing};
    use super::*;

    /// Hosts of region `eu`, and their edges' rights.
    #[derive(Default)]
    struct Region {
        board: Board,
        edges: Edges,
    }

    impl Region {
        fn says(&mut self, host: &str, is_edge: bool, images: Vec<Announcement>) {
            let announce = api::fanout::Announce { is_edge, ..announce(images) };
            let now = Micros::from_seconds(1);
            self.board.announced(&identity(host), "10.0.0.1:4000".parse().unwrap(), announce, now).unwrap();
            self.board.released(&identity(host).host, now);
        }

        /// Whether something changed, what the edge is to fetch, and how `web` is served.
        fn at(&mut self, seconds: i64, may: Option<bool>) -> (bool, usize, bool, Option<String>) {
            let now = Micros::from_seconds(seconds);
            let changed = self.edges.look(self.board.hosts(), |_| Some("eu"), |_, _| may, now);
            let served = self.edges.served(&self.board.hosts()[&identity("web").host], Some("eu"));
            let (is_whole, note) = (served.is_whole, served.note);
            (changed, self.edges.fetches(&identity("edge").host).count(), is_whole, note)
        }
    }

    #[test]
    fn an_edge_fetches_what_its_region_wants_and_the_hub_helps_when_it_does_not() {
        let mut region = Region::default();
        let layers = [Digest::sha256_of(b"one"), Digest::sha256_of(b"two")];
        region.says("edge", true, Vec::new());
        region.says("web", false, Vec::new());
        assert_eq!(region.at(1, Some(true)), (true, 0, true, None));
        region.says("web", false, vec![standing("i", 10)]);
        assert_eq!(region.at(2, Some(true)), (true, 1, true, None));
        let mut tracked = HostStanding {
            zone: crate::core::Zone { region: "eu".to_owned(), rack: String::new() },
            is_edge: true,
            is_slow: false,
            fetching: BTreeSet::new(),
            whole: BTreeSet::from([layers[0]]),
            complaints: Vec::new(),
        };
        let complete = |region: &Region, tracked: &mut HostStanding<_, _>| {
            tracked.fetching.clear();
            region.edges.complete(&identity("edge").host, tracked, |_| Some(&layers));
        };
        complete(&region, &mut tracked);
        assert_eq!(tracked.fetching, BTreeSet::from([layers[1]]), "it is planned with before it has begun");
        assert_eq!(region.at(9, Some(true)), (false, 1, true, None));
        let (changed, fetches, is_whole, note) = region.at(10, Some(true));
        assert_eq!((changed, fetches, is_whole), (true, 1, false));
        assert!(note.unwrap().starts_with("edge, the edge of region eu, does not fetch image "));
        complete(&region, &mut tracked);
        assert!(tracked.fetching.is_empty());

        region.says("edge", true, vec![standing("i", 1)]);
        assert_eq!(region.at(11, Some(true)), (true, 1, true, None));
        region.says("edge", true, vec![standing("i", 100)]);
        assert_eq!(region.at(12, Some(true)), (true, 0, true, None));
        // It was given up halfway, and is told again.
        region.says("edge", true, vec![Announcement { is_wanted: false, ..standing("i", 60) }]);
        assert_eq!(region.at(13, Some(true)), (true, 1, true, None));
    }

    #[test]
    fn what_an_edge_may_not_have_comes_from_the_hub_and_so_does_all_when_it_is_gone() {
        let mut region = Region::default();
        region.says("edge", true, Vec::new());
        region.says("web", false, vec![standing("i", 10)]);
        let (_, fetches, is_whole, note) = region.at(1, Some(false));
        assert_eq!((fetches, is_whole), (0, false));
        assert!(note.unwrap().contains("may not have image"));
        // Where the image is was forgotten with the hub's last process.
        assert!(!region.at(2, None).2);
        assert_eq!(region.at(3, Some(true)), (true, 1, true, None));

        region.board.expire(&BTreeSet::from(["edge-1"]), Micros::from_seconds(4));
        let (changed, fetches, is_whole, note) = region.at(4, Some(true));
        assert_eq!((changed, fetches, is_whole), (true, 0, false));
        assert_eq!(note.unwrap(), "edge, the edge of region eu, is gone: pieces come from the hub");
        assert!(region.at(603, Some(true)).3.is_some());
        assert!(region.at(604, Some(true)).3.is_none());
        region.says("edge", true, Vec::new());
        assert_eq!(region.at(605, Some(true)), (true, 1, true, None));
    }
}
