use super::*;
use crate::partition::range::Bound;

fn key(number: u32) -> Key {
    Key::S(format!("{number:03}").into())
}

fn frontier(marks: &[u32], cursor: u32) -> Frontier {
    let piece = Piece {
        range: SortRange::ALL,
        marks: marks.iter().copied().map(key).collect(),
    };
    Frontier {
        cursor: Some(key(cursor)),
        last_page: 500,
        ..Frontier::new(piece)
    }
}

#[test]
fn half_of_the_marks_ahead_are_given_away() {
    let mut frontier = frontier(&[10, 20, 30, 40], 5);
    let given = frontier.give_half(None, 100, |_, _| None).unwrap();
    assert_eq!(given.range.low, Bound::Excluded(key(30)));
    assert_eq!(given.marks, [key(40)]);
    assert_eq!(frontier.piece.range.high, Bound::Included(key(30)));
    assert_eq!(frontier.piece.marks, [key(10), key(20)]);
}

#[test]
fn without_marks_the_cut_is_guessed_and_never_behind_the_reader() {
    let mut without = frontier(&[], 50);
    let given = without
        .give_half(Some(&key(90)), 100, |_, _| Some(key(70)))
        .unwrap();
    assert_eq!(given.range.low, Bound::Excluded(key(70)));
    assert!(
        frontier(&[], 50)
            .give_half(None, 100, |_, _| Some(key(70)))
            .is_none(),
        "no upper end is known"
    );
}

#[test]
fn what_is_nearly_done_is_not_divided() {
    let mut short = Frontier {
        last_page: 99,
        ..frontier(&[60, 70], 50)
    };
    assert!(
        short
            .give_half(Some(&key(90)), 100, |_, _| Some(key(70)))
            .is_none()
    );
    let mut done = Frontier {
        exhausted: true,
        ..frontier(&[60, 70], 50)
    };
    assert!(done.give_half(Some(&key(90)), 1, |_, _| Some(key(70))).is_none());
    assert_eq!(done.weight(), 0);
}

#[test]
fn pauses_stay_within_their_bounds() {
    for attempt in 0..40 {
        assert!(pause(attempt) <= PAUSE.1);
    }
}
