//! The servers that are compared, as processes of their own on loopback, and what the kernel counts of them.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bench::process;
use rustix::process::{Pid, Signal, kill_process};

use crate::wire::Connection;

/// How long a server may take until it answers, or until it has ended.
const PROCESS_SECONDS_MAX: u64 = 60;

/// A server under test.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Server {
    /// A hub over a data folder, from the start of its process to its first answer.
    pub(crate) async fn longshore(binary: &Path, data: &Path) -> anyhow::Result<Self> {
        let config = data.join("hub.toml");
        let (address, agents) = (free_address()?, free_address()?);
        let mut command = Command::new(binary);
        command.arg("--data").arg(data).arg("hub");
        if config.exists() {
            command.arg("--config").arg(config);
        }
        command.args(["--listen", &address.to_string(), "--agent-listen", &agents.to_string()]);
        Self::start("longshore", command, data, address, "/healthz").await
    }

    /// Debian's docker-registry over a folder.
    pub(crate) async fn docker_registry(folder: &Path) -> anyhow::Result<Self> {
        let address = free_address()?;
        let config = folder.join("config.yml");
        let root = folder.join("data");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
                 rootdirectory: {}\nhttp:\n  addr: {address}\n",
                root.display()
            ),
        )?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config);
        Self::start("docker-registry", command, folder, address, "/v2/").await
    }

    /// nginx that sends the files of `folder/www` with sendfile.
    pub(crate) async fn nginx(folder: &Path) -> anyhow::Result<Self> {
        let address = free_address()?;
        let config = folder.join("nginx.conf");
        let at = folder.display();
        std::fs::write(
            &config,
            format!(
                "daemon off;\nworker_processes 2;\npid {at}/nginx.pid;\nerror_log {at}/error.log;\n\
                 events {{ worker_connections 4096; }}\n\
                 http {{\n  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  keepalive_requests 1000000000;\n  \
                 open_file_cache max=100;\n  client_body_temp_path {at}/body;\n  proxy_temp_path {at}/proxy;\n  \
                 fastcgi_temp_path {at}/fastcgi;\n  uwsgi_temp_path {at}/uwsgi;\n  scgi_temp_path {at}/scgi;\n  \
                 server {{ listen {address}; root {at}/www; }}\n}}\n"
            ),
        )?;
        // Its workers may be another user's, who must be able to read.
        make_readable(folder)?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder).arg("-c").arg(&config);
        Self::start("nginx", command, folder, address, "/ready").await
    }

    async fn start(
        name: &'static str,
        mut command: Command,
        folder: &Path,
        address: SocketAddr,
        path: &str,
    ) -> anyhow::Result<Self> {
        let log = std::fs::File::create(folder.join("server.log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        let mut server = Server { name, address, child };
        let begun = Instant::now();
        loop {
            if let Ok(mut connection) = Connection::open(address).await
                && connection.get(path).await.is_ok_and(|answer| answer.status == 200)
            {
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                let log = std::fs::read_to_string(folder.join("server.log")).unwrap_or_default();
                bail!("{name} ended with {status}: {log}");
            }
            ensure!(begun.elapsed().as_secs() < PROCESS_SECONDS_MAX, "{name} does not answer on {address}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// CPU-seconds so far, of the process and its children.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        process::cpu_seconds_of(self.child.id())
    }

    /// Anonymous memory that is resident, in bytes.
    pub(crate) fn rss_anon_bytes(&self) -> anyhow::Result<u64> {
        process::rss_anon_bytes(self.child.id())
    }

    /// Tells it to end and waits until it has.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.end();
        Ok(())
    }

    fn end(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let begun = Instant::now();
        while begun.elapsed().as_secs() < PROCESS_SECONDS_MAX {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                _ => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn make_readable(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut at = Some(PathBuf::from(folder));
    // Only the temporary folder itself is closed to others.
    while let Some(path) = at.filter(|path| path.starts_with(std::env::temp_dir()) && *path != std::env::temp_dir()) {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        at = path.parent().map(Path::to_owned);
    }
    Ok(())
}
