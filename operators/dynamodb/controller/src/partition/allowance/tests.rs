use proptest::prelude::*;

use super::*;
use crate::partition::ledger::Ledger;

fn key(number: usize) -> Key {
    Key::S(format!("{number:06}").into())
}

fn entries(from: usize, to: usize) -> Vec<Entry> {
    let mut ledger = Ledger::default();
    ledger.enter((from..to).map(key).collect(), None);
    ledger.take(usize::MAX, std::time::Duration::ZERO)
}

fn allowance(max_items: Option<u64>, max_wcu_total: Option<u64>) -> Allowance {
    Allowance::new(&Request {
        max_items,
        max_wcu_total,
        ..Request::default()
    })
}

#[test]
fn what_is_in_flight_counts_as_spent_until_it_comes_back() {
    let allowance = allowance(Some(30), None);
    let (mut first, mut second) = (entries(0, 25), entries(25, 50));
    assert_eq!(allowance.claim(&mut first, 1.0), Granted::Keys(25));
    assert_eq!(
        allowance.claim(&mut second, 1.0),
        Granted::Keys(5),
        "the last batch is smaller"
    );
    let mut third = second.split_off(5);
    assert_eq!(allowance.claim(&mut third, 1.0), Granted::Later);
    allowance.release(&mut first[20..]);
    allowance.spend(&first[..20]);
    assert_eq!(allowance.claim(&mut third, 1.0), Granted::Keys(5));
    allowance.spend(&second);
    allowance.spend(&third[..5]);
    assert_eq!(
        allowance.claim(&mut third[5..], 1.0),
        Granted::Exhausted("limits.maxItems")
    );
}

#[test]
fn a_key_whose_answer_was_lost_is_claimed_once_in_whichever_round() {
    let allowance = allowance(Some(25), None);
    let mut lost = entries(0, 25);
    assert_eq!(allowance.claim(&mut lost, 1.0), Granted::Keys(25));
    allowance.doubt(&mut lost);
    assert_eq!(
        allowance.claim(&mut lost, 1.0),
        Granted::Keys(25),
        "sent again in the same round"
    );
    allowance.release(&mut lost);
    assert_eq!(
        allowance.claim(&mut entries(25, 26), 1.0),
        Granted::Exhausted("limits.maxItems"),
        "the first request may have deleted what the second handed back"
    );
    allowance.remember(lost.into_iter());
    assert_eq!(
        allowance.claim(&mut entries(0, 25), 1.0),
        Granted::Keys(25),
        "read again in the next round"
    );
    assert_eq!(
        allowance.claim(&mut entries(0, 25), 1.0),
        Granted::Exhausted("limits.maxItems")
    );
}

#[test]
fn capacity_in_flight_counts_as_spent_and_is_corrected_by_the_answer() {
    let allowance = allowance(None, Some(100));
    assert_eq!(allowance.claim(&mut entries(0, 25), 3.0), Granted::Keys(25));
    assert_eq!(allowance.claim(&mut entries(0, 25), 3.0), Granted::Keys(8));
    assert_eq!(
        allowance.claim(&mut entries(0, 25), 3.0),
        Granted::Later,
        "one unit is left, and the others may have cost less"
    );
    allowance.settle(75.0, 25.0);
    allowance.settle(24.0, 24.0);
    assert_eq!(allowance.claim(&mut entries(0, 25), 3.0), Granted::Keys(17));
    allowance.settle(51.0, 51.0);
    assert_eq!(
        allowance.claim(&mut entries(0, 1), 3.0),
        Granted::Exhausted("limits.maxWcuTotal")
    );
}

#[test]
fn the_last_unit_pays_for_one_item_of_whatever_size() {
    let allowance = allowance(None, Some(1));
    assert_eq!(allowance.claim(&mut entries(0, 25), 4.0), Granted::Keys(1));
    allowance.settle(4.0, 4.0);
    assert_eq!(
        allowance.claim(&mut entries(0, 25), 4.0),
        Granted::Exhausted("limits.maxWcuTotal")
    );
}

proptest! {
    /// Batches in flight side by side end in every way there is, the server deletes what it wants of what it loses,
    /// and the limit holds at each moment.
    #[test]
    fn the_limit_holds_whatever_happens_to_the_batches(limit in 0u64..120, fates in proptest::collection::vec((0u8..5, 0usize..26, any::<bool>()), 1..80)) {
        let allowance = allowance(Some(limit), None);
        let mut deleted = HashSet::new();
        let mut waiting = entries(0, 150);
        let mut in_flight: std::collections::VecDeque<Vec<Entry>> = std::collections::VecDeque::new();
        for (fate, part, applied) in fates {
            let rest = waiting.split_off(waiting.len().min(25));
            let mut batch = std::mem::replace(&mut waiting, rest);
            let granted = match allowance.claim(&mut batch, 1.0) {
                Granted::Keys(keys) => keys,
                Granted::Later => { prop_assert!(!in_flight.is_empty()); 0 }
                Granted::Exhausted(_) => 0,
            };
            waiting.extend(batch.split_off(granted));
            if !batch.is_empty() { in_flight.push_back(batch); }
            if in_flight.len() < 3 { continue }
            let mut batch = in_flight.pop_front().unwrap();
            let part = part.min(batch.len());
            match fate {
                0 => { allowance.release(&mut batch); waiting.extend(batch); }
                1 => {
                    if applied { deleted.extend(batch.iter().map(|entry| entry.key.clone())); }
                    allowance.doubt(&mut batch);
                    waiting.extend(batch);
                }
                2 => {
                    if applied { deleted.extend(batch.iter().map(|entry| entry.key.clone())); }
                    allowance.doubt(&mut batch);
                    // The round is given up: what is still there is read again, without a memory of its own.
                    let again: Vec<_> = batch.iter().filter(|entry| !deleted.contains(&entry.key)).map(|entry| entry.key.clone()).collect();
                    allowance.remember(batch.into_iter());
                    let mut ledger = Ledger::default();
                    ledger.enter(again, None);
                    waiting.extend(ledger.take(usize::MAX, std::time::Duration::ZERO));
                }
                _ => {
                    let mut back = batch.split_off(part);
                    deleted.extend(batch.iter().map(|entry| entry.key.clone()));
                    allowance.spend(&batch);
                    allowance.release(&mut back);
                    waiting.extend(back);
                }
            }
            prop_assert!(deleted.len() as u64 <= limit, "{} of {limit}", deleted.len());
        }
    }
}
