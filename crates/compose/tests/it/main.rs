//! Tests of the crate through its public face.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as loudly as tests")]

mod corpus;
mod docker_compose;
mod meaning;
mod properties;
mod public;

/// The variables that every test sees.
fn environment(name: &str) -> Option<String> {
    match name {
        "TAG" => Some("1.2".to_owned()),
        "EMPTY" => Some(String::new()),
        "FROM_OUTSIDE" => Some("seen".to_owned()),
        "PORT" => Some("9000".to_owned()),
        _ => None,
    }
}

fn load(texts: &[&str]) -> Result<compose::Loaded, compose::ComposeError> {
    const NAMES: [&str; 3] = ["compose.yaml", "compose.over.yaml", "compose.last.yaml"];
    let files: Vec<_> = NAMES.iter().zip(texts).map(|(name, text)| compose::Source { name, text }).collect();
    compose::load(&files, compose::Stage::Release, &environment)
}
