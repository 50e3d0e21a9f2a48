//! Licence expressions: the grammar of SPDX 2.3 and 3.0 (annex "SPDX license expressions"), and a lenient reading of what
//! people write instead.

use std::fmt;
use std::str::FromStr;

use super::{address, deprecated, listed, listed_exception, names};

/// The longest text that is parsed, in bytes; a longer one is kept and not understood.
pub const EXPRESSION_BYTES_MAX: usize = 8 * 1024;
/// The most parentheses within parentheses.
pub const NESTING_MAX: usize = 32;
/// The most licences in one expression.
pub const TERMS_MAX: usize = 256;
/// Words of a name between two operators; more are prose, not a name.
const NAME_WORDS_MAX: usize = 12;
/// Characters on either side of a slash that belongs to a name.
const WORD_CHARS_MAX: usize = 40;

/// A statement of a licence: its text as it was, and what it means as far as that was understood.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expression {
    text: String,
    node: Node,
    is_spdx: bool,
}

/// A node of an expression. `AND` binds tighter than `OR`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// One licence.
    Term(Term),
    /// All of these hold.
    And(Vec<Node>),
    /// The user may choose one.
    Or(Vec<Node>),
}

/// One licence, with its exception if it has one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// Which licence.
    pub licence: Licence,
    /// Whether a `+` follows: this version or a later one.
    pub or_later: bool,
    /// What follows `WITH`.
    pub exception: Option<Exception>,
}

/// A licence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Licence {
    /// Of the SPDX list, as written there.
    Listed(&'static str),
    /// `LicenseRef-NAME` or `DocumentRef-DOCUMENT:LicenseRef-NAME`, as it stands.
    Reference(String),
    /// A text that was not understood.
    Unknown(String),
}

/// An exception to a licence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Exception {
    /// Of the SPDX list, as written there.
    Listed(&'static str),
    /// `AdditionRef-NAME`, with its document if there is one.
    Reference(String),
    /// A text that was not understood.
    Unknown(String),
}

/// Why a text is no SPDX expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Over [`EXPRESSION_BYTES_MAX`], [`NESTING_MAX`] or [`TERMS_MAX`].
    #[error("the licence expression is longer or deeper than is read")]
    TooLong,
    /// There is nothing in it.
    #[error("the licence expression is empty")]
    Empty,
    /// A licence is missing where one must stand.
    #[error("the licence expression lacks a licence at byte {at}")]
    Missing {
        /// Byte offset.
        at: usize,
    },
    /// Something stands where it cannot.
    #[error("the licence expression has \"{word}\" at byte {at}, where it cannot stand")]
    Misplaced {
        /// What stands there.
        word: String,
        /// Byte offset.
        at: usize,
    },
    /// No id of the SPDX list.
    #[error("\"{word}\" at byte {at} is no licence id of the SPDX list")]
    UnknownId {
        /// The word.
        word: String,
        /// Byte offset.
        at: usize,
    },
    /// No exception of the SPDX list.
    #[error("\"{word}\" at byte {at} is no exception of the SPDX list")]
    UnknownException {
        /// The word.
        word: String,
        /// Byte offset.
        at: usize,
    },
}

impl Expression {
    /// Parses an SPDX expression; ids and operators in any case.
    ///
    /// # Errors
    /// [`ExpressionError`] says what is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let node = Parser::new(text, false)?.whole()?;
        Ok(Self { text: text.to_owned(), node, is_spdx: true })
    }

    /// Reads what stood in a licence field. Common names are understood as SPDX ids; what was not understood stays in
    /// the expression as [`Licence::Unknown`]. Nothing is dropped, and nothing is an error.
    pub fn read(text: &str) -> Self {
        let trimmed = text.trim();
        if let Ok(expression) = Self::parse(trimmed) {
            return Self { text: text.to_owned(), ..expression };
        }
        let node = names::find(trimmed)
            .or_else(|| address::find(trimmed))
            .and_then(|spdx| Self::parse(spdx).ok())
            .map(|known| known.node)
            .or_else(|| Parser::new(trimmed, true).and_then(Parser::whole).ok().filter(Node::has_known))
            .unwrap_or_else(|| Node::unknown(trimmed));
        Self { text: text.to_owned(), node, is_spdx: false }
    }

    /// The text as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it means.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Whether the text is a valid SPDX expression as it stands.
    pub fn is_spdx(&self) -> bool {
        self.is_spdx
    }

    /// Whether every licence and exception in it was understood.
    pub fn is_understood(&self) -> bool {
        self.terms().iter().all(|term| {
            !matches!(term.licence, Licence::Unknown(_)) && !matches!(term.exception, Some(Exception::Unknown(_)))
        })
    }

    /// The licences in it, in order.
    pub fn terms(&self) -> Vec<&Term> {
        let mut terms = Vec::new();
        self.node.collect(&mut terms);
        terms
    }

    /// What each licence in it is called, its exception left out: an SPDX id, or the text where it is none.
    pub fn names(&self) -> Vec<String> {
        let name = |term: &&Term| format!("{}{}", term.licence, if term.or_later { "+" } else { "" });
        self.terms().iter().map(name).collect()
    }

    /// The SPDX form, ids as the list writes them; `None` where something was not understood.
    pub fn spdx(&self) -> Option<String> {
        self.is_understood().then(|| self.node.to_string())
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        Self::parse(text)
    }
}

/// The text as it was.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Node {
    fn unknown(text: &str) -> Self {
        Node::Term(Term { licence: Licence::Unknown(text.to_owned()), or_later: false, exception: None })
    }

    fn collect<'n>(&'n self, terms: &mut Vec<&'n Term>) {
        match self {
            Node::Term(term) => terms.push(term),
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().for_each(|node| node.collect(terms)),
        }
    }

    fn has_known(&self) -> bool {
        match self {
            Node::Term(term) => !matches!(term.licence, Licence::Unknown(_)),
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().any(Node::has_known),
        }
    }
}

/// The canonical form: single spaces, parentheses only where they change something.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nodes, operator) = match self {
            Node::Term(term) => return term.fmt(f),
            Node::And(nodes) => (nodes, " AND "),
            Node::Or(nodes) => (nodes, " OR "),
        };
        for (place, node) in nodes.iter().enumerate() {
            if place > 0 {
                f.write_str(operator)?;
            }
            match (self, node) {
                (Node::And(_), Node::Or(_)) => write!(f, "({node})")?,
                _ => node.fmt(f)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.licence, if self.or_later { "+" } else { "" })?;
        self.exception.as_ref().map_or(Ok(()), |exception| write!(f, " WITH {exception}"))
    }
}

impl fmt::Display for Licence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Licence::Listed(id) => f.write_str(id),
            Licence::Reference(text) | Licence::Unknown(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exception::Listed(id) => f.write_str(id),
            Exception::Reference(text) | Exception::Unknown(text) => f.write_str(text),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Open,
    Close,
    And,
    Or,
    /// `, and` and `, or`, which bind less than these without the comma: `A or B, and C`.
    CommaAnd,
    CommaOr,
    With,
    Word(&'a str),
    /// Alone, until what follows is known.
    Comma,
}

struct Parser<'a> {
    /// Each with its byte offset.
    tokens: Vec<(Token<'a>, usize)>,
    next: usize,
    terms: usize,
    end: usize,
    /// Whether names of several words and unknown ones are taken.
    lenient: bool,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, lenient: bool) -> Result<Self, ExpressionError> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(ExpressionError::TooLong);
        }
        let tokens = tokens(text, lenient);
        if tokens.is_empty() {
            return Err(ExpressionError::Empty);
        }
        Ok(Self { tokens, next: 0, terms: 0, end: text.len(), lenient })
    }

    fn whole(mut self) -> Result<Node, ExpressionError> {
        let node = self.listed(0)?;
        match self.tokens.get(self.next) {
            None => Ok(node),
            Some(_) => Err(self.misplaced()),
        }
    }

    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.next).map(|(token, _)| *token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |(_, at)| *at)
    }

    fn misplaced(&self) -> ExpressionError {
        let word = match self.peek() {
            None => return ExpressionError::Missing { at: self.end },
            Some(Token::Open) => "(",
            Some(Token::Close) => ")",
            Some(Token::And | Token::CommaAnd) => "AND",
            Some(Token::Or | Token::CommaOr) => "OR",
            Some(Token::Comma) => ",",
            Some(Token::With) => "WITH",
            Some(Token::Word(word)) => word,
        };
        ExpressionError::Misplaced { word: word.to_owned(), at: self.at() }
    }

    fn listed(&mut self, depth: usize) -> Result<Node, ExpressionError> {
        self.each(Token::CommaOr, Node::Or, depth, |parser, depth| {
            parser.each(Token::CommaAnd, Node::And, depth, Self::any)
        })
    }

    fn any(&mut self, depth: usize) -> Result<Node, ExpressionError> {
        self.each(Token::Or, Node::Or, depth, |parser, depth| parser.each(Token::And, Node::And, depth, Self::single))
    }

    /// What an operator connects.
    fn each(
        &mut self,
        operator: Token<'static>,
        connected: fn(Vec<Node>) -> Node,
        depth: usize,
        inner: fn(&mut Self, usize) -> Result<Node, ExpressionError>,
    ) -> Result<Node, ExpressionError> {
        let mut nodes = vec![inner(self, depth)?];
        while self.peek() == Some(operator) {
            self.next += 1;
            nodes.push(inner(self, depth)?);
        }
        Ok(joined(nodes, connected))
    }

    fn single(&mut self, depth: usize) -> Result<Node, ExpressionError> {
        if depth > NESTING_MAX {
            return Err(ExpressionError::TooLong);
        }
        match self.peek() {
            Some(Token::Open) => {
                self.next += 1;
                let node = self.listed(depth + 1)?;
                if self.peek() != Some(Token::Close) {
                    return Err(self.misplaced());
                }
                self.next += 1;
                Ok(node)
            }
            Some(Token::Word(_)) => self.term(),
            _ => Err(self.misplaced()),
        }
    }

    /// The words up to the next operator or parenthesis: one, but where the reading is lenient.
    fn words(&mut self) -> Result<String, ExpressionError> {
        let mut words = Vec::new();
        while let Some(Token::Word(word)) = self.peek() {
            if !words.is_empty() && !self.lenient {
                return Err(self.misplaced());
            }
            words.push(word);
            self.next += 1;
        }
        match words.len() {
            0 => Err(self.misplaced()),
            1..=NAME_WORDS_MAX => Ok(words.join(" ")),
            _ => Err(ExpressionError::TooLong),
        }
    }

    fn term(&mut self) -> Result<Node, ExpressionError> {
        self.terms += 1;
        if self.terms > TERMS_MAX {
            return Err(ExpressionError::TooLong);
        }
        let at = self.at();
        let word = self.words()?;
        let node = match licence(&word) {
            Some(term) => Node::Term(term),
            None if self.lenient => names::find(&word)
                .and_then(|spdx| Expression::parse(spdx).ok())
                .map_or_else(|| Node::unknown(&word), |known| known.node),
            None => return Err(ExpressionError::UnknownId { word, at }),
        };
        if self.peek() != Some(Token::With) {
            return Ok(node);
        }
        let Node::Term(term @ Term { exception: None, .. }) = node else { return Err(self.misplaced()) };
        self.next += 1;
        let at = self.at();
        let word = self.words()?;
        let exception = match exception(&word) {
            Some(exception) => exception,
            None if self.lenient => {
                names::find_exception(&word).map_or_else(|| Exception::Unknown(word), Exception::Listed)
            }
            None => return Err(ExpressionError::UnknownException { word, at }),
        };
        Ok(Node::Term(Term { exception: Some(exception), ..term }))
    }
}

/// One operator over these; where there is one node only, that.
fn joined(mut nodes: Vec<Node>, operator: fn(Vec<Node>) -> Node) -> Node {
    if nodes.len() == 1
        && let Some(node) = nodes.pop()
    {
        return node;
    }
    operator(nodes)
}

fn tokens(text: &str, lenient: bool) -> Vec<(Token<'_>, usize)> {
    let mut tokens = Vec::new();
    let mut start = None;
    for (at, character) in text.char_indices().chain([(text.len(), ' ')]) {
        let mark = match character {
            '(' => Some(Token::Open),
            ')' => Some(Token::Close),
            ',' | ';' if lenient => Some(Token::Comma),
            '&' if lenient => Some(Token::And),
            // Rust's and others' older way to say "or".
            '/' if lenient && is_word(word_around(text, at)) => None,
            '/' | '|' if lenient => Some(Token::Or),
            _ => None,
        };
        if mark.is_none() && !character.is_whitespace() {
            start = start.or(Some(at));
            continue;
        }
        if let Some(begin) = start.take()
            && let Some(word) = text.get(begin..at)
        {
            tokens.push((if lenient && is_and_or(word) { Token::And } else { word_token(word) }, begin));
        }
        if let Some(mark) = mark {
            // "A || B": one operator.
            let is_operator = matches!(mark, Token::And | Token::Or | Token::Comma);
            let again = is_operator && tokens.last().is_some_and(|(last, _)| *last == mark);
            if !again {
                tokens.push((mark, at));
            }
        }
    }
    if lenient { soften(tokens) } else { tokens }
}

/// Whether a slash belongs to the word that it stands in.
fn is_word(word: &str) -> bool {
    is_and_or(word) || names::find(word).is_some()
}

/// Which of the two it is nobody says; that all holds is the stricter reading.
fn is_and_or(word: &str) -> bool {
    word.eq_ignore_ascii_case("and/or")
}

/// The word that a slash stands in: `zlib/libpng` is the name of one licence. Empty where it is long.
fn word_around(text: &str, at: usize) -> &str {
    let parts = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',' | ';');
    let near = WORD_CHARS_MAX;
    let mut before = text.get(..at).unwrap_or_default().char_indices().rev().take(near);
    let mut after = text.get(at..).unwrap_or_default().char_indices().take(near);
    let start = before.find(|(_, c)| parts(*c)).map(|(last, c)| last + c.len_utf8());
    let end = after.find(|(_, c)| parts(*c)).map(|(first, _)| at + first);
    let start = start.unwrap_or(if at < near { 0 } else { at });
    let end = end.unwrap_or(if text.len() - at < near { text.len() } else { at });
    text.get(start..end).unwrap_or_default()
}

fn word_token(word: &str) -> Token<'_> {
    match word.len() {
        3 if word.eq_ignore_ascii_case("and") => Token::And,
        2 if word.eq_ignore_ascii_case("or") => Token::Or,
        4 if word.eq_ignore_ascii_case("with") => Token::With,
        _ => Token::Word(word),
    }
}

/// Takes the operators out that are none, such as the "or" of "or later", and says what commas mean.
fn soften(tokens: Vec<(Token<'_>, usize)>) -> Vec<(Token<'_>, usize)> {
    let mut softened: Vec<(Token<'_>, usize)> = Vec::with_capacity(tokens.len());
    for (place, (token, at)) in tokens.iter().enumerate() {
        let following = |distance: usize| match tokens.get(place + distance) {
            Some((Token::Word(word), _)) => word.to_ascii_lowercase(),
            _ => String::new(),
        };
        let is_later = |word: &str| matches!(word, "later" | "newer" | "above" | "greater");
        let token = match token {
            Token::Or if is_later(&following(1)) || (following(1) == "any" && is_later(&following(2))) => {
                Token::Word("or")
            }
            token => *token,
        };
        match (softened.last_mut(), token) {
            (Some((last @ Token::Comma, _)), Token::And) => *last = Token::CommaAnd,
            // ", or" ends a list of choices only where all of it is one; the stricter reading stays for the rest.
            (Some((last @ Token::Comma, _)), Token::Or) => *last = Token::CommaOr,
            (Some((Token::And, _)), Token::And) => {}
            (Some((last @ Token::And, _)), Token::Or) => *last = Token::Or,
            _ => softened.push((token, *at)),
        }
    }
    // What is listed without an operator all holds, as far as one can know.
    for (token, _) in softened.iter_mut().filter(|(token, _)| *token == Token::Comma) {
        *token = Token::And;
    }
    softened
}

/// An id of the list, with `+` where it has one, or a reference. What the list advises against is read as what it says to
/// write instead, so that one licence has one name.
fn licence(word: &str) -> Option<Term> {
    let term = |licence, or_later| Term { licence, or_later, exception: None };
    if is_reference(word, "LicenseRef-") {
        return Some(term(Licence::Reference(word.to_owned()), false));
    }
    // `GPL-2.0+` is an id itself.
    let (id, or_later) = match listed(word) {
        Some(id) => (id, false),
        None => (listed(word.strip_suffix('+')?)?, true),
    };
    match deprecated::successor(id, or_later) {
        Some(deprecated::Successor { id, exception }) => {
            Some(Term { exception: exception.map(Exception::Listed), ..term(Licence::Listed(id), false) })
        }
        None => Some(term(Licence::Listed(id), or_later)),
    }
}

fn exception(word: &str) -> Option<Exception> {
    if let Some(id) = listed_exception(word) {
        return Some(Exception::Listed(id));
    }
    is_reference(word, "AdditionRef-").then(|| Exception::Reference(word.to_owned()))
}

/// `PREFIX` and a name, or the same after `DocumentRef-NAME:`.
fn is_reference(word: &str, prefix: &str) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    let (document, reference) = match word.split_once(':') {
        Some((document, reference)) => (Some(document), reference),
        None => (None, word),
    };
    let after = |text: &str, prefix: &str| {
        let (begin, name) = text.split_at_checked(prefix.len())?;
        begin.eq_ignore_ascii_case(prefix).then(|| is_name(name))
    };
    after(reference, prefix) == Some(true)
        && document.is_none_or(|document| after(document, "DocumentRef-") == Some(true))
}
