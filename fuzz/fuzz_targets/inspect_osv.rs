//! Whatever an advisory says, it is read the same twice and is no larger than what it was read from, every version that
//! it lists is affected, and what it says of a version does not depend on how often it is asked.
#![no_main]

use inspect::advisory::osv::{Advisory, Event};
use inspect::advisory::range::Match;
use libfuzzer_sys::fuzz_target;

/// Versions that are asked of each package; each costs the preparation of all its ranges.
const ASKED_MAX: usize = 24;

fuzz_target!(|bytes: &[u8]| {
    let advisory = match Advisory::parse(bytes) {
        Ok(advisory) => advisory,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(Advisory::parse(bytes).as_ref(), Ok(&advisory));
    assert!(!advisory.id.is_empty());
    let ids = [&advisory.aliases, &advisory.upstream, &advisory.related];
    let texts = advisory.summary.len() + advisory.details.len() + advisory.id.len();
    let ids: usize = ids.iter().flat_map(|ids| ids.iter()).map(String::len).sum();
    // A byte that is not UTF-8 is an error; an escape has more bytes than what it stands for.
    assert!(texts + ids <= bytes.len(), "{} bytes of {}", texts + ids, bytes.len());
    let _ = advisory.unreadable_vectors().count();
    for (index, affected) in advisory.affected.iter().enumerate() {
        let _ = advisory.assessment(index);
        let events = affected.ranges.iter().flat_map(|range| &range.events).map(Event::version);
        let listed = affected.versions.iter().map(String::as_str);
        for (version, is_listed) in
            listed.map(|version| (version, true)).chain(events.map(|version| (version, false))).take(ASKED_MAX)
        {
            let said = advisory.matches(index, version);
            assert_eq!(said, advisory.matches(index, version));
            if is_listed && affected.place.is_ok() {
                assert!(matches!(said, Match::Affected(_)), "{version} is listed: {said:?}");
            }
        }
    }
    assert_eq!(advisory.matches(advisory.affected.len(), "1"), Match::Unaffected);
});
