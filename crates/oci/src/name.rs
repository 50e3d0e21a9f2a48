//! Repository names and tags, with the grammar of the OCI distribution specification.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::excerpt;

/// Bytes of a repository name, as many clients limit it (host name excluded).
pub(crate) const REPOSITORY_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

/// A repository: path components of lowercase letters and digits, joined inside by `.`, `_`, `__` or dashes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(String);

/// A tag: a letter, digit or underscore, then up to 127 of those, dots and dashes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

/// Why a text is not a repository name or a tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a repository name.
    #[error(
        "repository name \"{text}\" is not valid; use lowercase letters and digits, joined by '.', '_', '__', '-' or \
         '/', at most 255 bytes"
    )]
    Repository {
        /// An excerpt of the text.
        text: String,
    },
    /// Not a tag.
    #[error(
        "tag \"{text}\" is not valid; use letters, digits, '_', '.' and '-', at most 128 bytes, not beginning with '.' \
         or '-'"
    )]
    Tag {
        /// An excerpt of the text.
        text: String,
    },
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    is_alphanumeric(first)
        && is_alphanumeric(last)
        && bytes
            .split(is_alphanumeric)
            .all(|joint| matches!(joint, b"" | b"." | b"_" | b"__") || joint.iter().all(|&byte| byte == b'-'))
}

impl RepositoryName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tag {
    /// The tag that Docker takes when none is given.
    pub fn latest() -> Self {
        Tag("latest".to_owned())
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() <= REPOSITORY_BYTES_MAX && text.split('/').all(is_path_component) {
            Ok(RepositoryName(text.to_owned()))
        } else {
            Err(NameError::Repository { text: excerpt(text) })
        }
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let bytes = text.as_bytes();
        if bytes.first().is_some_and(is_word)
            && bytes.len() <= TAG_BYTES_MAX
            && bytes.iter().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
        {
            Ok(Tag(text.to_owned()))
        } else {
            Err(NameError::Tag { text: excerpt(text) })
        }
    }
}

/// Deserializes a validated text, with the parser's own error.
pub(crate) fn deserialize_text<'de, D, T>(deserializer: D, expecting: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    struct Text<T>(&'static str, PhantomData<T>);
    impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text(expecting, PhantomData))
}

macro_rules! text_type {
    ($type:ident, $expecting:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize_text(deserializer, $expecting)
            }
        }
    };
}

text_type!(RepositoryName, "a repository name");
text_type!(Tag, "a tag");

/// `null` stands for nothing: Go writes an empty slice or map so.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Sizes that fit a signed 64-bit integer: that is what databases and other implementations hold.
pub(crate) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = u64::deserialize(deserializer)?;
    if i64::try_from(size).is_err() {
        return Err(D::Error::custom("a size must be below 2^63 bytes"));
    }
    Ok(size)
}
