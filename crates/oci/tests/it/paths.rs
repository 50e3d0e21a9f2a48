//! Paths under `/v2/`.

use oci::{Digest, Endpoint, ManifestReference, PathError, RepositoryName};
use proptest::prelude::*;

fn endpoint() -> impl Strategy<Value = Endpoint> {
    // Names made of the protocol's own words are the hard case.
    let component = prop_oneof![
        "[a-z0-9]{1,4}",
        Just("blobs".into()),
        Just("uploads".into()),
        Just("manifests".into()),
        Just("tags".into()),
        Just("list".into()),
        Just("referrers".into()),
        Just("v2".into())
    ];
    let repository =
        proptest::collection::vec(component, 1..5).prop_map(|parts| parts.join("/").parse::<RepositoryName>().unwrap());
    let digest = any::<u64>().prop_map(|seed| Digest::sha256_of(&seed.to_le_bytes()));
    let reference = prop_oneof![
        digest.clone().prop_map(ManifestReference::Digest),
        "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,8}".prop_map(|tag| ManifestReference::Tag(tag.parse().unwrap())),
    ];
    (0..8, repository, digest, reference, "[a-zA-Z0-9-]{1,36}").prop_map(
        |(kind, repository, digest, reference, upload)| match kind {
            0 => Endpoint::Ping,
            1 => Endpoint::Catalog,
            2 => Endpoint::Tags { repository },
            3 => Endpoint::Manifest { repository, reference },
            4 => Endpoint::Blob { repository, digest },
            5 => Endpoint::Uploads { repository },
            6 => Endpoint::Upload { repository, upload: upload.parse().unwrap() },
            _ => Endpoint::Referrers { repository, digest },
        },
    )
}

proptest! {
    #[test]
    fn paths_lead_back(endpoint in endpoint()) {
        let path = endpoint.to_string();
        prop_assert_eq!(Endpoint::parse(&path).unwrap(), endpoint.clone());
        prop_assert_eq!(Endpoint::parse(&path.replace(':', "%3a")).unwrap(), endpoint);
    }

    #[test]
    fn any_path(path in "/v2/[a-z%/:._0-9-]{0,60}|\\PC{0,40}") {
        match Endpoint::parse(&path) {
            Ok(endpoint) => prop_assert_eq!(Endpoint::parse(&endpoint.to_string()).unwrap(), endpoint),
            Err(error) => prop_assert!(!error.to_string().contains(['\r', '\n'])),
        }
    }
}

#[test]
fn the_error_names_the_part() {
    assert!(matches!(Endpoint::parse("/v2/UPPER/tags/list"), Err(PathError::Repository(_))));
    assert!(matches!(Endpoint::parse("/v2/a/manifests/.x"), Err(PathError::Tag(_))));
    assert!(matches!(Endpoint::parse("/v2/a/manifests/sha256:xx"), Err(PathError::Digest(_))));
    assert!(matches!(Endpoint::parse("/v2/a/blobs/sha256:xx"), Err(PathError::Digest(_))));
    assert!(matches!(Endpoint::parse("/v2/a/blobs/uploads/.."), Err(PathError::Upload { .. })));
    for path in [
        "/v1/",
        "/v2x",
        "/v2/a",
        "/v2/a/b",
        "/v2/a/b/c",
        "/v2/a%2Fb/tags/list",
        "/v2/a/tags/list%0d%0aX:1",
        "/v2/a%zz/tags/list",
    ] {
        assert!(matches!(Endpoint::parse(path), Err(PathError::Unknown { .. })), "{path}");
    }
    assert!(Endpoint::parse("/v2/../blobs/uploads/").is_err());
    assert_eq!(Endpoint::parse("/v2/a/blobs/uploads").unwrap(), Endpoint::parse("/v2/a/blobs/uploads/").unwrap());
}
