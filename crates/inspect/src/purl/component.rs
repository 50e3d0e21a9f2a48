//! From components to package URLs and back.
//!
//! What the types leave open follows the qualifiers that are in wide use: `distro` names the distribution and its
//! version, `upstream` the source package with its version.

use crate::component::{Component, Ecosystem, Evidence, Source};
use crate::purl::{Purl, PurlError};

/// The distribution that OS packages belong to, by the names in its `os-release`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distribution<'a> {
    /// Its `ID`: `debian`.
    pub id: &'a str,
    /// Its `VERSION_ID`: `12`; empty where there is none.
    pub version: &'a str,
}

impl Purl {
    /// The package URL of a component; OS packages lie in the namespace of `distribution`.
    pub fn from_component(component: &Component, distribution: Option<Distribution<'_>>) -> Result<Self, PurlError> {
        let (namespace, name) = split_name(component.ecosystem, &component.name);
        let purl = match component.ecosystem {
            Ecosystem::Deb => Self::new("deb", vendor(distribution), name)?,
            Ecosystem::Rpm => Self::new("rpm", vendor(distribution), name)?,
            Ecosystem::Apk => Self::new("apk", vendor(distribution), name)?,
            Ecosystem::Maven => Self::new("maven", namespace, name)?,
            Ecosystem::PyPi => Self::new("pypi", "", name)?,
            Ecosystem::Npm => Self::new("npm", namespace, name)?,
            Ecosystem::Go => Self::new("golang", namespace, name)?,
            Ecosystem::Cargo => Self::new("cargo", "", name)?,
            Ecosystem::Gem => Self::new("gem", "", name)?,
            Ecosystem::Composer => Self::new("composer", namespace, name)?,
            Ecosystem::NuGet => Self::new("nuget", "", name)?,
            Ecosystem::Generic => Self::new("generic", namespace, name)?,
        };
        let epoch = component
            .version
            .split_once(':')
            .filter(|(epoch, rest)| !epoch.is_empty() && !rest.is_empty() && epoch.bytes().all(|b| b.is_ascii_digit()))
            .filter(|_| component.ecosystem == Ecosystem::Rpm);
        let purl = match epoch {
            Some((epoch, version)) => purl.with_version(version).with_qualifier("epoch", epoch)?,
            None => purl.with_version(&component.version),
        };
        if !is_os_package(component.ecosystem) {
            return Ok(purl);
        }
        let mut purl = purl.with_qualifier("arch", component.architecture.as_deref().unwrap_or_default())?;
        if let Some(source) = &component.source {
            let upstream = if source.version.is_empty() || source.version == component.version {
                source.name.clone()
            } else {
                format!("{}@{}", source.name, source.version)
            };
            purl = purl.with_qualifier("upstream", &upstream)?;
        }
        match distribution {
            Some(Distribution { id, version: "" }) => purl.with_qualifier("distro", id),
            Some(Distribution { id, version }) => purl.with_qualifier("distro", &format!("{id}-{version}")),
            None => Ok(purl),
        }
    }

    /// The component that this names, with no licences; `None` where its type is none of [`Ecosystem`].
    pub fn to_component(&self, evidence: Evidence) -> Option<Component> {
        let ecosystem = self.ecosystem()?;
        let joined = |separator: &str| match self.namespace() {
            Some(namespace) => format!("{namespace}{separator}{}", self.name()),
            None => self.name().to_owned(),
        };
        let name = match ecosystem {
            Ecosystem::Maven => joined(":"),
            Ecosystem::Npm | Ecosystem::Go | Ecosystem::Composer | Ecosystem::Generic => joined("/"),
            _ => self.name().to_owned(),
        };
        let version = match (self.version(), self.qualifier("epoch")) {
            (Some(version), Some(epoch)) if ecosystem == Ecosystem::Rpm => format!("{epoch}:{version}"),
            (version, _) => version.unwrap_or_default().to_owned(),
        };
        let os_package = is_os_package(ecosystem);
        Some(Component {
            ecosystem,
            name,
            architecture: self.qualifier("arch").filter(|_| os_package).map(str::to_owned),
            source: self.qualifier("upstream").filter(|_| os_package).map(|upstream| source_of(upstream, &version)),
            licences: Vec::new(),
            evidence,
            version,
        })
    }

    /// Whose packages these are.
    pub fn ecosystem(&self) -> Option<Ecosystem> {
        Some(match self.package_type() {
            "deb" => Ecosystem::Deb,
            "rpm" => Ecosystem::Rpm,
            "apk" => Ecosystem::Apk,
            "maven" => Ecosystem::Maven,
            "pypi" => Ecosystem::PyPi,
            "npm" => Ecosystem::Npm,
            "golang" => Ecosystem::Go,
            "cargo" => Ecosystem::Cargo,
            "gem" => Ecosystem::Gem,
            "composer" => Ecosystem::Composer,
            "nuget" => Ecosystem::NuGet,
            "generic" => Ecosystem::Generic,
            _ => return None,
        })
    }
}

/// A component's name as namespace and name: Maven's group, npm's scope, the vendor, the module's path but its last
/// segment; the namespace is empty where there is none.
pub fn split_name(ecosystem: Ecosystem, name: &str) -> (&str, &str) {
    match ecosystem {
        Ecosystem::Maven => name.split_once(':'),
        Ecosystem::Npm if name.starts_with('@') => name.split_once('/'),
        Ecosystem::Composer => name.split_once('/'),
        Ecosystem::Go | Ecosystem::Generic => name.rsplit_once('/'),
        _ => None,
    }
    .filter(|(_, name)| !name.is_empty())
    .unwrap_or(("", name))
}

fn is_os_package(ecosystem: Ecosystem) -> bool {
    matches!(ecosystem, Ecosystem::Deb | Ecosystem::Rpm | Ecosystem::Apk)
}

fn vendor<'a>(distribution: Option<Distribution<'a>>) -> &'a str {
    match distribution.map(|distribution| distribution.id) {
        None => "",
        Some("rhel") => "redhat",
        Some(id) if id.starts_with("opensuse") => "opensuse",
        Some(id) => id,
    }
}

/// `name`, `name@version`, or an RPM source package's file name `name-version-release.src.rpm`.
fn source_of(upstream: &str, binary_version: &str) -> Source {
    if let Some(stem) = upstream.strip_suffix(".src.rpm") {
        let mut parts = stem.rsplitn(3, '-');
        if let (Some(release), Some(version), Some(name)) = (parts.next(), parts.next(), parts.next()) {
            return Source { name: name.to_owned(), version: format!("{version}-{release}") };
        }
    }
    let (name, version) = upstream.split_once('@').unwrap_or((upstream, binary_version));
    Source { name: name.to_owned(), version: version.to_owned() }
}
