//! What a Dockerfile's image is made from: the images of others that the wanted stage needs, found without building.
//!
//! Only as much of the language is read as names an image: directives, continuations, comments, `ARG` before the first
//! `FROM`, `FROM`, `COPY --from`, `RUN --mount=from=`. BuildKit judges the rest. An image named in the body of a heredoc
//! may be taken for a base too, which at worst rebuilds once too often.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Instructions of one Dockerfile at most.
const INSTRUCTIONS_MAX: usize = 10_000;
/// A word, before its variables are replaced and after, is cut here: no reference to an image is as long, arguments that
/// hold each other twice double with every line, and defaults may be nested.
const WORD_BYTES_MAX: usize = 2048;

/// The platform that `TARGET…` and `BUILD…` arguments speak of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Platform {
    /// Such as `linux`.
    pub(crate) os: String,
    /// Such as `amd64`.
    pub(crate) architecture: String,
}

#[derive(Debug, Default)]
struct Stage {
    name: Option<String>,
    base: String,
    copies_from: Vec<String>,
}

/// The images (references as written, arguments resolved) that building `target` (the last stage, if none) needs.
/// `scratch` and stages are left out. A target that does not exist gives the bases of all stages: the build itself
/// will say what is wrong.
pub(crate) fn bases(
    text: &str,
    args: &BTreeMap<String, String>,
    target: Option<&str>,
    platform: &Platform,
) -> BTreeSet<String> {
    let stages = stages(text, args, platform);
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    for (index, stage) in stages.iter().enumerate() {
        // The first of several stages of one name counts.
        stage.name.as_deref().map(|name| numbers.entry(name).or_insert(index));
    }
    let find = |name: &str| numbers.get(name.to_lowercase().as_str()).copied();
    let number = |name: &str| name.parse().ok().filter(|index: &usize| *index < stages.len());
    let start = match target {
        Some(target) => find(target).or_else(|| number(target)),
        None => stages.len().checked_sub(1),
    };
    let mut needed: Vec<usize> = match start {
        Some(start) => vec![start],
        None => (0..stages.len()).collect(),
    };
    let mut seen: BTreeSet<usize> = needed.iter().copied().collect();
    let mut images = BTreeSet::new();
    while let Some(index) = needed.pop() {
        let stage = &stages[index];
        // A stage refers to earlier ones only; a base is never a stage's number, a copy's source may be.
        let earlier = |name: &str| find(name).filter(|found| *found < index);
        let base = (stage.base.as_str(), earlier(&stage.base));
        let copies = stage
            .copies_from
            .iter()
            .map(|name| (name.as_str(), earlier(name).or_else(|| number(name).filter(|n| *n < index))));
        for (name, found) in std::iter::once(base).chain(copies) {
            match found {
                Some(found) => needed.extend(Some(found).filter(|found| seen.insert(*found))),
                None if name != "scratch" && !name.is_empty() => {
                    images.insert(name.to_owned());
                }
                None => {}
            }
        }
    }
    images
}

fn stages(text: &str, args: &BTreeMap<String, String>, platform: &Platform) -> Vec<Stage> {
    let given = |name: &str| match name {
        "TARGETPLATFORM" | "BUILDPLATFORM" => Some(format!("{}/{}", platform.os, platform.architecture)),
        "TARGETOS" | "BUILDOS" => Some(platform.os.clone()),
        "TARGETARCH" | "BUILDARCH" => Some(platform.architecture.clone()),
        _ => None,
    };
    let lookup = |global: &BTreeMap<String, String>, name: &str| {
        global.get(name).cloned().or_else(|| args.get(name).cloned()).or_else(|| given(name))
    };
    let mut global: BTreeMap<String, String> = BTreeMap::new();
    let mut stages: Vec<Stage> = Vec::new();
    for instruction in instructions(text) {
        let (word, rest) = instruction.split_once(char::is_whitespace).unwrap_or((&instruction, ""));
        match word.to_ascii_uppercase().as_str() {
            "ARG" if stages.is_empty() => {
                for declared in rest.split_whitespace() {
                    let lookup = |name: &str| lookup(&global, name);
                    let (name, default) = match declared.split_once('=') {
                        Some((name, default)) => (name, Some(substitute(unquoted(default), &lookup))),
                        None => (declared, None),
                    };
                    let value = args.get(name).cloned().or(default).or_else(|| given(name));
                    if let Some(value) = value {
                        global.insert(name.to_owned(), value);
                    }
                }
            }
            "FROM" => {
                // An argument counts in FROM only when it was declared before the first one, or is a platform's.
                let declared = |name: &str| global.get(name).cloned().or_else(|| given(name));
                let words: Vec<&str> = rest.split_whitespace().filter(|word| !word.starts_with("--")).collect();
                let base = words.first().map(|base| substitute(base, &declared)).unwrap_or_default();
                let name = match words.get(1..3) {
                    Some([keyword, name]) if keyword.eq_ignore_ascii_case("as") => Some(name.to_lowercase()),
                    _ => None,
                };
                stages.push(Stage { name, base, copies_from: Vec::new() });
            }
            "COPY" | "ADD" | "RUN" => {
                let Some(stage) = stages.last_mut() else { continue };
                let lookup = |name: &str| lookup(&global, name);
                for flag in rest.split_whitespace().take_while(|word| word.starts_with("--")) {
                    let source = match flag.strip_prefix("--from=") {
                        Some(source) => Some(source),
                        None => flag
                            .strip_prefix("--mount=")
                            .and_then(|mount| mount.split(',').find_map(|option| option.strip_prefix("from="))),
                    };
                    stage.copies_from.extend(source.map(|source| substitute(unquoted(source), &lookup)));
                }
            }
            _ => {}
        }
    }
    stages
}

/// Instructions with their continuation lines joined, without comments and blank lines.
fn instructions(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut escape = '\\';
    for line in text.lines() {
        let Some(comment) = line.trim().strip_prefix('#') else { break };
        // Parser directives stand at the very top; the first line that is none ends them.
        let Some((name, value)) = comment.split_once('=') else { break };
        if name.trim().eq_ignore_ascii_case("escape") && value.trim() == "`" {
            escape = '`';
        }
    }
    let mut instructions = Vec::new();
    let mut current = String::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        match line.strip_suffix(escape) {
            Some(part) => {
                current.push_str(part);
                current.push(' ');
            }
            None => {
                current.push_str(line);
                instructions.push(std::mem::take(&mut current).trim().to_owned());
                if instructions.len() == INSTRUCTIONS_MAX {
                    return instructions;
                }
            }
        }
    }
    if !current.is_empty() {
        instructions.push(current.trim().to_owned());
    }
    instructions
}

fn unquoted(text: &str) -> &str {
    let inner = |quote: char| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

/// `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:+instead}` and `\$`.
fn substitute(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut result = String::new();
    let mut rest = cut(text);
    while let (Some(at), true) = (rest.find(['$', '\\']), result.len() <= WORD_BYTES_MAX) {
        result.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if rest[at..].starts_with('\\') {
            let escaped = after.chars().next();
            result.extend(escaped);
            rest = &after[escaped.map_or(0, char::len_utf8)..];
        } else if let Some((inside, tail)) = after.strip_prefix('{').and_then(closing) {
            let (name, modifier) = match inside.split_once(':') {
                Some((name, modifier)) => (name, Some(modifier)),
                None => (inside, None),
            };
            let value = lookup(name).filter(|value| modifier.is_none() || !value.is_empty());
            match (modifier.and_then(|modifier| modifier.split_at_checked(1)), value) {
                (Some(("-", default)), None) => result.push_str(&substitute(default, lookup)),
                (Some(("+", instead)), Some(_)) => result.push_str(&substitute(instead, lookup)),
                (Some(("+", _)), None) | (_, None) => {}
                (_, Some(value)) => result.push_str(&value),
            }
            rest = tail;
        } else {
            let length = after.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
            if length == 0 {
                result.push('$');
            } else {
                result.push_str(&lookup(&after[..length]).unwrap_or_default());
            }
            rest = &after[length..];
        }
    }
    result.push_str(rest);
    result.truncate(cut(&result).len());
    result
}

/// The first [`WORD_BYTES_MAX`] bytes, or one to three fewer where they would end within a character.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(WORD_BYTES_MAX)]
}

/// Splits what follows `${` at the `}` that closes it.
fn closing(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&text[..at], &text[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, args: &[(&str, &str)], target: Option<&str>) -> Vec<String> {
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let platform = Platform { os: "linux".to_owned(), architecture: "amd64".to_owned() };
        bases(text, &args, target, &platform).into_iter().collect()
    }

    #[test]
    fn only_images_that_the_target_needs_are_bases() {
        let text = "# syntax=docker/dockerfile:1\nFROM golang:1.22 AS Build\nRUN go build\n\nFROM build AS test\n\
                    FROM node:18 AS assets\nFROM scratch\nCOPY --from=BUILD /x /x\nCOPY --chown=1 --from=busybox:1 /b /b\n\
                    RUN --mount=type=bind,from=assets,target=/a true\n";
        assert_eq!(of(text, &[], None), ["busybox:1", "golang:1.22", "node:18"]);
        assert_eq!(of(text, &[], Some("TEST")), ["golang:1.22"]);
        assert_eq!(of(text, &[], Some("2")), ["node:18"]);
        assert_eq!(of(text, &[], Some("none")), ["busybox:1", "golang:1.22", "node:18"]);
        assert_eq!(of("FROM a:1\nFROM scratch\nCOPY --from=0 / /", &[], None), ["a:1"]);
    }

    #[test]
    fn arguments_are_resolved_as_docker_does() {
        let text = "ARG TAG=bookworm\nARG IMAGE=\"debian:${TAG}-slim\"\nARG EMPTY\nFROM --platform=$BUILDPLATFORM ${IMAGE}\n\
                    ARG LATE=x\nFROM ${EMPTY:-alpine}:${TAG:+3}\nFROM x/$TARGETARCH\n";
        assert_eq!(of(text, &[], Some("0")), ["debian:bookworm-slim"]);
        assert_eq!(of(text, &[("TAG", "trixie")], Some("0")), ["debian:trixie-slim"]);
        assert_eq!(of(text, &[("LATE", "y")], Some("1")), ["alpine:3"]);
        assert_eq!(of(text, &[], None), ["x/amd64"]);
        assert_eq!(of("FROM $UNDECLARED", &[("UNDECLARED", "x")], None), Vec::<String>::new());
    }

    #[test]
    fn continuations_comments_and_escapes_are_read() {
        assert_eq!(of("# escape=`\nFROM `\n# between\n  debian:1 AS a\nRUN x `\n\nFROM a", &[], None), ["debian:1"]);
        assert_eq!(of("from \\\n debian:2", &[], None), ["debian:2"]);
        assert_eq!(of("", &[], None), Vec::<String>::new());
    }

    /// Each of these took minutes, gigabytes or the whole stack. They run with the stack of the threads that read
    /// Dockerfiles, 2 MiB.
    #[test]
    fn bombs_are_cut_short() {
        let doubling: String = (1..60).map(|at| format!("ARG A{at}=$A{0}$A{0}\n", at - 1)).collect();
        let stages: String = (0..9999).map(|at| format!("FROM a AS s{at}\n")).collect();
        let nested = format!("FROM {}{}", "${A:-".repeat(150_000), "}".repeat(150_000));
        for text in [
            format!("ARG A0=xxxxxxxx\n{doubling}FROM $A59"),
            nested,
            format!("FROM {}", "${".repeat(500_000)),
            format!("{stages}RUN {}", "--from=x ".repeat(80_000)),
        ] {
            let start = std::time::Instant::now();
            assert!(of(&text, &[], None).iter().all(|image| image.len() <= WORD_BYTES_MAX));
            assert!(start.elapsed() < std::time::Duration::from_secs(20));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "(FROM|ARG|COPY|RUN| |\\$|\\{|\\}|:|-|\\\\|\n|a|=|\"|é){0,40}") {
            let _bases = of(&text, &[("a", "b")], None);
        }
    }
}
