//! Checks that tell a secret from what looks like one: randomness, checksums, alphabets, known examples.

/// What may stand in most tokens; a token neither follows nor precedes one of these.
pub(super) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The run of bytes from `at` that are of `alphabet`, at most `most` of them.
pub(super) fn run(bytes: &[u8], at: usize, most: usize, alphabet: fn(u8) -> bool) -> &[u8] {
    let rest = bytes.get(at..).unwrap_or_default();
    let rest = rest.get(..most).unwrap_or(rest);
    let end = rest.iter().position(|byte| !alphabet(*byte)).unwrap_or(rest.len());
    rest.get(..end).unwrap_or_default()
}

/// The byte before `at`.
pub(super) fn before(bytes: &[u8], at: usize) -> Option<u8> {
    at.checked_sub(1).and_then(|at| bytes.get(at)).copied()
}

/// Shannon's entropy in bits per byte.
pub(super) fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let length = bytes.len() as f64;
    counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / length).map(|p| -p * p.log2()).sum()
}

/// Digits, lower and upper case letters: how many kinds of them there are.
pub(super) fn kinds(bytes: &[u8]) -> usize {
    let has = |kind: fn(&u8) -> bool| usize::from(bytes.iter().any(kind));
    has(u8::is_ascii_digit) + has(u8::is_ascii_lowercase) + has(u8::is_ascii_uppercase)
}

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters of the checksum at the end of GitHub's and npm's tokens.
const CHECKSUM_CHARS: usize = 6;

/// Whether the last six characters are the CRC-32 of those before them, in base 62 with leading zeros.
pub(super) fn has_checksum(body: &[u8]) -> bool {
    let Some((random, stated)) = body.split_last_chunk::<CHECKSUM_CHARS>() else { return false };
    let mut number = crc32fast::hash(random);
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62.get((number % 62) as usize).copied().unwrap_or(b'0');
        number /= 62;
    }
    digits == *stated
}

/// Values from documentation that everyone copies.
const EXAMPLES: &[&[u8]] = &[
    // Amazon's documentation.
    b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    // The storage emulator's key, the same everywhere.
    b"Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    // The examples of RFC 5849 and 6749.
    b"kkk9d7dh3k39sjv7",
    b"2YotnFZFEjr1zCsicMWpAA",
    b"tGzv3JOkF0XG5Qx2TlKWIA",
    // The Cosmos emulator's key.
    b"C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==",
];

/// Parts of values that stand in for a secret.
const STAND_INS: &[&str] = &[
    "example",
    "change",
    "placeholder",
    "your",
    "xxxx",
    "****",
    "....",
    "dummy",
    "sample",
    "insert",
    "replace",
    "redacted",
    "<",
    ">",
    "${",
    "{{",
    "$(",
    "%(",
    "%s",
    "{0}",
    "todo",
    "lorem",
    "foobar",
    "123456",
    "abcdef",
    "not-a-",
    "notasecret",
    "fake",
    "my_",
    "my-",
    "mytoken",
];

/// Whether it is a known example or a stand-in, not a secret.
pub(super) fn is_example(value: &[u8]) -> bool {
    if EXAMPLES.contains(&value) {
        return true;
    }
    let text = String::from_utf8_lossy(value).to_ascii_lowercase();
    let same = value.first().is_some_and(|first| value.iter().all(|byte| byte == first));
    same || STAND_INS.iter().any(|part| text.contains(part))
}

/// Decodes base64 of either alphabet, with or without padding.
pub(super) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine as _;
    use base64::alphabet::{STANDARD, URL_SAFE};
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
    const SAFE: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);
    let safe = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
    if safe { SAFE.decode(text).ok() } else { PLAIN.decode(text).ok() }
}
