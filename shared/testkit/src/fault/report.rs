//! How much a suite exercised.

use std::{collections::BTreeSet, fmt};

use super::{plan::FaultPlan, schedule::CrashSite};

/// What a number of plans did, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many plans ran.
    pub plans: usize,
    /// How many requests arrived at boundaries.
    pub requests: u64,
    /// How many faults took place, crashes included.
    pub injected: usize,
    /// The distinct sites that sent a request.
    pub sites: BTreeSet<String>,
    /// The distinct places of a crash.
    pub crash_sites: BTreeSet<(String, CrashSite)>,
    /// One plan was run again, instead of the suite: it covers what it covers.
    pub replayed: bool,
}

/// The least that a suite has to exercise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Plans run.
    pub plans: usize,
    /// Distinct request sites.
    pub sites: usize,
    /// Distinct crash sites.
    pub crash_sites: usize,
}

/// A suite exercised less than it used to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the suite covers less than it did: {found}, expected at least {expected:?}; it no longer reaches code that it used to reach"
)]
pub struct LessCovered {
    /// The report's line.
    pub found: String,
    /// What was asked for.
    pub expected: Coverage,
}

impl Report {
    /// Adds a plan that has run.
    pub fn absorb(&mut self, plan: &FaultPlan) {
        self.plans += 1;
        self.requests += plan.requests();
        self.injected += plan.injected().len();
        self.sites.extend(plan.sites().into_keys());
        self.crash_sites.extend(plan.crashes());
    }

    /// Adds another suite's report.
    pub fn merge(&mut self, other: Self) {
        self.plans += other.plans;
        self.requests += other.requests;
        self.injected += other.injected;
        self.sites.extend(other.sites);
        self.crash_sites.extend(other.crash_sites);
        self.replayed |= other.replayed;
    }

    /// Fails if less was exercised than `expected`, unless it was a replay.
    pub fn at_least(&self, expected: Coverage) -> Result<(), LessCovered> {
        let enough = self.replayed
            || self.plans >= expected.plans
                && self.sites.len() >= expected.sites
                && self.crash_sites.len() >= expected.crash_sites;
        if enough {
            Ok(())
        } else {
            Err(LessCovered {
                found: self.to_string(),
                expected,
            })
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "plans {} requests {} sites {} crash-sites {} faults {}",
            self.plans,
            self.requests,
            self.sites.len(),
            self.crash_sites.len(),
            self.injected
        )
    }
}
