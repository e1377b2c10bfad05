//! What is asked of a run, how it is steered while it runs, and what it tells.

use std::{fmt, ops::Add, sync::Arc};

use dynamodb_api::{AttributeType, RunMode, SortKeyPredicate};
use reconcile::clock::Clock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    bottleneck::Bottleneck,
    budget::TableKey,
    division::Landmarks,
    plan::Plan,
    reservation::{Journal, Reservation},
};

/// What to delete, and what must hold for it. Never changes during a run.
#[derive(Clone, Default)]
pub struct Request {
    /// Name of the table.
    pub table: String,
    /// The partition key's value as the user wrote it.
    pub partition_value: String,
    /// Asserts the type of the partition key.
    pub key_type: Option<AttributeType>,
    /// Restricts the deletion to some sort keys.
    pub sort_key: Option<SortKeyPredicate>,
    /// Delete, or only plan.
    pub mode: RunMode,
    /// The id of the table that the job began with; another table of the same name is refused.
    pub table_id: Option<String>,
    /// Refuse tables without point-in-time recovery.
    pub require_point_in_time_recovery: bool,
    /// Items that may be deleted at most, earlier runs included.
    pub max_items: Option<u64>,
    /// WCU that may be consumed at most, earlier runs included.
    pub max_wcu_total: Option<u64>,
    /// Rounds in a row without a single deletion after which the run fails.
    pub backoff_limit: u32,
    /// What earlier runs of the same job did: counted into progress and limits.
    pub earlier: Totals,
    /// What earlier runs with limits have written down last; limits are then counted from there, not from `earlier`.
    pub reservation: Option<Reservation>,
    /// The plan that an earlier run made: the partition is then not measured again.
    pub plan: Option<Plan>,
    /// Where the items lie, as making that plan showed: the partition is cut there.
    pub landmarks: Landmarks,
    /// Jobs with the same key share the table's capacity.
    pub shared_with: TableKey,
    /// Runs with the same key see the same table in the same way, so that a look which one takes is as good for the others;
    /// `None` shares with nobody. The key must tell apart whatever may be answered differently: another server, region, set
    /// of credentials or name.
    pub looks_with: Option<TableKey>,
    /// How hard to work.
    pub tuning: Tuning,
}

/// The partition value is a customer's data: it is not printed.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("table", &self.table)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Request {
    /// Deletes the whole partition, with the defaults of the kind.
    pub fn new(table: impl Into<String>, partition_value: impl Into<String>) -> Self {
        let table = table.into();
        let shared_with = TableKey {
            table: table.clone(),
            ..TableKey::default()
        };
        Self {
            table,
            partition_value: partition_value.into(),
            backoff_limit: 6,
            shared_with,
            ..Self::default()
        }
    }
}

/// How hard a run works. The defaults reach the default quota of a table (40,000 WCU per second) at 10 ms latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// BatchWriteItem requests in flight at once.
    pub max_in_flight: usize,
    /// Ranges of sort keys worked on at once.
    pub max_segments: usize,
    /// Keys read per request.
    pub page_keys: usize,
    /// Whether keys that are read to measure are kept for the deletion. Of no use to who measures and goes.
    pub keep_keys: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            max_in_flight: 16,
            max_segments: 32,
            page_keys: 500,
            keep_keys: true,
        }
    }
}

/// How a run is steered and watched.
#[derive(Clone)]
pub struct Control {
    /// Ends the run: requests in flight are awaited, nothing new is sent.
    pub cancel: CancellationToken,
    /// WCU per second that the run may consume; may change at any time.
    pub max_wcu: watch::Receiver<Option<u32>>,
    /// Receives the progress, several times a second while something happens.
    pub progress: watch::Sender<Progress>,
    /// Where a run with limits writes down what it is going to delete. Without one its limits hold as long as the
    /// process lives.
    pub journal: Option<Journal>,
    /// Every wait goes through it.
    pub clock: Clock,
    /// Asked before each write, and once more as its bytes leave; `false` ends the run as if cancelled. A leader answers `false` once its
    /// lease may be another's.
    pub fence: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("cancelled", &self.cancel.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl Control {
    /// A run that nobody steers: no limit, no fence.
    pub fn unattended(clock: Clock) -> Self {
        Self {
            cancel: CancellationToken::new(),
            max_wcu: watch::channel(None).1,
            progress: watch::Sender::new(Progress::default()),
            journal: None,
            clock,
            fence: Arc::new(|| true),
        }
    }
}

/// What was done. Sums of runs are meaningful.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Keys read.
    pub keys_read: u64,
    /// Keys whose deletion DynamoDB acknowledged.
    pub keys_acknowledged: u64,
    /// Keys handed back unprocessed and sent again.
    pub unprocessed_retries: u64,
    /// Requests, reads and writes, refused as a whole because of throttling.
    pub throttles: u64,
    /// Read capacity in thousandths of a unit.
    pub rcu_milli: u64,
    /// Write capacity in thousandths of a unit.
    pub wcu_milli: u64,
}

impl Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            keys_read: self.keys_read + other.keys_read,
            keys_acknowledged: self.keys_acknowledged + other.keys_acknowledged,
            unprocessed_retries: self.unprocessed_retries + other.unprocessed_retries,
            throttles: self.throttles + other.throttles,
            rcu_milli: self.rcu_milli + other.rcu_milli,
            wcu_milli: self.wcu_milli + other.wcu_milli,
        }
    }
}

/// What a run does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Looking at the table.
    #[default]
    Preflight,
    /// Measuring the partition.
    Planning,
    /// Deleting.
    Deleting,
    /// Making sure that nothing is left.
    Verifying,
    /// Waiting before another round.
    Retrying,
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What it does.
    pub stage: Stage,
    /// The pass over the partition, counted from 1; 0 before the first.
    pub round: u32,
    /// Rounds in a row, up to now, that ended without a single deletion. Those that ended because DynamoDB throttles
    /// are no such rounds.
    pub idle_rounds: u32,
    /// What was done, earlier runs included.
    pub totals: Totals,
    /// Items counted so far, while the partition is being measured.
    pub counted_items: Option<u64>,
    /// Items that the plan counted; `None` without a plan, or when counting was stopped.
    pub planned_items: Option<u64>,
    /// Items per second, lately.
    pub items_per_second: u64,
    /// WCU per second, lately.
    pub wcu_per_second: u64,
    /// Whether requests were refused within the last seconds for lack of capacity.
    pub throttled: bool,
    /// What refused them, when DynamoDB said so.
    pub bottleneck: Option<Bottleneck>,
    /// Why the last round did not end well.
    pub trouble: Option<String>,
}

impl Progress {
    /// Share of the planned items that are deleted, 0 to 100; `None` without a plan that counted all of them. 100 is
    /// only reached when the count is.
    pub fn percent(&self) -> Option<u8> {
        let planned = self.planned_items?;
        if planned == 0 {
            return Some(100);
        }
        u8::try_from((self.totals.keys_acknowledged.saturating_mul(100) / planned).min(100)).ok()
    }
}

/// How a run ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A strongly consistent read found nothing left.
    Empty,
    /// A dry run: the plan is complete.
    Planned,
    /// Cancelled, or fenced off: nothing is in flight any more, the rest is still there.
    Interrupted,
}

/// The result of a run that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub end: End,
    /// What was done, earlier runs included.
    pub totals: Totals,
    /// Passes over the partition: 1 unless somebody wrote to it meanwhile, or requests failed.
    pub rounds: u32,
}
