//! The hub as a process: started on what the crash before it left, timed until its first right answer, killed.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, set_parent_process_death_signal};
use tokio::net::TcpStream;

use super::Fault;
use super::moment::Crash;
use super::upstream::{PREFIX, REVALIDATE_SECONDS};
use crate::stage::AGENT_PORT;

/// A hub that takes longer than it may is waited for all the same, to say how long it took.
const START_MAX: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(1);
const LOG_LINES_SHOWN: usize = 12;

/// How hubs of one lane are started.
pub(super) struct Setup {
    pub(super) binary: PathBuf,
    pub(super) address: SocketAddr,
    /// For the configuration and the log, which outlive a crash of the disk.
    pub(super) folder: PathBuf,
    pub(super) recovery_max: Duration,
    /// Makes every wait for the disk a lie.
    pub(super) without_sync: bool,
}

impl Setup {
    /// Writes the configuration of the hub whose data is in `data`, and which pulls from `upstream` and keeps for a time
    /// what nobody pulls any more.
    pub(super) fn configure(
        &self,
        data: &Path,
        grace: Duration,
        upstream: SocketAddr,
        keep: Duration,
    ) -> anyhow::Result<()> {
        let agents = SocketAddr::new(self.address.ip(), AGENT_PORT);
        let text = format!(
            "listen = \"{}\"\nagent_listen = \"{agents}\"\ndata = {:?}\n\n[registry]\ngrace = \"{}s\"\n\n\
             [[registry.upstreams]]\nprefix = \"{PREFIX}\"\naddress = \"http://{upstream}\"\n\
             revalidate = \"{REVALIDATE_SECONDS}s\"\nkeep = \"{}s\"\n",
            self.address,
            data.display().to_string(),
            grace.as_secs(),
            keep.as_secs(),
        );
        std::fs::write(self.folder.join("hub.toml"), text).context("writing hub.toml")
    }

    pub(super) fn start(&self) -> anyhow::Result<Hub> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(&self.binary);
        command.arg("hub").arg("--config").arg(self.folder.join("hub.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let filter = self.without_sync.then(super::sabotage::filter);
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(move || {
                // A soak that is killed takes its hubs along.
                set_parent_process_death_signal(Some(Signal::KILL))?;
                filter.as_deref().map_or(Ok(()), super::sabotage::install)
            });
        }
        let begun = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {}", self.binary.display()))?;
        Ok(Hub { child, begun, address: self.address, recovery_max: self.recovery_max, log: self.log() })
    }

    fn log(&self) -> PathBuf {
        self.folder.join("hub.log")
    }
}

/// A hub that runs, until it is dropped.
pub(super) struct Hub {
    child: Child,
    begun: Instant,
    address: SocketAddr,
    recovery_max: Duration,
    log: PathBuf,
}

impl Hub {
    pub(super) fn crash(&self) -> Crash {
        Crash::Kill(Pid::from_child(&self.child))
    }

    /// Waits for the first right answer, and says how long it took since the start.
    pub(super) async fn answers(&mut self) -> Result<Duration, Fault> {
        loop {
            if ping(self.address).await {
                break;
            }
            let ended = self.child.try_wait().map_err(anyhow::Error::from)?;
            if ended.is_some() || self.begun.elapsed() > START_MAX {
                let how = ended.map_or("does not answer".to_owned(), |status| format!("ended with {status}"));
                return Err(Fault::Failed(format!("the hub {how} after the crash\n{}", self.log_end())));
            }
            tokio::time::sleep(PAUSE).await;
        }
        match self.begun.elapsed() {
            took if took > self.recovery_max => {
                Err(Fault::Slow(format!("the hub answered {took:.1?} after its start\n{}", self.log_end())))
            }
            took => Ok(took),
        }
    }

    /// `kill -9`, unless that has happened.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn ping(address: SocketAddr) -> bool {
    let asking = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::get("/v2/").header(header::HOST, address.to_string()).body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let is_right = response.status().is_success();
        response.into_body().collect().await?;
        anyhow::Ok(is_right)
    };
    matches!(tokio::time::timeout(START_MAX, asking).await, Ok(Ok(true)))
}
