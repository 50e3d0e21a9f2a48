//! Content digests: `sha256:` and `sha512:` with lowercase hexadecimal of the right length, and nothing else.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

use crate::excerpt;

/// A registered digest algorithm of the OCI image specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Algorithm {
    /// Every algorithm that a [`Digest`] can have.
    pub const ALL: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

    /// The name before the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }
}

/// The digest of some bytes. Parsing is strict: one text for one value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(Value);

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Value {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

/// Why a text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no colon between algorithm and value.
    #[error("digest \"{text}\" has no algorithm; write it as sha256:<64 lowercase hexadecimal digits>")]
    NoAlgorithm {
        /// An excerpt of the text.
        text: String,
    },
    /// An algorithm that is not registered, or not lowercase.
    #[error("digest algorithm \"{algorithm}\" is not supported; use sha256 or sha512")]
    UnknownAlgorithm {
        /// An excerpt of the algorithm's name.
        algorithm: String,
    },
    /// The value has the wrong number of digits for its algorithm.
    #[error("a {algorithm} digest has {expected} hexadecimal digits, this one has {found}")]
    WrongLength {
        /// The algorithm named.
        algorithm: &'static str,
        /// Digits that the algorithm needs.
        expected: usize,
        /// Bytes found after the colon.
        found: usize,
    },
    /// A character that is not one of `0-9a-f`.
    #[error("a digest is written in lowercase hexadecimal digits, \"{text}\" is not")]
    NotLowercaseHex {
        /// An excerpt of the value.
        text: String,
    },
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256_of(bytes: &[u8]) -> Self {
        Algorithm::Sha256.digest_of(bytes)
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Value::Sha256(_) => Algorithm::Sha256,
            Value::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The raw hash.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Value::Sha256(bytes) => bytes,
            Value::Sha512(bytes) => bytes,
        }
    }

    /// The lowercase hexadecimal digits after the colon.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(self.as_bytes().len() * 2);
        for byte in self.as_bytes() {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> String {
        let mut text = self.hex();
        text.truncate(12);
        text
    }

    /// A hasher of this digest's algorithm.
    pub fn hasher(&self) -> Hasher {
        Hasher::new(self.algorithm())
    }

    /// Whether `bytes` have this digest.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.algorithm().digest_of(bytes) == *self
    }
}

impl Algorithm {
    fn digest_of(self, bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(self);
        hasher.update(bytes);
        hasher.finish()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().as_str(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn decode<const N: usize>(algorithm: Algorithm, text: &str) -> Result<[u8; N], DigestError> {
    if text.len() != N * 2 {
        return Err(DigestError::WrongLength { algorithm: algorithm.as_str(), expected: N * 2, found: text.len() });
    }
    let nibble = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(DigestError::NotLowercaseHex { text: excerpt(text) }),
    };
    let mut value = [0; N];
    for (target, pair) in value.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *target = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(value)
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let Some((algorithm, value)) = text.split_once(':') else {
            return Err(DigestError::NoAlgorithm { text: excerpt(text) });
        };
        match algorithm {
            "sha256" => Ok(Digest(Value::Sha256(decode(Algorithm::Sha256, value)?))),
            "sha512" => Ok(Digest(Value::Sha512(decode(Algorithm::Sha512, value)?))),
            _ => Err(DigestError::UnknownAlgorithm { algorithm: excerpt(algorithm) }),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::name::deserialize_text(deserializer, "a digest such as sha256:…")
    }
}

/// A digest in the making, fed as bytes stream by.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        Hasher(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
        })
    }

    /// What [`Hasher::finish`] will make.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of everything taken in.
    pub fn finish(self) -> Digest {
        Digest(match self.0 {
            State::Sha256(state) => Value::Sha256(state.finalize().into()),
            State::Sha512(state) => Value::Sha512(state.finalize().into()),
        })
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({})", self.algorithm().as_str())
    }
}
