//! References, repository names and tags. The table follows the cases of Docker's own reference package.

use oci::{Reference, RepositoryName, Tag};
use proptest::prelude::*;

#[test]
fn normalised_as_docker_does() {
    let digest = "sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    for (text, canonical, familiar) in [
        ("redis", "docker.io/library/redis", "redis"),
        ("redis:7", "docker.io/library/redis:7", "redis:7"),
        ("team/app", "docker.io/team/app", "team/app"),
        ("docker.io/redis", "docker.io/library/redis", "redis"),
        ("index.docker.io/redis", "docker.io/library/redis", "redis"),
        ("docker.io/library/redis", "docker.io/library/redis", "redis"),
        ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/app:a", "localhost:5000/app:a", "localhost:5000/app:a"),
        ("LOCAL/app", "LOCAL/app", "LOCAL/app"),
        ("ghcr.io/a/b/c:1-2", "ghcr.io/a/b/c:1-2", "ghcr.io/a/b/c:1-2"),
        ("127.0.0.1:5000/a__b", "127.0.0.1:5000/a__b", "127.0.0.1:5000/a__b"),
        ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
        ("example.com:80", "docker.io/library/example.com:80", "example.com:80"),
        ("docker.io/localhost/a", "docker.io/localhost/a", "docker.io/localhost/a"),
        ("docker.io/a.b/c", "docker.io/a.b/c", "docker.io/a.b/c"),
        ("xn--n3h.com/a", "xn--n3h.com/a", "xn--n3h.com/a"),
    ] {
        for suffix in ["", &format!("@{digest}")] {
            let reference: Reference =
                format!("{text}{suffix}").parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(reference.to_string(), format!("{canonical}{suffix}"));
            assert_eq!(reference.familiar(), format!("{familiar}{suffix}"));
            assert_eq!(reference.digest().is_some(), !suffix.is_empty());
        }
    }
}

#[test]
fn refused() {
    for text in [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "A",
        "a/B",
        "a:",
        "a:.b",
        "a@",
        "a@sha256:abc",
        "-a",
        "a-",
        "a___b",
        "a..b",
        "a.-b",
        "docker.io/",
        "ho_st.com:1/a",
        "host:port/a",
        "host:99999/a",
        "-h.com/a",
        "[::1/a",
        "[fe80::1%eth0]/a",
        "a b",
        "a\r\nb",
        "é",
        "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5c7b9a1f3e5d7c9b1a3f",
        &"a".repeat(256),
        &format!("a:{}", "t".repeat(129)),
    ] {
        assert!(text.parse::<Reference>().is_err(), "{text:?} was taken");
    }
}

proptest! {
    #[test]
    fn both_forms_lead_back(
        host in "([a-z]{1,8}\\.)?[a-z]{1,5}\\.[a-z]{2,3}(:[1-9][0-9]{0,3})?|localhost|docker\\.io",
        name in "[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,6}){0,3}",
        tag in proptest::option::of("[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}"),
    ) {
        let repository: RepositoryName = name.parse().unwrap();
        let mut reference = Reference::new(&host, repository).unwrap();
        if let Some(tag) = tag {
            reference = reference.with_tag(tag.parse::<Tag>().unwrap());
        }
        prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
        prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
        let json = serde_json::to_string(&reference).unwrap();
        prop_assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
    }

    #[test]
    fn any_text(text in "[a-zA-Z0-9:/@._\\[\\]%-]{0,40}|\\PC{0,40}") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        }
    }
}
