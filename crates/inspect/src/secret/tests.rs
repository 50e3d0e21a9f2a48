//! Tests on secrets that are made here, and on what only looks like one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;
use crate::content::Content;

/// Random-looking text from a seed, over an alphabet.
fn random(seed: u64, length: usize, alphabet: &[u8]) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(alphabet[(state >> 33) as usize % alphabet.len()])
    };
    (0..length).map(|_| next()).collect()
}

const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn checksummed(prefix: &str, seed: u64) -> String {
    let body = random(seed, 30, BASE62);
    let mut number = crc32fast::hash(body.as_bytes());
    let mut digits = String::new();
    for _ in 0..6 {
        digits.insert(0, char::from(BASE62[(number % 62) as usize]));
        number /= 62;
    }
    format!("{prefix}{body}{digits}")
}

fn pem(label: &str, der: &[u8], line_end: &str) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----{line_end}{}{line_end}-----END {label}-----{line_end}", lines.join(line_end))
}

fn sequence(length: u16) -> Vec<u8> {
    let mut der = vec![0x30, 0x82];
    der.extend(length.to_be_bytes());
    der.extend(random(5, usize::from(length), BASE62).into_bytes());
    der
}

fn openssh(cipher: &str) -> Vec<u8> {
    let mut key = b"openssh-key-v1\0".to_vec();
    key.extend((cipher.len() as u32).to_be_bytes());
    key.extend(cipher.as_bytes());
    key.extend(random(6, 200, BASE62).into_bytes());
    key
}

fn jwt(header: &str, claims: &str) -> String {
    format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims), random(7, 43, BASE62))
}

/// Path, text, the secret in it, rule and confidence.
fn planted(seed: u64) -> Vec<(&'static str, String, String, Rule, Confidence)> {
    use Confidence::{High, Low, Medium};
    let mut all = Vec::new();
    let mut plant = |path, before: &str, secret: String, after: &str, rule, confidence| {
        all.push((path, format!("first line\n{before}{secret}{after}\nlast"), secret, rule, confidence));
    };
    let r = |length, alphabet| random(seed, length, alphabet);
    let id = format!("AKIA{}", r(16, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"));
    let secret = format!("a9Z{}", r(37, BASE64));
    plant("etc/app", "aws_access_key_id = ", id.clone(), &format!("\nkey: {secret}"), Rule::AwsAccessKey, High);
    plant("etc/app", "id=", id, "", Rule::AwsAccessKey, Low);
    for prefix in ["ghp_", "gho_", "ghs_"] {
        plant("a.sh", "token: ", checksummed(prefix, seed), "'", Rule::GithubToken, High);
    }
    plant("a.js", "x('", format!("github_pat_{}_{}", r(22, BASE62), r(59, BASE62)), "')", Rule::GithubToken, High);
    plant("a", "u:", format!("glpat-aA1{}", r(17, BASE62)), "", Rule::GitlabToken, High);
    plant(
        "a",
        "",
        format!("xoxb-{}-{}-{}", r(12, b"0123456789"), r(12, b"0123456789"), r(24, BASE62)),
        "",
        Rule::SlackToken,
        High,
    );
    plant(
        "a",
        "curl https://",
        format!("hooks.slack.com/services/T{}/B{}/{}", r(8, b"ABC123"), r(8, b"ABC123"), r(24, BASE62)),
        " -d",
        Rule::SlackWebhook,
        High,
    );
    plant("a", "k=", format!("sk_live_{}", r(24, BASE62)), "", Rule::StripeKey, High);
    plant(".npmrc", "_auth=", checksummed("npm_", seed), "", Rule::NpmToken, High);
    plant(".pypirc", "p ", format!("pypi-AgEIcHlwaS5vcmc{}", r(120, BASE62)), "", Rule::PypiToken, High);
    plant("a.html", "key=", format!("AIzaSy1{}", r(32, BASE62)), "&", Rule::GoogleKey, Medium);
    plant("a", "s ", format!("GOCSPX-aA1{}", r(25, BASE62)), "", Rule::GoogleKey, High);
    plant(
        "a",
        "AccountName=x;",
        format!("AccountKey={}", STANDARD.encode(r(64, BASE64))),
        ";E=1",
        Rule::AzureKey,
        High,
    );
    plant(
        "root/.docker/config.json",
        "{\"auths\":{\"r.invalid\":{\"auth\": \"",
        STANDARD.encode(format!("joe:{}", r(12, BASE62))),
        "\"}}}",
        Rule::DockerLogin,
        High,
    );
    plant(
        "secret.yaml",
        ".dockerconfigjson: ",
        STANDARD_NO_PAD.encode(format!("{{\"auths\":{{\"r\":{{\"auth\":\"{}\"}}}}}}", r(20, BASE62))),
        "",
        Rule::DockerLogin,
        High,
    );
    plant(
        "a",
        "Bearer ",
        jwt(r#"{"alg":"HS256","typ":"JWT"}"#, &format!(r#"{{"sub":"{}"}}"#, r(8, BASE62))),
        "",
        Rule::Jwt,
        Medium,
    );
    plant("id_rsa", "", pem("RSA PRIVATE KEY", &sequence(600), "\n"), "", Rule::PrivateKey, High);
    plant("k.pem", "", pem("PRIVATE KEY", &sequence(300), "\r\n"), "", Rule::PrivateKey, High);
    plant(
        "account.json",
        "\"private_key\": \"",
        pem("PRIVATE KEY", &sequence(300), "\\n"),
        "\"",
        Rule::PrivateKey,
        High,
    );
    plant("id_ed25519", "", pem("OPENSSH PRIVATE KEY", &openssh("none"), "\n"), "", Rule::PrivateKey, High);
    plant(
        "id_ed25519",
        "",
        pem("OPENSSH PRIVATE KEY", &openssh("aes256-ctr"), "\n"),
        "",
        Rule::EncryptedPrivateKey,
        Medium,
    );
    plant("k.pem", "", pem("ENCRYPTED PRIVATE KEY", &sequence(300), "\n"), "", Rule::EncryptedPrivateKey, Medium);
    let old = pem("RSA PRIVATE KEY", r(320, BASE62).as_bytes(), "\n").replacen(
        "-----\n",
        "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00112233\n\n",
        1,
    );
    plant("k.pem", "", old, "", Rule::EncryptedPrivateKey, Medium);
    plant(
        "root/.netrc",
        "machine x.invalid login joe\n\tpassword ",
        format!("aA1{}", r(9, BASE62)),
        "\n",
        Rule::Netrc,
        High,
    );
    plant("root/.pgpass", "db:5432:*:joe:", format!("aA1{}", r(9, BASE62)), "", Rule::Pgpass, High);
    plant(
        "root/.git-credentials",
        "https://joe:",
        format!("aA1{}", r(9, BASE62)),
        "@code.invalid",
        Rule::GitCredentials,
        High,
    );
    plant(
        "app.conf",
        "db = postgres://joe:",
        format!("aA1{}", r(9, BASE62)),
        "@db:5432/x",
        Rule::AddressPassword,
        Medium,
    );
    plant("app/.env", "export API_KEY=", format!("aA1{}", r(29, BASE62)), "", Rule::Assignment, Medium);
    plant("app/settings.py", "SECRET_KEY = '", format!("aA1{}", r(47, BASE62)), "'", Rule::Assignment, Medium);
    plant("app/x.yaml", "  password: ", format!("aA1!{}", r(9, BASE62)), "", Rule::Assignment, Low);
    plant("app/x.json", "{\"dbPassword\": \"", format!("aA1!{}", r(9, BASE62)), "\"}", Rule::Assignment, Low);
    all
}

#[test]
fn what_was_planted_is_found_and_never_shown() {
    let scanner = Scanner::new();
    for seed in 1..50 {
        for (path, text, secret, rule, confidence) in planted(seed) {
            let found = scanner.scan(path.as_bytes(), text.as_bytes());
            let [one] = found.as_slice() else { panic!("seed {seed} {path} {rule:?} {text}: {found:?}") };
            assert_eq!((one.rule, one.confidence), (rule, confidence), "{text}");
            assert!(one.line >= 2);
            // The last characters are random in all of them.
            for part in secret.as_bytes().windows(8).skip(26) {
                // A label may be shown.
                if !part.iter().all(u8::is_ascii_alphanumeric) || part.iter().all(u8::is_ascii_uppercase) {
                    continue;
                }
                assert!(!one.excerpt.contains(std::str::from_utf8(part).unwrap()), "{}", one.excerpt);
            }
            assert!(!one.excerpt.contains(&secret));
            // In the folder of tests it counts for less.
            let lower = scanner.scan(format!("lib/tests/{path}").as_bytes(), text.as_bytes());
            assert_eq!(lower[0].confidence, confidence.lower());
        }
    }
}

#[test]
fn places_are_counted() {
    let token = checksummed("ghp_", 3);
    let text = format!("\n\nab {token} {token}\n{token}");
    let places: Vec<_> =
        Scanner::new().scan(b"x", text.as_bytes()).iter().map(|found| (found.line, found.column)).collect();
    assert_eq!(places, [(3, 4), (3, 45), (4, 1)]);
}

#[test]
fn what_only_looks_like_a_secret_is_none() {
    let scanner = Scanner::new();
    let token = checksummed("ghp_", 4);
    let broken = token.replace(&token[10..12], "zz");
    let key = pem("RSA PRIVATE KEY", &sequence(600), "\n");
    for (path, text) in [
        ("a", "AKIAIOSFODNN7EXAMPLE wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned()),
        ("a", broken),
        ("a", format!("x{token}")),
        ("a", format!("{token}0")),
        ("a", "npm_config_registry_and_more_words_here_and_there".to_owned()),
        ("a", "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==".to_owned()),
        ("a", jwt(r#"{"alg":"none"}"#, r#"{"sub":"1"}"#)),
        ("a", jwt(r#"{"alg":"HS256"}"#, r#"{"sub":"1234567890","name":"John Doe"}"#)),
        ("a", "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----".to_owned()),
        ("a", "-----BEGIN PRIVATE KEY-----\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PRIVATE KEY-----".to_owned()),
        ("a", key.replace("-----END", "")),
        ("a", pem("PUBLIC KEY", &sequence(300), "\n")),
        ("a.py", "password = getpass.getpass()".to_owned()),
        ("a.py", "password = 'changeme123'".to_owned()),
        ("a.py", "password = \"${PASSWORD1}\"".to_owned()),
        ("a.py", "token_url = 'aA1bB2cC3dD4eE5fF6gG7hH8'".to_owned()),
        (".env", "API_KEY=your-key-goes-here-0123".to_owned()),
        (".env", "PASSWORD=password123".to_owned()),
        ("a.md", "https://user:password@host.example.com/ http://{user}:{pw}@x git@x:y".to_owned()),
        ("root/.git-credentials", "https://user:<token>@code.invalid".to_owned()),
        ("root/.netrc", "machine x login y password <password>".to_owned()),
        ("root/.docker/config.json", "{\"auths\":{\"x\":{\"auth\":\"\"}},\"credsStore\":\"pass\"}".to_owned()),
    ] {
        assert_eq!(scanner.scan(path.as_bytes(), text.as_bytes()), [], "{text}");
    }
}

#[test]
fn a24_many_secrets_and_hints_stay_bounded() {
    let scanner = Scanner::new();
    let many = format!("{} ", checksummed("ghp_", 5)).repeat(SECRETS_MAX + 100);
    assert_eq!(scanner.scan(b"x", many.as_bytes()).len(), SECRETS_MAX);
    for hint in [
        "-----BEGIN PRIVATE KEY-----\n",
        "eyJ.",
        "eyJ ",
        "://",
        "password",
        "\"auth\":\"",
        "xoxb-",
        "AKIA",
        "-----BEGIN PRIVATE KEY-----\nAAAA: b\n",
    ] {
        assert_eq!(scanner.scan(b".env", hint.repeat(200_000 / hint.len()).as_bytes()), [], "{hint}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn windows_find_the_same_as_the_whole(seed in 1u64..1000, pads in prop::collection::vec(0usize..3000, 40), window in 200usize..5000) {
        let scanner = Scanner::new();
        let mut text = String::new();
        for ((_, planted, ..), pad) in planted(seed).into_iter().zip(pads) {
            text.push_str(&planted);
            for line in 0..pad / 40 {
                text.push_str(&format!("\nline {line} of ordinary text with a token"));
            }
        }
        for path in ["app/x.yaml", "root/.netrc", "bin/x"] {
            let whole = scanner.scan(path.as_bytes(), text.as_bytes());
            let parts = scanner.scan_windows(path.as_bytes(), &Content::memory(text.as_bytes()), window).unwrap();
            prop_assert!(whole.len() >= 25, "{}", whole.len());
            prop_assert_eq!(whole, parts);
        }
    }

    #[test]
    fn never_panics(seed in 1u64..1000, cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30)) {
        let scanner = Scanner::new();
        for (path, text, ..) in planted(seed) {
            let mut bytes = text.into_bytes();
            for (place, byte) in &cuts {
                let place = place.index(bytes.len());
                match byte % 3 {
                    0 => bytes[place] = *byte,
                    1 => bytes.insert(place, *byte),
                    _ => bytes.truncate(place.max(1)),
                }
            }
            prop_assert!(scanner.scan(path.as_bytes(), &bytes).len() <= 4);
        }
    }
}
