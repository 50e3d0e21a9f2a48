//! Query strings, read and written as forms are (`application/x-www-form-urlencoded` of the WHATWG URL standard).

use std::fmt;

/// Parameters read at most; what follows is ignored.
const PARAMETERS_MAX: usize = 256;

/// The parameters behind a question mark, decoded, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string. What is not UTF-8 becomes U+FFFD, which no name or digest holds.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).take(PARAMETERS_MAX);
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// A parameter's value; of one given twice, the first counts.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The same with one parameter more.
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.0.push((name.to_owned(), value.to_string()));
        self
    }
}

/// Letters, digits and `*-._` as they are, all else encoded: nothing in it can end a URL, a header or a line.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("&")?;
            }
            encode(name, f)?;
            f.write_str("=")?;
            encode(value, f)?;
        }
        Ok(())
    }
}

fn encode(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    text.bytes().try_for_each(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => write!(f, "{}", char::from(byte)),
        b' ' => f.write_str("+"),
        _ => write!(f, "%{byte:02X}"),
    })
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = bytes.get(at + 1..at + 3).filter(|_| byte == b'%').and_then(hexadecimal);
        decoded.push(escaped.unwrap_or(if byte == b'+' { b' ' } else { byte }));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let [high, low] = digits else { return None };
    u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("n=10&&last=a%2fb+c&tag=1&tag=2&flag&bad=%zz%4&=x&utf=%ff");
        assert_eq!(query.get("n"), Some("10"));
        assert_eq!(query.get("last"), Some("a/b c"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((query.get("flag"), query.get("bad"), query.get("")), (Some(""), Some("%zz%4"), Some("x")));
        assert_eq!((query.get("utf"), query.get("none")), (Some("\u{fffd}"), None));
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back_and_harmless(pairs in proptest::collection::vec((".*", ".*"), 0..8)) {
            let query = Query(pairs);
            let text = query.to_string();
            proptest::prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%*-._+=&".contains(&byte)));
            // A pair of two empty texts is written as a bare "=".
            proptest::prop_assert_eq!(Query::parse(&text), query);
        }
    }
}
