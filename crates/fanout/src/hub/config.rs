//! `[fanout]` of `hub.toml`, as it is read and checked.

use serde::Deserialize;

/// How long a grant is good unless told otherwise, in seconds: an hour.
const GRANT_SECONDS_DEFAULT: u64 = 3600;
/// The shortest life of a grant, in seconds: agents renew at half of it.
const GRANT_SECONDS_MIN: u64 = 60;
/// The longest, in seconds: a week.
const GRANT_SECONDS_MAX: u64 = 7 * 24 * 3600;

/// What the platform team decides of fan-out. Every key may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a grant is good, in seconds: so long a host whose certificate was revoked can go on exchanging what it was
    /// granted while the hub is away, and so long hosts go on without the hub.
    #[serde(deserialize_with = "grant_seconds")]
    pub grant_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { grant_seconds: GRANT_SECONDS_DEFAULT }
    }
}

fn grant_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let seconds = u64::deserialize(deserializer)?;
    if (GRANT_SECONDS_MIN..=GRANT_SECONDS_MAX).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(serde::de::Error::custom(format!(
            "grant_seconds is {seconds}: a grant is good for {GRANT_SECONDS_MIN} to {GRANT_SECONDS_MAX} seconds"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_of_a_grant_is_bounded() {
        let read = |text: &str| base::config::parse::<Config>("hub.toml", text).map_err(|error| error.to_string());
        assert_eq!(read("").unwrap().grant_seconds, 3600);
        assert_eq!(read("grant_seconds = 60").unwrap().grant_seconds, 60);
        for text in ["grant_seconds = 59", "grant_seconds = 604801", "grant_second = 60"] {
            assert!(read(text).unwrap_err().contains("grant_seconds"), "{text}");
        }
    }
}
