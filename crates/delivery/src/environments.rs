//! The file of environments: read with errors by line, compared with what holds. Pure.
//!
//! ```yaml
//! environments:
//!   qa:
//!     target: {docker: {hosts: [h1]}}
//!   prod:
//!     after: qa
//!     target: {docker: {labels: {stage: prod}}}
//!     rollout: {max_unavailable: 1, step_seconds_max: 300}
//! ```

use std::collections::BTreeMap;

use api::EnvName;
use api::delivery::{Environment, EnvironmentChange, EnvironmentSpec, Target};
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use crate::error::{Error, ErrorKind};

/// The most bytes of a file of environments.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// The most environments of a hub.
pub const ENVIRONMENTS_MAX: usize = 1000;
/// The longest that a step may be given, in seconds: a day.
pub const STEP_SECONDS_MAX: u64 = 24 * 3600;
/// How far a key may be from a known one to be taken for it (Jaro-Winkler, 0 to 1).
const SIMILARITY_MIN: f64 = 0.7;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    environments: BTreeMap<EnvName, Spanned<EnvironmentSpec>>,
}

/// What a file says, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Name, specification and line.
    pub environments: Vec<(EnvName, EnvironmentSpec, u64)>,
}

/// Reads a file of environments.
///
/// # Errors
/// [`ErrorKind::EnvironmentsInvalid`] with `FILE:LINE:COLUMN`, the cause, and for an unknown key the nearest known one.
pub fn parse(text: &str, file_name: &str) -> Result<Parsed, Error> {
    if text.len() > FILE_BYTES_MAX {
        return Err(invalid(file_name, None, format!("it has more than {FILE_BYTES_MAX} bytes"), "Split it."));
    }
    let file: File = serde_saphyr::from_str(text).map_err(|error| unreadable(file_name, &error))?;
    let mut environments: Vec<(EnvName, EnvironmentSpec, u64)> = Vec::new();
    for (name, spec) in file.environments {
        let at = spec.referenced;
        spec_check(&name, &spec.value).map_err(|(what, hint)| invalid(file_name, Some(at), what, hint))?;
        environments.push((name, spec.value, at.line()));
    }
    environments.sort_by_key(|(_, _, line)| *line);
    if environments.is_empty() {
        let hint = "Name at least one environment under `environments:`.";
        return Err(invalid(file_name, None, "it names no environment".to_owned(), hint));
    }
    Ok(Parsed { environments })
}

/// Compares what a file says with what holds: environments that are new or differ, in the order of the file. Those that
/// the file does not mention are left alone.
///
/// # Errors
/// [`ErrorKind::EnvironmentsInvalid`] when `after` names an unknown environment or leads in a circle, or there would be
/// more than [`ENVIRONMENTS_MAX`].
pub fn compare(parsed: &Parsed, held: &[Environment], file_name: &str) -> Result<Vec<EnvironmentChange>, Error> {
    let mut after: BTreeMap<&EnvName, Option<&EnvName>> =
        held.iter().map(|environment| (&environment.name, environment.spec.after.as_ref())).collect();
    after.extend(parsed.environments.iter().map(|(name, spec, _)| (name, spec.after.as_ref())));
    if after.len() > ENVIRONMENTS_MAX {
        let what = format!("there would be more than {ENVIRONMENTS_MAX} environments");
        return Err(invalid(file_name, None, what, "Apply fewer."));
    }
    for (name, spec, line) in &parsed.environments {
        if let Some(before) = &spec.after
            && !after.contains_key(before)
        {
            let nearest = nearest(before.as_str(), after.keys().map(|name| name.as_str()));
            let hint = match nearest {
                Some(near) => format!("Did you mean `{near}`?"),
                None => "Declare it in this file.".to_owned(),
            };
            let what = format!("{name} comes after `{before}`, which is not an environment");
            return Err(invalid_at_line(file_name, *line, what, hint));
        }
        let mut circle = vec![name];
        while let Some(Some(before)) = circle.last().and_then(|last| after.get(*last)) {
            let closes = circle.contains(before);
            circle.push(before);
            if closes {
                let names: Vec<&str> = circle.iter().map(|name| name.as_str()).collect();
                let what = format!("environments come after each other in a circle: {}", names.join(" after "));
                return Err(invalid_at_line(file_name, *line, what, "Take one `after` away.".to_owned()));
            }
        }
    }
    Ok(parsed
        .environments
        .iter()
        .filter_map(|(name, spec, _)| {
            let from = held.iter().find(|environment| environment.name == *name).map(|e| e.spec.clone());
            (from.as_ref() != Some(spec)).then(|| EnvironmentChange {
                name: name.clone(),
                from,
                to: spec.clone(),
                revision: None,
            })
        })
        .collect())
}

fn spec_check(name: &EnvName, spec: &EnvironmentSpec) -> Result<(), (String, &'static str)> {
    if spec.rollout.max_unavailable == 0 {
        let what = format!("{name} has rollout.max_unavailable 0, with which nothing could ever be replaced");
        return Err((what, "Give it at least 1."));
    }
    if !(1..=STEP_SECONDS_MAX).contains(&spec.rollout.step_seconds_max) {
        let what = format!("{name} has rollout.step_seconds_max {}", spec.rollout.step_seconds_max);
        return Err((what, "Give it 1 to 86400 seconds."));
    }
    let Target::Docker { hosts, labels } = &spec.target;
    if hosts.is_empty() && labels.is_empty() {
        let what = format!("{name} has a target without hosts and labels");
        return Err((what, "Name `hosts: [NAME]` or `labels: {KEY: VALUE}` under target.docker."));
    }
    Ok(())
}

fn unreadable(file_name: &str, error: &serde_saphyr::Error) -> Error {
    use serde_saphyr::Error as Yaml;
    let error = error.without_snippet();
    let (what, hint) = match error {
        Yaml::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected),
        Yaml::SerdeUnknownVariant { variant, expected, .. } => unknown("target", variant, expected),
        Yaml::SerdeMissingField { field, .. } => (format!("the key `{field}` is missing"), format!("Add `{field}:`.")),
        other => {
            let mut first = other.to_string();
            if let Some(end) = first.find('\n') {
                first.truncate(end);
            }
            // The place is said before it.
            if let Some(end) = first.rfind(" at line ") {
                first.truncate(end);
            }
            (
                first,
                "Correct the file; `longshore env apply --dry-run -f FILE` checks it without applying it.".to_owned(),
            )
        }
    };
    invalid(file_name, error.location(), what, hint)
}

fn unknown(what: &str, given: &str, expected: &[&'static str]) -> (String, String) {
    let hint = match nearest(given, expected.iter().copied()) {
        Some(near) => format!("Did you mean `{near}`?"),
        None => format!("Known here: {}.", expected.join(", ")),
    };
    (format!("unknown {what} `{given}`"), hint)
}

fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (strsim::jaro_winkler(given, name), name))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

fn invalid(file_name: &str, at: Option<Location>, what: String, hint: impl Into<String>) -> Error {
    let place = match at.filter(|at| at.line() > 0) {
        Some(at) => format!("{file_name}:{}:{}", at.line(), at.column()),
        None => file_name.to_owned(),
    };
    Error::new(ErrorKind::EnvironmentsInvalid, format!("{place}: {what}"), hint)
}

fn invalid_at_line(file_name: &str, line: u64, what: String, hint: String) -> Error {
    Error::new(ErrorKind::EnvironmentsInvalid, format!("{file_name}:{line}: {what}"), hint)
}
