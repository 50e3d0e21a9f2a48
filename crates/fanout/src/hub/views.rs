//! What is seen of images on their way: sums over what hosts announced, and which will be last and why. Pure but for the
//! calls that ask.

use std::collections::BTreeMap;

use api::fanout::{Fanout, ImageStanding, Preheat, PreheatRequest, SLOWEST_MAX, Swarm, SwarmHost};
use api::{HostName, Page};
use async_trait::async_trait;
use base::page::PAGE_ITEMS_MAX;
use oci::{Digest, RepositoryName};
use tokio::sync::watch;

use super::Service;
use super::board::Announced;
use super::error::Error;

type Hosts = BTreeMap<HostName, Announced>;

/// How long an image takes on a host at its rate, in seconds.
fn seconds_left(standing: &ImageStanding) -> Option<u64> {
    let missing = standing.bytes.saturating_sub(standing.bytes_there);
    (missing > 0 && standing.bytes_per_second > 0).then(|| missing.div_ceil(standing.bytes_per_second))
}

/// The rate in the middle of those that fetch.
fn rate_usual(standings: &[(&HostName, &Announced, &ImageStanding)]) -> u64 {
    let fetching = standings.iter().filter(|(_, _, standing)| standing.is_wanted);
    let mut rates: Vec<u64> = fetching.map(|(_, _, standing)| standing.bytes_per_second).collect();
    rates.sort_unstable();
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

/// Why a host is slower than others: what it says of itself, else what its figures say.
fn why(known: &Announced, standing: &ImageStanding, usual: u64) -> Option<String> {
    if !standing.is_wanted {
        return None;
    }
    if let Some(warning) = known.warnings.first() {
        return Some(warning.clone());
    }
    if standing.bytes_per_second == 0 {
        return Some("nothing reaches it: neither hosts nor the hub".to_owned());
    }
    if standing.bytes_per_second.saturating_mul(2) >= usual {
        return None;
    }
    if standing.from_hub > standing.from_peers {
        return Some("it takes most from the hub: other hosts do not reach it, or it does not reach them".to_owned());
    }
    Some(format!("its rate is less than half of the usual {usual} bytes a second"))
}

fn swarm_host(host: &HostName, known: &Announced, standing: &ImageStanding, usual: u64) -> SwarmHost {
    SwarmHost {
        host: host.clone(),
        standing: standing.clone(),
        seconds_left: seconds_left(standing),
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
    let usual = rate_usual(standings);
    let mut fetching: Vec<_> = standings.iter().filter(|(_, _, standing)| standing.is_wanted).collect();
    // Who does not move will be last, then who takes longest.
    fetching.sort_by_key(|(_, _, standing)| std::cmp::Reverse(seconds_left(standing).unwrap_or(u64::MAX)));
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
        seconds_left: fetching.first().and_then(|(_, _, standing)| seconds_left(standing)),
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
    let usual = rate_usual(&standings);
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
        let repository = |digest: &Digest| state.repositories.get(digest).cloned();
        Ok(swarm_page(state.board.hosts(), repository, after, limit.clamp(1, PAGE_ITEMS_MAX)))
    }

    async fn swarm_hosts(&self, digest: &Digest, after: Option<&str>, limit: u32) -> api::Result<Page<SwarmHost>> {
        let state = self.inner.tracking.state();
        if state.board.hosts().values().all(|known| known.images.iter().all(|image| image.digest != *digest)) {
            return Err(Error::SwarmUnknown { digest: *digest }.into());
        }
        Ok(host_page(state.board.hosts(), digest, after, limit.clamp(1, PAGE_ITEMS_MAX)))
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
            ("quick", announce(vec![at_rate("i", 50, 10)])),
            ("slow", announce(vec![from_hub])),
            ("stuck", warned),
        ]);
        let digest = standing("i", 0).digest;
        let page = swarm_page(board.hosts(), |_| None, None, 10);
        let [found] = page.items.as_slice() else { panic!("{page:?}") };
        assert_eq!((found.digest, found.bytes, found.hosts, found.done), (digest, 100, 5, 1));
        assert_eq!((found.from_peers, found.from_hub, found.hub_copies_percent), (115, 110, 110));
        assert_eq!((found.bytes_per_second, found.seconds_left), (22, None));
        let slowest: Vec<_> = found.slowest.iter().map(|slow| (slow.host.as_str(), slow.why.clone())).collect();
        assert_eq!(slowest[0], ("stuck", Some("the disk is full".to_owned())));
        assert!(slowest[1].0 == "slow" && slowest[1].1.as_ref().unwrap().contains("most from the hub"), "{slowest:?}");
        assert_eq!(slowest[2..], [("even", None), ("quick", None)]);
        assert_eq!(found.slowest[1].seconds_left, Some(38));
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
