//! Images of others: a service that only names an `image:` is pinned to a digest and copied into the hub's registry.

use api::ServiceName;
use engine::Progress;
use oci::{Digest, Reference, RepositoryName};

use crate::build::Runner;
use crate::error::Error;
use crate::inputs::with_tag;
use crate::log::RunLog;

/// An image of others in the hub's registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pinned {
    /// Its digest.
    pub(crate) digest: Digest,
    /// Where it was had from, for the provenance.
    pub(crate) origin: String,
}

/// Pins an image and copies it.
///
/// # Errors
/// The reference is not one, or the image can be had from nowhere.
pub(crate) async fn pin(
    runner: &Runner,
    log: &RunLog,
    service: &ServiceName,
    reference: &str,
    repository: &RepositoryName,
) -> Result<Pinned, Error> {
    let unavailable =
        |why: String| Error::ImageUnavailable { service: service.to_string(), image: reference.to_owned(), why };
    let parsed: Reference = reference.parse().map_err(|error: oci::ReferenceError| unavailable(error.to_string()))?;
    let engine = &runner.engine;
    let name = with_tag(reference);
    let Some(image) = engine.image_inspect(&name).await? else {
        return Err(unavailable(format!(
            "{} cannot be reached, and the build engine does not have it",
            parsed.address()
        )));
    };
    log.service_line(service, format!("taking {reference} from the build engine")).await;
    let tag = format!(
        "{}/{repository}:pinned-{}",
        runner.config.registry_address,
        Digest::sha256_of(image.id.as_bytes()).short()
    );
    engine.image_tag(&name, &tag).await?;
    let pushed = engine.image_push(&tag, Progress::none()).await?;
    let digest =
        pushed.parse().map_err(|_| Error::PushLost { service: service.to_string(), digest: pushed.clone() })?;
    Ok(Pinned { digest, origin: format!("taken from the build engine as {reference}") })
}
