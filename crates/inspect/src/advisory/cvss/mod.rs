//! CVSS 2.0, 3.0, 3.1 and 4.0: vectors and their scores, as FIRST's specifications compute them.

use std::fmt;
use std::str::FromStr;

mod v2;
mod v3;
mod v4;

#[cfg(test)]
mod tests;

/// The longest vector that is read, in bytes. One with every metric of 4.0 has 197.
pub const MAX_VECTOR_BYTES: usize = 512;

/// The most metrics of any version.
const MAX_METRICS: usize = 32;

/// A score from 0.0 to 10.0, in tenths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Score(u8);

impl Score {
    /// The highest.
    pub const MAX: Self = Self(100);

    /// Ten times the score: 0 to 100.
    pub const fn tenths(self) -> u8 {
        self.0
    }

    fn from_tenths(tenths: f64) -> Self {
        // A float saturates where it becomes an integer.
        Self((tenths as u8).min(Self::MAX.0))
    }

    /// From a score that was rounded to tenths; below zero is zero.
    fn from_f64(score: f64) -> Self {
        Self::from_tenths((score * 10.0).round())
    }

    fn as_f64(self) -> f64 {
        f64::from(self.0) / 10.0
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

impl fmt::Debug for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The version of CVSS that a vector is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CvssVersion {
    /// 2.0.
    V2,
    /// 3.0.
    V30,
    /// 3.1.
    V31,
    /// 4.0.
    V40,
}

/// A vector with its scores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vector {
    text: String,
    version: CvssVersion,
    scores: Scores,
}

/// The scores of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scores {
    /// From the base metrics; in 4.0, from all.
    pub base: Score,
    /// With the temporal metrics; `None` in 4.0, and in 2.0 where none is given.
    pub temporal: Option<Score>,
    /// With the environmental metrics too; `None` in 4.0, and in 2.0 where none is given.
    pub environmental: Option<Score>,
}

impl Vector {
    /// The vector as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The version that it is written in.
    pub const fn version(&self) -> CvssVersion {
        self.version
    }

    /// The score that a finding is rated by: that of the base metrics, in 4.0 that of all.
    pub const fn score(&self) -> Score {
        self.scores.base
    }

    /// All scores.
    pub const fn scores(&self) -> Scores {
        self.scores
    }
}

impl FromStr for Vector {
    type Err = VectorError;

    fn from_str(text: &str) -> Result<Self, VectorError> {
        if text.len() > MAX_VECTOR_BYTES {
            return Err(VectorError::TooLong);
        }
        let (version, metrics) = if let Some(metrics) = text.strip_prefix("CVSS:4.0/") {
            (CvssVersion::V40, metrics)
        } else if let Some(metrics) = text.strip_prefix("CVSS:3.1/") {
            (CvssVersion::V31, metrics)
        } else if let Some(metrics) = text.strip_prefix("CVSS:3.0/") {
            (CvssVersion::V30, metrics)
        } else if text.starts_with("CVSS:") {
            return Err(VectorError::Version);
        } else {
            // Version 2.0 has no prefix; some write it in parentheses.
            (CvssVersion::V2, text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(text))
        };
        let scores = match version {
            CvssVersion::V2 => v2::scores(&Metrics::read(metrics, v2::METRICS)?)?,
            CvssVersion::V30 => v3::scores(&Metrics::read(metrics, v3::METRICS)?, v3::Minor::Zero)?,
            CvssVersion::V31 => v3::scores(&Metrics::read(metrics, v3::METRICS)?, v3::Minor::One)?,
            CvssVersion::V40 => {
                let base = v4::score(&Metrics::read(metrics, v4::METRICS)?)?;
                Scores { base, temporal: None, environmental: None }
            }
        };
        Ok(Self { text: text.to_owned(), version, scores })
    }
}

/// Why a text is not a vector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    /// It is longer than [`MAX_VECTOR_BYTES`].
    #[error("a CVSS vector of more than {MAX_VECTOR_BYTES} bytes")]
    TooLong,
    /// It names a version other than 3.0, 3.1 and 4.0.
    #[error("a CVSS version that is not known")]
    Version,
    /// A metric that the version does not have, or with a value that it does not have.
    #[error("CVSS metric {position} is not known, or has a value that is not")]
    Metric {
        /// Which one, from 1.
        position: usize,
    },
    /// A metric that is given twice.
    #[error("CVSS metric {name} is given twice")]
    Twice {
        /// Its name.
        name: &'static str,
    },
    /// A metric that must be given and is not.
    #[error("CVSS metric {name} is missing")]
    Missing {
        /// Its name.
        name: &'static str,
    },
}

/// A metric's name and its values.
type Known = (&'static str, &'static [&'static str]);

/// The metrics that a vector gives, in any order.
struct Metrics(Vec<(&'static str, &'static str)>);

impl Metrics {
    fn read(text: &str, known: &'static [Known]) -> Result<Self, VectorError> {
        let mut metrics: Vec<(&'static str, &'static str)> = Vec::with_capacity(MAX_METRICS);
        for (index, metric) in text.split('/').enumerate() {
            let unknown = VectorError::Metric { position: index + 1 };
            let Some((name, value)) = metric.split_once(':') else { return Err(unknown) };
            let Some((name, values)) = known.iter().find(|(known, _)| *known == name) else { return Err(unknown) };
            let Some(value) = values.iter().find(|known| **known == value) else { return Err(unknown) };
            if metrics.iter().any(|(given, _)| given == name) {
                return Err(VectorError::Twice { name });
            }
            metrics.push((name, value));
        }
        Ok(Self(metrics))
    }

    /// The value given for `name`.
    fn get(&self, name: &str) -> Option<&'static str> {
        self.0.iter().find(|(given, _)| *given == name).map(|(_, value)| *value)
    }

    /// The value of one that must be given.
    fn required(&self, name: &'static str) -> Result<&'static str, VectorError> {
        self.get(name).ok_or(VectorError::Missing { name })
    }

    /// Whether any of these is given with a value other than `undefined`.
    fn defines(&self, names: &[&str], undefined: &str) -> bool {
        names.iter().any(|name| self.get(name).is_some_and(|value| value != undefined))
    }
}
