//! `longshore volume`.

use std::path::PathBuf;

use ::workspace::progress::Voice;
use ::workspace::supervisor::{Goal, Supervisor};
use ::workspace::volumes;
use ::workspace::workspace::Sources;
use base::folder::FolderError;

use super::{Place, in_use, show};
use crate::output;
use crate::reach::Global;

/// Save and restore what is in volumes.
#[derive(clap::Subcommand)]
pub(in crate::commands) enum Command {
    Save(SaveArgs),
    Restore(RestoreArgs),
}

/// Save what is in a volume; services that use it are stopped meanwhile.
#[derive(clap::Args)]
pub(in crate::commands) struct SaveArgs {
    /// The volume, as the project calls it
    name: String,
    /// A tar archive to write [default: NAME.tar in the workspace's folder]
    archive: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// Put back what was saved, in place of all that is in the volume; services that use it are stopped meanwhile.
#[derive(clap::Args)]
pub(in crate::commands) struct RestoreArgs {
    /// The volume, as the project calls it
    name: String,
    /// A tar archive to read [default: NAME.tar in the workspace's folder]
    archive: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

pub(in crate::commands) async fn run(global: &Global, command: Command) -> api::Result<()> {
    match command {
        Command::Save(args) => go(global, args.place, &args.name, args.archive, true).await,
        Command::Restore(args) => go(global, args.place, &args.name, args.archive, false).await,
    }
}

async fn go(global: &Global, place: Place, name: &str, file: Option<PathBuf>, save: bool) -> api::Result<()> {
    let workspace = place.open(global)?;
    let _lock = workspace.store().lock().map_err(|error| match error {
        FolderError::InUse { .. } => {
            in_use(error).hint("End `longshore up` with Ctrl-C, or use `longshore up --detach`.")
        }
        error => in_use(error),
    })?;
    let prepared = workspace.prepare(workspace.known_state()?.clone(), Sources::All).await?;
    if save {
        volumes::all_whole(&prepared)?;
    }
    let file = file.unwrap_or_else(|| workspace.store().volume_file(name));
    let (voice, told) = Voice::new();
    let _shown = show::show(told, &format!("{} {name}", if save { "saving" } else { "restoring" }));
    let images = workspace.images(&prepared.state.workspace, voice.clone())?;
    let engine = workspace.engine().clone();
    let volume = volumes::find(&prepared, name)?;
    // The image must be there, though nothing of the service may run.
    if let Some(service) = prepared.wanted.services.get(&volume.service) {
        images.ensure(&volume.service, service).await?;
    }
    let running = volumes::stop_users(engine.as_ref(), &prepared.observed, &prepared.wanted, &volume).await?;
    let done = match save {
        true => volumes::save(engine.as_ref(), &volume, &file).await,
        false => volumes::restore(engine.as_ref(), &volume, &file).await,
    };
    // What mounts a volume that is not whole stays down.
    let is_broken = done.is_err() && volumes::is_broken(engine.as_ref(), &volume).await?;
    if running && !is_broken {
        let begun = Supervisor::begin(engine, images, &prepared.state.workspace, voice).await;
        let mut supervisor = begun.map_err(::workspace::Error::from)?;
        supervisor.aim(Goal::Run(prepared.wanted.clone()));
        supervisor.settle().await?;
        super::up::all_right(&supervisor)?;
    }
    let bytes = done?;
    let (size, file) = (output::bytes(bytes), file.display());
    output::note(&match save {
        true => format!("{name} is saved in {file} ({size})."),
        false => format!("{name} is as in {file} ({size})."),
    });
    Ok(())
}
