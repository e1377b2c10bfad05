//! Cutting a partition into pieces of about equally many items.

use std::sync::Arc;

use super::{
    frontier::Piece,
    interpolation::Alphabet,
    key::Key,
    range::SortRange,
    run::BATCH,
    source::Page,
    stock::{Room, Stock},
};

/// Stretches that a partition is taken to consist of: four for each of the most ranges that a run works on at once.
const STRETCHES: u64 = 128;

/// A stretch of the partition, which begins where the one before it ends.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    /// The last key that belongs to it; nothing: it goes to the end of the range.
    end: Option<Key>,
    /// How many items it has.
    pub(super) items: u64,
    /// Their keys, if they were read and kept.
    stock: Option<Stock>,
}

/// Both ends of the bulk of the partition, between which guesses are made.
pub(super) struct Edges {
    /// A key near the lowest.
    pub(super) low: Key,
    /// A key near the highest.
    pub(super) high: Key,
}

impl Edges {
    /// The edges of so many items, of which these are the `first`, from the lowest up, and the `last`, from the highest
    /// down. A few items of another kind often lie far off at an end (`METADATA` before a million `ORDER#…`): guesses that
    /// began from these would all miss. So as many are passed over as make no difference; `None` without any key.
    pub(super) fn of(first: &[Key], last: &[Key], items: u64) -> Option<Self> {
        let past = usize::try_from(items / STRETCHES).unwrap_or(usize::MAX);
        let near = |keys: &[Key], past: usize| keys.get(past.min(keys.len().saturating_sub(1))).cloned();
        let edges = |past| {
            Some(Self {
                low: near(first, past)?,
                high: near(last, past)?,
            })
        };
        edges(past)
            .filter(|edges| edges.low < edges.high)
            .or_else(|| edges(0))
    }
}

impl Stretch {
    /// A stretch of which only the number of items is known.
    pub(super) fn counted(end: Option<Key>, items: u64) -> Self {
        Self {
            end,
            items,
            stock: None,
        }
    }

    /// What a page showed of a range that ends at `end`; its keys are kept in `room`. Without room it was only counted.
    pub(super) fn of(page: Page, end: Option<&Key>, room: Option<Room>) -> Self {
        let end = page.next.or_else(|| end.cloned());
        let Some(room) = room else {
            return Self::counted(end, page.count);
        };
        let items = page.keys.len() as u64;
        Self {
            stock: Stock::new(page.keys, end.clone(), room),
            end,
            items,
        }
    }

    /// Divides it behind these keys, which lie in it, in order.
    fn divided(mut self, cuts: Vec<Key>) -> Vec<Self> {
        let even = self.items / (cuts.len() as u64 + 1);
        let mut parts = Vec::with_capacity(cuts.len() + 1);
        for at in cuts {
            let upper = self.stock.as_mut().and_then(|stock| stock.split_off(&at));
            let stock = std::mem::replace(&mut self.stock, upper);
            let items = stock.as_ref().map_or(even, |stock| stock.len() as u64);
            self.items = self.items.saturating_sub(items);
            let end = Some(at);
            parts.push(Self { end, items, stock });
        }
        parts.push(self);
        parts
    }
}

/// Where the items of a partition lie, as measuring showed: keys in order, and how many items there are up to each from
/// the one before; behind the last there may be more. Some KB; clones share them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Landmarks(Arc<[(Option<Key>, u64)]>);

impl Landmarks {
    /// Those of a partition that was measured so.
    pub(super) fn of(stretches: &[Stretch]) -> Self {
        let total: u64 = stretches.iter().map(|stretch| stretch.items).sum();
        let (mut marks, mut seen, mut since) = (Vec::new(), 0, 0);
        for stretch in stretches {
            seen += stretch.items;
            since += stretch.items;
            let due =
                u128::from(seen) * u128::from(STRETCHES) >= u128::from(total) * (marks.len() as u128 + 1);
            if due && since > 0 && stretch.end.is_some() {
                marks.push((stretch.end.clone(), std::mem::take(&mut since)));
            }
        }
        marks.push((None, since));
        Self(marks.into())
    }

    /// What they say about a partition that now has these ends. `items` are taken to be there if they say nothing.
    pub(super) fn stretches(&self, edges: &Edges, items: u64) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        let mut last = 0;
        for (end, items) in self.0.iter() {
            match end {
                Some(end) if *end <= edges.low => {}
                Some(end) if *end < edges.high => stretches.push(Stretch::counted(Some(end.clone()), *items)),
                _ => last += items,
            }
        }
        let behind = if stretches.is_empty() { items } else { last };
        stretches.push(Stretch::counted(None, behind));
        stretches
    }
}

/// Cuts a range into at most `count` pieces of about equally many items, and notes where each can be cut further.
pub(super) fn divide(
    alphabet: &Alphabet,
    range: &SortRange,
    edges: &Edges,
    stretches: Vec<Stretch>,
    count: u64,
) -> Vec<Piece> {
    let fine = refine(alphabet, edges, stretches, count.saturating_mul(4));
    let total: u64 = fine.iter().map(|stretch| stretch.items).sum();
    let mut pieces = Vec::new();
    let mut rest = Piece::unknown(range.clone());
    let (mut seen, mut known) = (0, true);
    for stretch in fine {
        seen += stretch.items;
        // A stock begins where its piece begins: what is known behind something unknown is read again.
        known &= stretch.stock.is_some();
        if let Some(stock) = stretch.stock.filter(|_| known) {
            match &mut rest.stock {
                Some(before) => before.append(stock),
                none => *none = Some(stock),
            }
        }
        let Some(end) = stretch.end else { continue };
        let due = u128::from(seen) * u128::from(count) >= u128::from(total) * (pieces.len() as u128 + 1);
        if due && let Some((lower, upper)) = rest.range.split_at(&end) {
            pieces.push(Piece {
                range: lower,
                ..std::mem::replace(&mut rest, Piece::unknown(upper))
            });
            known = true;
        } else {
            rest.marks.push_back(end);
        }
    }
    let high = rest.range.high.key().cloned();
    rest.marks.retain(|mark| Some(mark) != high.as_ref());
    pieces.push(rest);
    pieces
}

/// Divides stretches that hold more than a `parts`-th of all items: between full batches where keys are known, else
/// guessing that they are spread evenly.
fn refine(alphabet: &Alphabet, edges: &Edges, stretches: Vec<Stretch>, parts: u64) -> Vec<Stretch> {
    let total: u64 = stretches.iter().map(|stretch| stretch.items).sum();
    let ideal = (total / parts.max(1)).max(1);
    let mut fine = Vec::new();
    let mut low = edges.low.clone();
    for stretch in stretches {
        let high = stretch.end.clone().unwrap_or_else(|| edges.high.clone());
        let shares = u32::try_from((stretch.items / ideal).clamp(1, 1024)).unwrap_or(1);
        let cut = |share| match &stretch.stock {
            Some(stock) => full_batches(stock, share, shares),
            None => alphabet.between(&low, &high, share, shares),
        };
        let mut cuts: Vec<Key> = (1..shares).filter_map(cut).collect();
        cuts.dedup();
        fine.extend(stretch.divided(cuts));
        low = high;
    }
    fine
}

/// The key that ends `share` of `shares` even shares of what is known, give or take a batch.
fn full_batches(stock: &Stock, share: u32, shares: u32) -> Option<Key> {
    let batches = stock.len() as u64 * u64::from(share) / u64::from(shares) / BATCH as u64;
    let keys = usize::try_from(batches).ok()?.saturating_mul(BATCH);
    stock.key(keys).cloned()
}

#[cfg(test)]
mod tests;
