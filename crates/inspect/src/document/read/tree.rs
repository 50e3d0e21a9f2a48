//! JSON as a tree with limits, whose nodes know where they stand.
//!
//! A member that is given twice is refused: two readers would not see the same document.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

use super::{DEPTH_MAX, DOCUMENT_BYTES_MAX, ReadError, VALUES_MAX};

/// One JSON value; its texts lie in the document where they can.
#[derive(Debug)]
enum Json<'a> {
    Null,
    Bool(bool),
    Number(f64),
    Text(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// A whole document.
#[derive(Debug)]
pub(crate) struct Tree<'a>(Json<'a>);

impl<'a> Tree<'a> {
    pub(crate) fn root(&self) -> Node<'_> {
        Node { value: &self.0, at: None }
    }
}

/// Reads a document within the limits.
pub(crate) fn parse(bytes: &[u8]) -> Result<Tree<'_>, ReadError> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(ReadError::TooLong { bytes: bytes.len() });
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let state = RefCell::new(State::default());
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = Value(&state).deserialize(&mut deserializer).and_then(|json| deserializer.end().map(|()| json));
    read.map(Tree).map_err(|error| {
        let state = state.into_inner();
        let at: String = state.path.iter().map(|step| pointer_step(step)).collect();
        match state.over {
            Some((what, limit)) => ReadError::Limit { at, what, limit },
            None => ReadError::Malformed { at, why: error.to_string() },
        }
    })
}

#[derive(Default)]
struct State<'a> {
    values: usize,
    path: Vec<Step<'a>>,
    over: Option<(&'static str, usize)>,
}

#[derive(Clone, Debug)]
enum Step<'a> {
    Key(Cow<'a, str>),
    Index(usize),
}

/// One step of a JSON pointer (RFC 6901).
fn pointer_step(step: &Step<'_>) -> String {
    const SHOWN_CHARS_MAX: usize = 64;
    match step {
        Step::Index(index) => format!("/{index}"),
        Step::Key(key) => {
            let key: String = key.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
            format!("/{}", key.replace('~', "~0").replace('/', "~1"))
        }
    }
}

struct Value<'s, 'a>(&'s RefCell<State<'a>>);

impl<'s, 'a> Value<'s, 'a> {
    fn over<E: serde::de::Error>(&self, what: &'static str, limit: usize) -> E {
        self.0.borrow_mut().over = Some((what, limit));
        E::custom(format_args!("more than {limit} {what}"))
    }
}

impl<'a> DeserializeSeed<'a> for Value<'_, 'a> {
    type Value = Json<'a>;

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<Json<'a>, D::Error> {
        let (values, depth) = {
            let mut state = self.0.borrow_mut();
            state.values += 1;
            (state.values, state.path.len())
        };
        if values > VALUES_MAX {
            return Err(self.over("values", VALUES_MAX));
        }
        if depth > DEPTH_MAX {
            return Err(self.over("levels", DEPTH_MAX));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Value<'_, 'a> {
    type Value = Json<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'a>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'a>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'a>, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'a>, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'a>, E> {
        Ok(Json::Number(value))
    }

    fn visit_borrowed_str<E>(self, value: &'a str) -> Result<Json<'a>, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'a>, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<Json<'a>, A::Error> {
        let mut array = Vec::new();
        loop {
            self.0.borrow_mut().path.push(Step::Index(array.len()));
            let Some(item) = items.next_element_seed(Value(self.0))? else { break };
            self.0.borrow_mut().path.pop();
            array.push(item);
        }
        self.0.borrow_mut().path.pop();
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<Json<'a>, A::Error> {
        let mut object: Vec<(Cow<'a, str>, Json<'a>)> = Vec::new();
        while let Some(key) = members.next_key_seed(Key)? {
            self.0.borrow_mut().path.push(Step::Key(key.clone()));
            let value = members.next_value_seed(Value(self.0))?;
            self.0.borrow_mut().path.pop();
            object.push((key, value));
        }
        let mut keys: Vec<&str> = object.iter().map(|(key, _)| key.as_ref()).collect();
        keys.sort_unstable();
        if let Some((twice, _)) = keys.iter().zip(keys.iter().skip(1)).find(|(a, b)| a == b) {
            let shown = pointer_step(&Step::Key(Cow::Borrowed(twice)));
            return Err(A::Error::custom(format_args!(
                "the member \"{}\" is given twice",
                shown.trim_start_matches('/')
            )));
        }
        Ok(Json::Object(object))
    }
}

struct Key;

impl<'a> DeserializeSeed<'a> for Key {
    type Value = Cow<'a, str>;

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<Cow<'a, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Key {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_borrowed_str<E>(self, value: &'a str) -> Result<Cow<'a, str>, E> {
        Ok(Cow::Borrowed(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Cow<'a, str>, E> {
        Ok(Cow::Owned(value.to_owned()))
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node<'t> {
    value: &'t Json<'t>,
    at: Option<Rc<Link<'t>>>,
}

#[derive(Debug)]
struct Link<'t> {
    parent: Option<Rc<Link<'t>>>,
    step: Step<'t>,
}

impl<'t> Node<'t> {
    fn child(&self, step: Step<'t>, value: &'t Json<'t>) -> Node<'t> {
        Node { value, at: Some(Rc::new(Link { parent: self.at.clone(), step })) }
    }

    fn member(&self, key: &str) -> Option<(&'t str, &'t Json<'t>)> {
        let Json::Object(members) = self.value else { return None };
        let (key, value) = members.iter().find(|(known, _)| known == key)?;
        (!matches!(value, Json::Null)).then_some((key.as_ref(), value))
    }

    /// A member that is there and not null.
    pub(crate) fn get(&self, key: &str) -> Option<Node<'t>> {
        let (key, value) = self.member(key)?;
        Some(self.child(Step::Key(Cow::Borrowed(key)), value))
    }

    /// A member that is a text.
    pub(crate) fn text(&self, key: &str) -> Option<&'t str> {
        match self.member(key)?.1 {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A member that is a truth value.
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        match self.member(key)?.1 {
            Json::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// A member that is a number.
    pub(crate) fn number(&self, key: &str) -> Option<f64> {
        match self.member(key)?.1 {
            Json::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A member that is a whole number that fits without loss.
    pub(crate) fn whole(&self, key: &str) -> Option<u64> {
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        self.number(key).filter(|n| n.fract() == 0.0 && (0.0..=EXACT_MAX).contains(n)).map(|n| n as u64)
    }

    /// The items of a member that is an array; none where it is not there.
    pub(crate) fn each(&self, key: &str) -> Vec<Node<'t>> {
        self.get(key).map(|node| node.items()).unwrap_or_default()
    }

    /// The items, where this is an array.
    pub(crate) fn items(&self) -> Vec<Node<'t>> {
        match self.value {
            Json::Array(items) => {
                items.iter().enumerate().map(|(index, item)| self.child(Step::Index(index), item)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The members, where this is an object.
    pub(crate) fn members(&self) -> Vec<(&'t str, Node<'t>)> {
        match self.value {
            Json::Object(members) => {
                let child = |key: &'t str, value| self.child(Step::Key(Cow::Borrowed(key)), value);
                members.iter().map(|(key, value)| (key.as_ref(), child(key.as_ref(), value))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The texts of a member that is an array of them; what is no text is left out.
    pub(crate) fn texts(&self, key: &str) -> Vec<&'t str> {
        match self.member(key) {
            Some((_, Json::Array(items))) => items
                .iter()
                .filter_map(|item| match item {
                    Json::Text(text) => Some(text.as_ref()),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// This, where it is a text.
    pub(crate) fn as_text(&self) -> Option<&'t str> {
        match self.value {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a member that is an array; none where it is not there, an error where it is something else.
    pub(crate) fn list(&self, key: &'static str) -> Result<Vec<Node<'t>>, ReadError> {
        match self.member(key) {
            None => Ok(Vec::new()),
            Some((_, Json::Array(_))) => Ok(self.each(key)),
            Some(_) => Err(ReadError::Malformed { at: self.at(), why: format!("\"{key}\" is no list") }),
        }
    }

    /// A member that must be a text.
    pub(crate) fn required(&self, key: &'static str) -> Result<&'t str, ReadError> {
        self.text(key).ok_or_else(|| self.missing(key))
    }

    /// The error that a member is missing here.
    pub(crate) fn missing(&self, what: &'static str) -> ReadError {
        ReadError::Missing { at: self.at(), what }
    }

    /// Where this stands, as a JSON pointer; empty for the whole document.
    pub(crate) fn at(&self) -> String {
        let mut steps = Vec::new();
        let mut link = self.at.as_deref();
        while let Some(Link { parent, step }) = link {
            steps.push(pointer_step(step));
            link = parent.as_deref();
        }
        steps.reverse();
        steps.concat()
    }
}
