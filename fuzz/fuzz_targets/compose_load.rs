//! Any text is loaded or refused; what is loaded keeps the promises that others build on.
#![no_main]

use compose::{Project, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // A line of its own parts the files that are laid over one another.
    let files: Vec<Source<'_>> =
        text.split("\n----\n").map(|text| Source { name: "compose.yaml", text }).collect();
    let environment = |name: &str| (name.len() % 2 == 0).then(|| name.to_lowercase());
    match compose::load(&files, &environment) {
        Ok(loaded) => {
            let project = loaded.project;
            assert!(!project.services.is_empty());
            let levels = project.start_order().expect("no circles");
            assert_eq!(levels.iter().map(Vec::len).sum::<usize>(), project.services.len());
            for (name, service) in &project.services {
                let definition = project.definition(name).expect("a service has a definition");
                assert_eq!(definition.networks.len(), service.networks.len());
                assert!(!service.networks.is_empty());
            }
            let json = serde_json::to_vec(&project).expect("a project can be written");
            let read: Project = serde_json::from_slice(&json).expect("and read");
            assert_eq!(read, project);
        }
        Err(error) => {
            assert!(!error.diagnostics.is_empty());
            assert!(error.diagnostics.iter().all(|found| found.line > 0 && found.column > 0 && !found.what.is_empty()));
        }
    }
});
