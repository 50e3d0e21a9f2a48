//! What is inside images, what is wrong with it, and where it runs.

mod alert;
mod sought;

use std::collections::BTreeMap;

use async_trait::async_trait;
use base::page::PageRequest;
use bytes::Bytes;
use oci::{Digest, RepositoryName};
use serde::{Deserialize, Serialize};

pub use alert::{AdvisoryNews, Alert, AlertImage, AlertReason, AlertRunning, Delivery, News, SummaryNews};

use crate::delivery::ReleaseId;
use crate::{AppName, EnvName, HostName, Micros, Page, Result, ServiceName};

/// How far an image was examined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Examination {
    /// It waits, or is being read.
    Waiting,
    /// It was read.
    Done {
        /// When.
        at: Micros,
        /// Files and parts of files that were not examined; zero is complete.
        unexamined: u64,
    },
    /// It cannot be read; it is tried again when its bytes change, or Longshore does.
    Failed {
        /// When.
        at: Micros,
        /// Why.
        why: String,
    },
}

/// How bad an advisory says that it is, the worse the greater. What nobody rated may be grave: it is above what is low.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Next to nothing.
    Negligible,
    /// CVSS below 4.
    Low,
    /// Nobody has said. It is not low.
    Unknown,
    /// CVSS from 4.
    Medium,
    /// CVSS from 7.
    High,
    /// CVSS from 9.
    Critical,
}

/// What speaks for a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// A package manager's record of what it installed, or build information that the compiler wrote.
    Installed,
    /// A package's own archive or files, a lock file.
    Contained,
    /// Concluded from names, fingerprints or version strings.
    Inferred,
}

/// How an image stands, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    /// The image's manifest: of one platform.
    pub digest: Digest,
    /// How far it was examined.
    pub examination: Examination,
    /// `Debian GNU/Linux 12 (bookworm)`, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operating_system: Option<String>,
    /// Components in it.
    pub components: u64,
    /// Findings that no VEX statement lifts, by severity.
    pub findings: BTreeMap<Severity, u64>,
    /// Of these, those known to be exploited.
    pub known_exploited: u64,
    /// Findings that a VEX statement lifts.
    pub lifted: u64,
    /// Keys and tokens that lie in its layers; none when they were not looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<u64>,
    /// The image that it was built on, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// The advisories that it was matched with.
    pub advisories: Advisories,
    /// What of it could not be compared with them, a sentence each without its stop; no findings there says nothing. Of more
    /// than [`UNCOMPARED_MAX`] the last says how many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncompared: Vec<String>,
    /// What else there is to know of its findings, a sentence each without its stop: which statements (VEX) that were
    /// attached to it could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Sentences in [`Inside::uncompared`] at most.
pub const UNCOMPARED_MAX: usize = 100;

/// The image that another was built on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Where it is.
    pub repository: RepositoryName,
    /// Its manifest.
    pub digest: Digest,
    /// How many of the layers are its own, from the lowest.
    pub layers: u32,
    /// What its repository has under the same tag today, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer: Option<Digest>,
}

/// What is known of what is wrong with components.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advisories {
    /// How many.
    pub count: u64,
    /// When the newest of them was changed last: how old the data is. None when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Micros>,
    /// When they were taken in last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_in: Option<Micros>,
    /// Components that were not compared with them yet: who has none of them may have some.
    #[serde(default)]
    pub waiting: u64,
}

/// Where something lies in an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The layer that brought it, from the lowest, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u32>,
    /// The file's path, then the path of a file within it, and so on.
    pub chain: Vec<String>,
}

/// A component of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// What it is called within the image: `maven/org.apache.logging.log4j:log4j-core@2.14.1`.
    pub id: String,
    /// `deb`, `maven`, `npm` …
    pub ecosystem: String,
    /// Its name there.
    pub name: String,
    /// Its version; empty where it is not known.
    pub version: String,
    /// The package URL, where it can be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purl: Option<String>,
    /// What speaks for it.
    pub evidence: Evidence,
    /// Where it lies.
    pub places: Vec<Place>,
    /// The OS package that owns the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// SPDX expressions, or what was stated where that is none.
    pub licences: Vec<String>,
    /// The worst of its findings that nothing lifts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<Severity>,
}

/// Something that is wrong with a component of an image, as an advisory says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// `CVE-2021-44228` where it has one such, or its other name.
    pub id: String,
    /// Its other names.
    pub aliases: Vec<String>,
    /// The component's [`Component::id`].
    pub component: String,
    /// What is wrong, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// How bad.
    pub severity: Severity,
    /// The CVSS score in tenths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cvss_tenths: Option<u32>,
    /// The likelihood that it is exploited within 30 days, in ten-thousandths (EPSS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epss_basis_points: Option<u32>,
    /// Whether it is known to be exploited (KEV).
    pub known_exploited: bool,
    /// The versions that are affected.
    pub range: String,
    /// Versions that are not affected any more.
    pub fixed_in: Vec<String>,
    /// What speaks for the component.
    pub evidence: Evidence,
    /// What a VEX statement says of it, and who says so; why it applies or does not. Statements are read that are attached
    /// to the image, or to an index that has it: whoever may push to a repository that has the image may state something
    /// of it, signed or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Whether that lifts it.
    pub lifted: bool,
    /// When it was first matched here with any image.
    pub first_seen: Micros,
    /// Where the component lies: the first places.
    #[serde(default)]
    pub places: Vec<Place>,
}

/// Something that was not examined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unexamined {
    /// Where it lies.
    pub place: Place,
    /// Why.
    pub why: String,
}

/// A key, a token or a password that lies in a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// The rule that found it: `private-key`, `github-token` …
    pub rule: String,
    /// Where it lies.
    pub place: Place,
    /// In which line, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Enough to recognise it by, never the secret itself.
    pub redacted: String,
    /// Whether a later layer deletes the file; whoever has the layer has the secret all the same.
    pub deleted: bool,
}

/// A form in which what is inside can be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentFormat {
    /// Longshore's own.
    Json,
    /// CycloneDX 1.6 as JSON.
    Cyclonedx,
    /// SPDX 2.3 as JSON.
    Spdx,
    /// SARIF 2.1.0.
    Sarif,
}

/// What `where` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sought {
    /// A component by name, of a version or of all.
    Component {
        /// `deb`, `maven`, `npm` …; all where none is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ecosystem: Option<String>,
        /// The whole name, or the artifact's of `group:artifact`.
        name: String,
        /// The version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
    },
    /// What an advisory speaks of, by any of its names.
    Advisory {
        /// The name.
        id: String,
    },
    /// Whatever is under a licence.
    Licence {
        /// Its SPDX identifier.
        id: String,
    },
}

/// An image that has what is sought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhereImage {
    /// Where it is.
    pub repository: RepositoryName,
    /// Its manifest.
    pub digest: Digest,
    /// Tags that lead there, or to an index of it.
    pub tags: Vec<String>,
    /// The components that it is about: the first of them.
    pub components: Vec<WhereComponent>,
    /// How many of them there are.
    #[serde(default)]
    pub components_count: u64,
    /// Whether parts of the image were not examined.
    pub complete: bool,
    /// Releases of it.
    pub releases: Vec<WhereRelease>,
}

/// A component that is sought, in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhereComponent {
    /// Its [`Component::id`].
    pub id: String,
    /// What speaks for it.
    pub evidence: Evidence,
    /// Where it lies: the first places.
    pub places: Vec<Place>,
    /// For an advisory: versions that are not affected any more.
    pub fixed_in: Vec<String>,
    /// For an advisory: who says that it does not concern the image, and what they say. Others' statements are listened to
    /// a moment after they are attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifted: Option<String>,
}

/// A release whose image has what is sought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhereRelease {
    /// The release.
    pub release: ReleaseId,
    /// Its app.
    pub app: AppName,
    /// Its service.
    pub service: ServiceName,
    /// Environments that have it or, with history, had it.
    pub environments: Vec<Exposure>,
}

/// A time in which an environment had a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// The environment.
    pub environment: EnvName,
    /// Since when.
    pub from: Micros,
    /// Until when; none while it has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Micros>,
    /// Hosts that run it now.
    pub hosts: Vec<HostName>,
}

/// A release that is not affected any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fix {
    /// The app.
    pub app: AppName,
    /// The service.
    pub service: ServiceName,
    /// The first later release without it; none when there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseId>,
    /// Environments that have it, or a later one that is not affected either.
    pub environments: Vec<EnvName>,
}

/// Containers whose image never came through the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotExamined {
    /// Where they run.
    pub host: HostName,
    /// The image as the engine names it.
    pub image: String,
    /// Why nothing is known of it.
    pub why: String,
}

/// The answer to `where`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Where {
    /// When this was so.
    pub at: Micros,
    /// For an advisory, its name, summary and severity; none when nothing is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advisory: Option<WhereAdvisory>,
    /// Images, those that run somewhere first.
    pub images: Page<WhereImage>,
    /// How many images there are in all.
    pub images_count: u64,
    /// For an advisory: where each affected service's fix is.
    pub fixes: Vec<Fix>,
    /// What runs and cannot be answered for, up to a bound.
    pub not_examined: Vec<NotExamined>,
    /// Images that were not examined, or not all of them: they may have it and not be named.
    #[serde(default)]
    pub images_incomplete: u64,
    /// For an advisory: whether components are still being compared with the advisories, so that more may have it.
    #[serde(default)]
    pub is_comparing: bool,
}

/// An advisory, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhereAdvisory {
    /// Its name.
    pub id: String,
    /// Its other names.
    pub aliases: Vec<String>,
    /// What is wrong, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// How bad.
    pub severity: Severity,
    /// Whether it is known to be exploited.
    pub known_exploited: bool,
    /// When it was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Micros>,
    /// When it first matched an image here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<Micros>,
}

/// How two images differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDifference {
    /// Components, by ecosystem and name; those that are the same are left out.
    pub components: Vec<ComponentDifference>,
    /// Findings of the second image alone.
    pub findings_new: Vec<Finding>,
    /// Findings of the first image alone.
    pub findings_gone: Vec<Finding>,
    /// What differs in the configuration: the key, what it was, what it is.
    pub configuration: Vec<ConfigurationDifference>,
    /// What differs in the files.
    #[serde(default)]
    pub files: FilesDifference,
}

/// Files that [`FilesDifference::items`] names at most.
pub const FILES_DIFFERENT_MAX: usize = 1000;

/// How the files of two images differ. Times are left out: they differ with every build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesDifference {
    /// Files of the second image alone.
    pub added: u64,
    /// Files of the first image alone.
    pub removed: u64,
    /// Files, and directories, that both have and that are not the same.
    pub changed: u64,
    /// The first of them by path, [`FILES_DIFFERENT_MAX`] at most.
    pub items: Vec<FileDifference>,
    /// Why they were not compared; none where they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<String>,
}

/// A file that differs. None stands for "not there".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDifference {
    /// Where it lies.
    pub path: String,
    /// What the first image has there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<FileState>,
    /// What the second has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<FileState>,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Another name of a file.
    HardLink,
    /// A device.
    Device,
    /// A named pipe.
    Fifo,
}

/// What an image has at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// What it is.
    pub kind: FileKind,
    /// Bytes of a file.
    pub size: u64,
    /// Permissions, with setuid, setgid and sticky.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// What a link leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The first half of the SHA-256 of what is in it, in hexadecimal digits, where it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// A component that differs. None stands for "not there".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentDifference {
    /// `deb`, `maven`, `npm` …
    pub ecosystem: String,
    /// Its name there.
    pub name: String,
    /// Versions in the first image.
    pub before: Vec<String>,
    /// Versions in the second.
    pub after: Vec<String>,
}

/// A part of the configuration that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationDifference {
    /// `env PATH`, `entrypoint`, `label org.…`.
    pub key: String,
    /// What it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What gates and pages ask of an image, signed. The same statement is attached to the image's digest in each repository
/// that has it, but for mirrors: an OCI referrer of the type `application/vnd.dev.sigstore.bundle.v0.3+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentsEvidence {
    /// How the image stands.
    pub inside: Inside,
    /// Licences in it, by how many components have each.
    pub licences: BTreeMap<String, u64>,
    /// An in-toto statement of the above in a DSSE envelope, as JSON text.
    pub envelope: String,
    /// The certificate of the key that signed it, PEM: the hub's own authority.
    pub certificate: String,
}

/// Narrows a list of components or findings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InsideFilter {
    /// Whose name or id holds this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    /// Which a layer brought, from the lowest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u32>,
    /// Of an ecosystem: `deb`, `maven`, `npm` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecosystem: Option<String>,
    /// Under a licence, as [`Component::licences`] writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}

/// What is in an image, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Components, by ecosystem.
    pub ecosystems: BTreeMap<String, u64>,
    /// Components that each layer brought, from the lowest.
    pub layers: Vec<u64>,
    /// Licences, as [`Component::licences`] writes them, by how many components have each.
    pub licences: BTreeMap<String, u64>,
    /// Components that state no licence.
    pub unlicensed: u64,
}

/// Inspection, as the command line, pages and gates see it. A digest is that of an image's manifest, of one platform.
#[async_trait]
pub trait Inspect: Send + Sync {
    /// How an image stands. Fails when the hub has none such.
    async fn inside(&self, digest: &Digest) -> Result<Inside>;
    /// What is in it, counted.
    async fn inventory(&self, digest: &Digest) -> Result<Inventory>;
    /// What is in it, by ecosystem, name and version.
    async fn components(&self, digest: &Digest, filter: &InsideFilter, page: &PageRequest) -> Result<Page<Component>>;
    /// What is wrong with it, the worst first.
    async fn findings(&self, digest: &Digest, filter: &InsideFilter, page: &PageRequest) -> Result<Page<Finding>>;
    /// What of it was not examined.
    async fn unexamined(&self, digest: &Digest, page: &PageRequest) -> Result<Page<Unexamined>>;
    /// Keys, tokens and passwords in its layers, also in those that a later one hides. Empty where they are not looked for,
    /// as [`Inside::secrets`] says.
    async fn secrets(&self, digest: &Digest, page: &PageRequest) -> Result<Page<Secret>>;
    /// All of it as a document. Identical input gives identical bytes.
    async fn document(&self, digest: &Digest, format: DocumentFormat) -> Result<Bytes>;
    /// What gates ask, signed.
    async fn evidence(&self, digest: &Digest) -> Result<ContentsEvidence>;
    /// How the second image differs from the first.
    async fn difference(&self, first: &Digest, second: &Digest) -> Result<ImageDifference>;
    /// Which images, releases, environments and hosts have what is sought; with `history` also those that had it.
    async fn find(&self, sought: &Sought, history: bool, page: &PageRequest) -> Result<Where>;
    /// What is known of what is wrong with components.
    async fn advisories(&self) -> Result<Advisories>;
    /// Takes in a file of advisories, as `longshore advisories update` writes it, in the place of the one before.
    async fn advisories_take(&self, file: Bytes) -> Result<Advisories>;
    /// What new advisories meant for what is known here, the last file of them first, and of one file the worst first.
    async fn alerts(&self, page: &PageRequest) -> Result<Page<Alert>>;
    /// Counts changes of what pages show; wait on it rather than asking again and again.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;
}
