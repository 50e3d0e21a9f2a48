//! A build's progress as lines of text: what BuildKit's plain progress would show, one line when a step begins, its output,
//! and one line when it ends.

use std::collections::BTreeMap;

use engine::build::{BuildEvent, BuildLog, BuildStep};

/// Steps of one build that are told apart; further ones share a number.
const STEPS_MAX: usize = 4096;
/// A line is cut here, in bytes: progress bars make lines without an end.
pub(crate) const LINE_BYTES_MAX: usize = 4096;

/// Turns the events of one build into lines.
#[derive(Debug, Default)]
pub(crate) struct BuildLines {
    steps: BTreeMap<String, Step>,
}

#[derive(Debug, Default)]
struct Step {
    number: usize,
    begun: bool,
    ended: bool,
    partial: String,
}

impl BuildLines {
    /// The lines that an event adds.
    pub(crate) fn of(&mut self, event: &BuildEvent) -> Vec<String> {
        match event {
            BuildEvent::Step(step) => self.step(step),
            BuildEvent::Log(log) => self.log(log),
            BuildEvent::Status(_) => Vec::new(),
        }
    }

    fn get(&mut self, digest: &str) -> &mut Step {
        let number = self.steps.len() + 1;
        // Beyond the bound all further steps are one: their lines still come.
        let key = if number > STEPS_MAX && !self.steps.contains_key(digest) { "" } else { digest };
        self.steps.entry(key.to_owned()).or_insert_with(|| Step { number, ..Step::default() })
    }

    fn step(&mut self, event: &BuildStep) -> Vec<String> {
        let step = self.get(&event.digest);
        let number = step.number;
        let mut lines = Vec::new();
        if !step.begun && (event.started.is_some() || event.cached) {
            step.begun = true;
            lines.push(format!("#{number} {}", event.name));
        }
        if step.begun && !step.ended && (event.completed.is_some() || event.error.is_some()) {
            step.ended = true;
            if !step.partial.is_empty() {
                lines.push(format!("#{number} {}", shown(&std::mem::take(&mut step.partial))));
            }
            lines.push(match (&event.error, event.cached, event.started, event.completed) {
                (Some(error), ..) => format!("#{number} ERROR: {error}"),
                (None, true, ..) => format!("#{number} CACHED"),
                (None, false, Some(started), Some(completed)) => {
                    format!("#{number} DONE {:.1}s", completed.since(started).as_secs_f64())
                }
                (None, false, ..) => format!("#{number} DONE"),
            });
        }
        lines
    }

    fn log(&mut self, log: &BuildLog) -> Vec<String> {
        let step = self.get(&log.step);
        step.partial.push_str(&log.text);
        let mut lines = Vec::new();
        while let Some(end) = step.partial.find('\n') {
            let rest = step.partial.split_off(end + 1);
            let line = std::mem::replace(&mut step.partial, rest);
            lines.push(format!("#{} {}", step.number, shown(&line)));
        }
        if step.partial.len() > LINE_BYTES_MAX {
            lines.push(format!("#{} {}", step.number, shown(&std::mem::take(&mut step.partial))));
        }
        lines
    }
}

/// What a terminal would show of a line in the end: after its last carriage return, without colours and other control
/// sequences, and cut.
pub(crate) fn shown(line: &str) -> String {
    let line = line.trim_end_matches(['\n', '\r']);
    let line = line.rsplit('\r').next().unwrap_or(line);
    let mut text = String::new();
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            if characters.next_if_eq(&'[').is_some() {
                // A control sequence ends with its first byte from `@` to `~`.
                while characters.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
        } else if character == '\t' || !character.is_control() {
            if text.len() + character.len_utf8() > LINE_BYTES_MAX {
                text.push('…');
                break;
            }
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Micros;

    fn step(
        digest: &str,
        started: Option<i64>,
        completed: Option<i64>,
        cached: bool,
        error: Option<&str>,
    ) -> BuildEvent {
        BuildEvent::Step(BuildStep {
            digest: digest.to_owned(),
            name: format!("[{digest}] RUN make"),
            started: started.map(Micros),
            completed: completed.map(Micros),
            cached,
            error: error.map(str::to_owned),
        })
    }

    fn log(digest: &str, text: &str) -> BuildEvent {
        BuildEvent::Log(BuildLog { step: digest.to_owned(), stderr: false, at: None, text: text.to_owned() })
    }

    #[test]
    fn steps_and_their_output_read_like_plain_progress() {
        let mut lines = BuildLines::default();
        let events = [
            step("1/3", None, None, false, None),
            step("1/3", Some(0), None, false, None),
            log("1/3", "one\ntw"),
            log("1/3", "o\n\u{1b}[31mred\u{1b}[0m\n10%\r100%\nend"),
            step("2/3", Some(1), Some(1), true, None),
            step("1/3", Some(0), Some(1_500_000), false, None),
            step("1/3", Some(0), Some(1_500_000), false, None),
            step("3/3", Some(0), Some(2), false, Some("exit code: 1")),
        ];
        let text: Vec<String> = events.iter().flat_map(|event| lines.of(event)).collect();
        assert_eq!(
            text,
            [
                "#1 [1/3] RUN make",
                "#1 one",
                "#1 two",
                "#1 red",
                "#1 100%",
                "#2 [2/3] RUN make",
                "#2 CACHED",
                "#1 end",
                "#1 DONE 1.5s",
                "#3 [3/3] RUN make",
                "#3 ERROR: exit code: 1",
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn a_line_is_bounded_and_has_no_control_characters(text in "(\\PC|[\u{0}-\u{1f}]){0,50}", times in 1usize..300) {
            let line = shown(&text.repeat(times));
            proptest::prop_assert!(line.len() <= LINE_BYTES_MAX + '…'.len_utf8());
            proptest::prop_assert!(!line.contains(|c: char| c.is_control() && c != '\t'));
        }
    }
}
