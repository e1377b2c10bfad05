use super::*;
use crate::partition::slots::Slots;

fn key(number: u32) -> Key {
    Key::S(format!("{number:06}").into())
}

fn alphabet() -> Alphabet {
    let mut alphabet = Alphabet::default();
    for key in [key(0), key(99_999)] {
        alphabet.learn(&key);
    }
    alphabet
}

fn edges() -> Edges {
    Edges {
        low: key(0),
        high: key(99_999),
    }
}

/// How many of the keys 0..100,000 each piece holds; every key must be in exactly one.
fn sizes(pieces: &[Piece]) -> Vec<usize> {
    let mut sizes = vec![0; pieces.len()];
    for number in (0..100_000).step_by(10) {
        let owners: Vec<_> = pieces
            .iter()
            .enumerate()
            .filter(|(_, piece)| piece.range.contains(&key(number)))
            .collect();
        assert_eq!(owners.len(), 1, "{number}");
        sizes[owners[0].0] += 10;
    }
    sizes
}

#[test]
fn pieces_cover_everything_once_and_are_about_even() {
    let stretches = vec![
        Stretch::counted(Some(key(30_000)), 30_001),
        Stretch::counted(Some(key(70_000)), 40_000),
        Stretch::counted(None, 29_999),
    ];
    for count in [1, 2, 8, 16, 32] {
        let pieces = divide(&alphabet(), &SortRange::ALL, &edges(), stretches.clone(), count);
        let sizes = sizes(&pieces);
        assert!(
            pieces.len() as u64 <= count,
            "{} pieces for {count}",
            pieces.len()
        );
        let ideal = 100_000 / usize::try_from(count).unwrap();
        assert!(sizes.iter().all(|size| *size <= ideal * 2), "{count}: {sizes:?}");
    }
}

#[test]
fn quantiles_beat_guesses_where_keys_are_crowded() {
    // Nine tenths of the items lie in one hundredth of the key space; the pages say so.
    let mut stretches: Vec<_> = (1..=90)
        .map(|page| Stretch::counted(Some(key(50_000 + page * 10)), 1000))
        .collect();
    stretches.insert(0, Stretch::counted(Some(key(50_000)), 5000));
    stretches.push(Stretch::counted(None, 5000));
    let pieces = divide(&alphabet(), &SortRange::ALL, &edges(), stretches, 10);
    let inside = pieces.iter().filter(|piece| {
        piece
            .range
            .low
            .key()
            .is_some_and(|low| *low >= key(50_000) && *low < key(50_900))
    });
    assert!(inside.count() >= 8, "{pieces:?}");
}

#[test]
fn marks_lie_inside_their_piece_in_order() {
    let stretches = vec![Stretch::counted(None, 100_000)];
    for piece in divide(&alphabet(), &SortRange::ALL, &edges(), stretches, 8) {
        assert!(!piece.marks.is_empty());
        assert!(piece.marks.iter().all(|mark| piece.range.contains(mark)));
        assert!(
            piece
                .marks
                .iter()
                .zip(piece.marks.iter().skip(1))
                .all(|(a, b)| a < b)
        );
    }
}

/// The keys of a page that ends at `to`, of a partition in which only every tenth number is a key.
fn page(slots: &Slots, from: u32, to: u32) -> Stretch {
    let keys: Vec<_> = (from..to).step_by(10).map(key).collect();
    let page = Page {
        count: keys.len() as u64,
        keys,
        next: (to < 100_000).then(|| key(to - 10)),
        rcu: 1.0,
    };
    Stretch::of(page, None, Room::of(slots, 1))
}

/// What the pieces know, in order.
fn known(pieces: Vec<Piece>) -> Vec<Key> {
    let stocks = pieces.into_iter().filter_map(|piece| piece.stock);
    stocks.flat_map(|stock| stock.draw(usize::MAX).0.keys).collect()
}

#[test]
fn what_was_read_is_cut_between_full_batches_and_nothing_of_it_gets_lost() {
    let slots = Slots::default();
    let stretches = vec![page(&slots, 0, 40_000), page(&slots, 40_000, 100_000)];
    let pieces = divide(&alphabet(), &SortRange::ALL, &edges(), stretches, 8);
    assert_eq!(pieces.len(), 8);
    let sizes = sizes(&pieces);
    assert!(
        sizes.iter().all(|size| size % (10 * BATCH) == 0),
        "ten numbers are one key: {sizes:?}"
    );
    let every: Vec<_> = (0..100_000).step_by(10).map(key).collect();
    assert_eq!(known(pieces), every);
}

#[test]
fn what_is_known_behind_something_unknown_is_read_again() {
    let slots = Slots::default();
    let unknown = Stretch::counted(Some(key(49_990)), 5000);
    let stretches = vec![page(&slots, 0, 10_000), unknown, page(&slots, 50_000, 100_000)];
    let one = divide(&alphabet(), &SortRange::ALL, &edges(), stretches, 1);
    let first: Vec<_> = (0..10_000).step_by(10).map(key).collect();
    assert_eq!(known(one), first);
}

#[test]
fn guesses_are_made_where_the_bulk_is() {
    let first: Vec<_> = (0..100).map(key).collect();
    let last: Vec<_> = (0..100).map(|number| key(99_999 - number)).collect();
    let ends = |items| {
        let edges = Edges::of(&first, &last, items).unwrap();
        (edges.low, edges.high)
    };
    assert_eq!(ends(100), (key(0), key(99_999)), "of few items each counts");
    assert_eq!(ends(1280), (key(10), key(99_989)));
    assert_eq!(ends(u64::MAX), (key(99), key(99_900)));
    let few: Vec<_> = (0..100).map(|number| key(150 - number)).collect();
    let edges = Edges::of(&first, &few, u64::MAX).unwrap();
    assert_eq!((edges.low, edges.high), (key(0), key(150)), "they overlap");
    assert!(Edges::of(&[], &last, 1280).is_none());
}

#[test]
fn landmarks_are_few_and_say_again_what_was_measured() {
    let stretches: Vec<_> = (1..=5000)
        .map(|page| Stretch::counted((page < 5000).then(|| key(page * 20 - 1)), 20))
        .collect();
    let landmarks = Landmarks::of(&stretches);
    let count = landmarks.0.len();
    assert!((120..=129).contains(&count), "{count} of them");
    let again = landmarks.stretches(&edges(), 1);
    assert_eq!(again.iter().map(|stretch| stretch.items).sum::<u64>(), 100_000);
    let pieces = divide(&alphabet(), &SortRange::ALL, &edges(), again, 8);
    let sizes = sizes(&pieces);
    assert!(
        sizes.iter().all(|size| (10_000..15_000).contains(size)),
        "{sizes:?}"
    );
    // What lies below is deleted.
    let upper = Edges {
        low: key(50_000),
        high: key(99_999),
    };
    let half: u64 = landmarks
        .stretches(&upper, 1)
        .iter()
        .map(|stretch| stretch.items)
        .sum();
    assert!((49_000..51_000).contains(&half), "{half}");
    let nothing = Landmarks::default().stretches(&upper, 77);
    assert_eq!((nothing.len(), nothing[0].items), (1, 77));
}
