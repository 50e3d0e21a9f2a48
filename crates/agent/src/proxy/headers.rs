//! The header of a request on its way through: what ends here, what is added, what is refused.

use std::net::{IpAddr, SocketAddr};

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Uri, Version};

/// Headers that are for one connection only (RFC 9110 section 7.6.1, and the older ones that peers still send).
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The protocol a message asks to change to, if it does so in the two headers that it takes.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers.get_all(CONNECTION).iter().any(|v| tokens(v).any(|t| t.eq_ignore_ascii_case("upgrade")));
    if asked { headers.get(UPGRADE).cloned() } else { None }
}

/// Takes out what is for one connection only, including what `Connection` names.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> =
        headers.get_all(CONNECTION).iter().flat_map(tokens).filter_map(|t| t.parse().ok()).collect();
    let trailers = headers.get_all(TE).iter().flat_map(tokens).any(|t| t.eq_ignore_ascii_case("trailers"));
    // Both lengths at once is how requests are smuggled; the library frames by the coding, so the length must go.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    for name in named {
        // A client must not talk the proxy out of the headers it frames and routes by.
        if name != HOST && name != CONTENT_LENGTH && !name.as_str().starts_with("x-forwarded-") {
            headers.remove(name);
        }
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// About the bytes that a request's header took.
pub(crate) fn request_bytes(parts: &Parts) -> usize {
    let target = parts.uri.path_and_query().map_or(0, |p| p.as_str().len());
    let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    parts.method.as_str().len() + target + fields.sum::<usize>()
}

/// Makes a client's request header the one for the upstream, or says why the request is malformed.
///
/// `X-Forwarded-For` gets the client's address added; `-Proto` and `-Host` are set unless a proxy in front, which ended
/// TLS, has said them.
pub(crate) fn prepare_request(parts: &mut Parts, client: SocketAddr, listener: SocketAddr) -> Result<(), &'static str> {
    if parts.headers.get_all(HOST).iter().count() > 1 {
        return Err("the request has more than one Host header");
    }
    // The target's own authority wins over the header (RFC 9112 section 3.2.2).
    if let Some(authority) = parts.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| "the request's target is malformed")?;
        parts.headers.insert(HOST, host);
    }
    if !parts.headers.contains_key(HOST) {
        if parts.version >= Version::HTTP_11 {
            return Err("the request has no Host header");
        }
        let host = HeaderValue::from_str(&listener.to_string()).map_err(|_| "the listener has no address")?;
        parts.headers.insert(HOST, host);
    }
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    parts.uri = Uri::from(path);
    parts.version = Version::HTTP_11;

    let asked = upgrade(&parts.headers);
    strip_hop_by_hop(&mut parts.headers);
    // The proxy has promised to read the body by reading it.
    parts.headers.remove(EXPECT);
    forward_for(&mut parts.headers, client.ip().to_canonical())?;
    if !parts.headers.contains_key(X_FORWARDED_PROTO) {
        parts.headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if let (false, Some(host)) = (parts.headers.contains_key(X_FORWARDED_HOST), parts.headers.get(HOST).cloned()) {
        parts.headers.insert(X_FORWARDED_HOST, host);
    }
    match asked {
        Some(protocol) => {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(UPGRADE, protocol);
        }
        None => {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    Ok(())
}

fn forward_for(headers: &mut HeaderMap, client: IpAddr) -> Result<(), &'static str> {
    let mut all: Vec<u8> = Vec::new();
    for value in headers.get_all(X_FORWARDED_FOR) {
        all.extend_from_slice(value.as_bytes());
        all.extend_from_slice(b", ");
    }
    all.extend_from_slice(client.to_string().as_bytes());
    let value = HeaderValue::from_bytes(&all).map_err(|_| "the X-Forwarded-For header is malformed")?;
    headers.insert(X_FORWARDED_FOR, value);
    Ok(())
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|t| !t.is_empty())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn prepared(request: http::request::Builder) -> Result<HeaderMap, &'static str> {
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let [client, listener] = ["10.0.0.9:4000", "10.0.0.1:80"].map(|a| a.parse().unwrap());
        prepare_request(&mut parts, client, listener).map(|()| parts.headers)
    }

    #[test]
    fn what_is_for_one_connection_ends_here() {
        let headers = prepared(
            Request::get("/")
                .header("host", "vote.example")
                .header("connection", "keep-alive, X-Secret, Host, X-Forwarded-For")
                .header("keep-alive", "timeout=5")
                .header("x-secret", "1")
                .header("transfer-encoding", "chunked")
                .header("content-length", "3")
                .header("x-forwarded-for", "192.0.2.1"),
        )
        .unwrap();
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["connection", "host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]);
        assert_eq!(headers["connection"], "close");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1, 10.0.0.9");
    }

    #[test]
    fn the_host_is_one_and_the_targets() {
        assert!(prepared(Request::get("/").header("host", "a").header("host", "b")).is_err());
        assert!(prepared(Request::get("/")).is_err());
        assert_eq!(prepared(Request::get("/").version(Version::HTTP_10)).unwrap()["host"], "10.0.0.1:80");
        assert_eq!(prepared(Request::get("http://b:81/x").header("host", "a")).unwrap()["host"], "b:81");
    }

    #[test]
    fn an_upgrade_needs_both_headers() {
        let both = prepared(
            Request::get("/").header("host", "a").header("connection", "Upgrade").header("upgrade", "websocket"),
        )
        .unwrap();
        assert_eq!(
            (&both["connection"], &both["upgrade"]),
            (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
        let one = prepared(Request::get("/").header("host", "a").header("upgrade", "websocket")).unwrap();
        assert!(!one.contains_key("upgrade"));
    }
}
