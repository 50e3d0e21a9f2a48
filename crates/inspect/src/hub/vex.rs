//! What others attached to an image: statements on exploitability (VEX), which lift findings.
//!
//! **Who may say it.** Whoever may push to a repository that has the image may state something of it there: as a referrer
//! of the image, or of an index that has it, in such an index itself as BuildKit attests, or under cosign's `.att` tag.
//! Signatures are not looked at: a signature of somebody says less than the right to push. Findings are those of an image
//! and not of a repository, so what is stated in one repository holds wherever the same image is; each verdict names the
//! repository. What is taken back (the referrer is deleted) does not count from that moment on, for the registry is asked
//! each time.
//!
//! Read are OpenVEX, CycloneDX and CSAF documents by themselves, as in-toto statements, in DSSE envelopes and in Sigstore
//! bundles: what `oras attach`, `cosign attest` and `vexctl attest` write. A statement that names no product is about the
//! image that it is attached to.

use std::borrow::Cow;
use std::collections::BTreeSet;

use api::Micros;
use api::registry::PushedManifest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use memchr::memmem;
use oci::{Descriptor, Digest, Document, DocumentKind, Manifest, RepositoryName};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Service;
use super::error::Error;
use super::findings::timestamp;
use crate::document::read::ReadError;
use crate::document::vex::{self, Identifier, Product, Statement};
use crate::document::{Contents, Hash};
use crate::finding::{Advisories, Against, examine};

/// Referrers of an image, or of an index of it, that are looked at.
const REFERRERS_MAX: u32 = 1000;
/// Manifests of an index that say something of one of its images.
const ATTESTATIONS_MAX: usize = 8;
/// Documents that are read for an image.
const DOCUMENTS_MAX: usize = 32;
/// Layers of one referrer that are read: an `.att` tag has one for each statement.
const LAYERS_MAX: usize = 16;
/// Bytes of a document with its envelopes.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// Bytes of all documents of an image.
const ALL_BYTES_MAX: u64 = 16 << 20;
/// Statements on an image.
const STATEMENTS_MAX: usize = 10_000;
/// Bytes that the statements of one document may take, about.
const STATEMENT_BYTES_MAX: usize = 4 << 20;
/// Envelopes within one another.
const ENVELOPES_MAX: usize = 3;
/// Sentences on what was not read; the last says how many more there are.
const NOTES_MAX: usize = 10;
/// Where a referrer says of what kind its statement is.
const PREDICATE_KEYS: [&str; 3] = ["in-toto.io/predicate-type", "dev.sigstore.bundle.predicateType", "predicateType"];

/// What is stated of an image.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    statements: Vec<Statement>,
    /// The indexes that have it.
    digests: Vec<String>,
    /// A repository that has it.
    repository: Option<RepositoryName>,
    notes: Vec<String>,
    more_notes: usize,
    /// The documents that were read, each with where it is attached.
    documents: Vec<(RepositoryName, Digest, Digest)>,
    bytes: u64,
}

/// What statements follow from: the same are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Voices {
    digests: Vec<String>,
    repository: Option<RepositoryName>,
    documents: Vec<(RepositoryName, Digest, Digest)>,
    notes: Vec<String>,
}

/// Where a document is.
#[derive(Clone, Copy)]
struct At<'a> {
    repository: &'a RepositoryName,
    /// What it is attached to.
    subject: &'a Digest,
    manifest: &'a Digest,
}

impl Service {
    /// What something that was pushed says something about; none where the hub attached it itself.
    pub(super) async fn spoken_of(&self, pushed: &PushedManifest) -> Result<Option<Digest>, Error> {
        if self.store().is_attachment(&pushed.repository, &pushed.digest).await? {
            return Ok(None);
        }
        let found = self.manifest(&pushed.repository, &pushed.digest.to_string()).await?;
        Ok(found.and_then(|(_, manifest)| manifest.subject).map(|subject| subject.digest))
    }

    /// Has images looked at that were pushed, and those of which something was said.
    pub(super) async fn attach_again(&self, pushed: Vec<Digest>, spoken_of: Vec<Digest>) -> Result<(), Error> {
        let is_said = !spoken_of.is_empty();
        let count = self.store().attaching_now(pushed, true, self.now()).await?
            + self.store().attaching_now(spoken_of, false, self.now()).await?;
        if count > 0 {
            self.inner.attaching.wake();
        }
        if is_said {
            self.changed();
        }
        Ok(())
    }

    async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &str,
    ) -> Result<Option<(Digest, Manifest)>, Error> {
        let Some(stored) = self.inner.registry.manifest_get(repository, reference).await? else { return Ok(None) };
        let document = Document::parse(&stored.bytes, Some(&stored.media_type)).ok();
        Ok(document.and_then(|document| match document.kind {
            DocumentKind::Manifest(manifest) => Some((stored.digest, *manifest)),
            DocumentKind::Index(_) => None,
        }))
    }

    /// What is stated of an image where it is.
    pub(super) async fn spoken(&self, image: &Digest) -> Result<Spoken, Error> {
        let parents = self.store().parents_of(image).await?;
        let repositories = self.store().repositories_of(image).await?;
        let own = self.store().attachments(image).await?;
        let own: BTreeSet<(RepositoryName, Digest)> =
            own.into_iter().map(|one| (one.repository, one.manifest)).collect();
        let mut spoken = Spoken {
            digests: parents.iter().map(ToString::to_string).collect(),
            repository: repositories.first().cloned(),
            ..Spoken::default()
        };
        for repository in &repositories {
            for subject in std::iter::once(image).chain(&parents) {
                if self.inner.registry.manifest_is_here(repository, subject).await? {
                    self.listen(repository, subject, &own, &mut spoken).await?;
                }
            }
            for index in &parents {
                for attestation in self.attestations(repository, index, image).await? {
                    self.hear_all(repository, image, &attestation.to_string(), &mut spoken).await?;
                }
            }
        }
        Ok(spoken)
    }

    /// Reads what refers to one manifest.
    async fn listen(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        own: &BTreeSet<(RepositoryName, Digest)>,
        spoken: &mut Spoken,
    ) -> Result<(), Error> {
        let registry = &self.inner.registry;
        let referrers = registry.said_of(repository, subject, REFERRERS_MAX + 1).await?;
        if referrers.len() > REFERRERS_MAX as usize {
            spoken.note(|| {
                format!("of what is attached to {repository}@{subject}, the first {REFERRERS_MAX} alone were looked at")
            });
        }
        let may_speak = |artifact_type: &Option<String>| artifact_type.as_deref().is_none_or(speaks);
        let mut references: Vec<String> = referrers
            .into_iter()
            .take(REFERRERS_MAX as usize)
            .filter(|one| may_speak(&one.artifact_type) && !own.contains(&(repository.clone(), one.digest)))
            .map(|one| one.digest.to_string())
            .collect();
        // A mirror would ask its upstream for the tag.
        if !registry.is_mirror(repository) {
            references.push(format!("{}.att", subject.to_string().replace(':', "-")));
        }
        for reference in references {
            self.hear_all(repository, subject, &reference, spoken).await?;
        }
        Ok(())
    }

    /// What an index says of an image that it has, as BuildKit does: manifests beside the image's own, which name it.
    /// <https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md>
    async fn attestations(
        &self,
        repository: &RepositoryName,
        index: &Digest,
        image: &Digest,
    ) -> Result<Vec<Digest>, Error> {
        let registry = &self.inner.registry;
        if !registry.manifest_is_here(repository, index).await? {
            return Ok(Vec::new());
        }
        let Some(stored) = registry.manifest_get(repository, &index.to_string()).await? else { return Ok(Vec::new()) };
        let Ok(Document { kind: DocumentKind::Index(index), .. }) =
            Document::parse(&stored.bytes, Some(&stored.media_type))
        else {
            return Ok(Vec::new());
        };
        let image = image.to_string();
        let says = |one: &&Descriptor, key: &str, value: &str| one.annotations.get(key).is_some_and(|it| it == value);
        let of_image = index.manifests.iter().filter(|one| {
            says(one, "vnd.docker.reference.type", "attestation-manifest")
                && says(one, "vnd.docker.reference.digest", &image)
        });
        let mut here = Vec::new();
        for one in of_image.take(ATTESTATIONS_MAX) {
            if registry.manifest_is_here(repository, &one.digest).await? {
                here.push(one.digest);
            }
        }
        Ok(here)
    }

    /// Reads all that one manifest says of another.
    async fn hear_all(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        reference: &str,
        spoken: &mut Spoken,
    ) -> Result<(), Error> {
        let Some((digest, manifest)) = self.manifest(repository, reference).await? else { return Ok(()) };
        let at = At { repository, subject, manifest: &digest };
        let is_about = |layer: &&Descriptor| {
            let stated = PREDICATE_KEYS
                .into_iter()
                .find_map(|key| layer.annotations.get(key).or_else(|| manifest.annotations.get(key)));
            speaks(&layer.media_type) && stated.is_none_or(|stated| speaks(stated))
        };
        for layer in manifest.layers.iter().filter(is_about).take(LAYERS_MAX) {
            self.hear(at, layer, spoken).await?;
        }
        Ok(())
    }

    async fn hear(&self, at: At<'_>, layer: &Descriptor, spoken: &mut Spoken) -> Result<(), Error> {
        let registry = &self.inner.registry;
        // Nothing is fetched from an upstream for this.
        if registry.blobs_known(&[layer.digest]).await?.is_empty() {
            return Ok(());
        }
        let bytes_all = spoken.bytes.saturating_add(layer.size);
        if layer.size > DOCUMENT_BYTES_MAX || bytes_all > ALL_BYTES_MAX || spoken.documents.len() >= DOCUMENTS_MAX {
            spoken.note(|| {
                format!(
                    "{at} was not read: at most {DOCUMENTS_MAX} documents of {DOCUMENT_BYTES_MAX} bytes each, \
                     {ALL_BYTES_MAX} together, are read"
                )
            });
            return Ok(());
        }
        let bytes = match registry.blob_get(at.repository, &layer.digest, DOCUMENT_BYTES_MAX).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(()),
            Err(problem) => {
                spoken.note(|| format!("{at} could not be read: {problem}"));
                return Ok(());
            }
        };
        spoken.documents.push((at.repository.clone(), *at.subject, layer.digest));
        spoken.bytes = bytes_all;
        let read = tokio::task::spawn_blocking(move || read(&bytes)).await?;
        spoken.take(at, read);
        Ok(())
    }
}

impl std::fmt::Display for At<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}@{}", self.repository, self.manifest)
    }
}

impl Spoken {
    pub(super) fn voices(&self) -> Voices {
        Voices {
            digests: self.digests.clone(),
            repository: self.repository.clone(),
            documents: self.documents.clone(),
            notes: self.notes(),
        }
    }

    /// Has advisories, and what is stated, tell what is wrong with the image.
    pub(super) fn examine(&self, contents: &mut Contents, advisories: &Advisories, now: Micros) {
        let against = Against {
            advisories: Some(advisories),
            statements: &self.statements,
            digests: &self.digests,
            ignore: &[],
            now: timestamp(now),
        };
        // Statements may name the image by where it is.
        let named = contents.image.repository.take();
        contents.image.repository = self.repository.as_ref().map(ToString::to_string);
        examine(contents, &against);
        contents.image.repository = named;
        if let Some(matched) = &mut contents.matched {
            matched.notes.extend(self.notes());
        }
    }

    /// Whether anything is stated at all.
    pub(super) fn is_voiced(&self) -> bool {
        !self.statements.is_empty()
    }

    /// What was not read, in sentences without a stop.
    fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        if self.more_notes > 0 {
            notes.push(format!("{} more statements or documents could not be read", self.more_notes));
        }
        notes
    }

    fn note(&mut self, note: impl FnOnce() -> String) {
        match self.notes.len() {
            ..NOTES_MAX => self.notes.push(note()),
            _ => self.more_notes += 1,
        }
    }

    fn take(&mut self, at: At<'_>, read: Result<vex::Vex, String>) {
        let read = match read {
            Ok(read) => read,
            Err(why) => return self.note(|| format!("{at} could not be read: {why}")),
        };
        for note in &read.notes {
            self.note(|| format!("a part of {at} could not be read, at \"{}\": {}", note.at, note.why));
        }
        if self.statements.len() + read.statements.len() > STATEMENTS_MAX {
            return self.note(|| format!("{at} was passed over: at most {STATEMENTS_MAX} statements are listened to"));
        }
        let about = Hash::of(at.subject.algorithm().as_str(), &at.subject.hex()).map(Identifier::Hash);
        for mut statement in read.statements {
            if statement.products.is_empty() {
                statement.products =
                    vec![Product { identifiers: about.iter().cloned().collect(), subcomponents: Vec::new() }];
            }
            statement.document = match statement.document.as_str() {
                "" => at.to_string(),
                document => format!("{document} (attached in {})", at.repository),
            };
            self.statements.push(statement);
        }
    }
}

/// Whether a type is one of statements on exploitability, or of an envelope that may hold one.
fn speaks(of: &str) -> bool {
    let of = of.to_ascii_lowercase();
    ["vex", "csaf", "cyclonedx", "in-toto", "dsse", "sigstore.bundle", "application/json", "text/json"]
        .iter()
        .any(|word| of.contains(word))
}

/// The statements of a document; none where it is something else.
fn read(bytes: &Bytes) -> Result<vex::Vex, String> {
    let Some(document) = opened(bytes)? else { return Ok(vex::Vex::default()) };
    // A bill of materials need not be parsed to see that it states nothing.
    if memmem::find(&document, b"ulnerabilit").is_none() {
        return Ok(vex::Vex::default());
    }
    match vex::read_within(&document, STATEMENT_BYTES_MAX) {
        Ok(read) => Ok(read),
        Err(ReadError::Format { .. }) => Ok(vex::Vex::default()),
        Err(error) => Err(error.to_string()),
    }
}

/// What envelopes begin with.
#[derive(Deserialize)]
struct Envelope<'b> {
    #[serde(borrow, rename = "dsseEnvelope")]
    dsse: Option<&'b RawValue>,
    #[serde(rename = "payloadType")]
    payload_type: Option<String>,
    payload: Option<String>,
    #[serde(rename = "predicateType")]
    predicate_type: Option<String>,
    #[serde(borrow)]
    predicate: Option<&'b RawValue>,
}

/// The document in a bundle, an envelope or a statement; none where the statement is of another kind.
fn opened(bytes: &[u8]) -> Result<Option<Cow<'_, [u8]>>, String> {
    let mut document = Cow::Borrowed(bytes);
    for _ in 0..=ENVELOPES_MAX {
        let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(&document) else { return Ok(Some(document)) };
        let inner = match envelope {
            Envelope { dsse: Some(dsse), .. } => dsse.get().as_bytes().to_vec(),
            Envelope { payload_type: Some(_), payload: Some(payload), .. } => {
                STANDARD.decode(payload).map_err(|error| format!("the payload is not base64: {error}"))?
            }
            Envelope { predicate_type: Some(kind), predicate: Some(predicate), .. } => {
                return Ok(speaks(&kind).then(|| Cow::Owned(predicate.get().as_bytes().to_vec())));
            }
            _ => return Ok(Some(document)),
        };
        document = Cow::Owned(inner);
    }
    Err(format!("more than {ENVELOPES_MAX} envelopes lie within one another"))
}
