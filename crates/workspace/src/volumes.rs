//! What is in a volume, saved to a file and put back: through a container that is never started, so that no image needs a
//! tool for it.

use std::path::Path;

use engine::build::TarBody;
use engine::wanted::WantedVolume;
use engine::{ContainerState, Engine, VolumeSpec, WantedContainer};
use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

use crate::error::{Error, ErrorKind};
use crate::fill::marker;
use crate::once::reaching;
use crate::plan::Observed;
use crate::wanted::{Wanted, place_of};
use crate::workspace::Prepared;

/// Bytes read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// A volume, and how it is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Reached {
    /// A service that mounts it.
    pub service: String,
    /// That service's container.
    own: WantedContainer,
    /// How it is mounted there.
    mount: WantedVolume,
    /// How it is created.
    spec: VolumeSpec,
    /// Marks of what is to fill it.
    unfilled: Vec<String>,
}

/// The volume that the project calls so.
///
/// # Errors
/// There is no such volume.
pub fn find(prepared: &Prepared, name: &str) -> Result<Reached, Error> {
    let full = format!("{}_{name}", prepared.state.workspace);
    let wanted = &prepared.wanted;
    let spec = wanted.volumes.iter().find(|spec| spec.name == full || spec.name == name);
    let unknown = || {
        let prefix = format!("{}_", prepared.state.workspace);
        let names: Vec<&str> =
            wanted.volumes.iter().map(|spec| spec.name.strip_prefix(&prefix).unwrap_or(&spec.name)).collect();
        let why = format!("the project has no volume {name}");
        Error::new(ErrorKind::ServiceUnknown, why, format!("It has: {}.", names.join(", ")))
    };
    let spec = spec.ok_or_else(unknown)?;
    for (service, one) in &wanted.services {
        for own in &one.containers {
            if let Some(mount) = own.volumes.iter().find(|mount| mount.volume.as_ref() == Some(&spec.name)) {
                let fills = wanted.fills.values().filter(|fill| fill.volumes.contains(&spec.name));
                let unfilled = fills.map(|fill| fill.marker.name.clone()).collect();
                let (own, mount, spec) = (own.clone(), mount.clone(), spec.clone());
                return Ok(Reached { service: service.clone(), own, mount, spec, unfilled });
            }
        }
    }
    Err(unknown())
}

/// Stops the containers that mount the volume; whether one ran.
///
/// # Errors
/// The engine refuses.
pub async fn stop_users(
    engine: &dyn Engine,
    observed: &Observed,
    wanted: &Wanted,
    volume: &Reached,
) -> Result<bool, Error> {
    let uses = |labels: &engine::Labels| {
        let (service, slot) = place_of(labels)?;
        let container = wanted.services.get(service)?.containers.get(slot.checked_sub(1)?)?;
        let mounts = container.volumes.iter().any(|mount| mount.volume.as_ref() == Some(&volume.spec.name));
        mounts.then_some(container.stop_grace)
    };
    let mut any = false;
    for found in observed.containers.values().filter(|found| found.state == ContainerState::Running) {
        if let Some(grace) = uses(&found.labels) {
            engine.container_stop(&found.id, grace).await?;
            any = true;
        }
    }
    Ok(any)
}

/// Writes what is in the volume to a file, whole or not at all; gives its bytes. The volume's users are stopped.
///
/// # Errors
/// The volume cannot be read, or the file not be written.
pub async fn save(engine: &dyn Engine, volume: &Reached, file: &Path) -> Result<u64, Error> {
    let id = helper(engine, volume).await?;
    let result = async {
        let tar = engine.container_archive_get(&id, &volume.mount.target).await?;
        write(tar, file).await.map_err(|error| unusable(file, &error))
    };
    let result = result.await;
    engine.container_remove(&id).await?;
    result
}

/// What says on the engine, from before a volume is emptied until all is put back, that it is not whole.
const RESTORING: &str = ".restoring";

/// Refuses to go on with a volume that another command did not put back to its end: it may be empty, or have half of what
/// was saved.
///
/// # Errors
/// There is one.
pub fn all_whole(prepared: &Prepared) -> Result<(), Error> {
    let mut volumes = prepared.wanted.volumes.iter().map(|spec| &spec.name);
    let Some(broken) = volumes.find(|name| prepared.observed.volumes.contains(&format!("{name}{RESTORING}"))) else {
        return Ok(());
    };
    let prefix = format!("{}_", prepared.state.workspace);
    let name = broken.strip_prefix(&prefix).unwrap_or(broken);
    let why = format!("{name} was being restored when that broke off: it may be empty, or have half of what was saved");
    let hint = format!(
        "Restore it again: `longshore volume restore {name}`. To begin with a new one: `docker volume rm {broken} {broken}{RESTORING}` after `longshore down`."
    );
    Err(Error::new(ErrorKind::Refused, why, hint))
}

/// Whether a restore of the volume broke off.
///
/// # Errors
/// The engine does not answer.
pub async fn is_broken(engine: &dyn Engine, volume: &Reached) -> Result<bool, Error> {
    Ok(engine.volume_inspect(&restoring(volume).name).await?.is_some())
}

fn restoring(volume: &Reached) -> VolumeSpec {
    marker(&volume.spec, format!("{}{RESTORING}", volume.spec.name))
}

/// Puts a saved archive in place of all that is in the volume; gives its bytes. The volume's users are stopped. Killed or
/// failed on the way it leaves a mark, see [`all_whole`]. What would fill the volume has no more to do afterwards.
///
/// # Errors
/// The file cannot be read; the volume is in use by what is not of the workspace.
pub async fn restore(engine: &dyn Engine, volume: &Reached, file: &Path) -> Result<u64, Error> {
    let opened = tokio::fs::File::open(file).await.map_err(|error| unusable(file, &error))?;
    let bytes = opened.metadata().await.map_err(|error| unusable(file, &error))?.len();
    engine.volume_create(&restoring(volume)).await?;
    // A volume is emptied by making it anew, and what mounts it goes first.
    for found in engine.container_list(&volume.spec.labels).await? {
        if found.volumes.contains(&volume.spec.name) {
            engine.container_remove(&found.id).await?;
        }
    }
    engine.volume_remove(&volume.spec.name).await?;
    engine.volume_create(&volume.spec).await?;
    let id = helper(engine, volume).await?;
    let above = volume.mount.target.rsplit_once('/').map(|(above, _)| above).filter(|above| !above.is_empty());
    let tar = TarBody::from_stream(ReaderStream::with_capacity(opened, PIECE_BYTES));
    let result = engine.container_archive_put(&id, above.unwrap_or("/"), tar).await;
    engine.container_remove(&id).await?;
    result?;
    for unfilled in &volume.unfilled {
        engine.volume_remove(unfilled).await?;
    }
    engine.volume_remove(&restoring(volume).name).await?;
    Ok(bytes)
}

async fn helper(engine: &dyn Engine, volume: &Reached) -> Result<String, Error> {
    let container = reaching(&volume.own, &volume.mount, &format!("{:08x}", std::process::id()));
    Ok(engine.container_create(&container).await?)
}

async fn write(mut tar: TarBody, file: &Path) -> std::io::Result<u64> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        tokio::fs::create_dir_all(folder).await?;
    }
    let unfinished = file.with_extension(format!("tar.{}", std::process::id()));
    let writing = async {
        let mut out = tokio::fs::File::create(&unfinished).await?;
        let mut bytes = 0;
        while let Some(piece) = tar.next().await {
            let piece = piece?;
            out.write_all(&piece).await?;
            bytes += piece.len() as u64;
        }
        out.flush().await?;
        out.sync_all().await?;
        tokio::fs::rename(&unfinished, file).await?;
        Ok(bytes)
    };
    let written = writing.await;
    if written.is_err() {
        // It may never have been made.
        let _absent = tokio::fs::remove_file(&unfinished).await;
    }
    written
}

fn unusable(file: &Path, error: &std::io::Error) -> Error {
    let why = format!("{}: {error}", file.display());
    Error::new(ErrorKind::State, why, "Name another file, or check its rights.")
}
