//! Text cut into rows by the width that terminals give it.

use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

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
        fn rows_are_the_whole_text(text in "[a-c日❤\u{fe0f} ]{0,60}", columns in 2_usize..12) {
            let rows = rows(&text, columns);
            prop_assert_eq!(rows.concat(), text.clone());
            prop_assert!(rows.iter().all(|row| row.width() <= columns), "{rows:?}");
        }
    }
}
