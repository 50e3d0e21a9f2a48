//! A hub of its own over a data folder, as a process, and what is asked of it over HTTP.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use api::client::HubClient;
use base::guard::TokenFile;
use bytes::Bytes;
use oci::{Digest, RepositoryName, media};
use rustix::process::{Pid, Signal, kill_process};

/// How long the hub may take until it answers, or until it has ended.
const PROCESS_SECONDS_MAX: u64 = 120;

/// A hub that runs.
pub(crate) struct Hub {
    child: Ended,
    address: SocketAddr,
    pub(crate) client: HubClient,
    http: reqwest::Client,
}

/// What the API refused.
pub(crate) fn refused(problem: api::Problem) -> anyhow::Error {
    anyhow::anyhow!("{problem:?}")
}

impl Hub {
    /// Starts it and waits until it answers.
    pub(crate) async fn start(binary: &Path, data: &Path) -> anyhow::Result<Self> {
        let free = || anyhow::Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?);
        let (address, agents): (SocketAddr, SocketAddr) = (free()?, free()?);
        let mut command = Command::new(binary);
        command.arg("--data").arg(data).arg("hub");
        command.args(["--listen", &address.to_string(), "--agent-listen", &agents.to_string()]);
        let log = std::fs::File::create(data.join("hub.log"))?;
        let mut child = Ended(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?);
        let http = reqwest::Client::new();
        let url: url::Url = format!("http://{address}/").parse()?;
        let begun = Instant::now();
        loop {
            if http.get(url.join("healthz")?).send().await.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            if let Some(status) = child.0.try_wait()? {
                bail!("the hub ended with {status}: {}", std::fs::read_to_string(data.join("hub.log"))?);
            }
            ensure!(begun.elapsed().as_secs() < PROCESS_SECONDS_MAX, "the hub does not answer at {address}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let client = HubClient::new(url, Some(TokenFile::create_or_read(data)?)).map_err(refused)?;
        Ok(Self { child, address, client, http })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn blob_push(&self, repository: &RepositoryName, content: &Bytes) -> anyhow::Result<()> {
        let digest = Digest::sha256_of(content);
        let url = self.url(&format!("/v2/{repository}/blobs/uploads/?digest={digest}"));
        self.http.post(url).body(content.clone()).send().await?.error_for_status()?;
        Ok(())
    }

    pub(crate) async fn manifest_push(
        &self,
        repository: &RepositoryName,
        tag: &str,
        manifest: String,
    ) -> anyhow::Result<()> {
        let put = self.http.put(self.url(&format!("/v2/{repository}/manifests/{tag}")));
        let put = put.header("content-type", media::OCI_MANIFEST).body(manifest);
        put.send().await?.error_for_status()?;
        Ok(())
    }

    /// Gets a path, and says how many seconds it took until the answer was here whole.
    pub(crate) async fn get_seconds(&self, path: &str) -> anyhow::Result<f64> {
        let begun = Instant::now();
        let answer = self.http.get(self.url(path)).send().await?;
        let status = answer.status();
        let body = answer.bytes().await?;
        let seconds = begun.elapsed().as_secs_f64();
        ensure!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&body));
        Ok(seconds)
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child.0), Signal::TERM)?;
        let begun = Instant::now();
        while self.child.0.try_wait()?.is_none() {
            ensure!(begun.elapsed().as_secs() < PROCESS_SECONDS_MAX, "the hub does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// A process that ends with whoever started it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
