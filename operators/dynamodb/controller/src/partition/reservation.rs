//! What is written down before keys are sent: the memory of `limits` over restarts of the operator.
//!
//! A run that has limits sends a key only after it has written down, where a crash does not reach it, that it is going
//! to. Whoever comes after it counts such a key as deleted until it is read again: it is still there then, and its
//! place among the limits is its own already.
//!
//! # Guarantees
//! - What stands in the last reservation, spent and reserved together, is at no moment less than what may have been
//!   deleted.
//! - It holds digests of keys, from which no key can be read, and is bounded: [`CHUNK`] keys under way and
//!   [`DOUBTFUL`] of earlier trouble.
//! - Of one run at most one is being written at a time; of all runs whose journals are of the same [`Journals`], hardly more
//!   than ten in a second, however many and however fast they are. They take turns.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dynamodb_api::DeletionAllowance;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::key::Key;

/// Keys that one run has reserved at once at most.
pub(super) const CHUNK: usize = 4096;
/// Keys that may be deleted or not, of requests whose answer was lost and of runs that broke off, at most. What would be
/// more counts as deleted for good.
pub(super) const DOUBTFUL: usize = 8192;
/// The least time between two reservations, whosoever.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// Bytes of a digest; two of that many keys are the same with a probability of less than one in a million.
const DIGEST: usize = 6;

/// A key, as far as a reservation tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest([u8; DIGEST]);

impl KeyDigest {
    /// The digest of a sort key; `salt` names the partition.
    pub(super) fn of(salt: &str, key: &Key) -> Self {
        let mut digest = Sha256::new();
        digest.update((salt.len() as u64).to_be_bytes());
        digest.update(salt.as_bytes());
        digest.update(key.kind().as_str());
        digest.update(key.as_bytes());
        let mut short = [0; DIGEST];
        short
            .iter_mut()
            .zip(digest.finalize())
            .for_each(|(to, from)| *to = from);
        Self(short)
    }
}

/// What was spent of the limits, and what is reserved, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// Counts up within a run, from 1.
    pub number: u64,
    /// Items that count as deleted for good.
    pub items: u64,
    /// Write capacity, in thousandths of a unit, that was consumed for good.
    pub wcu_milli: u64,
    /// Write capacity that deleting `keys` is expected to take, in thousandths of a unit.
    pub reserved_milli: u64,
    /// Keys that may be deleted by now, in order.
    pub keys: Vec<KeyDigest>,
}

impl Reservation {
    /// As the status of a job holds it.
    pub fn to_status(&self) -> DeletionAllowance {
        let int = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let bytes: Vec<u8> = self.keys.iter().flat_map(|key| key.0).collect();
        DeletionAllowance {
            items_spent: int(self.items),
            wcu_milli_spent: int(self.wcu_milli),
            wcu_milli_reserved: int(self.reserved_milli),
            reserved_keys: (!bytes.is_empty()).then(|| STANDARD.encode(bytes)),
        }
    }

    /// What [`Reservation::to_status`] wrote. Keys that are no longer legible count as deleted.
    pub fn from_status(status: &DeletionAllowance) -> Self {
        let uint = |value: i64| u64::try_from(value).unwrap_or(0);
        let text = status.reserved_keys.as_deref().unwrap_or_default();
        let bytes = STANDARD.decode(text).ok();
        let lost = bytes
            .is_none()
            .then_some(text.len() as u64 * 3 / 4 / DIGEST as u64);
        let (keys, _) = bytes.as_deref().unwrap_or_default().as_chunks();
        Self {
            number: 0,
            items: uint(status.items_spent) + lost.unwrap_or(0),
            wcu_milli: uint(status.wcu_milli_spent),
            reserved_milli: uint(status.wcu_milli_reserved),
            keys: keys.iter().copied().map(KeyDigest).collect(),
        }
    }
}

/// The pace at which the journals of one process are written. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Journals {
    /// When the next reservation may be asked for.
    next: Arc<Mutex<Duration>>,
}

impl Journals {
    /// A journal that is written by whoever follows the first of what is returned and confirms by the second.
    pub fn open(&self) -> (Journal, watch::Receiver<Reservation>, watch::Sender<u64>) {
        let (wanted, to_write) = watch::channel(Reservation::default());
        let (confirm, written) = watch::channel(0);
        let all = self.clone();
        (Journal { wanted, written, all }, to_write, confirm)
    }

    /// From when on who asks at `now` may ask for a reservation.
    fn turn(&self, now: Duration) -> Duration {
        let mut next = self.next.lock();
        let turn = now.max(*next);
        *next = turn + INTERVAL;
        turn
    }
}

/// Where reservations are written down. Clones are the same journal.
#[derive(Clone, Debug)]
pub struct Journal {
    /// The reservation that is to be written.
    wanted: watch::Sender<Reservation>,
    /// The number of the last one that stands written.
    written: watch::Receiver<u64>,
    all: Journals,
}

impl Journal {
    /// From when on this run may ask for its next reservation, if it asks at `now` for its turn.
    pub(super) fn turn(&self, now: Duration) -> Duration {
        self.all.turn(now)
    }

    pub(super) fn ask(&self, reservation: Reservation) {
        self.wanted.send_replace(reservation);
    }

    pub(super) fn written(&self) -> u64 {
        *self.written.borrow()
    }

    /// Waits for a reservation after number `seen` to be written. Never returns if nobody writes any more.
    pub(super) async fn written_after(&self, seen: u64) {
        let mut written = self.written.clone();
        if written.wait_for(|number| *number > seen).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> KeyDigest {
        KeyDigest::of("Orders/tenant", &Key::S(text.into()))
    }

    #[test]
    fn a_reservation_is_read_as_it_was_written() {
        let reservation = Reservation {
            number: 0,
            items: 7,
            wcu_milli: 8500,
            reserved_milli: 2000,
            keys: vec![digest("a"), digest("b")],
        };
        let status = reservation.to_status();
        assert_eq!(Reservation::from_status(&status), reservation);
        let empty = Reservation::default();
        assert_eq!(empty.to_status().reserved_keys, None);
        assert_eq!(Reservation::from_status(&empty.to_status()), empty);
    }

    #[test]
    fn keys_that_are_not_legible_count_as_deleted() {
        let status = DeletionAllowance {
            items_spent: 3,
            // 32 characters are four keys of six bytes.
            reserved_keys: Some("~".repeat(32)),
            ..DeletionAllowance::default()
        };
        let read = Reservation::from_status(&status);
        assert_eq!((read.items, read.keys.len()), (7, 0));
    }

    #[test]
    fn a_key_has_another_digest_in_another_partition_and_in_another_type() {
        let all = [
            digest("1"),
            digest("2"),
            KeyDigest::of("Orders/other", &Key::S("1".into())),
            KeyDigest::of("Orders/tenant", &Key::B(b"1"[..].into())),
        ];
        let different: std::collections::BTreeSet<_> = all.into_iter().collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn the_largest_reservation_fits_the_schema() {
        let keys = (0..CHUNK + DOUBTFUL).map(|n| digest(&n.to_string())).collect();
        let reservation = Reservation {
            keys,
            ..Reservation::default()
        };
        let text = reservation.to_status().reserved_keys.unwrap();
        assert_eq!(text.len(), 98_304, "as status.allowance.reservedKeys allows");
    }
}
