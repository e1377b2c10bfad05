//! Named mistakes, made on purpose in test builds: a suite that stays green while one of them is made tests
//! nothing.
//!
//! A crate lists its mistakes in a module `sabotage` by [`sabotages!`](crate::sabotages), and asks
//! `sabotage::active(sabotage::SOME_MISTAKE)` at the one place that keeps a promise. The variable `TESTKIT_SABOTAGE`
//! names the one mistake that the process makes.
//!
//! # Guarantees
//! In what ships `active` is the constant `false` and the branches are compiled away: it looks at the variable only in
//! crates that are built with their own feature `sabotage`, and in their unit tests.

/// Lists the named mistakes that a crate can make: a constant for each, all of them as `ALL`, and
/// `active(name) -> bool`.
///
/// The crate must have a feature `sabotage`, which nothing that ships enables; each crate's own feature decides for it
/// alone.
///
/// ```
/// mod sabotage {
///     reconcile::sabotages! {
///         /// Requests are sent after the deadline.
///         IGNORE_DEADLINE: &str = "ignore-deadline";
///     }
/// }
/// # let late = true;
/// if late && !sabotage::active(sabotage::IGNORE_DEADLINE) {
///     // Nothing is sent.
/// }
/// # assert!(!sabotage::active(sabotage::IGNORE_DEADLINE));
/// # assert_eq!(sabotage::ALL, ["ignore-deadline"]);
/// ```
#[macro_export]
macro_rules! sabotages {
    ($($(#[doc = $doc:literal])+ $name:ident: &str = $text:literal;)+) => {
        $($(#[doc = $doc])+ pub(crate) const $name: &str = $text;)+

        /// Every mistake that this crate can make.
        #[allow(dead_code, reason = "what ships makes none")]
        pub(crate) const ALL: &[&str] = &[$($name,)+];

        /// Whether the named mistake is to be made now.
        #[cfg(any(test, feature = "sabotage"))]
        pub(crate) fn active(name: &str) -> bool {
            static CURRENT: ::std::sync::LazyLock<::std::option::Option<::std::string::String>> =
                ::std::sync::LazyLock::new(|| ::std::env::var("TESTKIT_SABOTAGE").ok());
            ::std::debug_assert!(ALL.contains(&name), "{name} is not listed");
            CURRENT.as_deref() == ::std::option::Option::Some(name)
        }

        /// Whether the named mistake is to be made now: never, in what ships.
        #[cfg(not(any(test, feature = "sabotage")))]
        pub(crate) const fn active(_name: &str) -> bool {
            false
        }
    };
}

sabotages! {
    /// An object is handed to `apply` although it does not carry the finalizer yet.
    APPLY_BEFORE_FINALIZER: &str = "apply-before-finalizer";
    /// The finalizer is removed although `cleanup` is still waiting for something.
    RELEASE_BEFORE_CLEANUP: &str = "release-before-cleanup";
    /// What a list of the past shows as leaving is cleaned up although it is gone.
    CLEAN_UP_AFTER_A_GHOST: &str = "clean-up-after-a-ghost";
    /// A panic is not caught.
    NO_PANIC_GUARD: &str = "no-panic-guard";
    /// A status is written although it is there already.
    WRITE_EQUAL_STATUS: &str = "write-equal-status";
    /// An intent is recorded whatever has become of the object that it was planned from.
    TRUST_STALE_INTENT: &str = "trust-stale-intent";
    /// A report is written whatever was reported since the pass read the object.
    REPORT_LATE: &str = "report-late";
    /// A child of that name that belongs to somebody else is taken over.
    ADOPT_FOREIGN_CHILD: &str = "adopt-foreign-child";
    /// A child that went while the watch was interrupted is not missed.
    MISS_NO_CHILD: &str = "miss-no-child";
    /// Every event of the watch wakes its object, those of our own writes included.
    WAKE_BY_OWN_WRITES: &str = "wake-by-own-writes";
    /// The cache takes whatever arrives, older states too.
    GO_BACK_IN_TIME: &str = "go-back-in-time";
    /// A user's change waits behind the resyncs.
    ONE_PRIORITY: &str = "one-priority";
    /// The process ends without a word to its tasks.
    LEAVE_TASKS_BEHIND: &str = "leave-tasks-behind";
    /// The failures of an object are forgotten when its task has only just been started again.
    FORGET_AT_THE_START: &str = "forget-at-the-start";
    /// Requests are sent after the lease's deadline.
    NO_FENCE: &str = "no-fence";
    /// A request that is opening its connection is sent although the lease is lost meanwhile.
    ASK_FENCE_ONCE: &str = "ask-fence-once";
    /// A standby takes the lease before it has expired.
    CLAIM_TOO_EARLY: &str = "claim-too-early";
    /// A leader that ends leaves the lease to expire.
    KEEP_THE_LEASE: &str = "keep-the-lease";
    /// An installation acts although another does on the same namespaces.
    ACT_BESIDE_ANOTHER: &str = "act-beside-another";
}
