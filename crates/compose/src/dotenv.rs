//! Files of variables: `.env`, `env_file`, `label_file`.
//!
//! The rules are the Compose Specification's (05-services, "Env_file format"): `VAR[=[VAL]]` on each line; `#` begins a
//! comment at the beginning of a line, after a space, or after a closing quote; what is unquoted or in double quotes has
//! variables put in, what is in single quotes has not; double quotes know `\n`, `\r`, `\t` and `\\`, and values in quotes
//! may go on over several lines.

use std::collections::BTreeMap;

use crate::diagnostic::Findings;
use crate::interpolate::{self, Environment};
use crate::yaml::Mark;

/// Bytes of all values of one file.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// How a file of variables is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// With quotes, escapes and variables.
    #[default]
    Compose,
    /// Each value as it stands (`format: raw`).
    Raw,
}

/// Names to values of one file; `None` for a name without a value that `environment` does not have either. What is wrong
/// is told of with this file's lines.
///
/// Variables in values are looked up in `environment`, then among those before them in the file.
pub(crate) fn parse(
    text: &str,
    file: u16,
    format: Format,
    environment: Environment<'_>,
    findings: &mut Findings<'_>,
) -> BTreeMap<String, Option<String>> {
    let mut lines = Lines { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 0 };
    let mut values = BTreeMap::new();
    let mut bytes = 0;
    while let Some((line, statement)) = lines.next() {
        let statement = statement.trim_start();
        if statement.is_empty() || statement.starts_with('#') {
            continue;
        }
        let mark = Mark { file, line, column: 1 };
        let read = match format {
            Format::Raw => raw(statement, environment),
            Format::Compose => compose(statement, &mut lines, environment, &values, mark, findings),
        };
        match read {
            Ok((name, value)) => {
                bytes += name.len() + value.as_ref().map_or(0, String::len);
                values.insert(name, value);
            }
            Err(what) => findings.error(mark, "", what),
        }
        if bytes > OUTPUT_BYTES_MAX {
            findings.error(mark, "", format!("the values of this file have more than {OUTPUT_BYTES_MAX} bytes"));
            break;
        }
        if findings.full() {
            break;
        }
    }
    values
}

/// Goes through a text line by line, and knows which it is at.
struct Lines<'t> {
    rest: &'t str,
    line: u32,
}

impl<'t> Lines<'t> {
    fn next(&mut self) -> Option<(u32, &'t str)> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line = self.line.saturating_add(1);
        Some((self.line, line.strip_suffix('\r').unwrap_or(line)))
    }
}

type Read = Result<(String, Option<String>), String>;

fn raw(statement: &str, environment: Environment<'_>) -> Read {
    match statement.split_once('=') {
        Some((name, value)) => Ok((name_of(name)?, Some(value.to_owned()))),
        None => bare(statement.trim_end(), environment),
    }
}

fn bare(name: &str, environment: Environment<'_>) -> Read {
    let name = name_of(name)?;
    let value = environment(&name);
    Ok((name, value))
}

fn compose(
    statement: &str,
    lines: &mut Lines<'_>,
    environment: Environment<'_>,
    before: &BTreeMap<String, Option<String>>,
    mark: Mark,
    findings: &mut Findings<'_>,
) -> Read {
    let statement = match statement.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        _ => statement,
    };
    // `NAME: value` is good as well, as Compose has it.
    let Some(position) = statement.find(['=', ':']) else {
        let name = statement.split_once(" #").map_or(statement, |(name, _)| name);
        return bare(name.trim_end(), environment);
    };
    let name = name_of(statement.get(..position).unwrap_or_default().trim_end())?;
    let text = statement.get(position + 1..).unwrap_or_default().trim_start();
    let (value, expands) = match text.chars().next() {
        Some(quote @ ('"' | '\'')) => (quoted(text.get(1..).unwrap_or_default(), quote, lines)?, quote == '"'),
        _ => {
            let value = if text.starts_with('#') { "" } else { text };
            (value.split_once(" #").map_or(value, |(value, _)| value).trim_end().to_owned(), true)
        }
    };
    if !expands || !value.contains('$') {
        return Ok((name, Some(value)));
    }
    let lookup = |name: &str| environment(name).or_else(|| before.get(name).cloned().flatten());
    let mut unset = Vec::new();
    let expanded = interpolate::expand(&value, &lookup, OUTPUT_BYTES_MAX, true, &mut unset)
        .map_err(|problem| problem.hint.map_or(problem.what.clone(), |hint| format!("{}; {hint}", problem.what)))?;
    for name in unset {
        let what = format!("the variable {name} is not set, so it is taken for empty");
        findings.warning(mark, "", what, Some("put the value in single quotes if a dollar sign is meant".to_owned()));
    }
    Ok((name, Some(expanded)))
}

/// What stands up to the closing quote, over several lines where need be.
fn quoted(first: &str, quote: char, lines: &mut Lines<'_>) -> Result<String, String> {
    let mut value = String::new();
    let mut line = first;
    loop {
        let mut characters = line.char_indices();
        while let Some((index, character)) = characters.next() {
            if character == quote {
                let after = line.get(index + 1..).unwrap_or_default().trim_start();
                return match after.is_empty() || after.starts_with('#') {
                    true => Ok(value),
                    false => Err(format!("{after:?} stands after the closing quote")),
                };
            }
            if character != '\\' {
                value.push(character);
                continue;
            }
            match characters.next().map(|(_, escaped)| escaped) {
                Some(escaped) if escaped == quote => value.push(escaped),
                Some(escaped) if quote == '"' => push_escape(&mut value, escaped),
                Some(escaped) => value.extend(['\\', escaped]),
                None => value.push('\\'),
            }
        }
        let Some((_, next)) = lines.next() else { return Err(format!("the quote {quote} is never closed")) };
        value.push('\n');
        line = next;
    }
}

fn push_escape(value: &mut String, escaped: char) {
    match escaped {
        'n' => value.push('\n'),
        'r' => value.push('\r'),
        't' => value.push('\t'),
        '\\' => value.push('\\'),
        // Interpolation makes one dollar sign of two.
        '$' => value.push_str("$$"),
        other => value.extend(['\\', other]),
    }
}

fn name_of(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | '[' | ']');
    if !text.is_empty() && text.chars().all(good) {
        return Ok(text.to_owned());
    }
    const SHOWN_CHARACTERS_MAX: usize = 40;
    let shown: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
    Err(format!("{shown:?} cannot be a variable's name; each line is NAME=value"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn environment(name: &str) -> Option<String> {
        (name == "OUTSIDE").then(|| "from outside".to_owned())
    }

    fn read(text: &str, format: Format) -> Result<BTreeMap<String, Option<String>>, String> {
        let mut findings = Findings::new([".env"]);
        let values = parse(text, 0, format, &environment, &mut findings);
        findings.finish().map(|_| values).map_err(|error| error.to_string())
    }

    fn one(text: &str) -> Option<String> {
        read(text, Format::Compose).unwrap_or_else(|error| panic!("{text}: {error}")).remove("VAR").unwrap()
    }

    #[test]
    fn values_are_those_of_the_specification() {
        for (text, value) in [
            ("VAR=VAL", "VAL"),
            ("VAR=\"VAL\"", "VAL"),
            ("VAR='VAL'", "VAL"),
            ("VAR=VAL # comment", "VAL"),
            ("VAR=VAL# not a comment", "VAL# not a comment"),
            ("VAR=\"VAL # not a comment\"", "VAL # not a comment"),
            ("VAR=\"VAL\" # comment", "VAL"),
            ("VAR='$OTHER'", "$OTHER"),
            ("VAR='${OTHER}'", "${OTHER}"),
            (r"VAR='Let\'s go!'", "Let's go!"),
            (r#"VAR="{\"hello\": \"json\"}""#, r#"{"hello": "json"}"#),
            (r#"VAR="some\tvalue""#, "some\tvalue"),
            (r"VAR='some\tvalue'", r"some\tvalue"),
            (r"VAR=some\tvalue", r"some\tvalue"),
            ("VAR=", ""),
            ("VAR= # comment", ""),
            ("export VAR=a", "a"),
            ("  VAR = a  ", "a"),
            ("VAR: a", "a"),
            ("A=1\nVAR=$A-${B:-$A}", "1-1"),
            ("VAR=${OUTSIDE}!", "from outside!"),
            ("VAR=a$$b", "a$b"),
            (r#"VAR="a\$b""#, "a$b"),
            ("VAR=\"a\nb\"", "a\nb"),
            ("VAR=a\r\nB=c", "a"),
            ("# comment\n\n VAR=a=b", "a=b"),
            ("VAR=10$", "10$"),
        ] {
            assert_eq!(one(text).as_deref(), Some(value), "{text}");
        }
        assert_eq!(one("VAR"), None);
        let values = read("OUTSIDE\nVAR='a b'$", Format::Compose);
        assert!(values.unwrap_err().contains(".env:2:1"), "the line is told");
        assert!(read("VAR=\"a", Format::Compose).is_err() && read("a b=c", Format::Compose).is_err());
    }

    #[test]
    fn raw_values_stand_as_they_are() {
        let values = read("# no\nVAR='$A' # \"b\"\n\nOUTSIDE\nEMPTY=", Format::Raw).unwrap();
        assert_eq!(values["VAR"].as_deref(), Some("'$A' # \"b\""));
        assert_eq!(values["OUTSIDE"].as_deref(), Some("from outside"));
        assert_eq!(values["EMPTY"].as_deref(), Some(""));
    }

    proptest! {
        #[test]
        fn quoted_values_come_back(value in "[a-z $#='\n\\\\]{0,20}") {
            let single = format!("VAR='{}'", value.replace('\'', r"\'"));
            // A backslash before the closing quote or another quote would escape it.
            if !value.contains('\\') {
                prop_assert_eq!(one(&single), Some(value.clone()));
            }
            let double = format!("VAR=\"{}\"", value.replace('\\', r"\\").replace('"', "\\\"").replace('$', "$$"));
            prop_assert_eq!(one(&double), Some(value));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            let _ = (read(&text, Format::Compose), read(&text, Format::Raw));
        }
    }
}
