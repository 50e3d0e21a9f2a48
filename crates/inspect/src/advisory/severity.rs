//! How bad a vulnerability is, and who says so.

use super::cvss::{Score, Vector};

/// How bad, in words. What nobody rated is [`Severity::Unknown`]: that is no low rating, so it is not ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Nobody said, or nothing that can be read.
    #[default]
    Unknown,
    /// Rated as without any impact.
    None,
    /// Of theoretical interest: Debian's "unimportant", Ubuntu's "negligible".
    Negligible,
    /// CVSS 0.1 to 3.9.
    Low,
    /// CVSS 4.0 to 6.9.
    Medium,
    /// CVSS 7.0 to 8.9.
    High,
    /// CVSS 9.0 to 10.0.
    Critical,
}

impl Severity {
    /// The name in lowercase.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::None => "none",
            Self::Negligible => "negligible",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// A place among the known ones, the worst greatest; `None` where it is unknown.
    pub const fn rank(self) -> Option<u8> {
        match self {
            Self::Unknown => None,
            Self::None => Some(0),
            Self::Negligible => Some(1),
            Self::Low => Some(2),
            Self::Medium => Some(3),
            Self::High => Some(4),
            Self::Critical => Some(5),
        }
    }

    /// Reads the words of GitHub, Red Hat, Ubuntu and Bitnami, and Debian's urgencies with their stars. `None` for a word
    /// that is not known; words that say "not yet" give [`Severity::Unknown`].
    pub fn from_word(word: &str) -> Option<Self> {
        let word = word.trim().trim_end_matches('*').to_ascii_lowercase();
        Some(match word.as_str() {
            "critical" => Self::Critical,
            "high" | "important" => Self::High,
            "medium" | "moderate" => Self::Medium,
            "low" => Self::Low,
            "unimportant" | "negligible" => Self::Negligible,
            "none" => Self::None,
            "unknown" | "untriaged" | "not yet assigned" | "not-yet-assigned" | "end-of-life" | "undefined" => {
                Self::Unknown
            }
            _ => return None,
        })
    }
}

impl From<Score> for Severity {
    fn from(score: Score) -> Self {
        match score.tenths() {
            0 => Self::None,
            1..40 => Self::Low,
            40..70 => Self::Medium,
            70..90 => Self::High,
            90.. => Self::Critical,
        }
    }
}

/// A severity with what it was taken from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assessment {
    /// How bad.
    pub severity: Severity,
    /// The vector, where there is one that can be read.
    pub vector: Option<Vector>,
}

impl Assessment {
    /// Reads a vector or a word; what is neither is unknown.
    pub fn from_text(text: &str) -> Self {
        match text.parse::<Vector>() {
            Ok(vector) => Self { severity: vector.score().into(), vector: Some(vector) },
            Err(_) => Self { severity: Severity::from_word(text).unwrap_or_default(), vector: None },
        }
    }

    /// The vector's score.
    pub fn score(&self) -> Option<Score> {
        self.vector.as_ref().map(Vector::score)
    }
}
