//! A build that failed: which step, its last lines, and the message, made readable.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use super::{BuildEvent, BuildStep};
use crate::EngineError;

/// How many of the failing step's last lines are kept.
pub const FAILURE_LINES_MAX: usize = 40;

/// A line of a step is cut here in an error: progress bars make lines without an end.
const FAILURE_LINE_BYTES_MAX: usize = 2000;

/// Steps of one build that are remembered for its error. BuildKit's own limit on a Dockerfile is far below.
const STEPS_MAX: usize = 4096;

/// Why there is no image.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BuildError {
    /// The build ran and failed: the context or its Dockerfile is at fault, or what they need is not there.
    #[error(transparent)]
    Failed(Box<BuildFailure>),
    /// The engine could not be asked, or went away.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl BuildError {
    /// What a person can do next.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Failed(failure) => failure.hint.as_deref(),
            Self::Engine(error) => error.hint.as_deref(),
        }
    }
}

/// A build that ran and failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildFailure {
    /// Name of the step that failed, such as `[2/3] RUN make`; `None` when no step began (a Dockerfile that cannot be
    /// parsed).
    pub step: Option<String>,
    /// Line of the Dockerfile, where BuildKit gives it.
    pub line: Option<u32>,
    /// The step's last lines, at most [`FAILURE_LINES_MAX`].
    pub lines: Vec<String>,
    /// Why, in BuildKit's words without its wrapping.
    pub message: String,
    /// What a person can do next.
    pub hint: Option<String>,
}

impl fmt::Display for BuildFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.step, self.line) {
            (Some(step), _) => write!(formatter, "the build failed at {step}: {}", self.message)?,
            (None, Some(line)) => write!(formatter, "the Dockerfile is wrong in line {line}: {}", self.message)?,
            (None, None) => write!(formatter, "the build failed: {}", self.message)?,
        }
        for line in &self.lines {
            write!(formatter, "\n  {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildFailure {}

/// Remembers, while a build runs, what its error would have to say.
#[derive(Debug, Default)]
pub(crate) struct FailureCollector {
    steps: BTreeMap<String, StepMemory>,
}

#[derive(Debug, Default)]
struct StepMemory {
    name: String,
    error: Option<String>,
    running: bool,
    lines: VecDeque<String>,
    partial: String,
}

impl FailureCollector {
    /// Takes note of one event.
    pub(crate) fn observe(&mut self, event: &BuildEvent) {
        match event {
            BuildEvent::Step(step) => self.observe_step(step),
            BuildEvent::Log(log) => {
                if let Some(memory) = self.memory(&log.step) {
                    memory.write(&log.text);
                }
            }
            BuildEvent::Status(_) => {}
        }
    }

    fn observe_step(&mut self, step: &BuildStep) {
        if let Some(memory) = self.memory(&step.digest) {
            memory.name.clone_from(&step.name);
            memory.running = step.started.is_some() && step.completed.is_none();
            // The steps that were cut off because another one failed say only that they were cut off.
            memory.error = step.error.clone().filter(|error| !error.ends_with("context canceled"));
        }
    }

    fn memory(&mut self, digest: &str) -> Option<&mut StepMemory> {
        if !self.steps.contains_key(digest) && self.steps.len() >= STEPS_MAX {
            return None;
        }
        Some(self.steps.entry(digest.to_owned()).or_default())
    }

    /// The failure that the engine's last message makes of what was seen.
    pub(crate) fn failure(mut self, message: &str) -> BuildFailure {
        let plain = unwrapped(message);
        let failed = self
            .steps
            .iter()
            .find(|(_, memory)| memory.error.as_deref().is_some_and(|error| message.contains(error)))
            .or_else(|| self.steps.iter().find(|(_, memory)| memory.error.is_some()))
            .or_else(|| missing_path(plain).and_then(|path| self.steps.iter().find(|(_, memory)| memory.copies(path))))
            .map(|(digest, _)| digest.clone());
        let memory = failed.and_then(|digest| self.steps.remove(&digest));
        let (step, lines) = match memory {
            Some(memory) => {
                let name = memory.name.clone();
                (Some(name), memory.into_lines())
            }
            None => (None, Vec::new()),
        };
        let (line, message) = dockerfile_line(plain);
        let message = readable(message);
        let hint = Some(hint(&message, step.as_deref(), line));
        BuildFailure { step, line, lines, message, hint }
    }
}

impl StepMemory {
    fn write(&mut self, text: &str) {
        self.partial.push_str(text);
        while let Some(end) = self.partial.find('\n') {
            let rest = self.partial.split_off(end + 1);
            let line = std::mem::replace(&mut self.partial, rest);
            self.push(&line);
        }
        if self.partial.len() > FAILURE_LINE_BYTES_MAX {
            let line = std::mem::take(&mut self.partial);
            self.push(&line);
        }
    }

    fn push(&mut self, line: &str) {
        // A carriage return overwrites what stood there; the last version is what a terminal would show.
        let line = line.trim_end_matches(['\n', '\r']);
        let shown = line.rsplit('\r').next().unwrap_or(line);
        let mut end = shown.len().min(FAILURE_LINE_BYTES_MAX);
        while !shown.is_char_boundary(end) {
            end -= 1;
        }
        if self.lines.len() == FAILURE_LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(shown[..end].to_owned());
    }

    fn into_lines(mut self) -> Vec<String> {
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.push(&line);
        }
        self.lines.into()
    }

    /// Whether the step copies this path out of the context.
    fn copies(&self, path: &str) -> bool {
        let copies = self.name.contains("] COPY ") || self.name.contains("] ADD ");
        let wanted = path.trim_start_matches('/');
        copies
            && self
                .name
                .split([' ', '[', ']', '"', ','])
                .any(|word| word.trim_start_matches("./").trim_matches('/') == wanted)
    }
}

/// BuildKit wraps its messages in where it was when they came up, which means nothing to the one who reads them.
fn unwrapped(message: &str) -> &str {
    const WRAPPINGS: [&str; 6] = [
        "failed to solve with frontend dockerfile.v0: ",
        "failed to solve with frontend gateway.v0: ",
        "failed to create LLB definition: ",
        "failed to solve: ",
        "rpc error: code = Unknown desc = ",
        "failed to compute cache key: ",
    ];
    let mut plain = message.trim();
    while let Some(rest) = WRAPPINGS.iter().find_map(|wrapping| plain.strip_prefix(wrapping)) {
        plain = rest;
    }
    plain
}

/// Splits `dockerfile parse error line 2: …` (`… on line 2: …` since BuildKit 0.11) into line and message.
fn dockerfile_line(message: &str) -> (Option<u32>, &str) {
    for prefix in ["dockerfile parse error line ", "dockerfile parse error on line ", "Dockerfile parse error line "] {
        if let Some(rest) = message.strip_prefix(prefix)
            && let Some((number, rest)) = rest.split_once(": ")
            && let Ok(line) = number.parse()
        {
            return (Some(line), rest);
        }
    }
    (None, message)
}

/// The path in `"/x" not found: not found`.
fn missing_path(message: &str) -> Option<&str> {
    let (path, rest) = message.strip_prefix('"')?.split_once('"')?;
    rest.starts_with(" not found").then_some(path)
}

/// The message with names that mean something outside of BuildKit.
fn readable(message: &str) -> String {
    if let Some(path) = missing_path(message) {
        return format!("{path:?} is not in the build context (or .dockerignore leaves it out)");
    }
    if let Some((_, file)) = message.split_once("failed to read dockerfile: open ")
        && let Some(path) = file.strip_suffix(": no such file or directory")
    {
        let name = path
            .split_once("/buildkit-mount")
            .and_then(|(_, rest)| rest.split_once('/'))
            .map_or(path, |(_, name)| name);
        return format!("there is no {name} in the build context");
    }
    if message.contains("no active sessions") {
        return "a step needs a secret, an SSH key or a file of the client, and builds here have no session".to_owned();
    }
    // The step's name says already which command it was.
    let command = message.starts_with("executor failed running [") || message.starts_with("process \"");
    if command && let Some((_, code)) = message.rsplit_once("exit code: ") {
        return format!("the command ended with exit code {code}");
    }
    message.to_owned()
}

fn hint(message: &str, step: Option<&str>, line: Option<u32>) -> String {
    let hint = if line.is_some() {
        "correct that line of the Dockerfile"
    } else if message.contains("build context") {
        "check the path and .dockerignore; paths are relative to the context's root, not to the Dockerfile"
    } else if message.contains("target stage") {
        "name a stage that the Dockerfile has (`FROM … AS NAME`)"
    } else if message.contains("have no session") {
        "give the value at run time as configuration, or copy what the step needs into the context"
    } else if step.is_some_and(|step| step.contains("load metadata for") || is_from(step)) {
        "check the image's name, and that the engine can reach its registry or has the image"
    } else if step.is_some_and(|step| step.contains("resolve image config for")) {
        "remove the `# syntax=` line, or let the engine reach the registry that has that frontend"
    } else if step.is_some_and(|step| step.contains("RUN ")) {
        "the command's own output above says why"
    } else if message.contains("no build stage") || message.contains("cannot be empty") {
        "begin the Dockerfile with `FROM IMAGE`"
    } else {
        "the build's log says what came before"
    };
    hint.to_owned()
}

/// Whether the step fetches an image: `[1/3] FROM …`, or `FROM …` for a `COPY --from` of an image.
fn is_from(step: &str) -> bool {
    step.starts_with("FROM ") || step.contains("] FROM ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::BuildLog;

    fn step(digest: &str, name: &str, error: Option<&str>) -> BuildEvent {
        BuildEvent::Step(BuildStep {
            digest: digest.to_owned(),
            name: name.to_owned(),
            started: None,
            completed: None,
            cached: false,
            error: error.map(str::to_owned),
        })
    }

    fn log(digest: &str, text: &str) -> BuildEvent {
        BuildEvent::Log(BuildLog { step: digest.to_owned(), stderr: false, at: None, text: text.to_owned() })
    }

    fn failure(events: &[BuildEvent], message: &str) -> BuildFailure {
        let mut collector = FailureCollector::default();
        events.iter().for_each(|event| collector.observe(event));
        collector.failure(message)
    }

    /// What newer BuildKits say, of which there is no recording here.
    #[test]
    fn newer_words_are_understood() {
        let syntax = failure(&[], "failed to solve: dockerfile parse error on line 7: unknown instruction: RUNN");
        assert_eq!((syntax.line, syntax.message.as_str()), (Some(7), "unknown instruction: RUNN"));
        let error = "process \"/bin/sh -c exit 3\" did not complete successfully: exit code: 3";
        let events = [step("a", "[2/2] RUN exit 3", Some(error))];
        let run = failure(&events, &format!("failed to solve: {error}"));
        assert_eq!(run.to_string(), "the build failed at [2/2] RUN exit 3: the command ended with exit code 3");
    }

    #[test]
    fn of_parallel_steps_the_one_that_failed_is_named() {
        let events = [
            step("a", "[x 1/1] RUN long", Some("process \"long\" did not complete: context canceled")),
            log("a", "cut off\n"),
            step("b", "[y 1/1] RUN bad", Some("exit code: 9")),
            log("b", "half a "),
            log("a", "still cut off\n"),
            log("b", "line\r50%\r100%\nno end"),
        ];
        let found = failure(&events, "exit code: 9");
        assert_eq!(found.step.as_deref(), Some("[y 1/1] RUN bad"));
        assert_eq!(found.lines, ["100%", "no end"]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut collector = FailureCollector::default();
        for number in 0..10_000 {
            collector.observe(&step(&number.to_string(), "RUN x", None));
            collector.observe(&log("0", &"\u{e4}".repeat(5000)));
        }
        collector.observe(&step("0", "RUN x", Some("bad")));
        assert_eq!(collector.steps.len(), STEPS_MAX);
        let failure = collector.failure("bad");
        assert_eq!(failure.lines.len(), FAILURE_LINES_MAX);
        assert!(failure.lines.iter().all(|line| line.len() <= FAILURE_LINE_BYTES_MAX));
    }
}
