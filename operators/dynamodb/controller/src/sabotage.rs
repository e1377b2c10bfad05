//! Named mistakes, made on purpose in test builds; see [`reconcile::sabotages!`].

reconcile::sabotages! {
    /// Unprocessed keys count as deleted.
    DROP_UNPROCESSED_KEYS: &str = "drop-unprocessed-keys";
    /// The partition counts as empty without a look.
    SKIP_VERIFY: &str = "skip-verify";
    /// The look at the end is eventually consistent.
    EVENTUAL_VERIFY: &str = "eventual-verify";
    /// A table of the same name counts as the same table.
    FORGET_TABLE_ID_PIN: &str = "forget-table-id-pin";
    /// A look at the table that was under way already counts as one that begins now.
    BELIEVE_EARLIER_LOOK: &str = "believe-earlier-look";
    /// A range that is taken up again continues behind the last key read instead of the last key acknowledged.
    FOLLOW_CURSOR: &str = "follow-cursor-past-unacknowledged";
    /// Requests are sent although the fence is closed.
    IGNORE_FENCE: &str = "ignore-fence";
    /// The fence is not asked again as a request leaves.
    ASK_FENCE_EARLY: &str = "ask-fence-early";
    /// Cancellation does not wait for requests in flight.
    ABANDON_IN_FLIGHT: &str = "abandon-in-flight";
    /// The limit of write capacity is not kept.
    IGNORE_BUDGET: &str = "ignore-budget";
    /// The bounds of the sort key condition are not looked at when keys are deleted.
    IGNORE_RANGE: &str = "ignore-range";
    /// What the watch shows of a job counts as what it is.
    TRUST_THE_WATCH: &str = "trust-the-watch";
    /// A job that is created again runs again.
    IGNORE_RERUN_RECORD: &str = "ignore-rerun-record";
    /// Success is told first, and the record of the run is written after it.
    RECORD_AFTER_SUCCESS: &str = "record-after-success";
    /// The finalizer is removed while the task still runs.
    RELEASE_IN_MID_RUN: &str = "release-in-mid-run";
    /// What is recorded before the deletion does not say from which table.
    INTENT_WITHOUT_TABLE_ID: &str = "intent-without-table-id";
    /// The operator's own identity signs requests to hosts that are not AWS.
    LEND_OWN_IDENTITY: &str = "lend-own-identity";
    /// Keys are sent before it stands written that they are going to be.
    SEND_BEFORE_RESERVING: &str = "send-before-reserving";
    /// What a run that broke off may have deleted does not count against the limits.
    FORGET_RESERVED_KEYS: &str = "forget-reserved-keys";
    /// A task that continues another's work counts from nothing.
    FORGET_TOTALS: &str = "forget-totals";
}
