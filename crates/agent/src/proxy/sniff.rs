//! Tells from a client's first bytes whether they are a request of HTTP/1.

/// The methods of RFC 9110, PATCH, and those of WebDAV and its kin. CONNECT is left out on purpose: what follows it is
/// no HTTP. A list, because a protocol that begins with any capital letters must not be mistaken for one.
const METHODS: [&[u8]; 25] = [
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"TRACE",
    b"PATCH",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"SEARCH",
    b"REPORT",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"CHECKOUT",
    b"MERGE",
    b"SUBSCRIBE",
    b"UNSUBSCRIBE",
    b"NOTIFY",
    b"PURGE",
];

/// A request line this long without an end is taken for HTTP, and left to the HTTP library to refuse.
pub(crate) const REQUEST_LINE_BYTES_MAX: usize = 16 * 1024;

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sniffed {
    Http,
    Opaque,
    /// They may become a request line.
    Undecided,
}

/// Looks at all bytes a client sent so far. An answer other than `Undecided` does not change with more bytes.
pub(crate) fn sniff(bytes: &[u8]) -> Sniffed {
    let line_end = bytes.iter().position(|&b| b == b'\n');
    let line = &bytes[..line_end.unwrap_or(bytes.len())];
    let Some(space) = line.iter().position(|&b| b == b' ') else {
        let begins = line_end.is_none() && METHODS.iter().any(|m| m.starts_with(line));
        return if begins { Sniffed::Undecided } else { Sniffed::Opaque };
    };
    if !METHODS.contains(&&line[..space]) {
        return Sniffed::Opaque;
    }
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line[space..].iter().any(|&b| b < b' ' || b == 0x7f) {
        return Sniffed::Opaque;
    }
    if line_end.is_some() {
        let version = line.rsplit(|&b| b == b' ').next().unwrap_or_default();
        let is_http = version.starts_with(b"HTTP/1.") && line.len() > space + 1 + version.len();
        return if is_http { Sniffed::Http } else { Sniffed::Opaque };
    }
    if line.len() >= REQUEST_LINE_BYTES_MAX { Sniffed::Http } else { Sniffed::Undecided }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn protocols_are_told_apart() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Sniffed::Http),
            (b"POST /a?b=c HTTP/1.0\r\nHost: x\r\n\r\n", Sniffed::Http),
            (b"GET /index.html\r\n", Sniffed::Opaque),
            (b"GET key\r\n", Sniffed::Opaque),
            (b"PING\r\n", Sniffed::Opaque),
            (b"*1\r\n$4\r\nPING\r\n", Sniffed::Opaque),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Sniffed::Opaque),
            (b"\x16\x03\x01", Sniffed::Opaque),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", Sniffed::Opaque),
            (b"PO", Sniffed::Undecided),
            (b"PUT /x HTTP/1", Sniffed::Undecided),
        ] {
            assert_eq!(sniff(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn a_decision_does_not_change_with_more_bytes(
            start in prop_oneof![Just("GET / HTTP/1.1\r\n"), Just("GET /"), Just("SET a b\r\n"), Just("P"), Just("")],
            rest in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let all = [start.as_bytes(), &rest].concat();
            let decisions: Vec<_> = (1..=all.len()).map(|n| sniff(&all[..n])).collect();
            let first = decisions.iter().position(|d| *d != Sniffed::Undecided);
            if let Some(first) = first {
                prop_assert!(decisions[first..].iter().all(|d| *d == decisions[first]));
            }
        }
    }
}
