//! An app as a commit describes it: its Compose files, read from Git and resolved for each environment.

use std::collections::{BTreeMap, BTreeSet};

use api::delivery::Definitions;
use api::pipeline::BuildRequest;
use api::{AppName, EnvName, ServiceName};
use compose::{Project, Source, Stage};

use crate::error::Error;
use crate::git::{Commit, Entry, EntryKind, Mirror};
use crate::model::{app_name, commit_short, nearest, overlay_check};

/// The longest Compose file, in bytes.
const COMPOSE_BYTES_MAX: u64 = 1024 * 1024;
/// Names that Compose looks for, in its order, and the stem of their overlays.
const COMPOSE_FILES: [(&str, &str); 4] = [
    ("compose.yaml", "compose"),
    ("compose.yml", "compose"),
    ("docker-compose.yml", "docker-compose"),
    ("docker-compose.yaml", "docker-compose"),
];
/// Overlays for the laptop alone.
const LAPTOP_OVERLAYS: [&str; 2] = ["override", "dev"];

/// One service that is to become a release.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WantedService {
    /// Its name.
    pub(crate) name: ServiceName,
    /// What it is to be, everywhere.
    pub(crate) definitions: Definitions,
    /// Whether others await its end.
    pub(crate) job: bool,
}

/// An app at a commit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct App {
    /// Its name.
    pub(crate) name: AppName,
    /// The services that were asked for, by name.
    pub(crate) services: Vec<WantedService>,
    /// What is worth saying though it stops nothing.
    pub(crate) warnings: Vec<String>,
}

/// Reads an app from a commit. `folder` is where its Compose file is, relative to the repository's root.
///
/// # Errors
/// There is no Compose file, one of them is wrong, or the project cannot become releases.
pub(crate) async fn app_read(
    mirror: &Mirror,
    commit: &Commit,
    folder: &str,
    request: &BuildRequest,
) -> Result<App, Error> {
    let entries = mirror.list_names(&commit.id, folder).await?;
    let Some(files) = compose_files(&entries)? else {
        let place = if folder.is_empty() { "the root".to_owned() } else { folder.to_owned() };
        return Err(Error::ComposeMissing { folder: place, commit: commit_short(&commit.id).to_owned() });
    };
    let shown = |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
    let base_name = shown(&files.base.path);
    let base_text = text(mirror, &files.base).await?;
    let base_source = Source { name: &base_name, text: &base_text };
    let mut warnings = Vec::new();
    let whole = load(&[base_source], &mut warnings)?;
    let mut overlays = BTreeMap::new();
    for (env, entry) in &files.overlays {
        let (name, text) = (shown(&entry.path), text(mirror, entry).await?);
        let overlay = load(&[base_source, Source { name: &name, text: &text }], &mut warnings)?;
        overlay_check(&whole, &base_name, &overlay, &name)?;
        overlays.insert(env.clone(), overlay);
    }
    if entries.iter().any(|entry| entry.path == ".env") {
        warnings.push(format!("{} is not read: variables come from defaults in {base_name} alone", shown(".env")));
    }
    let name = name_of(&whole, request, &base_name)?;
    let services = services(&whole, &overlays, &name, request, &base_name)?;
    Ok(App { name, services, warnings })
}

fn load(sources: &[Source<'_>], warnings: &mut Vec<String>) -> Result<Project, Error> {
    let loaded = compose::load(sources, Stage::Release, &|_name: &str| None)?;
    for warning in loaded.warnings.iter().map(ToString::to_string) {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    Ok(loaded.project)
}

async fn text(mirror: &Mirror, entry: &Entry) -> Result<String, Error> {
    let bytes = mirror.blob(entry, COMPOSE_BYTES_MAX).await?;
    String::from_utf8(bytes).map_err(|_| Error::ProjectUnsuitable {
        what: format!("{} is not UTF-8", entry.path),
        hint: "save it as UTF-8",
    })
}

fn name_of(project: &Project, request: &BuildRequest, file: &str) -> Result<AppName, Error> {
    let name = match &project.name {
        Some(name) => name.clone(),
        None => app_name(&request.repository, &request.folder),
    };
    name.parse().map_err(|error: api::InvalidName| Error::ProjectUnsuitable {
        what: format!("{file}: {error}"),
        hint: "give the app a name with a top-level `name:`",
    })
}

fn services(
    whole: &Project,
    overlays: &BTreeMap<EnvName, Project>,
    app: &AppName,
    request: &BuildRequest,
    file: &str,
) -> Result<Vec<WantedService>, Error> {
    let selected = whole.select(&BTreeSet::new()).map_err(|error| Error::ProjectUnsuitable {
        what: format!("{file}: {error}"),
        hint: "services with profiles are for the laptop; what others await must have none",
    })?;
    for wanted in &request.services {
        if !selected.services.contains_key(wanted.as_str()) {
            let near = nearest(wanted.as_str(), selected.services.keys().map(String::as_str), 1);
            let known = selected.services.keys().filter(|name| !near.contains(name)).cloned();
            return Err(Error::ServiceUnknown {
                app: app.to_string(),
                service: wanted.to_string(),
                known: near.iter().cloned().chain(known).collect(),
            });
        }
    }
    let jobs = selected.jobs();
    let mut services = Vec::new();
    for key in selected.services.keys() {
        let name: ServiceName = key.parse().map_err(|error: api::InvalidName| Error::ProjectUnsuitable {
            what: format!("{file}: {error}"),
            hint: "rename the service",
        })?;
        if !request.services.is_empty() && !request.services.contains(&name) {
            continue;
        }
        let Some(base) = selected.definition(key) else { continue };
        let overlays =
            overlays.iter().filter_map(|(env, overlay)| Some((env.clone(), overlay.definition(key)?))).collect();
        services.push(WantedService { name, definitions: Definitions { base, overlays }, job: jobs.contains(key) });
    }
    if services.is_empty() {
        return Err(Error::ProjectUnsuitable {
            what: format!("{file} has no service that is switched on without a profile"),
            hint: "take the `profiles` of what environments run away",
        });
    }
    Ok(services)
}

#[derive(Debug, PartialEq)]
struct ComposeFiles {
    base: Entry,
    overlays: BTreeMap<EnvName, Entry>,
}

/// Finds `compose.yaml` and its overlays in a folder's listing.
fn compose_files(entries: &[Entry]) -> Result<Option<ComposeFiles>, Error> {
    let is_file = |entry: &&Entry| matches!(entry.kind, EntryKind::File | EntryKind::Executable);
    let find = |name: &str| entries.iter().filter(is_file).find(|entry| entry.path == name);
    let Some((base, stem)) = COMPOSE_FILES.iter().find_map(|(name, stem)| Some((find(name)?, *stem))) else {
        return Ok(None);
    };
    let mut overlays: BTreeMap<EnvName, Entry> = BTreeMap::new();
    for entry in entries.iter().filter(is_file) {
        let middle = entry.path.strip_prefix(stem).and_then(|rest| rest.strip_prefix('.'));
        let env = middle.and_then(|rest| rest.strip_suffix(".yaml").or_else(|| rest.strip_suffix(".yml")));
        let Some(env) = env.filter(|env| !LAPTOP_OVERLAYS.contains(env)) else { continue };
        let env: EnvName = env.parse().map_err(|error: api::InvalidName| Error::ProjectUnsuitable {
            what: format!("{}: {error}", entry.path),
            hint: "an overlay is named compose.ENVIRONMENT.yaml",
        })?;
        if let Some(other) = overlays.insert(env, entry.clone()) {
            return Err(Error::ProjectUnsuitable {
                what: format!("{} and {} are overlays of one environment", other.path, entry.path),
                hint: "keep one of them",
            });
        }
    }
    Ok(Some(ComposeFiles { base: base.clone(), overlays }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Result<Option<(String, Vec<String>)>, Error> {
        let entry =
            |path: &&str| Entry { path: (*path).to_owned(), kind: EntryKind::File, id: String::new(), size_bytes: 0 };
        let entries: Vec<Entry> = names.iter().map(entry).collect();
        let found = compose_files(&entries)?;
        Ok(found.map(|found| (found.base.path, found.overlays.keys().map(ToString::to_string).collect())))
    }

    #[test]
    fn overlays_stand_beside_the_base_and_the_laptops_own_are_left_alone() {
        let names = [
            "compose.dev.yaml",
            "compose.override.yaml",
            "compose.prod.yaml",
            "compose.qa.yml",
            "compose.yaml",
            "docker-compose.yml",
            "docker-compose.x.yml",
        ];
        assert_eq!(files(&names).unwrap(), Some(("compose.yaml".into(), vec!["prod".into(), "qa".into()])));
        let old = ["docker-compose.prod.yml", "docker-compose.yml", "compose.qa.yaml"];
        assert_eq!(files(&old).unwrap(), Some(("docker-compose.yml".into(), vec!["prod".into()])));
        assert_eq!(files(&["README.md"]).unwrap(), None);
        assert!(files(&["compose.yaml", "compose.qa.yaml", "compose.qa.yml"]).is_err());
        assert!(files(&["compose.yaml", "compose.QA.yaml"]).is_err());
    }
}
