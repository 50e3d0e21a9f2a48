//! The little of XML that a manifest needs: start tags, end tags and text, in order. No entities but the five built in
//! and numbers, no document types: what they would declare is left out.

use std::borrow::Cow;

/// One piece of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// `<name …>`; what stands after the name, and whether it ends itself (`/>`).
    Start { name: &'a str, attributes: &'a str, empty: bool },
    /// `</name>`.
    End { name: &'a str },
    /// Text between tags, or a CDATA section.
    Text(Cow<'a, str>),
}

/// Reads a document piece by piece. A tag that does not end is the last piece's cause to stop: see [`Reader::broken`].
pub(super) struct Reader<'a> {
    rest: &'a str,
    broken: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, broken: false }
    }

    /// Whether the document ended within a tag, comment or section.
    pub(super) fn broken(&self) -> bool {
        self.broken
    }

    /// What stands before `end`, which is passed over.
    fn until(&mut self, end: &str) -> Option<&'a str> {
        let Some((inner, rest)) = self.rest.split_once(end) else {
            self.broken = true;
            self.rest = "";
            return None;
        };
        self.rest = rest;
        Some(inner)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let Some(tag) = self.rest.strip_prefix('<') else {
                let end = self.rest.find('<').unwrap_or(self.rest.len());
                let (text, rest) = self.rest.split_at_checked(end)?;
                self.rest = rest;
                return Some(Piece::Text(unescape(text)));
            };
            if let Some(rest) = tag.strip_prefix("!--") {
                self.rest = rest;
                self.until("-->")?;
            } else if let Some(rest) = tag.strip_prefix("![CDATA[") {
                self.rest = rest;
                return self.until("]]>").map(|text| Piece::Text(Cow::Borrowed(text)));
            } else if tag.starts_with(['?', '!']) {
                self.until(">")?;
            } else if let Some(rest) = tag.strip_prefix('/') {
                self.rest = rest;
                return self.until(">").map(|name| Piece::End { name: local(name.trim()) });
            } else {
                self.rest = tag;
                let inner = self.tag()?;
                let empty = inner.ends_with('/');
                let inner = inner.strip_suffix('/').unwrap_or(inner);
                let (name, attributes) = inner.split_once(char::is_whitespace).unwrap_or((inner, ""));
                return Some(Piece::Start { name: local(name), attributes, empty });
            }
        }
    }
}

impl<'a> Reader<'a> {
    /// Up to the `>` that is in no attribute's value.
    fn tag(&mut self) -> Option<&'a str> {
        let mut quote = None;
        for (at, byte) in self.rest.bytes().enumerate() {
            match (quote, byte) {
                (None, b'"' | b'\'') => quote = Some(byte),
                (Some(open), _) if open == byte => quote = None,
                (None, b'>') => {
                    let (inner, rest) = self.rest.split_at_checked(at)?;
                    self.rest = rest.get(1..).unwrap_or_default();
                    return Some(inner);
                }
                _ => {}
            }
        }
        self.broken = true;
        self.rest = "";
        None
    }
}

/// The value of an attribute.
pub(super) fn attribute<'a>(attributes: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut rest = attributes;
    while let Some((key, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let quote = after.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        let (value, beyond) = after.get(1..)?.split_once(quote)?;
        if key.trim() == name {
            return Some(unescape(value));
        }
        rest = beyond;
    }
    None
}

/// A name without the prefix of its namespace.
fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        // The longest is `&#x10FFFF;`.
        let named = after.char_indices().take(10).find(|(_, c)| *c == ';').and_then(|(end, _)| after.get(..end));
        match named.and_then(|name| Some((name, character(name)?))) {
            Some((name, character)) => {
                plain.push(character);
                rest = after.get(name.len() + 1..).unwrap_or_default();
            }
            None => {
                plain.push('&');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

fn character(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}
