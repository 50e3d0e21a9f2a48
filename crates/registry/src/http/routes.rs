//! The names of this protocol's routes, for those who count requests.

use base::observe::KnownRoutes;

/// `/v2/` and what lies under it. A path is read from the right, like [`oci::Endpoint`] does, and checked no further.
pub const ROUTES: KnownRoutes = KnownRoutes { names: &NAMES, of };

const NAMES: [&str; 8] = [
    "/v2/",
    "/v2/_catalog",
    "/v2/{repository}/tags/list",
    "/v2/{repository}/manifests/{reference}",
    "/v2/{repository}/blobs/{digest}",
    "/v2/{repository}/blobs/uploads/",
    "/v2/{repository}/blobs/uploads/{upload}",
    "/v2/{repository}/referrers/{digest}",
];

fn of(path: &str) -> Option<usize> {
    let rest = match path.strip_prefix("/v2")? {
        "" | "/" => return Some(0),
        "/_catalog" => return Some(1),
        rest => rest.strip_prefix('/')?,
    };
    let (before, last) = rest.rsplit_once('/')?;
    if before.ends_with("/blobs/uploads") {
        return Some(if last.is_empty() { 5 } else { 6 });
    }
    match (before.rsplit_once('/')?.1, last) {
        ("tags", "list") => Some(2),
        ("manifests", _) => Some(3),
        ("blobs", "uploads") => Some(5),
        ("blobs", _) => Some(4),
        ("referrers", _) => Some(7),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use oci::Endpoint;

    use super::*;

    #[test]
    fn every_endpoint_has_its_route() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let paths = [
            "/v2/".to_owned(),
            "/v2/_catalog".to_owned(),
            "/v2/a/manifests/tags/list".to_owned(),
            "/v2/a/tags/manifests/list".to_owned(),
            format!("/v2/a/b/blobs/{digest}"),
            "/v2/blobs/uploads/blobs/uploads/".to_owned(),
            "/v2/a/blobs/uploads/x-1".to_owned(),
            format!("/v2/manifests/referrers/{digest}"),
        ];
        for (place, path) in paths.iter().enumerate() {
            assert_eq!(of(path), Some(place), "{path}");
            let again = Endpoint::parse(path).unwrap().to_string();
            assert_eq!(of(&again), Some(place), "{again}");
        }
        assert_eq!([of("/v2x"), of("/v2/a"), of("/"), of("/v2/a/other/b")], [None; 4]);
    }
}
