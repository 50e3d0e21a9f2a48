//! The example app, as Debian's docker-compose resolves it and as this crate does: the same project.

use std::path::Path;
use std::process::Command;

use compose::{Project, Source, Stage, load};

fn project(text: &str) -> Project {
    load(&[Source { name: "compose.yaml", text }], Stage::Release, &|_| None).unwrap().project
}

#[test]
fn the_example_means_the_same_to_docker_compose() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/vote").canonicalize().unwrap();
    let file = folder.join("compose.yaml");
    let output = Command::new("docker-compose").arg("-f").arg(&file).arg("config").output();
    let output = output.expect("docker-compose is missing: apt-get install docker-compose");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // It resolves contexts against the folder; in a project they are relative.
    let resolved = String::from_utf8(output.stdout).unwrap().replace(&folder.display().to_string(), ".");
    let resolved: String =
        resolved.lines().filter(|line| !line.starts_with("version:")).map(|line| format!("{line}\n")).collect();
    let own = std::fs::read_to_string(&file).unwrap();
    // It forgets what begins with `x-`, which means nothing to either.
    assert_eq!(project(&resolved), project(&own));
}
