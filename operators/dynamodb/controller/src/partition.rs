//! Deleting one partition of a DynamoDB table: fast, resumable at any point, and proven.
//!
//! A run looks at the table ([`table`]), measures the partition ([`plan`]), cuts it into ranges of sort keys
//! ([`interpolation`]) and deletes these in parallel, each at the rate that DynamoDB grants it ([`pace`]), all
//! together within one budget ([`budget`]). Then it looks, strongly consistently, whether anything is left.
//!
//! # Guarantees
//! - [`End::Empty`] means that a strongly consistent read found nothing, after the last deletion was acknowledged, on
//!   the table that the run began with.
//! - Every key that was read is acknowledged by DynamoDB, or still there when the run ends. Keys that come back
//!   unprocessed are sent again, and only those.
//! - No key outside the partition and the sort key condition is ever sent.
//! - When a run returns, nothing is in flight. A run that is dropped instead leaves requests to their fate; each of
//!   them is idempotent.
//! - A run may be repeated from anywhere: what is deleted stays deleted and costs nothing to read again.
//!
//! # Assumptions
//! The client retries nothing by itself ([`crate::endpoint`] builds such clients): a retry that is not seen here
//! would hide throttling.
//!
//! # Caveats
//! BatchWriteItem does not tell whether an item existed: keys are counted as acknowledged, not as deleted. Items that
//! others write behind the readers are found by the look at the end, which begins another pass, at most ten.

mod admission;
mod allowance;
mod bottleneck;
pub mod bucket;
pub mod budget;
mod departure;
mod division;
mod error;
mod failures;
mod frontier;
pub mod interpolation;
pub mod key;
mod ledger;
mod lookout;
pub mod meter;
mod moment;
pub mod number;
pub mod pace;
mod pause;
mod pin;
pub mod plan;
mod pulse;
pub mod range;
mod request;
mod reservation;
mod round;
mod run;
mod segment;
pub mod slots;
mod source;
mod stock;
mod survey;
pub mod table;
mod teller;

use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use dynamodb_api::{Reason, RunMode};

pub use self::{
    bottleneck::{Bottleneck, Capacity},
    division::Landmarks,
    error::{Failure, Kind, Problem},
    plan::Plan,
    request::{Control, End, Finished, Progress, Request, Stage, Totals, Tuning},
    reservation::{Journal, Journals, KeyDigest, Reservation},
    table::{Preflight, Table},
};
use self::{
    budget::{Budgets, Share},
    frontier::Piece,
    lookout::{Lookout, Lookouts},
    moment::Moment,
    pin::Pin,
    range::SortRange,
    run::Run,
    slots::Slots,
    source::Source,
};

/// What all runs of a process share: the tables' budgets, the looks at them and the memory for ranges under work. Clones
/// share it.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    budgets: Budgets,
    slots: Slots,
    lookouts: Lookouts,
}

/// A run's part in what runs share.
#[derive(Debug)]
struct Common {
    share: Share,
    slots: Slots,
    lookout: Arc<Lookout>,
}

/// A run that knows its table and its plan and has deleted nothing yet.
#[derive(Debug)]
pub struct Prepared {
    run: Arc<Run>,
    range: SortRange,
    pieces: Vec<Piece>,
    plan: Option<Plan>,
    landmarks: Landmarks,
}

impl Engine {
    /// An engine that works on `slots` ranges at once, over all its runs.
    pub fn with_slots(slots: usize) -> Self {
        Self {
            slots: Slots::new(slots),
            ..Self::default()
        }
    }

    fn common(&self, request: &Request, control: &Control) -> Common {
        let now = control.clock.elapsed();
        Common {
            share: self.budgets.join(request.shared_with.clone(), now),
            slots: self.slots.clone(),
            lookout: self.lookouts.join(request.looks_with.clone()),
        }
    }

    /// Looks at the table and measures the partition. Only reads.
    ///
    /// # Errors
    /// What the table or the plan rules out, with the reason for the conditions; nothing was deleted.
    pub async fn prepare(
        &self,
        client: &Client,
        request: Request,
        control: Control,
    ) -> Result<Prepared, Failure> {
        control
            .progress
            .send_modify(|progress| progress.stage = Stage::Preflight);
        // What the answer tells held when the question was put: it may take long.
        let began = Moment::now();
        let preflight = table::preflight(client, &request).await?;
        control
            .progress
            .send_modify(|progress| progress.totals = request.earlier);
        let common = self.common(&request, &control);
        let source = Source::new(client.clone(), &preflight);
        let run = Arc::new(Run::new(source, request, control, common, Pin::new(began)));
        let survey = teller::while_reading(&run, survey::survey(&run, &preflight.range)).await?;
        if let Some(plan) = survey.plan.as_ref().filter(|_| run.request.plan.is_none()) {
            check_limits(plan, &run.request)?;
        }
        run.control.progress.send_modify(|progress| {
            progress.planned_items = survey.plan.as_ref().and_then(Plan::total);
            progress.totals = run.totals();
        });
        Ok(Prepared {
            run,
            range: preflight.range,
            pieces: survey.pieces,
            plan: survey.plan,
            landmarks: survey.landmarks,
        })
    }

    /// [`Engine::prepare`] and [`Prepared::execute`] in one.
    ///
    /// # Errors
    /// As these two.
    pub async fn delete_partition(
        &self,
        client: &Client,
        request: Request,
        control: Control,
    ) -> Result<Finished, Failure> {
        self.prepare(client, request, control).await?.execute().await
    }
}

impl Prepared {
    /// The table; its id is what a later run must pin.
    pub fn table(&self) -> &Table {
        self.run.source.table()
    }

    /// The plan.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// Where the items lie: for a later run that is given the plan.
    pub fn landmarks(&self) -> &Landmarks {
        &self.landmarks
    }

    /// Deletes until a consistent read finds nothing; a dry run ends at once.
    ///
    /// # Errors
    /// Why the partition could not be emptied. [`reconcile::Class::Transient`] and `Denied` are worth another run;
    /// what was deleted stays deleted.
    pub async fn execute(self) -> Result<Finished, Failure> {
        let Self {
            run,
            range,
            pieces,
            plan,
            ..
        } = self;
        let finished = |end| Finished {
            end,
            totals: run.totals(),
            rounds: 0,
        };
        if run.is_interrupted() {
            return Ok(finished(End::Interrupted));
        }
        if run.request.mode == RunMode::DryRun {
            return Ok(finished(End::Planned));
        }
        let ended = round::delete(&run, &range, pieces, plan.and_then(|plan| plan.total())).await;
        run.allowance.close();
        ended
    }
}

fn check_limits(plan: &Plan, request: &Request) -> Result<(), Failure> {
    let exceeded = |field: &str, planned: u64, unit: &str, limit: u64| {
        Failure::terminal(
            Reason::LimitExceeded,
            format!(
                "the plan needs at least {planned} {unit}, `limits.{field}` is {limit}; nothing was deleted: raise the limit in another DdbctlDpJob"
            ),
        )
    };
    match (request.max_items, request.max_wcu_total) {
        (Some(limit), _) if plan.items > limit => Err(exceeded("maxItems", plan.items, "items", limit)),
        (_, Some(limit)) if plan.wcu_min > limit => Err(exceeded("maxWcuTotal", plan.wcu_min, "WCU", limit)),
        _ => Ok(()),
    }
}
