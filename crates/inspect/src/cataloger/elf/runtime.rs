//! The `release` file at the root of a Java runtime. Source: JEP 223 and the files that OpenJDK's build writes.

use crate::cataloger::Found;
use crate::component::{Component, Ecosystem, Evidence};
use crate::content::Content;

/// Bytes of a `release` file at most.
pub const RELEASE_BYTES_MAX: usize = 64 * 1024;

/// What a file named `release` says of a Java runtime; nothing for other files of this name, of which there are many.
pub fn catalog_release(content: Content<'_>) -> Found {
    let mut found = Found::default();
    let bytes = match content.whole(RELEASE_BYTES_MAX) {
        Ok(bytes) => bytes,
        // A larger one is not a runtime's.
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => return found,
        Err(error) => {
            found.notes.push(format!("reading a release file: {error}"));
            return found;
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    let value = |key: &str| {
        text.lines().find_map(|line| {
            let value = line.strip_prefix(key)?.strip_prefix('=')?.trim();
            Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
                .filter(|v| !v.is_empty())
        })
    };
    let Some(java) = value("JAVA_VERSION") else { return found };
    // The runtime's version has the build too, as advisories and other tools name it.
    let version = value("JAVA_RUNTIME_VERSION").filter(|whole| whole.starts_with(java)).unwrap_or(java);
    let implementor = value("IMPLEMENTOR").unwrap_or_default();
    let name = if value("GRAALVM_VERSION").is_some() {
        "graalvm"
    } else if implementor.contains("Oracle") && value("BUILD_TYPE") == Some("commercial") {
        "jdk"
    } else if implementor.contains("IBM") && value("JVM_VARIANT").is_none() {
        "java"
    } else {
        "openjdk"
    };
    found.components.push(Component {
        ecosystem: Ecosystem::Generic,
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: value("OS_ARCH").map(str::to_owned),
        source: None,
        licences: Vec::new(),
        evidence: Evidence::Contained,
    });
    found
}
