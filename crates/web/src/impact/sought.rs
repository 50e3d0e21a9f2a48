//! What people type into the search for where something is.

use api::Problem;
use api::inspect::Sought;

/// The longest text that is looked for, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// The kinds in the page's form, each with its word there.
pub(super) const KINDS: [(&str, &str); 4] =
    [("", "component or advisory"), ("component", "component"), ("advisory", "advisory"), ("licence", "licence")];

/// Ecosystems that may stand before a component's name.
const ECOSYSTEMS: [&str; 12] =
    ["deb", "rpm", "apk", "maven", "pypi", "npm", "go", "cargo", "gem", "composer", "nuget", "generic"];

/// Reads it. `log4j-core@2.14.1`, `maven/org.apache.logging.log4j:log4j-core`, `CVE-2021-44228`; without a kind an
/// advisory is told by the form of its name.
pub(super) fn parse(text: &str, kind: &str) -> Result<Sought, Problem> {
    let invalid = |detail: &str| {
        Problem::new(400, "sought-invalid", "This cannot be looked for")
            .detail(detail)
            .hint("Give a component as NAME, NAME@VERSION or ECOSYSTEM/NAME@VERSION, an advisory by one of its names, a licence by its SPDX identifier.")
    };
    let text = text.trim();
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        return Err(invalid(&format!("what is looked for has 1 to {TEXT_BYTES_MAX} bytes")));
    }
    match kind {
        "licence" => Ok(Sought::Licence { id: text.to_owned() }),
        "advisory" => Ok(Sought::Advisory { id: text.to_owned() }),
        "" if is_advisory(text) => Ok(Sought::Advisory { id: text.to_owned() }),
        "" | "component" => component(text).ok_or_else(|| invalid("there is no name in it")),
        _ => Err(invalid("it is a component, an advisory or a licence")),
    }
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
        for (text, kind, sought) in [
            ("log4j-core@2.14.1", "", component(None, "log4j-core", Some("2.14.1"))),
            (" log4j-core ", "", component(None, "log4j-core", None)),
            ("maven/org.a:log4j@2.14.1", "", component(Some("maven"), "org.a:log4j", Some("2.14.1"))),
            ("npm/@babel/core@7.1.0", "", component(Some("npm"), "@babel/core", Some("7.1.0"))),
            ("@babel/core", "", component(None, "@babel/core", None)),
            ("go/github.com/a/b@v1.2.3", "component", component(Some("go"), "github.com/a/b", Some("v1.2.3"))),
            ("github.com/a/b", "", component(None, "github.com/a/b", None)),
            ("deb/zlib1g@", "", component(Some("deb"), "zlib1g", None)),
            ("CVE-2021-44228", "", advisory("CVE-2021-44228")),
            ("cve-2021-44228", "", advisory("cve-2021-44228")),
            ("GHSA-jfh8-c2jp-5v3q", "", advisory("GHSA-jfh8-c2jp-5v3q")),
            ("RHSA-2021:5133", "", advisory("RHSA-2021:5133")),
            ("openSUSE-SU-2021:4107-1", "", advisory("openSUSE-SU-2021:4107-1")),
            ("CVE-2021-44228", "component", component(None, "CVE-2021-44228", None)),
            ("JSON-2@1", "", component(None, "JSON-2", Some("1"))),
            ("odd", "advisory", advisory("odd")),
            ("GPL-3.0-only", "licence", Sought::Licence { id: "GPL-3.0-only".to_owned() }),
        ] {
            assert_eq!(parse(text, kind).unwrap(), sought, "{text}");
        }
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        for (text, kind) in [("", ""), ("  ", "licence"), (long.as_str(), ""), ("a", "odd"), ("npm/", "")] {
            assert_eq!(parse(text, kind).unwrap_err().kind, "sought-invalid", "{text} {kind}");
        }
    }
}
