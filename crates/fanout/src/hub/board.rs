//! Which host announced what, and when. Pure: the clock comes in. Kept in memory alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use api::access::HostIdentity;
use api::fanout::{
    ANNOUNCE_BLOBS_MAX, ANNOUNCE_IMAGES_MAX, ANNOUNCE_WARNINGS_MAX, Announce, COMPLAINTS_MAX, ImageStanding,
    WARNING_BYTES_MAX,
};
use api::{HostName, Micros};
use oci::Digest;

use super::error::Error;

/// Hosts that a tracker keeps at most.
pub(super) const HOSTS_MAX: usize = 20_000;
/// Announcements of one host that are held open at once at most: an agent has one, and one that it gave up.
const HELD_MAX: u32 = 8;
/// A host that has no announcement open for so long is gone, in seconds: agents announce again at once.
pub(super) const GONE_SECONDS: u64 = 15;

/// What a host announced last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announced {
    /// Who it is by the certificate that it spoke with.
    pub(super) identity: HostIdentity,
    /// Where other hosts reach it.
    pub(super) address: SocketAddr,
    pub(super) is_edge: bool,
    pub(super) is_slow: bool,
    pub(super) complaints: Vec<HostName>,
    /// Its images, each once.
    pub(super) images: Vec<ImageStanding>,
    /// Blobs that it fetches.
    pub(super) fetching: BTreeSet<Digest>,
    /// Blobs that it gives to others.
    pub(super) whole: BTreeSet<Digest>,
    pub(super) warnings: Vec<String>,
    /// When it said so, or was last heard.
    pub(super) at: Micros,
    /// Announcements of it that are held open.
    held: u32,
}

/// The hosts.
#[derive(Debug, Default)]
pub(super) struct Board {
    hosts: BTreeMap<HostName, Announced>,
}

impl Board {
    /// Takes an announcement, which is held open from then on until [`Board::released`].
    pub(super) fn announced(
        &mut self,
        host: &HostIdentity,
        from: SocketAddr,
        announce: Announce,
        now: Micros,
    ) -> Result<(), Error> {
        check(&announce)?;
        let known = self.hosts.get(&host.host);
        if known.is_none() && self.hosts.len() >= HOSTS_MAX {
            return Err(Error::TooManyHosts { hosts: self.hosts.len() });
        }
        let held = known.map_or(0, |known| known.held).saturating_add(1);
        if held > HELD_MAX {
            return Err(Error::TooManyHeld { host: host.host.clone() });
        }
        let mut address = announce.address;
        if address.ip().is_unspecified() {
            address.set_ip(from.ip().to_canonical());
        }
        let announced = Announced {
            identity: host.clone(),
            address,
            is_edge: announce.is_edge,
            is_slow: announce.is_slow,
            complaints: announce.complaints,
            images: announce.images,
            fetching: announce.fetching.into_iter().collect(),
            whole: announce.whole.into_iter().collect(),
            warnings: announce.warnings,
            at: now,
            held,
        };
        self.hosts.insert(host.host.clone(), announced);
        Ok(())
    }

    /// An announcement was answered, or the host went away.
    pub(super) fn released(&mut self, host: &HostName, now: Micros) {
        if let Some(known) = self.hosts.get_mut(host) {
            known.held = known.held.saturating_sub(1);
            known.at = now;
        }
    }

    /// Forgets hosts that are gone or whose certificate was revoked, and says which.
    pub(super) fn expire(&mut self, revoked: &BTreeSet<&str>, now: Micros) -> Vec<HostName> {
        let is_gone = |known: &Announced| {
            revoked.contains(known.identity.serial.as_str())
                || (known.held == 0 && now.since(known.at).as_secs() >= GONE_SECONDS)
        };
        self.hosts.extract_if(.., |_, known| is_gone(known)).map(|(host, _)| host).collect()
    }

    /// Every host, by name.
    pub(super) fn hosts(&self) -> &BTreeMap<HostName, Announced> {
        &self.hosts
    }
}

/// Whether an announcement is within its bounds.
fn check(announce: &Announce) -> Result<(), Error> {
    let wrong = |what: String| Err(Error::Announce(what));
    if announce.images.len() > ANNOUNCE_IMAGES_MAX {
        return wrong(format!("{} images are more than {ANNOUNCE_IMAGES_MAX}", announce.images.len()));
    }
    let blobs = announce.fetching.len().max(announce.whole.len());
    if blobs > ANNOUNCE_BLOBS_MAX {
        return wrong(format!("{blobs} blobs are more than {ANNOUNCE_BLOBS_MAX}"));
    }
    if announce.complaints.len() > COMPLAINTS_MAX {
        return wrong(format!("{} complaints are more than {COMPLAINTS_MAX}", announce.complaints.len()));
    }
    if announce.warnings.len() > ANNOUNCE_WARNINGS_MAX {
        return wrong(format!("{} warnings are more than {ANNOUNCE_WARNINGS_MAX}", announce.warnings.len()));
    }
    if announce.warnings.iter().any(|warning| warning.len() > WARNING_BYTES_MAX) {
        return wrong(format!("a warning is longer than {WARNING_BYTES_MAX} bytes"));
    }
    if announce.address.port() == 0 {
        return wrong("port 0 is no address".to_owned());
    }
    let mut digests = BTreeSet::new();
    for image in &announce.images {
        if !digests.insert(image.digest) {
            return wrong(format!("{} is announced twice", image.digest));
        }
        if image.bytes_there > image.bytes {
            return wrong(format!("more of {} is there than it has", image.digest));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::hub) fn identity(host: &str) -> HostIdentity {
        HostIdentity { host: host.parse().unwrap(), serial: format!("{host}-1"), labels: BTreeMap::new() }
    }

    pub(in crate::hub) fn standing(image: &str, bytes_there: u64) -> ImageStanding {
        ImageStanding {
            digest: Digest::sha256_of(image.as_bytes()),
            bytes: 100,
            bytes_there,
            from_peers: bytes_there,
            from_hub: 0,
            from_disk: 0,
            bytes_per_second: 10,
            is_wanted: bytes_there < 100,
        }
    }

    pub(in crate::hub) fn announce(images: Vec<ImageStanding>) -> Announce {
        Announce {
            seen: 0,
            wait_seconds: 10,
            address: "0.0.0.0:5101".parse().unwrap(),
            is_edge: false,
            is_slow: false,
            complaints: Vec::new(),
            images,
            fetching: Vec::new(),
            whole: Vec::new(),
            warnings: Vec::new(),
        }
    }

    const FROM: &str = "[::ffff:10.0.0.7]:40000";

    #[test]
    fn a_host_is_there_while_it_waits_and_a_little_longer() {
        let (mut board, none) = (Board::default(), BTreeSet::new());
        let at = |seconds| Micros::from_seconds(1000 + seconds);
        let gone = i64::try_from(GONE_SECONDS).unwrap();
        board.announced(&identity("a"), FROM.parse().unwrap(), announce(vec![standing("i", 5)]), at(0)).unwrap();
        assert_eq!(board.hosts()[&identity("a").host].address.to_string(), "10.0.0.7:5101");
        assert!(board.expire(&none, at(10 * gone)).is_empty());
        // It announces again before the first answer is on its way.
        board.announced(&identity("a"), FROM.parse().unwrap(), announce(vec![standing("i", 9)]), at(1)).unwrap();
        board.released(&identity("a").host, at(2));
        assert!(board.expire(&none, at(2 + gone)).is_empty());
        board.released(&identity("a").host, at(3));
        assert!(board.expire(&none, at(2 + gone)).is_empty());
        assert_eq!(board.expire(&none, at(3 + gone)), [identity("a").host]);
        assert!(board.hosts().is_empty());
    }

    #[test]
    fn a46_a_host_holds_few_announcements_open() {
        let mut board = Board::default();
        let mut announced = || board.announced(&identity("a"), FROM.parse().unwrap(), announce(Vec::new()), Micros(1));
        for _ in 0..HELD_MAX {
            announced().unwrap();
        }
        assert!(matches!(announced(), Err(Error::TooManyHeld { .. })));
        board.released(&identity("a").host, Micros(1));
        board.announced(&identity("a"), FROM.parse().unwrap(), announce(Vec::new()), Micros(1)).unwrap();
    }

    #[test]
    fn a33_a_host_whose_certificate_was_revoked_is_out_although_it_waits() {
        let mut board = Board::default();
        for host in ["a", "b"] {
            board.announced(&identity(host), FROM.parse().unwrap(), announce(Vec::new()), Micros(1)).unwrap();
        }
        assert_eq!(board.expire(&BTreeSet::from(["b-1"]), Micros(2)), [identity("b").host]);
        assert_eq!(board.hosts().len(), 1);
    }

    #[test]
    fn a36_what_is_out_of_bounds_is_refused_and_changes_nothing() {
        let many = (0..=ANNOUNCE_IMAGES_MAX).map(|n| standing(&n.to_string(), 0)).collect();
        let long = "x".repeat(WARNING_BYTES_MAX + 1);
        let warnings = vec![String::new(); ANNOUNCE_WARNINGS_MAX + 1];
        let mut board = Board::default();
        for wrong in [
            announce(many),
            announce(vec![standing("i", 0), standing("i", 0)]),
            announce(vec![standing("i", 101)]),
            Announce { warnings: vec![long], ..announce(Vec::new()) },
            Announce { warnings, ..announce(Vec::new()) },
            Announce { fetching: vec![standing("i", 0).digest; ANNOUNCE_BLOBS_MAX + 1], ..announce(Vec::new()) },
            Announce { whole: vec![standing("i", 0).digest; ANNOUNCE_BLOBS_MAX + 1], ..announce(Vec::new()) },
            Announce { address: "10.0.0.1:0".parse().unwrap(), ..announce(Vec::new()) },
        ] {
            let refused = board.announced(&identity("a"), FROM.parse().unwrap(), wrong, Micros(1));
            assert!(matches!(refused, Err(Error::Announce(_))), "{refused:?}");
            assert!(board.hosts().is_empty());
        }
    }
}
