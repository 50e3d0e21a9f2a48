//! Projects of the kinds found in public, each in a folder of its own: what they mean in a workspace, or how they are
//! refused.
//!
//! `compose.yaml` is laid under `compose.override.yaml` and `compose.dev.yaml` where those are there, `.env` gives
//! variables. Folders that begin with `refused-` are refused. To start one, put a stand-in in place of every image: one
//! whose entrypoint ends at once when its first argument is `init`, `migrate`, `seed` or `setup` and otherwise waits to be
//! stopped, and that has the programs that healthchecks call (`curl`, `mc`, `mysqladmin`, `nc`, `pg_isready`,
//! `rabbitmq-diagnostics`, `redis-cli`, `wget`), which all succeed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use compose::{ComposeError, Loaded, Project, Source, Stage};
use serde::Serialize;

use crate::corpus::settings;

/// The least that the corpus is for.
const CASES_MIN: usize = 60;
const LOADED_MIN: usize = 50;

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/public");
    let mut folders: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn read(path: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn load(folder: &Path) -> Result<Loaded, ComposeError> {
    let of = |name: &'static str| read(&folder.join(name)).unwrap().map(|text| (name, text));
    let files: Vec<(&str, String)> =
        ["compose.yaml", "compose.override.yaml", "compose.dev.yaml"].into_iter().filter_map(of).collect();
    let sources: Vec<Source<'_>> = files.iter().map(|(name, text)| Source { name, text }).collect();
    let variables = match of(".env") {
        Some((name, text)) => compose::variables(Source { name, text: &text }, &|_| None)?,
        None => BTreeMap::new(),
    };
    let reader = |path: &str| read(&folder.join(path));
    compose::load(&sources, Stage::Workspace(&reader), &|name| variables.get(name).cloned())
}

/// A line for each part of a project.
fn lines(project: &Project) -> String {
    fn part<T: Serialize>(text: &mut String, key: &str, parts: &BTreeMap<String, T>) {
        for (name, value) in parts {
            writeln!(text, "{key}.{name} {}", serde_json::to_string(value).unwrap()).unwrap();
        }
    }
    let mut text = project.name.iter().map(|name| format!("name {name}\n")).collect::<String>();
    part(&mut text, "services", &project.services);
    part(&mut text, "networks", &project.networks);
    part(&mut text, "volumes", &project.volumes);
    part(&mut text, "configs", &project.configs);
    part(&mut text, "secrets", &project.secrets);
    text
}

#[test]
fn public_projects_are_loaded_or_refused_by_name() {
    let (mut cases, mut loaded) = (0, 0);
    for folder in folders() {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let said = match load(&folder) {
            Ok(found) => {
                assert!(!name.starts_with("refused-"), "{name} was loaded");
                loaded += 1;
                let text = serde_json::to_string(&found.project).unwrap();
                assert_eq!(serde_json::from_str::<Project>(&text).unwrap(), found.project, "{name} comes back");
                let warnings: String = found.warnings.iter().map(|warning| format!("{warning}\n")).collect();
                lines(&found.project) + &warnings
            }
            Err(error) => {
                assert!(name.starts_with("refused-"), "{name}: {error}");
                error.to_string()
            }
        };
        cases += 1;
        settings().bind(|| insta::assert_snapshot!(format!("public-{name}"), said));
    }
    assert!(cases >= CASES_MIN && loaded >= LOADED_MIN, "{loaded} of {cases} were loaded");
}
