//! `WWW-Authenticate`: what a registry wants to know of a client (RFC 9110, section 11.6.1).

use std::collections::BTreeMap;

/// Challenges of one header at most; what follows is ignored.
const CHALLENGES_MAX: usize = 8;
/// Parameters of one challenge at most; what follows is ignored.
const PARAMETERS_MAX: usize = 16;

/// One challenge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// The scheme in lowercase (`bearer`, `basic`).
    pub scheme: String,
    /// Parameters by their names in lowercase; of one given twice, the first counts.
    pub parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// Reads one header, which may hold several challenges. What follows a mistake is ignored, and so is the challenge
    /// that holds it.
    pub fn parse(text: &str) -> Vec<Self> {
        let mut challenges: Vec<Self> = Vec::new();
        let mut rest = text;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let Some((name, after)) = token(rest) else { break };
            let Some(value) = after.trim_start_matches([' ', '\t']).strip_prefix('=') else {
                if challenges.len() == CHALLENGES_MAX {
                    break;
                }
                challenges.push(Self { scheme: name.to_ascii_lowercase(), ..Self::default() });
                rest = after;
                continue;
            };
            let Some(challenge) = challenges.last_mut() else { break };
            let Some((value, after)) = parameter_value(value.trim_start_matches([' ', '\t'])) else {
                challenges.pop();
                break;
            };
            if challenge.parameters.len() < PARAMETERS_MAX {
                challenge.parameters.entry(name.to_ascii_lowercase()).or_insert(value);
            }
            rest = after;
        }
        challenges
    }
}

fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A quoted string with its escapes undone, or all up to the next comma: registries leave quotes out around URLs too.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = text.split_at(text.find(',').unwrap_or(text.len()));
        return Some((value.trim().to_owned(), after));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    loop {
        match characters.next()? {
            (at, '"') => return Some((value, quoted.get(at + 1..)?)),
            (_, '\\') => value.push(characters.next()?.1),
            (_, character) => value.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Challenge {
        let mut challenges = Challenge::parse(text);
        assert_eq!(challenges.len(), 1, "{text}");
        challenges.remove(0)
    }

    #[test]
    fn challenges_are_read() {
        let read = one(r#"Bearer realm="https://a/t?x=1,2",service="s", scope="repository:a/b:pull,push",error=x"#);
        assert_eq!(read.scheme, "bearer");
        assert_eq!(read.parameters["realm"], "https://a/t?x=1,2");
        assert_eq!(read.parameters["scope"], "repository:a/b:pull,push");
        assert_eq!(read.parameters["error"], "x");
        assert_eq!(one(r#"Basic realm="a \"b\"" , Realm=c"#).parameters["realm"], r#"a "b""#);
        assert_eq!(one("Bearer realm = https://a/t ,service=s").parameters["realm"], "https://a/t");
    }

    #[test]
    fn one_header_may_hold_several() {
        let schemes: Vec<_> = Challenge::parse(r#"Negotiate, Bearer realm="a",service="b", Basic realm="c""#)
            .into_iter()
            .map(|challenge| (challenge.scheme, challenge.parameters.len()))
            .collect();
        assert_eq!(schemes, [("negotiate".to_owned(), 0), ("bearer".to_owned(), 2), ("basic".to_owned(), 1)]);
        assert_eq!(Challenge::parse(&"a,".repeat(100)).len(), CHALLENGES_MAX);
    }

    #[test]
    fn a_mistake_ends_the_header() {
        for wrong in ["", "=", "realm=x", "Bearer realm=\"open", "Bearer realm=\"open\\", "\u{e9}"] {
            assert_eq!(Challenge::parse(wrong), [], "{wrong}");
        }
        assert_eq!(one("Basic realm=x, Bearer realm=\"open").scheme, "basic");
    }
}
