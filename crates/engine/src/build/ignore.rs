//! `.dockerignore` as Docker reads it: the rules of moby's `ignorefile` and `patternmatcher`, which the documentation
//! only sketches. A path is left out when it or a folder above it matches a pattern; the last pattern that matches wins,
//! but an exception that is a folder brings back only what is left out with that folder.

use std::borrow::Cow;
use std::collections::HashMap;

/// Patterns of one file at most: each is tried on every path of the context.
pub const PATTERNS_MAX: usize = 10_000;
/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 4096;

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct IgnoreError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// The patterns of one file, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    negated: bool,
    /// It is about the last part of a path, wherever that is: the tokens are those after `**/`.
    of_name: bool,
    tokens: Vec<Token>,
    /// What every match begins with, and what it ends with: most patterns miss most paths by these alone.
    begin: String,
    end: String,
}

/// What a pattern is made of, after moby's translation to a regular expression.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`: one character, not `/`.
    One,
    /// `*`: any characters, not `/`.
    Star,
    /// `**` at the end: anything.
    Rest,
    /// `**/` or `**` before more: nothing, or anything that ends with `/`.
    Folders,
    /// `**` at the beginning and only literals after it: anything at all (moby compares the end of the path alone).
    Prefix,
    /// `[…]`; a negated class also matches `/`, as it does there.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Ignore {
    /// Reads a `.dockerignore`.
    ///
    /// # Errors
    /// A pattern is malformed (an open `[`, a `\` at the end, a lone `!`) or there are too many.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::read(text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')))
    }

    /// Reads a list of patterns, such as a Compose file has them: there are no comments in it.
    ///
    /// # Errors
    /// As for [`Ignore::parse`]; the line is the pattern's place in the list, from 1.
    pub fn of(patterns: &[String]) -> Result<Self, IgnoreError> {
        Self::read(patterns.iter().map(String::as_str).enumerate())
    }

    fn read<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Self, IgnoreError> {
        let mut patterns = Vec::new();
        for (index, line) in lines {
            let error = |what: &str| IgnoreError { line: index + 1, what: what.to_owned() };
            if line.trim().is_empty() {
                continue;
            }
            if line.len() > PATTERN_BYTES_MAX {
                return Err(error("the pattern is longer than 4096 bytes"));
            }
            if patterns.len() == PATTERNS_MAX {
                return Err(error("there are more than 10000 patterns"));
            }
            let (negated, written) = match line.trim().strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line.trim()),
            };
            if written.is_empty() {
                return Err(error("a lone `!` names nothing to keep"));
            }
            let path = clean(written);
            let path = if path.len() > 1 { path.strip_prefix('/').unwrap_or(&path) } else { &path };
            // moby cleans once more, together with the `!`: `!../a` is `a`, and `./!a` is `!a`.
            let whole = clean(&format!("{}{path}", if negated { "!" } else { "" }));
            let (negated, path) = whole.strip_prefix('!').map_or((false, &*whole), |rest| (true, rest));
            if path.is_empty() {
                return Err(error("a lone `!` names nothing to keep"));
            }
            patterns.push(Pattern::new(negated, tokens(path).map_err(error)?));
        }
        Ok(Self { patterns })
    }

    /// Whether a pattern begins with `!`: only then can there be something in a folder that is left out.
    pub fn brings_back(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.negated)
    }

    /// A matcher that remembers what it found for folders: a tree is walked with one of these.
    pub fn matcher(&self) -> Matcher<'_> {
        Matcher { ignore: Cow::Borrowed(self), folders: HashMap::new() }
    }

    /// The same, for a tree that is watched as long as the matcher lives.
    pub fn into_matcher(self) -> Matcher<'static> {
        Matcher { ignore: Cow::Owned(self), folders: HashMap::new() }
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether something below this folder could be matched by a pattern that leaves out, or, with `negated`, by one that
    /// keeps. Says yes when in doubt: a walk that heeds it misses nothing.
    pub fn may_match_below(&self, folder: &str, negated: bool) -> bool {
        let below = format!("{folder}/");
        self.patterns.iter().filter(|pattern| pattern.negated == negated).any(|pattern| {
            let may_begin = !pattern.is_literal() && below.starts_with(&pattern.begin);
            pattern.of_name || pattern.begin.starts_with(&below) || may_begin
        })
    }
}

impl Pattern {
    fn new(negated: bool, mut tokens: Vec<Token>) -> Self {
        let stays_in_a_name = |token: &Token| match token {
            Token::Literal(character) => *character != '/',
            Token::One | Token::Star => true,
            Token::Class { negated, ranges } => {
                !negated && ranges.iter().all(|(low, high)| !(*low..=*high).contains(&'/'))
            }
            Token::Rest | Token::Folders | Token::Prefix => false,
        };
        let of_name = tokens.split_first().is_some_and(|(first, rest)| {
            *first == Token::Folders && !rest.is_empty() && rest.iter().all(stays_in_a_name)
        });
        if of_name {
            tokens.remove(0);
        }
        let literal = |token: &Token| match token {
            Token::Literal(character) => Some(*character),
            _ => None,
        };
        let begin = tokens.iter().map_while(literal).collect();
        let end: Vec<char> = tokens.iter().rev().map_while(literal).collect();
        Self { negated, of_name, begin, end: end.into_iter().rev().collect(), tokens }
    }

    fn is_literal(&self) -> bool {
        self.tokens.iter().all(|token| matches!(token, Token::Literal(_)))
    }

    fn is_match(&self, path: &str) -> bool {
        let path = if self.of_name { path.rsplit('/').next().unwrap_or(path) } else { path };
        if !path.starts_with(&self.begin) || !path.ends_with(&self.end) {
            return false;
        }
        if self.is_literal() {
            return path.len() == self.begin.len();
        }
        is_match(&self.tokens, &path.chars().collect::<Vec<char>>())
    }
}

/// Tells for paths of one tree whether they are left out.
#[derive(Debug)]
pub struct Matcher<'a> {
    ignore: Cow<'a, Ignore>,
    /// For each folder, which patterns match it or a folder above it.
    folders: HashMap<String, Vec<bool>>,
}

impl Matcher<'_> {
    /// Whether `path` (relative to the context, `/` between its parts) is left out.
    pub fn is_ignored(&mut self, path: &str) -> bool {
        self.decided(path).unwrap_or(false)
    }

    /// The same, or `None` when no pattern matches: a list that stands before this one then has the word.
    pub fn verdict(&mut self, path: &str) -> Option<bool> {
        let of_negated = |ignore: &Ignore| {
            let mut paths = std::iter::successors(Some(path), |path| Some(path.rsplit_once('/')?.0));
            paths.any(|path| ignore.patterns.iter().any(|pattern| pattern.negated && pattern.is_match(path)))
        };
        self.decided(path).or_else(|| of_negated(&self.ignore).then_some(false))
    }

    fn decided(&mut self, path: &str) -> Option<bool> {
        if self.ignore.patterns.is_empty() {
            return None;
        }
        let matched = self.matches(path);
        let last = self.ignore.patterns.iter().zip(&matched).rev().find(|(_, matched)| **matched);
        last.map(|(pattern, _)| !pattern.negated)
    }

    /// See [`Ignore::may_match_below`].
    pub fn may_match_below(&self, folder: &str, negated: bool) -> bool {
        self.ignore.may_match_below(folder, negated)
    }

    fn matches(&mut self, path: &str) -> Vec<bool> {
        let above = match path.rsplit_once('/') {
            None => vec![false; self.ignore.patterns.len()],
            Some((folder, _)) => match self.folders.get(folder) {
                Some(known) => known.clone(),
                None => {
                    let found = self.matches(folder);
                    self.folders.insert(folder.to_owned(), found.clone());
                    found
                }
            },
        };
        // moby tries a pattern only where it could change what those before it say, and so a folder that an exception
        // names does not count as named while nothing leaves it out.
        let mut is_out = false;
        let pattern = |(pattern, above): (&Pattern, bool)| {
            let matched = above || pattern.negated == is_out && pattern.is_match(path);
            if matched {
                is_out = !pattern.negated;
            }
            matched
        };
        self.ignore.patterns.iter().zip(above).map(pattern).collect()
    }
}

/// Go's `path.Clean`: the shortest path that is lexically the same.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(last) if *last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

fn tokens(pattern: &str) -> Result<Vec<Token>, &'static str> {
    let characters: Vec<char> = pattern.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&character) = characters.get(at) {
        at += 1;
        match character {
            '*' if characters.get(at) == Some(&'*') => {
                at += 1;
                if characters.get(at) == Some(&'/') {
                    at += 1;
                }
                tokens.push(if at == characters.len() { Token::Rest } else { Token::Folders });
            }
            '*' => tokens.push(Token::Star),
            '?' => tokens.push(Token::One),
            '\\' => match characters.get(at) {
                Some(&escaped) => {
                    at += 1;
                    tokens.push(Token::Literal(escaped));
                }
                None => return Err("nothing follows the last `\\`"),
            },
            '[' => {
                let (class, next) = class(&characters, at)?;
                tokens.push(class);
                at = next;
            }
            literal => tokens.push(Token::Literal(literal)),
        }
    }
    // With nothing but literals after it, moby compares the end of the path: `**.o` is any path that ends in `.o`, and
    // `**/x` any that ends in `/x`, or `x` itself. The latter is what `Folders` says anyway.
    if tokens.first() == Some(&Token::Folders)
        && characters.get(2) != Some(&'/')
        && !pattern.contains('\\')
        && tokens.iter().skip(1).all(|token| matches!(token, Token::Literal(_)))
    {
        tokens[0] = Token::Prefix;
    }
    Ok(tokens)
}

/// The class that begins after `[` at `at`, and where the pattern goes on: Go's `filepath.Match`.
fn class(characters: &[char], mut at: usize) -> Result<(Token, usize), &'static str> {
    const OPEN: &str = "a `[` is never closed";
    let negated = characters.get(at) == Some(&'^');
    if negated {
        at += 1;
    }
    let bound = |at: &mut usize| -> Result<char, &'static str> {
        let mut character = *characters.get(*at).ok_or(OPEN)?;
        *at += 1;
        if character == '-' || character == ']' {
            return Err("a `-` or `]` in `[…]` needs a `\\` before it");
        }
        if character == '\\' {
            character = *characters.get(*at).ok_or(OPEN)?;
            *at += 1;
        }
        Ok(character)
    };
    let mut ranges = Vec::new();
    loop {
        if characters.get(at) == Some(&']') && !ranges.is_empty() {
            return Ok((Token::Class { negated, ranges }, at + 1));
        }
        let low = bound(&mut at)?;
        let high = if characters.get(at) == Some(&'-') {
            at += 1;
            bound(&mut at)?
        } else {
            low
        };
        if high < low {
            return Err("a range in `[…]` ends before it begins");
        }
        ranges.push((low, high));
    }
}

/// Whether the tokens match the whole path. Keeps the set of path positions that the tokens so far can end at, so the
/// time is bounded by pattern length times path length whatever the pattern is.
fn is_match(tokens: &[Token], path: &[char]) -> bool {
    let mut ends = vec![false; path.len() + 1];
    ends[0] = true;
    for token in tokens {
        let mut next = vec![false; path.len() + 1];
        for (start, _) in ends.iter().enumerate().filter(|(_, reached)| **reached) {
            match token {
                Token::Literal(literal) => step(&mut next, path, start, |character| character == *literal),
                Token::One => step(&mut next, path, start, |character| character != '/'),
                Token::Class { negated, ranges } => step(&mut next, path, start, |character| {
                    ranges.iter().any(|(low, high)| (*low..=*high).contains(&character)) != *negated
                }),
                Token::Star => {
                    let length = path[start..].iter().take_while(|character| **character != '/').count();
                    next[start..=start + length].fill(true);
                }
                Token::Rest | Token::Prefix => next[start..].fill(true),
                Token::Folders => {
                    next[start] = true;
                    for (offset, _) in path[start..].iter().enumerate().filter(|(_, character)| **character == '/') {
                        next[start + offset + 1] = true;
                    }
                }
            }
            // The first reachable position of these already covers all that later ones could add.
            if matches!(token, Token::Rest | Token::Prefix) {
                break;
            }
        }
        ends = next;
    }
    ends[path.len()]
}

fn step(next: &mut [bool], path: &[char], at: usize, matches: impl Fn(char) -> bool) {
    if path.get(at).is_some_and(|character| matches(*character)) {
        next[at + 1] = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ignored(text: &str, path: &str) -> bool {
        Ignore::parse(text).unwrap().matcher().is_ignored(path)
    }

    /// The examples of Docker's documentation ("Dockerignore files") and of moby's own tests.
    #[test]
    fn documented_examples_hold() {
        let documented = "# comment\n*/temp*\n*/*/temp*\ntemp?\n";
        for path in ["somedir/temporary.txt", "somedir/temp", "somedir/subdir/temporary.txt", "tempa", "tempb"] {
            assert!(ignored(documented, path), "{path}");
        }
        for path in ["temp", "temporary.txt", "a/b/c/temp", "comment", "# comment"] {
            assert!(!ignored(documented, path), "{path}");
        }
        assert!(ignored("**/*.go", "main.go") && ignored("**/*.go", "a/b/main.go"));
        assert!(ignored("*.md\n!README.md", "CHANGES.md") && !ignored("*.md\n!README.md", "README.md"));
        let last_wins = "*.md\n!README*.md\nREADME-secret.md";
        assert!(ignored(last_wins, "README-secret.md") && !ignored(last_wins, "README-x.md"));
        assert!(!ignored("*.md\nREADME-secret.md\n!README*.md", "README-secret.md"));
        for (pattern, path) in [
            ("**", "file"),
            ("**", "dir/file"),
            ("**/", "dir/file"),
            ("**/**", "dir/file"),
            ("dir/**", "dir/dir2/file"),
            ("**/dir", "dir/file"),
            ("**/dir", "a/dir/file"),
            ("**/dir2/*", "dir/dir2/file"),
            ("**file", "dir/file"),
            ("**file", "dir/dir/file"),
            ("**/file*txt", "dir/file.txt"),
            ("**/**/*.txt", "dir/dir/file.txt"),
            ("a**/*.txt", "a/file.txt"),
            ("a/*.txt", "a/file.txt"),
            ("a[b-d]e", "ace"),
            ("abc.def", "abc.def"),
            ("a\\*b", "a*b"),
            ("/foo/bar", "foo/bar"),
            ("./foo", "foo"),
            ("foo/", "foo/x"),
            ("foo/../bar", "bar"),
            ("  spaced  ", "spaced"),
            ("**/.foo", "bar/.foo"),
            ("[^a]x", "bx"),
            ("a?c", "aüc"),
            ("\u{feff}bom", "bom"),
            ("*c", "abc"),
            ("a*/b", "abc/b"),
            ("a**/b", "acb"),
            ("**/foo/bar", "x/foo/bar"),
            ("! a\na", "a"),
            ("dir/x\n!dir", "dir/x"),
        ] {
            // moby: "a**/b" is ^a(.*/)?b$, which "acb" does not match.
            let wanted = (pattern, path) != ("a**/b", "acb");
            assert_eq!(ignored(pattern, path), wanted, "{pattern} against {path}");
        }
        for (pattern, path) in [
            ("**/file", "dir/file2"),
            ("a/*.txt", "a/b/file.txt"),
            ("a[b-d]e", "aze"),
            ("abc.def", "abcdef"),
            ("a\\*b", "axb"),
            ("*", ""),
            ("dir/**", "dir"),
            ("a?c", "a/c"),
            ("foo\n!foo/x", "foo/x"),
            ("#x", "#x"),
            ("../x", "x"),
            ("**foo", "foo2"),
            ("*\n!dir", "dir/x"),
        ] {
            assert!(!ignored(pattern, path) || path.is_empty(), "{pattern} against {path}");
        }
    }

    #[test]
    fn malformed_patterns_name_their_line() {
        for text in ["ok\n[", "ok\na\\", "ok\n!", "ok\n[]a]", "ok\n[z-a]", "ok\n[-x]"] {
            assert_eq!(Ignore::parse(text).unwrap_err().line, 2, "{text}");
        }
    }

    /// A slow and plain reading of the tokens: the first may take any number of characters, the rest the rest.
    fn matches_slowly(tokens: &[Token], path: &[char]) -> bool {
        let Some((first, rest)) = tokens.split_first() else { return path.is_empty() };
        (0..=path.len()).any(|length| {
            let taken = &path[..length];
            let takes = match first {
                Token::Literal(literal) => taken == [*literal],
                Token::One => taken.len() == 1 && taken != ['/'],
                Token::Star => !taken.contains(&'/'),
                Token::Rest | Token::Prefix => true,
                Token::Folders => taken.is_empty() || taken.ends_with(&['/']),
                Token::Class { negated, ranges } => {
                    taken.len() == 1 && ranges.iter().any(|(low, high)| (*low..=*high).contains(&taken[0])) != *negated
                }
            };
            takes && matches_slowly(rest, &path[length..])
        })
    }

    proptest! {
        #[test]
        fn matching_agrees_with_a_plain_reading(pattern in "([ab*?/]|\\*\\*|\\[ab\\]|\\[\\^a\\]){1,7}", path in "[ab]{1,3}(/[abc]{1,2}){0,2}") {
            let tokens = tokens(&pattern).unwrap();
            let characters: Vec<char> = path.chars().collect();
            let wanted = matches_slowly(&tokens, &characters);
            prop_assert_eq!(is_match(&tokens, &characters), wanted);
            prop_assert_eq!(Pattern::new(false, tokens).is_match(&path), wanted);
        }

        #[test]
        fn nothing_that_matches_is_below_a_folder_where_nothing_may(
            pattern in "!?([ab*?/]|\\*\\*|\\[ab\\]){1,6}", folder in "[ab]{1,2}(/[ab]{1,2})?", path in "[ab]{1,2}(/[ab]{1,2})?"
        ) {
            let ignore = Ignore::of(&[pattern]).unwrap_or_default();
            let below = format!("{folder}/{path}");
            for negated in [false, true] {
                let above = ignore.matcher().verdict(&folder);
                let verdict = ignore.matcher().verdict(&below);
                if above.is_none() && verdict == Some(!negated) {
                    prop_assert!(ignore.may_match_below(&folder, negated));
                }
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}", path in "[a-z./]{1,20}") {
            if let Ok(ignore) = Ignore::parse(&text) {
                let _either = ignore.matcher().is_ignored(&path);
            }
        }
    }
}
