//! What people type to find where something is.

use super::Sought;
use crate::{Problem, Result};

/// The longest text that is looked for, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// Ecosystems that may stand before a component's name.
const ECOSYSTEMS: [&str; 12] =
    ["deb", "rpm", "apk", "maven", "pypi", "npm", "go", "cargo", "gem", "composer", "nuget", "generic"];

impl Sought {
    /// A component or an advisory, told apart by the form of the name: `log4j-core@2.14.1`,
    /// `maven/org.apache.logging.log4j:log4j-core`, `CVE-2021-44228`.
    ///
    /// # Errors
    /// There is no name in it, or it is too long.
    pub fn named(text: &str) -> Result<Self> {
        let text = bounded(text)?;
        if is_advisory(text) { Self::advisory(text) } else { Self::component(text) }
    }

    /// A component: `NAME`, `NAME@VERSION` or `ECOSYSTEM/NAME@VERSION`.
    ///
    /// # Errors
    /// There is no name in it, or it is too long.
    pub fn component(text: &str) -> Result<Self> {
        component(bounded(text)?).ok_or_else(|| invalid("there is no name in it"))
    }

    /// An advisory by any of its names.
    ///
    /// # Errors
    /// It is empty or too long.
    pub fn advisory(text: &str) -> Result<Self> {
        Ok(Self::Advisory { id: bounded(text)?.to_owned() })
    }

    /// A licence by its SPDX identifier.
    ///
    /// # Errors
    /// It is empty or too long.
    pub fn licence(text: &str) -> Result<Self> {
        Ok(Self::Licence { id: bounded(text)?.to_owned() })
    }
}

fn bounded(text: &str) -> Result<&str> {
    let text = text.trim();
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        return Err(invalid(&format!("what is looked for has 1 to {TEXT_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn invalid(detail: &str) -> Problem {
    Problem::new(400, "sought-invalid", "This cannot be looked for").detail(detail).hint(
        "Give a component as NAME, NAME@VERSION or ECOSYSTEM/NAME@VERSION, an advisory by one of its names, a licence by its SPDX identifier.",
    )
}

/// `CVE-2021-44228`, `GHSA-jfh8-c2jp-5v3q`, `RHSA-2021:5133`: capitals, a hyphen, a digit. Names of components of that
/// form are found when their kind is given.
fn is_advisory(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    if ["cve-", "ghsa-"].iter().any(|prefix| lower.starts_with(prefix)) {
        return true;
    }
    let Some((prefix, rest)) = text.split_once('-') else { return false };
    let is_prefix = prefix == "openSUSE" || prefix.len() > 1 && prefix.bytes().all(|byte| byte.is_ascii_uppercase());
    is_prefix && rest.bytes().any(|byte| byte.is_ascii_digit()) && !text.contains(['@', '/'])
}

fn component(text: &str) -> Option<Sought> {
    let (ecosystem, rest) = match text.split_once('/') {
        Some((first, rest)) if ECOSYSTEMS.contains(&first) => (Some(first.to_owned()), rest),
        _ => (None, text),
    };
    // The first character of an npm name may be `@`.
    let (name, version) = match rest.rsplit_once('@') {
        Some((name, version)) if !name.is_empty() => (name, Some(version.to_owned())),
        _ => (rest, None),
    };
    let version = version.filter(|version| !version.is_empty());
    (!name.is_empty()).then(|| Sought::Component { ecosystem, name: name.to_owned(), version })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(ecosystem: Option<&str>, name: &str, version: Option<&str>) -> Sought {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Sought::Component { ecosystem: owned(ecosystem), name: name.to_owned(), version: owned(version) }
    }

    #[test]
    fn what_people_type_is_told_apart() {
        let advisory = |id: &str| Sought::Advisory { id: id.to_owned() };
        for (text, sought) in [
            ("log4j-core@2.14.1", component(None, "log4j-core", Some("2.14.1"))),
            (" log4j-core ", component(None, "log4j-core", None)),
            ("maven/org.a:log4j@2.14.1", component(Some("maven"), "org.a:log4j", Some("2.14.1"))),
            ("npm/@babel/core@7.1.0", component(Some("npm"), "@babel/core", Some("7.1.0"))),
            ("@babel/core", component(None, "@babel/core", None)),
            ("github.com/a/b", component(None, "github.com/a/b", None)),
            ("deb/zlib1g@", component(Some("deb"), "zlib1g", None)),
            ("CVE-2021-44228", advisory("CVE-2021-44228")),
            ("cve-2021-44228", advisory("cve-2021-44228")),
            ("GHSA-jfh8-c2jp-5v3q", advisory("GHSA-jfh8-c2jp-5v3q")),
            ("RHSA-2021:5133", advisory("RHSA-2021:5133")),
            ("openSUSE-SU-2021:4107-1", advisory("openSUSE-SU-2021:4107-1")),
            ("JSON-2@1", component(None, "JSON-2", Some("1"))),
        ] {
            assert_eq!(Sought::named(text).unwrap(), sought, "{text}");
        }
        assert_eq!(Sought::component("CVE-2021-44228").unwrap(), component(None, "CVE-2021-44228", None));
        assert_eq!(
            Sought::component("go/github.com/a/b@v1.2.3").unwrap(),
            component(Some("go"), "github.com/a/b", Some("v1.2.3"))
        );
        assert_eq!(Sought::advisory("odd").unwrap(), advisory("odd"));
        assert_eq!(Sought::licence(" GPL-3.0-only").unwrap(), Sought::Licence { id: "GPL-3.0-only".to_owned() });
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        for text in ["", "  ", &long, "npm/"] {
            assert_eq!(Sought::named(text).unwrap_err().kind, "sought-invalid", "{text}");
            assert!(text == "npm/" || Sought::licence(text).is_err() && Sought::advisory(text).is_err());
        }
    }
}
