//! What goes wrong between caller and EC2, as a script on one line.
//!
//! # Notation
//! Clauses separated by `; `. The grammar of the left-hand side is that of the test bed's schedules, so that one
//! habit serves both.
//!
//! | clause | meaning |
//! |---|---|
//! | `RunInstances#3=lose` | the third RunInstances takes effect, its answer is lost |
//! | `RunInstances#3+=refuse` | that one and all later ones: the connection breaks, nothing happens |
//! | `DescribeInstances=RequestLimitExceeded` | every one is answered with this error code, nothing happens |
//! | `TerminateInstances#1=InternalError+applied` | takes effect, and is answered with this error code |
//! | `*#7=delay:500ms` | the seventh call, whatever it is, is answered after half a second of the server's clock |
//! | `StopInstances#1=hang` | nothing happens and nothing is answered until the caller gives up |
//!
//! The first clause that applies decides.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

/// What happens to one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The connection breaks before anything happened.
    Refuse,
    /// The call takes effect, then the connection breaks.
    Lose,
    /// Nothing happens and nothing is answered.
    Hang,
    /// The call is carried out after this much of the server's clock.
    Delay(Duration),
    /// The call is answered with an error.
    Error {
        /// EC2's error code.
        code: String,
        /// Whether it takes effect all the same.
        applied: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Every,
    Nth(u64),
    From(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    action: Option<String>,
    which: Which,
    effect: Effect,
}

/// A script of faults, with its own count of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    rules: Vec<Rule>,
    calls: u64,
    by_action: BTreeMap<String, u64>,
}

/// A line is no script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{clause}` is no clause of a fault script: {reason}")]
pub struct ParseError {
    /// The clause.
    pub clause: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Faults {
    /// Counts a call and says what happens to it.
    pub(crate) fn next(&mut self, action: &str) -> Option<Effect> {
        self.calls += 1;
        let calls = self.calls;
        let nth = self.by_action.entry(action.to_owned()).or_default();
        *nth += 1;
        let nth = *nth;
        self.rules.iter().find_map(|rule| {
            let counted = match &rule.action {
                None => calls,
                Some(name) if name == action => nth,
                Some(_) => return None,
            };
            let applies = match rule.which {
                Which::Every => true,
                Which::Nth(n) => counted == n,
                Which::From(n) => counted >= n,
            };
            applies.then(|| rule.effect.clone())
        })
    }
}

impl FromStr for Faults {
    type Err = ParseError;

    fn from_str(line: &str) -> Result<Self, ParseError> {
        let clauses = line.split(';').map(str::trim).filter(|clause| !clause.is_empty());
        let rules = clauses
            .map(|clause| {
                rule(clause).map_err(|reason| ParseError {
                    clause: clause.to_owned(),
                    reason,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            rules,
            ..Self::default()
        })
    }
}

fn rule(clause: &str) -> Result<Rule, &'static str> {
    let (target, effect) = clause.split_once('=').ok_or("expected `ACTION[#N[+]]=EFFECT`")?;
    // `A#3+=x` splits into `A#3+` and `x`.
    let (action, which) = match target.split_once('#') {
        None => (target, Which::Every),
        Some((action, number)) => {
            let (digits, from) = number
                .strip_suffix('+')
                .map_or((number, false), |digits| (digits, true));
            let n = digits.parse().map_err(|_| "the number after # is none")?;
            (action, if from { Which::From(n) } else { Which::Nth(n) })
        }
    };
    Ok(Rule {
        action: (action != "*").then(|| action.to_owned()),
        which,
        effect: read_effect(effect)?,
    })
}

fn read_effect(text: &str) -> Result<Effect, &'static str> {
    if let Some(delay) = text.strip_prefix("delay:") {
        let millis = delay.strip_suffix("ms").ok_or("a delay is given in ms")?;
        let millis = millis.parse().map_err(|_| "a delay is given in ms")?;
        return Ok(Effect::Delay(Duration::from_millis(millis)));
    }
    let (code, applied) = text
        .strip_suffix("+applied")
        .map_or((text, false), |code| (code, true));
    match code {
        "refuse" => Ok(Effect::Refuse),
        "lose" => Ok(Effect::Lose),
        "hang" => Ok(Effect::Hang),
        "" => Err("no effect"),
        code if code.chars().all(|c| c.is_ascii_alphanumeric() || c == '.') => Ok(Effect::Error {
            code: code.to_owned(),
            applied,
        }),
        _ => Err("the effect is neither refuse, lose, hang, delay:…ms nor an error code"),
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refuse => f.write_str("refuse"),
            Self::Lose => f.write_str("lose"),
            Self::Hang => f.write_str("hang"),
            Self::Delay(delay) => write!(f, "delay:{}ms", delay.as_millis()),
            Self::Error { code, applied } => {
                write!(f, "{code}{}", if *applied { "+applied" } else { "" })
            }
        }
    }
}

impl fmt::Display for Faults {
    /// The line that [`FromStr`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rule) in self.rules.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            let action = rule.action.as_deref().unwrap_or("*");
            let which = match rule.which {
                Which::Every => String::new(),
                Which::Nth(n) => format!("#{n}"),
                Which::From(n) => format!("#{n}+"),
            };
            write!(f, "{separator}{action}{which}={}", rule.effect)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_reads_back_what_it_prints() {
        let line = "RunInstances#3=lose; RunInstances#4+=refuse; DescribeInstances=RequestLimitExceeded; TerminateInstances#1=InternalError+applied; *#7=delay:500ms; StopInstances=hang";
        let faults: Faults = line.parse().unwrap();
        assert_eq!(faults.to_string(), line);
    }

    #[test]
    fn clauses_count_their_own_action() {
        let mut faults: Faults = "A#2=lose; *#4=refuse".parse().unwrap();
        assert_eq!(faults.next("A"), None);
        assert_eq!(faults.next("B"), None);
        assert_eq!(faults.next("A"), Some(Effect::Lose));
        assert_eq!(faults.next("B"), Some(Effect::Refuse));
    }

    #[test]
    fn nonsense_is_named() {
        assert_eq!("A#x=lose".parse::<Faults>().unwrap_err().clause, "A#x=lose");
        assert!("A".parse::<Faults>().is_err());
        assert!("A=no effect".parse::<Faults>().is_err());
    }
}
