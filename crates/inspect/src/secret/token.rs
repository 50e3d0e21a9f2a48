//! Tokens that begin with a prefix of their own.

use super::check::{base64, before, entropy, has_checksum, is_example, is_word, kinds, run};
use super::{Confidence, Found, Rule};

/// The longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 4096;
/// How far from an access key id its secret is looked for, in bytes.
const PAIR_DISTANCE_BYTES: usize = 400;
/// The least entropy of a token, in bits per byte.
const ENTROPY_MIN: f64 = 3.5;

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn url_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn standard(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// What follows the prefix, where the prefix begins a word and as many characters of the alphabet follow as may.
fn body<'a>(
    bytes: &'a [u8],
    at: usize,
    prefix: &str,
    alphabet: fn(u8) -> bool,
    least: usize,
    most: usize,
) -> Option<&'a [u8]> {
    if before(bytes, at).is_some_and(|byte| is_word(byte) || byte == b'-') {
        return None;
    }
    let body = run(bytes, at + prefix.len(), most + 1, alphabet);
    ((least..=most).contains(&body.len()) && !is_example(body)).then_some(body)
}

fn random(body: &[u8]) -> bool {
    entropy(body) >= ENTROPY_MIN && kinds(body) >= 2
}

fn told(rule: Rule, confidence: Confidence, at: usize, prefix: &str, body: &[u8]) -> Option<Found> {
    Some(Found::new(rule, confidence, at, at + prefix.len() + body.len(), prefix))
}

/// GitHub's and npm's: 36 characters, of which the last six are a checksum.
pub(super) fn checked(bytes: &[u8], at: usize, prefix: &str, rule: Rule) -> Option<Found> {
    let body = body(bytes, at, prefix, alphanumeric, 36, 36).filter(|body| has_checksum(body))?;
    told(rule, Confidence::High, at, prefix, body)
}

/// GitHub's fine-grained ones: 22 characters, `_`, 59 characters.
pub(super) fn fine_grained(bytes: &[u8], at: usize, prefix: &str) -> Option<Found> {
    let body = body(bytes, at, prefix, is_word, 82, 82).filter(|body| body.get(22) == Some(&b'_') && random(body))?;
    told(Rule::GithubToken, Confidence::High, at, prefix, body)
}

/// GitLab's: 20 characters, or more in the routable form, which has dots.
pub(super) fn gitlab(bytes: &[u8], at: usize, prefix: &str) -> Option<Found> {
    let alphabet = |byte| url_safe(byte) || byte == b'.';
    let body = body(bytes, at, prefix, alphabet, 20, 300).filter(|body| random(body) && kinds(body) == 3)?;
    told(Rule::GitlabToken, Confidence::High, at, prefix, body)
}

/// Slack's: `xoxb-`, `xoxp-` and so on, groups parted by hyphens of which the first ones are numbers.
pub(super) fn slack(bytes: &[u8], at: usize, prefix: &str) -> Option<Found> {
    let body = body(bytes, at, prefix, |byte| alphanumeric(byte) || byte == b'-', 20, 300)?;
    let numbered = body.split(|byte| *byte == b'-').take(2).any(|group| group.len() >= 8 && kinds(group) <= 2);
    let last = body.rsplit(|byte| *byte == b'-').next()?;
    (numbered && last.len() >= 16 && random(last)).then_some(())?;
    told(Rule::SlackToken, Confidence::High, at, prefix, body)
}

/// `hooks.slack.com/services/T…/B…/` and 24 characters.
pub(super) fn slack_webhook(bytes: &[u8], at: usize, prefix: &str) -> Option<Found> {
    let body = run(bytes, at + prefix.len(), 100, |byte| alphanumeric(byte) || byte == b'/');
    let mut parts = body.split(|byte| *byte == b'/');
    let (team, hook, secret) = (parts.next()?, parts.next()?, parts.next()?);
    let fits = team.starts_with(b"T") && hook.starts_with(b"B") && secret.len() == 24 && random(secret);
    (fits && !is_example(secret)).then_some(())?;
    told(Rule::SlackWebhook, Confidence::High, at, prefix, body)
}

/// Stripe's: of the live and the test mode.
pub(super) fn stripe(bytes: &[u8], at: usize, prefix: &str) -> Option<Found> {
    let body = body(bytes, at, prefix, alphanumeric, 24, 255).filter(|body| random(body))?;
    let confidence = match prefix {
        "sk_live_" | "rk_live_" => Confidence::High,
        "whsec_" => Confidence::Medium,
        _ => Confidence::Low,
    };
    told(Rule::StripeKey, confidence, at, prefix, body)
}

/// The beginnings of a macaroon in base64 whose location is PyPI or its test instance.
const INDEXES: [&[u8]; 2] = [b"AgEIcHlwaS5vcmc", b"AgENdGVzdC5weXBpLm9yZw"];

/// PyPI's: a macaroon whose location is an index.
pub(super) fn pypi(bytes: &[u8], at: usize, prefix: &str) -> Option<Found> {
    let body = body(bytes, at, prefix, url_safe, 50, 1024)?;
    (INDEXES.iter().any(|index| body.starts_with(index)) && base64(body).is_some() && random(body)).then_some(())?;
    told(Rule::PypiToken, Confidence::High, at, prefix, body)
}

/// Google's: API keys, client secrets, access tokens.
pub(super) fn google(bytes: &[u8], at: usize, prefix: &str) -> Option<Found> {
    let (least, most, confidence) = match prefix {
        // Those of web pages and apps are public by design.
        "AIza" => (35, 35, Confidence::Medium),
        "GOCSPX-" => (28, 28, Confidence::High),
        _ => (40, 1024, Confidence::Medium),
    };
    let body = body(bytes, at, prefix, url_safe, least, most).filter(|body| random(body) && kinds(body) == 3)?;
    told(Rule::GoogleKey, confidence, at, prefix, body)
}

/// `AccountKey=`, `SharedAccessKey=`: the base64 of 64 or 32 bytes.
pub(super) fn azure(bytes: &[u8], at: usize, prefix: &str) -> Option<Found> {
    let body = run(bytes, at + prefix.len(), 100, |byte| standard(byte) || byte == b'=');
    let key = base64(body).filter(|key| matches!(key.len(), 64 | 32))?;
    (!is_example(body) && entropy(&key) >= ENTROPY_MIN).then_some(())?;
    told(Rule::AzureKey, Confidence::High, at, prefix, body)
}

/// An access key id, and its secret within a short distance.
pub(super) fn aws(bytes: &[u8], at: usize, prefix: &str) -> Option<Found> {
    let id = body(bytes, at, prefix, alphanumeric, 16, 16)?;
    let fits = id.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7')) && entropy(id) >= 2.5;
    let beyond = bytes.get(at + 20).is_some_and(|byte| matches!(byte, b'/' | b'+' | b'_'));
    if !fits || beyond || before(bytes, at).is_some_and(|byte| matches!(byte, b'/' | b'+')) {
        return None;
    }
    let start = at.saturating_sub(PAIR_DISTANCE_BYTES);
    let end = (at + 20 + PAIR_DISTANCE_BYTES).min(bytes.len());
    let around = bytes.get(start..end).unwrap_or_default();
    let paired = around.split(|byte| !standard(*byte)).any(is_aws_secret);
    Some(match paired {
        true => {
            Found::new(Rule::AwsAccessKey, Confidence::High, at, at + 20, &format!("{prefix}, with its secret key, "))
        }
        false => Found::new(Rule::AwsAccessKey, Confidence::Low, at, at + 20, prefix),
    })
}

/// 40 characters of base64 that are no hexadecimal digest.
pub(super) fn is_aws_secret(word: &[u8]) -> bool {
    word.len() == 40 && kinds(word) == 3 && entropy(word) >= 4.0 && !is_example(word)
}

/// Three parts in base64 of which the first two are JSON objects; also the base64 of a Docker configuration.
pub(super) fn jwt(bytes: &[u8], at: usize, prefix: &str) -> Option<Found> {
    if before(bytes, at).is_some_and(|byte| url_safe(byte) || matches!(byte, b'.' | b'/' | b'+')) {
        return None;
    }
    let whole = run(bytes, at, TOKEN_BYTES_MAX, |byte| url_safe(byte) || byte == b'.');
    let mut parts = whole.split(|byte| *byte == b'.');
    let (header, claims, signature) = (parts.next()?, parts.next(), parts.next());
    let Some((claims, signature)) = claims.zip(signature) else {
        return docker_base64(bytes, at);
    };
    let object =
        |part: &[u8]| serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&base64(part)?).ok();
    let algorithm = object(header)?.get("alg")?.as_str()?.to_ascii_lowercase();
    let claims = object(claims)?;
    // The example of the best-known web page on it, and that of Python's library.
    let says = |key: &str, value: &str| claims.get(key).and_then(|name| name.as_str()) == Some(value);
    let example = says("name", "John Doe") || says("some", "payload");
    (algorithm != "none" && signature.len() >= 20 && !example && parts.next().is_none()).then_some(())?;
    Some(Found::new(Rule::Jwt, Confidence::Medium, at, at + whole.len(), prefix))
}

/// `{"auths":` in base64, as Kubernetes keeps it.
fn docker_base64(bytes: &[u8], at: usize) -> Option<Found> {
    let text = run(bytes, at, TOKEN_BYTES_MAX, |byte| standard(byte) || byte == b'=');
    let json = text.starts_with(b"eyJhdXRocyI6").then(|| base64(text))??;
    memchr::memmem::find(&json, b"\"auth\"").or_else(|| memchr::memmem::find(&json, b"\"password\""))?;
    Some(Found::new(Rule::DockerLogin, Confidence::High, at, at + text.len(), "eyJ"))
}

/// `"auth": "…"` with the base64 of USER:PASSWORD, or an identity token.
pub(super) fn docker(bytes: &[u8], at: usize, prefix: &str) -> Option<Found> {
    let is_space = |byte: u8| byte.is_ascii_whitespace() || byte == b':';
    let start = at + prefix.len() + run(bytes, at + prefix.len(), 16, is_space).len();
    let start = start + bytes.get(start..)?.starts_with(b"\"").then_some(1)?;
    if prefix == "\"identitytoken\"" {
        let body = run(bytes, start, TOKEN_BYTES_MAX, |byte| url_safe(byte) || byte == b'.');
        return (body.len() >= 20 && random(body))
            .then(|| Found::new(Rule::DockerLogin, Confidence::High, start, start + body.len(), "identitytoken: "));
    }
    let body = run(bytes, start, TOKEN_BYTES_MAX, |byte| standard(byte) || byte == b'=');
    let login = base64(body).filter(|login| bytes.get(start + body.len()) == Some(&b'"') && login.len() >= 5)?;
    let colon = memchr::memchr(b':', &login).filter(|at| *at > 0)?;
    let password = login.get(colon + 1..)?;
    let is_text = login.iter().all(|byte| byte.is_ascii_graphic());
    (is_text && password.len() >= 3 && !super::assignment::is_common(password)).then_some(())?;
    Some(Found::new(Rule::DockerLogin, Confidence::High, start, start + body.len(), "auth: "))
}
