//! What goes wrong, and when.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// When something happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moment {
    /// When so many copies have left the hub.
    Copies(f64),
    /// So long after what came before.
    After(Duration),
}

/// What happens to hosts, by their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// These hosts are cut off from all others, from the hub and from the tracker: whatever is sent is lost, and no
    /// connection hears of it.
    Cut(Vec<usize>),
    /// The same, but what is sent arrives once the cut is healed, as TCP sends it again.
    Hold(Vec<usize>),
    /// What the first sends to these is lost; what they send to it arrives.
    Deaf(usize, Vec<usize>),
    /// The first and these do not reach one another.
    Apart(usize, Vec<usize>),
    /// All lines are whole again.
    Heal,
    /// The processes on these hosts are killed: their connections end.
    Kill(Vec<usize>),
    /// These hosts lose power: nobody hears of it.
    PowerOff(Vec<usize>),
    /// These hosts are there again with the pieces that they had.
    Start(Vec<usize>),
    /// The tracker is killed, and has forgotten everything.
    TrackerKill,
    /// It is there again.
    TrackerStart,
    /// The hub is gone, its tracker included.
    HubKill,
}

/// What goes wrong in a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What happens, in order.
    pub steps: Vec<(Moment, Trouble)>,
}

/// Nothing goes wrong.
pub fn calm() -> Scenario {
    Scenario { name: "nothing goes wrong", steps: Vec::new() }
}

/// All that is looked at, with so many hosts.
pub fn all(hosts: usize, seed: u64) -> Vec<Scenario> {
    vec![
        halves(hosts, seed, false),
        halves(hosts, seed, true),
        tracker_restarts(seed),
        hub_is_gone(),
        uneven(hosts, seed),
        hosts_restart(hosts, seed),
    ]
}

fn chance(seed: u64) -> (StdRng, Duration) {
    let mut random = StdRng::seed_from_u64(seed);
    let pause = Duration::from_millis(random.random_range(2_000..12_000));
    (random, pause)
}

fn some(hosts: usize, share: f64, random: &mut StdRng) -> Vec<usize> {
    let mut all: Vec<usize> = (0..hosts).collect();
    all.shuffle(random);
    all.truncate((hosts as f64 * share).ceil() as usize);
    all
}

/// Half of the hosts are cut off from the other half, the hub and the tracker, for some seconds.
pub fn halves(hosts: usize, seed: u64, is_held: bool) -> Scenario {
    let (mut random, pause) = chance(seed);
    let half = some(hosts, 0.5, &mut random);
    let (name, cut) = match is_held {
        true => ("half of the hosts cut off, what was sent arrives late", Trouble::Hold(half)),
        false => ("half of the hosts cut off, what was sent is lost", Trouble::Cut(half)),
    };
    let copies = random.random_range(0.2..0.8);
    Scenario { name, steps: vec![(Moment::Copies(copies), cut), (Moment::After(pause), Trouble::Heal)] }
}

/// The tracker is killed and started while pieces spread.
pub fn tracker_restarts(seed: u64) -> Scenario {
    let (mut random, _) = chance(seed);
    let (copies, pause) = (random.random_range(0.2..0.7), random.random_range(0..3_000));
    let steps = vec![
        (Moment::Copies(copies), Trouble::TrackerKill),
        (Moment::After(Duration::from_millis(pause)), Trouble::TrackerStart),
    ];
    Scenario { name: "the tracker is started again", steps }
}

/// Once one copy is out there is neither hub nor tracker any more.
pub fn hub_is_gone() -> Scenario {
    Scenario { name: "hub and tracker gone after one copy", steps: vec![(Moment::Copies(1.0), Trouble::HubKill)] }
}

/// One host reaches few others, some are not heard by a third of the others, from the beginning or later.
pub fn uneven(hosts: usize, seed: u64) -> Scenario {
    let (mut random, _) = chance(seed);
    let but = |one: usize, others: Vec<usize>| others.into_iter().filter(|other| *other != one).collect();
    let mut steps = Vec::new();
    let few = some(hosts, 0.75, &mut random);
    let first = random.random_range(0..hosts);
    steps.push((Moment::Copies(0.0), Trouble::Apart(first, but(first, few))));
    for copies in [0.0, 0.3, 0.6] {
        let (from, to) = (random.random_range(0..hosts), some(hosts, 0.34, &mut random));
        steps.push((Moment::Copies(copies), Trouble::Deaf(from, but(from, to))));
    }
    Scenario { name: "hosts that reach or are heard by only some", steps }
}

/// One of six is killed, and one of six loses power; they are there again after some seconds.
pub fn hosts_restart(hosts: usize, seed: u64) -> Scenario {
    let (mut random, pause) = chance(seed);
    let mut killed = some(hosts, 1.0 / 3.0, &mut random);
    let off = killed.split_off(killed.len() / 2);
    let back = killed.iter().chain(&off).copied().collect();
    let steps = vec![
        (Moment::Copies(random.random_range(0.2..0.5)), Trouble::Kill(killed)),
        (Moment::After(Duration::from_millis(1500)), Trouble::PowerOff(off)),
        (Moment::After(pause), Trouble::Start(back)),
    ];
    Scenario { name: "one of three hosts restarts with its pieces", steps }
}
