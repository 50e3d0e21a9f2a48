//! `kill -9` at random points of a host's pulls: every piece that was said to be kept is there, and nothing wrong is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fanout::store::{FillBegun, PieceKept, Stage, Store};

use crate::sample::{self, Sample, read_all};

const ROUNDS: u64 = 120;
/// A fresh folder now and then keeps the check of all that is there short.
const ROUNDS_PER_FOLDER: u64 = 6;
const PULLERS: u64 = 3;
const FOLDER: &str = "LONGSHORE_KILL_FOLDER";
const ROUND: &str = "LONGSHORE_KILL_ROUND";
/// Small enough that blobs go for one another.
const BUDGET_BYTES: u64 = 12 << 20;

fn blob(seed: u64) -> Sample {
    sample::sample(seed, 1 + (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as usize % 900_000)
}

/// One line, in one write: a kill leaves it whole or not at all.
fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

async fn pull(store: Store, first_seed: u64, blobs: u64) {
    for seed in first_seed..first_seed + blobs {
        let blob = blob(seed);
        if seed % 4 == 3 {
            let FillBegun::Mine(mut fill) = store.fill(blob.digest, blob.bytes.len() as u64).await.unwrap() else {
                panic!("nobody else fetches it")
            };
            for at in (0..blob.bytes.len()).step_by(100_000) {
                fill.write(blob.bytes.slice(at..blob.bytes.len().min(at + 100_000))).await.unwrap();
            }
            fill.finish().await.unwrap();
        } else {
            let held = store.begin(blob.digest, blob.tree.clone()).await.unwrap();
            let pieces = blob.pieces();
            for turn in 0..pieces {
                // An order of its own: 7 has no common factor with the numbers of pieces that come here.
                let piece = if pieces.is_multiple_of(7) { turn } else { turn * 7 % pieces };
                let kept = blob.write(&store, piece).await.unwrap();
                assert_eq!(kept == PieceKept::Whole, turn + 1 == pieces);
                say(&format!("kept {seed} {piece}"));
            }
            assert_eq!(held.progress().stage, Stage::Whole);
        }
        say(&format!("whole {seed}"));
    }
}

/// What the loop below starts and kills. Run by itself it does a short piece of the same work.
#[test]
fn child_of_the_kill_loop() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let own_folder = sample::folder();
    let (folder, round, blobs) = match std::env::var_os(FOLDER) {
        Some(folder) => (folder.into(), std::env::var(ROUND).unwrap().parse::<u64>().unwrap(), 1_000_000),
        None => (own_folder.path().to_owned(), 0, 5),
    };
    runtime.block_on(async {
        let store = Store::open(&folder, BUDGET_BYTES).await.unwrap();
        let mut pullers = tokio::task::JoinSet::new();
        for puller in 0..PULLERS {
            pullers.spawn(pull(store.clone(), (round * PULLERS + puller) << 24, blobs));
        }
        while let Some(puller) = pullers.join_next().await {
            puller.unwrap();
        }
    });
}

/// Starts a child on `folder`, kills it after a while, gives the lines that it said.
fn round(folder: &Path, round: u64) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store_kill::child_of_the_kill_loop", "--nocapture", "--quiet"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || stdout.lines().map(Result::unwrap).collect::<Vec<_>>());
    std::thread::sleep(Duration::from_millis(8 + round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 90));
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_piece_is_lost_to_kill() {
    let mut folder = sample::folder();
    let (mut pieces_total, mut whole_total, mut unfinished_total) = (0, 0, 0);
    for number in 0..ROUNDS {
        if number % ROUNDS_PER_FOLDER == 0 {
            folder = sample::folder();
        }
        // What was said last went on; what went before may have made room since.
        let mut said: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
        let mut whole: Vec<u64> = Vec::new();
        for line in round(folder.path(), number) {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["kept", seed, piece] => {
                    said.entry(seed.parse().unwrap()).or_default().insert(piece.parse().unwrap());
                }
                ["whole", seed] => whole.push(seed.parse().unwrap()),
                _ => {}
            }
        }
        let store = Store::open(folder.path(), BUDGET_BYTES).await.unwrap();
        for kind in ["fills", "trash"] {
            assert_eq!(std::fs::read_dir(folder.path().join(kind)).unwrap().count(), 0, "round {number}: {kind}");
        }
        // The newest surely fit into the budget.
        for seed in whole.iter().rev().take(6) {
            let blob = blob(*seed);
            assert!(store.is_whole(&blob.digest), "round {number}: {seed} was whole and is gone");
            assert!(read_all(store.read(blob.digest, None).await.unwrap()).await.unwrap() == blob.bytes);
            whole_total += 1;
        }
        said.retain(|seed, _pieces| !whole.contains(seed));
        for (seed, pieces) in said {
            let blob = blob(seed);
            let held = store.begin(blob.digest, blob.tree.clone()).await.unwrap();
            let there = store.pieces(&blob.digest).unwrap();
            for piece in &pieces {
                assert!(there.contains(*piece), "round {number}: piece {piece} of {seed} was kept and is gone");
            }
            for piece in there.iter() {
                assert!(store.piece_read(blob.digest, piece).await.unwrap() == blob.piece(piece));
            }
            // The pull goes on as if nothing had happened.
            for piece in 0..blob.pieces() {
                blob.write(&store, piece).await.unwrap();
            }
            assert_eq!(held.progress().stage, Stage::Whole);
            pieces_total += pieces.len();
            unfinished_total += 1;
        }
    }
    let tried = (pieces_total, whole_total, unfinished_total);
    assert!(pieces_total > 200 && whole_total > 200 && unfinished_total > 60, "hardly anything was tried: {tried:?}");
}
