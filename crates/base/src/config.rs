//! Configuration from TOML files: an error names the file, the line and, for an unknown key, the nearest known one.
//!
//! The types that are loaded carry `#[serde(deny_unknown_fields)]`.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::folder::{FolderError, file_read};

/// A configuration file has at most this many bytes.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// How alike a known key must be to be named, as a Jaro-Winkler similarity.
const SIMILARITY_MIN: f64 = 0.75;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error("the configuration file {} does not exist; correct the path or leave the option out", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] FolderError),
    /// The content is wrong.
    #[error("{place}: {what}{}", hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Content {
        /// `FILE:LINE:COLUMN`, counted from 1.
        place: String,
        /// What is wrong there.
        what: String,
        /// What to write instead.
        hint: Option<String>,
    },
}

/// Reads a configuration file.
///
/// # Errors
/// See [`ConfigError`].
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let content = file_read(path, CONFIG_BYTES_MAX)?.ok_or_else(|| ConfigError::Missing { path: path.to_owned() })?;
    let name = path.display().to_string();
    let text = String::from_utf8(content).map_err(|error| ConfigError::Content {
        place: format!("{name}:1:1"),
        what: format!("the file is not UTF-8 text ({error})"),
        hint: None,
    })?;
    parse(&name, &text)
}

/// Reads configuration text; `name` stands for the file in errors.
///
/// # Errors
/// [`ConfigError::Content`].
pub fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let (line, column) = place(text, error.span().map_or(0, |span| span.start));
        let what = error.message().lines().collect::<Vec<_>>().join(", ");
        ConfigError::Content { hint: nearest_hint(&what), place: format!("{name}:{line}:{column}"), what }
    })
}

fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Serde's text for an unknown key is ``unknown field `a`, expected one of `b`, `c` ``; the quoted words are what there is
/// to compare.
fn nearest_hint(what: &str) -> Option<String> {
    let (unknown, expected) =
        what.strip_prefix("unknown field ").or_else(|| what.strip_prefix("unknown variant "))?.split_once(", ")?;
    let unknown = unknown.trim_matches('`');
    nearest(unknown, expected.split('`').skip(1).step_by(2)).map(|known| format!("did you mean `{known}`?"))
}

/// The known word that is most like `given`, for errors about names.
pub fn nearest<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(given, known), known))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Server {
        listen: Option<String>,
        #[serde(default)]
        storage: Storage,
    }

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Storage {
        folder: Option<String>,
    }

    #[test]
    fn errors_name_place_and_nearest_key() {
        let fine: Server = parse("hub.toml", "listen = \"a\"\n[storage]\nfolder = \"b\"").unwrap();
        assert_eq!((fine.listen.as_deref(), fine.storage.folder.as_deref()), (Some("a"), Some("b")));
        for (text, wanted) in [
            (
                "lisen = 1",
                "hub.toml:1:1: unknown field `lisen`, expected `listen` or `storage`; did you mean `listen`?",
            ),
            (
                "\n[storage]\nfoldr = 1",
                "hub.toml:3:1: unknown field `foldr`, expected `folder`; did you mean `folder`?",
            ),
            ("zzz = 1", "hub.toml:1:1: unknown field `zzz`, expected `listen` or `storage`"),
            ("listen = 1", "hub.toml:1:10: invalid type: integer `1`, expected a string"),
        ] {
            assert_eq!(parse::<Server>("hub.toml", text).unwrap_err().to_string(), wanted);
        }
        assert!(
            parse::<Server>("hub.toml", "# ä\n listen = ü").unwrap_err().to_string().starts_with("hub.toml:2:11: ")
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load::<Server>(Path::new("/absent/hub.toml")).unwrap_err();
        assert!(error.to_string().starts_with("the configuration file /absent/hub.toml does not exist"), "{error}");
    }
}
