//! The write capacity of a table, shared by all jobs that delete from it.
//!
//! A job's own limit (`maxWcuPerSecond`) bounds that job. What the table as a whole grants is unknown until it
//! throttles; from then on it is one [`Pace`] for all jobs on the table, divided so that a job which wants less than
//! its even share leaves the rest to the others.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    bucket::Bucket,
    meter::Meter,
    pace::{Pace, Signal},
};

/// By how much, in WCU per second, the table's rate grows first after a cut.
const TABLE_STEP: f64 = 200.0;
/// A job may want this much more than it gets, so that it can grow into what others leave.
const HEADROOM: f64 = 1.25;

/// What makes a table the same table for the purpose of sharing its capacity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TableKey {
    /// The endpoint; empty for AWS.
    pub endpoint: String,
    /// The region.
    pub region: String,
    /// Names the credentials without revealing them: accounts are told apart by it.
    pub credentials: String,
    /// Name of the table.
    pub table: String,
}

/// All tables that are being worked on. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Budgets(Arc<Mutex<HashMap<TableKey, Weak<Mutex<TableBudget>>>>>);

#[derive(Debug)]
struct TableBudget {
    pace: Pace,
    jobs: HashMap<u64, Member>,
    next_id: u64,
}

#[derive(Debug)]
struct Member {
    limit: Option<f64>,
    bucket: Bucket,
    delivered: Meter,
}

/// A job's place among those that share a table. Dropping it leaves its share to the others.
#[derive(Debug)]
pub struct Share {
    table: Arc<Mutex<TableBudget>>,
    id: u64,
}

impl Budgets {
    /// Joins the jobs on a table. `now` counts from any origin, the same for all jobs of a process.
    pub fn join(&self, key: TableKey, now: Duration) -> Share {
        let mut tables = self.0.lock();
        tables.retain(|_, table| table.strong_count() > 0);
        let table = tables.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let budget = TableBudget {
                pace: Pace::new(TABLE_STEP, now),
                jobs: HashMap::new(),
                next_id: 0,
            };
            let table = Arc::new(Mutex::new(budget));
            tables.insert(key, Arc::downgrade(&table));
            table
        });
        drop(tables);
        let id = table.lock().admit(now);
        Share { table, id }
    }
}

impl TableBudget {
    fn admit(&mut self, now: Duration) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.jobs.insert(
            id,
            Member {
                limit: None,
                bucket: Bucket::new(None, now),
                delivered: Meter::new(now),
            },
        );
        id
    }

    /// Sets every job's rate from the table's.
    fn divide(&mut self, now: Duration) {
        let ids: Vec<u64> = self.jobs.keys().copied().collect();
        let total = self.pace.rate();
        let even = total.map(|total| total / ids.len().max(1) as f64);
        let wants: Vec<f64> = ids
            .iter()
            .map(|id| self.jobs.get_mut(id).map_or(0.0, |job| job.wants(even, now)))
            .collect();
        let shares = total.map(|total| fair_shares(total, &wants));
        for (index, id) in ids.iter().enumerate() {
            let Some(job) = self.jobs.get_mut(id) else {
                continue;
            };
            let share = shares.as_ref().map(|shares| shares[index].max(1.0));
            let rate = match (share, job.limit) {
                (Some(share), Some(limit)) => Some(share.min(limit)),
                (share, limit) => share.or(limit),
            };
            let changed = match (rate, job.bucket.rate()) {
                (Some(new), Some(old)) => (new - old).abs() > old * 0.01,
                (new, old) => new.is_some() != old.is_some(),
            };
            if changed {
                job.bucket.set_rate(rate, now);
            }
        }
    }
}

impl Member {
    /// The rate that the job could use, given what an even division would grant it.
    fn wants(&mut self, even: Option<f64>, now: Duration) -> f64 {
        let delivered = self.delivered.rate(now) * HEADROOM + TABLE_STEP / 4.0;
        // Who gets its even share or more may want more still; who uses less is believed.
        let wants = if even.is_some_and(|even| delivered >= even) {
            f64::INFINITY
        } else {
            delivered
        };
        wants.min(self.limit.unwrap_or(f64::INFINITY))
    }
}

impl Share {
    /// Reserves what a batch is expected to consume, or says how long to wait, given the job's own limit as it is now.
    /// Looking and taking are one step: two batches are never admitted on the same capacity.
    ///
    /// # Errors
    /// The time after which to ask again.
    pub fn try_reserve(&self, limit: Option<u32>, wcu: f64, now: Duration) -> Result<(), Duration> {
        let mut table = self.table.lock();
        let limit = limit.map(f64::from);
        if let Some(job) = table.jobs.get_mut(&self.id) {
            job.limit = limit;
        }
        table.divide(now);
        table
            .jobs
            .get_mut(&self.id)
            .map_or(Ok(()), |job| job.bucket.try_take(wcu, now))
    }

    /// Gives back what was reserved and not used.
    pub fn give_back(&self, wcu: f64) {
        if let Some(job) = self.table.lock().jobs.get_mut(&self.id) {
            job.bucket.take(-wcu);
        }
    }

    /// The job's rate now; `None` if nothing limits it.
    pub fn rate(&self) -> Option<f64> {
        self.table
            .lock()
            .jobs
            .get(&self.id)
            .and_then(|job| job.bucket.rate())
    }

    /// Learns from an answer. `table_wide` is true if a throttle concerned the table and not one key range.
    pub fn settle(&self, reserved: f64, consumed: f64, table_wide: bool, now: Duration) {
        let mut table = self.table.lock();
        table.pace.reserve(consumed);
        let signal = if table_wide {
            Signal::Partial
        } else {
            Signal::Clean
        };
        table.pace.settle(consumed, consumed, signal, now);
        if let Some(job) = table.jobs.get_mut(&self.id) {
            job.bucket.take(consumed - reserved);
            job.delivered.add(consumed, now);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.table.lock().jobs.remove(&self.id);
    }
}

/// Divides `total` so that nobody gets more than wanted, and nobody gets less than another who wants more.
fn fair_shares(total: f64, wants: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wants.len()).collect();
    order.sort_by(|a, b| wants[*a].total_cmp(&wants[*b]));
    let mut shares = vec![0.0; wants.len()];
    let mut left = total;
    for (served, index) in order.iter().enumerate() {
        let even = left / (wants.len() - served) as f64;
        shares[*index] = wants[*index].min(even);
        left -= shares[*index];
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(table: &str) -> TableKey {
        TableKey {
            table: table.into(),
            ..TableKey::default()
        }
    }

    #[test]
    fn a_limit_binds_its_job_only_and_follows_changes() {
        let budgets = Budgets::default();
        let (limited, free) = (
            budgets.join(key("T"), Duration::ZERO),
            budgets.join(key("T"), Duration::ZERO),
        );
        assert_eq!(limited.try_reserve(Some(10), 20.0, Duration::ZERO), Ok(()));
        assert_eq!(
            limited.try_reserve(Some(10), 1.0, Duration::ZERO),
            Err(Duration::from_secs(2))
        );
        assert_eq!(free.try_reserve(None, 1000.0, Duration::ZERO), Ok(()));
        assert_eq!(
            limited.try_reserve(Some(100), 1.0, Duration::ZERO),
            Err(Duration::from_millis(200))
        );
        limited.give_back(20.0);
        assert_eq!(limited.try_reserve(Some(100), 1.0, Duration::ZERO), Ok(()));
    }

    #[test]
    fn many_ranges_of_a_job_do_not_start_on_one_token() {
        let budgets = Budgets::default();
        let share = budgets.join(key("T"), Duration::ZERO);
        let mut taken = 0.0;
        for tick in 0..1000 {
            // Thirty-two ranges ask at each moment.
            for _ in 0..32 {
                if share
                    .try_reserve(Some(100), 25.0, Duration::from_millis(tick * 10))
                    .is_ok()
                {
                    taken += 25.0;
                }
            }
        }
        assert!(
            (975.0..=1050.0).contains(&taken),
            "{taken} WCU in 10 s at 100 per second"
        );
    }

    #[test]
    fn jobs_on_a_throttled_table_get_even_shares() {
        let budgets = Budgets::default();
        let jobs = [
            budgets.join(key("T"), Duration::ZERO),
            budgets.join(key("T"), Duration::ZERO),
        ];
        let other = budgets.join(key("other"), Duration::ZERO);
        // One job has been taking three times as much as the other.
        for tick in 1..=20 {
            let now = Duration::from_millis(tick * 100);
            jobs[0].settle(75.0, 75.0, false, now);
            jobs[1].settle(25.0, 25.0, false, now);
        }
        let now = Duration::from_millis(2100);
        jobs[0].settle(75.0, 0.0, true, now);
        for job in &jobs {
            let _ = job.try_reserve(None, 0.0, now);
        }
        let rates: Vec<f64> = jobs.iter().filter_map(Share::rate).collect();
        assert_eq!(rates.len(), 2);
        assert!(rates[0] < 750.0 && rates[0] <= rates[1] * 2.5, "{rates:?}");
        assert_eq!(other.try_reserve(None, 25.0, now), Ok(()));
        assert_eq!(other.rate(), None);
    }

    #[test]
    fn a_job_that_ends_leaves_its_share() {
        let budgets = Budgets::default();
        let (stays, leaves) = (
            budgets.join(key("T"), Duration::ZERO),
            budgets.join(key("T"), Duration::ZERO),
        );
        for tick in 1..=20 {
            let now = Duration::from_millis(tick * 100);
            stays.settle(100.0, 100.0, false, now);
            leaves.settle(100.0, 100.0, false, now);
        }
        let now = Duration::from_millis(2100);
        stays.settle(25.0, 0.0, true, now);
        let _ = stays.try_reserve(None, 0.0, now);
        let before = stays.rate().unwrap();
        drop(leaves);
        let _ = stays.try_reserve(None, 0.0, now);
        assert!(
            stays.rate().unwrap() > before * 1.2,
            "{:?} after {before}",
            stays.rate()
        );
    }

    proptest! {
        #[test]
        fn shares_are_fair_and_use_everything_wanted(total in 1.0f64..10_000.0, wants in proptest::collection::vec(0.0f64..5_000.0, 1..20)) {
            let shares = fair_shares(total, &wants);
            let sum: f64 = shares.iter().sum();
            let wanted: f64 = wants.iter().sum();
            prop_assert!((sum - total.min(wanted)).abs() < 1e-6);
            for (share, want) in shares.iter().zip(&wants) {
                prop_assert!(share <= want);
                // Who is denied something gets at least as much as anybody else.
                if share + 1e-9 < *want {
                    prop_assert!(shares.iter().all(|other| *other <= share + 1e-6));
                }
            }
        }
    }
}
