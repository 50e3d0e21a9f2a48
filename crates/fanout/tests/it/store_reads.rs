//! What comes out of the store: verified, also while it arrives, and an error where it does not come.

use std::time::Duration;

use bytes::Bytes;
use fanout::peers::{Pieces, Who, Written};
use fanout::store::{FillBegun, HELD_BACK_BYTES, PieceKept, Source, Stage, Store, StoreError};
use futures::{FutureExt as _, StreamExt as _};
use oci::Digest;

use crate::sample::{folder, image, read_all, sample};

const BUDGET_BYTES: u64 = 64 << 20;
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a43_a_wrong_piece_is_neither_kept_nor_passed_on() {
    let folder = folder();
    let store = Store::open(folder.path(), BUDGET_BYTES).await.unwrap();
    let blob = sample(1, 200_000);
    let _held = store.begin(blob.digest, blob.tree.clone()).await.unwrap();
    let mut lie = blob.piece(1).to_vec();
    lie[77] ^= 1;
    for wrong in [Bytes::from(lie), blob.piece(0), blob.piece(1).slice(1..), Bytes::new()] {
        let kept = store.piece_write(blob.digest, 1, wrong, Source::Peer).await.unwrap();
        assert_eq!(kept, PieceKept::Wrong);
    }
    assert_eq!(store.piece_write(blob.digest, 99, blob.piece(0), Source::Peer).await.unwrap(), PieceKept::Wrong);
    assert!(store.pieces(&blob.digest).unwrap().is_empty());
    let refused = store.piece_read(blob.digest, 1).await;
    assert!(matches!(refused, Err(StoreError::PieceMissing { piece: 1, .. })));
    assert!(std::fs::read(blob.file(folder.path(), "parts")).unwrap().iter().all(|byte| *byte == 0));
    // A tree of other bytes: every piece is its own, and the whole is not what the digest says.
    let other = sample(2, 200_000);
    let asked = Digest::sha256_of(b"what was asked for");
    let _held = store.begin(asked, other.tree.clone()).await.unwrap();
    for piece in 0..other.pieces() {
        let kept = store.piece_write(asked, piece, other.piece(piece), Source::Peer).await;
        if piece + 1 < other.pieces() {
            assert_eq!(kept.unwrap(), PieceKept::Kept);
        } else {
            assert!(matches!(kept, Err(StoreError::DigestMismatch { .. })));
        }
    }
    assert!(!store.is_whole(&asked));
    assert!(matches!(store.progress(&asked).unwrap().stage, Stage::GivenUp(_)));
    assert!(matches!(store.read(asked, None).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test(start_paused = true)]
async fn the_last_piece_is_given_on_before_the_blob_is_whole_which_it_becomes_when_the_disk_can() {
    let folder = folder();
    let store = Store::open(folder.path(), BUDGET_BYTES).await.unwrap();
    let blob = sample(12, 300_000);
    let held = store.begin(blob.digest, blob.tree.clone()).await.unwrap();
    // The disk does not take the blob's name for now.
    let (blobs, away) = (folder.path().join("blobs"), folder.path().join("away"));
    std::fs::rename(&blobs, &away).unwrap();
    for piece in 0..blob.pieces() {
        let kept = Pieces::write(&store, blob.digest, piece, blob.piece(piece), &Who::Hub).await.unwrap();
        assert_eq!(kept, Written::Kept);
        assert!(Pieces::read(&store, blob.digest, piece).await.unwrap() == blob.piece(piece));
    }
    let again = store.piece_write(blob.digest, 0, blob.piece(0), Source::Peer).await;
    assert!(matches!(again, Err(StoreError::Io { .. })), "{again:?}");
    assert_eq!(held.progress().stage, Stage::Arriving);
    std::fs::rename(&away, &blobs).unwrap();
    held.watch().wait_for(|progress| progress.stage == Stage::Whole).await.unwrap();
    assert!(read_all(store.read(blob.digest, None).await.unwrap()).await.unwrap() == blob.bytes);
    // One whose bytes are others than its digest says is given up.
    let asked = Digest::sha256_of(b"what was asked for");
    let held = store.begin(asked, blob.tree.clone()).await.unwrap();
    for piece in 0..blob.pieces() {
        store.piece_keep(asked, piece, blob.piece(piece), Source::Peer).await.unwrap();
    }
    held.watch().wait_for(|progress| matches!(progress.stage, Stage::GivenUp(_))).await.unwrap();
    // So is one that the disk does not take for long.
    let other = sample(13, 100_000);
    let held = store.begin(other.digest, other.tree.clone()).await.unwrap();
    std::fs::rename(&blobs, &away).unwrap();
    for piece in 0..other.pieces() {
        store.piece_keep(other.digest, piece, other.piece(piece), Source::Peer).await.unwrap();
    }
    held.watch().wait_for(|progress| matches!(progress.stage, Stage::GivenUp(_))).await.unwrap();
}

#[tokio::test]
async fn a_blob_is_read_while_it_arrives_in_whatever_order() {
    let folder = folder();
    let store = Store::open(folder.path(), BUDGET_BYTES).await.unwrap();
    let blob = sample(3, 1_000_001);
    let held = store.begin(blob.digest, blob.tree.clone()).await.unwrap();
    let whole = tokio::spawn(read_all(store.read(blob.digest, None).await.unwrap()));
    let part = tokio::spawn(read_all(store.read(blob.digest, Some(70_000..900_000)).await.unwrap()));
    let behind = store.read(blob.digest, Some(1_000_001..1_000_002)).await;
    assert!(matches!(behind, Err(StoreError::RangeUnsatisfiable { length: 1_000_001, .. })));
    let mut first = store.read(blob.digest, None).await.unwrap();
    assert!(!first.is_whole);
    for piece in (0..blob.pieces()).rev() {
        assert!(first.body.next().now_or_never().is_none(), "something came before its piece");
        blob.write(&store, piece).await.unwrap();
    }
    assert!(tokio::time::timeout(DEADLINE, whole).await.unwrap().unwrap().unwrap() == blob.bytes);
    assert!(tokio::time::timeout(DEADLINE, part).await.unwrap().unwrap().unwrap() == blob.bytes[70_000..900_000]);
    assert_eq!(held.progress().stage, Stage::Whole);
    let mapped = store.read(blob.digest, None).await.unwrap();
    assert!(mapped.is_whole && mapped.mapped.is_some());
    assert!(read_all(mapped).await.unwrap() == blob.bytes);

    let lost = sample(4, 300_000);
    let _held = store.begin(lost.digest, lost.tree.clone()).await.unwrap();
    lost.write(&store, 0).await.unwrap();
    let reader = tokio::spawn(read_all(store.read(lost.digest, None).await.unwrap()));
    store.give_up(lost.digest, "nobody has it".to_owned()).await.unwrap();
    let error = tokio::time::timeout(DEADLINE, reader).await.unwrap().unwrap().unwrap_err();
    assert!(error.to_string().contains("was given up: nobody has it"), "{error}");
}

#[tokio::test]
async fn what_comes_in_one_run_is_held_back_until_its_digest_is_right() {
    let folder = folder();
    let store = Store::open(folder.path(), BUDGET_BYTES).await.unwrap();
    let blob = sample(5, 400_000);
    for is_right in [false, true] {
        let FillBegun::Mine(mut fill) = store.fill(blob.digest, 400_000).await.unwrap() else { panic!("it is new") };
        assert!(matches!(store.fill(blob.digest, 400_000).await.unwrap(), FillBegun::Others(_)));
        let mut read = store.read(blob.digest, None).await.unwrap();
        let mut bytes = blob.bytes.to_vec();
        bytes[399_999] ^= u8::from(!is_right);
        fill.write(Bytes::from(bytes)).await.unwrap();
        let mut got = Vec::new();
        while let Some(next) = read.body.next().now_or_never().or(None) {
            got.extend_from_slice(&next.unwrap().unwrap());
        }
        let wanted = 400_000 - HELD_BACK_BYTES as usize;
        while got.len() < wanted {
            got.extend_from_slice(&tokio::time::timeout(DEADLINE, read.body.next()).await.unwrap().unwrap().unwrap());
        }
        assert_eq!(got.len(), wanted);
        let finished = fill.finish().await;
        if is_right {
            finished.unwrap();
            while let Some(next) = tokio::time::timeout(DEADLINE, read.body.next()).await.unwrap() {
                got.extend_from_slice(&next.unwrap());
            }
            assert!(got == blob.bytes);
            // Its tree is the one that the hub would have given.
            assert_eq!(store.tree(blob.digest).await.unwrap().root(), blob.tree.root());
        } else {
            assert!(matches!(finished, Err(StoreError::DigestMismatch { .. })));
            assert!(tokio::time::timeout(DEADLINE, read.body.next()).await.unwrap().unwrap().is_err());
            assert!(!store.is_whole(&blob.digest));
        }
    }
    // Broken off: nothing is kept, and the next may begin.
    let other = sample(6, 100_000);
    let FillBegun::Mine(mut fill) = store.fill(other.digest, 100_000).await.unwrap() else { panic!("it is new") };
    fill.write(other.bytes.slice(..50_000)).await.unwrap();
    drop(fill);
    assert!(!other.file(folder.path(), "fills").exists());
    assert!(matches!(store.fill(other.digest, 100_000).await.unwrap(), FillBegun::Mine(_)));
}

#[tokio::test]
async fn a_damaged_blob_is_found_out_and_only_what_is_wrong_is_fetched_again() {
    let folder = folder();
    let blob = sample(7, 500_000);
    blob.keep(&Store::open(folder.path(), BUDGET_BYTES).await.unwrap()).await;
    let file = blob.file(folder.path(), "blobs");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[200_000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let store = Store::open(folder.path(), BUDGET_BYTES).await.unwrap();
    assert!(store.is_whole(&blob.digest));
    assert!(read_all(store.read(blob.digest, None).await.unwrap()).await.is_err());
    assert!(!store.is_whole(&blob.digest));
    let _held = store.begin(blob.digest, blob.tree.clone()).await.unwrap();
    let wrong = blob.tree.layout().piece_at(200_000).unwrap();
    let there = store.pieces(&blob.digest).unwrap();
    assert_eq!((there.count(), there.contains(wrong)), (blob.pieces() - 1, false));
    assert_eq!(blob.write(&store, wrong).await.unwrap(), PieceKept::Whole);
    assert!(read_all(store.read(blob.digest, None).await.unwrap()).await.unwrap() == blob.bytes);
}

#[tokio::test]
async fn images_share_blobs_and_say_where_their_bytes_came_from() {
    let folder = folder();
    let store = Store::open(folder.path(), BUDGET_BYTES).await.unwrap();
    let [config, base, mine, theirs] = [sample(8, 500), sample(9, 300_000), sample(10, 70_000), sample(11, 80_000)];
    let (first, second) =
        (image(&[config.clone(), base.clone(), mine.clone()]), image(&[config.clone(), base.clone(), theirs.clone()]));
    store.image_keep(first.clone()).await.unwrap();
    for blob in [&config, &base, &mine] {
        blob.keep(&store).await;
    }
    store.image_keep(second.clone()).await.unwrap();
    let _held = store.begin(theirs.digest, theirs.tree.clone()).await.unwrap();
    store.piece_write(theirs.digest, 0, theirs.piece(0), Source::Hub).await.unwrap();
    let held = |digest| store.images().into_iter().find(|image| image.digest == digest).unwrap();
    let (of_first, of_second) = (held(first.digest), held(second.digest));
    assert_eq!((of_first.bytes, of_first.bytes_there), (370_500, 370_500));
    assert_eq!((of_first.counts.peers, of_first.counts.hub, of_first.counts.disk), (370_500, 0, 0));
    assert_eq!((of_second.bytes, of_second.bytes_there), (380_500, 300_500 + 65_536));
    assert_eq!((of_second.counts.peers, of_second.counts.hub, of_second.counts.disk), (0, 65_536, 300_500));

    let wrong = fanout::store::ImageRecord { manifest: second.manifest.replace("team", "tea"), ..second.clone() };
    let wrong = fanout::store::ImageRecord { manifest: format!("{} ", wrong.manifest), ..wrong };
    assert!(matches!(store.image_keep(wrong).await, Err(StoreError::Manifest { .. })));
    let (repository, tag): (oci::RepositoryName, oci::Tag) = ("team/app".parse().unwrap(), "1".parse().unwrap());
    store.tag_keep(repository.clone(), tag.clone(), first.digest).await.unwrap();
    store.pin([first.digest].into()).await.unwrap();
    drop(store);
    let store = Store::open(folder.path(), BUDGET_BYTES).await.unwrap();
    assert_eq!(store.image(first.digest).await.unwrap().unwrap(), first);
    assert_eq!(store.tag(&repository, &tag), Some(first.digest));
    let again = store.images().into_iter().find(|image| image.digest == first.digest).unwrap();
    assert_eq!((again.counts.disk, again.is_pinned), (370_500, true));
}
