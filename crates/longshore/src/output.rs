//! What people see: data on standard output, everything else on standard error.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use api::{Micros, Problem};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Prints data as JSON.
pub(crate) fn json(data: &impl Serialize) -> api::Result<()> {
    let text = serde_json::to_string_pretty(data).map_err(|error| {
        Problem::new(500, "output", "The answer cannot be written as JSON").detail(error.to_string())
    })?;
    line(&text);
    Ok(())
}

/// Prints a line of data. A reader that has gone away ends the process quietly, as `head` expects.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Prints a line of data as long as somebody reads: a terminal that was closed must not end what the command does.
pub(crate) fn stream(text: &str) {
    let mut out = std::io::stdout().lock();
    let _closed = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints rows under headings, aligned; the last column is as long as it is. Without rows it says `none`, if anything.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>], none: &str) {
    if rows.is_empty() {
        if !none.is_empty() {
            note(none);
        }
        return;
    }
    for row in table_lines(headings, rows) {
        line(&row);
    }
}

fn table_lines(headings: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let format = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let head = format(headings.to_vec());
    let body = rows.iter().map(|row| format(row.iter().map(String::as_str).collect()));
    std::iter::once(head).chain(body).collect()
}

/// Says something that is not data. Nobody may be reading: that must not end what the command does.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Says what went wrong, why, and what to do next.
pub(crate) fn problem(problem: &Problem) {
    note(&problem_text(problem));
}

/// The same for programs.
pub(crate) fn problem_json(problem: &Problem) {
    match serde_json::to_string(problem) {
        Ok(text) => note(&text),
        Err(_) => self::problem(problem),
    }
}

fn problem_text(problem: &Problem) -> String {
    let mut text = format!("error: {}", problem.title);
    if !problem.detail.is_empty() && problem.detail != problem.title {
        for line in problem.detail.lines() {
            text.push_str("\n  ");
            text.push_str(line);
        }
    }
    if let Some(hint) = &problem.hint {
        text.push_str("\n\nhint: ");
        text.push_str(hint);
    }
    text
}

/// A long piece of work: a spinner on a terminal, silence elsewhere. Lines written through it stay.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins.
    pub(crate) fn begin(what: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar.set_message(what.to_owned());
            bar
        });
        Self { bar }
    }

    /// What is being done now.
    pub(crate) fn now(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// Writes a line that stays.
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(text)),
            None => note(text),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How long ago something was: `12 s`, `3 min`, `5 h`, `2 d`.
pub(crate) fn ago(then: Micros, now: Micros) -> String {
    let seconds = (now.0 - then.0).max(0) / 1_000_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A span in seconds with one digit: `3.2 s`.
pub(crate) fn span(from: Micros, to: Micros) -> String {
    format!("{:.1} s", (to.0 - from.0).max(0) as f64 / 1e6)
}

/// A number with its noun: `1 step`, `3 steps`, `2 repositories`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(start)) => format!("{number} {start}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}

/// A number of bytes with three digits or so: `512 B`, `1.2 kB`, `34.5 MB`.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if number < 1000 {
        return format!("{number} B");
    }
    let (mut value, mut unit) = (number as f64 / 1e3, 0);
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1e3;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// The first 12 digits of a digest's hash, as people compare them.
pub(crate) fn short(digest: &oci::Digest) -> String {
    let text = digest.to_string();
    let hash = text.split_once(':').map_or(text.as_str(), |(_, hash)| hash);
    hash.chars().take(12).collect()
}

/// The first 12 digits of a commit.
pub(crate) fn short_commit(commit: &str) -> String {
    commit.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_aligns_and_leaves_no_trailing_space() {
        let rows = vec![vec!["web".to_owned(), "1".to_owned()], vec!["database".to_owned(), String::new()]];
        assert_eq!(table_lines(&["SERVICE", "N"], &rows), ["SERVICE   N", "web       1", "database"]);
    }

    #[test]
    fn a_problem_says_what_why_and_what_next() {
        let problem = Problem::new(404, "env-unknown", "No environment \"prdo\"")
            .detail("known: qa, prod")
            .hint("Did you mean prod?");
        assert_eq!(
            problem_text(&problem),
            "error: No environment \"prdo\"\n  known: qa, prod\n\nhint: Did you mean prod?"
        );
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 1, 2].map(|number| count(number, "tag")), ["0 tags", "1 tag", "2 tags"]);
        assert_eq!([1, 2].map(|number| count(number, "repository")), ["1 repository", "2 repositories"]);
        let shown = [0, 999, 1_000, 12_345, 999_949, 999_950, 3_000_000_000].map(bytes);
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "12.3 kB", "999.9 kB", "1.0 MB", "3.0 GB"]);
    }

    #[test]
    fn spans_of_time_are_short() {
        let at = |seconds: i64| Micros(seconds * 1_000_000);
        assert_eq!(ago(at(0), at(119)), "119 s");
        assert_eq!(ago(at(0), at(7_199)), "119 min");
        assert_eq!(ago(at(0), at(7_200)), "2 h");
        assert_eq!(ago(at(0), at(200_000)), "2 d");
        assert_eq!(ago(at(9), at(3)), "0 s");
    }
}
