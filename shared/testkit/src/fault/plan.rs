//! A schedule in execution: one [`FaultPlan`] per run, shared by all of the run's boundaries.
//!
//! # Guarantees
//! - Requests are numbered from 1, across boundaries, in the order of arrival; crash points count within their
//!   incarnation.
//! - [`FaultPlan::crashed`] completes once the current incarnation is dead, also when asked afterwards.
//!
//! # Caveats
//! Lists are remembered only by plans that may serve a stale one, eight versions of each.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::Arc,
};

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use reconcile::clock::Clock;
use tokio_util::sync::CancellationToken;

use super::{
    boundary::Boundary,
    schedule::{CrashSite, Fault, Schedule, Which},
};

mod draw;
#[cfg(test)]
mod tests;

#[cfg(feature = "dynamodb")]
pub(crate) use draw::mix;

/// How many versions of a list are remembered.
const REMEMBERED: usize = 8;

/// What a request is about. Decides which faults a seed may draw for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads one object.
    Read,
    /// Reads a collection.
    List,
    /// Opens a stream of changes.
    Watch,
    /// Makes an object.
    Create,
    /// Changes an object.
    Update,
    /// Removes an object or a collection.
    Delete,
    /// An operation of a protocol that does not tell.
    Call,
}

/// A request as a plan sees it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which piece of code may have sent it: operation and type without names, for example
    /// `PATCH configmaps/status` or `DynamoDB BatchWriteItem`.
    pub site: String,
    /// What it is about.
    pub kind: Kind,
    /// For [`Kind::List`]: what makes two lists the same (path and query).
    pub list: Option<String>,
}

/// A remembered answer to a list request.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What a boundary has to do with a request.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Pass,
    /// The incarnation is dead: send nothing, answer nothing.
    Dead,
    Crash(CrashSite),
    Fault(Fault),
    Stale(Listed),
}

/// A fault or crash that took place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// The run's number of the request.
    pub request: u64,
    /// Its site.
    pub site: String,
    /// What happened, in the notation of [`super::schedule`].
    pub what: String,
}

#[derive(Debug, Default)]
struct Site {
    requests: u64,
    consecutive: u32,
}

#[derive(Debug, Default)]
struct State {
    incarnation: usize,
    requests: u64,
    in_incarnation: u64,
    sites: BTreeMap<String, Site>,
    crash: CancellationToken,
    crashes: Vec<(String, CrashSite)>,
    injected: Vec<Injected>,
    lists: HashMap<String, VecDeque<Listed>>,
}

#[derive(Debug)]
struct Inner {
    schedule: Schedule,
    clock: Clock,
    state: Mutex<State>,
}

/// A schedule in execution. Clones are the same plan.
#[derive(Clone, Debug)]
pub struct FaultPlan(Arc<Inner>);

impl Default for FaultPlan {
    /// A plan without faults, which still counts.
    fn default() -> Self {
        Self::new(Schedule::default())
    }
}

impl fmt::Display for FaultPlan {
    /// The line that replays this plan: its schedule.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.schedule.fmt(f)
    }
}

impl FaultPlan {
    /// Starts a schedule on the real clock.
    pub fn new(schedule: Schedule) -> Self {
        Self::clocked(schedule, Clock::system())
    }

    /// Starts a schedule whose delays run on `clock`.
    pub fn clocked(schedule: Schedule, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            schedule,
            clock,
            state: Mutex::default(),
        }))
    }

    /// The schedule.
    pub fn schedule(&self) -> &Schedule {
        &self.0.schedule
    }

    /// The clock of the plan's delays.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// A boundary for requests of the current incarnation. Its requests hang for ever once that is dead, also
    /// after [`FaultPlan::next_incarnation`].
    pub fn boundary(&self) -> Boundary {
        Boundary::new(self.clone(), self.0.state.lock().incarnation)
    }

    /// Completes when the current incarnation is dead.
    pub async fn crashed(&self) {
        let crash = self.0.state.lock().crash.clone();
        crash.cancelled_owned().await;
    }

    /// Whether the current incarnation is dead.
    pub fn has_crashed(&self) -> bool {
        self.0.state.lock().crash.is_cancelled()
    }

    /// Kills the current incarnation now, between two requests.
    pub fn crash(&self) {
        self.0.state.lock().crash.cancel();
    }

    /// Begins the next incarnation. Boundaries made before belong to the dead.
    pub fn next_incarnation(&self) {
        let mut state = self.0.state.lock();
        state.crash.cancel();
        state.crash = CancellationToken::new();
        state.incarnation += 1;
        state.in_incarnation = 0;
    }

    /// The number of incarnations before the current one.
    pub fn incarnation(&self) -> usize {
        self.0.state.lock().incarnation
    }

    /// How many requests arrived, spared ones apart.
    pub fn requests(&self) -> u64 {
        self.0.state.lock().requests
    }

    /// How many requests each site sent, spared ones apart.
    pub fn sites(&self) -> BTreeMap<String, u64> {
        self.0
            .state
            .lock()
            .sites
            .iter()
            .map(|(site, seen)| (site.clone(), seen.requests))
            .collect()
    }

    /// The sites at which incarnations died.
    pub fn crashes(&self) -> Vec<(String, CrashSite)> {
        self.0.state.lock().crashes.clone()
    }

    /// What took place, in order.
    pub fn injected(&self) -> Vec<Injected> {
        self.0.state.lock().injected.clone()
    }

    /// Whether this incarnation is dead or has been succeeded.
    pub(super) fn is_dead(&self, incarnation: usize) -> bool {
        let state = self.0.state.lock();
        incarnation != state.incarnation || state.crash.is_cancelled()
    }

    /// Kills an incarnation, unless it already has a successor.
    pub(super) fn kill(&self, incarnation: usize) {
        let state = self.0.state.lock();
        if incarnation == state.incarnation {
            state.crash.cancel();
        }
    }

    /// Counts a request and decides what happens to it.
    pub(super) fn admit(&self, incarnation: usize, call: &Call) -> Verdict {
        let mut guard = self.0.state.lock();
        let state = &mut *guard;
        if incarnation != state.incarnation || state.crash.is_cancelled() {
            return Verdict::Dead;
        }
        if self.0.schedule.spared.contains(&call.site) {
            return Verdict::Pass;
        }
        state.requests += 1;
        state.in_incarnation += 1;
        let crash = self.0.schedule.crashes.get(incarnation);
        let seen = state.sites.entry(call.site.clone()).or_default();
        seen.requests += 1;
        if let Some(crash) = crash.filter(|crash| crash.request == state.in_incarnation) {
            if crash.site == CrashSite::Before {
                state.crash.cancel();
            }
            state.crashes.push((call.site.clone(), crash.site));
            state.record(call, format!("crash@{}", crash.site));
            return Verdict::Crash(crash.site);
        }
        let fault = scripted(&self.0.schedule, call, state.requests, seen.requests)
            .or_else(|| draw::fault(self.0.schedule.seeded?, call, seen.requests, seen.consecutive));
        let verdict = fault.map_or(Verdict::Pass, |fault| state.resolve(call, fault));
        state.settle(call, &verdict);
        verdict
    }

    /// Remembers an answer to a list request, if this plan may serve it again.
    pub(super) fn remember(&self, list: &str, answer: Listed) {
        let mut state = self.0.state.lock();
        let versions = state.lists.entry(list.to_owned()).or_default();
        if versions.len() == REMEMBERED {
            versions.pop_front();
        }
        versions.push_back(answer);
    }
}

impl State {
    /// What a fault means for this request: some faults do not apply to every kind.
    fn resolve(&self, call: &Call, fault: Fault) -> Verdict {
        match fault {
            Fault::StaleList => {
                let oldest = call.list.as_ref().and_then(|list| self.lists.get(list)?.front());
                oldest.map_or(Verdict::Pass, |listed| Verdict::Stale(listed.clone()))
            }
            Fault::DropWatch(_) if call.kind != Kind::Watch => Verdict::Pass,
            fault => Verdict::Fault(fault),
        }
    }

    fn settle(&mut self, call: &Call, verdict: &Verdict) {
        let what = match verdict {
            Verdict::Fault(fault) => Some(fault.to_string()),
            Verdict::Stale(_) => Some(Fault::StaleList.to_string()),
            _ => None,
        };
        if let Some(seen) = self.sites.get_mut(&call.site) {
            seen.consecutive = if what.is_some() { seen.consecutive + 1 } else { 0 };
        }
        if let Some(what) = what {
            self.record(call, what);
        }
    }

    fn record(&mut self, call: &Call, what: String) {
        self.injected.push(Injected {
            request: self.requests,
            site: call.site.clone(),
            what,
        });
    }
}

/// The first rule that is for this request: the run's `number`-th, the `nth` of its site.
fn scripted(schedule: &Schedule, call: &Call, number: u64, nth: u64) -> Option<Fault> {
    schedule.rules.iter().find_map(|rule| {
        let counted = match &rule.site {
            None => number,
            Some(site) if *site == call.site => nth,
            Some(_) => return None,
        };
        let applies = match rule.which {
            Which::Every => true,
            Which::Nth(n) => counted == n,
            Which::From(n) => counted >= n,
        };
        applies.then_some(rule.fault)
    })
}
