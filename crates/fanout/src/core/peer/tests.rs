//! A host by itself: what it does with what others say and do not do.

use super::*;

const PIECES: u32 = 12;
const BLOB: Blob = Blob(0);

/// What is put out until nothing more is.
fn drain(peer: &mut Peer) -> Vec<Output> {
    std::iter::from_fn(|| peer.next_output()).collect()
}

#[test]
fn a_blob_is_not_given_up_while_somebody_who_has_it_is_only_slow() {
    let (mut peer, neighbour) = (Peer::new(Config::default()), Node(1));
    let mut now = Now::ZERO;
    peer.handle(now, Input::Blob { blob: BLOB, pieces: PieceSet::empty(PIECES), stripe_shift: 0 });
    peer.handle(now, Input::Neighbours { nodes: vec![neighbour], origin: None });
    peer.handle(now, Input::Connected { node: neighbour });
    let open = Message::Open { blob: BLOB, pieces: PieceSet::full(PIECES) };
    peer.handle(now, Input::Message { node: neighbour, message: open });
    let (mut asked, mut last) = (0, None);
    for _ in 0..6000 {
        now += Duration::from_millis(100);
        peer.handle(now, Input::Timer);
        for output in drain(&mut peer) {
            assert!(!matches!(output, Output::Starving { .. }), "given up after {now:?}");
            if let Output::Send { message: Message::Request { piece, .. }, .. } = output {
                (asked, last) = (asked + 1, Some(piece));
            }
        }
    }
    assert!(asked > PIECES, "asked {asked} times in ten minutes");
    // What comes in the end is taken.
    let piece = last.unwrap();
    peer.handle(now, Input::Arrived { node: neighbour, blob: BLOB, piece, is_right: true });
    assert_eq!(peer.counts().right, 1);
}

#[test]
fn a_piece_that_a_host_does_not_have_is_not_asked_of_it_again() {
    let (mut peer, neighbour) = (Peer::new(Config::default()), Node(1));
    let mut now = Now::ZERO;
    peer.handle(now, Input::Blob { blob: BLOB, pieces: PieceSet::empty(PIECES), stripe_shift: 0 });
    peer.handle(now, Input::Connected { node: neighbour });
    let open = Message::Open { blob: BLOB, pieces: PieceSet::full(PIECES) };
    peer.handle(now, Input::Message { node: neighbour, message: open });
    let mut asked = BTreeSet::new();
    for _ in 0..3000 {
        now += Duration::from_millis(100);
        peer.handle(now, Input::Timer);
        for output in drain(&mut peer) {
            if let Output::Send { message: Message::Request { blob, piece }, node } = output {
                assert!(asked.insert(piece), "piece {piece} was asked for again after {now:?}");
                peer.handle(now, Input::Message { node, message: Message::Refuse { blob, piece } });
            }
        }
    }
    assert!(asked.len() > 2, "{asked:?}");
}

#[test]
fn what_comes_before_the_other_side_opens_the_blob_is_said() {
    let (mut peer, neighbour, now) = (Peer::new(Config::default()), Node(1), Now::ZERO);
    peer.handle(now, Input::Connected { node: neighbour });
    peer.handle(now, Input::Blob { blob: BLOB, pieces: PieceSet::empty(PIECES), stripe_shift: 0 });
    let mut said = PieceSet::empty(PIECES);
    for piece in 0..PIECES {
        if piece == PIECES / 2 {
            let open = Message::Open { blob: BLOB, pieces: PieceSet::empty(PIECES) };
            peer.handle(now, Input::Message { node: neighbour, message: open });
        }
        peer.handle(now, Input::Kept { blob: BLOB, piece });
    }
    for output in drain(&mut peer) {
        if let Output::Send { message: Message::Open { pieces, .. }, .. } = &output {
            assert_eq!(*pieces, said);
        }
        if let Output::Send { message: Message::Have { pieces, .. }, .. } = output {
            pieces.into_iter().for_each(|piece| assert!(said.insert(piece), "piece {piece} is said twice"));
        }
    }
    assert!(said.is_full(), "{said:?}");
}
