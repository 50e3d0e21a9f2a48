//! Lengths of time and numbers of bytes as people write them in files: `"30d"`, `"50 GiB"`. A number without a unit is
//! refused, so that nobody has to know which one is meant.

use std::fmt;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Units of time, in seconds.
const TIME_UNITS: [(&str, u64); 5] = [("s", 1), ("min", 60), ("h", 3600), ("d", 86_400), ("w", 7 * 86_400)];
/// Units of size, in bytes, each larger than the one before.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

/// Why a text is not a length of time or a number of bytes, with what is right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a length of time.
    #[error("`{text}` is not a length of time: write a whole number and s, min, h, d or w, such as \"30d\"")]
    Time {
        /// As it was given.
        text: String,
    },
    /// Not a number of bytes.
    #[error(
        "`{text}` is not a size: write a whole number and B, KB, MB, GB, TB, KiB, MiB, GiB or TiB, such as \"50 GiB\""
    )]
    Size {
        /// As it was given.
        text: String,
    },
}

/// A length of time from text such as `90s`, `15 min`, `1h`, `30d`, `2w`.
///
/// # Errors
/// [`UnitError::Time`].
pub fn time_parse(text: &str) -> Result<Duration, UnitError> {
    let seconds = amount(text, &TIME_UNITS).ok_or_else(|| UnitError::Time { text: text.to_owned() })?;
    Ok(Duration::from_secs(seconds))
}

/// A number of bytes from text such as `512 MiB` or `50GB`.
///
/// # Errors
/// [`UnitError::Size`].
pub fn size_parse(text: &str) -> Result<u64, UnitError> {
    amount(text, &SIZE_UNITS).ok_or_else(|| UnitError::Size { text: text.to_owned() })
}

fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start_matches(' '))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// For a field of a configuration that is a length of time: `#[serde(deserialize_with = "base::units::time")]`.
///
/// # Errors
/// Those of the deserializer, with the text of [`UnitError::Time`].
pub fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    time_parse(&String::deserialize(from)?).map_err(D::Error::custom)
}

/// For a field that may be left out, together with `#[serde(default)]`.
///
/// # Errors
/// Those of [`time`].
pub fn time_option<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    time(from).map(Some)
}

/// For a field that is a number of bytes and may be left out, together with `#[serde(default)]`.
///
/// # Errors
/// Those of the deserializer, with the text of [`UnitError::Size`].
pub fn size_option<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    size_parse(&String::deserialize(from)?).map(Some).map_err(D::Error::custom)
}

/// A number of bytes for people: `0 B`, `1.5 GiB`; one digit behind the point, cut off, so that nothing looks larger than
/// it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = SIZE_UNITS.iter().rev().find(|(name, factor)| name.ends_with("iB") && self.0 >= *factor);
        let Some((name, factor)) = binary else { return write!(f, "{} B", self.0) };
        let (whole, tenth) = (self.0 / factor, self.0 % factor * 10 / factor);
        if tenth == 0 { write!(f, "{whole} {name}") } else { write!(f, "{whole}.{tenth} {name}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read_and_what_is_unclear_is_refused() {
        for (text, seconds) in [("90s", 90), ("15 min", 900), ("1h", 3600), ("30d", 2_592_000), ("2w", 1_209_600)] {
            assert_eq!(time_parse(text).unwrap().as_secs(), seconds, "{text}");
        }
        for (text, bytes) in [("0 B", 0), ("50GB", 50_000_000_000), ("1 KiB", 1024), ("3 TiB", 3 << 40)] {
            assert_eq!(size_parse(text).unwrap(), bytes, "{text}");
        }
        for text in
            ["", "30", "d", "-1d", "1.5h", "30 days", "1M", "1h30min", "99999999999999999999d", "9999999999999999d"]
        {
            assert_eq!(time_parse(text), Err(UnitError::Time { text: text.into() }), "{text}");
        }
        for text in ["", "50", "50G", "GiB", "50 gib", "1.5 GiB", "99999999999 TiB"] {
            assert_eq!(size_parse(text), Err(UnitError::Size { text: text.into() }), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_binary_units() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (3 << 29, "1.5 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), shown);
        }
    }
}
