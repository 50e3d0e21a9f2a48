//! How values read on a page.

use api::Micros;
use maud::{Markup, html};
use oci::Digest;

/// How many digits of a digest or commit people compare.
const DIGITS: usize = 12;

/// A moment as the time that has passed since, which the page's script keeps up to date.
pub(crate) fn since(then: Micros, now: Micros) -> Markup {
    html! { time datetime=(then) data-micros=(then.0) { (span_words(now.0 - then.0)) } }
}

/// A span of time: `8 s`, `12 min`, `5 h`, `3 d`.
pub(crate) fn span_words(micros: i64) -> String {
    let seconds = micros.max(0) / 1_000_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A digest by its first digits, with a colour of its own, so that equal ones look equal at a glance.
pub(crate) fn digest(digest: &Digest) -> Markup {
    let text = digest.to_string();
    let hash = text.split_once(':').map_or(text.as_str(), |(_, hash)| hash);
    let swatch = u8::from_str_radix(hash.get(..2).unwrap_or("0"), 16).unwrap_or(0) % 12;
    html! { code.digest title=(text) { span class={ "swatch s" (swatch) } {} (hash.chars().take(DIGITS).collect::<String>()) } }
}

/// A commit by its first digits.
pub(crate) fn commit(commit: &str) -> Markup {
    html! { code title=(commit) { (commit.chars().take(DIGITS).collect::<String>()) } }
}

/// A number with its thousands apart: `5,000`.
pub(crate) fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and what it counts: `1 layer`, `5,000 layers`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    let word = if number == 1 { one } else { many };
    format!("{} {word}", count(usize::try_from(number).unwrap_or(usize::MAX)))
}

/// What a stranger wrote, on one line and up to so many characters: the beginning and the end of what is longer. What
/// nobody would see, or what turns the text around, is spelt out.
pub(crate) fn plain(text: &str, chars_max: usize) -> String {
    let length = text.chars().take(PLAIN_CHARS_MAX + 1).count();
    let (head, tail) = if length > chars_max { (chars_max * 2 / 3, chars_max / 3) } else { (length, 0) };
    let mut plain = String::with_capacity(text.len().min(chars_max * 4));
    let spell = |plain: &mut String, letter: char| {
        if is_unseen(letter) { plain.extend(letter.escape_unicode()) } else { plain.push(letter) }
    };
    text.chars().take(head).for_each(|letter| spell(&mut plain, letter));
    if length > chars_max {
        plain.push('…');
        let end: Vec<char> = text.chars().rev().take(tail).collect();
        end.into_iter().rev().for_each(|letter| spell(&mut plain, letter));
    }
    plain
}

/// More characters than this are not counted.
const PLAIN_CHARS_MAX: usize = 100_000;

/// Control characters, what joins or separates without width, and what changes the direction of reading.
fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}')
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(letter, '\u{e0000}'..='\u{e007f}')
}

/// A moment by the calendar, in UTC: `2026-09-21 14:13`.
pub(crate) fn date(at: Micros) -> Markup {
    let text = at.to_string();
    let words = match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute}"),
        _ => text.clone(),
    };
    html! { time datetime=(text) title="UTC" { (words) } }
}

/// Bytes as people compare them, in powers of 1,000 like most registries: `512 B`, `48.1 MB`.
pub(crate) fn size_words(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1000.0;
    let mut unit = 0;
    // What would be shown as 1000.0 is the next unit's 1.0.
    while size >= 999.95 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// What was counted and not listed.
pub(crate) fn and_more(number: usize) -> String {
    format!("and {} more", count(number))
}

/// An enumeration's value as the wire names it, in words.
pub(crate) fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word.replace('_', " "),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_counts_read_well() {
        let seconds = [-5, 0, 119, 120, 7_199, 7_200, 172_799, 172_800];
        let words: Vec<String> = seconds.iter().map(|seconds| span_words(seconds * 1_000_000)).collect();
        assert_eq!(words, ["0 s", "0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"]);
        let sizes = [0, 999, 1_000, 999_949, 999_950, 48_123_456, u64::MAX].map(size_words);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "48.1 MB", "18.4 EB"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let layers = [0, 1, 5_000].map(|number| counted(number, "layer", "layers"));
        assert_eq!(layers, ["0 layers", "1 layer", "5,000 layers"]);
        assert!(date(Micros(1_790_000_000_000_000)).0.ends_with(">2026-09-21 14:13</time>"));
    }

    #[test]
    fn what_nobody_would_see_is_spelt_out_and_what_is_long_keeps_both_ends() {
        assert_eq!(plain("a/b ü 漢", 10), "a/b ü 漢");
        assert_eq!(plain("exe\u{202e}gpj\n\u{200b}\u{1b}[31m", 40), "exe\\u{202e}gpj\\u{a}\\u{200b}\\u{1b}[31m");
        assert_eq!(plain("0123456789", 6), "0123…89");
        let long = plain(&"é".repeat(1_000_000), 90);
        assert_eq!((long.chars().count(), plain("", 5)), (91, String::new()));
    }
}
