//! What no compiler checks, each with its reason: run by `./test`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};

/// More packages than this take too long to build and to watch over.
const PACKAGES_MAX: usize = 600;
/// A longer file hides several rooms.
const FILE_LINES_MAX: usize = 900;

/// The layers: a crate may use what stands in the same row only where the row says so, and everything in rows above it.
const FIRST_LAYER: [&str; 8] = ["oci", "compose", "base", "blobs", "client", "attest", "engine", "otel"];
const CONTEXTS: [&str; 8] = ["access", "registry", "inspect", "delivery", "fanout", "pipeline", "bundle", "insight"];
const TOP: [&str; 4] = ["agent", "workspace", "web", "longshore"];
const CHORES: [&str; 3] = ["bench", "rig", "xtask"];

pub(crate) fn run() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask stands in the workspace")?;
    let mut faults = layers(root)?;
    faults.extend(sources(root)?);
    faults.extend(sql_in_stores(root)?);
    faults.extend(lockfile(root)?);
    if faults.is_empty() {
        println!("tidy: nothing to mend");
        return Ok(());
    }
    for fault in &faults {
        eprintln!("tidy: {fault}");
    }
    bail!("{} things to mend", faults.len())
}

/// Holds the edges between crates that ARCHITECTURE.md draws.
fn layers(root: &Path) -> anyhow::Result<Vec<String>> {
    let metadata = MetadataCommand::new().manifest_path(root.join("Cargo.toml")).exec()?;
    let members: BTreeSet<&str> = metadata.workspace_packages().iter().map(|package| package.name.as_str()).collect();
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata.workspace_packages() {
        let normal = package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development);
        let inside = normal.filter_map(|dependency| members.get(dependency.name.as_str()).copied());
        edges.insert(package.name.as_str(), inside.collect());
    }
    let mut faults = Vec::new();
    for (&from, targets) in &edges {
        if !FIRST_LAYER.contains(&from)
            && from != "api"
            && !CONTEXTS.contains(&from)
            && !TOP.contains(&from)
            && !CHORES.contains(&from)
        {
            faults.push(format!(
                "{from} stands in no layer: say in xtask/src/tidy.rs and ARCHITECTURE.md where it belongs"
            ));
        }
        faults
            .extend(targets.iter().filter(|to| !edge_allowed(from, to)).map(|to| format!("{from} must not use {to}")));
    }
    Ok(faults)
}

fn edge_allowed(from: &str, to: &str) -> bool {
    let first = |name| FIRST_LAYER.contains(&name);
    match from {
        // Pure: they know nothing but themselves.
        "oci" | "compose" | "base" => false,
        "web" => to == "api" || to == "base" || to == "oci",
        "longshore" => !CHORES.contains(&to),
        "bench" => matches!(to, "agent" | "api" | "base" | "fanout" | "inspect" | "oci" | "rig" | "workspace"),
        "rig" => matches!(to, "api" | "base" | "fanout" | "oci"),
        "xtask" => matches!(to, "api" | "rig"),
        _ if first(from) => first(to),
        "api" => first(to),
        // It stands on top, and is what takes part in the exchange.
        "agent" => first(to) || to == "api" || to == "fanout",
        _ => first(to) || to == "api",
    }
}

/// What every source file must and must not have.
fn sources(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    for file in tracked(root)? {
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        if name.ends_with(".rs") {
            let shebang_or_doc =
                text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with("//!"));
            if !shebang_or_doc {
                faults.push(format!("{name} does not begin with a //! line that says what it is for"));
            }
            let lines = text.lines().count();
            if lines > FILE_LINES_MAX {
                faults.push(format!("{name} has {lines} lines: what are its rooms?"));
            }
            for (number, line) in text.lines().enumerate() {
                if line.contains(concat!("#[", "ignore")) {
                    faults.push(format!("{name}:{} a test that never runs holds nothing", number + 1));
                }
            }
            let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if matches!(stem, "util" | "utils" | "helpers" | "common" | "misc") {
                faults.push(format!("{name}: name it after what it does"));
            }
        }
        let machine = [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/home", "/")];
        for (number, line) in text.lines().enumerate() {
            if !name.ends_with(".lock") && machine.iter().any(|path| line.contains(path)) {
                faults.push(format!("{name}:{} has a path of one machine", number + 1));
            }
        }
    }
    Ok(faults)
}

/// SQL stands in stores and migrations alone.
fn sql_in_stores(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    for file in tracked(root)? {
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        let is_context = CONTEXTS.iter().any(|context| name.starts_with(&format!("crates/{context}/src/")));
        if !is_context || !name.ends_with(".rs") || name.contains("/store") {
            continue;
        }
        let text = std::fs::read_to_string(&file)?;
        for (number, line) in text.lines().enumerate() {
            if line.contains("sql(\"") || line.contains("sql(r#\"") {
                faults.push(format!("{name}:{} has SQL outside the store", number + 1));
            }
        }
    }
    Ok(faults)
}

fn lockfile(root: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(root.join("Cargo.lock"))?;
    let packages = text.lines().filter(|line| *line == "[[package]]").count();
    let too_many = packages > PACKAGES_MAX;
    Ok(too_many.then(|| format!("Cargo.lock has {packages} packages, more than {PACKAGES_MAX}")).into_iter().collect())
}

/// The files that Git tracks.
fn tracked(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = rig::engine::run(Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]))?;
    Ok(listed.split('\0').filter(|name| !name.is_empty()).map(|name| root.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_do_not_know_one_another_and_the_first_layer_knows_no_api() {
        assert!(edge_allowed("delivery", "api") && edge_allowed("delivery", "base"));
        assert!(!edge_allowed("delivery", "registry"));
        assert!(!edge_allowed("engine", "api"));
        assert!(!edge_allowed("web", "delivery"));
        assert!(edge_allowed("longshore", "delivery"));
        assert!(!edge_allowed("longshore", "rig"));
        assert!(!edge_allowed("oci", "base"));
    }
}
