//! What is inside according to a bill of materials that somebody else wrote. Nothing of it was seen: what such a document
//! does not say, or says of itself that it is missing, counts as not examined.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read as _, Seek as _};

use crate::assemble::{Assembled, id};
use crate::component::Ecosystem;
use crate::document::read::{self, Bill, DOCUMENT_BYTES_MAX, Listed, ReadError};
use crate::document::{Details, Found, Licence, OperatingSystem, Place, Unexamined};
use crate::image::ImageError;
use crate::licence::Expression;
use crate::purl::Purl;

/// Bytes at the beginning of a document by which it is known to be a text of its kind.
const HEAD_BYTES: u64 = 4096;
/// What only bills of materials have.
const MARKS: [&[u8]; 3] = [b"\"bomFormat\"", b"\"spdxVersion\"", b"SPDXVersion:"];

/// What the document in a file of this name states; none where it is no bill of materials.
///
/// # Errors
/// It is one, and cannot be understood.
pub(crate) fn assembled(file: &File, name: &str) -> Result<Option<Assembled>, ImageError> {
    let Some(bytes) = text(file).map_err(ImageError::Read)? else { return Ok(None) };
    match read::read(&bytes) {
        Ok(bill) => Ok(Some(stated(bill, name))),
        Err(ReadError::Format { .. }) => Ok(None),
        Err(error) if MARKS.iter().any(|mark| memchr::memmem::find(&bytes, mark).is_some()) => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// The whole of it, or one byte more than is read of a document, where it begins like one.
fn text(file: &File) -> io::Result<Option<Vec<u8>>> {
    let (mut file, mut bytes) = (file, Vec::new());
    file.rewind()?;
    file.take(HEAD_BYTES).read_to_end(&mut bytes)?;
    let is_json = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if !is_json && memchr::memmem::find(&bytes, b"SPDXVersion:").is_none() {
        return Ok(None);
    }
    file.take(DOCUMENT_BYTES_MAX as u64 + 1 - bytes.len() as u64).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn stated(bill: Bill, name: &str) -> Assembled {
    let place = || Place { layer: None, chain: vec![name.to_owned()] };
    let mut unexamined: Vec<Unexamined> = bill
        .notes
        .iter()
        .map(|note| Unexamined { place: place(), why: format!("{}: {}", note.at, note.why) })
        .collect();
    let mut add = |why: &str| unexamined.push(Unexamined { place: place(), why: why.to_owned() });
    match bill.complete {
        Some(true) => {}
        Some(false) => add("the bill of materials states that it is not complete"),
        None => add("the bill of materials does not state that it is complete"),
    }
    let systems: BTreeSet<(String, String)> = bill.components.iter().filter_map(system).collect();
    if systems.len() > 1 {
        add("packages of several distributions: none of them is compared as its own distribution's");
    }
    let mut of_one = systems.into_iter();
    let operating_system = match (of_one.next(), of_one.next()) {
        (Some((id, version)), None) => Some(OperatingSystem { name: format!("{id} {version}"), id, version }),
        _ => None,
    };
    let ids: HashMap<String, String> =
        bill.components.iter().map(|listed| (listed.reference.clone(), id(&listed.component))).collect();
    let mut components: BTreeMap<String, Found> = BTreeMap::new();
    for listed in bill.components {
        let id = id(&listed.component);
        let found = found(id.clone(), listed, name, &ids);
        match components.get_mut(&id) {
            Some(known) => join(known, found),
            None => drop(components.insert(id, found)),
        }
    }
    Assembled {
        operating_system,
        components: components.into_values().map(once).collect(),
        unexamined,
        ..Assembled::default()
    }
}

/// Whose package it is, as its package URL says: the distribution's identifier and version.
fn system(listed: &Listed) -> Option<(String, String)> {
    if !matches!(listed.component.ecosystem, Ecosystem::Deb | Ecosystem::Rpm | Ecosystem::Apk) {
        return None;
    }
    let purl: Purl = listed.purl.as_deref()?.parse().ok()?;
    let distro = purl.qualifier("distro")?;
    // `debian-12`; or the version alone, as the namespace names the distribution.
    let (id, version) = match distro.rsplit_once('-') {
        Some((id, version)) => (id, version),
        None if distro.starts_with(|first: char| first.is_ascii_digit()) => (purl.namespace()?, distro),
        None => (distro, ""),
    };
    Some((id.to_owned(), version.to_owned()))
}

fn found(id: String, listed: Listed, name: &str, ids: &HashMap<String, String>) -> Found {
    let licences = listed.licences.into_iter().map(|licence| Licence {
        // Whoever wrote it may have called an expression what is none.
        expression: licence.expression.and_then(|stated| Expression::read(&stated).spdx()),
        stated: licence.stated,
    });
    let chain = |place: Option<String>| std::iter::once(name.to_owned()).chain(place).collect();
    let mut places: Vec<Place> =
        listed.places.into_iter().map(|place| Place { layer: None, chain: chain(Some(place)) }).collect();
    if places.is_empty() {
        places.push(Place { layer: None, chain: chain(None) });
    }
    let depends_on: BTreeSet<&String> =
        listed.depends_on.iter().filter_map(|reference| ids.get(reference)).filter(|needed| **needed != id).collect();
    Found {
        depends_on: depends_on.into_iter().cloned().collect(),
        component: listed.component,
        places,
        owner: None,
        further: listed.further,
        hashes: listed.hashes,
        details: Details::default(),
        licences: licences.collect(),
        id,
    }
}

/// The same component is often listed once for each place.
fn join(known: &mut Found, other: Found) {
    known.component.evidence = known.component.evidence.min(other.component.evidence);
    known.component.licences.extend(other.component.licences);
    known.places.extend(other.places);
    known.further.extend(other.further);
    known.hashes.extend(other.hashes);
    known.depends_on.extend(other.depends_on);
    known.licences.extend(other.licences);
}

/// Says once what was joined more than once: after all of it, as a document may list a component a hundred thousand times.
fn once(mut found: Found) -> Found {
    fn each<T: Ord>(all: &mut Vec<T>) {
        all.sort_unstable();
        all.dedup();
    }
    each(&mut found.component.licences);
    each(&mut found.places);
    each(&mut found.hashes);
    each(&mut found.depends_on);
    each(&mut found.licences);
    found.further.sort_by_cached_key(id);
    found.further.dedup();
    found
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::component::{Component, Evidence};

    fn of(text: &str) -> Result<Option<Assembled>, ImageError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        assembled(&file, "bom.json")
    }

    fn whys(assembled: &Assembled) -> Vec<&str> {
        assembled.unexamined.iter().map(|one| &*one.why).collect()
    }

    #[test]
    fn what_is_listed_twice_is_one_component_in_two_places() {
        let text = r#"{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [
            {"type": "library", "name": "a", "version": "1", "purl": "pkg:npm/a@1", "bom-ref": "x",
             "licenses": [{"expression": "MIT OR no such"}],
             "evidence": {"occurrences": [{"location": "/one/package.json"}]}},
            {"type": "library", "name": "a", "version": "1", "purl": "pkg:npm/a@1", "bom-ref": "y",
             "evidence": {"occurrences": [{"location": "/two/package.json"}]}},
            {"type": "library", "name": "libssl3", "version": "3.0", "bom-ref": "z",
             "purl": "pkg:deb/debian/libssl3@3.0?arch=amd64&distro=debian-12"}],
            "dependencies": [{"ref": "z", "dependsOn": ["x", "y", "z", "gone"]}]}"#;
        let assembled = of(text).unwrap().unwrap();
        let ids: Vec<&str> = assembled.components.iter().map(|found| &*found.id).collect();
        assert_eq!(ids, ["deb/libssl3:amd64@3.0", "npm/a@1"]);
        let [package, library] = &*assembled.components else { panic!("{ids:?}") };
        let chains: Vec<Vec<String>> = library.places.iter().map(|place| place.chain.clone()).collect();
        assert_eq!(chains, [["bom.json", "/one/package.json"], ["bom.json", "/two/package.json"]]);
        let licence = Licence { stated: "MIT OR no such".to_owned(), expression: None };
        assert_eq!(library.licences, [licence]);
        assert_eq!(package.depends_on, ["npm/a@1"]);
        assert_eq!(package.places, [Place { layer: None, chain: vec!["bom.json".to_owned()] }]);
        let system = assembled.operating_system.as_ref().unwrap();
        assert_eq!((&*system.id, &*system.version), ("debian", "12"));
        assert_eq!(whys(&assembled), ["the bill of materials does not state that it is complete"]);
    }

    #[test]
    fn what_it_says_to_be_missing_counts_as_not_examined() {
        let complete = |aggregate: &str| {
            let text = format!(
                r#"{{"bomFormat": "CycloneDX", "specVersion": "1.5", "compositions": [{{"aggregate": "{aggregate}"}}],
                "components": [
                {{"type": "library", "name": "a", "version": "1", "purl": "pkg:apk/alpine/a@1?distro=3.20"}},
                {{"type": "library", "name": "b", "version": "1", "purl": "pkg:apk/wolfi/b@1?distro=wolfi-20230201"}}]}}"#
            );
            of(&text).unwrap().unwrap()
        };
        let several = "packages of several distributions: none of them is compared as its own distribution's";
        assert_eq!(whys(&complete("complete")), [several]);
        assert_eq!(complete("complete").operating_system, None);
        let incomplete = "the bill of materials states that it is not complete";
        assert_eq!(whys(&complete("incomplete")), [incomplete, several]);
    }

    #[test]
    fn what_is_read_as_a_bill_and_what_is_not() {
        let tagged = "SPDXVersion: SPDX-2.3\nPackageName: a\nSPDXID: SPDXRef-a\nPackageVersion: 1\n";
        let found = of(tagged).unwrap().unwrap();
        let component = Component {
            ecosystem: Ecosystem::Generic,
            name: "a".to_owned(),
            version: "1".to_owned(),
            architecture: None,
            source: None,
            licences: Vec::new(),
            evidence: Evidence::Contained,
        };
        assert_eq!(found.components.iter().map(|found| &found.component).collect::<Vec<_>>(), [&component]);
        for other in ["", "PK\u{3}\u{4}", "{", r#"{"name": "a", "lockfileVersion": 3}"#] {
            assert!(of(other).unwrap().is_none(), "{other}");
        }
        for broken in [
            r#"{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": ["#,
            r#"{"bomFormat": "CycloneDX", "specVersion": "9.0"}"#,
        ] {
            let error = of(broken).unwrap_err().to_string();
            assert!(error.starts_with("the bill of materials cannot be understood: "), "{error}");
        }
    }
}
