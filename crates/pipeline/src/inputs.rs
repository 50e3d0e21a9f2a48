//! Finds out what one service would be built from, without building it: its context, its Dockerfile, its bases.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{Engine, ErrorKind, Progress};
use oci::{Digest, Reference, Tag};
use tokio::sync::Mutex;

use crate::context::select;
use crate::dockerfile::{Platform, bases};
use crate::error::Error;
use crate::git::{Commit, Entry, EntryKind, Mirror};
use crate::model::{Before, Inputs, changed_paths, context_digest, inputs_digest, path_join};
use crate::store::BuiltImage;
use engine::build::Ignore;

/// The longest Dockerfile or `.dockerignore`, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a service is built from.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    /// The context's folder in the repository; empty is its root.
    pub(crate) context: String,
    /// What is in the context.
    pub(crate) entries: Arc<Vec<Entry>>,
    /// The Dockerfile in the context.
    pub(crate) dockerfile: String,
    /// Stage to build.
    pub(crate) target: Option<String>,
    /// Build arguments.
    pub(crate) args: BTreeMap<String, String>,
    /// Labels of the image.
    pub(crate) labels: BTreeMap<String, String>,
    /// Network of the RUN steps, where the Compose file names one.
    pub(crate) network: Option<String>,
    /// The references that it is built upon, and the ids the engine has under them.
    pub(crate) bases: BTreeMap<String, String>,
    /// All inputs by name.
    pub(crate) inputs: Inputs,
    /// Digest over them.
    pub(crate) inputs_digest: Digest,
}

/// Plans the builds of one run: what several services share is looked up once.
pub(crate) struct Planner<'a> {
    engine: &'a dyn Engine,
    mirror: &'a Mirror,
    commit: &'a Commit,
    folder: &'a str,
    platform: Platform,
    listings: BTreeMap<String, Vec<Entry>>,
    bases: Mutex<BTreeMap<String, String>>,
}

impl<'a> Planner<'a> {
    /// For the services of the Compose file in `folder` at `commit`, built for `platform`.
    pub(crate) fn new(
        engine: &'a dyn Engine,
        mirror: &'a Mirror,
        commit: &'a Commit,
        folder: &'a str,
        platform: Platform,
    ) -> Self {
        Self { engine, mirror, commit, folder, platform, listings: BTreeMap::new(), bases: Mutex::new(BTreeMap::new()) }
    }

    /// What a service with this `build:` would be built from.
    ///
    /// # Errors
    /// The context, its `.dockerignore` or its Dockerfile cannot be used, or a base cannot be had.
    pub(crate) async fn plan(&mut self, service: &str, build: &compose::model::Build) -> Result<Planned, Error> {
        let invalid =
            |why: String, hint: &'static str| Error::ContextInvalid { service: service.to_owned(), why, hint };
        let Some(context) = path_join(self.folder, &build.context) else {
            return Err(invalid(
                format!("{:?} is outside of the repository", build.context),
                "a build sees the commit and nothing else of the hub's machine",
            ));
        };
        let given = build.dockerfile.as_deref().unwrap_or("Dockerfile");
        let Some(dockerfile) = path_join("", given) else {
            return Err(invalid(
                format!("its Dockerfile {given:?} is outside of the context {context:?}"),
                "move the Dockerfile into the context, or make the context larger",
            ));
        };
        if !self.listings.contains_key(&context) {
            let listing = self.mirror.list(&self.commit.id, &context).await?;
            self.listings.insert(context.clone(), listing);
        }
        let listing = self.listings.get(&context).cloned().unwrap_or_default();
        let Some(found) = listing.iter().find(|entry| entry.path == dockerfile) else {
            return Err(invalid(
                format!("there is no {dockerfile} in {}", shown(&context)),
                "commit it, or name the right one with `build.dockerfile`",
            ));
        };
        if !matches!(found.kind, EntryKind::File | EntryKind::Executable) {
            return Err(invalid(format!("{dockerfile} in {} is not a plain file", shown(&context)), "commit a file"));
        }
        let bytes = self.mirror.blob(found, FILE_BYTES_MAX).await?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let entries = context_entries(self.mirror, listing, &context, &dockerfile).await?;
        let entries = entries.map_err(|path| {
            invalid(
                format!("{path} is a Git submodule, and submodules are not fetched"),
                "leave it out with .dockerignore, or commit its files",
            )
        })?;
        let references = bases(&text, &build.args, build.target.as_deref(), &self.platform);
        let mut ids = BTreeMap::new();
        for reference in references {
            let id = self.base_id(service, &reference).await?;
            ids.insert(reference, id);
        }
        let mut inputs = Inputs::from([
            ("context".to_owned(), context_digest(&entries).to_string()),
            ("dockerfile".to_owned(), Digest::sha256_of(&bytes).to_string()),
            ("dockerfile-path".to_owned(), dockerfile.clone()),
            ("platform".to_owned(), format!("{}/{}", self.platform.os, self.platform.architecture)),
        ]);
        inputs.extend(build.target.clone().map(|target| ("target".to_owned(), target)));
        for (prefix, values) in [("arg", &build.args), ("label", &build.labels), ("base", &ids)] {
            inputs.extend(values.iter().map(|(name, value)| (format!("{prefix}:{name}"), value.clone())));
        }
        Ok(Planned {
            context,
            entries: Arc::new(entries),
            dockerfile,
            target: build.target.clone(),
            args: build.args.clone(),
            labels: build.labels.clone(),
            network: build.network.clone(),
            bases: ids,
            inputs_digest: inputs_digest(&inputs),
            inputs,
        })
    }

    /// How an earlier build of a service compares, for the reason.
    ///
    /// # Errors
    /// Git fails.
    pub(crate) async fn before(&self, image: &BuiltImage, repository: &str, now: &Planned) -> Result<Before, Error> {
        let provenance = &image.provenance;
        let inputs = provenance.inputs.clone();
        let is_same = inputs.get("context") == now.inputs.get("context");
        if is_same || provenance.repository != repository || !self.mirror.has(&provenance.commit).await? {
            return Ok(Before { inputs, changed_paths: None });
        }
        let listing = self.mirror.list(&provenance.commit, &image.context).await?;
        let Ok(entries) = context_entries(self.mirror, listing, &image.context, &image.dockerfile).await? else {
            return Ok(Before { inputs, changed_paths: None });
        };
        let changed = changed_paths(&entries, &now.entries, &now.context, &now.dockerfile);
        Ok(Before { inputs, changed_paths: Some(changed) })
    }

    /// The id that the engine has under a reference; pulled when it has none.
    async fn base_id(&self, service: &str, reference: &str) -> Result<String, Error> {
        let mut known = self.bases.lock().await;
        if let Some(id) = known.get(reference) {
            return Ok(id.clone());
        }
        let name = with_tag(reference);
        let missing = |error| Error::BaseMissing {
            service: service.to_owned(),
            base: reference.to_owned(),
            error: Box::new(error),
        };
        let id = match self.engine.image_inspect(&name).await? {
            Some(image) => image.id,
            None => {
                self.engine.image_pull(&name, Progress::none()).await.map_err(|error| match error.kind {
                    ErrorKind::Unreachable => Error::Engine(error),
                    _ => missing(error),
                })?;
                match self.engine.image_inspect(&name).await? {
                    Some(image) => image.id,
                    None => return Err(Error::BaseMoved { service: service.to_owned(), base: reference.to_owned() }),
                }
            }
        };
        known.insert(reference.to_owned(), id.clone());
        Ok(id)
    }
}

/// Whether the engine still has the same images under a build's base references.
///
/// # Errors
/// [`Error::BaseMoved`] names the first that changed.
pub(crate) async fn bases_check(engine: &dyn Engine, service: &str, planned: &Planned) -> Result<(), Error> {
    for (reference, id) in &planned.bases {
        let now = engine.image_inspect(&with_tag(reference)).await?.map(|image| image.id);
        if now.as_ref() != Some(id) {
            return Err(Error::BaseMoved { service: service.to_owned(), base: reference.clone() });
        }
    }
    Ok(())
}

/// The entries of a context after its `.dockerignore`; the inner error is the path of a submodule.
async fn context_entries(
    mirror: &Mirror,
    listing: Vec<Entry>,
    context: &str,
    dockerfile: &str,
) -> Result<Result<Vec<Entry>, String>, Error> {
    // A Dockerfile's own file replaces the common one.
    let names = [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()];
    let is_file = |entry: &&Entry| matches!(entry.kind, EntryKind::File | EntryKind::Executable);
    let file = names.iter().find_map(|name| listing.iter().filter(is_file).find(|entry| entry.path == *name));
    let ignore = match file {
        None => Ignore::default(),
        Some(file) => {
            let bytes = mirror.blob(file, FILE_BYTES_MAX).await?;
            let path = if context.is_empty() { file.path.clone() } else { format!("{context}/{}", file.path) };
            Ignore::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| Error::IgnoreInvalid { path, error })?
        }
    };
    Ok(select(listing, &ignore, dockerfile).map_err(|submodule| submodule.path))
}

/// A reference as the engine is asked for it: without a tag it would pull every tag there is.
pub(crate) fn with_tag(reference: &str) -> String {
    match reference.parse::<Reference>() {
        Ok(parsed) if parsed.tag().is_none() && parsed.digest().is_none() => {
            format!("{reference}:{}", Tag::latest().as_str())
        }
        _ => reference.to_owned(),
    }
}

fn shown(folder: &str) -> &str {
    if folder.is_empty() { "the repository's root" } else { folder }
}
