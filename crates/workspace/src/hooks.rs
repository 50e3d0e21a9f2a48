//! What a service has run in its containers after their start and before their stop (`post_start`, `pre_stop`).
//!
//! A container carries its hooks as labels: it is stopped properly whatever has become of the project's files, and one
//! whose hooks changed is another container.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use compose::model::Hook;
use engine::{Engine, EngineError, ErrorKind, ExecOptions, Labels, SessionInput, SessionOutput};
use futures::StreamExt as _;

/// Hooks that run once a container has started, as JSON.
pub const LABEL_POST_START: &str = "dev.longshore.post-start";
/// Hooks that run before it is stopped, as JSON.
pub const LABEL_PRE_STOP: &str = "dev.longshore.pre-stop";

/// How long one hook may take.
const HOOK_SECONDS_MAX: u64 = 600;
/// Output of a hook that failed: its last bytes.
const OUTPUT_BYTES_MAX: usize = 4096;
/// Containers whose hooks are not done, at most.
const UNDONE_MAX: usize = 10_000;

/// Writes down what a container has run. Always both, so that labels of its image are never taken for them.
pub fn label(labels: &mut Labels, post_start: &[Hook], pre_stop: &[Hook]) {
    for (key, hooks) in [(LABEL_POST_START, post_start), (LABEL_PRE_STOP, pre_stop)] {
        let text = serde_json::to_string(hooks).unwrap_or_else(|_| "[]".to_owned());
        labels.insert(key.to_owned(), text);
    }
}

/// The hooks that a container has under this key.
pub fn of(labels: &Labels, key: &str) -> Vec<Hook> {
    // What is no list of hooks was written by somebody else.
    labels.get(key).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Runs hooks in a container, one after the other, until one fails.
///
/// # Errors
/// The engine refuses, or a hook ended with another status than 0, or not at all.
pub async fn run(engine: &dyn Engine, container: &str, hooks: &[Hook]) -> Result<(), EngineError> {
    for hook in hooks {
        let what = format!("cannot run `{}`", hook.command.join(" "));
        let limit = Duration::from_secs(HOOK_SECONDS_MAX);
        let ended = tokio::time::timeout(limit, run_one(engine, container, hook)).await.unwrap_or_else(|_elapsed| {
            let why = format!("it did not end within {HOOK_SECONDS_MAX} s");
            Err(EngineError::new(ErrorKind::Engine, what.clone(), why))
        })?;
        if let (status, output) = ended
            && status != 0
        {
            let output = if output.is_empty() { output } else { format!(": {output}") };
            return Err(EngineError::new(ErrorKind::Engine, what, format!("it ended with status {status}{output}")));
        }
    }
    Ok(())
}

/// Its status, and the end of what it wrote.
async fn run_one(engine: &dyn Engine, container: &str, hook: &Hook) -> Result<(i64, String), EngineError> {
    let environment = hook.environment.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
    let options = ExecOptions {
        command: hook.command.clone(),
        user: hook.user.clone(),
        working_dir: hook.working_dir.clone(),
        environment: environment.collect(),
        privileged: hook.privileged,
    };
    let mut session = engine.container_exec(container, &options, SessionInput::default()).await?;
    let mut output: Vec<u8> = Vec::new();
    while let Some(said) = session.next().await {
        match said? {
            SessionOutput::Stdout(bytes) | SessionOutput::Stderr(bytes) => {
                output.extend_from_slice(&bytes);
                let spare = output.len().saturating_sub(OUTPUT_BYTES_MAX);
                output.drain(..spare);
            }
            SessionOutput::Ended(status) => {
                return Ok((status, String::from_utf8_lossy(&output).trim().to_owned()));
            }
        }
    }
    Err(EngineError::new(ErrorKind::Engine, "cannot follow a command", "its end was never told"))
}

/// Containers that were started and whose hooks did not all run: written down before the start, so that a command that is
/// killed in between leaves the rest to the next.
#[derive(Debug, Default)]
pub struct Undone {
    folder: Option<PathBuf>,
    containers: BTreeSet<String>,
}

impl Undone {
    /// Those that an earlier command left, in a folder that holds nothing else.
    pub fn kept(folder: PathBuf) -> Self {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().take(UNDONE_MAX).flatten();
        let containers = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        Self { folder: Some(folder), containers }
    }

    /// The ids of the containers.
    pub fn containers(&self) -> &BTreeSet<String> {
        &self.containers
    }

    /// A container is about to be started.
    pub fn begin(&mut self, id: &str) {
        if self.containers.insert(id.to_owned())
            && let Some(folder) = &self.folder
            && let Err(error) = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(folder.join(id), ""))
        {
            tracing::warn!(%error, container = id, "should this command be killed, hooks of a container are not run");
        }
    }

    /// Its hooks have all run, or it is gone.
    pub fn end(&mut self, id: &str) {
        if self.containers.remove(id)
            && let Some(folder) = &self.folder
            && let Err(error) = std::fs::remove_file(folder.join(id))
        {
            tracing::warn!(%error, container = id, "hooks of a container may run a second time");
        }
    }

    /// Forgets all but these.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self.containers.iter().filter(|id| !is_there(id)).cloned().collect();
        gone.iter().for_each(|id| self.end(id));
    }
}
