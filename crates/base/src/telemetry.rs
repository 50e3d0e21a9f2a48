//! Logs: structured events to standard error, as text for people or JSON for machines. And the place for an exporter of
//! traces.
//!
//! Spans have the level TRACE: a log does not show them unless it is told to, and without an exporter they are not made.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use http::HeaderMap;
use tracing::Span;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// What is logged, in the syntax of `tracing_subscriber::EnvFilter`: a level, or `target=level` pairs.
pub const LOG_VARIABLE: &str = "LONGSHORE_LOG";
const LEVEL_DEFAULT: &str = "info";

/// How log lines look.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One readable line per event; coloured on a terminal unless `NO_COLOR` is set.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// What exports traces.
pub struct Traces {
    /// Sees the spans that it wants, and says by itself which these are.
    pub layer: Box<dyn Layer<Registry> + Send + Sync>,
    /// What spans alone cannot say.
    pub hooks: TraceHooks,
}

/// What is done to spans past `tracing`, which knows neither of it.
#[derive(Clone, Copy, Debug)]
pub struct TraceHooks {
    /// Makes the caller's span, which a request's headers name, the parent of a request's.
    pub adopt: fn(&Span, &HeaderMap),
    /// Gives a span a name that is known only at its end.
    pub rename: fn(&Span, String),
}

static HOOKS: OnceLock<TraceHooks> = OnceLock::new();

/// Those of the exporter, for a span that it may see.
pub(crate) fn hooks(span: &Span) -> Option<TraceHooks> {
    if span.is_disabled() { None } else { HOOKS.get().copied() }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The variable holds no valid filter.
    #[error("{LOG_VARIABLE} is not a log filter: {0}; give a level such as `debug`, or `registry=debug,info`")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Logging was set up before.
    #[error("logging was set up twice: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up logging for the whole process, and the export of traces where there is one; to be called once, at the very
/// start. Standard output is left to data.
///
/// # Errors
/// See [`TelemetryError`].
pub fn init(format: LogFormat, traces: Option<Traces>) -> Result<(), TelemetryError> {
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let filter = match std::env::var(LOG_VARIABLE) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(text)?,
        _ => EnvFilter::new(LEVEL_DEFAULT),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => {
            let colour =
                std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
            lines.with_ansi(colour).with_filter(filter).boxed()
        }
    };
    let Some(Traces { layer, hooks }) = traces else {
        tracing_subscriber::registry().with(lines).try_init()?;
        return Ok(());
    };
    // Not `and_then`, which takes the log's level for both.
    tracing_subscriber::registry().with(vec![layer, lines]).try_init()?;
    let _ = HOOKS.set(hooks);
    Ok(())
}
