//! The pass over a file's bytes: literals are found, checks decide, places are counted.

use std::io;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use super::place::Place;
use super::{Found, Rule, Secret, assignment, files, pem, token};
use crate::content::Content;

/// The most secrets of one file; a file with as many may hold more.
pub const SECRETS_MAX: usize = 1000;
/// The bytes of a big file that are looked at at a time.
pub const WINDOW_BYTES: usize = 1024 * 1024;
/// No check looks further than this past where its literal begins, in bytes.
pub const LOOK_AHEAD_BYTES: usize = 64 * 1024;
/// No check looks further back than this, in bytes.
pub const LOOK_BACK_BYTES: usize = 1024;

/// A file with a NUL byte among these first ones is no text.
const PEEK_BYTES: usize = 8 * 1024;

#[derive(Clone, Copy, Debug)]
enum Check {
    Checksum(Rule),
    Plain(fn(&[u8], usize, &str) -> Option<Found>),
    Pem,
    Assignment,
    Address,
}

/// What is looked for everywhere. No literal is shorter than four bytes, and there are at most 64 with [`WORDS`]: within
/// that the search takes vector instructions.
const PREFIXES: &[(&str, Check)] = &[
    ("-----BEGIN ", Check::Pem),
    ("AKIA", Check::Plain(token::aws)),
    ("ASIA", Check::Plain(token::aws)),
    ("ghp_", Check::Checksum(Rule::GithubToken)),
    ("gho_", Check::Checksum(Rule::GithubToken)),
    ("ghu_", Check::Checksum(Rule::GithubToken)),
    ("ghs_", Check::Checksum(Rule::GithubToken)),
    ("ghr_", Check::Checksum(Rule::GithubToken)),
    ("github_pat_", Check::Plain(token::fine_grained)),
    ("glpat-", Check::Plain(token::gitlab)),
    ("gldt-", Check::Plain(token::gitlab)),
    ("glrt-", Check::Plain(token::gitlab)),
    ("glcbt-", Check::Plain(token::gitlab)),
    ("glptt-", Check::Plain(token::gitlab)),
    ("glsoat-", Check::Plain(token::gitlab)),
    ("xoxa-", Check::Plain(token::slack)),
    ("xoxb-", Check::Plain(token::slack)),
    ("xoxe-", Check::Plain(token::slack)),
    ("xoxp-", Check::Plain(token::slack)),
    ("xoxs-", Check::Plain(token::slack)),
    ("xapp-", Check::Plain(token::slack)),
    ("hooks.slack.com/services/", Check::Plain(token::slack_webhook)),
    ("sk_live_", Check::Plain(token::stripe)),
    ("rk_live_", Check::Plain(token::stripe)),
    ("sk_test_", Check::Plain(token::stripe)),
    ("whsec_", Check::Plain(token::stripe)),
    ("npm_", Check::Checksum(Rule::NpmToken)),
    ("pypi-", Check::Plain(token::pypi)),
    ("AIza", Check::Plain(token::google)),
    ("GOCSPX-", Check::Plain(token::google)),
    ("ya29.", Check::Plain(token::google)),
    ("AccountKey=", Check::Plain(token::azure)),
    ("SharedAccessKey=", Check::Plain(token::azure)),
    // `{"` and the first letter of `alg`, `typ`, `kid`, `cty`, `enc`.
    ("eyJh", Check::Plain(token::jwt)),
    ("eyJ0", Check::Plain(token::jwt)),
    ("eyJr", Check::Plain(token::jwt)),
    ("eyJj", Check::Plain(token::jwt)),
    ("eyJl", Check::Plain(token::jwt)),
    ("\"auth\"", Check::Plain(token::docker)),
    ("\"identitytoken\"", Check::Plain(token::docker)),
];

/// What is looked for in text besides. Without the first letter, whose case varies.
const WORDS: &[(&str, Check)] = &[
    ("assword", Check::Assignment),
    ("ASSWORD", Check::Assignment),
    ("asswd", Check::Assignment),
    ("ASSWD", Check::Assignment),
    ("ecret", Check::Assignment),
    ("ECRET", Check::Assignment),
    ("oken", Check::Assignment),
    ("OKEN", Check::Assignment),
    ("pi_key", Check::Assignment),
    ("pi-key", Check::Assignment),
    ("pikey", Check::Assignment),
    ("piKey", Check::Assignment),
    ("PI_KEY", Check::Assignment),
    ("PIKEY", Check::Assignment),
    // The schemes that passwords stand in: `http`, `https`, `amqp`, `redis`, `postgres`, `mysql`, `mongodb`.
    ("p://", Check::Address),
    ("s://", Check::Address),
    ("l://", Check::Address),
    ("b://", Check::Address),
];

/// Finds secrets. Building one takes a while, scanning does not: build it once.
#[derive(Debug)]
pub struct Scanner {
    /// For text: prefixes and words.
    text: Option<AhoCorasick>,
    /// For anything else: prefixes.
    binary: Option<AhoCorasick>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

fn automaton<'a>(literals: impl Iterator<Item = &'a (&'a str, Check)>) -> Option<AhoCorasick> {
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostFirst)
        .kind(Some(AhoCorasickKind::DFA))
        .build(literals.map(|(literal, _)| literal))
        .ok()
}

/// Where a scan stands in its file.
struct State {
    secrets: Vec<Secret>,
    /// Line ends before `counted`.
    lines: u64,
    /// Offset in the file up to which lines were counted.
    counted: u64,
    /// Offset in the file where the line of `counted` begins.
    line_start: u64,
    /// Offset in the file before which all is part of a secret that was told.
    told: u64,
}

impl Scanner {
    /// The scanner with all rules.
    pub fn new() -> Self {
        Self { text: automaton(PREFIXES.iter().chain(WORDS)), binary: automaton(PREFIXES.iter()) }
    }

    /// The secrets in a file that is in memory, in order. At most [`SECRETS_MAX`].
    pub fn scan(&self, path: &[u8], bytes: &[u8]) -> Vec<Secret> {
        let place = Place::of(path);
        let mut state = State::new();
        state.begin(bytes, &place);
        self.window(bytes, 0, 0..bytes.len(), is_text(bytes), &place, &mut state);
        state.sorted()
    }

    /// The secrets in a file of any size, in order, by windows of [`WINDOW_BYTES`]: the same as of [`Scanner::scan`].
    ///
    /// # Errors
    /// When the content cannot be read.
    pub fn scan_content(&self, path: &[u8], content: &Content<'_>) -> io::Result<Vec<Secret>> {
        self.scan_windows(path, content, WINDOW_BYTES)
    }

    pub(super) fn scan_windows(&self, path: &[u8], content: &Content<'_>, window: usize) -> io::Result<Vec<Secret>> {
        let place = Place::of(path);
        let mut state = State::new();
        let length = content.len();
        let first = content.read(0, length.min(files::LOGIN_FILE_BYTES_MAX as u64) as usize)?;
        let is_text = is_text(&first);
        state.begin(&first, &place);
        if first.len() as u64 == length && first.len() <= window {
            self.window(&first, 0, 0..first.len(), is_text, &place, &mut state);
            return Ok(state.sorted());
        }
        let mut own = 0;
        while own < length && state.secrets.len() < SECRETS_MAX {
            let own_end = length.min(own + window as u64);
            let start = own.saturating_sub(LOOK_BACK_BYTES as u64);
            let end = length.min(own_end + LOOK_AHEAD_BYTES as u64);
            let bytes = content.read(start, (end - start) as usize)?;
            self.window(&bytes, start, (own - start) as usize..(own_end - start) as usize, is_text, &place, &mut state);
            // Lines are counted up to what is found, and where more follows: most files are seen whole, and have nothing.
            if own_end < length {
                state.count(&bytes, start, own_end);
            }
            own = own_end;
        }
        Ok(state.sorted())
    }

    /// Looks at what begins within `own` of `bytes`, which are at `offset` in the file.
    fn window(
        &self,
        bytes: &[u8],
        offset: u64,
        own: std::ops::Range<usize>,
        is_text: bool,
        place: &Place,
        state: &mut State,
    ) {
        let Some(automaton) = (if is_text { &self.text } else { &self.binary }) else { return };
        let mut from = own.start.max(usize::try_from(state.told.saturating_sub(offset)).unwrap_or(usize::MAX));
        while from < own.end && state.secrets.len() < SECRETS_MAX {
            let Some(hit) = automaton.find(Input::new(bytes).range(from..)) else { break };
            if hit.start() >= own.end {
                break;
            }
            // Every place is looked at, not only those after a literal: so it does not matter where a window begins.
            from = hit.start() + 1;
            let Some((literal, check)) = PREFIXES.iter().chain(WORDS).nth(hit.pattern().as_usize()) else { continue };
            // What no check may see, so that a window sees as much as the whole file does.
            let back = hit.start().saturating_sub(LOOK_BACK_BYTES);
            let ahead = bytes.len().min(hit.start() + LOOK_AHEAD_BYTES);
            let Some(near) = bytes.get(back..ahead) else { continue };
            let at = hit.start() - back;
            let found = match check {
                Check::Checksum(rule) => token::checked(near, at, literal, *rule),
                Check::Plain(check) => check(near, at, literal),
                Check::Pem => pem::find(near, at),
                Check::Assignment => assignment::find(near, at, literal, place),
                Check::Address => assignment::address(near, at + 1, place),
            };
            if let Some(found) = found {
                let base = offset + back as u64;
                from = from.max(back + found.end);
                state.told = state.told.max(base + found.end as u64);
                state.count(bytes, offset, base + found.start as u64);
                state.tell(found, base, place);
            }
        }
    }
}

impl State {
    fn new() -> Self {
        Self { secrets: Vec::new(), lines: 0, counted: 0, line_start: 0, told: 0 }
    }

    /// What the file's name alone tells, from its first bytes.
    fn begin(&mut self, first: &[u8], place: &Place) {
        for found in files::find(first, place).into_iter().take(SECRETS_MAX) {
            self.count(first, 0, found.start as u64);
            self.tell(found, 0, place);
        }
        // The pass begins at the start again: a token may be the password.
        *self = Self { secrets: std::mem::take(&mut self.secrets), ..Self::new() };
    }

    fn sorted(mut self) -> Vec<Secret> {
        self.secrets.sort_by_key(|secret| (secret.line, secret.column));
        self.secrets
    }

    /// Counts line ends up to `to`, an offset in the file that lies in `bytes`, which are at `offset`.
    fn count(&mut self, bytes: &[u8], offset: u64, to: u64) {
        let (from, end) = (self.counted.saturating_sub(offset) as usize, to.saturating_sub(offset) as usize);
        let Some(between) = bytes.get(from..end) else { return };
        if let Some(last) = memchr::memrchr(b'\n', between) {
            self.lines += memchr::memchr_iter(b'\n', between).count() as u64;
            self.line_start = self.counted.max(offset) + last as u64 + 1;
        }
        self.counted = to;
    }

    fn tell(&mut self, found: Found, base: u64, place: &Place) {
        let at = base + found.start as u64;
        let confidence = if place.is_test { found.confidence.lower() } else { found.confidence };
        self.secrets.push(Secret {
            rule: found.rule,
            confidence,
            line: self.lines + 1,
            column: at.saturating_sub(self.line_start) + 1,
            excerpt: found.excerpt,
        });
    }
}

fn is_text(bytes: &[u8]) -> bool {
    memchr::memchr(0, bytes.get(..PEEK_BYTES).unwrap_or(bytes)).is_none()
}
