//! A range under work, as far as others may know and change it: how far it is read, and where it can be cut.

use std::collections::VecDeque;

use super::{key::Key, range::SortRange};

/// A range, and where it can well be cut.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// The sort keys to delete.
    pub(crate) range: SortRange,
    /// Keys inside, in order, with about as many items between any two.
    pub(crate) marks: VecDeque<Key>,
    /// WCU per second that it may begin with, if it is part of a range that is paced already.
    pub(crate) rate: Option<f64>,
}

impl Piece {
    /// A range of which nothing more is known.
    pub(crate) fn unknown(range: SortRange) -> Self {
        Self {
            range,
            marks: VecDeque::new(),
            rate: None,
        }
    }
}

/// What others may know and change of a range under work.
#[derive(Debug)]
pub(crate) struct Frontier {
    pub(super) piece: Piece,
    /// The last key read.
    pub(super) cursor: Option<Key>,
    /// Everything was read.
    pub(super) exhausted: bool,
}

impl Frontier {
    pub(crate) fn new(piece: Piece) -> Self {
        Self {
            piece,
            cursor: None,
            exhausted: false,
        }
    }

    /// How much there is to take, to compare: marks ahead.
    pub(crate) fn weight(&self) -> usize {
        if self.exhausted {
            0
        } else {
            1 + self.piece.marks.len()
        }
    }

    /// Gives away the upper half of what was not read yet. `cut` finds a key between two others when no mark is
    /// left; `ceiling` is the highest key known, for ranges that are open above.
    pub(crate) fn give_half(
        &mut self,
        ceiling: Option<&Key>,
        cut: impl Fn(&Key, &Key) -> Option<Key>,
    ) -> Option<Piece> {
        if self.exhausted {
            return None;
        }
        // Without one nothing was seen of the range yet.
        let cursor = self.cursor.as_ref()?;
        let at = match self.piece.marks.get(self.piece.marks.len() / 2) {
            Some(mark) if mark > cursor => mark.clone(),
            _ => cut(cursor, self.piece.range.high.key().or(ceiling)?)?,
        };
        let (lower, upper) = self.piece.range.split_at(&at)?;
        let keep = self.piece.marks.partition_point(|mark| *mark < at);
        let mut marks = self.piece.marks.split_off(keep);
        if marks.front() == Some(&at) {
            marks.pop_front();
        }
        self.piece.range = lower;
        Some(Piece {
            range: upper,
            marks,
            rate: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::range::Bound;

    fn key(number: u32) -> Key {
        Key::S(format!("{number:03}").into())
    }

    fn frontier(marks: &[u32], cursor: u32) -> Frontier {
        let piece = Piece {
            marks: marks.iter().copied().map(key).collect(),
            ..Piece::unknown(SortRange::ALL)
        };
        Frontier {
            cursor: Some(key(cursor)),
            ..Frontier::new(piece)
        }
    }

    #[test]
    fn half_of_the_marks_ahead_are_given_away() {
        let mut frontier = frontier(&[10, 20, 30, 40], 5);
        let given = frontier.give_half(None, |_, _| None).unwrap();
        assert_eq!(given.range.low, Bound::Excluded(key(30)));
        assert_eq!(given.marks, [key(40)]);
        assert_eq!(frontier.piece.range.high, Bound::Included(key(30)));
        assert_eq!(frontier.piece.marks, [key(10), key(20)]);
    }

    #[test]
    fn without_marks_the_cut_is_guessed_and_never_behind_the_reader() {
        let mut without = frontier(&[], 50);
        let given = without.give_half(Some(&key(90)), |_, _| Some(key(70))).unwrap();
        assert_eq!(given.range.low, Bound::Excluded(key(70)));
        assert!(
            frontier(&[], 50).give_half(None, |_, _| Some(key(70))).is_none(),
            "no upper end is known"
        );
    }

    #[test]
    fn what_is_not_begun_or_read_to_its_end_is_not_divided() {
        let mut fresh = Frontier {
            cursor: None,
            ..frontier(&[60, 70], 50)
        };
        assert!(fresh.give_half(Some(&key(90)), |_, _| Some(key(70))).is_none());
        let mut done = Frontier {
            exhausted: true,
            ..frontier(&[60, 70], 50)
        };
        assert!(done.give_half(Some(&key(90)), |_, _| Some(key(70))).is_none());
        assert_eq!(done.weight(), 0);
    }
}
