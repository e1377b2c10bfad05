//! Runs a scenario under a whole family of schedules: a crash at every request, one fault at every request, seeds.
//!
//! A scenario is three closures: `make_world` builds what outlives an operator (servers, objects, proxies on the
//! plan it is given), `run` is one incarnation of the operator and returns once the world has converged, `check`
//! looks at the world afterwards with clients of its own.
//!
//! # Guarantees
//! - Each incarnation has a runtime on a thread of its own. When its crash fires, the runtime is dropped with every
//!   task in it, and the next incarnation starts with nothing but the world.
//! - Crash points continue until a run needs no more requests, not merely as far as the run without faults went.
//! - A failing plan's line is part of the error and is printed to stderr; with that line in the variable `REPLAY`
//!   the harness runs that plan alone.
//!
//! # Caveats
//! `run` must make its clients itself: one that was made in `make_world` lives on another runtime. A blocking task
//! of an incarnation is given a second to end.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;
use reconcile::clock::Clock;

use super::{
    plan::FaultPlan,
    report::Report,
    sabotage,
    schedule::{CrashSite, Fault, Schedule},
};

mod incarnation;
#[cfg(test)]
mod tests;

/// How a family of schedules is run.
#[derive(Clone, Debug)]
pub struct Harness {
    name: String,
    base: Schedule,
    clock: Clock,
    deadline: Duration,
    parallel: usize,
    most: u64,
    stride: u64,
}

impl Harness {
    /// A harness for the scenario of this name: two plans at a time, 60 s (real time) for a plan to converge, at
    /// most 1,000 requests tried, the real clock.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            base: Schedule::default(),
            clock: Clock::system(),
            deadline: Duration::from_mins(1),
            parallel: 2,
            most: 1000,
            stride: 1,
        }
    }

    /// What every plan has besides its own fault: spared sites, rules, a seed.
    #[must_use]
    pub fn base(mut self, base: Schedule) -> Self {
        self.base = base;
        self
    }

    /// The clock of the plans.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// How long a plan may take to converge, in real time.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How many plans run at a time, at least 1.
    #[must_use]
    pub fn parallel(mut self, plans: usize) -> Self {
        self.parallel = plans.max(1);
        self
    }

    /// The highest request number that is tried. A scenario that needs more fails: it would not be covered.
    #[must_use]
    pub fn most(mut self, requests: u64) -> Self {
        self.most = requests;
        self
    }

    /// Tries every n-th request only.
    #[must_use]
    pub fn stride(mut self, requests: u64) -> Self {
        self.stride = requests.max(1);
        self
    }

    /// Crashes at every request and crash site, restarts, and checks.
    pub async fn crash_at_every_request<W, M, R, C>(
        &self,
        make_world: M,
        run: R,
        check: C,
    ) -> anyhow::Result<Report>
    where
        W: Send + Sync + 'static,
        M: AsyncFn(FaultPlan) -> anyhow::Result<W>,
        R: AsyncFn(Arc<W>, FaultPlan) -> anyhow::Result<()> + Send + Sync + 'static,
        C: AsyncFn(Arc<W>) -> anyhow::Result<()>,
    {
        let family = |request| {
            CrashSite::ALL
                .map(|site| self.base.clone().crash(request, site))
                .to_vec()
        };
        self.at_every_request(
            &family,
            &Scenario {
                make_world,
                run: Arc::new(run),
                check,
            },
        )
        .await
    }

    /// Lets one request fail in this way, for every request of the scenario, and checks.
    pub async fn fault_at_every_request<W, M, R, C>(
        &self,
        fault: Fault,
        make_world: M,
        run: R,
        check: C,
    ) -> anyhow::Result<Report>
    where
        W: Send + Sync + 'static,
        M: AsyncFn(FaultPlan) -> anyhow::Result<W>,
        R: AsyncFn(Arc<W>, FaultPlan) -> anyhow::Result<()> + Send + Sync + 'static,
        C: AsyncFn(Arc<W>) -> anyhow::Result<()>,
    {
        let family = |request| vec![self.base.clone().at_request(request, fault)];
        self.at_every_request(
            &family,
            &Scenario {
                make_world,
                run: Arc::new(run),
                check,
            },
        )
        .await
    }

    /// Runs these schedules, on top of nothing else, and checks each.
    pub async fn schedules<W, M, R, C>(
        &self,
        schedules: impl IntoIterator<Item = Schedule>,
        make_world: M,
        run: R,
        check: C,
    ) -> anyhow::Result<Report>
    where
        W: Send + Sync + 'static,
        M: AsyncFn(FaultPlan) -> anyhow::Result<W>,
        R: AsyncFn(Arc<W>, FaultPlan) -> anyhow::Result<()> + Send + Sync + 'static,
        C: AsyncFn(Arc<W>) -> anyhow::Result<()>,
    {
        let scenario = Scenario {
            make_world,
            run: Arc::new(run),
            check,
        };
        let report = Mutex::new(Report::default());
        match replay()? {
            Some(schedule) => {
                report.lock().replayed = true;
                self.all(vec![schedule], &scenario, &report).await?
            }
            None => {
                self.all(schedules.into_iter().collect(), &scenario, &report)
                    .await?
            }
        };
        Ok(self.summarise(report.into_inner()))
    }

    async fn at_every_request<W, M, R, C>(
        &self,
        family: &dyn Fn(u64) -> Vec<Schedule>,
        scenario: &Scenario<M, R, C>,
    ) -> anyhow::Result<Report>
    where
        W: Send + Sync + 'static,
        M: AsyncFn(FaultPlan) -> anyhow::Result<W>,
        R: AsyncFn(Arc<W>, FaultPlan) -> anyhow::Result<()> + Send + Sync + 'static,
        C: AsyncFn(Arc<W>) -> anyhow::Result<()>,
    {
        let report = Mutex::new(Report::default());
        if let Some(schedule) = replay()? {
            report.lock().replayed = true;
            self.all(vec![schedule], scenario, &report).await?;
            return Ok(self.summarise(report.into_inner()));
        }
        let undisturbed = self.all(vec![self.base.clone()], scenario, &report).await?;
        let expected = undisturbed.first().map_or(0, FaultPlan::requests);
        ensure!(
            expected > 0,
            "{}: the scenario sent no request through the plan: nothing was tested",
            self.name
        );
        let points = (1..=expected.min(self.most)).step_by(usize::try_from(self.stride)?);
        self.all(points.flat_map(family).collect(), scenario, &report)
            .await?;
        // Timing may let a run need more requests than the first did.
        let mut next = expected + 1;
        loop {
            ensure!(
                next <= self.most,
                "{}: more than {} requests; raise `most` or shrink it",
                self.name,
                self.most
            );
            let plans = self.all(family(next), scenario, &report).await?;
            if plans.iter().all(|plan| plan.requests() < next) {
                return Ok(self.summarise(report.into_inner()));
            }
            next += self.stride;
        }
    }

    /// Runs some schedules, a few at a time.
    async fn all<W, M, R, C>(
        &self,
        schedules: Vec<Schedule>,
        scenario: &Scenario<M, R, C>,
        report: &Mutex<Report>,
    ) -> anyhow::Result<Vec<FaultPlan>>
    where
        W: Send + Sync + 'static,
        M: AsyncFn(FaultPlan) -> anyhow::Result<W>,
        R: AsyncFn(Arc<W>, FaultPlan) -> anyhow::Result<()> + Send + Sync + 'static,
        C: AsyncFn(Arc<W>) -> anyhow::Result<()>,
    {
        let runs = schedules.into_iter().map(|schedule| async {
            let plan = FaultPlan::clocked(schedule, self.clock.clone());
            let outcome = self.drive(&plan, scenario).await;
            report.lock().absorb(&plan);
            outcome.map_err(|error| self.failed(&plan, &error))?;
            Ok(plan)
        });
        stream::iter(runs).buffered(self.parallel).try_collect().await
    }

    /// One plan: incarnations until one converges, then the check.
    async fn drive<W, M, R, C>(&self, plan: &FaultPlan, scenario: &Scenario<M, R, C>) -> anyhow::Result<()>
    where
        W: Send + Sync + 'static,
        M: AsyncFn(FaultPlan) -> anyhow::Result<W>,
        R: AsyncFn(Arc<W>, FaultPlan) -> anyhow::Result<()> + Send + Sync + 'static,
        C: AsyncFn(Arc<W>) -> anyhow::Result<()>,
    {
        let world = (scenario.make_world)(plan.clone())
            .await
            .context("the world cannot be made")?;
        let world = Arc::new(world);
        let converging = async {
            loop {
                match incarnation::run(&scenario.run, &world, plan).await? {
                    incarnation::End::Converged => return anyhow::Ok(()),
                    incarnation::End::Crashed => plan.next_incarnation(),
                }
            }
        };
        match tokio::time::timeout(self.deadline, converging).await {
            Ok(converged) => converged?,
            Err(_) => bail!(
                "did not converge within {:?}: {} requests, the last faults were {:?}",
                self.deadline,
                plan.requests(),
                plan.injected().iter().rev().take(3).collect::<Vec<_>>()
            ),
        }
        (scenario.check)(world)
            .await
            .context("the world is not as it should be")
    }

    fn failed(&self, plan: &FaultPlan, error: &anyhow::Error) -> anyhow::Error {
        let sabotage = sabotage::current()
            .map(|name| format!(" (sabotage {name})"))
            .unwrap_or_default();
        eprintln!("{}{sabotage}: {error:#}\nREPLAY='{plan}'", self.name);
        anyhow!("{}{sabotage}: {error:#}; REPLAY='{plan}'", self.name)
    }

    fn summarise(&self, report: Report) -> Report {
        eprintln!("{}: {report}", self.name);
        report
    }
}

struct Scenario<M, R, C> {
    make_world: M,
    run: Arc<R>,
    check: C,
}

/// The schedule in the variable `REPLAY`, if there is one.
fn replay() -> anyhow::Result<Option<Schedule>> {
    match std::env::var("REPLAY") {
        Ok(line) => Ok(Some(
            line.parse().context("the variable REPLAY holds no schedule")?,
        )),
        Err(_) => Ok(None),
    }
}
