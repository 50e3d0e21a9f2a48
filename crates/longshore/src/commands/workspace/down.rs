//! `longshore down`.

use ::workspace::control::{self, Order};
use ::workspace::progress::Voice;
use ::workspace::supervisor::{Goal, Supervisor};
use base::folder::FolderError;

use super::{Place, in_use, show};
use crate::reach::Global;

/// Stop and remove everything of the workspace but its volumes.
#[derive(clap::Args)]
pub(in crate::commands) struct Args {
    #[command(flatten)]
    place: Place,
}

pub(in crate::commands) async fn run(global: &Global, args: Args) -> api::Result<()> {
    let workspace = args.place.open(global)?;
    let state = workspace.known_state()?;
    let _lock = match workspace.store().lock() {
        Ok(lock) => lock,
        Err(error @ FolderError::InUse { .. }) => {
            // Whoever attends to it takes it down, and ends.
            return match control::send(&workspace.store().socket(), &Order::Down).await? {
                Some(()) => Ok(()),
                None => Err(in_use(error)),
            };
        }
        Err(error) => return Err(in_use(error)),
    };
    let (voice, told) = Voice::new();
    let shown = show::show(told, &format!("taking {} down", state.workspace));
    let images = workspace.images(&state.workspace, voice.clone())?;
    let engine = workspace.engine().clone();
    let begun = Supervisor::begin(engine, images, &state.workspace, voice).await;
    let mut supervisor = begun.map_err(::workspace::Error::from)?;
    supervisor.aim(Goal::Gone);
    supervisor.settle().await?;
    let result = super::up::all_right(&supervisor);
    drop(supervisor);
    show::finish(shown).await;
    result
}
