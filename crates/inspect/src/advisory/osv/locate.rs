//! Which field of an advisory has the wrong type. Read a second time, and only where reading failed.

use serde_json::Value;

use super::AdvisoryError;

/// What a field has to be; those that may be left out may be null.
enum Kind {
    Text { required: bool },
    List { required: bool, of: &'static Kind },
    Object { required: bool, fields: &'static [(&'static str, Kind)] },
}

const TEXT: Kind = Kind::Text { required: true };
const SOME_TEXT: Kind = Kind::Text { required: false };
const TEXTS: Kind = Kind::List { required: false, of: &TEXT };
const RATINGS: Kind =
    Kind::List { required: false, of: &Kind::Object { required: true, fields: &[("type", TEXT), ("score", TEXT)] } };

const EVENT: Kind = Kind::Object {
    required: true,
    fields: &[("introduced", SOME_TEXT), ("fixed", SOME_TEXT), ("last_affected", SOME_TEXT), ("limit", SOME_TEXT)],
};
const RANGE: Kind =
    Kind::Object { required: true, fields: &[("type", TEXT), ("events", Kind::List { required: false, of: &EVENT })] };
const AFFECTED: Kind = Kind::Object {
    required: true,
    fields: &[
        ("package", Kind::Object { required: false, fields: &[("ecosystem", TEXT), ("name", TEXT)] }),
        ("severity", RATINGS),
        ("ranges", Kind::List { required: false, of: &RANGE }),
        ("versions", TEXTS),
    ],
};
const REFERENCE: Kind = Kind::Object { required: true, fields: &[("type", SOME_TEXT), ("url", TEXT)] };
const ADVISORY: Kind = Kind::Object {
    required: true,
    fields: &[
        ("schema_version", SOME_TEXT),
        ("id", TEXT),
        ("modified", TEXT),
        ("published", SOME_TEXT),
        ("withdrawn", SOME_TEXT),
        ("aliases", TEXTS),
        ("upstream", TEXTS),
        ("related", TEXTS),
        ("summary", SOME_TEXT),
        ("details", SOME_TEXT),
        ("severity", RATINGS),
        ("affected", Kind::List { required: false, of: &AFFECTED }),
        ("references", Kind::List { required: false, of: &REFERENCE }),
    ],
};

/// The first field that is not as the format has it.
pub(super) fn field(bytes: &[u8], error: &serde_json::Error) -> AdvisoryError {
    let mut path = String::new();
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => match check(Some(&value), &ADVISORY, &mut path) {
            Err(problem) if path.is_empty() => AdvisoryError::Json(problem.to_owned()),
            Err(problem) => AdvisoryError::field(path, problem),
            // A field that is given twice, which a tree no longer shows.
            Ok(()) => AdvisoryError::Json(error.to_string()),
        },
        Err(error) => AdvisoryError::Json(error.to_string()),
    }
}

/// Leaves in `path` where the problem is. No deeper than the format itself.
fn check(value: Option<&Value>, kind: &Kind, path: &mut String) -> Result<(), &'static str> {
    let (Kind::Text { required } | Kind::List { required, .. } | Kind::Object { required, .. }) = kind;
    let value = match value {
        None | Some(Value::Null) if !required => return Ok(()),
        None => return Err("it is missing"),
        Some(value) => value,
    };
    match (kind, value) {
        (Kind::Text { .. }, Value::String(_)) => Ok(()),
        (Kind::Text { .. }, _) => Err("it is not a text"),
        (Kind::List { of, .. }, Value::Array(items)) => {
            let length = path.len();
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                check(Some(item), of, path)?;
                path.truncate(length);
            }
            Ok(())
        }
        (Kind::List { .. }, _) => Err("it is not a list"),
        (Kind::Object { fields, .. }, Value::Object(object)) => {
            let length = path.len();
            for (name, kind) in *fields {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
                check(object.get(*name), kind, path)?;
                path.truncate(length);
            }
            Ok(())
        }
        (Kind::Object { .. }, _) => Err("it is not an object"),
    }
}
