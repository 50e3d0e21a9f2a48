//! Loss of power in the middle of a host's pulls, on ext4 and XFS: what was whole stays whole, what the store says that it
//! has is right, and pulls go on from there. Needs root, as mounting does.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanout::store::{FillBegun, PieceKept, Stage, Store};

use crate::disk::Disk;
use crate::sample::{self, Sample, read_all};

const ROUNDS: u64 = 40;
const PULLERS: u64 = 3;
const IMAGE_BYTES: u64 = 192 << 20;
/// Small enough that blobs go for one another.
const BUDGET_BYTES: u64 = 24 << 20;
/// Whole blobs of the latest round that surely fit into the budget.
const NEWEST: usize = 10;

fn blob(seed: u64) -> Sample {
    sample::sample(seed, 1 + (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as usize % 900_000)
}

/// Pieces and blobs that were kept when the power goes, at most.
const KEPT_MAX: u64 = 40;

/// What was begun, how many pieces and blobs were kept, and which were said to be whole, in order.
#[derive(Default)]
struct Said {
    begun: BTreeSet<u64>,
    kept: u64,
    whole: Vec<u64>,
}

/// Pulls until the power goes.
async fn pull(store: Store, said: Arc<Mutex<Said>>, first_seed: u64) {
    for seed in first_seed.. {
        let blob = blob(seed);
        said.lock().unwrap().begun.insert(seed);
        if seed % 4 == 3 {
            let Ok(FillBegun::Mine(mut fill)) = store.fill(blob.digest, blob.bytes.len() as u64).await else { return };
            if fill.write(blob.bytes.clone()).await.is_err() || fill.finish().await.is_err() {
                return;
            }
        } else {
            let Ok(_held) = store.begin(blob.digest, blob.tree.clone()).await else { return };
            for piece in 0..blob.pieces() {
                match blob.write(&store, piece).await {
                    Ok(kept) => assert_eq!(kept == PieceKept::Whole, piece + 1 == blob.pieces()),
                    Err(_) => return,
                }
                said.lock().unwrap().kept += 1;
            }
        }
        let mut said = said.lock().unwrap();
        said.whole.push(seed);
        said.kept += 1;
    }
}

/// Whole blobs and pieces of others that were looked at.
async fn check(store: &Store, said: &Said) -> (usize, u32) {
    for seed in said.whole.iter().rev().take(NEWEST) {
        assert!(store.is_whole(&blob(*seed).digest), "{seed} was whole and is gone");
    }
    let (mut whole, mut pieces) = (0, 0);
    for seed in &said.begun {
        let blob = blob(*seed);
        if store.is_whole(&blob.digest) {
            assert!(read_all(store.read(blob.digest, None).await.unwrap()).await.unwrap() == blob.bytes, "{seed}");
            whole += 1;
            continue;
        }
        let held = store.begin(blob.digest, blob.tree.clone()).await.unwrap();
        let there = store.pieces(&blob.digest).unwrap();
        for piece in there.iter() {
            assert!(store.piece_read(blob.digest, piece).await.unwrap() == blob.piece(piece), "{seed}: {piece}");
        }
        for piece in 0..blob.pieces() {
            blob.write(store, piece).await.unwrap();
        }
        assert_eq!(held.progress().stage, Stage::Whole);
        pieces += there.count();
    }
    (whole, pieces)
}

async fn cut_power_again_and_again(disk: Disk) {
    let folder = disk.mounted().join("fanout");
    let (mut whole, mut pieces) = (0, 0);
    for round in 0..ROUNDS {
        let (store, said) = (Store::open(&folder, BUDGET_BYTES).await.unwrap(), Arc::new(Mutex::new(Said::default())));
        let mut pullers = tokio::task::JoinSet::new();
        for puller in 0..PULLERS {
            pullers.spawn(pull(store.clone(), said.clone(), (round * PULLERS + puller) << 24));
        }
        let random = round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        rig::until("some pieces", Duration::from_secs(60), || async {
            (said.lock().unwrap().kept > (random >> 32) % KEPT_MAX).then_some(())
        })
        .await
        .unwrap();
        tokio::time::sleep(Duration::from_micros(random % 5_000)).await;
        if round % 4 == 0 {
            // Pieces whose bytes are on disk, and not yet the names of what they make.
            rustix::fs::syncfs(std::fs::File::open(disk.mounted()).unwrap()).unwrap();
        }
        // XFS may say that a folder is synced when it has just gone: what counts is what was said before.
        let whole_before = said.lock().unwrap().whole.clone();
        disk.cut_power();
        while let Some(puller) = pullers.join_next().await {
            puller.unwrap();
        }
        drop(store);
        disk.power_on();
        let store = Store::open(&folder, BUDGET_BYTES).await.unwrap();
        let said = Said { whole: whole_before, ..std::mem::take(&mut *said.lock().unwrap()) };
        let looked_at = check(&store, &said).await;
        (whole, pieces) = (whole + looked_at.0, pieces + looked_at.1);
    }
    assert!(whole > 60 && pieces > 30, "hardly anything was tried: {whole} blobs, {pieces} pieces of others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ext4_without_power_costs_no_whole_blob_and_makes_none_wrong() {
    cut_power_again_and_again(Disk::ext4(IMAGE_BYTES)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn xfs_without_power_costs_no_whole_blob_and_makes_none_wrong() {
    cut_power_again_and_again(Disk::xfs()).await;
}
