//! Which hosts are not to be dealt with: one wrong piece drops a host, three ban it; those that promise and do not send are
//! asked last, then not at all for a while.

use std::collections::HashMap;
use std::time::Duration;

use super::{Node, Now};

/// Wrong pieces that ban a host.
const STRIKES_MAX: u32 = 3;
/// How long a host with a strike is left alone.
const STRIKE_REST: Duration = Duration::from_secs(30);
/// How long a banned host is.
const BAN: Duration = Duration::from_secs(3600);
/// Requests in a row that a host may let run out before it is asked no more for a while.
const STALLS_MAX: u32 = 3;
/// For how long.
const STALL_REST: Duration = Duration::from_secs(20);
/// Hosts that are remembered.
const HOSTS_MAX: usize = 10_000;

#[derive(Debug, Default)]
struct Record {
    strikes: u32,
    avoided_until: Now,
    stalls: u32,
    resting_until: Now,
}

/// What is held against hosts.
#[derive(Debug, Default)]
pub(super) struct Trust(HashMap<Node, Record>);

impl Trust {
    fn record(&mut self, node: Node, now: Now) -> &mut Record {
        if self.0.len() >= HOSTS_MAX {
            self.0.retain(|_, record| record.avoided_until > now || record.resting_until > now);
        }
        self.0.entry(node).or_default()
    }

    /// A wrong piece; gives until when the host is not to be dealt with.
    pub(super) fn strike(&mut self, node: Node, now: Now) -> Now {
        let record = self.record(node, now);
        record.strikes += 1;
        record.avoided_until = now + if record.strikes >= STRIKES_MAX { BAN } else { STRIKE_REST };
        record.avoided_until
    }

    /// A request ran out, or was refused.
    pub(super) fn stall(&mut self, node: Node, now: Now) {
        let record = self.record(node, now);
        record.stalls += 1;
        if record.stalls >= STALLS_MAX {
            record.resting_until = now + STALL_REST;
        }
    }

    /// A parent that does not send what it says it has: others should know, and it is asked for nothing else for a while.
    pub(super) fn silent(&mut self, node: Node, now: Now) {
        self.record(node, now).resting_until = now + STALL_REST;
    }

    /// A right piece.
    pub(super) fn delivered(&mut self, node: Node) {
        if let Some(record) = self.0.get_mut(&node) {
            (record.stalls, record.resting_until) = (0, Now::ZERO);
        }
    }

    /// Whether a host is not to be connected with.
    pub(super) fn is_avoided(&self, node: Node, now: Now) -> bool {
        self.0.get(&node).is_some_and(|record| record.avoided_until > now)
    }

    /// Whether a host is not to be asked.
    pub(super) fn is_resting(&self, node: Node, now: Now) -> bool {
        self.0.get(&node).is_some_and(|record| record.resting_until > now || record.avoided_until > now)
    }

    /// How many requests in a row ran out.
    pub(super) fn stalls(&self, node: Node) -> u32 {
        self.0.get(&node).map_or(0, |record| record.stalls)
    }

    /// Hosts that the tracker should know of.
    pub(super) fn complaints(&self, now: Now) -> impl Iterator<Item = Node> + '_ {
        let held = move |record: &Record| record.strikes > 0 || record.resting_until > now;
        self.0.iter().filter(move |(_, record)| held(record)).map(|(node, _)| *node)
    }
}
