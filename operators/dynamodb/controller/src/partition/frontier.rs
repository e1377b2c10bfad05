//! A range under work, as far as others may know and change it: how far it is read, and where it can be cut.

use std::collections::VecDeque;

use super::{key::Key, range::SortRange, source::Page, stock::Stock};
use crate::sabotage;

/// A range, and where it can well be cut.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// The sort keys to delete.
    pub(crate) range: SortRange,
    /// Keys inside, in order, with about as many items between any two.
    pub(crate) marks: VecDeque<Key>,
    /// WCU per second that it may begin with, if it is part of a range that is paced already.
    pub(crate) rate: Option<f64>,
    /// What is known of its beginning, or, under work, of what lies behind the cursor.
    pub(crate) stock: Option<Stock>,
}

impl Piece {
    /// A range of which nothing more is known.
    pub(crate) fn unknown(range: SortRange) -> Self {
        Self {
            range,
            marks: VecDeque::new(),
            rate: None,
            stock: None,
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

    /// Enters a page that was read: drops what was given away since it was asked for, and returns where the page ends, if
    /// there is more behind it.
    pub(super) fn turn(&mut self, page: &mut Page) -> Option<Key> {
        let range = &self.piece.range;
        if !sabotage::active(sabotage::IGNORE_RANGE) {
            page.keys.retain(|key| !range.is_below(key));
        }
        let end = range.high.key();
        let next = page.next.clone();
        let next = next.filter(|next| end.is_none_or(|end| next < end));
        self.exhausted = next.is_none();
        if let Some(next) = &next {
            while self.piece.marks.front().is_some_and(|mark| mark <= next) {
                self.piece.marks.pop_front();
            }
            self.cursor = Some(next.clone());
        }
        next
    }

    /// The next page of what is known, of up to `most` keys, entered like one that was read.
    pub(super) fn draw(&mut self, most: usize) -> Option<(Page, Option<Key>)> {
        let (mut page, left) = self.piece.stock.take()?.draw(most);
        self.piece.stock = left;
        let end = self.turn(&mut page);
        Some((page, end))
    }

    /// Work on it has ended: nothing is given away any more, since what is left goes to somebody whole. What is known of
    /// that is returned.
    pub(super) fn close(&mut self) -> Option<Stock> {
        self.exhausted = true;
        self.piece.stock.take()
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
        let mark = self.piece.marks.get(self.piece.marks.len() / 2);
        let at = match (mark, &self.piece.stock) {
            (Some(mark), _) if mark > cursor => mark.clone(),
            (_, Some(stock)) => stock.division(&self.piece.range)?.clone(),
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
            marks,
            stock: self.piece.stock.as_mut().and_then(|stock| stock.split_off(&at)),
            ..Piece::unknown(upper)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::{range::Bound, slots::Slots, stock::Room};

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
    fn what_is_known_ahead_is_divided_in_its_middle_and_drawn_by_either() {
        let slots = Slots::default();
        let keys: Vec<_> = (0..100).map(key).collect();
        let mut frontier = Frontier::new(Piece {
            stock: Stock::new(keys, None, Room::of(&slots, 100).unwrap()),
            ..Piece::unknown(SortRange::ALL)
        });
        assert!(
            frontier.give_half(None, |_, _| None).is_none(),
            "nothing was drawn yet"
        );
        let (page, end) = frontier.draw(20).unwrap();
        assert_eq!((page.keys.len(), end), (20, Some(key(19))));
        let given = frontier.give_half(None, |_, _| None).unwrap();
        // The middle of what is left, between full batches.
        assert_eq!(given.range.low, Bound::Excluded(key(44)));
        let (lower, end) = frontier.draw(100).unwrap();
        assert_eq!((lower.keys.len(), end, frontier.exhausted), (25, None, true));
        let mut other = Frontier::new(given);
        let (upper, end) = other.draw(100).unwrap();
        assert_eq!((upper.keys.len(), end, other.exhausted), (55, None, true));
        assert!(other.draw(100).is_none());
    }

    #[test]
    fn a_page_loses_what_was_given_away_while_it_was_read() {
        let mut frontier = frontier(&[10, 20, 30, 40], 5);
        frontier.give_half(None, |_, _| None).unwrap();
        let mut page = Page {
            keys: (6..36).map(key).collect(),
            next: Some(key(35)),
            ..Page::default()
        };
        assert_eq!(frontier.turn(&mut page), None);
        assert_eq!((page.keys.last(), frontier.exhausted), (Some(&key(30)), true));
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
        let mut left = frontier(&[60, 70], 50);
        left.close();
        assert!(
            left.give_half(Some(&key(90)), |_, _| Some(key(70))).is_none(),
            "it is left to somebody whole"
        );
    }
}
