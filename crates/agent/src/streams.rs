//! Output of containers, sent to the hub while somebody there wants it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::agent::{Desired, LogStreamRequest};
use api::delivery::{LOG_TAIL_LINES_MAX, LogLine};
use api::{HostName, Micros, Problem, lines};
use engine::ensure::log_tail;
use engine::{Engine, EngineError, Labels, LogOptions, LogStream};
use futures::{Stream, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::host::names::{LABEL_APP, LABEL_ENV, LABEL_HOST, LABEL_SERVICE, Member, Role};
use crate::hub::HubClient;

/// The most streams at once; further ones wait until one ends.
const STREAMS_MAX: usize = 64;
/// Lines that wait to be sent; a slow reader slows the reading of logs.
const LINES_WAITING_MAX: usize = 256;
/// The most bytes of one line; longer ones are cut.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// How often a followed service is looked at for new containers.
const CONTAINERS_AGAIN_MILLIS: u64 = 1_000;

/// Sends what is wanted until `shutdown`.
pub async fn run(
    host: HostName,
    engine: Arc<dyn Engine>,
    hub: Arc<HubClient>,
    mut desired: watch::Receiver<Option<Arc<Desired>>>,
    shutdown: CancellationToken,
) {
    // A stream that ended stays here while the hub still lists it, so that nothing is sent twice.
    let mut streams: BTreeMap<String, AbortOnDropHandle<()>> = BTreeMap::new();
    loop {
        let wanted: Vec<LogStreamRequest> =
            desired.borrow_and_update().as_ref().map(|desired| desired.streams.wanted.clone()).unwrap_or_default();
        streams.retain(|id, _stream| wanted.iter().any(|request| request.id == *id));
        for request in wanted {
            if streams.contains_key(&request.id) || streams.len() >= STREAMS_MAX {
                continue;
            }
            let (host, engine, hub, id) = (host.clone(), engine.clone(), hub.clone(), request.id.clone());
            let sending = tokio::spawn(async move {
                let id = request.id.clone();
                let lines = lines::encode(read(host, engine, request));
                if let Err(error) = hub.logs(&id, lines).await {
                    tracing::info!(%error, stream = id, "a log stream ended");
                }
            });
            streams.insert(id, AbortOnDropHandle::new(sending));
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = desired.changed() => if changed.is_err() { return },
        }
    }
}

/// The lines that a request asks for: those of the past in the order of time, then, if it follows, new ones as they come.
fn read(
    host: HostName,
    engine: Arc<dyn Engine>,
    request: LogStreamRequest,
) -> impl Stream<Item = api::Result<LogLine>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(LINES_WAITING_MAX);
    let reading = AbortOnDropHandle::new(tokio::spawn(async move {
        let reader = Reader { host, engine, request, sender: sender.clone() };
        if let Err(error) = reader.run().await {
            let problem = Problem::new(502, "logs-broken", "The output could not be read").detail(error.to_string());
            // Nobody reads any more: nobody to tell.
            let _gone = sender.send(Err(problem)).await;
        }
    }));
    futures::stream::unfold((receiver, reading), |(mut receiver, reading)| async move {
        let line = receiver.recv().await?;
        Some((line, (receiver, reading)))
    })
}

struct Reader {
    host: HostName,
    engine: Arc<dyn Engine>,
    request: LogStreamRequest,
    sender: mpsc::Sender<api::Result<LogLine>>,
}

impl Reader {
    async fn run(&self) -> Result<(), EngineError> {
        let begun = Micros::now();
        let mut past = Vec::new();
        let mut read_to: BTreeMap<String, Micros> = BTreeMap::new();
        for member in self.members().await? {
            let lines = self.request.tail_lines.min(LOG_TAIL_LINES_MAX);
            let tail = if lines == 0 { Vec::new() } else { log_tail(self.engine.as_ref(), member.id(), lines).await? };
            read_to.insert(member.container.id.clone(), tail.last().map_or(begun, |line| line.at));
            past.extend(tail.into_iter().map(|line| line_of(&self.host, &member, line)));
        }
        past.sort_by_key(|line| line.at);
        for line in past {
            if self.sender.send(Ok(line)).await.is_err() {
                return Ok(());
            }
        }
        if self.request.follow { self.follow(read_to).await } else { Ok(()) }
    }

    async fn follow(&self, mut read_to: BTreeMap<String, Micros>) -> Result<(), EngineError> {
        let mut following: JoinSet<(String, Option<Micros>)> = JoinSet::new();
        let mut followed: BTreeSet<String> = BTreeSet::new();
        loop {
            for member in self.members().await? {
                if !member.is_running() || !followed.insert(member.container.id.clone()) {
                    continue;
                }
                let after = read_to.get(member.id()).copied();
                let options = LogOptions { tail_lines: None, since: after, follow: true };
                let mut lines = self.engine.container_logs(member.id(), options).await?;
                let (sender, host) = (self.sender.clone(), self.host.clone());
                following.spawn(async move {
                    let mut last = after;
                    while let Some(Ok(line)) = lines.next().await {
                        // The engine may count `since` in whole seconds.
                        let at = line.at;
                        if last.is_none_or(|last| at >= last) && Some(at) != after {
                            last = Some(at);
                            if sender.send(Ok(line_of(&host, &member, line))).await.is_err() {
                                break;
                            }
                        }
                    }
                    (member.container.id, last)
                });
            }
            tokio::select! {
                () = self.sender.closed() => return Ok(()),
                () = tokio::time::sleep(Duration::from_millis(CONTAINERS_AGAIN_MILLIS)) => {}
            }
            // One that is started again is followed again from where it was.
            while let Some(Ok((id, last))) = following.try_join_next() {
                followed.remove(&id);
                read_to.extend(last.map(|last| (id, last)));
            }
        }
    }

    async fn members(&self) -> Result<Vec<Member>, EngineError> {
        let mut labels = Labels::from([
            (LABEL_HOST.to_owned(), self.host.to_string()),
            (LABEL_ENV.to_owned(), self.request.env.to_string()),
            (LABEL_APP.to_owned(), self.request.app.to_string()),
        ]);
        if let Some(service) = &self.request.service {
            labels.insert(LABEL_SERVICE.to_owned(), service.to_string());
        }
        let containers = self.engine.container_list(&labels).await?;
        Ok(containers.into_iter().filter_map(|container| Member::read(&self.host, container)).collect())
    }
}

fn line_of(host: &HostName, member: &Member, line: engine::LogLine) -> LogLine {
    let mut text = line.text;
    if text.len() > LINE_BYTES_MAX {
        let end = (0..=LINE_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    LogLine {
        host: host.clone(),
        service: member.key.service.clone(),
        slot: match member.role {
            Role::Slot(slot) => slot,
            Role::Job(_) => 0,
        },
        at: line.at,
        stderr: line.stream == LogStream::Stderr,
        text,
    }
}
