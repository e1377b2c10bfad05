//! Named mistakes, made on purpose in test builds: a suite that stays green while one of them is made tests
//! nothing.
//!
//! In what ships `active` is the constant `false` and the branches are compiled away. With the crate's feature
//! `sabotage`, or in its own unit tests, the environment variable `TESTKIT_SABOTAGE` names the one mistake that the
//! process makes.

/// Unprocessed keys count as deleted.
pub(crate) const DROP_UNPROCESSED_KEYS: &str = "drop-unprocessed-keys";
/// The partition counts as empty without a look.
pub(crate) const SKIP_VERIFY: &str = "skip-verify";
/// The look at the end is eventually consistent.
pub(crate) const EVENTUAL_VERIFY: &str = "eventual-verify";
/// A table of the same name counts as the same table.
pub(crate) const FORGET_TABLE_ID_PIN: &str = "forget-table-id-pin";
/// A range that is taken up again continues behind the last key read instead of the last key acknowledged.
pub(crate) const FOLLOW_CURSOR: &str = "follow-cursor-past-unacknowledged";
/// Requests are sent although the fence is closed.
pub(crate) const IGNORE_FENCE: &str = "ignore-fence";
/// Cancellation does not wait for requests in flight.
pub(crate) const ABANDON_IN_FLIGHT: &str = "abandon-in-flight";
/// The limit of write capacity is not kept.
pub(crate) const IGNORE_BUDGET: &str = "ignore-budget";
/// The bounds of the sort key condition are not looked at when keys are deleted.
pub(crate) const IGNORE_RANGE: &str = "ignore-range";
/// A job that is created again runs again.
pub(crate) const IGNORE_RERUN_RECORD: &str = "ignore-rerun-record";
/// Success is told first, and the record of the run is written after it.
pub(crate) const RECORD_AFTER_SUCCESS: &str = "record-after-success";
/// The finalizer is removed while the task still runs.
pub(crate) const RELEASE_IN_MID_RUN: &str = "release-in-mid-run";
/// What is recorded before the deletion does not say from which table.
pub(crate) const INTENT_WITHOUT_TABLE_ID: &str = "intent-without-table-id";
/// The operator's own identity signs requests to hosts that are not AWS.
pub(crate) const LEND_OWN_IDENTITY: &str = "lend-own-identity";
/// A task that continues another's work counts from nothing.
pub(crate) const FORGET_TOTALS: &str = "forget-totals";

/// Every mistake that this crate can make.
pub const ALL: &[&str] = &[
    DROP_UNPROCESSED_KEYS,
    SKIP_VERIFY,
    EVENTUAL_VERIFY,
    FORGET_TABLE_ID_PIN,
    FOLLOW_CURSOR,
    IGNORE_FENCE,
    ABANDON_IN_FLIGHT,
    IGNORE_BUDGET,
    IGNORE_RANGE,
    IGNORE_RERUN_RECORD,
    RECORD_AFTER_SUCCESS,
    RELEASE_IN_MID_RUN,
    INTENT_WITHOUT_TABLE_ID,
    LEND_OWN_IDENTITY,
    FORGET_TOTALS,
];

/// Whether the named mistake is to be made now.
#[cfg(any(test, feature = "sabotage"))]
pub(crate) fn active(name: &str) -> bool {
    static CURRENT: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("TESTKIT_SABOTAGE").ok());
    debug_assert!(ALL.contains(&name), "{name} is not listed");
    CURRENT.as_deref() == Some(name)
}

/// Whether the named mistake is to be made now: never, in what ships.
#[cfg(not(any(test, feature = "sabotage")))]
pub(crate) const fn active(_name: &str) -> bool {
    false
}
