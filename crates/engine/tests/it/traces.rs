//! BuildKit's progress, from recordings of real builds.

use engine::build::{BuildEvent, TraceError, trace_decode};
use proptest::prelude::*;

/// One line for each event, without what is long and says nothing.
fn rendered(recording: &str) -> String {
    let mut text = String::new();
    let mut names: Vec<String> = Vec::new();
    for line in recording.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line["id"] != "moby.buildkit.trace" {
            text.push_str(&format!("{line}\n"));
            continue;
        }
        for event in trace_decode(line["aux"].as_str().unwrap()).unwrap() {
            let mut number = |digest: &String| {
                names.iter().position(|name| name == digest).unwrap_or_else(|| {
                    names.push(digest.clone());
                    names.len() - 1
                })
            };
            text.push_str(&match event {
                BuildEvent::Step(step) => {
                    let took = step.started.zip(step.completed).map(|(start, end)| end.0 - start.0);
                    format!(
                        "step {} {:?} started={} took_micros={took:?} cached={} error={:?}\n",
                        number(&step.digest),
                        step.name,
                        step.started.is_some(),
                        step.cached,
                        step.error
                    )
                }
                BuildEvent::Status(status) => {
                    format!("status {} {:?} {}/{}\n", number(&status.step), status.name, status.current, status.total)
                }
                BuildEvent::Log(log) => format!("log {} stderr={} {:?}\n", number(&log.step), log.stderr, log.text),
            });
        }
    }
    text
}

#[test]
fn recordings_are_read() {
    insta::assert_snapshot!("built", rendered(include_str!("traces/built.jsonl")));
    insta::assert_snapshot!("cached", rendered(include_str!("traces/cached.jsonl")));
    insta::assert_snapshot!("failed", rendered(include_str!("traces/failed.jsonl")));
}

#[test]
fn nonsense_is_refused() {
    assert!(matches!(trace_decode("!"), Err(TraceError::Base64(_))));
    assert!(matches!(trace_decode("////"), Err(TraceError::Protobuf(_))));
    let long = "A".repeat(engine::build::TRACE_BYTES_MAX + 1);
    assert_eq!(trace_decode(&long), Err(TraceError::TooLong(long.len())));
    assert_eq!(trace_decode("").unwrap(), []);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        use base64::Engine as _;
        let _ = trace_decode(&base64::engine::general_purpose::STANDARD.encode(bytes));
    }
}
