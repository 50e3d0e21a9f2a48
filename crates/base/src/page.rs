//! Pages: every list that leaves the program is cut into bounded pages with a cursor to the next.

use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// Items of a page when the caller does not say.
pub const PAGE_ITEMS_DEFAULT: u32 = 100;
/// Items of a page at most; more is cut to this and not an error, because the caller follows `next` anyway (a01).
pub const PAGE_ITEMS_MAX: u32 = 1000;
/// Bytes of a cursor at most.
pub const CURSOR_BYTES_MAX: usize = 1024;

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// Given back as `after` this yields the following page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Makes a page from up to `limit + 1` items: a surplus item is cut off and shows that another page follows, whose
    /// cursor is that of the last item kept.
    pub fn from_surplus(mut items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(cursor) } else { None };
        Self { items, next }
    }

    /// The same page with every item converted.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(convert).collect(), next: self.next }
    }
}

/// The query parameters `limit` and `after` as they arrive.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PageQuery {
    /// Wanted number of items, as text so that a bad value gets a reason and not a decoder's message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// The `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A page request within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Number of items, 1 to [`PAGE_ITEMS_MAX`].
    pub limit: u32,
    /// Where the page starts: after the item with this cursor.
    pub after: Option<String>,
}

impl PageQuery {
    /// Checks the parameters.
    ///
    /// # Errors
    /// 400 `page-limit-invalid` when `limit` is not a whole number of at least 1, `page-cursor-invalid` when the cursor is too long.
    pub fn request(self) -> Result<PageRequest, Problem> {
        let limit = match &self.limit {
            None => PAGE_ITEMS_DEFAULT,
            Some(text) => limit_parse(text)?,
        };
        if self.after.as_ref().is_some_and(|after| after.len() > CURSOR_BYTES_MAX) {
            return Err(Problem::new(400, "page-cursor-invalid", "The page cursor is not valid")
                .detail(format!("a cursor has at most {CURSOR_BYTES_MAX} bytes"))
                .hint("pass the `next` of the previous page unchanged"));
        }
        Ok(PageRequest { limit, after: self.after })
    }
}

/// Reads a page limit: a whole number of at least 1, cut to [`PAGE_ITEMS_MAX`].
///
/// # Errors
/// 400 `page-limit-invalid` for anything else.
pub fn limit_parse(text: &str) -> Result<u32, Problem> {
    let digits = !text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse::<u128>().ok() } else { None };
    match number {
        Some(1..) => {
            Ok(number.and_then(|number| u32::try_from(number).ok()).map_or(PAGE_ITEMS_MAX, |n| n.min(PAGE_ITEMS_MAX)))
        }
        _ => Err(Problem::new(400, "page-limit-invalid", "The page limit is not valid")
            .detail(format!("`{}` is not a whole number of at least 1", text.chars().take(32).collect::<String>()))
            .hint(format!("leave it out or give 1 to {PAGE_ITEMS_MAX}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a01_a_huge_limit_is_cut_and_nonsense_is_refused() {
        for (text, wanted) in [("1", 1), ("1000", 1000), ("1001", 1000), ("99999999999999999999", 1000)] {
            assert_eq!(limit_parse(text).unwrap(), wanted);
        }
        for text in ["", "0", "-1", "1.5", "x", "+5", "100000000000000000000000000000000000000000000", "１"] {
            assert_eq!(limit_parse(text).unwrap_err().kind, "page-limit-invalid", "{text}");
        }
    }

    #[test]
    fn a_surplus_item_makes_a_next_page() {
        let page = Page::from_surplus(vec![1, 2, 3], 2, |n| n.to_string());
        assert_eq!((page.items, page.next), (vec![1, 2], Some("2".to_owned())));
        let last = Page::from_surplus(vec![3], 2, |n: &i32| n.to_string());
        assert_eq!((last.items, last.next), (vec![3], None));
    }
}
