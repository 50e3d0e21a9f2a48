//! Volumes of one host.

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptions};

use super::{Connection, failed, label_filters};
use crate::{EngineError, ErrorKind, Labels, Volume, VolumeSpec};

pub(super) async fn create(docker: &Connection, spec: &VolumeSpec) -> Result<(), EngineError> {
    let request = VolumeCreateRequest {
        name: Some(spec.name.clone()),
        driver: Some(spec.driver.clone()),
        driver_opts: Some(spec.driver_opts.clone().into_iter().collect()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        ..VolumeCreateRequest::default()
    };
    let what = format!("cannot create volume {}", spec.name);
    docker.client.create_volume(request).await.map(|_volume| ()).map_err(|error| failed(&what, error))
}

pub(super) async fn inspect(docker: &Connection, name: &str) -> Result<Option<Volume>, EngineError> {
    match docker.client.inspect_volume(name).await {
        Ok(volume) => Ok(Some(volume_of(volume))),
        Err(error) => {
            let error = failed(&format!("cannot look at volume {name}"), error);
            if error.kind == ErrorKind::NotFound { Ok(None) } else { Err(error) }
        }
    }
}

pub(super) async fn list(docker: &Connection, labels: &Labels) -> Result<Vec<Volume>, EngineError> {
    let options = ListVolumesOptionsBuilder::default().filters(&label_filters(labels)).build();
    let found =
        docker.client.list_volumes(Some(options)).await.map_err(|error| failed("cannot list the volumes", error))?;
    let mut volumes: Vec<Volume> = found.volumes.unwrap_or_default().into_iter().map(volume_of).collect();
    volumes.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(volumes)
}

pub(super) async fn remove(docker: &Connection, name: &str) -> Result<(), EngineError> {
    match docker.client.remove_volume(name, None::<RemoveVolumeOptions>).await {
        Ok(()) => Ok(()),
        Err(error) => {
            let error = failed(&format!("cannot remove volume {name}"), error);
            if error.kind == ErrorKind::NotFound { Ok(()) } else { Err(error) }
        }
    }
}

fn volume_of(volume: bollard::models::Volume) -> Volume {
    Volume { name: volume.name, driver: volume.driver, labels: volume.labels.into_iter().collect() }
}
