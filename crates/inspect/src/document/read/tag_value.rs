//! SPDX 2.2 and 2.3 as tag-value: `Tag: value` lines, with texts over several lines in `<text>` and `</text>`.

use super::spdx::{Document, LICENCE_NAME_BYTES_MAX, Package, Relationship};
use super::{Bill, COMPONENTS_MAX, DOCUMENT_BYTES_MAX, KNOWN, ReadError};
use crate::document::Hash;

pub(super) fn read(bytes: &[u8]) -> Result<Bill, ReadError> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(ReadError::TooLong { bytes: bytes.len() });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ReadError::Format { known: KNOWN })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.lines().take(64).any(|line| line.trim_start().starts_with("SPDXVersion:")) {
        return Err(ReadError::Format { known: KNOWN });
    }
    let mut document = Document::default();
    let mut section = Section::Document;
    let mut rest = text;
    let mut line_number = 0;
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        line_number += 1;
        rest = after;
        let at = format!("line {line_number}");
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((tag, value)) = line.split_once(':') else {
            document.notes.add(at, "neither a tag nor a comment");
            continue;
        };
        let mut value = value.trim().to_owned();
        if let Some(opened) = value.strip_prefix("<text>") {
            if let Some(closed) = opened.strip_suffix("</text>") {
                value = closed.to_owned();
            } else {
                let Some((inner, after)) = rest.split_once("</text>") else {
                    return Err(ReadError::Malformed { at, why: "<text> without </text>".to_owned() });
                };
                value = format!("{opened}\n{inner}");
                line_number += inner.matches('\n').count();
                rest = after;
            }
        }
        take(&mut document, &mut section, tag.trim(), value, at)?;
    }
    document.into_bill()
}

/// What the tags that follow are about.
enum Section {
    Document,
    Package,
    Licence(String),
    Other,
}

fn take(document: &mut Document, section: &mut Section, tag: &str, value: String, at: String) -> Result<(), ReadError> {
    match tag {
        "SPDXVersion" => document.version = value,
        "DocumentName" => document.name = value,
        "DocumentComment" => document.comment = value,
        "PackageName" => {
            if document.packages.len() >= COMPONENTS_MAX {
                return Err(ReadError::Limit { at, what: "packages", limit: COMPONENTS_MAX });
            }
            document.packages.push(Package { name: value, at, ..Package::default() });
            *section = Section::Package;
        }
        "LicenseID" => {
            document.licences.insert(value.clone(), value.clone());
            *section = Section::Licence(value);
        }
        "FileName" | "SnippetSPDXID" => *section = Section::Other,
        "LicenseName" => {
            if let Section::Licence(id) = section
                && value != "NOASSERTION"
                && value.len() <= LICENCE_NAME_BYTES_MAX
            {
                document.licences.insert(id.clone(), value);
            }
        }
        "Relationship" => {
            let words: Vec<&str> = value.split_whitespace().collect();
            match words.as_slice() {
                [from, kind, to, ..] => document.relationships.push(Relationship {
                    from: (*from).to_owned(),
                    kind: (*kind).to_owned(),
                    to: (*to).to_owned(),
                }),
                _ => document.notes.add(at, "a relationship has three words"),
            }
        }
        _ => {
            if let (Section::Package, Some(package)) = (section, document.packages.last_mut())
                && let Err(why) = package_tag(package, tag, value)
            {
                document.notes.add(at, why);
            }
        }
    }
    Ok(())
}

fn package_tag(package: &mut Package, tag: &str, value: String) -> Result<(), &'static str> {
    match tag {
        "SPDXID" => package.id = value,
        "PackageVersion" => package.version = value,
        "PrimaryPackagePurpose" => package.purpose = value,
        "PackageLicenseDeclared" => package.declared = value,
        "PackageChecksum" => {
            let hash = value.split_once(':').and_then(|(algorithm, digits)| Hash::of(algorithm.trim(), digits.trim()));
            package.hashes.push(hash.ok_or("the checksum is of no known algorithm or length")?);
        }
        "ExternalRef" => {
            let words: Vec<&str> = value.split_whitespace().collect();
            match words.as_slice() {
                [_, "purl", locator] => package.purls.push((*locator).to_owned()),
                [_, _, _] => {}
                _ => return Err("an external reference has three words"),
            }
        }
        "AnnotationComment" => package.comments.push(value),
        _ => {}
    }
    Ok(())
}
