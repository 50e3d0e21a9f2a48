//! Digests.

use oci::{Algorithm, Digest, DigestError, Hasher};
use proptest::prelude::*;

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn known_values() {
    assert_eq!(Digest::sha256_of(b"").to_string(), EMPTY);
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(b"ab");
    hasher.update(b"c");
    let sha512 = hasher.finish();
    assert!(sha512.to_string().starts_with("sha512:ddaf35a193617abacc417349ae204131"));
    assert!(sha512.matches(b"abc"));
    assert!(!sha512.matches(b"abd"));
}

#[test]
fn a04_digests_that_are_refused() {
    let hex = &EMPTY[7..];
    for text in [
        "",
        "sha256",
        hex,
        "sha256:",
        &format!("sha256:{}", &hex[1..]),
        &format!("sha256:{hex}0"),
        &format!("sha256:{}", hex.to_uppercase()),
        &format!("SHA256:{hex}"),
        &format!("sha512:{hex}"),
        &format!("md5:{}", &hex[..32]),
        "sha256:../../../../../../../../../../../../../../../../../../../../../etc",
        &format!(" {EMPTY}"),
        &format!("{EMPTY}\n"),
        &format!("sha256:{}", "é".repeat(32)),
    ] {
        assert!(text.parse::<Digest>().is_err(), "{text:?} was taken");
    }
    let error = "sha2\r\n56:00".parse::<Digest>().unwrap_err();
    assert!(matches!(error, DigestError::UnknownAlgorithm { .. }));
    assert!(!error.to_string().contains(['\r', '\n']));
}

proptest! {
    #[test]
    fn text_and_json_round_trip(bytes: Vec<u8>, cut: usize) {
        for algorithm in Algorithm::ALL {
            let mut hasher = Hasher::new(algorithm);
            let cut = cut % (bytes.len() + 1);
            hasher.update(&bytes[..cut]);
            hasher.update(&bytes[cut..]);
            let digest = hasher.finish();
            prop_assert!(digest.matches(&bytes));
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
            let json = serde_json::to_string(&digest).unwrap();
            prop_assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        }
    }

    #[test]
    fn what_parses_prints_the_same(text in "(sha256|sha512|md5):[0-9a-fA-F]{60,66}|\\PC*") {
        if let Ok(digest) = text.parse::<Digest>() {
            prop_assert_eq!(digest.to_string(), text);
        }
    }
}
