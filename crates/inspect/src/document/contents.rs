//! What is known of one image, as the documents say it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::component::{Component, Ecosystem, Evidence};
use crate::document::vex::{Justification, Status};
use crate::purl::{Distribution, Purl, PurlError};

/// What one image holds, what is wrong with it, and what was not examined.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    /// What examined it.
    pub tool: Tool,
    /// The image.
    pub image: Image,
    /// The distribution, where one is known.
    pub operating_system: Option<OperatingSystem>,
    /// The components; their order says nothing.
    pub components: Vec<Found>,
    /// The vulnerabilities; their order says nothing.
    pub findings: Vec<Finding>,
    /// Which advisories the components were compared with; `None` where they were compared with none.
    pub matched: Option<Matched>,
    /// Keys and tokens; their order says nothing.
    pub secrets: Vec<Secret>,
    /// What could not be examined. Where there is any, no document calls the list of components complete.
    pub unexamined: Vec<Unexamined>,
}

/// The advisories that the components were compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// How many advisories were known.
    pub advisories: u64,
    /// Where they come from.
    pub sources: Vec<String>,
    /// When the source that was asked longest ago was asked.
    pub fetched: Option<Timestamp>,
    /// When the youngest of them was changed.
    pub newest: Option<Timestamp>,
    /// What could not be compared, in sentences without a stop. Where there is any, that nothing was found says nothing.
    pub gaps: Vec<String>,
    /// What else there is to know, in sentences without a stop.
    pub notes: Vec<String>,
}

/// The program that examined the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The image, or whatever else was examined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// As the user named it.
    pub name: String,
    /// The repository with its host, for an image of a registry.
    pub repository: Option<String>,
    /// The tag it was named by.
    pub tag: Option<String>,
    /// The manifest's digest, `sha256:…`.
    pub digest: Option<String>,
    /// What it runs on.
    pub platform: Option<Platform>,
    /// When it was made, by its configuration. The documents bear this time.
    pub created: Option<Timestamp>,
    /// The labels of its configuration.
    pub labels: BTreeMap<String, String>,
    /// The layers from the lowest up.
    pub layers: Vec<Layer>,
}

/// What an image runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
    /// `v8`.
    pub variant: Option<String>,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The digest of the blob, `sha256:…`.
    pub digest: String,
    /// The digest of the uncompressed archive.
    pub diff_id: String,
    /// The blob's size in bytes.
    pub size: u64,
    /// The step that made it, as the history says.
    pub created_by: Option<String>,
}

/// The distribution in the image, by its `os-release`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatingSystem {
    /// `debian`.
    pub id: String,
    /// `12`; empty where there is none.
    pub version: String,
    /// `Debian GNU/Linux 12 (bookworm)`.
    pub name: String,
}

/// One component that was found. What an OS package owns is one component with two names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name within the document: unique, and the same whenever the same image is examined.
    pub id: String,
    /// What it is.
    pub component: Component,
    /// Where it was found.
    pub places: Vec<Place>,
    /// The [`Found::id`] of the OS package that owns its file.
    pub owner: Option<String>,
    /// The other names of the same thing, each in its own ecosystem.
    pub further: Vec<Component>,
    /// Hashes of its file.
    pub hashes: Vec<Hash>,
    /// The [`Found::id`]s of what it needs.
    pub depends_on: Vec<String>,
    /// Its licences. Where there are none, those that the component states stand as names.
    pub licences: Vec<Licence>,
}

/// Where something lies: in which layer, and along which paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The index of the layer that brought it; `None` where what was examined has no layers.
    pub layer: Option<usize>,
    /// The path in the image, then the path within that archive, and so on: `/app.zip`, `lib/a.jar`.
    pub chain: Vec<String>,
}

/// A licence as stated, with the SPDX expression that it is where it is one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Licence {
    /// What stands there.
    pub stated: String,
    /// The valid SPDX licence expression in its canonical form.
    pub expression: Option<String>,
}

/// A hash of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash {
    /// How it was made.
    pub algorithm: HashAlgorithm,
    /// Lowercase hexadecimal digits.
    pub hex: String,
}

/// How a hash was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlgorithm {
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// One vulnerability of one component.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The advisory's identifier: `CVE-2021-44228`. Unique together with the component.
    pub id: String,
    /// Its other identifiers.
    pub aliases: Vec<String>,
    /// The [`Found::id`] of what it affects.
    pub component: String,
    /// The package as the advisory names it, with its ecosystem: `Debian:12 openssl`.
    pub package: String,
    /// In one sentence.
    pub summary: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// The base score.
    pub cvss: Option<Cvss>,
    /// How likely it is to be exploited.
    pub epss: Option<Epss>,
    /// Whether it is listed as known to be exploited (KEV).
    pub known_exploited: bool,
    /// The range of versions that matched, as the advisory states it.
    pub range: String,
    /// The versions that fix it.
    pub fixed_in: Vec<String>,
    /// What speaks for the component.
    pub evidence: Evidence,
    /// What a VEX statement that applies says of it.
    pub verdict: Option<Verdict>,
    /// All VEX statements on this vulnerability, with why they apply or do not.
    pub heard: Vec<Heard>,
    /// The entry of an ignore file that speaks of it.
    pub ignored: Option<Ignored>,
    /// Who published the advisory.
    pub source: Source,
    /// When it was published.
    pub published: Option<Timestamp>,
    /// When it was last changed.
    pub modified: Option<Timestamp>,
}

/// How bad a vulnerability is. What nobody rated is unknown, which is not low.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nobody has rated it.
    Unknown,
    /// Rated as without effect.
    None,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

/// A score of the Common Vulnerability Scoring System.
#[derive(Clone, Debug, PartialEq)]
pub struct Cvss {
    /// The base score, 0.0 to 10.0.
    pub score: f64,
    /// The vector, `CVSS:3.1/AV:N/…`; one without a prefix is of version 2.
    pub vector: String,
}

/// A score of the Exploit Prediction Scoring System.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epss {
    /// The probability of exploitation in the next 30 days, 0 to 1.
    pub score: f64,
    /// The share of all vulnerabilities that score at most as much, 0 to 1.
    pub percentile: f64,
}

/// Who published an advisory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name of the data base.
    pub name: String,
    /// The advisory's address.
    pub url: Option<String>,
}

/// What the VEX statement that prevailed says of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the vulnerability affects the image.
    pub status: Status,
    /// Why it does not.
    pub justification: Option<Justification>,
    /// The statement in words.
    pub statement: Option<String>,
    /// The document that it stands in.
    pub document: String,
}

/// A VEX statement on the vulnerability of a finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Heard {
    /// The document that it stands in.
    pub document: String,
    /// Where in the document, as a JSON pointer.
    pub at: String,
    /// What it says.
    pub status: Status,
    /// Why it does not speak of this component in this image; `None` where it does.
    pub passed_over: Option<String>,
}

/// An entry of an ignore file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ignored {
    /// The file.
    pub file: String,
    /// Why it is there, as it says.
    pub statement: Option<String>,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

/// A key or a token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret {
    /// The rule that found it.
    pub rule: String,
    /// Where.
    pub place: Place,
    /// In which line, counted from 1.
    pub line: Option<u64>,
    /// Enough to recognise it by, never the secret itself.
    pub redacted: String,
    /// Whether a later layer deletes the file; whoever has the layer has the secret all the same.
    pub deleted: bool,
}

/// What was not examined.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unexamined {
    /// Where.
    pub place: Place,
    /// Why not.
    pub why: String,
}

impl Contents {
    /// Whether everything was examined.
    pub fn is_complete(&self) -> bool {
        self.unexamined.is_empty()
    }

    /// Whether everything was examined and compared with advisories.
    pub fn is_matched_completely(&self) -> bool {
        self.is_complete() && self.matched.as_ref().is_some_and(|matched| matched.gaps.is_empty())
    }

    /// The package URL of a component of this image.
    pub fn purl(&self, component: &Component) -> Result<Purl, PurlError> {
        let distribution = self.operating_system.as_ref().map(|os| Distribution { id: &os.id, version: &os.version });
        Purl::from_component(component, distribution)
    }
}

impl Finding {
    /// Its identifier and its aliases.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.id).chain(&self.aliases).map(String::as_str)
    }

    /// Whether it is to be acted upon: no statement that applies says otherwise, and nobody ignores it.
    pub fn counts(&self) -> bool {
        let is_settled = |verdict: &Verdict| matches!(verdict.status, Status::NotAffected | Status::Fixed);
        self.ignored.is_none() && !self.verdict.as_ref().is_some_and(is_settled)
    }
}

impl Ignored {
    /// The entry in one line.
    pub fn text(&self) -> String {
        let statement = self.statement.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
        let expires = self.expires.map(|time| format!(", until {time}")).unwrap_or_default();
        format!("{}{statement}{expires}", self.file)
    }
}

impl Image {
    /// The package URL of an image that has a digest, by its repository or its name.
    pub fn purl(&self) -> Option<Purl> {
        let digest = self.digest.as_deref()?;
        let architecture = self.platform.as_ref().map(|platform| platform.architecture.as_str());
        let repository = self.repository.as_deref().unwrap_or(&self.name);
        Purl::oci(repository, self.tag.as_deref(), Some(digest), architecture).ok()
    }
}

impl Place {
    /// The chain in one line, `/app.zip!/lib/a.jar`.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (index, path) in self.chain.iter().enumerate() {
            if index > 0 {
                text.push_str(if path.starts_with('/') { "!" } else { "!/" });
            }
            text.push_str(path);
        }
        text
    }
}

impl Severity {
    /// The word for it, lowercase.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::None => "none",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl HashAlgorithm {
    /// Its name, as FIPS 180 and CycloneDX write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        }
    }

    /// Its name before the colon of a digest.
    pub(super) fn oci_name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The algorithm of a name, whatever its case and with or without the dash.
    pub fn of(name: &str) -> Option<Self> {
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        Some(match plain.to_ascii_lowercase().as_str() {
            "md5" => Self::Md5,
            "sha1" => Self::Sha1,
            "sha256" => Self::Sha256,
            "sha384" => Self::Sha384,
            "sha512" => Self::Sha512,
            _ => return None,
        })
    }

    /// How many hexadecimal digits a hash has.
    pub fn digits(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha1 => 40,
            Self::Sha256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }
}

impl Hash {
    /// A hash of an algorithm's name and its digits, of either case; `None` where the two do not agree.
    pub fn of(algorithm: &str, digits: &str) -> Option<Self> {
        let algorithm = HashAlgorithm::of(algorithm)?;
        let valid = digits.len() == algorithm.digits() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        valid.then(|| Self { algorithm, hex: digits.to_ascii_lowercase() })
    }
}

impl Found {
    /// Its licences; where there are none, those that the component states, as names.
    pub(super) fn all_licences(&self) -> Vec<Licence> {
        let mut licences = self.licences.clone();
        if licences.is_empty() {
            let stated = self.component.licences.iter();
            licences.extend(stated.map(|stated| Licence { stated: stated.clone(), expression: None }));
        }
        licences.retain(|licence| !licence.stated.trim().is_empty());
        licences.sort_unstable();
        licences.dedup();
        licences
    }
}

/// All licences as one expression, each of them binding; `None` where one of them is none, or there are none.
pub(super) fn joined(licences: &[Licence]) -> Option<String> {
    let expressions: Option<Vec<&str>> = licences.iter().map(|licence| licence.expression.as_deref()).collect();
    match expressions?.as_slice() {
        [] => None,
        [one] => Some((*one).to_owned()),
        several => {
            let compound = |text: &str| text.contains(" OR ") || text.contains(" AND ");
            let parts =
                several.iter().map(|part| if compound(part) { format!("({part})") } else { (*part).to_owned() });
            Some(parts.collect::<Vec<_>>().join(" AND "))
        }
    }
}

/// The word for a class of evidence, as documents bear it.
pub(super) fn evidence_word(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Installed => "installed",
        Evidence::Contained => "contained",
        Evidence::Inferred => "inferred",
    }
}

/// The class of evidence of a word.
pub(super) fn evidence_of(word: &str) -> Option<Evidence> {
    [Evidence::Installed, Evidence::Contained, Evidence::Inferred]
        .into_iter()
        .find(|evidence| evidence_word(*evidence) == word)
}

/// Every ecosystem with its word in Longshore's own documents.
pub(super) const ECOSYSTEMS: [(Ecosystem, &str); 12] = [
    (Ecosystem::Deb, "deb"),
    (Ecosystem::Rpm, "rpm"),
    (Ecosystem::Apk, "apk"),
    (Ecosystem::Maven, "maven"),
    (Ecosystem::PyPi, "pypi"),
    (Ecosystem::Npm, "npm"),
    (Ecosystem::Go, "go"),
    (Ecosystem::Cargo, "cargo"),
    (Ecosystem::Gem, "gem"),
    (Ecosystem::Composer, "composer"),
    (Ecosystem::NuGet, "nuget"),
    (Ecosystem::Generic, "generic"),
];

/// The word for an ecosystem.
pub(super) fn ecosystem_word(ecosystem: Ecosystem) -> &'static str {
    ECOSYSTEMS.iter().find(|(known, _)| *known == ecosystem).map_or("generic", |(_, word)| word)
}
