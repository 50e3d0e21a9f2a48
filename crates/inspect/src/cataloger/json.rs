//! JSON read piece by piece: a broken record spoils itself alone, and nothing is built that is not asked for.
//!
//! Values that are passed over cost no stack however deep they nest, and a key that stands twice is read twice: what a
//! package manager would take of the two is nothing to guess at.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Calls `each` with every key and value of the object `json`.
pub(super) fn entries<'a>(json: &'a str, each: impl FnMut(Cow<'a, str>, &'a str)) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    deserializer.deserialize_map(Entries(each))?;
    deserializer.end()
}

/// Calls `each` with every value of the array `json`.
pub(super) fn items<'a>(json: &'a str, each: impl FnMut(&'a str)) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    deserializer.deserialize_seq(Items(each))?;
    deserializer.end()
}

/// The text of a JSON string; `None` for any other value. Where an escape in it is none (half a surrogate pair), the text
/// stays as it stands.
pub(super) fn string(json: &str) -> Option<Cow<'_, str>> {
    let plain = json.strip_prefix('"')?.strip_suffix('"')?;
    if !plain.contains('\\') {
        return Some(Cow::Borrowed(plain));
    }
    Some(serde_json::from_str::<String>(json).map_or(Cow::Borrowed(plain), Cow::Owned))
}

/// Whether the value is an object, by its first character.
pub(super) fn is_object(json: &str) -> bool {
    json.starts_with('{')
}

/// Whether the value is an array, by its first character.
pub(super) fn is_array(json: &str) -> bool {
    json.starts_with('[')
}

struct Entries<F>(F);

impl<'de, F: FnMut(Cow<'de, str>, &'de str)> Visitor<'de> for Entries<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
            let key = string(key.get()).ok_or_else(|| A::Error::custom("a key that is no string"))?;
            (self.0)(key, value.get());
        }
        Ok(())
    }
}

struct Items<F>(F);

impl<'de, F: FnMut(&'de str)> Visitor<'de> for Items<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<&'de RawValue>()? {
            (self.0)(item.get());
        }
        Ok(())
    }
}

/// What is said of a file that is not the JSON it should be.
pub(super) fn broken(error: &serde_json::Error) -> String {
    format!("it is not valid JSON: {error}")
}

/// A licence in any of its forms: a string; the old `{type, url}`; and the old lists of those, from which the user
/// may choose.
pub(super) fn choice(json: &str) -> Option<String> {
    if !is_array(json) {
        return one(json);
    }
    let mut choices = Vec::new();
    let read = items(json, |item| {
        if choices.len() <= super::LICENCES_MAX {
            choices.extend(one(item));
        }
    });
    read.ok()?;
    any_of(choices)
}

fn one(json: &str) -> Option<String> {
    if !is_object(json) {
        return string(json).map(|licence| licence.into_owned());
    }
    let (mut name, mut address) = (None, None);
    let read = entries(json, |key, value| match key.as_ref() {
        "type" | "name" => name = string(value),
        "url" => address = string(value),
        _ => {}
    });
    read.ok()?;
    name.or(address).map(|licence| licence.into_owned())
}

/// Several licences of which the user may choose one, as one statement; those with operators get parentheses.
fn any_of(choices: Vec<String>) -> Option<String> {
    let choices: Vec<String> = choices.into_iter().filter(|choice| !choice.trim().is_empty()).collect();
    if choices.len() < 2 {
        return choices.into_iter().next();
    }
    let whole = |choice: String| {
        let choice = choice.trim();
        let simple = choice.starts_with('(') || !choice.contains(' ');
        if simple { choice.to_owned() } else { format!("({choice})") }
    };
    Some(format!("({})", choices.into_iter().map(whole).collect::<Vec<_>>().join(" OR ")))
}
