//! The trees of one swarm, and who are neighbours in it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::super::STRIPES;

/// Children of an inner node: as many as there are stripes, so that it gives away as much as it gets.
const CHILDREN_MAX: usize = STRIPES;
/// Neighbours at random that a host chooses; others choose it.
const NEIGHBOURS_CHOSEN: usize = 4;
/// Of these, how many are of its rack where it has so many.
const NEIGHBOURS_NEAR: usize = 2;
/// By how much trees may differ in their inner nodes: one of so many.
const BALANCE_SHARE: usize = 16;
/// Hosts that have the blob and are used as sources at once.
const SOURCES_MAX: usize = 64;

/// Who sends a stripe.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source<H> {
    /// The hub.
    Hub,
    /// A host.
    Host(H),
}

/// Who sends a host what, stripe by stripe.
pub type Parents<H> = [Option<Source<H>>; STRIPES];

/// A host that fetches the blob, or has it.
#[derive(Debug, Clone)]
pub(super) struct Host<H> {
    pub(super) host: H,
    pub(super) rack: String,
    /// Whether others may depend on it.
    pub(super) is_inner: bool,
    /// Whether it harms others: it gets what neighbours give.
    pub(super) is_shunned: bool,
    /// Whether it has the blob.
    pub(super) is_complete: bool,
    /// Whether others get the blob from it, whatever it has: the edge of a region.
    pub(super) is_source: bool,
}

/// One stripe's tree: inner nodes stand as in a heap, each with [`CHILDREN_MAX`] children; leaves hang where there is room.
#[derive(Debug)]
struct Tree<H> {
    inner: Vec<H>,
    leaves: BTreeMap<H, Source<H>>,
}

/// The trees of a swarm.
#[derive(Debug)]
pub(super) struct Forest<H: Ord> {
    trees: [Tree<H>; STRIPES],
    /// Where the inner nodes stand: the stripe, and the place in its tree.
    places: BTreeMap<H, (usize, usize)>,
    /// Those that had the blob when the swarm began, and of these those that are roots.
    known: BTreeSet<H>,
    sources: Vec<H>,
    racks: BTreeMap<H, String>,
    shunned: BTreeSet<H>,
    chosen: BTreeMap<H, BTreeSet<H>>,
    random: StdRng,
}

impl<H: Ord + Clone> Forest<H> {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            trees: std::array::from_fn(|_| Tree { inner: Vec::new(), leaves: BTreeMap::new() }),
            places: BTreeMap::new(),
            known: BTreeSet::new(),
            sources: Vec::new(),
            racks: BTreeMap::new(),
            shunned: BTreeSet::new(),
            chosen: BTreeMap::new(),
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// The parents of a host; none where it is not a member.
    pub(super) fn parents(&self, host: &H) -> Option<Parents<H>> {
        self.racks.contains_key(host).then(|| std::array::from_fn(|stripe| self.parent(stripe, host)))
    }

    fn parent(&self, stripe: usize, host: &H) -> Option<Source<H>> {
        let tree = self.trees.get(stripe)?;
        if let Some(source) = tree.leaves.get(host) {
            return Some(source.clone());
        }
        let (_, place) = self.places.get(host).filter(|(its, _)| *its == stripe)?;
        Some(self.above(tree, *place))
    }

    /// The parent of the inner node at a place.
    fn above(&self, tree: &Tree<H>, place: usize) -> Source<H> {
        let roots = self.sources.len().max(1);
        match place.checked_sub(roots) {
            Some(below) => tree.inner.get(below / CHILDREN_MAX).cloned().map_or(Source::Hub, Source::Host),
            None => self.sources.get(place).cloned().map_or(Source::Hub, Source::Host),
        }
    }

    /// Who is a host's neighbour beside its parents.
    pub(super) fn neighbours(&self, host: &H) -> impl Iterator<Item = H> {
        self.chosen.get(host).cloned().unwrap_or_default().into_iter()
    }

    /// Changes the trees so that these hosts stand in them and nobody else does.
    pub(super) fn plant(&mut self, hosts: Vec<Host<H>>, acquainted: &mut BTreeMap<H, BTreeSet<H>>) {
        // When all who were here are done, the swarm begins anew for those who come.
        if hosts.iter().all(|host| host.is_complete || !self.racks.contains_key(&host.host)) {
            self.racks.clear();
        }
        let is_new = self.racks.is_empty();
        let is_source = |host: &Host<H>| {
            let was_there = is_new || self.known.contains(&host.host);
            host.is_source || (host.is_complete && was_there && !self.racks.contains_key(&host.host))
        };
        let (sources, members): (Vec<_>, Vec<_>) = hosts.into_iter().partition(is_source);
        self.known = sources.iter().map(|source| source.host.clone()).collect();
        let usable = sources.into_iter().filter(|source| source.is_inner).map(|source| source.host);
        self.sources = usable.take(SOURCES_MAX).collect();
        self.shunned = members.iter().filter(|member| member.is_shunned).map(|member| member.host.clone()).collect();
        let inner: BTreeSet<&H> = members.iter().filter(|member| member.is_inner).map(|member| &member.host).collect();
        for tree in &mut self.trees {
            let mut place = 0;
            while let Some(host) = tree.inner.get(place) {
                // The last one takes the place of one that is gone: only their children change parents.
                if inner.contains(host) { place += 1 } else { drop(tree.inner.swap_remove(place)) }
            }
        }
        let planted: BTreeSet<H> = self.trees.iter().flat_map(|tree| tree.inner.iter().cloned()).collect();
        for host in inner.into_iter().filter(|host| !planted.contains(*host)) {
            if let Some(tree) = self.trees.iter_mut().min_by_key(|tree| tree.inner.len()) {
                tree.inner.push(host.clone());
            }
        }
        self.balance();
        let places = self.trees.iter().enumerate().flat_map(|(stripe, tree)| {
            tree.inner.iter().enumerate().map(move |(place, host)| (host.clone(), (stripe, place)))
        });
        self.places = places.collect();
        self.racks = members.into_iter().map(|member| (member.host, member.rack)).collect();
        self.hang();
        self.acquaint(acquainted);
    }

    /// A tree with too few inner nodes would be slow: those that were planted last in the fullest tree move there.
    fn balance(&mut self) {
        let sum: usize = self.trees.iter().map(|tree| tree.inner.len()).sum();
        let most = 1 + sum / (STRIPES * BALANCE_SHARE);
        for _ in 0..sum {
            let by_size = |tree: &&mut Tree<H>| tree.inner.len();
            let least = self.trees.iter().map(|tree| tree.inner.len()).min().unwrap_or_default();
            let Some(fullest) = self.trees.iter_mut().max_by_key(by_size) else { return };
            if fullest.inner.len() - least <= most {
                return;
            }
            let Some(moved) = fullest.inner.pop() else { return };
            if let Some(tree) = self.trees.iter_mut().min_by_key(by_size) {
                tree.inner.push(moved);
            }
        }
    }

    /// Hangs the leaves of all trees: what can stay stays; then beside others of the rack; then where there is room.
    fn hang(&mut self) {
        let mut unused: Vec<H> = Vec::new();
        let mut order: Vec<usize> = (0..STRIPES).collect();
        // What the trees with the most inner nodes leave over, the others need.
        order.sort_by_key(|stripe| std::cmp::Reverse(self.trees.get(*stripe).map_or(0, |tree| tree.inner.len())));
        for stripe in order {
            let Some(tree) = self.trees.get(stripe) else { continue };
            let mut room = self.room(tree);
            let standing: BTreeSet<&H> = tree.inner.iter().collect();
            let (mut leaves, mut waiting) = (BTreeMap::new(), Vec::new());
            for host in self.racks.keys().filter(|host| !standing.contains(host) && !self.shunned.contains(*host)) {
                let before = tree.leaves.get(host).filter(|source| room.take(source));
                match before {
                    Some(source) => drop(leaves.insert(host.clone(), source.clone())),
                    None => waiting.push(host.clone()),
                }
            }
            waiting.retain(|host| {
                let near = self.racks.get(host).and_then(|rack| room.near(rack, &self.racks));
                let is_hung = near.is_some();
                leaves.extend(near.map(|source| (host.clone(), source)));
                !is_hung
            });
            let mut waiting = VecDeque::from(waiting);
            while let Some(host) = waiting.front() {
                let Some(source) = room.any() else { break };
                leaves.insert(host.clone(), source);
                waiting.pop_front();
            }
            while let Some(host) = waiting.pop_front() {
                // A leaf of this tree that other trees leave something over; else an inner node gives more than it gets.
                let spare = unused.iter().rposition(|it| *it != host && leaves.contains_key(it));
                let source = match spare {
                    Some(at) => Source::Host(unused.swap_remove(at)),
                    None if tree.inner.is_empty() => self
                        .sources
                        .get(leaves.len() % self.sources.len().max(1))
                        .cloned()
                        .map_or(Source::Hub, Source::Host),
                    None => {
                        Source::Host(tree.inner.get(leaves.len() % tree.inner.len()).cloned().unwrap_or(host.clone()))
                    }
                };
                leaves.insert(host, source);
            }
            unused.extend(room.left());
            if let Some(tree) = self.trees.get_mut(stripe) {
                tree.leaves = leaves;
            }
        }
    }

    /// What the inner nodes of a tree can give beside what they give to one another.
    fn room(&self, tree: &Tree<H>) -> Room<H> {
        let roots = self.sources.len().max(1);
        let mut free = BTreeMap::new();
        for (place, host) in tree.inner.iter().enumerate() {
            let first = roots + place * CHILDREN_MAX;
            let taken = tree.inner.len().saturating_sub(first).min(CHILDREN_MAX);
            if taken < CHILDREN_MAX {
                free.insert(host.clone(), CHILDREN_MAX - taken);
            }
        }
        Room { free }
    }

    /// Neighbours: everybody knows some at random, those whom he knows of other swarms first, and those who chose him.
    fn acquaint(&mut self, acquainted: &mut BTreeMap<H, BTreeSet<H>>) {
        let racks = &self.racks;
        self.chosen.retain(|host, _| racks.contains_key(host));
        for chosen in self.chosen.values_mut() {
            chosen.retain(|host| racks.contains_key(host));
        }
        let hosts: Vec<&H> = racks.keys().collect();
        let mut by_rack: BTreeMap<&str, Vec<&H>> = BTreeMap::new();
        for (host, rack) in racks {
            by_rack.entry(rack).or_default().push(host);
        }
        for (host, rack) in racks {
            let near = by_rack.get(rack.as_str()).map(Vec::as_slice).unwrap_or_default();
            let has = |chosen: &BTreeMap<H, BTreeSet<H>>| chosen.get(host).map_or(0, BTreeSet::len);
            let met: Vec<&H> =
                acquainted.get(host).into_iter().flatten().filter_map(|it| Some(racks.get_key_value(it)?.0)).collect();
            let met_near: Vec<&H> = met.iter().filter(|it| racks.get(**it) == Some(rack)).copied().collect();
            for (met, among, wanted) in [(met_near, near, NEIGHBOURS_NEAR), (met, hosts.as_slice(), NEIGHBOURS_CHOSEN)]
            {
                for other in met {
                    if has(&self.chosen) >= wanted {
                        break;
                    }
                    choose(&mut self.chosen, host, other);
                }
                // Chance meets the same ones now and then: so many tries are enough.
                for _ in 0..wanted * 4 {
                    if has(&self.chosen) >= wanted || among.len() < 2 {
                        break;
                    }
                    let Some(other) = among.get(self.random.random_range(0..among.len())) else { break };
                    if *other != host {
                        choose(&mut self.chosen, host, other);
                        choose(acquainted, host, other);
                    }
                }
            }
        }
    }
}

/// Each knows the other from now on.
fn choose<H: Ord + Clone>(chosen: &mut BTreeMap<H, BTreeSet<H>>, host: &H, other: &H) {
    chosen.entry(host.clone()).or_default().insert(other.clone());
    chosen.entry(other.clone()).or_default().insert(host.clone());
}

/// Places for leaves.
struct Room<H: Ord> {
    free: BTreeMap<H, usize>,
}

impl<H: Ord + Clone> Room<H> {
    fn take(&mut self, source: &Source<H>) -> bool {
        let Source::Host(host) = source else { return false };
        let Some(free) = self.free.get_mut(host) else { return false };
        *free -= 1;
        if *free == 0 {
            self.free.remove(host);
        }
        true
    }

    fn near(&mut self, rack: &str, racks: &BTreeMap<H, String>) -> Option<Source<H>> {
        if rack.is_empty() {
            return None;
        }
        let host = self.free.keys().find(|host| racks.get(host).is_some_and(|its| its == rack))?;
        let source = Source::Host(host.clone());
        self.take(&source).then_some(source)
    }

    fn any(&mut self) -> Option<Source<H>> {
        let source = Source::Host(self.free.keys().next()?.clone());
        self.take(&source).then_some(source)
    }

    fn left(self) -> impl Iterator<Item = H> {
        self.free.into_iter().flat_map(|(host, free)| std::iter::repeat_n(host, free))
    }
}
