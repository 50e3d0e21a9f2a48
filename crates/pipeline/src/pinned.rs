//! Images of others: a service that only names an `image:` is pinned to a digest and copied into the hub's registry.

use api::ServiceName;
use client::ClientError;
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

/// Pins an image and copies it, an index with all its images: from its own registry, or, when that cannot be asked, from
/// the build engine.
///
/// # Errors
/// The reference is not one, or the image can be had from neither.
pub(crate) async fn pin(
    runner: &Runner,
    log: &RunLog,
    service: &ServiceName,
    reference: &str,
    repository: &RepositoryName,
) -> Result<Pinned, Error> {
    let unavailable =
        |why: String| Error::ImageUnavailable { service: service.to_string(), image: reference.to_owned(), why };
    let from: Reference = reference.parse().map_err(|error: oci::ReferenceError| unavailable(error.to_string()))?;
    let tag = format!("pinned-{}", Digest::sha256_of(from.to_string().as_bytes()).short());
    let to = Reference::new(&runner.config.registry_address, repository.clone());
    let to = to.map_err(|error| unavailable(format!("the hub's registry_address: {error}")))?;
    let to = to.with_tag(tag.parse().map_err(|error: oci::NameError| unavailable(error.to_string()))?);
    log.service_line(service, format!("copying {from}")).await;
    let refused = match runner.client.copy(&from, &to).await {
        Ok(copied) => return Ok(Pinned { digest: copied.digest, origin: format!("copied from {from}") }),
        Err(error) => error,
    };
    let may_be_had_otherwise = matches!(
        refused,
        ClientError::Unreachable { .. }
            | ClientError::Denied { .. }
            | ClientError::Busy { .. }
            | ClientError::Status { .. }
    );
    let name = with_tag(reference);
    if !may_be_had_otherwise || runner.engine.image_inspect(&name).await?.is_none() {
        return Err(unavailable(refused.to_string()));
    }
    log.service_line(service, format!("{refused}; taking {reference} as the build engine has it")).await;
    let to = to.to_string();
    runner.engine.image_tag(&name, &to).await?;
    let pushed = runner.engine.image_push(&to, Progress::none()).await?;
    let digest =
        pushed.parse().map_err(|_| Error::PushLost { service: service.to_string(), digest: pushed.clone() })?;
    Ok(Pinned { digest, origin: format!("taken from the build engine as {reference}") })
}
