//! Any text is loaded or refused, for environments and for a developer's machine; what is loaded keeps the promises that
//! others build on.
#![no_main]

use compose::{Project, Source, Stage};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // A line of its own parts the files that are laid over one another, another parts off the files that they name.
    let (composed, beside) = text.split_once("\n====\n").unwrap_or((text, ""));
    let files: Vec<Source<'_>> =
        composed.split("\n----\n").map(|text| Source { name: "compose.yaml", text }).collect();
    let environment = |name: &str| (name.len() % 2 == 0).then(|| name.to_lowercase());
    // Every name leads to one of them, so that files name one another in circles.
    let named: Vec<&str> = beside.split("\n----\n").collect();
    let read = |path: &str| Ok(named.get(path.len() % (named.len() + 1)).map(|text| (*text).to_owned()));
    for stage in [Stage::Release, Stage::Workspace(&read)] {
        match compose::load(&files, stage, &environment) {
            Ok(loaded) => {
                let project = loaded.project;
                assert!(!project.services.is_empty());
                let levels = project.start_order().expect("no circles");
                assert_eq!(levels.iter().map(Vec::len).sum::<usize>(), project.services.len());
                for (name, service) in &project.services {
                    let definition = project.definition(name).expect("a service has a definition");
                    assert_eq!(definition.networks.len(), service.networks.len());
                    assert!(!service.networks.is_empty() || service.namespaces.network.is_some());
                    assert!(matches!(stage, Stage::Workspace(_)) || definition.workspace_only().is_none());
                }
                let json = serde_json::to_vec(&project).expect("a project can be written");
                let read: Project = serde_json::from_slice(&json).expect("and read");
                assert_eq!(read, project);
            }
            Err(error) => {
                assert!(!error.diagnostics.is_empty());
                let told = |found: &compose::Diagnostic| found.line > 0 && found.column > 0 && !found.what.is_empty();
                assert!(error.diagnostics.iter().all(told));
            }
        }
    }
});
