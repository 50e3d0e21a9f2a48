//! `longshore.yaml` beside the Compose file: what the product team says of an app that the Compose Specification has no
//! word for. Strict: a key that is not known is an error.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::Path;

use base::config::nearest;
use base::folder::file_read;
use compose::Project;
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use crate::error::{Error, ErrorKind};

/// The file's name.
pub const FILE: &str = "longshore.yaml";
/// The longest such file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Steps that fill one service at most.
const STEPS_MAX: usize = 100;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Of workspaces.
    pub workspace: OfWorkspaces,
}

/// What holds in workspaces alone.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OfWorkspaces {
    /// By service.
    pub services: BTreeMap<String, Spanned<OfService>>,
}

/// What holds for one service in workspaces.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OfService {
    /// What is done once its volumes are new and it is up, in this order.
    pub fill: Vec<Spanned<Step>>,
    /// The container's port that a debugger is to reach while the service is worked on.
    pub debugger: Option<NonZeroU16>,
}

/// A command that is run in a service's container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The program and its arguments; there is no shell unless the program is one.
    pub command: Vec<String>,
    /// A file of the checkout that it is given on standard input, relative to this one.
    #[serde(default)]
    pub input: Option<String>,
}

impl Settings {
    /// Reads the file in a folder, which need not be there. `project` is the whole one, whatever the profiles.
    ///
    /// # Errors
    /// [`ErrorKind::ProjectInvalid`] with `longshore.yaml:LINE:COLUMN` and the cause.
    pub fn read(folder: &Path, project: &Project) -> Result<Self, Error> {
        let bytes =
            file_read(&folder.join(FILE), FILE_BYTES_MAX).map_err(|error| invalid(None, &error.to_string(), MEND))?;
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        let text = String::from_utf8(bytes).map_err(|_| invalid(None, "it is not UTF-8", MEND))?;
        let settings = Self::parse(&text)?;
        settings.check(project)?;
        for step in settings.workspace.services.values().flat_map(|service| &service.value.fill) {
            if let Some(input) = step.value.input.as_ref().filter(|input| !folder.join(input).is_file()) {
                let why = format!("there is no file {input}");
                return Err(invalid(Some(step.referenced), &why, "Name a file of the checkout, relative to this one."));
            }
        }
        Ok(settings)
    }

    fn parse(text: &str) -> Result<Self, Error> {
        // A file of comments alone says nothing.
        serde_saphyr::from_str::<Option<Self>>(text).map(Option::unwrap_or_default).map_err(|error| unreadable(&error))
    }

    fn check(&self, project: &Project) -> Result<(), Error> {
        for (name, service) in &self.workspace.services {
            let at = Some(service.referenced);
            if !project.services.contains_key(name) {
                let names = || project.services.keys().map(String::as_str);
                let hint = match nearest(name, names()) {
                    Some(near) => format!("Did you mean `{near}`?"),
                    None => format!("It has: {}.", names().collect::<Vec<_>>().join(", ")),
                };
                return Err(invalid(at, &format!("the project has no service {name}"), &hint));
            }
            if service.value.fill.len() > STEPS_MAX {
                let why = format!("{name} has more than {STEPS_MAX} steps");
                return Err(invalid(at, &why, "Put them into a script."));
            }
            if let Some(step) = service.value.fill.iter().find(|step| step.value.command.is_empty()) {
                return Err(invalid(Some(step.referenced), "the command is empty", "Name a program."));
            }
        }
        Ok(())
    }
}

const MEND: &str = "docs/longshore-yaml.md says what it may hold.";

fn unreadable(error: &serde_saphyr::Error) -> Error {
    use serde_saphyr::Error as Yaml;
    let error = error.without_snippet();
    let (why, hint) = match error {
        Yaml::SerdeUnknownField { field, expected, .. } => {
            let hint = match nearest(field, expected.iter().copied()) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => format!("Known here: {}.", expected.join(", ")),
            };
            (format!("unknown key `{field}`"), hint)
        }
        Yaml::SerdeMissingField { field, .. } => (format!("the key `{field}` is missing"), format!("Add `{field}:`.")),
        other => {
            let text = other.to_string();
            let first = text.lines().next().unwrap_or_default();
            // The place is said before it.
            (first.split(" at line ").next().unwrap_or(first).to_owned(), MEND.to_owned())
        }
    };
    invalid(error.location(), &why, &hint)
}

fn invalid(at: Option<Location>, why: &str, hint: &str) -> Error {
    let place = match at.filter(|at| at.line() > 0) {
        Some(at) => format!("{FILE}:{}:{}", at.line(), at.column()),
        None => FILE.to_owned(),
    };
    Error::new(ErrorKind::ProjectInvalid, format!("{place}: {why}"), hint)
}

#[cfg(test)]
mod tests {
    use compose::{Source, Stage};

    use super::*;

    const COMPOSE: &str = "name: shop\nservices: {db: {image: 'postgres:15'}, vote: {image: 'vote:1'}}";

    fn read(text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), text).unwrap();
        std::fs::write(folder.path().join("seed.sql"), "select 1;").unwrap();
        let sources = [Source { name: "compose.yaml", text: COMPOSE }];
        let loaded = compose::load(&sources, Stage::Workspace(&|_| Ok(None)), &|_| None).unwrap();
        let read = Settings::read(folder.path(), &loaded.project);
        read.map_err(|error| format!("{}; {}", error.why, error.hint.unwrap_or_default()))
    }

    #[test]
    fn what_is_known_is_read_and_all_else_is_refused_by_line() {
        let settings = read(
            "workspace:\n  services:\n    db:\n      fill:\n        - command: [psql, -U, postgres]\n          input: seed.sql\n        - {command: [touch, /done]}\n    vote: {debugger: 5678}\n",
        );
        let settings = settings.unwrap();
        let fill = &settings.workspace.services["db"].value.fill;
        assert_eq!(fill[0].value.input.as_deref(), Some("seed.sql"));
        assert_eq!(fill[1].value, Step { command: vec!["touch".to_owned(), "/done".to_owned()], input: None });
        assert_eq!(settings.workspace.services["vote"].value.debugger.map(NonZeroU16::get), Some(5678));
        assert_eq!(read("# nothing yet\n"), Ok(Settings::default()));

        // The line is said, and the column; which of a flow mapping's is the parser's affair.
        let refused = |text: &str| {
            let said = read(text).unwrap_err();
            let mut parts = said.splitn(4, ':');
            assert_eq!(parts.next(), Some(FILE));
            let (line, _column) = (parts.next().unwrap_or_default(), parts.next());
            format!("{line}:{}", parts.next().unwrap_or_default())
        };
        let service = |text: &str| refused(&format!("workspace:\n  services:\n    {text}\n"));
        assert_eq!(refused("workspaces: {}"), "1: unknown key `workspaces`; Did you mean `workspace`?");
        assert_eq!(service("db: {fil: []}"), "3: unknown key `fil`; Did you mean `fill`?");
        assert_eq!(service("vot: {}"), "3: the project has no service vot; Did you mean `vote`?");
        let text = "db: {fill: [{input: seed.sql}]}";
        assert_eq!(service(text), "3: the key `command` is missing; Add `command:`.");
        let text = "db: {fill: [{command: [psql], input: sed.sql}]}";
        let why = "3: there is no file sed.sql; Name a file of the checkout, relative to this one.";
        assert_eq!(service(text), why);
        assert_eq!(service("db: {fill: [{command: []}]}"), "3: the command is empty; Name a program.");
    }
}
