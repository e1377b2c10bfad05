//! The write capacity of a table, shared by all jobs that delete from it.
//!
//! A job's own limit (`maxWcuPerSecond`) bounds that job. What the table as a whole grants is unknown until it
//! throttles; from then on it is one [`Pace`] for all jobs on the table, divided so that a job which wants less than
//! its even share leaves the rest to the others.
//!
//! Not every refusal concerns the table: a physical partition has a limit of its own, and slowing all jobs down for a
//! hot one would punish those that write elsewhere. DynamoDB mostly does not say which it is. What tells is whom it
//! hits: when nearly all that is written to the table comes from jobs that are being refused, the limit counts as
//! common to all. If it is not, little is lost: who writes elsewhere wants little, and gets it.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    bottleneck::Bottleneck,
    bucket::Bucket,
    meter::Meter,
    pace::{Pace, Signal},
};

/// By how much, in WCU per second, the table's rate grows first after a cut.
const TABLE_STEP: f64 = 200.0;
/// A job may want this much more than it tries to use, so that it can grow into what others leave.
const HEADROOM: f64 = 1.25;
/// A job that has neither asked nor been answered for so long has nothing to send, and no share until it asks again.
const IDLE: Duration = Duration::from_secs(2);
/// For how long a job counts as being refused.
const REFUSED_LATELY: Duration = Duration::from_secs(2);
/// The share of what is written to a table that must come from refused jobs for the refusals to concern the table.
const NEARLY_ALL: f64 = 0.9;

/// What is known of the limit that refused a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is that of one physical partition.
    KeyRange,
    /// It is that of the table, of an index or of the account.
    Table,
    /// DynamoDB did not say.
    Unnamed,
}

impl Refusal {
    /// A refusal by `bottleneck`, if DynamoDB named one.
    pub(crate) fn by(bottleneck: Option<&Bottleneck>) -> Self {
        match bottleneck {
            Some(bottleneck) if bottleneck.is_table_wide() => Self::Table,
            Some(_) => Self::KeyRange,
            None => Self::Unnamed,
        }
    }
}

/// What makes a table the same table for the purpose of sharing its capacity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TableKey {
    /// The endpoint; empty for AWS.
    pub endpoint: String,
    /// The region.
    pub region: String,
    /// Names the credentials without revealing them: accounts are told apart by it. Empty if `table` is an id.
    pub credentials: String,
    /// Id of the table, or its name as long as that is not known.
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
    /// WCU that were sent, refused ones included.
    sent: Meter,
    /// When it last wanted to send something, or was answered.
    asked: Option<Duration>,
    /// When it was last refused for a reason that was not named.
    refused: Option<Duration>,
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
                sent: Meter::new(now),
                asked: None,
                refused: None,
            },
        );
        id
    }

    /// Whether refusals of which the reason is unknown hit nearly everything that is sent, and there is somebody to
    /// share it with.
    fn refuses_all(&mut self, now: Duration) -> bool {
        let (mut all, mut refused, mut jobs) = (0.0, 0.0, 0);
        for job in self.jobs.values_mut() {
            let sent = job.sent.rate(now);
            all += sent;
            jobs += u32::from(sent > 0.0);
            if job
                .refused
                .is_some_and(|at| now.saturating_sub(at) < REFUSED_LATELY)
            {
                refused += sent;
            }
        }
        jobs >= 2 && refused >= all * NEARLY_ALL
    }

    /// Those that have something to send.
    fn active(&self, now: Duration) -> impl Iterator<Item = u64> {
        let asked = move |job: &Member| job.asked.is_some_and(|at| now.saturating_sub(at) < IDLE);
        self.jobs
            .iter()
            .filter(move |(_, job)| asked(job))
            .map(|(id, _)| *id)
    }

    /// Sets every active job's rate from the table's.
    fn divide(&mut self, now: Duration) {
        let ids: Vec<u64> = self.active(now).collect();
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
        // What is refused is wanted as well: who is refused most must not get least for it.
        let tried = self.sent.rate(now) * HEADROOM + TABLE_STEP / 4.0;
        // Who gets its even share or more may want more still; who tries less is believed.
        let wants = if even.is_some_and(|even| tried >= even) {
            f64::INFINITY
        } else {
            tried
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
            job.asked = Some(now);
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

    /// Learns from an answer to a batch that `reserved` was reserved for. Returns whether a refusal is for the others to
    /// heed: the table is at its limit, and this job has less than an even share of it.
    pub fn settle(&self, reserved: f64, consumed: f64, refusal: Option<Refusal>, now: Duration) -> bool {
        let mut table = self.table.lock();
        if let Some(job) = table.jobs.get_mut(&self.id) {
            job.asked = Some(now);
            job.delivered.add(consumed, now);
            job.sent.add(reserved.max(consumed), now);
            if refusal == Some(Refusal::Unnamed) {
                job.refused = Some(now);
            }
        }
        let table_wide = match refusal {
            Some(Refusal::Table) => true,
            Some(Refusal::Unnamed) => table.refuses_all(now),
            Some(Refusal::KeyRange) | None => false,
        };
        if let Some(job) = table.jobs.get_mut(&self.id) {
            // An attempt on what belongs to all is a use of the share: else who asks most often gets most.
            let used = if table_wide {
                reserved.max(consumed)
            } else {
                consumed
            };
            job.bucket.take(used - reserved);
        }
        let signal = if table_wide {
            Signal::Partial
        } else {
            Signal::Clean
        };
        table.pace.reserve(consumed);
        table.pace.settle(consumed, consumed, signal, now);
        // What follows looks at every job: not after each answer.
        let Some(total) = table.pace.rate().filter(|_| table_wide) else {
            return false;
        };
        let even = total / table.active(now).count().max(1) as f64;
        let job = table.jobs.get_mut(&self.id);
        job.is_some_and(|job| job.delivered.rate(now) < even * NEARLY_ALL)
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
mod tests;
