//! Gem specifications as RubyGems writes them on installation (`Gem::Specification#to_ruby`).
//!
//! Nothing is evaluated: name, version and licences stand there as literals, each in a line of its own, and name and
//! version once more in the first comment, `# stub: NAME VERSION PLATFORM …`.

use crate::cataloger::Report;
use crate::cataloger::text::decode;
use crate::component::{Ecosystem, Evidence};

/// The longest specification that is read, in bytes; old ones list all files of their gem.
pub const GEMSPEC_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) fn read(bytes: &[u8]) -> Report {
    if let Some(refused) = Report::oversized(bytes, GEMSPEC_BYTES_MAX) {
        return refused;
    }
    let mut report = Report::default();
    let text = decode(bytes);
    let (mut name, mut version, mut licences) = (None, None, Vec::new());
    let mut stub = None;
    for line in text.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("# stub: ") {
            stub = stub.or(Some(rest));
        }
        let Some((attribute, value)) = assignment(line) else { continue };
        match attribute {
            "name" => name = literals(value).into_iter().next(),
            "version" => version = literals(value).into_iter().next(),
            "license" | "licenses" => licences = literals(value),
            _ => {}
        }
    }
    // A second stub comment names the extension; only the first has name and version.
    let mut stub = stub.unwrap_or_default().split_ascii_whitespace().map(str::to_owned);
    let (stub_name, stub_version) = (stub.next(), stub.next());
    match (name.or(stub_name), version.or(stub_version)) {
        (Some(name), Some(version)) => report.add(Ecosystem::Gem, Evidence::Installed, &name, &version, licences),
        _ => report.note("its name or version is no literal, and there is no `# stub:` line"),
    }
    report
}

/// `s.NAME = VALUE`, whatever the block calls the specification.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (target, value) = line.split_once('=')?;
    let (object, attribute) = target.trim_end().split_once('.')?;
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (plain(object) && plain(attribute)).then_some((attribute, value))
}

/// The string literals of a line, in order. One that holds an interpolation is none.
fn literals(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\'', '#']) {
        let (_, from) = rest.split_at(at);
        let mut characters = from.char_indices();
        let Some((_, quote)) = characters.next() else { break };
        if quote == '#' {
            break;
        }
        let mut literal = String::new();
        let mut end = None;
        let mut whole = true;
        while let Some((place, character)) = characters.next() {
            match character {
                _ if character == quote => {
                    end = Some(place + 1);
                    break;
                }
                '\\' => literal.extend(characters.next().map(|(_, escaped)| escaped)),
                _ => {
                    whole &= !(quote == '"' && literal.ends_with('#') && character == '{');
                    literal.push(character);
                }
            }
        }
        let Some(end) = end else { break };
        if whole {
            found.push(literal);
        }
        rest = from.get(end..).unwrap_or_default();
    }
    found
}
