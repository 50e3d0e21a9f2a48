//! Text that others wrote, made fit for a terminal: nothing in it steers it.

use std::borrow::Cow;
use std::io::IsTerminal as _;

use unicode_width::UnicodeWidthChar as _;

/// Characters of a line that are kept.
const LINE_CHARS_MAX: usize = 4000;
/// Characters of what sets a colour.
const COLOUR_CHARS_MAX: usize = 40;
/// Columns between two stops of a tabulator.
const TAB_COLUMNS: usize = 8;

/// Where in an escape sequence (ECMA-48) a text is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    /// In none.
    Outside,
    /// After ESC, and intermediate bytes.
    Begun,
    /// In a control sequence, until its final byte.
    Control,
    /// In a string of commands (titles, clipboards, links), until BEL or ST.
    String,
    /// In such a string, after ESC.
    StringEnding,
}

/// A line as it can be shown: escape sequences, control characters and characters that change the order of others are
/// taken out, tabulators become spaces, and of what was written over with carriage returns the last stays.
pub(crate) fn clean(text: &str) -> String {
    cleaned(text, false)
}

/// A line as [`clean`] gives it, but with its colours, which end with it.
pub(crate) fn coloured(text: &str) -> String {
    cleaned(text, true)
}

/// A line of others for standard output: as it is, but on a terminal it may have colours and nothing else that steers.
pub(crate) fn for_stdout(text: &str) -> Cow<'_, str> {
    if std::io::stdout().is_terminal() { Cow::Owned(coloured(text)) } else { Cow::Borrowed(text) }
}

fn cleaned(text: &str, has_colours: bool) -> String {
    let mut out = String::with_capacity(text.len().min(LINE_CHARS_MAX));
    let (mut escape, mut columns, mut chars, mut is_over) = (Escape::Outside, 0, 0, false);
    // The control sequence under way, as far as it may set colours, and whether one was kept.
    let (mut sequence, mut is_coloured) = (None::<String>, false);
    for char in text.chars() {
        escape = match (escape, char) {
            (Escape::String, '\u{1b}') => Escape::StringEnding,
            (_, '\u{1b}') => Escape::Begun,
            (Escape::String | Escape::StringEnding, '\u{7}' | '\u{9c}') => Escape::Outside,
            (Escape::StringEnding, '\\') => Escape::Outside,
            (Escape::String | Escape::StringEnding, _) => Escape::String,
            (_, '\u{9b}') | (Escape::Begun, '[') => {
                sequence = has_colours.then(String::new);
                Escape::Control
            }
            (_, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') | (Escape::Begun, 'P' | 'X' | ']' | '^' | '_') => {
                Escape::String
            }
            (Escape::Begun, ' '..='/') => Escape::Begun,
            (Escape::Control, ' '..='?') => {
                let is_colour = matches!(char, '0'..='9' | ';' | ':');
                sequence = sequence.filter(|begun| is_colour && begun.len() < COLOUR_CHARS_MAX);
                sequence.iter_mut().for_each(|begun| begun.push(char));
                Escape::Control
            }
            (Escape::Control, 'm') => {
                if let Some(colour) = sequence.take() {
                    is_coloured = true;
                    out.extend(["\u{1b}[", colour.as_str(), "m"]);
                }
                Escape::Outside
            }
            (Escape::Begun, _) | (Escape::Control, '@'..='~') => Escape::Outside,
            (Escape::Control | Escape::Outside, '\r') => {
                is_over = true;
                Escape::Outside
            }
            (Escape::Control | Escape::Outside, char) => {
                let spaces = TAB_COLUMNS - columns % TAB_COLUMNS;
                let is_shown = char == '\t' || !(char.is_control() || is_order(char));
                if is_shown && std::mem::take(&mut is_over) {
                    out.clear();
                    columns = 0;
                }
                if char == '\t' {
                    out.extend(std::iter::repeat_n(' ', spaces));
                    columns += spaces;
                } else if is_shown {
                    out.push(char);
                    columns += char.width().unwrap_or(0);
                }
                chars += 1;
                if chars == LINE_CHARS_MAX {
                    out.push('…');
                    break;
                }
                Escape::Outside
            }
        };
    }
    if is_coloured {
        out.push_str("\u{1b}[0m");
    }
    out
}

/// Whether a character is unseen and changes where others are seen.
fn is_order(char: char) -> bool {
    matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_taken_out() {
        let cleaned = [
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}a\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "alink"),
            ("\u{1b}Pq#0\u{1b}\\a\u{9b}2Jb\u{9d}52;c;x\u{9c}c", "abc"),
            ("\u{1b}(0lqk\u{1b}c\u{1b}7\u{1b}[?1049l", "lqk"),
            ("10 %\r20 %\r", "20 %"),
            ("a\u{8}b\u{0}c\u{7}", "abc"),
            ("\ta\tb", "        a       b"),
            ("user\u{202e}txt.exe", "usertxt.exe"),
            ("never ended \u{1b}]0;x", "never ended "),
            ("\u{1b}[1\u{1b}[2mgood", "good"),
        ];
        for (text, shown) in cleaned {
            assert_eq!(clean(text), shown, "{text:?}");
        }
        assert_eq!(
            coloured("\u{1b}[1;31mred\u{1b}[2J \u{1b}[?25lx\u{9b}38:5:1my"),
            "\u{1b}[1;31mred x\u{1b}[38:5:1my\u{1b}[0m"
        );
        assert_eq!(coloured("plain"), "plain");
        assert_eq!(clean(&"x".repeat(1_000_000)).chars().count(), LINE_CHARS_MAX + 1);
    }

    proptest! {
        #[test]
        fn nothing_is_left_that_a_terminal_acts_on(text in "([\\x00-\\x9f]|[a-z]|\\x1b[\\[\\]P^_(]?|[\\u{200b}-\\u{2070}]|日|❤\u{fe0f})*") {
            let cleaned = clean(&text);
            prop_assert!(!cleaned.chars().any(|char| char.is_control() || is_order(char)), "{cleaned:?}");
            prop_assert_eq!(&clean(&cleaned), &cleaned);
            let coloured = coloured(&text);
            let rests: Vec<&str> = coloured.split("\u{1b}[").skip(1).collect();
            prop_assert!(rests.iter().all(|rest| rest.trim_start_matches(|char: char| matches!(char, '0'..='9' | ';' | ':')).starts_with('m')), "{coloured:?}");
            prop_assert_eq!(clean(&coloured), cleaned);
        }
    }
}
