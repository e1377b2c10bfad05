//! Write limits of simulated physical partitions: token buckets on a clock.
//!
//! A key passes if its bucket is not in debt, and is charged what it really consumed afterwards, so that a bucket
//! may go below zero by the size of one batch, as the service's own accounting does.

use std::{cmp::Ordering, time::Duration};

use serde_json::Value;

use super::{batch::fingerprint, number};

/// How keys are spread over partitions.
#[derive(Clone, Debug)]
enum Split {
    /// By a hash of the whole key.
    Hash,
    /// By sort key: a boundary is the first key of the next partition.
    Ranges {
        attribute: String,
        boundaries: Vec<Value>,
    },
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Duration,
}

/// A write limit of a table's partitions, or of an index.
#[derive(Clone, Debug)]
pub struct Limit {
    table: String,
    index: Option<String>,
    split: Split,
    rate: f64,
    capacity: f64,
    reason: &'static str,
    buckets: Vec<Bucket>,
}

impl Limit {
    /// So many partitions, each of this many write units per second of the clock; keys are spread by a hash.
    pub fn hashed(table: &str, partitions: usize, rate: f64) -> Self {
        Self::new(table, Split::Hash, partitions.max(1), rate)
    }

    /// Partitions by range of the sort key, each of this many write units per second of the clock.
    ///
    /// A boundary is the first sort key of the next partition, typed as on the wire (`{"N": "500"}`), ascending.
    pub fn ranges(table: &str, sort_key: &str, boundaries: Vec<Value>, rate: f64) -> Self {
        let partitions = boundaries.len() + 1;
        Self::new(
            table,
            Split::Ranges {
                attribute: sort_key.to_owned(),
                boundaries,
            },
            partitions,
            rate,
        )
    }

    /// A global index of this many write units per second, through which every write of the table has to pass.
    pub fn index(table: &str, index: &str, rate: f64) -> Self {
        let mut limit = Self::new(table, Split::Hash, 1, rate);
        limit.index = Some(index.to_owned());
        limit.reason = "IndexWriteProvisionedThroughputExceeded";
        limit
    }

    fn new(table: &str, split: Split, partitions: usize, rate: f64) -> Self {
        // Less than one unit would never let a key pass.
        let capacity = rate.max(1.0);
        let bucket = Bucket {
            tokens: capacity,
            at: Duration::ZERO,
        };
        Self {
            table: table.to_owned(),
            index: None,
            split,
            rate,
            capacity,
            reason: "TableWriteKeyRangeThroughputExceeded",
            buckets: vec![bucket; partitions],
        }
    }

    /// How much unused capacity a partition saves up; 1 s by default. Partitions start with all of it.
    #[must_use]
    pub fn burst(mut self, burst: Duration) -> Self {
        self.capacity = (self.rate * burst.as_secs_f64()).max(1.0);
        for bucket in &mut self.buckets {
            bucket.tokens = self.capacity;
        }
        self
    }

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    pub(super) fn index_name(&self) -> Option<&str> {
        self.index.as_deref()
    }

    pub(super) fn reason(&self) -> &'static str {
        self.reason
    }

    /// Whether this key's partition takes another write at this moment.
    pub(super) fn has_room(&mut self, key: &Value, now: Duration) -> bool {
        let (rate, capacity) = (self.rate, self.capacity);
        let bucket = self.bucket(key);
        let passed = now.saturating_sub(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * rate).min(capacity);
        bucket.at = now;
        bucket.tokens >= 1.0
    }

    /// Charges this key's partition.
    pub(super) fn charge(&mut self, key: &Value, units: f64) {
        self.bucket(key).tokens -= units;
    }

    fn bucket(&mut self, key: &Value) -> &mut Bucket {
        let partitions = self.buckets.len();
        let number = match &self.split {
            Split::Hash => usize::try_from(fingerprint(key) >> 32).unwrap_or(0) % partitions,
            Split::Ranges {
                attribute,
                boundaries,
            } => {
                let sort = &key[attribute];
                let above = |boundary: &&Value| number::compare(sort, boundary).is_some_and(Ordering::is_ge);
                boundaries.iter().take_while(above).count()
            }
        };
        &mut self.buckets[number.min(partitions - 1)]
    }
}
