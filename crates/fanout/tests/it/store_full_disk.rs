//! A full disk in the middle of a pull: said so, nothing that is there is lost, and the pull goes on once there is room. Needs
//! root, as mounting does.

use fanout::store::{FillBegun, PieceKept, Store, StoreError};

use crate::disk::Disk;
use crate::sample::{read_all, sample};

const IMAGE_BYTES: u64 = 24 << 20;
const BLOB_BYTES: usize = 3 << 20;
/// Nothing goes for its sake.
const BUDGET_BYTES: u64 = 64 << 20;

#[tokio::test]
async fn a_full_disk_stops_a_pull_and_costs_no_piece() {
    let disk = Disk::ext4(IMAGE_BYTES);
    let folder = disk.mounted().join("fanout");
    let mut stopped = 0;
    for (round, free_kib) in [0, 8, 200, 1000].into_iter().enumerate() {
        let store = Store::open(&folder, BUDGET_BYTES).await.unwrap();
        let blob = sample(round as u64, BLOB_BYTES);
        let held = store.begin(blob.digest, blob.tree.clone()).await.unwrap();
        blob.write(&store, 5).await.unwrap();
        disk.fill(free_kib);
        for piece in 0..blob.pieces() {
            match blob.write(&store, piece).await {
                Ok(kept) => assert_ne!(kept, PieceKept::Wrong),
                Err(StoreError::NoSpace { .. }) => stopped += 1,
                Err(error) => panic!("{error}"),
            }
        }
        let there = store.pieces(&blob.digest).unwrap();
        assert!(there.contains(5) && !there.is_full());
        for piece in there.iter() {
            assert!(store.piece_read(blob.digest, piece).await.unwrap() == blob.piece(piece));
        }
        let in_one_run = sample(100 + round as u64, BLOB_BYTES);
        let filled = match store.fill(in_one_run.digest, BLOB_BYTES as u64).await {
            Ok(FillBegun::Mine(mut fill)) => fill.write(in_one_run.bytes.clone()).await,
            Ok(FillBegun::Others(_)) => panic!("nobody else fetches it"),
            Err(error) => Err(error),
        };
        assert!(matches!(filled, Err(StoreError::NoSpace { .. })));
        disk.make_room();
        for piece in 0..blob.pieces() {
            blob.write(&store, piece).await.unwrap();
        }
        assert!(store.is_whole(&blob.digest));
        drop(held);
        assert!(read_all(store.read(blob.digest, None).await.unwrap()).await.unwrap() == blob.bytes);
    }
    assert!(stopped > 20, "the disk was hardly ever full: {stopped}");
}
