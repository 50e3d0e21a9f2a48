//! What texts mean: durations, sizes, processors, ports, words of a command line. Each error says what would be right.

/// Billionths in a processor.
const NANO_CPUS: u64 = 1_000_000_000;

pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "True" | "TRUE" => Ok(true),
        "false" | "False" | "FALSE" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

pub(crate) fn integer<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not a whole number in range"))
}

/// A duration as Compose writes it (`1h30m`, `1.5s`, `300ms`), in microseconds.
pub(crate) fn duration_micros(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a duration such as 10s, 1m30s or 300ms");
    if text == "0" {
        return Ok(0);
    }
    if text.is_empty() {
        return Err(wrong());
    }
    let mut micros = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = split_at_first(rest, |c| !(c.is_ascii_digit() || c == '.'));
        let (unit, after) = split_at_first(after, |c| !c.is_ascii_alphabetic() && c != 'µ');
        let unit_micros = match unit {
            "us" | "µs" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            _ => return Err(wrong()),
        };
        let part = scaled(number, unit_micros).ok_or_else(wrong)?;
        micros = micros.checked_add(part).ok_or_else(wrong)?;
        rest = after;
    }
    Ok(micros)
}

/// A size as Compose writes it (`512m`, `1.5gb`, `4096`), in bytes; units are powers of 1024.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size such as 512m, 1.5g or 65536");
    let (number, unit) = split_at_first(text.trim(), |c| !(c.is_ascii_digit() || c == '.'));
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    scaled(number, 1 << shift).ok_or_else(wrong)
}

/// A size, or -1 for no limit; 0 says nothing (`memswap_limit`).
pub(crate) fn bytes_or_unlimited(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    i64::try_from(bytes(text)?).map_err(|_| format!("{text:?} is too large"))
}

/// A duration, or a whole number of microseconds (`cpu_rt_period`).
pub(crate) fn micros(text: &str) -> Result<u64, String> {
    text.parse().or_else(|_| duration_micros(text))
}

/// A duration that may have weeks (`every_1w2d` of `pull_policy`), in microseconds.
pub(crate) fn long_duration_micros(text: &str) -> Result<u64, String> {
    const WEEK_MICROS: u64 = 7 * 24 * 3_600_000_000;
    let (weeks, rest) = text.split_once('w').unwrap_or(("0", text));
    let wrong = || format!("{text:?} is not a duration such as 12h or 1w");
    let weeks: u64 = weeks.parse().map_err(|_| wrong())?;
    let rest = if rest.is_empty() { 0 } else { duration_micros(rest).map_err(|_| wrong())? };
    weeks.checked_mul(WEEK_MICROS).and_then(|weeks| weeks.checked_add(rest)).ok_or_else(wrong)
}

/// A whole number from a range.
pub(crate) fn within<T>(range: std::ops::RangeInclusive<T>) -> impl FnOnce(&str) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("{text:?} is not a whole number from {} to {}", range.start(), range.end())),
    }
}

/// A path of the machine: absolute, from `~`, or relative to the first Compose file and then in its simplest form.
pub(crate) fn machine_path(text: &str) -> Result<String, String> {
    if text.starts_with(['/', '~']) { Ok(text.to_owned()) } else { relative_path(text) }
}

/// A hardware address, as `02:42:ac:11:65:43`.
pub(crate) fn mac_address(text: &str) -> Result<String, String> {
    let pairs: Vec<&str> = text.split([':', '-']).collect();
    let good = |pair: &&str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    if pairs.len() == 6 && pairs.iter().all(good) {
        return Ok(pairs.join(":").to_ascii_lowercase());
    }
    Err(format!("{text:?} is not a hardware address such as 02:42:ac:11:65:43"))
}

/// Permission bits in octal, as everyone writes them.
pub(crate) fn permissions(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err(format!("{text:?} is not a mode in octal, such as 1777")),
    }
}

/// Processors (`0.5`, `2`), in billionths.
pub(crate) fn nano_cpus(text: &str) -> Result<u64, String> {
    let nano = scaled(text, NANO_CPUS).ok_or_else(|| format!("{text:?} is not a number of processors such as 0.5"))?;
    Ok(nano)
}

/// A decimal number times a unit, exactly but for what is below 1, which is cut off.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    const FRACTION_DIGITS_MAX: usize = 18;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = fraction.get(..FRACTION_DIGITS_MAX).unwrap_or(fraction);
    let numerator: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let denominator = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let below = u64::try_from(numerator * u128::from(unit) / denominator).ok()?;
    whole.checked_mul(unit)?.checked_add(below)
}

fn split_at_first(text: &str, stop: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(stop).unwrap_or(text.len()))
}

/// A port, 1 to 65535.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(format!("{text:?} is not a port: those are 1 to 65535")),
    }
}

/// `8000` or `8000-8010`, as first and last.
pub(crate) fn port_range(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        return Err(format!("the range {text:?} ends before it begins"));
    }
    Ok((first, last))
}

/// A signal's name or number.
pub(crate) fn signal(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let good = !name.is_empty()
        && name.len() <= 12
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"+-".contains(&byte));
    if good { Ok(text.to_owned()) } else { Err(format!("{text:?} is not a signal such as SIGTERM")) }
}

/// An absolute path in a container, without `.`, `..`, doubled or closing slashes.
pub(crate) fn container_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("{text:?} is not an absolute path"));
    }
    Ok(format!("/{}", path_parts(text).join("/")))
}

/// A relative path without `.`, doubled or closing slashes, and with `..` only at its beginning; `.` when nothing is left.
pub(crate) fn relative_path(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with(['/', '~']) {
        return Err(format!("{text:?} is not a relative path"));
    }
    let parts = path_parts(text);
    Ok(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

fn path_parts(text: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            // Nothing lies above the root.
            ".." if text.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    parts
}

/// A command line as words, by the shell's rules of quotes and backslashes and none of its others.
pub(crate) fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('"'), '\\') => {
                let escaped = characters.next().ok_or("the command line ends in a backslash")?;
                let word = word.get_or_insert_default();
                if !matches!(escaped, '"' | '\\' | '$' | '`') {
                    word.push('\\');
                }
                word.push(escaped);
            }
            (Some(_), character) => word.get_or_insert_default().push(character),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '\\') => {
                let escaped = characters.next().ok_or("the command line ends in a backslash")?;
                word.get_or_insert_default().push(escaped);
            }
            (None, character) if character.is_whitespace() => words.extend(word.take()),
            (None, character) => word.get_or_insert_default().push(character),
        }
    }
    if let Some(quote) = quote {
        return Err(format!("a {quote} in the command line is never closed"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, micros) in [
            ("0", 0),
            ("10s", 10_000_000),
            ("1h30m", 5_400_000_000),
            ("1.5s", 1_500_000),
            ("300ms", 300_000),
            (".5m", 30_000_000),
            ("7us", 7),
        ] {
            assert_eq!(duration_micros(text), Ok(micros), "{text}");
        }
        for text in ["", "10", "s", "10 s", "-1s", "1x", "1..5s", "99999999999999999999h", "5s3"] {
            assert!(duration_micros(text).is_err(), "{text} was taken");
        }
    }

    #[test]
    fn sizes_and_processors() {
        for (text, size) in
            [("0", 0), ("64", 64), ("1k", 1024), ("1.5GB", 1_610_612_736), ("2 MiB", 2_097_152), ("9b", 9)]
        {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "m", "-1", "1e3", "1x", "99999999999t"] {
            assert!(bytes(text).is_err(), "{text} was taken");
        }
        assert_eq!(nano_cpus("0.50"), Ok(500_000_000));
        assert_eq!(nano_cpus("0.000000001"), Ok(1));
        assert!(nano_cpus("half").is_err());
    }

    #[test]
    fn what_only_workspaces_say() {
        assert_eq!(long_duration_micros("1w2d"), Ok(9 * 24 * 3_600_000_000));
        assert_eq!(long_duration_micros("12h"), Ok(12 * 3_600_000_000));
        assert!(long_duration_micros("w").is_err() && long_duration_micros("1x").is_err());
        assert_eq!((micros("95000"), micros("400ms")), (Ok(95_000), Ok(400_000)));
        assert_eq!((bytes_or_unlimited("-1"), bytes_or_unlimited("1k")), (Ok(-1), Ok(1024)));
        assert_eq!(mac_address("02-42-AC-11-65-43").as_deref(), Ok("02:42:ac:11:65:43"));
        assert!(mac_address("02:42").is_err() && within(10..=1000_u16)("9").is_err());
    }

    #[test]
    fn paths() {
        assert_eq!(relative_path("./vote/").unwrap(), "vote");
        assert_eq!(relative_path(".").unwrap(), ".");
        assert_eq!(relative_path("a/../../b").unwrap(), "../b");
        assert_eq!(container_path("//data/./x/../../..").unwrap(), "/");
        assert!(container_path("data").is_err() && relative_path("/x").is_err());
    }

    #[test]
    fn command_lines() {
        assert_eq!(
            words(r#"a 'b c' "d \"e\" \n" f\ g '' h"i"j"#).unwrap(),
            ["a", "b c", "d \"e\" \\n", "f g", "", "hij"]
        );
        assert_eq!(words("  ").unwrap(), Vec::<String>::new());
        assert!(words("a 'b").is_err() && words("a\\").is_err());
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(list in prop::collection::vec(".*", 0..5)) {
            let line = list.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(words(&line), Ok(list));
        }

        #[test]
        fn durations_come_back(h in 0_u64..1000, m in 0_u64..60, ms in 0_u64..60_000) {
            let micros = (h * 3_600_000 + m * 60_000 + ms) * 1000;
            prop_assert_eq!(duration_micros(&format!("{h}h{m}m{ms}ms")), Ok(micros));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,30}") {
            let _ = (duration_micros(&text), bytes(&text), nano_cpus(&text), port_range(&text), words(&text));
            let _ = (container_path(&text), relative_path(&text), signal(&text), machine_path(&text));
            let _ = (micros(&text), long_duration_micros(&text), mac_address(&text), permissions(&text));
        }
    }
}
