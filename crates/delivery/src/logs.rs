//! Log streams: a reader asks, the hosts concerned are told with their desired state, their lines come together in one
//! bounded channel. Kept in memory alone: a stream lives as long as its reader.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::agent::{DesiredStreams, LogStreamRequest};
use api::delivery::LogLine;
use api::{HostName, Problem};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::changes::Watchers;
use crate::error::{Error, ErrorKind, problem};

/// The most streams at a time.
pub const LOG_STREAMS_MAX: usize = 64;
/// The most lines that wait for a slow reader; then the hosts wait.
pub const LOG_LINES_WAITING_MAX: usize = 1024;
/// How long the hosts have to begin, in seconds.
pub const LOG_CONNECT_SECONDS: u64 = 10;

type Line = api::Result<LogLine>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Awaited,
    Connected,
    Ended,
}

struct Open {
    request: LogStreamRequest,
    hosts: BTreeMap<HostName, Part>,
    sender: Option<mpsc::Sender<Line>>,
    /// The hosts had their time to connect.
    late: bool,
}

impl Open {
    /// Ends the stream when no host can add to it any more.
    fn settle(&mut self) {
        let over = |part: &Part| *part == Part::Ended || (self.late && *part == Part::Awaited);
        if self.hosts.values().all(over) {
            self.sender = None;
        }
    }
}

struct State {
    streams: BTreeMap<String, Open>,
    numbers: BTreeMap<HostName, u64>,
}

/// The open log streams.
pub(crate) struct Logs {
    state: Mutex<State>,
    /// The first number of this process, so that an agent never takes a list of the process before for a current one.
    seed: u64,
    /// How long the hosts have to begin.
    connect: Duration,
    watchers: Arc<Watchers>,
}

impl Logs {
    pub(crate) fn new(seed: u64, connect: Duration, watchers: Arc<Watchers>) -> Arc<Self> {
        let state = State { streams: BTreeMap::new(), numbers: BTreeMap::new() };
        Arc::new(Self { state: Mutex::new(state), seed, connect, watchers })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The streams that a host is to send.
    pub(crate) fn wanted(&self, host: &HostName) -> DesiredStreams {
        let state = self.lock();
        let wanted =
            state.streams.values().filter(|open| open.hosts.get(host).is_some_and(|part| *part != Part::Ended));
        DesiredStreams {
            number: state.numbers.get(host).copied().unwrap_or(self.seed),
            wanted: wanted.map(|open| open.request.clone()).collect(),
        }
    }

    fn changed<'a>(&self, mut state: MutexGuard<'_, State>, hosts: impl Iterator<Item = &'a HostName>) {
        let hosts: Vec<&HostName> = hosts.collect();
        for host in &hosts {
            *state.numbers.entry((*host).clone()).or_insert(self.seed) += 1;
        }
        drop(state);
        for host in hosts {
            self.watchers.wake(host);
        }
    }

    /// Opens a stream over these hosts. It ends when all of them have ended theirs; dropping it ends theirs.
    pub(crate) fn open(
        self: &Arc<Self>,
        request: LogStreamRequest,
        hosts: &[HostName],
    ) -> Result<BoxStream<'static, Line>, Error> {
        let (sender, receiver) = mpsc::channel(LOG_LINES_WAITING_MAX);
        let id = request.id.clone();
        let mut state = self.lock();
        if state.streams.len() >= LOG_STREAMS_MAX {
            return Err(Error::new(
                ErrorKind::LogStreamsFull,
                format!("{LOG_STREAMS_MAX} log streams are open already"),
                "End one of them (Ctrl-C in its terminal) and try again.",
            ));
        }
        let parts = hosts.iter().map(|host| (host.clone(), Part::Awaited)).collect();
        state.streams.insert(id.clone(), Open { request, hosts: parts, sender: Some(sender), late: false });
        self.changed(state, hosts.iter());
        let reader = Reader {
            receiver,
            open: OpenGuard { logs: Arc::clone(self), id },
            deadline: Some(Instant::now() + self.connect),
            missing: Vec::new(),
        };
        Ok(stream::unfold(reader, Reader::next).boxed())
    }

    /// Passes on what a host sends for a stream, until it ends or nobody reads it any more.
    pub(crate) async fn send(
        &self,
        host: &HostName,
        id: &str,
        mut lines: BoxStream<'static, Line>,
    ) -> Result<(), Error> {
        let sender = {
            let mut state = self.lock();
            let part = state.streams.get_mut(id).and_then(|open| {
                let sender = open.sender.clone()?;
                let part = open.hosts.get_mut(host)?;
                (*part == Part::Awaited).then(|| {
                    *part = Part::Connected;
                    sender
                })
            });
            part.ok_or_else(|| {
                Error::new(
                    ErrorKind::LogStreamUnknown,
                    format!("stream {id:?} is not, or no longer, wanted of {host}"),
                    "Ask for the desired state again: it lists the streams that are wanted.",
                )
            })?
        };
        let ending = EndGuard { logs: self, host, id };
        loop {
            let line = tokio::select! {
                () = sender.closed() => break,
                line = lines.next() => line,
            };
            match line {
                // Which host it comes from is what its certificate says.
                Some(Ok(line)) => {
                    if sender.send(Ok(LogLine { host: host.clone(), ..line })).await.is_err() {
                        break;
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%host, %error, "a log stream broke off");
                    break;
                }
                None => break,
            }
        }
        drop(sender);
        drop(ending);
        Ok(())
    }

    fn ended(&self, host: &HostName, id: &str) {
        let mut state = self.lock();
        if let Some(open) = state.streams.get_mut(id) {
            open.hosts.insert(host.clone(), Part::Ended);
            open.settle();
        }
        self.changed(state, std::iter::once(host));
    }

    /// The time to connect is over: gives the hosts that did not.
    fn missing(&self, id: &str) -> Vec<HostName> {
        let mut state = self.lock();
        let Some(open) = state.streams.get_mut(id) else { return Vec::new() };
        open.late = true;
        open.settle();
        let missing = open.hosts.iter().filter(|(_, part)| **part == Part::Awaited);
        missing.map(|(host, _)| host.clone()).collect()
    }
}

struct EndGuard<'a> {
    logs: &'a Logs,
    host: &'a HostName,
    id: &'a str,
}

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        self.logs.ended(self.host, self.id);
    }
}

struct OpenGuard {
    logs: Arc<Logs>,
    id: String,
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        let mut state = self.logs.lock();
        if let Some(open) = state.streams.remove(&self.id) {
            self.logs.changed(state, open.hosts.keys());
        }
    }
}

struct Reader {
    receiver: mpsc::Receiver<Line>,
    open: OpenGuard,
    deadline: Option<Instant>,
    missing: Vec<HostName>,
}

impl Reader {
    async fn next(mut self) -> Option<(Line, Self)> {
        loop {
            let line = match self.deadline {
                Some(deadline) => tokio::select! {
                    biased;
                    line = self.receiver.recv() => line,
                    () = tokio::time::sleep_until(deadline) => {
                        self.deadline = None;
                        self.missing = self.open.logs.missing(&self.open.id);
                        continue;
                    }
                },
                None => self.receiver.recv().await,
            };
            return match line {
                Some(line) => Some((line, self)),
                None if self.missing.is_empty() => None,
                None => {
                    let problem = not_connected(&std::mem::take(&mut self.missing), self.open.logs.connect);
                    Some((Err(problem), self))
                }
            };
        }
    }
}

fn not_connected(hosts: &[HostName], within: Duration) -> Problem {
    let names: Vec<&str> = hosts.iter().map(HostName::as_str).collect();
    problem(
        504,
        "log-host-silent",
        "A host did not send its log",
        &format!("no agent of {} connected within {} s", names.join(", "), within.as_secs()),
        Some("See with `longshore host ls` whether its agent runs, and ask again.".to_owned()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hosts_that_do_not_connect_are_named_and_do_not_hold_the_others() {
        let logs = Logs::new(7, Duration::from_millis(50), Arc::default());
        let request = |id: &str| LogStreamRequest {
            id: id.to_owned(),
            env: "prod".parse().unwrap(),
            app: "shop".parse().unwrap(),
            service: None,
            follow: false,
            tail_lines: 1,
        };
        let hosts: Vec<HostName> = vec!["a".parse().unwrap(), "b".parse().unwrap()];
        let mut silent = logs.open(request("one"), &hosts).unwrap();
        let problem = silent.next().await.unwrap().unwrap_err();
        assert_eq!((problem.kind.as_str(), problem.detail.contains("a, b")), ("log-host-silent", true));
        assert!(silent.next().await.is_none());

        let mut half = logs.open(request("two"), &hosts).unwrap();
        let line = LogLine {
            host: hosts[0].clone(),
            service: "web".parse().unwrap(),
            slot: 0,
            at: api::Micros(0),
            stderr: false,
            text: "x".to_owned(),
        };
        logs.send(&hosts[0], "two", stream::iter([Ok(line)]).boxed()).await.unwrap();
        assert_eq!(half.next().await.unwrap().unwrap().text, "x");
        assert!(half.next().await.unwrap().unwrap_err().detail.contains("agent of b connected"));

        let before = logs.wanted(&hosts[0]);
        drop((silent, half));
        let after = logs.wanted(&hosts[0]);
        assert!(after.wanted.is_empty() && after.number > before.number);
        let open: Vec<_> =
            (0..LOG_STREAMS_MAX).map(|id| logs.open(request(&id.to_string()), &hosts).unwrap()).collect();
        assert_eq!(logs.open(request("more"), &hosts).err().unwrap().kind(), Some(ErrorKind::LogStreamsFull));
        drop(open);
        assert!(logs.open(request("more"), &hosts).is_ok());
    }
}
