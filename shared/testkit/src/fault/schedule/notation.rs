//! The one-line notation of a schedule.

use std::{fmt, str::FromStr, time::Duration};

use super::{CrashPoint, CrashSite, Fault, Rule, Schedule, Seeded, Which};

type Reason = &'static str;

/// The clauses of a schedule, in canonical order.
pub(super) fn clauses(schedule: &Schedule) -> Vec<String> {
    let crashes = schedule
        .crashes
        .iter()
        .map(|crash| format!("crash={}@{}", crash.request, crash.site));
    let rules = schedule.rules.iter().map(ToString::to_string);
    let seeded = schedule
        .seeded
        .iter()
        .map(|s| format!("seed={},p={},max={}", s.seed, s.per_mille, s.max_consecutive));
    let spared = schedule.spared.iter().map(|site| format!("spare={site}"));
    crashes.chain(rules).chain(seeded).chain(spared).collect()
}

/// Adds one clause to a schedule.
pub(super) fn read(schedule: &mut Schedule, clause: &str) -> Result<(), Reason> {
    let (left, right) = clause.rsplit_once('=').ok_or("there is no `=`")?;
    if left == "crash" {
        let (request, site) = right.split_once('@').ok_or("expected `crash=NUMBER@SITE`")?;
        schedule.crashes.push(CrashPoint {
            request: number(request)?,
            site: site.parse()?,
        });
    } else if clause.starts_with("seed=") {
        schedule.seeded = Some(seeded(clause)?);
    } else if left == "spare" {
        schedule.spared.push(right.to_owned());
    } else {
        schedule.rules.push(rule(left, right)?);
    }
    Ok(())
}

fn number<N: FromStr>(digits: &str) -> Result<N, Reason> {
    digits.parse().map_err(|_| "expected a number")
}

fn seeded(clause: &str) -> Result<Seeded, Reason> {
    let mut seeded = Seeded {
        seed: 0,
        per_mille: 250,
        max_consecutive: 10,
    };
    for setting in clause.split(',') {
        match setting.split_once('=') {
            Some(("seed", value)) => seeded.seed = number(value)?,
            Some(("p", value)) => seeded.per_mille = number(value)?,
            Some(("max", value)) => seeded.max_consecutive = number(value)?,
            _ => return Err("expected `seed=N,p=N,max=N`"),
        }
    }
    Ok(seeded)
}

fn rule(selector: &str, fault: &str) -> Result<Rule, Reason> {
    let (site, which) = match selector.rsplit_once('#') {
        None => (selector, Which::Every),
        Some((site, which)) => match which.strip_suffix('+') {
            Some(first) => (site, Which::From(number(first)?)),
            None => (site, Which::Nth(number(which)?)),
        },
    };
    let site = match site {
        "" => return Err("the site is missing; `*` stands for any"),
        "*" => None,
        site => Some(site.to_owned()),
    };
    Ok(Rule {
        site,
        which,
        fault: fault.parse()?,
    })
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.site.as_deref().unwrap_or("*"))?;
        match self.which {
            Which::Every => {}
            Which::Nth(n) => write!(f, "#{n}")?,
            Which::From(n) => write!(f, "#{n}+")?,
        }
        write!(f, "={}", self.fault)
    }
}

impl fmt::Display for CrashSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::Lost => "lost",
            Self::After => "after",
        })
    }
}

impl FromStr for CrashSite {
    type Err = Reason;

    fn from_str(name: &str) -> Result<Self, Reason> {
        Self::ALL
            .into_iter()
            .find(|site| site.to_string() == name)
            .ok_or("a crash site is `before`, `lost` or `after`")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Refuse => f.write_str("refuse"),
            Self::Lose => f.write_str("lose"),
            Self::Delay(delay) => write!(f, "delay:{}ms", delay.as_millis()),
            Self::Hang => f.write_str("hang"),
            Self::Status {
                code,
                retry_after,
                applied,
            } => {
                write!(f, "{code}")?;
                if let Some(seconds) = retry_after {
                    write!(f, "/{seconds}")?;
                }
                f.write_str(if applied { "+applied" } else { "" })
            }
            Self::DropWatch(frames) => write!(f, "drop-watch:{frames}"),
            Self::StaleList => f.write_str("stale-list"),
        }
    }
}

impl FromStr for Fault {
    type Err = Reason;

    fn from_str(text: &str) -> Result<Self, Reason> {
        match text {
            "refuse" => return Ok(Self::Refuse),
            "lose" => return Ok(Self::Lose),
            "hang" => return Ok(Self::Hang),
            "stale-list" => return Ok(Self::StaleList),
            _ => {}
        }
        if let Some(delay) = text
            .strip_prefix("delay:")
            .and_then(|rest| rest.strip_suffix("ms"))
        {
            return Ok(Self::Delay(Duration::from_millis(number(delay)?)));
        }
        if let Some(frames) = text.strip_prefix("drop-watch:") {
            return Ok(Self::DropWatch(number(frames)?));
        }
        let (status, applied) = text
            .strip_suffix("+applied")
            .map_or((text, false), |status| (status, true));
        let (code, retry_after) = match status.split_once('/') {
            Some((code, seconds)) => (code, Some(number(seconds)?)),
            None => (status, None),
        };
        match number(code) {
            Ok(code @ 400..=599) => Ok(Self::Status {
                code,
                retry_after,
                applied,
            }),
            _ => Err("there is no such fault"),
        }
    }
}
