//! What the hub knows of an image is attached to it: OCI referrers in the image's own repository, which any tool lists
//! with `GET /v2/NAME/referrers/DIGEST`, and which go when the image goes.
//!
//! - **Bills of materials**, CycloneDX 1.6 and SPDX 2.3, one layer each, under the artifact types that Trivy
//!   (`--sbom-sources oci`), oras and others look for: those of the formats themselves. They say what is in the image and
//!   not what is wrong with it, so they change only when the image is read in another way; the same contents have the same
//!   bytes and the same digest, whichever hub writes them and how often.
//! - **Evidence**: the signed statement in a Sigstore bundle 0.3, which is what cosign 3, policy controllers and Trivy read
//!   of referrers (`cosign verify-attestation --key …`); a bare DSSE envelope under `application/vnd.in-toto+json` would be
//!   taken by fewer, and older cosign's `.att` tags are tags that anyone may move. A signature is never the same twice, so
//!   what was written is noted before it is written. Another statement is made when what it says of the image changed, or
//!   is older than [`EVIDENCE_AGE_MAX`] and there are newer advisories; the one before is removed: there is one for each
//!   image and repository.
//!
//! Nothing is attached in mirrors of other registries, which take no pushes, nor to what is itself attached. Someone who
//! removes an attachment has removed it: it is written again when the image is pushed again, or says something else.
//! What fails (a quota, a full disk) is tried again a few times, told in the log, and then left until the next day.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::Micros;
use api::inspect::Finding;
use base::shutdown::Shutdown;
use base::tasks::Progress;
use bytes::Bytes;
use jiff::Timestamp;
use oci::{Descriptor, Digest, Manifest, RepositoryName, media};
use serde_json::json;

use super::Service;
use super::error::Error;
use super::evidence::{PREDICATE_TYPE, Said};
use super::examined::Haste;
use super::numbers::Numbers;
use super::store::{Attaching, Attachment, Kind, Lifted, OwnedIn, Seek, Standing};
use super::views::name;
use crate::document::{Contents, cyclonedx, spdx};

/// Components whose images are found before others get a turn.
const COMPONENTS_IN_A_ROW: u32 = 5_000;
/// Images that are looked at before others get a turn.
const IMAGES_IN_A_ROW: u32 = 32;
/// Each image is looked at so often at least: what somebody stated of it may have been taken back.
const LOOK_AGAIN: Duration = Duration::from_secs(24 * 3600);
/// Looks in a row that may fail before the image is left until the next day.
const TRIES_MAX: u32 = 6;
/// How long an image waits after the first look that failed; twice as long after each further one.
const TRY_AFTER: Duration = Duration::from_secs(15);
/// Evidence that is older is made anew when there are newer advisories, whatever they say.
const EVIDENCE_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Bytes of a document; of a longer one nothing is attached.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;

const CYCLONEDX: &str = "application/vnd.cyclonedx+json";
const SPDX: &str = "application/spdx+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// An image in a repository, and what is to be attached to it there.
struct Place<'a> {
    repository: &'a RepositoryName,
    image: &'a Digest,
    media_type: String,
    size: u64,
    known: Vec<Attachment>,
}

/// Something to be attached.
struct Artifact {
    kind: Kind,
    bytes: Bytes,
    says: String,
}

impl Service {
    /// Attaches what is missing to some of the images that are to be looked at.
    ///
    /// # Errors
    /// A database failed; the next run goes on.
    pub(super) async fn attach_some(&self, shutdown: &Shutdown) -> Result<Progress, Error> {
        if self.lease().await?.is_none() {
            return Ok(Progress::Done);
        }
        // What is said of images changes while components are compared; it wakes this when it is through.
        if self.known().await?.is_some() && !self.store().unmatched(0, 1).await?.is_empty() {
            return Ok(Progress::Done);
        }
        let components = self.store().attaching_components(COMPONENTS_IN_A_ROW).await?;
        if !components.is_empty() {
            let holders = self.store().holders(&Seek::Components(components.clone()), OwnedIn::All).await?;
            let images = holders.images.falling(&Numbers::default(), false).collect();
            self.store().attaching_images(images, components, self.now()).await?;
            return Ok(Progress::More);
        }
        let due = self.store().attaching_due(self.now(), IMAGES_IN_A_ROW).await?;
        let (begun, is_more) = (Instant::now(), due.len() == IMAGES_IN_A_ROW as usize);
        let digests: Vec<Digest> = due.iter().map(|image| image.digest).collect();
        if let Err(error @ Error::Db(_)) = self.look_ahead(&digests).await {
            return Err(error);
        }
        for image in due {
            if shutdown.has_begun() || self.lease().await?.is_none() {
                return Ok(Progress::Done);
            }
            let (next, tries) = match self.attach(&image).await {
                Ok(()) => (LOOK_AGAIN, 0),
                Err(error @ Error::Db(_)) => return Err(error),
                Err(error) if image.tries + 1 >= TRIES_MAX => {
                    tracing::warn!(image = %image.digest, %error, "nothing is attached to an image until tomorrow");
                    (LOOK_AGAIN, 0)
                }
                Err(error) => {
                    tracing::info!(image = %image.digest, %error, "attaching to an image is tried again");
                    (TRY_AFTER * 2_u32.saturating_pow(image.tries), image.tries + 1)
                }
            };
            self.store().attaching_next(image, self.now().plus(next), tries).await?;
        }
        // A new advisory may concern all images there are: others get as much time as this does.
        Ok(if is_more { Progress::After(begun.elapsed()) } else { Progress::Done })
    }

    /// Attaches what is missing to an image, in all repositories that have it.
    async fn attach(&self, due: &Attaching) -> Result<(), Error> {
        let image = &due.digest;
        let mut known = self.store().attachments(image).await?;
        // One look: who reads the evidence finds the same lifted that it says is.
        let (row, examined) = (self.image_row(image).await?, self.look_at(image, Haste::Aside).await?);
        let said = self.said(image, &row, &examined).await?;
        self.store().lifted_keep(row.number, lifted(&examined.findings), examined.is_voiced).await?;
        let mut failed = None;
        for repository in self.store().repositories_of(image).await? {
            if self.inner.registry.is_mirror(&repository)
                || !self.inner.registry.manifest_is_here(&repository, image).await?
            {
                continue;
            }
            let Some(stored) = self.inner.registry.manifest_get(&repository, &image.to_string()).await? else {
                continue;
            };
            let (here, elsewhere) = known.into_iter().partition(|one| one.repository == repository);
            known = elsewhere;
            let mut place = Place {
                repository: &repository,
                image,
                media_type: stored.media_type,
                size: stored.bytes.len() as u64,
                known: here,
            };
            // A repository that takes nothing (its quota is used up) does not keep others from it.
            match self.attach_in(&mut place, due.is_entered, row.at, &said).await {
                Ok(()) => {}
                Err(error @ Error::Db(_)) => return Err(error),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn attach_in(
        &self,
        place: &mut Place<'_>,
        is_entered: bool,
        read_at: Micros,
        said: &Said,
    ) -> Result<(), Error> {
        self.settle(place, is_entered).await?;
        let is_missing = |kind: &Kind| place.there(*kind).is_none_or(|one| one.says != read_at.0.to_string());
        let missing: Vec<Kind> = [Kind::Cyclonedx, Kind::Spdx].into_iter().filter(is_missing).collect();
        if !missing.is_empty() {
            self.put_documents(place, missing).await?;
        }
        let says = said.hash();
        if place.there(Kind::Evidence).is_none_or(|one| one.says != says || self.is_aged(one, said)) {
            let envelope = self.signed(place.image, std::slice::from_ref(place.repository), said).await?;
            let bundle = json!({
                "mediaType": BUNDLE,
                "verificationMaterial": { "publicKey": { "hint": self.key_id() } },
                "dsseEnvelope": envelope,
            });
            let bytes = Bytes::from(bundle.to_string());
            self.put(place, Artifact { kind: Kind::Evidence, bytes, says }).await?;
        }
        Ok(())
    }

    /// Attaches bills of materials.
    async fn put_documents(&self, place: &mut Place<'_>, kinds: Vec<Kind>) -> Result<(), Error> {
        let (row, mut contents, _) = self.contents_with_size(place.image, Haste::Aside).await?;
        name(&mut contents, place.image, Some(place.repository.clone()));
        let contents = Arc::new(contents);
        for kind in kinds {
            let contents = Arc::clone(&contents);
            let Some(bytes) = Haste::Aside.run(move || document(kind, &contents)).await?? else {
                tracing::info!(image = %place.image, ?kind, "a document is too long to be attached");
                continue;
            };
            self.put(place, Artifact { kind, bytes, says: row.at.0.to_string() }).await?;
        }
        Ok(())
    }

    fn is_aged(&self, evidence: &Attachment, said: &Said) -> bool {
        self.now().since(evidence.at) >= EVIDENCE_AGE_MAX && said.advisories_at().is_some_and(|at| at > evidence.at)
    }

    /// Ends what was broken off, and forgets what is not there any more, where that is to be looked at.
    async fn settle(&self, place: &mut Place<'_>, is_entered: bool) -> Result<(), Error> {
        for mut one in std::mem::take(&mut place.known) {
            let is_here = match one.standing {
                Standing::There if !is_entered => true,
                _ => self.inner.registry.manifest_is_here(place.repository, &one.manifest).await?,
            };
            match one.standing {
                Standing::Leaving => self.remove(one).await?,
                Standing::Writing if is_here => {
                    if self.store().attachment_done(one.clone()).await? {
                        one.standing = Standing::There;
                        self.take_place(place, one).await?;
                    }
                }
                Standing::There if is_here => place.known.push(one),
                Standing::Writing | Standing::There => self.store().attachment_gone(one).await?,
            }
        }
        Ok(())
    }

    /// This is attached from now on, in the place of what was.
    async fn take_place(&self, place: &mut Place<'_>, new: Attachment) -> Result<(), Error> {
        for mut one in std::mem::take(&mut place.known) {
            if one.kind != new.kind {
                place.known.push(one);
            } else if one.manifest != new.manifest {
                one.standing = Standing::Leaving;
                self.remove(one).await?;
            }
        }
        place.known.push(new);
        Ok(())
    }

    /// Removes what another took the place of. What somebody pinned, or gave an immutable tag, is theirs from then on.
    async fn remove(&self, one: Attachment) -> Result<(), Error> {
        if let Err(problem) = self.inner.registry.manifest_delete(&one.repository, &one.manifest).await {
            if problem.status >= 500 {
                return Err(problem.into());
            }
            tracing::info!(manifest = %one.manifest, %problem, "an old attachment stays");
        }
        self.store().attachment_gone(one).await
    }

    async fn put(&self, place: &mut Place<'_>, artifact: Artifact) -> Result<(), Error> {
        let registry = &self.inner.registry;
        let Artifact { kind, bytes, says } = artifact;
        let now = self.now();
        let manifest = manifest(place, kind, &bytes, now)?;
        let attachment = Attachment {
            repository: place.repository.clone(),
            manifest: Digest::sha256_of(&manifest),
            subject: *place.image,
            kind,
            says,
            standing: Standing::Writing,
            at: now,
        };
        let is_there = place.there(kind).is_some_and(|known| known.manifest == attachment.manifest);
        if !is_there {
            self.store().attachment_begin(attachment.clone()).await?;
            registry.blob_put(place.repository, bytes).await?;
            registry.blob_put(place.repository, Bytes::from_static(EMPTY)).await?;
            registry.manifest_put(place.repository, None, media::OCI_MANIFEST, manifest).await?;
        }
        let is_known = self.store().attachment_done(attachment.clone()).await?;
        // The image may have gone meanwhile, or another hub may have begun anew: nothing would ever remove it then.
        if !is_known || !registry.manifest_is_here(place.repository, place.image).await? {
            registry.manifest_delete(place.repository, &attachment.manifest).await?;
            return self.store().attachment_gone(Attachment { standing: Standing::There, ..attachment }).await;
        }
        self.take_place(place, Attachment { standing: Standing::There, ..attachment }).await
    }
}

fn lifted(findings: &[Finding]) -> Lifted {
    let lifted = findings.iter().filter(|finding| finding.lifted);
    lifted
        .map(|finding| {
            let why = finding.verdict.clone().unwrap_or_default();
            ((finding.id.clone(), finding.component.clone()), why)
        })
        .collect()
}

impl Place<'_> {
    fn there(&self, kind: Kind) -> Option<&Attachment> {
        self.known.iter().find(|one| one.kind == kind)
    }
}

/// The configuration of what has none.
const EMPTY: &[u8] = b"{}";

fn manifest(place: &Place<'_>, kind: Kind, bytes: &Bytes, now: Micros) -> Result<Bytes, Error> {
    let digest = Digest::sha256_of(bytes);
    let (artifact_type, ending) = match kind {
        Kind::Cyclonedx => (CYCLONEDX, "cdx.json"),
        Kind::Spdx => (SPDX, "spdx.json"),
        Kind::Evidence => (BUNDLE, "sigstore.json"),
    };
    let of = |annotations: &[(&str, &str)]| -> BTreeMap<String, String> {
        annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let made = Timestamp::from_microsecond(now.0).unwrap_or_default().to_string();
    let annotations = match kind {
        Kind::Cyclonedx | Kind::Spdx => BTreeMap::new(),
        Kind::Evidence => of(&[
            ("dev.sigstore.bundle.content", "dsse-envelope"),
            ("dev.sigstore.bundle.predicateType", PREDICATE_TYPE),
            ("in-toto.io/predicate-type", PREDICATE_TYPE),
            ("org.opencontainers.image.created", &made),
        ]),
    };
    let title = format!("{}-{}.{ending}", digest.algorithm().as_str(), digest.hex());
    let mut layer = descriptor(artifact_type, digest, bytes.len() as u64);
    layer.annotations = of(&[("org.opencontainers.image.title", &title)]);
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::OCI_MANIFEST.to_owned()),
        artifact_type: Some(artifact_type.to_owned()),
        config: descriptor(media::OCI_EMPTY, Digest::sha256_of(EMPTY), EMPTY.len() as u64),
        layers: vec![layer],
        subject: Some(descriptor(&place.media_type, *place.image, place.size)),
        annotations,
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|error| Error::Work(error.to_string()))?;
    Ok(Bytes::from(bytes))
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        urls: Vec::new(),
        annotations: BTreeMap::new(),
        data: None,
        platform: None,
        artifact_type: None,
    }
}

/// A bill of materials; none where it is too long.
fn document(kind: Kind, contents: &Contents) -> Result<Option<Bytes>, Error> {
    let mut out = Bounded { bytes: Vec::new(), is_full: false };
    let written = match kind {
        Kind::Spdx => spdx::write(contents, &mut out),
        _ => cyclonedx::write(contents, cyclonedx::Version::V1_6, &mut out),
    };
    match written {
        Err(_) if out.is_full => Ok(None),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(Some(out.bytes.into())),
    }
}

/// Takes as many bytes as a document may have.
struct Bounded {
    bytes: Vec<u8>,
    is_full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > DOCUMENT_BYTES_MAX {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
