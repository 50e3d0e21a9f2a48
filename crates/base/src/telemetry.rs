//! Logs: structured events to standard error, as text for people or JSON for machines.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

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

/// Sets up logging for the whole process; to be called once, at the very start. Standard output is left to data.
///
/// # Errors
/// See [`TelemetryError`].
pub fn init(format: LogFormat) -> Result<(), TelemetryError> {
    use tracing_subscriber::util::SubscriberInitExt as _;
    let filter = match std::env::var(LOG_VARIABLE) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(text)?,
        _ => EnvFilter::new(LEVEL_DEFAULT),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init()?,
        LogFormat::Text => {
            let colour =
                std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
            lines.with_ansi(colour).finish().try_init()?;
        }
    }
    Ok(())
}
