//! Random operations against a simple model, with restarts and what crashes leave on disk in between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use fanout::piece::PieceSet;
use fanout::store::{FillBegun, Hold, ImageRecord, PieceKept, Source, Stage, Store, StoreError};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::sample::{self, Sample, read_all};

const LENGTHS: [usize; 6] = [0, 700, 65_536, 150_000, 200_000, 300_000];
const BUDGET_BYTES: u64 = 450_000;
/// The blobs of each image.
const IMAGES: [&[usize]; 3] = [&[1, 3], &[1, 0, 2, 4], &[2, 5]];

#[derive(Clone, Copy, Debug)]
enum Flow {
    Right,
    Wrong,
    Breaks,
}

/// What a restart finds on disk that the process did not leave there.
#[derive(Clone, Debug)]
enum Crash {
    Nothing,
    JournalCut {
        at: usize,
        bytes: u64,
    },
    JournalGarbage {
        at: usize,
        garbage: Vec<u8>,
    },
    /// Bytes that never reached the disk.
    PieceLost {
        at: usize,
        piece: Index,
    },
    TreeTorn {
        at: usize,
    },
    Strays,
}

#[derive(Clone, Debug)]
enum Op {
    Begin { at: usize, is_held: bool },
    Write { at: usize, piece: Index, is_wrong: bool },
    WriteAll { at: usize },
    GiveUp { at: usize },
    Fill { at: usize, flow: Flow },
    Read { at: usize, start: u64, length: u64 },
    Pin { images: BTreeSet<usize> },
    Release { at: usize },
    Reopen { crash: Crash },
}

fn crash() -> impl Strategy<Value = Crash> {
    let at = 0..LENGTHS.len();
    prop_oneof![
        3 => Just(Crash::Nothing),
        1 => (at.clone(), 1..9_u64).prop_map(|(at, bytes)| Crash::JournalCut { at, bytes }),
        1 => (at.clone(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, garbage)| Crash::JournalGarbage { at, garbage }),
        2 => (at.clone(), any::<Index>()).prop_map(|(at, piece)| Crash::PieceLost { at, piece }),
        1 => at.prop_map(|at| Crash::TreeTorn { at }),
        1 => Just(Crash::Strays),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0..LENGTHS.len();
    let rarely = prop::bool::weighted(0.2);
    prop_oneof![
        5 => (at.clone(), rarely).prop_map(|(at, is_held)| Op::Begin { at, is_held }),
        10 => (at.clone(), any::<Index>(), rarely).prop_map(|(at, piece, is_wrong)| Op::Write { at, piece, is_wrong }),
        3 => at.clone().prop_map(|at| Op::WriteAll { at }),
        1 => at.clone().prop_map(|at| Op::GiveUp { at }),
        2 => (at.clone(), prop_oneof![Just(Flow::Right), Just(Flow::Wrong), Just(Flow::Breaks)])
            .prop_map(|(at, flow)| Op::Fill { at, flow }),
        3 => (at.clone(), 0..310_000_u64, 0..310_000_u64).prop_map(|(at, start, length)| Op::Read { at, start, length }),
        1 => prop::collection::btree_set(0..IMAGES.len(), 0..2).prop_map(|images| Op::Pin { images }),
        1 => at.prop_map(|at| Op::Release { at }),
        2 => crash().prop_map(|crash| Op::Reopen { crash }),
    ]
}

#[derive(Debug, Clone, PartialEq)]
enum At {
    Dormant(PieceSet),
    Arriving(PieceSet),
    Whole,
}

#[derive(Debug, Clone)]
struct Entry {
    at: At,
    used: u64,
}

struct World {
    folder: tempfile::TempDir,
    samples: Vec<Sample>,
    images: Vec<ImageRecord>,
    store: Option<Store>,
    held: BTreeMap<usize, Hold>,
    entries: BTreeMap<usize, Entry>,
    pinned: BTreeSet<usize>,
    uses: u64,
}

fn length(at: usize) -> u64 {
    LENGTHS[at] as u64
}

impl World {
    async fn new() -> Self {
        let folder = sample::folder();
        let samples: Vec<Sample> = (1..).zip(LENGTHS).map(|(seed, length)| sample::sample(seed, length)).collect();
        let images: Vec<ImageRecord> = IMAGES
            .iter()
            .map(|image| sample::image(&image.iter().map(|at| samples[*at].clone()).collect::<Vec<_>>()))
            .collect();
        let store = Store::open(folder.path(), BUDGET_BYTES).await.unwrap();
        for image in &images {
            store.image_keep(image.clone()).await.unwrap();
        }
        let (held, entries, pinned) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { folder, samples, images, store: Some(store), held, entries, pinned, uses: 0 }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn used_bytes(&self) -> u64 {
        self.entries.keys().map(|at| length(*at)).sum()
    }

    fn touch(&mut self, at: usize) {
        self.uses += 1;
        self.entries.get_mut(&at).unwrap().used = self.uses;
    }

    /// Whether there is room for a blob, after what has to go for it went.
    fn room_for(&mut self, at: usize) -> bool {
        if self.entries.contains_key(&at) {
            return true;
        }
        let pinned: BTreeSet<usize> = self.pinned.iter().flat_map(|image| IMAGES[*image].iter().copied()).collect();
        let mut idle: Vec<(u64, usize)> = self
            .entries
            .iter()
            .filter(|(at, _)| !pinned.contains(*at) && !self.held.contains_key(*at))
            .map(|(at, entry)| (entry.used, *at))
            .collect();
        let idle_bytes: u64 = idle.iter().map(|(_, at)| length(*at)).sum();
        if self.used_bytes() - idle_bytes + length(at) > BUDGET_BYTES {
            return false;
        }
        idle.sort_unstable();
        for (_, oldest) in idle {
            if self.used_bytes() + length(at) <= BUDGET_BYTES {
                break;
            }
            self.entries.remove(&oldest);
        }
        let none = PieceSet::empty(self.samples[at].pieces());
        self.entries.insert(at, Entry { at: At::Dormant(none), used: 0 });
        true
    }

    /// What a begun blob is: whole when nothing of it is missing.
    fn begun(pieces: PieceSet) -> At {
        if pieces.is_full() { At::Whole } else { At::Arriving(pieces) }
    }

    async fn begin(&mut self, at: usize, is_held: bool) {
        let blob = self.samples[at].clone();
        let begun = self.store().begin(blob.digest, blob.tree.clone()).await;
        if !self.room_for(at) {
            assert!(matches!(begun, Err(StoreError::BudgetFull { .. })));
            return;
        }
        let entry = self.entries.get_mut(&at).unwrap();
        if let At::Dormant(pieces) = &entry.at {
            entry.at = Self::begun(pieces.clone());
        }
        self.touch(at);
        let hold = begun.unwrap();
        if is_held {
            self.held.insert(at, hold);
        }
    }

    async fn write(&mut self, at: usize, piece: u32, is_wrong: bool) {
        let blob = self.samples[at].clone();
        let mut bytes = blob.piece(piece).to_vec();
        bytes[0] ^= u8::from(is_wrong);
        let kept = self.store().piece_write(blob.digest, piece, Bytes::from(bytes), Source::Hub).await;
        match self.entries.get_mut(&at).map(|entry| &mut entry.at) {
            None | Some(At::Dormant(_)) => assert!(matches!(kept, Err(StoreError::NotFound { .. }))),
            Some(At::Whole) => assert_eq!(kept.unwrap(), PieceKept::Already),
            Some(At::Arriving(pieces)) if pieces.contains(piece) => assert_eq!(kept.unwrap(), PieceKept::Already),
            Some(At::Arriving(_)) if is_wrong => assert_eq!(kept.unwrap(), PieceKept::Wrong),
            Some(arriving @ At::Arriving(_)) => {
                let At::Arriving(pieces) = arriving else { unreachable!() };
                pieces.insert(piece);
                let is_full = pieces.is_full();
                assert_eq!(kept.unwrap(), if is_full { PieceKept::Whole } else { PieceKept::Kept });
                if is_full {
                    *arriving = At::Whole;
                }
            }
        }
    }

    async fn fill(&mut self, at: usize, flow: Flow) {
        let blob = self.samples[at].clone();
        let is_new = !self.entries.contains_key(&at);
        let begun = self.store().fill(blob.digest, length(at)).await;
        if !self.room_for(at) {
            assert!(matches!(begun, Err(StoreError::BudgetFull { .. })));
            return;
        }
        self.touch(at);
        let mut fill = match begun.unwrap() {
            FillBegun::Mine(fill) => fill,
            FillBegun::Others(_) => {
                assert!(!is_new);
                let entry = self.entries.get_mut(&at).unwrap();
                if let At::Dormant(pieces) = &entry.at {
                    entry.at = Self::begun(pieces.clone());
                }
                return;
            }
        };
        assert!(is_new);
        let mut bytes = blob.bytes.to_vec();
        let is_kept = match flow {
            Flow::Wrong if !bytes.is_empty() => {
                bytes[0] ^= 1;
                fill.write(bytes.into()).await.unwrap();
                assert!(matches!(fill.finish().await, Err(StoreError::DigestMismatch { .. })));
                false
            }
            Flow::Breaks => {
                fill.write(bytes[..bytes.len() / 2].to_vec().into()).await.unwrap();
                drop(fill);
                false
            }
            _ => {
                fill.write(bytes.into()).await.unwrap();
                assert_eq!(fill.finish().await.unwrap().progress().stage, Stage::Whole);
                true
            }
        };
        if is_kept {
            self.entries.get_mut(&at).unwrap().at = At::Whole;
        } else {
            self.entries.remove(&at);
        }
    }

    async fn read(&mut self, at: usize, range: std::ops::Range<u64>) {
        let read = self.store().read(self.samples[at].digest, Some(range.clone())).await;
        let Some(entry) = self.entries.get(&at) else {
            assert!(matches!(read, Err(StoreError::NotFound { .. })));
            return;
        };
        let end = range.end.min(length(at));
        if range.start >= end && !(length(at) == 0 && range.start == 0) {
            assert!(matches!(read, Err(StoreError::RangeUnsatisfiable { .. })));
            return;
        }
        match entry.at {
            At::Dormant(_) => {
                assert!(matches!(read, Err(StoreError::NotFound { .. })));
                return;
            }
            // Would wait for what is missing.
            At::Arriving(_) => assert!(!read.unwrap().is_whole),
            At::Whole => {
                let expected = &self.samples[at].bytes[range.start as usize..end as usize];
                assert!(read_all(read.unwrap()).await.unwrap() == expected);
            }
        }
        self.touch(at);
    }

    /// Does to the disk what a crash might, and takes out of the model what that may cost.
    fn crash(&mut self, crash: &Crash) -> Option<(usize, u32)> {
        let root = self.folder.path().to_owned();
        let file = |kind: &str, at: usize| self.samples[at].file(&root, kind);
        match crash {
            Crash::Nothing => {}
            Crash::JournalCut { at, bytes } => {
                if let Ok(journal) = std::fs::File::options().write(true).open(file("journals", *at)) {
                    journal.set_len(journal.metadata().unwrap().len().saturating_sub(*bytes)).unwrap();
                }
            }
            Crash::JournalGarbage { at, garbage } => {
                if let Ok(mut journal) = std::fs::File::options().append(true).open(file("journals", *at)) {
                    std::io::Write::write_all(&mut journal, garbage).unwrap();
                }
            }
            Crash::PieceLost { at, piece } => {
                let range = self.samples[*at].tree.layout().range(piece.index(5) as u32)?;
                for kind in ["parts", "blobs"] {
                    if let Ok(mut bytes) = std::fs::read(file(kind, *at)) {
                        bytes[range.start as usize..range.end as usize].fill(0);
                        std::fs::write(file(kind, *at), bytes).unwrap();
                    }
                }
                return Some((*at, piece.index(5) as u32));
            }
            Crash::TreeTorn { at } => {
                if let Ok(tree) = std::fs::File::options().write(true).open(file("trees", *at)) {
                    tree.set_len(tree.metadata().unwrap().len() - 1).unwrap();
                    self.entries.remove(at);
                }
            }
            Crash::Strays => {
                for folder in ["blobs", "parts", "journals", "trees", "images", "fills", "trash"] {
                    std::fs::write(root.join(folder).join("sha256-no.new"), "x").unwrap();
                    if folder != "images" {
                        let unknown = sample::sample(99, 10).file(&root, folder);
                        std::fs::write(unknown, "0123456789").unwrap();
                    }
                }
            }
        }
        None
    }

    async fn reopen(&mut self, crash: &Crash) {
        self.held.clear();
        self.store = None;
        let is_exact = matches!(crash, Crash::Nothing | Crash::TreeTorn { .. } | Crash::Strays);
        let lost = self.crash(crash);
        self.store = Some(Store::open(self.folder.path(), BUDGET_BYTES).await.unwrap());
        // The host goes on with what it had, in the order in which it used it.
        let mut order: Vec<(u64, usize)> = self.entries.iter().map(|(at, entry)| (entry.used, *at)).collect();
        order.sort_unstable();
        for (_, at) in order {
            let blob = self.samples[at].clone();
            let before = match &self.entries[&at].at {
                At::Dormant(pieces) | At::Arriving(pieces) => pieces.clone(),
                At::Whole => PieceSet::full(blob.pieces()),
            };
            if let (At::Whole, Some((_, piece))) = (&self.entries[&at].at, lost.filter(|lost| lost.0 == at)) {
                let read = self.store().piece_read(blob.digest, piece).await;
                assert!(matches!(read, Err(StoreError::Damaged { .. })));
                self.entries.get_mut(&at).unwrap().at = At::Dormant(before.clone());
            }
            let _hold = self.store().begin(blob.digest, blob.tree.clone()).await.unwrap();
            let there = self.store().pieces(&blob.digest).unwrap();
            assert_eq!(there.without(&before).count(), 0, "a piece came from nowhere");
            match lost.filter(|lost| lost.0 == at) {
                Some((_, piece)) => assert_eq!(before.without(&there).find(|lost| *lost != piece), None),
                None => assert!(there == before || !is_exact),
            }
            self.entries.get_mut(&at).unwrap().at = Self::begun(there);
            self.touch(at);
        }
    }

    async fn apply(&mut self, op: Op) {
        match op {
            Op::Begin { at, is_held } => self.begin(at, is_held).await,
            Op::Write { at, piece, is_wrong } => {
                let pieces = self.samples[at].pieces();
                if pieces > 0 {
                    self.write(at, piece.index(pieces as usize) as u32, is_wrong).await;
                }
            }
            Op::WriteAll { at } => {
                for piece in 0..self.samples[at].pieces() {
                    self.write(at, piece, false).await;
                }
            }
            Op::GiveUp { at } => {
                self.store().give_up(self.samples[at].digest, "enough".to_owned()).await.unwrap();
                if let Some(entry) = self.entries.get_mut(&at)
                    && let At::Arriving(pieces) = entry.at.clone()
                {
                    entry.at = At::Dormant(pieces);
                }
            }
            Op::Fill { at, flow } => self.fill(at, flow).await,
            Op::Read { at, start, length } => self.read(at, start..start + length).await,
            Op::Pin { images } => {
                let digests = images.iter().map(|image| self.images[*image].digest).collect();
                self.store().pin(digests).await.unwrap();
                self.pinned = images;
            }
            Op::Release { at } => drop(self.held.remove(&at)),
            Op::Reopen { crash } => self.reopen(&crash).await,
        }
        self.check().await;
    }

    async fn check(&self) {
        assert_eq!(self.store().usage().used_bytes, self.used_bytes());
        assert!(self.used_bytes() <= BUDGET_BYTES);
        for (at, blob) in self.samples.iter().enumerate() {
            let entry = self.entries.get(&at).map(|entry| &entry.at);
            assert_eq!(self.store().is_whole(&blob.digest), entry == Some(&At::Whole), "blob {at}");
            let pieces = match entry {
                None | Some(At::Dormant(_)) => None,
                Some(At::Arriving(pieces)) => Some(pieces.clone()),
                Some(At::Whole) => Some(PieceSet::full(blob.pieces())),
            };
            assert_eq!(self.store().pieces(&blob.digest), pieces, "blob {at}");
        }
    }

    /// Everything that can be read is right, and the disk has nothing else.
    async fn finish(mut self) {
        for blob in &self.samples {
            for piece in self.store().pieces(&blob.digest).iter().flat_map(PieceSet::iter) {
                assert!(self.store().piece_read(blob.digest, piece).await.unwrap() == blob.piece(piece));
            }
        }
        let count = |folder: &str| std::fs::read_dir(Path::new(self.folder.path()).join(folder)).unwrap().count();
        let whole = self.entries.values().filter(|entry| entry.at == At::Whole).count();
        assert_eq!((count("blobs"), count("trees")), (whole, self.entries.len()));
        assert_eq!((count("parts"), count("journals")), (self.entries.len() - whole, self.entries.len() - whole));
        assert_eq!((count("trash"), count("fills"), count("images")), (0, 0, IMAGES.len()));
        self.held.clear();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_a_map_of_pieces(ops in prop::collection::vec(op(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for op in ops {
                world.apply(op).await;
            }
            world.finish().await;
        });
    }
}
