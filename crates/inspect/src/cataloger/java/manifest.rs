//! `META-INF/MANIFEST.MF`. Source: the JAR File Specification, "Notes on Manifest and Signature Files", and OSGi Core
//! chapter 3 for bundles.

/// Bytes of a value that is kept at most; lists of packages are longer and not needed.
const VALUE_BYTES_MAX: usize = 1_024;
/// The attributes that are kept.
const KEYS: [&str; 14] = [
    "Implementation-Title",
    "Implementation-Version",
    "Implementation-Vendor-Id",
    "Specification-Title",
    "Specification-Version",
    "Bundle-SymbolicName",
    "Bundle-Version",
    "Bundle-License",
    "Automatic-Module-Name",
    "Plugin-Version",
    "Short-Name",
    "Extension-Name",
    "Group-Id",
    "Artifact-Id",
];

/// What a manifest's main section says.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    values: Vec<(&'static str, String)>,
}

impl Manifest {
    /// Reads the main section, which ends at the first empty line.
    pub(super) fn new(bytes: &[u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut values: Vec<(&'static str, Vec<u8>)> = Vec::new();
        // Whether the line before is of a key that is kept, which a continuation goes on with.
        let mut kept = false;
        for line in lines(bytes) {
            if line.is_empty() {
                break;
            }
            if let Some(more) = line.strip_prefix(b" ") {
                if let (true, Some((_, value))) = (kept, values.last_mut())
                    && value.len() + more.len() <= VALUE_BYTES_MAX
                {
                    value.extend_from_slice(more);
                }
                continue;
            }
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let (key, value) = line.split_at(colon);
            let key = KEYS.iter().copied().find(|known| key.eq_ignore_ascii_case(known.as_bytes()));
            let value = value.get(1..).unwrap_or_default();
            let known = key.filter(|key| values.iter().all(|(before, _)| before != key));
            kept = known.is_some() && value.len() <= VALUE_BYTES_MAX;
            if let (Some(key), true) = (known, kept) {
                values.push((key, value.to_vec()));
            }
        }
        let text = |value: Vec<u8>| String::from_utf8_lossy(&value).trim().trim_matches('"').to_owned();
        Self { values: values.into_iter().map(|(key, value)| (key, text(value))).collect() }
    }

    /// A value that says something: builds leave `${version}` where they set nothing.
    fn value(&self, key: &str) -> Option<&str> {
        let value = self.values.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str())?;
        (!value.is_empty() && !value.contains("${")).then_some(value)
    }

    pub(super) fn names_anything(&self) -> bool {
        !self.values.is_empty()
    }

    /// The version, from what is closest to it.
    pub(super) fn version(&self) -> Option<&str> {
        let keys = ["Implementation-Version", "Plugin-Version", "Bundle-Version", "Specification-Version"];
        keys.iter().find_map(|key| self.value(key)).map(|version| version.split_whitespace().next().unwrap_or_default())
    }

    /// Whether any version in it is this one; bundles write hyphens as points and add to them.
    pub(super) fn states(&self, version: &str) -> bool {
        let plain = |text: &str| text.replace(['-', '_'], ".").to_ascii_lowercase();
        let version = plain(version);
        ["Implementation-Version", "Plugin-Version", "Bundle-Version", "Specification-Version"]
            .iter()
            .filter_map(|key| self.value(key))
            .any(|stated| {
                plain(stated).strip_prefix(&version).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
            })
    }

    /// The artifact, where the manifest has it in so many words: of a Jenkins plugin, and of what some builds write.
    pub(super) fn artifact(&self) -> Option<&str> {
        self.value("Plugin-Version")
            .and_then(|_| self.value("Short-Name").or_else(|| self.value("Extension-Name")))
            .or_else(|| self.value("Group-Id").and_then(|_| self.value("Artifact-Id")))
            .filter(|name| is_name(name))
    }

    /// The group of an artifact: by the vendor's identifier, which Maven sets to it, or by the bundle's name, which is
    /// group and artifact.
    pub(super) fn group(&self, artifact: &str) -> Option<String> {
        let stated = ["Group-Id", "Implementation-Vendor-Id"].iter().find_map(|key| self.value(key));
        if let Some(group) = stated.filter(|group| is_name(group) && group.contains('.')) {
            return Some(group.to_owned());
        }
        let bundle = self.value("Bundle-SymbolicName").or_else(|| self.value("Automatic-Module-Name"))?;
        let bundle = bundle.split(';').next().unwrap_or_default().trim();
        let group = bundle.strip_suffix(artifact)?.strip_suffix('.')?;
        (is_name(group) && group.contains('.')).then(|| group.to_owned())
    }

    /// The bundle's licence as stated: a name or an address.
    pub(super) fn licence(&self) -> Option<&str> {
        self.value("Bundle-License")
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Lines that end with LF, CR LF or CR.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let text = rest?;
        match memchr::memchr2(b'\n', b'\r', text) {
            Some(at) => {
                let (line, end) = text.split_at(at);
                let end = end.strip_prefix(b"\r\n").or_else(|| end.get(1..)).unwrap_or_default();
                rest = Some(end).filter(|end| !end.is_empty());
                Some(line)
            }
            None => {
                rest = None;
                Some(text)
            }
        }
    })
}
