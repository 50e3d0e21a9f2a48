//! What an OSV ecosystem string means: whose names and versions, and of which release of which distribution.
//!
//! The strings are those that the OSV schema defines.

use crate::component::Ecosystem;
use crate::version::Scheme;

/// Where a package lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Whose names and versions.
    pub ecosystem: Ecosystem,
    /// How versions are ordered.
    pub scheme: Scheme,
    /// The distribution; `None` for what is not of one.
    pub platform: Option<Platform>,
}

/// A release of a distribution.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// `ID` of its `/etc/os-release`: `debian`, `alpine`, `rhel`.
    pub id: String,
    /// Its release as advisories name it: `12`, `3.19`, `22.04`. In an advisory, empty is every release; of an image, one
    /// that is not known. A distribution without releases has none.
    pub release: String,
    /// A set of packages that not every host of this release has, such as Ubuntu's `Pro` or `Pro:FIPS`.
    pub channel: Option<String>,
}

impl Platform {
    /// The release that an `/etc/os-release` names, by its `ID` and `VERSION_ID` (for Debian without one, its codename;
    /// for openEuler the release with its service pack, `22.03-LTS-SP1`).
    pub fn from_os_release(id: &str, version_id: &str) -> Self {
        let id = match id {
            "mariner" => "azurelinux",
            "opensuse" => "opensuse-leap",
            "sles_sap" | "sle_hpc" => "sles",
            id => id,
        };
        let release = match id {
            "alpine" if version_id.contains("_alpha") || version_id == "edge" => "edge".to_owned(),
            "alpine" => leading(version_id, 2),
            "almalinux" | "rocky" | "rhel" | "centos" | "azurelinux" | "mageia" => leading(version_id, 1),
            "wolfi" | "chainguard" | "minimos" | "echo" | "opensuse-tumbleweed" => String::new(),
            _ => version_id.to_owned(),
        };
        Self { id: id.to_owned(), release, channel: None }
    }

    /// Whether an advisory for this release speaks of packages on `installed`. Ubuntu Pro's does for a host without it: its
    /// package has the flaw, and the fix is to be had with Pro.
    pub fn covers(&self, installed: &Self) -> bool {
        self.id == installed.id
            && (self.release.is_empty() || self.release == installed.release)
            && (self.channel == installed.channel || is_common(self.channel.as_deref()))
    }

    fn new(id: &str, release: &str) -> Self {
        Self { id: id.to_owned(), release: release.to_owned(), channel: None }
    }
}

/// Whether a channel's advisories are for every host.
fn is_common(channel: Option<&str>) -> bool {
    matches!(channel, None | Some("Pro"))
}

/// An ecosystem whose names or versions are not known here. Its packages are not examined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ecosystem \"{0}\" is not known")]
pub struct UnknownEcosystem(pub String);

impl Place {
    /// Reads an OSV ecosystem string such as `Debian:12`, `Red Hat:enterprise_linux:9::baseos` or `npm`.
    ///
    /// # Errors
    /// Where it is none of the ecosystems that are known here.
    pub fn parse(text: &str) -> Result<Self, UnknownEcosystem> {
        let (name, suffix) = text.split_once(':').unwrap_or((text, ""));
        let language = |ecosystem, scheme| Ok(Self { ecosystem, scheme, platform: None });
        let deb = |platform| Self { ecosystem: Ecosystem::Deb, scheme: Scheme::Dpkg, platform: Some(platform) };
        let rpm = |platform| Self { ecosystem: Ecosystem::Rpm, scheme: Scheme::Rpm, platform: Some(platform) };
        let apk = |platform| Self { ecosystem: Ecosystem::Apk, scheme: Scheme::Apk, platform: Some(platform) };
        Ok(match name {
            // What may follow these is the address of a repository.
            "Maven" => return language(Ecosystem::Maven, Scheme::Maven),
            "Packagist" => return language(Ecosystem::Composer, Scheme::Packagist),
            "npm" => return language(Ecosystem::Npm, Scheme::Npm),
            "PyPI" => return language(Ecosystem::PyPi, Scheme::Pep440),
            "Go" => return language(Ecosystem::Go, Scheme::Go),
            "crates.io" => return language(Ecosystem::Cargo, Scheme::SemVer),
            "RubyGems" => return language(Ecosystem::Gem, Scheme::RubyGems),
            "NuGet" => return language(Ecosystem::NuGet, Scheme::NuGet),
            "Bitnami" => return language(Ecosystem::Generic, Scheme::Bitnami),
            "Debian" => deb(Platform::new("debian", suffix)),
            "Ubuntu" => deb(ubuntu(suffix)),
            "Echo" => deb(Platform::new("echo", "")),
            "Alpine" => apk(Platform::new("alpine", suffix.strip_prefix('v').unwrap_or(suffix))),
            "Wolfi" => apk(Platform::new("wolfi", "")),
            "Chainguard" => apk(Platform::new("chainguard", "")),
            "MinimOS" => apk(Platform::new("minimos", "")),
            "Alpaquita" => apk(Platform::new("alpaquita", suffix)),
            "BellSoft Hardened Containers" => apk(Platform::new("bellsoft-hardened-containers", suffix)),
            "AlmaLinux" => rpm(Platform::new("almalinux", &leading(suffix, 1))),
            "Rocky Linux" => rpm(Platform::new("rocky", &leading(suffix, 1))),
            "Red Hat" => rpm(red_hat(suffix)),
            "Azure Linux" => rpm(Platform::new("azurelinux", &leading(suffix, 1))),
            "Mageia" => rpm(Platform::new("mageia", &leading(suffix, 1))),
            "Photon OS" => rpm(Platform::new("photon", suffix)),
            "openEuler" => rpm(Platform::new("openEuler", suffix)),
            "openSUSE" => rpm(opensuse(suffix)),
            "SUSE" => rpm(suse(suffix)),
            _ => return Err(UnknownEcosystem(text.to_owned())),
        })
    }
}

/// The first `count` numbers of a version.
fn leading(version: &str, count: usize) -> String {
    version.split('.').take(count).collect::<Vec<_>>().join(".")
}

/// `22.04:LTS`, `Pro:18.04:LTS`, `Pro:FIPS:20.04:LTS`.
fn ubuntu(suffix: &str) -> Platform {
    let mut release = "";
    let mut channel = Vec::new();
    for part in suffix.split(':').filter(|part| !part.is_empty() && *part != "LTS") {
        if part.starts_with(|c: char| c.is_ascii_digit()) {
            release = part;
        } else {
            channel.push(part);
        }
    }
    let channel = (!channel.is_empty()).then(|| channel.join(":"));
    Platform { id: "ubuntu".to_owned(), release: release.to_owned(), channel }
}

/// A product and its release, then the repository: `enterprise_linux:9::baseos`, `rhel_eus:9.2::appstream`.
fn red_hat(suffix: &str) -> Platform {
    let mut parts = suffix.split(':');
    let (product, release) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match product {
        "enterprise_linux" => Platform::new("rhel", &leading(release, 1)),
        // Other products' packages are told from the distribution's by their streams alone, which no host states.
        product => Platform::new(&format!("redhat:{product}"), release),
    }
}

fn opensuse(suffix: &str) -> Platform {
    match suffix.rsplit_once(' ') {
        Some(("Leap Micro", release)) => Platform::new("opensuse-leap-micro", release),
        Some((_, release)) => Platform::new("opensuse-leap", release),
        None if suffix == "Tumbleweed" => Platform::new("opensuse-tumbleweed", ""),
        None => Platform::new("opensuse", suffix),
    }
}

/// A product's name: `Linux Enterprise Server 15 SP5`, `Linux Enterprise Module for Basesystem 15 SP5`.
fn suse(suffix: &str) -> Platform {
    let is_server =
        suffix.starts_with("Linux Enterprise Server ") || suffix.starts_with("Linux Enterprise Module for ");
    let mut words = suffix.rsplit(' ');
    let last = words.next().unwrap_or_default();
    let last = last.split('-').next().unwrap_or_default();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    match (last.strip_prefix("SP").filter(|pack| is_number(pack)), words.next()) {
        (Some(pack), Some(release)) if is_server && is_number(release) => {
            Platform::new("sles", &format!("{release}.{pack}"))
        }
        (None, _) if is_server && is_number(last) => Platform::new("sles", last),
        _ => Platform::new("suse", suffix),
    }
}
