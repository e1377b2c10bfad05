//! Named mistakes, made on purpose in test builds; see [`reconcile::sabotages!`].

reconcile::sabotages! {
    /// Launches carry no client token.
    DROP_TOKEN: &str = "drop-token";
    /// Launches are not recorded before they are made.
    SKIP_INTENT: &str = "skip-intent";
    /// An instance that a listing does not show counts as gone.
    TRUST_EMPTY_LIST: &str = "trust-empty-list";
    /// A repeated launch is made from the current spec, not from the frozen parameters.
    THAW_PARAMETERS: &str = "thaw-parameters";
    /// A termination that was accepted counts as a termination that happened.
    TRUST_REQUEST: &str = "trust-request";
    /// A replica that is connected serves, however much it lacks.
    SERVE_THE_PAST: &str = "serve-the-past";
    /// Whatever server stands in the primary's place leads.
    PROMOTE_EMPTY: &str = "promote-empty";
    /// An orphan is terminated although nobody wanted it gone.
    SWEEP_UNTOMBED: &str = "sweep-untombed";
    /// Writes are opened before replicas acknowledge.
    OPEN_EARLY: &str = "open-early";
    /// The volume of somebody else's claim is taken for our own.
    TAKE_FOREIGN_VOLUME: &str = "take-foreign-volume";
    /// The password of a `MySQL` stands in its server's environment.
    PASSWORD_IN_CLEAR: &str = "password-in-clear";
    /// A server is started while its data folder is still to be filled.
    SERVER_BEFORE_RESTORE: &str = "server-before-restore";
    /// A volume that holds data is filled from a backup all the same.
    RESTORE_OVER_DATA: &str = "restore-over-data";
    /// A Job for the final backup that failed counts as a backup.
    TRUST_FAILED_BACKUP: &str = "trust-failed-backup";
    /// A final backup counts although its server has started again since, open to writes.
    TRUST_EARLIER_BACKUP: &str = "trust-earlier-backup";
    /// The data volume goes before the final backup is there.
    REMOVE_BEFORE_BACKUP: &str = "remove-before-backup";
    /// That a backup was taken is not written down before its Job goes.
    FORGET_RECORD: &str = "forget-record";
    /// The volume of backups goes with its object.
    REMOVE_BACKUPS: &str = "remove-backups";
}
