//! Records that come in pieces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

/// The same by lines of the whole text: where each record begins, and its lines.
fn model(text: &str) -> Vec<(u64, Vec<String>)> {
    let mut records = Vec::new();
    let mut at = 0;
    let mut is_inside = false;
    for line in text.split_inclusive('\n') {
        let is_whole = line.ends_with('\n');
        let bare = line.strip_suffix('\n').unwrap_or(line);
        let bare = bare.strip_suffix('\r').unwrap_or(bare);
        if bare.is_empty() && is_whole {
            is_inside = false;
        } else {
            if !is_inside {
                records.push((at, Vec::new()));
                is_inside = true;
            }
            records.last_mut().unwrap().1.push(bare.to_owned());
        }
        at += line.len() as u64;
    }
    records
}

/// What is read in such steps: where each record begins, and its lines, or the error.
fn read(text: &str, limit: usize, step: usize) -> Vec<(u64, Result<Vec<String>, Error>)> {
    let mut records = Records::with(Content::memory(text.as_bytes()), limit, step);
    let mut found = Vec::new();
    while let Some(record) = records.next() {
        found.push(match record {
            Ok(Record { bytes, at }) => {
                (at, Ok(lines(bytes).map(|line| String::from_utf8_lossy(line).into_owned()).collect()))
            }
            Err(Unreadable { at, why }) => (at, Err(why)),
        });
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn records_are_those_of_the_lines_whatever_the_step(text in "(a|b c|\r|\n|\r\n|\n\n){0,40}", step in 1_usize..9) {
        let found: Vec<_> = read(&text, 1000, step).into_iter().map(|(at, record)| (at, record.unwrap())).collect();
        prop_assert_eq!(found, model(&text));
    }

    #[test]
    fn a_record_over_the_limit_is_told_and_the_others_are_read(
        lengths in prop::collection::vec(1_usize..60, 1..8),
        step in 1_usize..9,
    ) {
        const LIMIT: usize = 30;
        let text: String = lengths.iter().map(|length| format!("{}\n\n", "x".repeat(*length))).collect();
        let mut at = 0;
        let found = read(&text, LIMIT, step);
        prop_assert_eq!(found.len(), lengths.len());
        for ((begin, record), length) in found.into_iter().zip(lengths) {
            prop_assert_eq!(begin, at);
            at += length as u64 + 2;
            // The line feed that ends the last line is the record's.
            if length + 1 > LIMIT {
                prop_assert_eq!(record, Err(Error::RecordTooLarge { limit: LIMIT }));
            } else {
                prop_assert_eq!(record, Ok(vec!["x".repeat(length)]));
            }
        }
    }
}
