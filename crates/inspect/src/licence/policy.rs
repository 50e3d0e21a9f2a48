//! A policy of licences: which are allowed, which need a look, which are refused.
//!
//! ```toml
//! allow = ["MIT", "BSD-*", "GPL-2.0-only WITH Classpath-exception-2.0"]
//! warn = ["MPL-2.0"]
//! deny = ["GPL-*", "AGPL-*"]
//! default = "warn"
//! unknown = "deny"
//! ```
//!
//! Of the rules that match a licence the most specific one holds: one without `*` before one with, then the one with more
//! text; of equals the stricter one. A rule that is no id and no pattern speaks of a text that stands there instead.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::expression::{Exception, Expression, Licence, Node, Term};
use super::{list, listed, listed_exception, names};

/// The longest text of a policy, in bytes.
pub const POLICY_BYTES_MAX: usize = 256 * 1024;
/// The most rules of a policy.
pub const RULES_MAX: usize = 10_000;

/// How near a key must be to a known one to be taken for it (Jaro-Winkler, 0 to 1).
const KEY_SIMILARITY_MIN: f64 = 0.7;
/// How near a rule must be to a licence id to be taken for a misspelt one.
const ID_SIMILARITY_MIN: f64 = 0.94;

const WITH: &str = " WITH ";

/// What a policy says of a licence. The later, the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It may be used.
    Allow,
    /// Somebody should look at it.
    Warn,
    /// It may not be used.
    Deny,
}

/// Rules for licences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    default: Verdict,
    unknown: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// In lower case.
    pattern: String,
    verdict: Verdict,
}

/// What is wrong with the text of a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}. {hint}")]
pub struct PolicyError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

const KEYS: [&str; 5] = ["allow", "warn", "deny", "default", "unknown"];
const VERDICTS: [(&str, Verdict); 3] = [("allow", Verdict::Allow), ("warn", Verdict::Warn), ("deny", Verdict::Deny)];

impl Policy {
    /// Parses a policy in TOML. Without `default`, what no rule speaks of is a warning; without `unknown`, so is what was
    /// not understood, and never less than `default`.
    ///
    /// # Errors
    /// [`PolicyError`] with the line; for an unknown key or a misspelt id it names the nearest known one.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let fault = |at: usize, what: String, hint: String| {
            let line = 1 + memchr::memchr_iter(b'\n', text.as_bytes().get(..at).unwrap_or_default()).count();
            PolicyError { line, what, hint }
        };
        if text.len() > POLICY_BYTES_MAX {
            return Err(fault(0, format!("it has more than {POLICY_BYTES_MAX} bytes"), "Use patterns.".to_owned()));
        }
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            fault(at, error.message().to_owned(), "A policy is TOML.".to_owned())
        })?;
        let mut policy = Policy { rules: Vec::new(), default: Verdict::Warn, unknown: Verdict::Warn };
        let mut unknown = None;
        for (key, value) in table.get_ref() {
            let at = key.span().start;
            match key.get_ref().as_ref() {
                "default" => policy.default = verdict(value).map_err(|(what, hint)| fault(at, what, hint))?,
                "unknown" => unknown = Some(verdict(value).map_err(|(what, hint)| fault(at, what, hint))?),
                key => {
                    let Some((_, verdict)) = VERDICTS.iter().find(|(name, _)| *name == key) else {
                        let hint = match nearest(key, &KEYS, KEY_SIMILARITY_MIN) {
                            Some(near) => format!("Did you mean `{near}`?"),
                            None => format!("Known here: {}.", KEYS.join(", ")),
                        };
                        return Err(fault(at, format!("unknown key `{key}`"), hint));
                    };
                    let DeValue::Array(items) = value.get_ref() else {
                        return Err(fault(at, format!("`{key}` is no list"), "Write it as [\"MIT\"].".to_owned()));
                    };
                    for item in items {
                        let at = item.span().start;
                        let pattern = rule(item.get_ref()).map_err(|(what, hint)| fault(at, what, hint))?;
                        policy.rules.push(Rule { pattern, verdict: *verdict });
                        if policy.rules.len() > RULES_MAX {
                            return Err(fault(
                                at,
                                format!("it has more than {RULES_MAX} rules"),
                                "Use patterns.".to_owned(),
                            ));
                        }
                    }
                }
            }
        }
        policy.unknown = unknown.unwrap_or(policy.default.max(Verdict::Warn));
        Ok(policy)
    }

    /// What the policy says of an expression: of `OR` the best, of `AND` the worst.
    pub fn judge(&self, expression: &Expression) -> Verdict {
        // A text that the policy names as a whole is decided, whatever is in it.
        if !expression.is_understood()
            && let Some(verdict) = self.find(&expression.text().trim().to_lowercase(), false)
        {
            return verdict;
        }
        self.node(expression.node())
    }

    /// What the policy says of all that one component states: the worst. A name that leaves open which licence of a kind
    /// it is ("BSD License") does not count where another statement says it.
    pub fn judge_all(&self, expressions: &[Expression]) -> Verdict {
        let said = |start: &str| {
            expressions.iter().filter(|other| other.is_understood()).any(|other| {
                other.terms().iter().any(|term| matches!(term.licence, Licence::Listed(id) if id.starts_with(start)))
            })
        };
        let counts =
            |expression: &&Expression| expression.is_understood() || !names::vague(expression.text()).is_some_and(said);
        expressions.iter().filter(counts).map(|expression| self.judge(expression)).max().unwrap_or(self.unknown)
    }

    fn node(&self, node: &Node) -> Verdict {
        match node {
            Node::Term(term) => self.term(term),
            Node::And(nodes) => nodes.iter().map(|node| self.node(node)).max().unwrap_or(self.unknown),
            Node::Or(nodes) => nodes.iter().map(|node| self.node(node)).min().unwrap_or(self.unknown),
        }
    }

    fn term(&self, term: &Term) -> Verdict {
        let names = match &term.licence {
            Licence::Unknown(text) => return self.find(&text.to_lowercase(), false).unwrap_or(self.unknown),
            Licence::Reference(text) => vec![text.to_lowercase()],
            Licence::Listed(id) => spellings(id, term.or_later),
        };
        let mut least = Verdict::Allow;
        match &term.exception {
            None => {}
            Some(Exception::Listed(_) | Exception::Reference(_)) => {
                let exception = term.exception.as_ref().map(ToString::to_string).unwrap_or_default().to_lowercase();
                let found = names.iter().find_map(|name| self.find(&format!("{name} with {exception}"), true));
                if let Some(verdict) = found {
                    return verdict;
                }
            }
            // It may take rights away as well as give them.
            Some(Exception::Unknown(_)) => least = self.unknown,
        }
        names.iter().find_map(|name| self.find(name, true)).unwrap_or(self.default).max(least)
    }

    /// The most specific rule for a name in lower case. What was not understood no pattern may match by chance.
    fn find(&self, name: &str, patterns: bool) -> Option<Verdict> {
        let kind = |text: &str| text.contains(" with ");
        self.rules
            .iter()
            .filter(|rule| match rule.pattern.contains('*') {
                true => patterns && kind(&rule.pattern) == kind(name) && matches(&rule.pattern, name),
                false => rule.pattern == name,
            })
            .max_by_key(|rule| (!rule.pattern.contains('*'), rule.pattern.len(), rule.verdict))
            .map(|rule| rule.verdict)
    }
}

/// The names under which rules for a licence are looked for, in lower case.
fn spellings(id: &str, or_later: bool) -> Vec<String> {
    let id = id.to_lowercase();
    if or_later { vec![format!("{id}+"), id] } else { vec![id] }
}

/// Whether a pattern matches, where `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part).and_then(|at| rest.get(at + part.len()..)) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

type Fault = (String, String);

fn verdict(value: &Spanned<DeValue<'_>>) -> Result<Verdict, Fault> {
    let known = VERDICTS.map(|(name, _)| name);
    let fault = |hint| (format!("the verdict must be one of {}", known.join(", ")), hint);
    let Some(text) = value.get_ref().as_str() else { return Err(fault("Write it in quotes.".to_owned())) };
    VERDICTS.iter().find(|(name, _)| *name == text).map(|(_, verdict)| *verdict).ok_or_else(|| {
        fault(match nearest(text, &known, KEY_SIMILARITY_MIN) {
            Some(near) => format!("Did you mean `{near}`?"),
            None => format!("It says `{text}`."),
        })
    })
}

/// A rule in lower case: an id, an id with its exception, a pattern, or a text.
fn rule(value: &DeValue<'_>) -> Result<String, Fault> {
    let write = || "Write an id, a pattern such as \"GPL-*\", or the text that stands there.".to_owned();
    let text = value.as_str().map(str::trim).filter(|text| !text.is_empty());
    let Some(text) = text else { return Err(("a rule is no text".to_owned(), write())) };
    let lower = text.to_lowercase();
    if text.contains('*') {
        let licence = lower.split(" with ").next().unwrap_or_default();
        if !list::LICENCES.iter().any(|id| matches(licence, &id.to_lowercase())) && !licence.contains("ref-") {
            return Err((format!("the pattern `{text}` matches no licence of the SPDX list"), write()));
        }
        return Ok(lower);
    }
    let expression = Expression::read(text);
    match expression.node() {
        // Whatever the spelling, a rule for an id is one for that id.
        Node::Term(term) if expression.is_understood() => Ok(term.to_string().to_lowercase()),
        _ if expression.is_understood() => Err((
            format!("the rule `{text}` is an expression of several licences"),
            "Give each its own rule.".to_owned(),
        )),
        _ => match misspelt(text) {
            Some(near) => Err((format!("`{text}` is no licence id"), format!("Did you mean `{near}`?"))),
            None => Ok(lower),
        },
    }
}

/// The id that a rule nearly is.
fn misspelt(text: &str) -> Option<&'static str> {
    if let Some((licence, exception)) = text.split_once(WITH) {
        return match listed(licence) {
            Some(_) if listed_exception(exception).is_none() => nearest(exception, list::EXCEPTIONS, ID_SIMILARITY_MIN),
            _ => nearest(licence, list::LICENCES, ID_SIMILARITY_MIN),
        };
    }
    nearest(text, list::LICENCES, ID_SIMILARITY_MIN)
}

fn nearest<'k>(text: &str, known: &[&'k str], least: f64) -> Option<&'k str> {
    let lower = text.to_lowercase();
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(&lower, &known.to_lowercase()), *known))
        .filter(|(similarity, _)| *similarity >= least)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
