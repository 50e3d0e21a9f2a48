//! A registry on a port of its own, and a small client that shows all there is of an answer.

use std::net::SocketAddr;
use std::sync::Arc;

use api::access::HostIdentity;
use base::db::DatabaseConfig;
use blobs::FileStore;
use oci::{Digest, media};
use registry::{CONTEXT, Config, Deps, MIGRATIONS, Service};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

pub(crate) struct World {
    pub(crate) service: Arc<Service>,
    pub(crate) address: SocketAddr,
    http: reqwest::Client,
    pub(crate) folder: tempfile::TempDir,
    server: tokio::task::JoinHandle<()>,
}

impl World {
    pub(crate) async fn new(database: DatabaseConfig) -> Self {
        Self::with(Config::default(), tempfile::tempdir().unwrap(), database).await
    }

    /// With `[registry]` of `hub.toml`.
    pub(crate) async fn configured(config: &str, database: DatabaseConfig) -> Self {
        Self::with(base::config::parse("hub.toml", config).unwrap(), tempfile::tempdir().unwrap(), database).await
    }

    /// With blobs in this folder.
    pub(crate) async fn in_folder(folder: tempfile::TempDir, database: DatabaseConfig) -> Self {
        Self::with(Config::default(), folder, database).await
    }

    async fn with(config: Config, folder: tempfile::TempDir, database: DatabaseConfig) -> Self {
        let blobs = Arc::new(FileStore::open(folder.path()).await.unwrap());
        let db = base::db::open(&database, CONTEXT, MIGRATIONS).await.unwrap();
        let deps = Deps { db, blobs, replica: "test".to_owned(), sources: Vec::new() };
        let service = Arc::new(Service::new(config, deps).unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let port = registry::http::main_port(Arc::clone(&service));
        let router = axum::Router::new()
            .fallback(async move |request| port.answer(request).await)
            .nest("/as-host", host_port(service.clone()))
            .merge(registry::http::images_routes(service.clone()))
            .merge(registry::http::api_routes(service.clone()));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        World { service, address, http: reqwest::Client::new(), folder, server }
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Response {
        let mut request =
            self.http.request(Method::from_bytes(method.as_bytes()).unwrap(), format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.call("GET", path, &[], "").await
    }

    pub(crate) async fn blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256_of(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let response = self.call("POST", &path, &[], bytes.to_vec()).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        digest
    }

    pub(crate) async fn manifest(&self, repository: &str, reference: &str, content: &Value) -> Response {
        let media_type = content["mediaType"].as_str().unwrap().to_owned();
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.call("PUT", &path, &[("content-type", &media_type)], content.to_string()).await
    }
}

/// The agent port: the header `labels` (`KEY=VALUE,…`) stands for the certificate of a host whose token gave it these.
/// Without it nobody has presented one.
fn host_port(service: Arc<Service>) -> axum::Router {
    let identified = async |mut request: axum::extract::Request, next: axum::middleware::Next| {
        let labels = request.headers().get("labels").map(|labels| labels.to_str().unwrap().to_owned());
        if let Some(labels) = labels {
            let labels = labels.split(',').filter_map(|label| label.split_once('='));
            request.extensions_mut().insert(HostIdentity {
                host: "web-1".parse().unwrap(),
                serial: "01".to_owned(),
                labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            });
        }
        next.run(request).await
    };
    registry::http::host_routes(service).layer(axum::middleware::from_fn(identified))
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub(crate) fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// Status and code of a refusal, which has the form that the specification asks for.
pub(crate) async fn refusal(response: Response) -> (u16, String) {
    let (status, code, _) = refusal_with_message(response).await;
    (status, code)
}

/// Status, code and message of a refusal.
pub(crate) async fn refusal_with_message(response: Response) -> (u16, String, String) {
    let status = response.status().as_u16();
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    let text = |key: &str| body["errors"][0][key].as_str().unwrap().to_owned();
    assert!(!text("message").is_empty());
    (status, text("code"), text("message"))
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256_of(bytes), "size": bytes.len() })
}

/// An image with one layer, whose bytes are these.
pub(crate) fn image(layer: &str) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": descriptor(media::OCI_CONFIG, b"{}"),
        "layers": [descriptor(media::OCI_LAYER, layer.as_bytes())],
    })
}

pub(crate) async fn push_image(world: &World, repository: &str, reference: &str, layer: &str) -> (Value, Digest) {
    world.blob(repository, b"{}").await;
    world.blob(repository, layer.as_bytes()).await;
    let image = image(layer);
    assert_eq!(world.manifest(repository, reference, &image).await.status(), StatusCode::CREATED);
    let digest = Digest::sha256_of(image.to_string().as_bytes());
    (image, digest)
}
