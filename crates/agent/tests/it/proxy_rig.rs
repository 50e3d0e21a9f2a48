//! What the proxy's tests share: a running proxy, upstreams that can be held and killed, and plain clients.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use agent::proxy::client::ProxyClient;
use agent::proxy::status::{ListenerStatus, Status};
use agent::proxy::table::{Listener, Mesh, Remote, Route, Table, Upstream};
use agent::proxy::{Limits, ProxyConfig, ProxyError, run};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const SERVICE: &str = "prod/vote/vote";
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A loopback address and port that no other test, nor the system, gives to anyone else.
pub(crate) fn free_address() -> SocketAddr {
    let ip: [u8; 3] = rand::random();
    let address = SocketAddr::from(([127, ip[0].max(1), ip[1], ip[2].clamp(1, 254)], 0));
    std::net::TcpListener::bind(address).unwrap().local_addr().unwrap()
}

/// Waits until `check` gives something; fails the test when it does not.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut check: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) struct Proxy {
    pub(crate) client: ProxyClient,
    pub(crate) config: ProxyConfig,
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ProxyError>>,
    _folder: Option<TempDir>,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = ProxyConfig::new(folder.path().join("control"), folder.path().join("table.json"));
        config.limits = limits;
        let mut proxy = Self::start_at(config).await;
        proxy._folder = Some(folder);
        proxy
    }

    pub(crate) async fn start_at(config: ProxyConfig) -> Self {
        let client = ProxyClient::new(&config.control_socket);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(config.clone(), stop.clone()));
        eventually("the proxy answers", || async { client.status().await.ok() }).await;
        Self { client, config, address: free_address(), stop, task, _folder: None }
    }

    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }

    pub(crate) async fn stop(self) -> Option<TempDir> {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        self._folder
    }

    pub(crate) async fn put(&self, table: &Table) -> Status {
        self.client.put_table(table).await.unwrap()
    }

    /// Puts the next table: this proxy's listener over `locals` and `remotes`.
    pub(crate) async fn serve(&self, hold_ms: u64, locals: &[Upstream], remotes: &[Remote], mesh: Option<Mesh>) {
        let number = self.client.status().await.unwrap().number + 1;
        let mut table = self.table(number, hold_ms, locals);
        table.routes[0].remotes = remotes.to_vec();
        table.mesh = mesh;
        let status = self.put(&table).await;
        assert!(status.listeners[0].bound, "{status:?}");
    }

    pub(crate) fn table(&self, number: u64, hold_ms: u64, locals: &[Upstream]) -> Table {
        let service: agent::proxy::table::ServiceAddress = SERVICE.parse().unwrap();
        Table {
            number,
            listeners: vec![Listener {
                key: "published".into(),
                address: self.address,
                service: service.clone(),
                port: 80,
            }],
            routes: vec![Route { service, port: 80, hold_ms, locals: locals.to_vec(), remotes: vec![] }],
            mesh: None,
        }
    }

    pub(crate) async fn listener(&self) -> ListenerStatus {
        self.client.status().await.unwrap().listeners.remove(0)
    }

    /// Waits until every request and connection is over, and gives (requests, failed, cancelled).
    pub(crate) async fn counts_with_sum(&self, sum: u64) -> (u64, u64, u64) {
        eventually(&format!("{sum} requests are counted"), || async {
            let l = self.listener().await;
            let counts = (l.requests_total, l.failed_total, l.cancelled_total);
            (counts.0 + counts.1 + counts.2 >= sum).then_some(counts)
        })
        .await
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `request` on a connection of its own and reads to its end.
    pub(crate) async fn raw(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the proxy closes").unwrap();
        String::from_utf8(answer).unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: vote\r\nConnection: close\r\n\r\n")).await
    }
}

/// An upstream that answers in HTTP: `/name` with its name, `/held` with its name once released, `/headers` with the
/// request's header, anything else with the request's body.
pub(crate) struct Web {
    pub(crate) upstream: Upstream,
    pub(crate) active: Arc<AtomicU64>,
    released: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Web {
    pub(crate) async fn start(key: &str) -> Self {
        Self::start_on(key, TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn start_on(key: &str, listener: TcpListener) -> Self {
        let upstream = Upstream { key: key.into(), address: listener.local_addr().unwrap() };
        let (released, active) = (watch::Sender::new(false), Arc::new(AtomicU64::new(0)));
        let (release, busy, name) = (released.subscribe(), active.clone(), key.to_owned());
        let task = tokio::spawn(async move {
            // Dropped with this task, and every connection with it: a killed container.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (release, busy, name) = (release.clone(), busy.clone(), name.clone());
                let service =
                    service_fn(move |request| web_answer(request, name.clone(), release.clone(), busy.clone()));
                connections.spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { upstream, active, released, task }
    }

    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn web_answer(
    request: Request<Incoming>,
    name: String,
    mut release: watch::Receiver<bool>,
    active: Arc<AtomicU64>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    active.fetch_add(1, SeqCst);
    let path = request.uri().path().to_owned();
    let headers = render(request.headers());
    let body = match path.as_str() {
        "/name" => name.into(),
        "/held" => {
            let _ = release.wait_for(|released| *released).await;
            name.into()
        }
        "/headers" => headers.into(),
        _ => request.into_body().collect().await?.to_bytes(),
    };
    active.fetch_sub(1, SeqCst);
    Ok(Response::new(Full::new(body)))
}

fn render(headers: &HeaderMap) -> String {
    let mut lines: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
    lines.sort();
    lines.concat()
}

/// An upstream that does with each connection what `serve` says, over plain TCP.
pub(crate) struct Plain {
    pub(crate) upstream: Upstream,
    task: JoinHandle<()>,
}

impl Plain {
    pub(crate) async fn start<F: Future<Output = ()> + Send + 'static>(
        key: &str,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Upstream { key: key.into(), address: listener.local_addr().unwrap() };
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream));
            }
        });
        Self { upstream, task }
    }

    /// Answers every connection's first read with `answer` and closes.
    pub(crate) async fn answering(key: &str, answer: &'static str) -> Self {
        Self::start(key, move |mut stream| async move {
            let mut request = vec![0; 64 * 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        })
        .await
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A certificate authority for hosts, as PEM files in a folder.
pub(crate) struct Authority {
    folder: TempDir,
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self { folder, certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    /// Files of a certificate for `host`, listening on `listen`.
    pub(crate) fn mesh(&self, host: &str, listen: SocketAddr) -> Mesh {
        let path = |what: &str| -> PathBuf { self.folder.path().join(format!("{host}.{what}.pem")) };
        let mesh = Mesh { listen, certificate: path("certificate"), key: path("key"), ca: path("ca") };
        self.write(host, &mesh);
        mesh
    }

    /// Writes a new certificate for `host` of this authority to the files of `mesh`.
    pub(crate) fn write(&self, host: &str, mesh: &Mesh) {
        self.write_for(&format!("{host}.host.longshore.internal"), mesh);
    }

    /// Writes a new certificate for any name of this authority to the files of `mesh`.
    pub(crate) fn write_for(&self, name: &str, mesh: &Mesh) {
        use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ClientAuth, ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(&mesh.certificate, certificate.pem()).unwrap();
        std::fs::write(&mesh.key, key.serialize_pem()).unwrap();
        std::fs::write(&mesh.ca, self.certificate.pem()).unwrap();
    }
}
