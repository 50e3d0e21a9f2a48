//! What is seen of images on their way: sums over what hosts announced, and which will be last and why. Pure but for the
//! calls that ask.

use std::collections::{BTreeMap, BTreeSet};

use api::delivery::ReleaseId;
use api::fanout::{Fanout, ImageStanding, Preheat, PreheatRequest, RELEASE_IMAGES_MAX, SLOWEST_MAX, Swarm, SwarmHost};
use api::{HostName, Page};
use async_trait::async_trait;
use base::page::PAGE_ITEMS_MAX;
use base::units::Size;
use oci::{Digest, RepositoryName};
use tokio::sync::watch;

use super::Service;
use super::board::Announced;
use super::error::Error;

/// A host is behind others that lacks more than one of so many bytes of the image that they have.
const BEHIND_SHARE: u64 = 10;

type Hosts = BTreeMap<HostName, Announced>;

/// What is usual among the hosts that fetch an image: the values in the middle.
#[derive(Debug, Clone, Copy, Default)]
struct Usual {
    bytes_per_second: u64,
    bytes_there: u64,
}

fn usual(standings: &[(&HostName, &Announced, &ImageStanding)]) -> Usual {
    let fetching = || standings.iter().map(|(_, _, standing)| *standing).filter(|standing| standing.is_wanted);
    let middle = |mut values: Vec<u64>| {
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Usual {
        // Those that stand still are none to be compared with.
        bytes_per_second: middle(fetching().map(|it| it.bytes_per_second).filter(|rate| *rate > 0).collect()),
        bytes_there: middle(fetching().map(|it| it.bytes_there).collect()),
    }
}

/// Why a host is slower than others: what it says of itself, else what its figures say.
fn why(known: &Announced, standing: &ImageStanding, usual: Usual) -> Option<String> {
    if !standing.is_wanted {
        return None;
    }
    if let Some(warning) = known.warnings.first() {
        return Some(warning.clone());
    }
    if standing.bytes_per_second == 0 {
        let is_begun = standing.bytes_there > standing.from_disk;
        return Some(if is_begun { "nothing has come for some seconds" } else { "nothing has come yet" }.to_owned());
    }
    if standing.bytes_per_second.saturating_mul(2) < usual.bytes_per_second {
        // An edge takes from the hub for others.
        if standing.from_hub > standing.from_peers && !known.is_edge {
            let text = "it takes most from the hub: other hosts do not reach it, or it does not reach them";
            return Some(text.to_owned());
        }
        return Some(format!("its rate is less than half of the usual {}/s", Size(usual.bytes_per_second)));
    }
    let is_behind = usual.bytes_there.saturating_sub(standing.bytes_there) > standing.bytes / BEHIND_SHARE;
    is_behind.then(|| "its rate is as usual: it began later than others, or had less of it on its disk".to_owned())
}

fn swarm_host(host: &HostName, known: &Announced, standing: &ImageStanding, usual: Usual) -> SwarmHost {
    SwarmHost {
        host: host.clone(),
        standing: standing.clone(),
        seconds_left: standing.seconds_left(),
        why: why(known, standing, usual),
        at: known.at,
    }
}

fn swarm(
    digest: Digest,
    standings: &[(&HostName, &Announced, &ImageStanding)],
    repository: Option<RepositoryName>,
) -> Swarm {
    let all = || standings.iter().map(|(_, _, standing)| *standing);
    let sum = |of: fn(&ImageStanding) -> u64| all().map(of).fold(0, u64::saturating_add);
    let bytes = all().map(|standing| standing.bytes).max().unwrap_or_default();
    let from_hub = sum(|standing| standing.from_hub);
    let usual = usual(standings);
    let mut fetching: Vec<_> = standings.iter().filter(|(_, _, standing)| standing.is_wanted).collect();
    // Who does not move will be last, then who takes longest.
    fetching.sort_by_key(|(_, _, standing)| std::cmp::Reverse(standing.seconds_left().unwrap_or(u64::MAX)));
    let slowest = fetching.iter().take(SLOWEST_MAX);
    Swarm {
        digest,
        repository,
        bytes,
        hosts: standings.len() as u64,
        done: all().filter(|standing| standing.bytes_there == standing.bytes && !standing.is_wanted).count() as u64,
        from_peers: sum(|standing| standing.from_peers),
        from_hub,
        from_disk: sum(|standing| standing.from_disk),
        hub_copies_percent: from_hub.saturating_mul(100).checked_div(bytes).unwrap_or_default(),
        bytes_per_second: sum(|standing| if standing.is_wanted { standing.bytes_per_second } else { 0 }),
        seconds_left: fetching.first().and_then(|(_, _, standing)| standing.seconds_left()),
        slowest: slowest.map(|(host, known, standing)| swarm_host(host, known, standing, usual)).collect(),
    }
}

fn standings<'a>(hosts: &'a Hosts, digest: &Digest) -> Vec<(&'a HostName, &'a Announced, &'a ImageStanding)> {
    let standing = |known: &'a Announced| known.images.iter().find(|image| image.digest == *digest);
    hosts.iter().filter_map(|(host, known)| standing(known).map(|standing| (host, known, standing))).collect()
}

/// A page of images: those that are being fetched first, then by digest. The cursor is `0` or `1` for that, and the digest.
fn swarm_page(
    hosts: &Hosts,
    repository: impl Fn(&Digest) -> Option<RepositoryName>,
    after: Option<&str>,
    limit: u32,
) -> Page<Swarm> {
    let mut by_image: BTreeMap<Digest, Vec<(&HostName, &Announced, &ImageStanding)>> = BTreeMap::new();
    for (host, known) in hosts {
        for image in &known.images {
            by_image.entry(image.digest).or_default().push((host, known, image));
        }
    }
    let cursor = |digest: &Digest, is_wanted: bool| format!("{}{digest}", u8::from(!is_wanted));
    let order: BTreeMap<String, Digest> = by_image
        .iter()
        .map(|(digest, standings)| (cursor(digest, standings.iter().any(|(_, _, it)| it.is_wanted)), *digest))
        .collect();
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
    let rest = order.into_iter().filter(|(cursor, _)| after.is_none_or(|after| cursor.as_str() > after)).take(wanted);
    let items = rest.filter_map(|(cursor, digest)| {
        let standings = by_image.get(&digest)?;
        Some((cursor, swarm(digest, standings, repository(&digest))))
    });
    Page::from_surplus(items.collect(), limit, |(cursor, _): &(String, Swarm)| cursor.clone()).map(|(_, swarm)| swarm)
}

fn host_page(hosts: &Hosts, digest: &Digest, after: Option<&str>, limit: u32) -> Page<SwarmHost> {
    let standings = standings(hosts, digest);
    let usual = usual(&standings);
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
    let rest = standings.iter().filter(|(host, _, _)| after.is_none_or(|after| host.as_str() > after)).take(wanted);
    let items = rest.map(|(host, known, standing)| swarm_host(host, known, standing, usual)).collect();
    Page::from_surplus(items, limit, |host: &SwarmHost| host.host.to_string())
}

#[async_trait]
impl Fanout for Service {
    async fn preheat(&self, request: PreheatRequest) -> api::Result<Preheat> {
        Ok(self.preheat_order(request).await?)
    }

    async fn swarm_list(&self, after: Option<&str>, limit: u32) -> api::Result<Page<Swarm>> {
        let state = self.inner.tracking.state();
        let repository = |digest: &Digest| state.repository(digest);
        Ok(swarm_page(state.board.hosts(), repository, after, limit.clamp(1, PAGE_ITEMS_MAX)))
    }

    async fn swarm_hosts(&self, digest: &Digest, after: Option<&str>, limit: u32) -> api::Result<Page<SwarmHost>> {
        let state = self.inner.tracking.state();
        if state.board.hosts().values().all(|known| known.images.iter().all(|image| image.digest != *digest)) {
            return Err(Error::SwarmUnknown { digest: *digest }.into());
        }
        Ok(host_page(state.board.hosts(), digest, after, limit.clamp(1, PAGE_ITEMS_MAX)))
    }

    async fn release_swarms(&self, releases: &[ReleaseId]) -> api::Result<Vec<Swarm>> {
        let mut digests = BTreeSet::new();
        for release in releases.iter().take(RELEASE_IMAGES_MAX) {
            match self.inner.rollouts.release_image(&release.to_string()).await {
                Ok((_id, image)) => digests.extend(self.digests_of(&image).await?),
                Err(problem) if problem.status < 500 => {}
                Err(problem) => return Err(problem),
            }
        }
        let state = self.inner.tracking.state();
        let found = digests.into_iter().filter_map(|digest| {
            let standings = standings(state.board.hosts(), &digest);
            let repository = state.repository(&digest);
            (!standings.is_empty()).then(|| swarm(digest, &standings, repository))
        });
        Ok(found.take(RELEASE_IMAGES_MAX).collect())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.inner.tracking.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use api::Micros;
    use api::fanout::Announce;

    use super::super::board::Board;
    use super::super::board::tests::{announce, identity, standing};
    use super::*;

    fn board(hosts: Vec<(&str, Announce)>) -> Board {
        let mut board = Board::default();
        for (host, announce) in hosts {
            board.announced(&identity(host), "10.0.0.1:4000".parse().unwrap(), announce, Micros(1)).unwrap();
        }
        board
    }

    fn at_rate(image: &str, bytes_there: u64, bytes_per_second: u64) -> ImageStanding {
        ImageStanding { bytes_per_second, ..standing(image, bytes_there) }
    }

    #[test]
    fn sums_are_those_of_the_hosts_and_the_slowest_says_why() {
        let from_hub = ImageStanding { from_hub: 20, from_peers: 5, ..at_rate("i", 25, 2) };
        let warned = Announce { warnings: vec!["the disk is full".to_owned()], ..announce(vec![at_rate("i", 0, 0)]) };
        let board = board(vec![
            ("done", announce(vec![ImageStanding { from_hub: 90, from_peers: 10, ..at_rate("i", 100, 0) }])),
            ("even", announce(vec![at_rate("i", 50, 10)])),
            ("late", announce(vec![at_rate("i", 30, 10)])),
            ("begins", announce(vec![at_rate("i", 0, 0)])),
            ("stands", announce(vec![at_rate("i", 50, 0)])),
            ("waits", announce(vec![at_rate("i", 50, 3)])),
            ("quick", announce(vec![at_rate("i", 50, 10)])),
            ("slow", announce(vec![from_hub])),
            ("stuck", warned),
        ]);
        let digest = standing("i", 0).digest;
        let page = swarm_page(board.hosts(), |_| None, None, 10);
        let [found] = page.items.as_slice() else { panic!("{page:?}") };
        assert_eq!((found.digest, found.bytes, found.hosts, found.done), (digest, 100, 9, 1));
        assert_eq!((found.from_peers, found.from_hub, found.hub_copies_percent), (245, 110, 110));
        assert_eq!((found.bytes_per_second, found.seconds_left), (35, None));
        let slowest = |host: &str| found.slowest.iter().find(|slow| slow.host.as_str() == host).unwrap();
        let why = |host| slowest(host).why.clone().unwrap_or_default();
        assert_eq!(why("stuck"), "the disk is full");
        assert_eq!(why("begins"), "nothing has come yet");
        assert_eq!(why("stands"), "nothing has come for some seconds");
        assert!(why("slow").contains("most from the hub"));
        assert_eq!(why("waits"), "its rate is less than half of the usual 10 B/s");
        assert!(why("late").contains("began later"));
        assert_eq!((why("even"), why("quick")), (String::new(), String::new()));
        // Who does not move will be last, then who takes longest.
        let order: Vec<_> = found.slowest.iter().map(|slow| slow.seconds_left).collect();
        assert_eq!(order, [None, None, None, Some(38), Some(17), Some(7), Some(5), Some(5)]);
    }

    #[test]
    fn pages_show_each_image_once_and_those_on_their_way_first() {
        let images = |names: &[&str], there| names.iter().map(|name| standing(name, there)).collect::<Vec<_>>();
        let board =
            board(vec![("a", announce(images(&["1", "2", "3"], 100))), ("b", announce(images(&["3", "4"], 7)))]);
        let (mut seen, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = swarm_page(board.hosts(), |_| None, after.as_deref(), 1);
            seen.extend(page.items.iter().map(|swarm| swarm.digest));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let digests = |names: &[&str]| {
            let mut digests: Vec<_> = names.iter().map(|name| standing(name, 0).digest).collect();
            digests.sort();
            digests
        };
        assert_eq!(seen, [digests(&["3", "4"]), digests(&["1", "2"])].concat());
        let hosts = host_page(board.hosts(), &standing("3", 0).digest, None, 1);
        assert_eq!((hosts.items[0].host.as_str(), hosts.next.as_deref()), ("a", Some("a")));
        assert_eq!(host_page(board.hosts(), &standing("3", 0).digest, Some("a"), 1).items[0].host.as_str(), "b");
    }
}
