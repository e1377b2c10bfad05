//! Named mistakes, made on purpose in test builds: a suite that stays green while one of them is made tests
//! nothing.
//!
//! In what ships `active` is the constant `false` and the branches are compiled away. With the crate's feature
//! `sabotage`, or in its own unit tests, the environment variable `TESTKIT_SABOTAGE` names the one mistake that the
//! process makes.

/// An object is handed to `apply` although it does not carry the finalizer yet.
pub(crate) const APPLY_BEFORE_FINALIZER: &str = "apply-before-finalizer";
/// The finalizer is removed although `cleanup` is still waiting for something.
pub(crate) const RELEASE_BEFORE_CLEANUP: &str = "release-before-cleanup";
/// A panic is not caught.
pub(crate) const NO_PANIC_GUARD: &str = "no-panic-guard";
/// A status is written although it is there already.
pub(crate) const WRITE_EQUAL_STATUS: &str = "write-equal-status";
/// An intent is recorded whatever has become of the object that it was planned from.
pub(crate) const TRUST_STALE_INTENT: &str = "trust-stale-intent";
/// A child of that name that belongs to somebody else is taken over.
pub(crate) const ADOPT_FOREIGN_CHILD: &str = "adopt-foreign-child";
/// A child that went while the watch was interrupted is not missed.
pub(crate) const MISS_NO_CHILD: &str = "miss-no-child";
/// Every event of the watch wakes its object, those of our own writes included.
pub(crate) const WAKE_BY_OWN_WRITES: &str = "wake-by-own-writes";
/// The cache takes whatever arrives, older states too.
pub(crate) const GO_BACK_IN_TIME: &str = "go-back-in-time";
/// A user's change waits behind the resyncs.
pub(crate) const ONE_PRIORITY: &str = "one-priority";
/// The process ends without a word to its tasks.
pub(crate) const LEAVE_TASKS_BEHIND: &str = "leave-tasks-behind";
/// Requests are sent after the lease's deadline.
pub(crate) const NO_FENCE: &str = "no-fence";
/// A standby takes the lease before it has expired.
pub(crate) const CLAIM_TOO_EARLY: &str = "claim-too-early";
/// A leader that ends leaves the lease to expire.
pub(crate) const KEEP_THE_LEASE: &str = "keep-the-lease";

/// Every mistake that this crate can make.
#[cfg(any(test, feature = "sabotage"))]
const ALL: &[&str] = &[
    APPLY_BEFORE_FINALIZER,
    RELEASE_BEFORE_CLEANUP,
    NO_PANIC_GUARD,
    WRITE_EQUAL_STATUS,
    TRUST_STALE_INTENT,
    ADOPT_FOREIGN_CHILD,
    MISS_NO_CHILD,
    WAKE_BY_OWN_WRITES,
    GO_BACK_IN_TIME,
    ONE_PRIORITY,
    LEAVE_TASKS_BEHIND,
    NO_FENCE,
    CLAIM_TOO_EARLY,
    KEEP_THE_LEASE,
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
