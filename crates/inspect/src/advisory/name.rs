//! How package names are compared.

use std::borrow::Cow;

use crate::component::Ecosystem;

/// The form of a name in which two names of one package are equal.
pub fn normalised(ecosystem: Ecosystem, name: &str) -> Cow<'_, str> {
    match ecosystem {
        Ecosystem::PyPi => python(name),
        // The registries refuse a name that differs from another in this only.
        Ecosystem::Cargo if name.contains('-') => Cow::Owned(name.replace('-', "_")),
        Ecosystem::NuGet | Ecosystem::Composer | Ecosystem::Generic => lowercase(name),
        Ecosystem::Deb
        | Ecosystem::Rpm
        | Ecosystem::Apk
        | Ecosystem::Maven
        | Ecosystem::Npm
        | Ecosystem::Go
        | Ecosystem::Cargo
        | Ecosystem::Gem => Cow::Borrowed(name),
    }
}

fn lowercase(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// PEP 503: lowercase, and a run of dots, hyphens and underscores is one hyphen.
fn python(name: &str) -> Cow<'_, str> {
    let is_separator = |byte: u8| matches!(byte, b'-' | b'_' | b'.');
    let bytes = name.as_bytes();
    let is_normal = !bytes.iter().any(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'.'))
        && !bytes.windows(2).any(|pair| pair == b"--");
    if is_normal {
        return Cow::Borrowed(name);
    }
    let mut normal = String::with_capacity(name.len());
    for c in name.chars() {
        if u8::try_from(c).is_ok_and(is_separator) {
            if !normal.ends_with('-') {
                normal.push('-');
            }
        } else {
            normal.push(c.to_ascii_lowercase());
        }
    }
    Cow::Owned(normal)
}

/// A Maven name without its group.
pub(super) fn artifact(name: &str) -> Option<&str> {
    name.rsplit_once(':').map(|(_, artifact)| artifact)
}
