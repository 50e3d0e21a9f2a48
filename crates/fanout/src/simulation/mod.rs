//! A fleet in a discrete-event simulator: the same core as in the agent and the hub, over lines with an upload rate, a
//! download rate and a latency. A run is a function of its [`Fleet`] alone.
//!
//! Lines are as the agents' are: a host gives its connections turns, chunk by chunk; what has left it waits at the receiver
//! for its turn there, and a connection carries no more than a window that the receiver has not taken. Control messages
//! take time but no room. Hashing and disks take nothing.

mod line;
mod world;

use std::time::Duration;

pub use world::run;

/// How a host behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// As it should.
    Honest,
    /// Every piece that it sends is wrong.
    Corrupts,
    /// Promises and does not send.
    Stalls,
    /// Says that it has everything, and does not send.
    Lies,
}

/// A host of a fleet.
#[derive(Debug, Clone)]
pub struct SimulatedHost {
    /// Bytes per second that it can send.
    pub upload: f64,
    /// Bytes per second that it can receive.
    pub download: f64,
    /// When it begins to want the image.
    pub from: Duration,
    /// When it is killed, if it is, and for how long; its pieces are on its disk.
    pub killed: Option<(Duration, Option<Duration>)>,
    /// How it behaves.
    pub behaviour: Behaviour,
    /// Its rack.
    pub rack: u32,
    /// Whether it tells the tracker that it sends too slowly to be depended on.
    pub is_slow: bool,
}

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// The hosts.
    pub hosts: Vec<SimulatedHost>,
    /// Pieces of the image.
    pub pieces: u32,
    /// Bytes of a piece.
    pub piece_bytes: u32,
    /// Bytes per second that the hub can send.
    pub hub_upload: f64,
    /// How long a message is under way.
    pub latency: Duration,
    /// When the hub, its tracker included, is killed for good, or for a while.
    pub hub_killed: Option<(Duration, Option<Duration>)>,
    /// The tracker alone forgets everything at these times.
    pub tracker_restarts: Vec<Duration>,
    /// Where chance begins.
    pub seed: u64,
    /// The simulation ends at the latest then.
    pub until: Duration,
}

impl Fleet {
    /// Equal, honest hosts that all want the image at once, from a hub that sends as fast as one of them.
    pub fn equal(hosts: usize, pieces: u32, piece_bytes: u32, rate: f64) -> Self {
        let host = SimulatedHost {
            upload: rate,
            download: rate,
            from: Duration::ZERO,
            killed: None,
            behaviour: Behaviour::Honest,
            rack: 0,
            is_slow: false,
        };
        let mut fleet = Self {
            hosts: vec![host; hosts],
            pieces,
            piece_bytes,
            hub_upload: rate,
            latency: Duration::from_micros(500),
            hub_killed: None,
            tracker_restarts: Vec::new(),
            seed: 1,
            until: Duration::ZERO,
        };
        fleet.until = Duration::from_secs_f64(fleet.bound_seconds() * 20.0 + 120.0);
        fleet
    }

    /// The image's length in bytes.
    pub fn bytes(&self) -> f64 {
        f64::from(self.pieces) * f64::from(self.piece_bytes)
    }

    /// What no way of doing it can be quicker than: T* = max(S/us, S/d, N·S/(us + ΣU)), in seconds, for honest hosts.
    pub fn bound_seconds(&self) -> f64 {
        let honest = || self.hosts.iter().filter(|host| host.behaviour == Behaviour::Honest);
        let size = self.bytes();
        let slowest = honest().map(|host| host.download).fold(f64::INFINITY, f64::min);
        let upload: f64 = honest().map(|host| host.upload).sum();
        (size / self.hub_upload).max(size / slowest).max(honest().count() as f64 * size / (self.hub_upload + upload))
    }
}

/// How a fleet fared.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// For each host, when it had the whole image, in seconds since it began; none if it never had.
    pub completed_seconds: Vec<Option<f64>>,
    /// Bytes that the hub sent.
    pub hub_bytes: f64,
    /// Bytes that each host sent.
    pub sent_bytes: Vec<f64>,
    /// Right pieces that came although they were there, over all hosts.
    pub twice: u64,
    /// Wrong pieces that came, over all hosts. None is ever kept.
    pub wrong: u64,
    /// Requests that ran out or were refused, over all hosts.
    pub stalled: u64,
    /// When the hub had sent one copy, in seconds, if it did.
    pub one_copy_seconds: Option<f64>,
    /// Events that were simulated.
    pub events: u64,
}

impl Outcome {
    /// When the slowest of these hosts was done; none if one never was.
    pub fn slowest_seconds(&self, is_counted: impl Fn(usize) -> bool) -> Option<f64> {
        let counted = self.completed_seconds.iter().enumerate().filter(|(at, _)| is_counted(*at));
        counted.map(|(_, seconds)| *seconds).try_fold(0.0, |slowest: f64, seconds| Some(slowest.max(seconds?)))
    }
}

#[cfg(test)]
mod tests;
