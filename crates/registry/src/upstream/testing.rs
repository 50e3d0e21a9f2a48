//! Another registry on loopback, for tests of what stands before one.

use std::sync::Arc;

use axum::Router;
use base::db::DatabaseConfig;
use blobs::FileStore;
use bytes::Bytes;
use oci::{Digest, ManifestReference, media};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{CONTEXT, Config, Deps, MIGRATIONS, Service};

/// A server that ends with this value.
pub(crate) struct Served {
    pub(crate) address: String,
    task: JoinHandle<()>,
}

impl Served {
    pub(crate) async fn new(router: Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self { address, task: tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A registry that has `app:v1`, an image of one layer.
pub(crate) struct Other {
    pub(crate) server: Served,
    pub(crate) layer: Bytes,
    pub(crate) image: Bytes,
    _folder: tempfile::TempDir,
}

impl Other {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = DatabaseConfig::Sqlite { folder: folder.path().to_owned() };
        let db = base::db::open(&database, CONTEXT, MIGRATIONS).await.unwrap();
        let blobs = Arc::new(FileStore::open(folder.path()).await.unwrap());
        let deps = Deps { db, blobs, replica: "other".to_owned(), sources: Vec::new() };
        let service = Arc::new(Service::new(Config::default(), deps).unwrap());
        let repository = "app".parse().unwrap();
        let take = async |bytes: &Bytes, media_type: &str| {
            service.keeper.blob_take(&repository, bytes.clone()).await.unwrap();
            json!({ "mediaType": media_type, "digest": Digest::sha256_of(bytes), "size": bytes.len() })
        };
        let layer = Bytes::from(vec![7; 300 << 10]);
        let config = take(&Bytes::from_static(b"{}"), media::OCI_CONFIG).await;
        let layers = [take(&layer, media::OCI_LAYER).await];
        let image = json!({ "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers });
        let (image, tag) = (Bytes::from(image.to_string()), "v1".parse::<ManifestReference>().unwrap());
        service.manifest_take(&repository, &tag, &[], None, image.clone()).await.unwrap();
        let port = crate::http::main_port(service);
        let answer = async move |request| port.answer(request).await;
        let server = Served::new(axum::Router::new().fallback(answer)).await;
        Self { server, layer, image, _folder: folder }
    }
}

/// `[registry]` of a hub whose repositories under `m` are those of another registry.
pub(crate) fn mirror(address: &str, more: &str) -> Config {
    let text = format!("{more}\n[[upstreams]]\nprefix = \"m\"\naddress = \"{address}\"\nkeep = \"30d\"\n");
    base::config::parse("hub.toml", &text).unwrap()
}
