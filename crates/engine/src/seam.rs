//! The seam between Longshore and a container engine.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::build::{BuildError, BuildEvent, BuildOptions, TarBody};
use crate::{
    Container, ContainerStats, ContainerSummary, EngineError, EngineEvent, EngineVersion, ExecOptions, Image, Labels,
    LogLine, LogOptions, Network, NetworkSpec, Place, Progress, PullProgress, Session, SessionInput, Volume,
    VolumeSpec, WantedContainer,
};

/// What Longshore asks of one host's container engine.
///
/// Names and ids are interchangeable wherever an object is named. Lists take labels of which all must match. A removal or a
/// stop of what is already gone or stopped succeeds, so that any step can be done twice.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Who answers; fails when nobody does.
    async fn version(&self) -> Result<EngineVersion, EngineError>;
    /// Where it runs, seen from here. Asked of the engine once, and remembered.
    async fn place(&self) -> Result<Place, EngineError>;

    /// Pulls `host/repo@sha256:…` (or `:tag`).
    async fn image_pull(&self, reference: &str, progress: Progress<PullProgress>) -> Result<(), EngineError>;
    /// Pushes `host/repo:tag` and returns the digest of the manifest that the registry took, `sha256:…`.
    async fn image_push(&self, reference: &str, progress: Progress<PullProgress>) -> Result<String, EngineError>;
    /// Takes an image from a tar as `docker save` writes it (`manifest.json` at its root; engines before 25 read no other
    /// layout) and returns its id, `sha256:…`. Of several images in it, the first.
    async fn image_load(&self, archive: TarBody, progress: Progress<PullProgress>) -> Result<String, EngineError>;
    /// Gives the image another reference `host/repo:tag`.
    async fn image_tag(&self, image: &str, reference: &str) -> Result<(), EngineError>;
    /// The image, if the engine has it.
    async fn image_inspect(&self, image: &str) -> Result<Option<Image>, EngineError>;
    /// The images that carry all of these labels.
    async fn image_list(&self, labels: &Labels) -> Result<Vec<Image>, EngineError>;
    /// Removes the reference, and the image with its last one. One that a container uses is a conflict.
    async fn image_remove(&self, image: &str) -> Result<(), EngineError>;
    /// Builds an image from a tar of its context and returns its id, `sha256:…`. Dropping the future cancels the build;
    /// it has no time limit of its own.
    async fn image_build(
        &self,
        options: &BuildOptions,
        context: TarBody,
        progress: Progress<BuildEvent>,
    ) -> Result<String, BuildError>;

    /// Creates the container, attached to all its networks but not started, and returns its id. Half of it is never left.
    async fn container_create(&self, wanted: &WantedContainer) -> Result<String, EngineError>;
    /// Starts it.
    async fn container_start(&self, container: &str) -> Result<(), EngineError>;
    /// Sends its stop signal and kills it after `grace`. Returns when it has ended.
    async fn container_stop(&self, container: &str, grace: Duration) -> Result<(), EngineError>;
    /// Stops it as [`Engine::container_stop`] does, if it runs, and starts it again.
    async fn container_restart(&self, container: &str, grace: Duration) -> Result<(), EngineError>;
    /// Sends a signal, such as `SIGHUP`.
    async fn container_kill(&self, container: &str, signal: &str) -> Result<(), EngineError>;
    /// Kills and removes it with its anonymous volumes; named volumes stay.
    async fn container_remove(&self, container: &str) -> Result<(), EngineError>;
    /// The container, if the engine has it.
    async fn container_inspect(&self, container: &str) -> Result<Option<Container>, EngineError>;
    /// The containers, running or not, that carry all of these labels, by name.
    async fn container_list(&self, labels: &Labels) -> Result<Vec<Container>, EngineError>;
    /// The same containers with what one call of the engine says of them all, however many there are.
    async fn container_summaries(&self, labels: &Labels) -> Result<Vec<ContainerSummary>, EngineError>;
    /// What it wrote, oldest first within each stream.
    async fn container_logs(
        &self,
        container: &str,
        options: LogOptions,
    ) -> Result<BoxStream<'static, Result<LogLine, EngineError>>, EngineError>;
    /// Waits until it does not run and returns its exit code.
    async fn container_wait(&self, container: &str) -> Result<i64, EngineError>;
    /// What it takes of CPU and memory now.
    async fn container_stats(&self, container: &str) -> Result<ContainerStats, EngineError>;
    /// Runs a command in it while it runs. A program that is not there ends with 126 or 127, and the engine's words are its
    /// output.
    async fn container_exec(
        &self,
        container: &str,
        options: &ExecOptions,
        input: SessionInput,
    ) -> Result<Session, EngineError>;
    /// Connects to its first process; before its start, to miss nothing of what it writes. It takes input when it was
    /// created to.
    async fn container_attach(&self, container: &str, input: SessionInput) -> Result<Session, EngineError>;
    /// Unpacks a tar at this folder in it, whether it runs or not. What is there under a name of the tar is replaced;
    /// folders stay and get the tar's entries. In-memory file systems of the container are not reached.
    async fn container_archive_put(&self, container: &str, folder: &str, archive: TarBody) -> Result<(), EngineError>;
    /// A tar of the file or folder at this path in it, whether it runs or not; the names in it begin with the path's last
    /// part.
    async fn container_archive_get(&self, container: &str, path: &str) -> Result<TarBody, EngineError>;

    /// Creates a network, a bridge unless a workspace says otherwise, and returns its id. A name or subnet that is taken
    /// is a conflict. If somebody made one of that name with the same labels at the same time, one is left, and its id
    /// is returned.
    async fn network_create(&self, spec: &NetworkSpec) -> Result<String, EngineError>;
    /// The network, if the engine has it.
    async fn network_inspect(&self, network: &str) -> Result<Option<Network>, EngineError>;
    /// The networks that carry all of these labels, by name. Where the engine has several of one name, those that no
    /// container is on are removed, and the oldest stays.
    async fn network_list(&self, labels: &Labels) -> Result<Vec<Network>, EngineError>;
    /// Removes it. One that containers are on is a conflict.
    async fn network_remove(&self, network: &str) -> Result<(), EngineError>;
    /// Puts a container on it under these further names.
    async fn network_connect(&self, network: &str, container: &str, aliases: &[String]) -> Result<(), EngineError>;

    /// Creates a volume, whether it is external or not. One of that name that is there already stays as it is.
    async fn volume_create(&self, spec: &VolumeSpec) -> Result<(), EngineError>;
    /// The volume, if the engine has it.
    async fn volume_inspect(&self, name: &str) -> Result<Option<Volume>, EngineError>;
    /// The volumes that carry all of these labels, by name.
    async fn volume_list(&self, labels: &Labels) -> Result<Vec<Volume>, EngineError>;
    /// Removes it with all that is in it. One that a container uses is a conflict.
    async fn volume_remove(&self, name: &str) -> Result<(), EngineError>;

    /// What happens to containers that carry all of these labels, from now on.
    async fn events(
        &self,
        labels: &Labels,
    ) -> Result<BoxStream<'static, Result<EngineEvent, EngineError>>, EngineError>;
}
