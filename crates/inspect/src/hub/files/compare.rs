//! The layers of two images side by side, path by path.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use api::inspect::{FileDifference, FileKind, FileState, FilesDifference};

use super::list::{Event, Run, State, runs};
use crate::archive::escaped;
use crate::hub::packed::Damaged;
use crate::tar::Kind;

/// Entries of both images together that are gone through.
const ENTRIES_MAX: u64 = 20_000_000;

/// Why two images are not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failed {
    #[error("what was kept of a layer's files cannot be read: {0}")]
    Damaged(#[from] Damaged),
    #[error("the images have more files than are compared")]
    TooMany,
}

/// Whose a layer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Both,
    First,
    Second,
}

/// One run of a layer.
struct Stream<'k> {
    whose: Whose,
    layer: usize,
    run: Run<'k>,
    /// What it says of the path at which it is.
    event: Option<Event>,
}

/// What one image has at the path that is looked at, and above it.
#[derive(Default)]
struct Side {
    /// Directories, outermost first, and the lowest layer of which anything is left in each.
    floors: Vec<(Vec<u8>, usize)>,
}

/// How the second image differs from the first: both have the layers of `below`, then their own; each the lowest first.
/// At most `limit` differences are named.
pub(super) fn compare(
    below: &[Arc<Vec<u8>>],
    first: &[Arc<Vec<u8>>],
    second: &[Arc<Vec<u8>>],
    limit: usize,
) -> Result<FilesDifference, Failed> {
    let mut streams = Vec::new();
    for (whose, layers, from) in
        [(Whose::Both, below, 0), (Whose::First, first, below.len()), (Whose::Second, second, below.len())]
    {
        for (at, kept) in layers.iter().enumerate() {
            let runs = runs(kept)?;
            streams.extend(runs.into_iter().map(|run| Stream { whose, layer: from + at, run, event: None }));
        }
    }
    let mut heads = BinaryHeap::new();
    for (at, stream) in streams.iter_mut().enumerate() {
        if let Some((path, event)) = stream.run.next()? {
            stream.event = Some(event);
            heads.push(Reverse((path, at)));
        }
    }
    let (mut before, mut after) = (Side::default(), Side::default());
    let mut difference = FilesDifference::default();
    let mut entries = 0_u64;
    while let Some(Reverse((path, at))) = heads.pop() {
        let mut said: Vec<(usize, Whose, Event)> = Vec::new();
        let mut next = Some(at);
        while let Some(at) = next {
            if let Some(stream) = streams.get_mut(at) {
                entries += 1;
                if entries > ENTRIES_MAX {
                    return Err(Failed::TooMany);
                }
                said.extend(stream.event.take().map(|event| (stream.layer, stream.whose, event)));
                if let Some((path, event)) = stream.run.next()? {
                    stream.event = Some(event);
                    heads.push(Reverse((path, at)));
                }
            }
            next = match heads.peek() {
                Some(Reverse((there, _))) if *there == path => heads.pop().map(|Reverse((_, at))| at),
                _ => None,
            };
        }
        // Stable: runs of a layer stay in their order.
        said.sort_by_key(|(layer, ..)| *layer);
        let one = before.at(&path, said.iter().filter(|(_, whose, _)| *whose != Whose::Second));
        let other = after.at(&path, said.iter().filter(|(_, whose, _)| *whose != Whose::First));
        if one == other || !is_telling(one, other) {
            continue;
        }
        match (one, other) {
            (None, _) => difference.added += 1,
            (_, None) => difference.removed += 1,
            _ => difference.changed += 1,
        }
        if difference.items.len() < limit {
            let path: Vec<u8> = path.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect();
            difference.items.push(FileDifference {
                path: format!("/{}", escaped(&path)),
                before: one.map(state),
                after: other.map(state),
            });
        }
    }
    Ok(difference)
}

/// A directory that comes or goes is told by what is in it.
fn is_telling(before: Option<&State>, after: Option<&State>) -> bool {
    let is_directory = |state: Option<&State>| state.is_none_or(|state| state.kind == Kind::Directory);
    !(is_directory(before) && is_directory(after)) || (before.is_some() && after.is_some())
}

impl Side {
    /// What there is at a path, of what layers from the lowest say of it. Paths come in their order.
    fn at<'s>(&mut self, path: &[u8], said: impl Iterator<Item = &'s (usize, Whose, Event)>) -> Option<&'s State> {
        let lies_in =
            |folder: &[u8]| folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.first() == Some(&0));
        while self.floors.last().is_some_and(|(folder, _)| !lies_in(folder)) {
            self.floors.pop();
        }
        let floor = self.floors.last().map_or(0, |(_, floor)| *floor);
        let (mut there, mut inside) = (None, floor);
        let mut said = said.filter(|(layer, ..)| *layer >= floor).peekable();
        while let Some((layer, _, event)) = said.next() {
            let (mut node, mut is_hidden) = (None, false);
            let mut take = |event: &'s Event| match event {
                // Within a layer the last one counts.
                Event::Node(state) => node = Some(state),
                Event::Whiteout => is_hidden = true,
                Event::Opaque => inside = inside.max(*layer),
            };
            take(event);
            while let Some((_, _, event)) = said.next_if(|(next, ..)| next == layer) {
                take(event);
            }
            match node {
                Some(state) => {
                    if state.kind != Kind::Directory {
                        inside = inside.max(*layer);
                    }
                    there = Some(state);
                }
                None if is_hidden => {
                    inside = inside.max(*layer);
                    there = None;
                }
                None => {}
            }
        }
        if inside > floor {
            self.floors.push((path.to_vec(), inside));
        }
        there
    }
}

fn state(state: &State) -> FileState {
    let is_link = matches!(state.kind, Kind::HardLink | Kind::Symlink);
    FileState {
        kind: match state.kind {
            Kind::File | Kind::Contiguous => FileKind::File,
            Kind::HardLink => FileKind::HardLink,
            Kind::Symlink => FileKind::Symlink,
            Kind::Directory => FileKind::Directory,
            Kind::CharacterDevice | Kind::BlockDevice => FileKind::Device,
            Kind::Fifo => FileKind::Fifo,
        },
        size: state.size,
        mode: u32::from(state.mode),
        uid: state.uid,
        gid: state.gid,
        link: is_link.then(|| escaped(&state.link)),
        content: state.hash.map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}
