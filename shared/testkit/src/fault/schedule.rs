//! What goes wrong in a run, as a value that is printed on one line and read back from it.
//!
//! # Notation
//! Clauses separated by `; `, in any order; the empty line is a run without faults.
//!
//! | clause | meaning |
//! |---|---|
//! | `crash=12@lost` | the first incarnation dies at its 12th request; a second such clause is for the second one |
//! | `PATCH configmaps#3=409` | the third request of that site is answered 409 |
//! | `PATCH configmaps#3+=hang` | … and every one after it |
//! | `PATCH configmaps=delay:50ms` | every request of that site |
//! | `*#7=lose` | the run's 7th request, whatever it is |
//! | `seed=5,p=250,max=10` | 250 of 1,000 requests fail, in a way that follows from the seed; at most 10 in a row per site |
//! | `spare=PUT leases` | requests of that site are neither counted nor disturbed |
//!
//! Crash sites: `before`, `lost`, `after`. Faults: see [`Fault`].

use std::{fmt, str::FromStr, time::Duration};

mod notation;
#[cfg(test)]
mod tests;

/// Something that happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// `refuse`: the connection fails before anything was sent.
    Refuse,
    /// `lose`: the request takes effect, then the connection fails.
    Lose,
    /// `delay:50ms`: the request is sent after this much of the plan's clock.
    Delay(Duration),
    /// `hang`: nothing is sent and nothing is answered until the caller gives up.
    Hang,
    /// `409`, `429/2`, `504+applied`: this status is answered, instead of the real answer.
    Status {
        /// The HTTP status code.
        code: u16,
        /// Value of a Retry-After header, in seconds.
        retry_after: Option<u32>,
        /// Whether the request takes effect all the same.
        applied: bool,
    },
    /// `drop-watch:2`: the response's stream ends after this many frames. Passes a request that is no watch.
    DropWatch(u32),
    /// `stale-list`: the oldest remembered response of the same list is served once more. Passes a request that
    /// is no list, and the first list of its kind.
    StaleList,
}

impl Fault {
    /// A status that is answered without sending the request.
    pub const fn status(code: u16) -> Self {
        Self::Status {
            code,
            retry_after: None,
            applied: false,
        }
    }

    /// 429 with a Retry-After header of that many seconds.
    pub const fn throttle(seconds: u32) -> Self {
        Self::Status {
            code: 429,
            retry_after: Some(seconds),
            applied: false,
        }
    }
}

/// Where an incarnation dies, relative to one of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CrashSite {
    /// `before`: the request is never sent.
    Before,
    /// `lost`: the request takes effect, its response is lost.
    Lost,
    /// `after`: the response arrives; nothing is sent after it.
    After,
}

impl CrashSite {
    /// All three sites.
    pub const ALL: [Self; 3] = [Self::Before, Self::Lost, Self::After];
}

/// One incarnation's death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    /// The request's number within its incarnation, from 1.
    pub request: u64,
    /// Where relative to that request.
    pub site: CrashSite,
}

/// Which requests a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    Every,
    /// The n-th, from 1.
    Nth(u64),
    /// The n-th and all later ones.
    From(u64),
}

/// A scripted fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The site, or `None` for any: then numbers are the run's, not the site's.
    pub site: Option<String>,
    /// Which of the site's requests.
    pub which: Which,
    /// What happens to them.
    pub fault: Fault,
}

/// Faults drawn from a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeded {
    /// Everything else follows from it.
    pub seed: u64,
    /// How many requests of a thousand fail.
    pub per_mille: u32,
    /// The longest row of failures at one site; the request after it passes.
    pub max_consecutive: u32,
}

/// What goes wrong in a run. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// The deaths of the incarnations, in order. An incarnation without one lives.
    pub crashes: Vec<CrashPoint>,
    /// Scripted faults; the first that applies wins.
    pub rules: Vec<Rule>,
    /// Faults drawn from a seed, where no rule applies.
    pub seeded: Option<Seeded>,
    /// Sites that are neither counted nor disturbed, except by the death of their incarnation.
    pub spared: Vec<String>,
}

impl Schedule {
    /// Adds the death of the next incarnation that has none yet.
    #[must_use]
    pub fn crash(mut self, request: u64, site: CrashSite) -> Self {
        self.crashes.push(CrashPoint { request, site });
        self
    }

    /// Adds a fault for some of a site's requests.
    #[must_use]
    pub fn at(mut self, site: &str, which: Which, fault: Fault) -> Self {
        self.rules.push(Rule {
            site: Some(site.to_owned()),
            which,
            fault,
        });
        self
    }

    /// Adds a fault for the run's n-th request, whatever it is.
    #[must_use]
    pub fn at_request(mut self, number: u64, fault: Fault) -> Self {
        self.rules.push(Rule {
            site: None,
            which: Which::Nth(number),
            fault,
        });
        self
    }

    /// Draws faults from a seed: `per_mille` of 1,000 requests, at most `max_consecutive` in a row per site.
    #[must_use]
    pub fn seeded(mut self, seed: u64, per_mille: u32, max_consecutive: u32) -> Self {
        self.seeded = Some(Seeded {
            seed,
            per_mille,
            max_consecutive,
        });
        self
    }

    /// Leaves a site alone, for example `PUT leases`.
    #[must_use]
    pub fn sparing(mut self, site: &str) -> Self {
        self.spared.push(site.to_owned());
        self
    }

    /// Whether some request may be answered with an older list, so that lists have to be remembered.
    pub fn serves_stale_lists(&self) -> bool {
        self.seeded.is_some() || self.rules.iter().any(|rule| rule.fault == Fault::StaleList)
    }
}

/// A line is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{clause}` is no clause of a fault schedule: {reason}")]
pub struct ParseError {
    /// The clause that was not understood.
    pub clause: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&notation::clauses(self).join("; "))
    }
}

impl FromStr for Schedule {
    type Err = ParseError;

    fn from_str(line: &str) -> Result<Self, ParseError> {
        let mut schedule = Self::default();
        for clause in line.split(';').map(str::trim).filter(|clause| !clause.is_empty()) {
            notation::read(&mut schedule, clause).map_err(|reason| ParseError {
                clause: clause.to_owned(),
                reason,
            })?;
        }
        Ok(schedule)
    }
}
