//! `longshore dev` and `longshore undev`.

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use ::workspace::attend::{bring_up, switch};
use ::workspace::control::{self, Order};
use ::workspace::progress::{Told, Voice};
use ::workspace::supervisor::Supervisor;
use base::folder::FolderError;

use super::{Place, in_use, show};
use crate::output;
use crate::reach::Global;

/// Run a service from the checkout, while the rest keeps running untouched.
#[derive(clap::Args)]
pub(in crate::commands) struct DevArgs {
    /// The service
    service: String,
    /// Publish this port of its container on 127.0.0.1 for a debugger, until `undev`
    #[arg(long, value_name = "PORT")]
    debugger: Option<NonZeroU16>,
    #[command(flatten)]
    place: Place,
}

/// Run a service at the environment's release again, while the rest keeps running untouched.
#[derive(clap::Args)]
pub(in crate::commands) struct UndevArgs {
    /// The service
    service: String,
    #[command(flatten)]
    place: Place,
}

pub(in crate::commands) async fn dev(global: &Global, args: DevArgs) -> api::Result<()> {
    run(global, args.place, args.service, true, args.debugger).await
}

pub(in crate::commands) async fn undev(global: &Global, args: UndevArgs) -> api::Result<()> {
    run(global, args.place, args.service, false, None).await
}

async fn run(
    global: &Global,
    place: Place,
    service: String,
    develop: bool,
    debugger: Option<NonZeroU16>,
) -> api::Result<()> {
    let mut workspace = place.open(global)?;
    workspace.known_state()?;
    let _lock = match workspace.store().lock() {
        Ok(lock) => lock,
        Err(error @ FolderError::InUse { .. }) => {
            // Whoever attends to it does it, so that two do not work against each other.
            let order = Order::Switch { service: service.clone(), develop, debugger };
            return match control::send(&workspace.store().socket(), &order).await? {
                Some(()) => {
                    said(&service, develop, debugger);
                    Ok(())
                }
                None => Err(in_use(error)),
            };
        }
        Err(error) => return Err(in_use(error)),
    };
    let prepared = switch(&mut workspace, &service, develop, debugger, BTreeSet::new()).await?;
    ::workspace::volumes::all_whole(&prepared)?;
    workspace.commit(prepared.state.clone())?;
    let (voice, told) = Voice::new();
    let shown = show::show(told, &format!("switching {service}"));
    prepared.notes.iter().for_each(|note| voice.tell(Told::Note(note.clone())));
    let images = workspace.images(&prepared.state.workspace, voice.clone())?;
    let engine = workspace.engine().clone();
    let observed = prepared.observed.clone();
    let mut supervisor = Supervisor::with(engine, images, &prepared.state.workspace, voice, observed)
        .remembering(workspace.store().hooks_folder());
    bring_up(&mut workspace, &mut supervisor, prepared).await?;
    workspace.store().images_save(&supervisor.images_known())?;
    super::up::all_right(&supervisor)?;
    drop(supervisor);
    show::finish(shown).await;
    said(&service, develop, debugger);
    Ok(())
}

fn said(service: &str, develop: bool, debugger: Option<NonZeroU16>) {
    output::note(&match develop {
        true if debugger.is_some() => {
            format!("{service} runs from source; `longshore ps` says where a debugger connects.")
        }
        true => format!("{service} runs from source."),
        false => format!("{service} is not worked on any more: it is what the environment has, where that has it."),
    });
}
