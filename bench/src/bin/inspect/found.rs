//! What each finds, names made alike, and what only others find.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use bench::report::Row;
use serde_json::Value;

use crate::image::Made;
use crate::run::{Place, Tools, measured};

/// Ecosystem, name and version, as they are compared.
type Key = (String, String, String);

/// The packages that each finds, and those that are missed.
pub(crate) fn found(tools: &Tools, made: &Made) -> anyhow::Result<Vec<Row>> {
    let cache = tools.trivy_cache()?;
    let place = Place::Archive(&made.archive);
    let own = longshore(&document(&tools.longshore(place))?);
    let known: BTreeSet<Key> = own.iter().map(|(key, _)| key.clone()).collect();
    let mut rows = Vec::new();
    let peers = [("Syft", syft(&document(&tools.syft(place))?)), {
        ("Trivy", trivy(&document(&tools.trivy(place, cache.path()))?))
    }];
    for (peer, theirs) in peers {
        let (mut explained, mut missed) = (0, 0);
        for (key, place) in theirs.iter().filter(|(key, _)| !is_known(&known, key)) {
            let (ecosystem, name, version) = key;
            let why = reason(&own, key, place);
            *if why.is_some() { &mut explained } else { &mut missed } += 1;
            let why = why.unwrap_or_else(|| "MISSED".to_owned());
            eprintln!("only {peer}: {ecosystem} {name} {version} ({place}): {why}");
        }
        let row = |row: String, value: i32, target: &str, holds| Row {
            row,
            value: f64::from(value),
            unit: "packages".to_owned(),
            peer: format!("found by {peer}"),
            peer_value: Some(theirs.len() as f64),
            target: target.to_owned(),
            holds,
        };
        rows.push(row(format!("packages that {peer} finds and Longshore does not"), missed, "0", Some(missed == 0)));
        rows.push(row(format!("those of {peer} that are no packages, or found by another name"), explained, "", None));
    }
    let mut missed = 0;
    for planted in &made.planted {
        let is_it = |(ecosystem, name, version): &Key| {
            *ecosystem == planted.ecosystem
                && *name == normal(&planted.ecosystem, &planted.name)
                && planted.version.as_ref().is_none_or(|planted| planted == version)
        };
        if !known.iter().any(is_it) {
            missed += 1;
            eprintln!("planted and not found: {} {} ({})", planted.ecosystem, planted.name, planted.what);
        }
    }
    let row = |row: &str, value: usize, peer: &str, peer_value: usize, target: &str, holds| Row {
        row: row.to_owned(),
        value: value as f64,
        unit: "packages".to_owned(),
        peer: peer.to_owned(),
        peer_value: Some(peer_value as f64),
        target: target.to_owned(),
        holds,
    };
    rows.push(row("planted and not found", missed, "planted", made.planted.len(), "0", Some(missed == 0)));
    rows.push(row("packages found by Longshore", known.len(), "layers", made.layers.len(), "", None));
    Ok(rows)
}

fn document(command: &Command) -> anyhow::Result<Value> {
    let output = tempfile::NamedTempFile::new()?;
    measured(command, output.path())?;
    read(output.path())
}

fn read(path: &Path) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// The same version, or one that says less: Java archives are named and stated in different ways.
fn is_known(known: &BTreeSet<Key>, key: &Key) -> bool {
    if known.contains(key) {
        return true;
    }
    let (ecosystem, name, version) = key;
    // Go's own version stands with its v or without.
    known.iter().any(|(own_ecosystem, own_name, own_version)| match ecosystem.as_str() {
        "maven" => own_ecosystem == ecosystem && last(own_name) == last(name) && own_version == version,
        "go" => {
            own_ecosystem == ecosystem
                && own_name == name
                && own_version.trim_start_matches('v') == version.trim_start_matches('v')
        }
        _ => false,
    })
}

/// A Java artifact's name without its group: one that a reader made up of the manifest is no part of the name.
fn last(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or_default()
}

/// Why there is no such package under this name, where what there is at the same place says so.
fn reason(own: &[(Key, Vec<String>)], (ecosystem, name, version): &Key, place: &str) -> Option<String> {
    let there: Vec<&Key> =
        own.iter().filter(|(_, paths)| paths.iter().any(|path| path == place)).map(|(key, _)| key).collect();
    let same = |is_it: &dyn Fn(&str, &str) -> bool| {
        there
            .iter()
            .find(|(of, name, version)| of == ecosystem && is_it(name, version))
            .map(|(_, name, version)| format!("found as {name} {version}"))
    };
    match ecosystem.as_str() {
        "maven" => same(&|other, stated| {
            last(other) == last(name) && version.strip_prefix(stated).is_some_and(|rest| rest.starts_with('-'))
        })
        .map(|found| format!("{found}: the file is a variant of it"))
        .or_else(|| same(&|_, stated| stated == version).map(|found| format!("{found}, as its pom.properties has it"))),
        "go" => same(&|other, stated| {
            let major = other.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix("/v"));
            major.is_some_and(|major| major.bytes().all(|byte| byte.is_ascii_digit())) && stated == version
        })
        .map(|found| format!("{found}, its module path")),
        "npm" if version.is_empty() && !name.starts_with('@') && name.contains('/') => {
            Some("a folder within a package: no package can have that name".to_owned())
        }
        _ => None,
    }
}

/// A name as registries compare it.
fn normal(ecosystem: &str, name: &str) -> String {
    match ecosystem {
        "pypi" => name.to_lowercase().replace(['_', '.'], "-"),
        _ => name.to_owned(),
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// What Longshore found, each with the files of the image in which it did.
fn longshore(document: &Value) -> Vec<(Key, Vec<String>)> {
    let one = |component: &Value| {
        let ecosystem = text(component, "ecosystem");
        let name = normal(ecosystem, text(component, "name"));
        (ecosystem.to_owned(), name, text(component, "version").to_owned())
    };
    let mut found = Vec::new();
    for component in list(document, "components") {
        let files = list(component, "places").filter_map(|place| list(place, "path").next()?.as_str());
        let files: Vec<String> = files.map(str::to_owned).collect();
        found.extend(list(component, "further").map(|component| (one(component), files.clone())));
        found.push((one(component), files));
    }
    found
}

fn syft(document: &Value) -> BTreeMap<Key, String> {
    let place = |artifact: &Value| list(artifact, "locations").next().map(|at| text(at, "path").to_owned());
    let of = |artifact: &Value| Some((key(text(artifact, "purl"))?, place(artifact).unwrap_or_default()));
    list(document, "artifacts").filter_map(of).collect()
}

fn trivy(document: &Value) -> BTreeMap<Key, String> {
    let place = |component: &Value| {
        let path = list(component, "properties").find(|property| text(property, "name").ends_with(":FilePath"));
        path.map(|path| text(path, "value").to_owned()).unwrap_or_default()
    };
    list(document, "components").filter_map(|found| Some((key(text(found, "purl"))?, place(found)))).collect()
}

/// What a package URL names: `pkg:deb/debian/bash@5.2?epoch=1`.
fn key(purl: &str) -> Option<Key> {
    let rest = purl.strip_prefix("pkg:")?;
    let rest = rest.split('#').next()?;
    let (rest, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
    let (path, version) = rest.rsplit_once('@').filter(|(_, version)| !version.contains('/')).unwrap_or((rest, ""));
    let (kind, name) = path.split_once('/')?;
    let mut version = decoded(version);
    let name = decoded(name);
    let (ecosystem, name) = match kind {
        "deb" | "rpm" | "apk" => {
            let epoch = qualifiers.split('&').find_map(|qualifier| qualifier.strip_prefix("epoch="));
            if let Some(epoch) = epoch {
                version = format!("{epoch}:{version}");
            }
            (kind, name.rsplit('/').next()?.to_owned())
        }
        "maven" => (kind, name.replacen('/', ":", 1)),
        "golang" => {
            // What Go writes for a version that it does not know.
            version = version.replace("(devel)", "");
            ("go", name)
        }
        "github" | "generic" | "bitnami" => ("generic", name.rsplit('/').next()?.to_owned()),
        _ => (kind, name),
    };
    Some((ecosystem.to_owned(), normal(ecosystem, &name), version))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
