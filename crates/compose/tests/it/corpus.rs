//! The corpus: each file of `ok/` with the project it gives, each of `bad/` with what is said of it.
//!
//! `NAME.over.yaml` and `NAME.last.yaml` are laid over `NAME.yaml`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::load;

/// Every case in a folder: its name and its texts.
fn cases(folder: &str) -> Vec<(String, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| fs::read_to_string(path).ok();
    paths
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.strip_suffix(".yaml"))
        .filter(|name| !name.ends_with(".over") && !name.ends_with(".last"))
        .map(|name| {
            let file = |suffix: &str| read(root.join(format!("{name}{suffix}.yaml")));
            (name.to_owned(), [file(""), file(".over"), file(".last")].into_iter().flatten().collect())
        })
        .collect()
}

pub(crate) fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/snapshots"));
    settings.set_omit_expression(true);
    settings
}

#[test]
fn good_files_give_their_project() {
    for (name, texts) in cases("ok") {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let loaded = load(&texts).unwrap_or_else(|error| panic!("{name}: {error}"));
        let text = serde_json::to_string_pretty(&loaded.project).unwrap();
        assert_eq!(serde_json::from_str::<compose::Project>(&text).unwrap(), loaded.project, "{name} comes back");
        let warnings: String = loaded.warnings.iter().map(|warning| format!("\n{warning}")).collect();
        settings().bind(|| insta::assert_snapshot!(format!("ok-{name}"), text + &warnings));
    }
}

#[test]
fn bad_files_are_refused_with_place_and_hint() {
    for (name, texts) in cases("bad") {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let error = load(&texts).err().unwrap_or_else(|| panic!("{name} was taken"));
        settings().bind(|| insta::assert_snapshot!(format!("bad-{name}"), error));
    }
}

#[test]
fn the_example_loads_with_each_overlay() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/vote");
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let base = read("compose.yaml");
    for overlay in ["compose.qa.yaml", "compose.staging.yaml", "compose.prod.yaml"] {
        let project = load(&[&base, &read(overlay)]).unwrap_or_else(|error| panic!("{overlay}: {error}")).project;
        assert_eq!(project.jobs().into_iter().collect::<Vec<_>>(), ["migrate"]);
        assert_eq!(
            project.start_order().unwrap(),
            [vec!["db", "redis"], vec!["migrate", "vote"], vec!["result", "worker"]]
        );
        assert_eq!(project.services["vote"].ports.len(), 1, "{overlay} replaces the port");
        let definition = project.definition("db").unwrap();
        assert_eq!(definition.volumes.keys().collect::<Vec<_>>(), ["db-data"]);
        assert_eq!(definition.networks.keys().collect::<Vec<_>>(), ["default"]);
        assert!(project.services["db"].has_writable_volume() && !project.services["vote"].has_writable_volume());
    }
}
