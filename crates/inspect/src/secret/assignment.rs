//! Values that are given to names such as `password`, and passwords in addresses: without a form of their own, so
//! everything hangs on what the value looks like.

use super::check::{before, entropy, is_example, kinds, run};
use super::place::Place;
use super::{Confidence, Found, Rule};

/// Bytes of a name before and after the word that gave the hint.
const NAME_BYTES_MAX: usize = 48;
/// Bytes of a value.
const VALUE_BYTES: std::ops::RangeInclusive<usize> = 8..=256;
/// Bytes of what stands before the `@` of an address.
const LOGIN_BYTES_MAX: usize = 256;
/// The least entropy of a password, in bits per byte.
const PASSWORD_ENTROPY_MIN: f64 = 2.8;
/// The least entropy of a token or key, in bits per byte.
const TOKEN_ENTROPY_MIN: f64 = 3.5;
/// More entropy than names made of words have, in bits per byte.
const WORDS_ENTROPY_MAX: f64 = 4.2;
/// The least bytes of a token or key.
const TOKEN_BYTES_MIN: usize = 16;

/// What may follow the word in a name. `password_hash`, `tokenizer` and their like name no secret.
const ENDINGS: &[&str] =
    &["", "s", "_key", "key", "-key", "_key_base", "_access_key", "accesskey", "_value", "_base", "phrase"];

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// The assignment whose name has `word` at `at`.
pub(super) fn find(bytes: &[u8], at: usize, word: &str, place: &Place) -> Option<Found> {
    let ending = run(bytes, at + word.len(), NAME_BYTES_MAX, is_name);
    let folded = ending.to_ascii_lowercase();
    if !ENDINGS.iter().any(|known| known.as_bytes() == folded) {
        return None;
    }
    let name_end = at + word.len() + ending.len();
    let from = at.saturating_sub(NAME_BYTES_MAX);
    let head = bytes.get(from..at)?;
    let name_start = from + head.iter().rposition(|byte| !is_name(*byte)).map_or(0, |last| last + 1);
    let quoted_name = before(bytes, name_start).filter(|quote| matches!(quote, b'"' | b'\''));
    let mut next = name_end;
    if quoted_name.is_some() && bytes.get(next).copied() == quoted_name {
        next += 1;
        // `config["password"] = …`
        next += usize::from(bytes.get(next) == Some(&b']'));
    }
    next += run(bytes, next, 8, |byte| matches!(byte, b' ' | b'\t')).len();
    let sign = run(bytes, next, 3, |byte| matches!(byte, b'=' | b':' | b'>'));
    if !matches!(sign, b"=" | b":" | b":=" | b"=>") {
        return None;
    }
    next += sign.len();
    next += run(bytes, next, 8, |byte| matches!(byte, b' ' | b'\t')).len();
    let (start, value) = match bytes.get(next)? {
        quote @ (b'"' | b'\'' | b'`') => {
            let line =
                run(bytes, next + 1, *VALUE_BYTES.end() + 1, |byte| !matches!(byte, b'\n' | b'"' | b'\'' | b'`'));
            (bytes.get(next + 1 + line.len()) == Some(quote)).then_some((next + 1, line))?
        }
        // Without quotes it is a value only where nothing else could stand.
        _ if place.is_settings && begins_line(bytes, name_start) => {
            let line = run(bytes, next, *VALUE_BYTES.end() + 1, |byte| !matches!(byte, b'\n' | b'\r'));
            let value = line.split(|byte| byte.is_ascii_whitespace()).next()?;
            let plain =
                !value.iter().any(|byte| matches!(byte, b'(' | b')' | b'{' | b'}' | b'[' | b']' | b'$' | b',' | b';'));
            plain.then_some((next, value))?
        }
        _ => return None,
    };
    let name = bytes.get(name_start..name_end)?;
    let is_password = word.eq_ignore_ascii_case("assword") || word.eq_ignore_ascii_case("asswd");
    let confidence = weigh(value, is_password)?;
    let shown = format!("{} = ", String::from_utf8_lossy(name));
    Some(Found::new(Rule::Assignment, confidence, start, start + value.len(), &shown))
}

/// Whether only `export`, `ENV`, a list's hyphen or nothing stands before it in its line.
fn begins_line(bytes: &[u8], at: usize) -> bool {
    let from = at.saturating_sub(16);
    let head = bytes.get(from..at).unwrap_or_default();
    let line = head.iter().rposition(|byte| *byte == b'\n').and_then(|last| head.get(last + 1..)).unwrap_or(head);
    matches!(line.trim_ascii(), b"" | b"export" | b"ENV" | b"-" | b"\"" | b"'" | b"set")
}

fn weigh(value: &[u8], is_password: bool) -> Option<Confidence> {
    if !VALUE_BYTES.contains(&value.len()) || is_example(value) || is_common(value) {
        return None;
    }
    let printable = value.iter().all(|byte| byte.is_ascii_graphic());
    if !printable || !value.iter().any(u8::is_ascii_digit) || !value.iter().any(u8::is_ascii_alphabetic) {
        return None;
    }
    // Paths, addresses, templates, names of variables and classes, message keys.
    let starts =
        value.first().is_some_and(|byte| matches!(byte, b'/' | b'$' | b'%' | b'@' | b'#' | b'\\' | b'.' | b'-' | b'&'));
    let contains = |part: &[u8]| memchr::memmem::find(value, part).is_some();
    if starts || contains(b"://") || contains(b"\\x") || contains(b"\\u") || contains(b"()") || contains(b"::") {
        return None;
    }
    let bits = entropy(value);
    if is_password {
        return (bits >= PASSWORD_ENTROPY_MIN && !is_wordy(value)).then_some(Confidence::Low);
    }
    let wordy = is_wordy(value) && bits < WORDS_ENTROPY_MAX;
    let is_random = value.len() >= TOKEN_BYTES_MIN && bits >= TOKEN_ENTROPY_MIN && !wordy;
    let unbroken = value
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_' | b'.'));
    (is_random && unbroken).then_some(if kinds(value) == 3 { Confidence::Medium } else { Confidence::Low })
}

/// Whether it is made of words: runs of letters in one case, few digits.
fn is_wordy(value: &[u8]) -> bool {
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let mut longest = 0;
    let mut run = 0;
    for byte in value {
        run = if byte.is_ascii_lowercase() { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    digits * 8 < value.len() && longest >= 5
}

/// Words that are no password but speak of one.
const COMMON: &[&str] = &[
    "password",
    "passwd",
    "pass",
    "passphrase",
    "pw",
    "pwd",
    "secret",
    "token",
    "user",
    "username",
    "login",
    "foo",
    "bar",
    "test",
    "none",
    "null",
    "true",
    "false",
    "undefined",
    "key",
    "apikey",
    "hunter",
    "admin",
    "root",
    "guest",
    "string",
    "value",
    "auth",
    "credentials",
    "oauthtoken",
];

/// Whether it is one of the words that stand in for a password, digits and signs left out.
pub(super) fn is_common(value: &[u8]) -> bool {
    let letters: Vec<u8> = value.iter().filter(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_lowercase).collect();
    letters.is_empty() || COMMON.iter().any(|word| word.as_bytes() == letters)
}

/// `SCHEME://USER:PASSWORD@HOST`, whose `://` is at `at`.
pub(super) fn address(bytes: &[u8], at: usize, place: &Place) -> Option<Found> {
    let start = at + 3;
    let login = run(bytes, start, LOGIN_BYTES_MAX, |byte| {
        byte.is_ascii_graphic()
            && !matches!(
                byte,
                b'/' | b'@' | b'"' | b'\'' | b'<' | b'>' | b'?' | b'#' | b'`' | b'\\' | b'(' | b')' | b','
            )
    });
    if bytes.get(start + login.len()) != Some(&b'@') {
        return None;
    }
    let colon = memchr::memchr(b':', login)?;
    let password = login.get(colon + 1..)?;
    let user = login.get(..colon)?;
    let stands_in =
        |text: &[u8]| text.iter().any(|byte| matches!(byte, b'{' | b'}' | b'$' | b'%' | b'*' | b'[' | b']' | b'|'));
    if password.len() < 4 || stands_in(password) || is_common(password) || is_example(password) || user == password {
        return None;
    }
    // The host of a documented address says that it is one.
    let host =
        run(bytes, start + login.len() + 1, 64, |byte| is_name(byte) || matches!(byte, b'{' | b'$' | b'<' | b'%'));
    let contains = |part: &[u8]| memchr::memmem::find(host, part).is_some();
    if host.is_empty() || stands_in(host) || contains(b"example") || contains(b"<") || host.starts_with(b"host") {
        return None;
    }
    let confidence = match (kinds(password) >= 2, entropy(password) >= PASSWORD_ENTROPY_MIN) {
        _ if place.is_git_credentials => Confidence::High,
        (true, true) => Confidence::Medium,
        _ => Confidence::Low,
    };
    let rule = if place.is_git_credentials { Rule::GitCredentials } else { Rule::AddressPassword };
    let begin = start + colon + 1;
    Some(Found::new(rule, confidence, begin, begin + password.len(), "://…:"))
}
