//! Conditions (`meta/v1` [`Condition`]) as the Kubernetes API conventions want them.
//!
//! # Guarantees
//! - `lastTransitionTime` moves only when `status` changes, and is cut to whole seconds.
//! - The order is stable: the summary (`Ready`, or `Succeeded` for bounded work) first, the others in the order in
//!   which they were first set. The same facts therefore serialize to the same bytes.
//!
//! # Caveats
//! Messages must be a function of what was observed: a clock, a counter or a request id in a message makes the
//! status differ on every pass, and the controller would wake itself for ever.
//!
//! # Example
//! ```
//! use jiff::Timestamp;
//! use reconcile::conditions::{Change, ConditionStatus, DesiredCondition, READY, is_true, set, summary};
//!
//! let parts = [
//!     DesiredCondition::new("StorageReady", true, "VolumeBound", "data-0 is bound"),
//!     DesiredCondition::new("ServerReady", ConditionStatus::Unknown, "Starting", "the Pod is starting"),
//! ];
//! let ready = summary(READY, &parts, "Serving", "all is well");
//! assert_eq!(ready.reason, "Starting");
//!
//! let mut conditions = Vec::new();
//! let now = Timestamp::now();
//! assert_eq!(set(&mut conditions, ready.clone(), Some(1), now), Change::Transitioned);
//! // The same facts change nothing, whatever the time.
//! assert_eq!(set(&mut conditions, ready, Some(1), Timestamp::now()), Change::Unchanged);
//! assert!(!is_true(&conditions, READY));
//! ```

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The conventional summary of long-running objects.
pub const READY: &str = "Ready";
/// The conventional summary of work that ends.
pub const SUCCEEDED: &str = "Succeeded";

/// A condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionStatus {
    /// The condition does not hold.
    False,
    /// Not known yet, or in progress.
    Unknown,
    /// The condition holds.
    True,
}

impl ConditionStatus {
    /// As it stands in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// What a condition should say; [`set`] adds the times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredCondition {
    /// Type, such as `Ready`.
    pub type_: &'static str,
    /// Status.
    pub status: ConditionStatus,
    /// CamelCase reason out of a documented closed set; never empty.
    pub reason: &'static str,
    /// For people: what is wrong and what to do.
    pub message: String,
}

impl DesiredCondition {
    /// A condition of `type_` with `status`, `reason` and `message`.
    pub fn new(
        type_: &'static str,
        status: impl Into<ConditionStatus>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_,
            status: status.into(),
            reason,
            message: message.into(),
        }
    }
}

/// What [`set`] did.
#[must_use = "a status is written, and an event published, only when something changed"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Nothing differs.
    Unchanged,
    /// Reason, message or observed generation differ.
    Updated,
    /// The status differs, or the condition is new: worth an event.
    Transitioned,
}

/// Puts `desired` into `conditions`, observed at `generation`, at the time `now`.
pub fn set(
    conditions: &mut Vec<Condition>,
    desired: DesiredCondition,
    generation: Option<i64>,
    now: Timestamp,
) -> Change {
    let status = desired.status.as_str();
    let Some(current) = conditions.iter_mut().find(|c| c.type_ == desired.type_) else {
        let condition = Condition {
            type_: desired.type_.to_owned(),
            status: status.to_owned(),
            reason: desired.reason.to_owned(),
            message: desired.message,
            observed_generation: generation,
            last_transition_time: whole_seconds(now),
        };
        let at = if is_summary(desired.type_) {
            0
        } else {
            conditions.len()
        };
        conditions.insert(at, condition);
        return Change::Transitioned;
    };
    let transitioned = current.status != status;
    let updated = current.reason != desired.reason
        || current.message != desired.message
        || current.observed_generation != generation;
    if transitioned {
        status.clone_into(&mut current.status);
        current.last_transition_time = whole_seconds(now);
    }
    if transitioned || updated {
        desired.reason.clone_into(&mut current.reason);
        current.message = desired.message;
        current.observed_generation = generation;
    }
    match (transitioned, updated) {
        (true, _) => Change::Transitioned,
        (false, true) => Change::Updated,
        (false, false) => Change::Unchanged,
    }
}

/// The condition of this type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// The condition of this type if it speaks of `generation`; one that was observed for an older spec is not to be
/// trusted.
pub fn find_observed<'a>(conditions: &'a [Condition], type_: &str, generation: i64) -> Option<&'a Condition> {
    find(conditions, type_).filter(|c| c.observed_generation == Some(generation))
}

/// Whether the condition of this type is `True`.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == ConditionStatus::True.as_str())
}

/// Removes the condition of this type; says whether there was one.
pub fn remove(conditions: &mut Vec<Condition>, type_: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|c| c.type_ != type_);
    conditions.len() != before
}

/// The roll-up of `parts` into one condition of type `summary`.
///
/// The worst part decides (False before Unknown before True; among equals the first one), and lends the summary
/// its reason and message. With all parts True the summary says `reason_true`.
pub fn summary(
    summary: &'static str,
    parts: &[DesiredCondition],
    reason_true: &'static str,
    message_true: &str,
) -> DesiredCondition {
    match parts.iter().min_by_key(|part| part.status) {
        Some(worst) if worst.status != ConditionStatus::True => DesiredCondition {
            type_: summary,
            ..worst.clone()
        },
        _ => DesiredCondition::new(summary, ConditionStatus::True, reason_true, message_true),
    }
}

fn is_summary(type_: &str) -> bool {
    type_ == READY || type_ == SUCCEEDED
}

fn whole_seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millisecond(second * 1000 + 123).unwrap()
    }

    fn ready(status: ConditionStatus, message: &str) -> DesiredCondition {
        DesiredCondition::new(READY, status, "Testing", message)
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut all = Vec::new();
        assert_eq!(
            set(&mut all, ready(ConditionStatus::False, "a"), Some(1), at(10)),
            Change::Transitioned
        );
        assert_eq!(
            set(&mut all, ready(ConditionStatus::False, "a"), Some(1), at(20)),
            Change::Unchanged
        );
        assert_eq!(
            set(&mut all, ready(ConditionStatus::False, "b"), Some(1), at(20)),
            Change::Updated
        );
        assert_eq!(all[0].last_transition_time.0, Timestamp::from_second(10).unwrap());
        assert_eq!(
            set(&mut all, ready(ConditionStatus::True, "b"), Some(2), at(30)),
            Change::Transitioned
        );
        assert_eq!(all[0].last_transition_time.0, Timestamp::from_second(30).unwrap());
        assert!(find_observed(&all, READY, 2).is_some() && find_observed(&all, READY, 1).is_none());
    }

    #[test]
    fn the_summary_stands_first_and_takes_the_worst_part() {
        let mut all = Vec::new();
        let part = |t, s| DesiredCondition::new(t, s, "R", t);
        let parts = [
            part("A", ConditionStatus::True),
            part("B", ConditionStatus::Unknown),
            part("C", ConditionStatus::False),
        ];
        for p in parts.clone() {
            let _ = set(&mut all, p, None, at(1));
        }
        let rolled = summary(READY, &parts, "AllGood", "all is well");
        assert_eq!(
            (rolled.status, rolled.message.as_str()),
            (ConditionStatus::False, "C")
        );
        let _ = set(&mut all, rolled, None, at(1));
        assert_eq!(
            all.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(),
            [READY, "A", "B", "C"]
        );
        assert_eq!(summary(READY, &parts[..1], "AllGood", "").reason, "AllGood");
    }

    proptest! {
        #[test]
        fn setting_twice_is_setting_once(status in 0..3u8, message in ".{0,20}", generation in 0..5i64) {
            let status = [ConditionStatus::False, ConditionStatus::Unknown, ConditionStatus::True][status as usize];
            let mut once = Vec::new();
            let _ = set(&mut once, ready(status, &message), Some(generation), at(1));
            let mut twice = once.clone();
            prop_assert_eq!(set(&mut twice, ready(status, &message), Some(generation), at(9)), Change::Unchanged);
            prop_assert_eq!(once, twice);
        }
    }
}
