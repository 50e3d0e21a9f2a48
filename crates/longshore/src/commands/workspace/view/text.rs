//! Text that others wrote, made fit for a cell grid: nothing in it steers the terminal, and it is cut into rows by the
//! width that terminals give it.

use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Characters of a line that are kept.
const LINE_CHARS_MAX: usize = 4000;
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
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LINE_CHARS_MAX));
    let (mut escape, mut columns, mut chars, mut is_over) = (Escape::Outside, 0, 0, false);
    for char in text.chars() {
        escape = match (escape, char) {
            (Escape::String, '\u{1b}') => Escape::StringEnding,
            (_, '\u{1b}') => Escape::Begun,
            (Escape::String | Escape::StringEnding, '\u{7}' | '\u{9c}') => Escape::Outside,
            (Escape::StringEnding, '\\') => Escape::Outside,
            (Escape::String | Escape::StringEnding, _) => Escape::String,
            (_, '\u{9b}') | (Escape::Begun, '[') => Escape::Control,
            (_, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') | (Escape::Begun, 'P' | 'X' | ']' | '^' | '_') => {
                Escape::String
            }
            (Escape::Begun, ' '..='/') => Escape::Begun,
            (Escape::Control, ' '..='?') => Escape::Control,
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
    out
}

/// Whether a character is unseen and changes where others are seen.
fn is_order(char: char) -> bool {
    matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A text in rows of at most so many columns, cut between words where that leaves no row half empty; at least one row. A
/// character that is wider than a row has one of its own.
pub(super) fn rows(text: &str, columns: usize) -> Vec<&str> {
    if text.len() <= columns {
        return vec![text];
    }
    let mut rows = Vec::new();
    let (mut begin, mut used) = (0, 0);
    // Where a word began last, and what of the row was used until then.
    let mut word: Option<(usize, usize)> = None;
    for (at, grapheme) in text.grapheme_indices(true) {
        let width = grapheme.width();
        if used + width > columns && at > begin {
            let (cut, before) = word.filter(|(_, before)| before * 2 > columns).unwrap_or((at, used));
            rows.push(&text[begin..cut]);
            (begin, used, word) = (cut, used - before, None);
        }
        used += width;
        if grapheme == " " {
            word = Some((at + 1, used));
        }
    }
    rows.push(&text[begin..]);
    rows
}

/// The text, shortened with `…` where it is wider than so many columns.
pub(super) fn fit(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    match columns {
        0 => String::new(),
        1 => "…".to_owned(),
        _ => format!("{}…", rows(text, columns - 1).first().copied().unwrap_or_default()),
    }
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
        assert_eq!(clean(&"x".repeat(1_000_000)).chars().count(), LINE_CHARS_MAX + 1);
    }

    #[test]
    fn rows_are_as_wide_as_they_may_be() {
        assert_eq!(rows("", 3), [""]);
        assert_eq!(rows("abcdefg", 3), ["abc", "def", "g"]);
        assert_eq!(rows("one two three", 9), ["one two ", "three"]);
        assert_eq!(rows("a bcdefghijk", 6), ["a bcde", "fghijk"]);
        assert_eq!(rows("日本語x", 4), ["日本", "語x"]);
        assert_eq!(rows("日本", 1), ["日", "本"]);
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("日", 1), "…");
        assert_eq!(fit("abc", 0), "");
    }

    proptest! {
        #[test]
        fn nothing_is_left_that_a_terminal_acts_on(text in "([\\x00-\\x9f]|[a-z]|\\x1b[\\[\\]P^_(]?|[\\u{200b}-\\u{2070}]|日|❤\u{fe0f})*") {
            let cleaned = clean(&text);
            prop_assert!(!cleaned.chars().any(|char| char.is_control() || is_order(char)), "{cleaned:?}");
            prop_assert_eq!(&clean(&cleaned), &cleaned);
        }

        #[test]
        fn rows_are_the_whole_text(text in "[a-c日❤\u{fe0f} ]{0,60}", columns in 2_usize..12) {
            let rows = rows(&text, columns);
            prop_assert_eq!(rows.concat(), text.clone());
            prop_assert!(rows.iter().all(|row| row.width() <= columns), "{rows:?}");
        }
    }
}
