//! `pom.properties` and `pom.xml`. Sources: Maven Archiver, and Maven's POM reference.

use quick_xml::Reader;
use quick_xml::events::Event;

/// Elements within elements at most.
const DEPTH_MAX: usize = 64;
/// Properties of a pom that are kept for its own version at most.
const PROPERTIES_MAX: usize = 256;
/// Licences of a pom at most.
const LICENCES_MAX: usize = 32;
/// Bytes of one text that is kept at most.
const TEXT_BYTES_MAX: usize = 1_024;

/// Characters of an element's name that are kept.
const NAME_CHARACTERS_MAX: usize = 256;

/// What a pom says of its own artifact. What it does not say is empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pom {
    pub(super) group: String,
    pub(super) artifact: String,
    pub(super) version: String,
    pub(super) licences: Vec<String>,
}

impl Pom {
    /// Lines of `key=value` in the form of Java's properties, of which Maven uses the simplest.
    pub(super) fn from_properties(bytes: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(bytes);
        let mut pom = Self::default();
        for line in text.lines().map(str::trim_start).filter(|line| !line.starts_with(['#', '!'])) {
            let Some((key, value)) = line.split_once(['=', ':']) else { continue };
            let value = value.trim();
            if value.len() > TEXT_BYTES_MAX {
                continue;
            }
            match key.trim_end() {
                "groupId" => value.clone_into(&mut pom.group),
                "artifactId" => value.clone_into(&mut pom.artifact),
                "version" => value.clone_into(&mut pom.version),
                _ => {}
            }
        }
        if pom.version.is_empty() { Err("it states no version".to_owned()) } else { Ok(pom) }
    }

    /// The project's own names, its parent's where it has none, and properties of its own that they name.
    pub(super) fn from_xml(bytes: &[u8]) -> Result<Self, String> {
        // Poms in other encodings than UTF-8 have what is read here in ASCII.
        let bytes = String::from_utf8_lossy(bytes);
        let mut reader = Reader::from_str(&bytes);
        let mut path: Vec<String> = Vec::new();
        let mut text = String::new();
        let mut parent = Self::default();
        let mut pom = Self::default();
        let mut properties: Vec<(String, String)> = Vec::new();
        loop {
            match reader.read_event() {
                Ok(Event::Start(element)) => {
                    if path.len() == DEPTH_MAX {
                        return Err(format!("elements are nested deeper than {DEPTH_MAX}"));
                    }
                    path.push(element.name().as_ref().chars().take(NAME_CHARACTERS_MAX).collect());
                    text.clear();
                }
                Ok(Event::Text(more)) if text.len() + more.len() <= TEXT_BYTES_MAX => {
                    text.push_str(&more);
                }
                Ok(Event::CData(more)) if text.len() + more.len() <= TEXT_BYTES_MAX => {
                    text.push_str(&more);
                }
                Ok(Event::GeneralRef(name)) if text.len() < TEXT_BYTES_MAX => text.push_str(match &*name {
                    "amp" => "&",
                    "lt" => "<",
                    "gt" => ">",
                    _ => "",
                }),
                Ok(Event::End(_)) => {
                    let value = text.trim().to_owned();
                    text.clear();
                    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
                    match parts.as_slice() {
                        ["project", "groupId"] => pom.group = value,
                        ["project", "artifactId"] => pom.artifact = value,
                        ["project", "version"] => pom.version = value,
                        ["project", "parent", "groupId"] => parent.group = value,
                        ["project", "parent", "version"] => parent.version = value,
                        ["project", "licenses", "license", "name"] if pom.licences.len() < LICENCES_MAX => {
                            pom.licences.push(value);
                        }
                        ["project", "properties", key] if properties.len() < PROPERTIES_MAX => {
                            properties.push(((*key).to_owned(), value));
                        }
                        _ => {}
                    }
                    path.pop();
                }
                Ok(Event::Eof) if path.is_empty() => break,
                Ok(Event::Eof) => return Err("it is cut off".to_owned()),
                Ok(_) => {}
                Err(error) => return Err(format!("at byte {}: {error}", reader.error_position())),
            }
        }
        if pom.group.is_empty() {
            pom.group = parent.group.clone();
        }
        if pom.version.is_empty() {
            pom.version = parent.version.clone();
        }
        pom.group = resolve(&pom.group, &parent.group, &properties, |parent_or| parent_or == "groupId");
        pom.version = resolve(&pom.version, &parent.version, &properties, |parent_or| parent_or == "version");
        pom.licences.retain(|licence| !licence.is_empty());
        if pom.artifact.is_empty() { Err("it names no artifact".to_owned()) } else { Ok(pom) }
    }
}

/// A value in which each `${name}` is replaced once; empty where one is not known here.
fn resolve(value: &str, parent: &str, properties: &[(String, String)], is_parents: impl Fn(&str) -> bool) -> String {
    let mut resolved = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else { return String::new() };
        let own = properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let of_parent = name
            .strip_prefix("project.parent.")
            .or_else(|| name.strip_prefix("parent."))
            .filter(|field| is_parents(field))
            .map(|_| parent);
        let Some(known) = own.or(of_parent).filter(|known| !known.contains("${")) else { return String::new() };
        resolved.push_str(before);
        resolved.push_str(known);
        if resolved.len() > TEXT_BYTES_MAX {
            return String::new();
        }
        rest = after;
    }
    resolved.push_str(rest);
    resolved
}
