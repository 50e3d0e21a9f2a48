//! Entity tags: a manifest's or blob's is its digest in quotes (RFC 9110, sections 8.8.3 and 13.1).

use crate::Digest;

/// Whether an `If-None-Match` or `If-Match` header names this content. Weak tags count: content of one digest is the
/// same, byte for byte.
pub fn etag_matches(header: &str, digest: &Digest) -> bool {
    header.trim() == "*" || tags(header).any(|tag| tag == digest.to_string())
}

/// The tags of a list, without quotes, up to the first mistake.
fn tags(header: &str) -> impl Iterator<Item = &str> {
    let mut rest = header;
    std::iter::from_fn(move || {
        let text = rest.trim_start_matches([' ', '\t', ',']);
        let (tag, after) = text.strip_prefix("W/").unwrap_or(text).strip_prefix('"')?.split_once('"')?;
        rest = after;
        Some(tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_tags_is_searched() {
        let digest = Digest::sha256_of(b"x");
        for named in
            ["*", &format!("\"{digest}\""), &format!("W/\"{digest}\""), &format!("\"a,b\" , \"\",\"{digest}\"")]
        {
            assert!(etag_matches(named, &digest), "{named}");
        }
        for other in ["", "**", &digest.to_string(), &format!("\"{digest}"), &format!("\"a\" b \"{digest}\"")] {
            assert!(!etag_matches(other, &digest), "{other}");
        }
    }
}
