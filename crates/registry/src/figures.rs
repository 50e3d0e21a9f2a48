//! How much the registry holds, for those who watch it: counted now and then, not for each request.

use std::sync::Arc;
use std::time::Duration;

use base::metrics::gauge;
use base::tasks::{Progress, Tasks, Wake};

use crate::{Error, Service};

/// How often it is counted. A million rows take some tenths of a second, on a connection that nobody waits for.
const COUNT_INTERVAL: Duration = Duration::from_secs(60);

pub(crate) fn spawn(service: Arc<Service>, tasks: &Tasks) {
    tasks.spawn("registry-figures", COUNT_INTERVAL, Wake::default(), move || {
        let service = Arc::clone(&service);
        async move {
            let figures = service.store.figures().await?;
            for (name, help, value) in [
                ("longshore_registry_repositories", "Repositories.", figures.repositories),
                ("longshore_registry_tags", "Tags.", figures.tags),
                ("longshore_registry_manifests", "Manifests.", figures.manifests),
                ("longshore_registry_blobs", "Blobs, each counted once whoever has it.", figures.blobs),
                ("longshore_registry_blob_bytes", "Bytes of these blobs.", figures.blob_bytes),
                ("longshore_registry_uploads_open", "Uploads that are not done.", figures.uploads),
            ] {
                gauge(name, help, &[]).set_unsigned(value);
            }
            Ok::<_, Error>(Progress::Done)
        }
    });
}
