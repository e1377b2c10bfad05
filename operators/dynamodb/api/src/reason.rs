//! The closed sets of condition types and reasons that a `DdbctlDpJob` reports.

use std::fmt;

macro_rules! closed_set {
    ($(#[$outer:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// Every value of the set, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The value that stands so in a condition, if it is one of the set.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == name)
            }

            /// The value as it stands in a condition.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)+ }
            }

            /// What the value tells a user; the documentation of conditions is generated from it.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc, "\n",)+),)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

closed_set! {
    /// The types of condition in `status.conditions`. `Succeeded` is the summary: True, False or, while the job
    /// works, Unknown.
    ConditionType {
        /// The summary. True means: a strongly consistent read found the partition (or the range asked for) empty,
        /// or, with `mode: DryRun`, that the plan is complete. False is final; Unknown means that work goes on.
        Succeeded,
        /// The plan stands in `status.plan`; nothing is deleted before that.
        Planned,
        /// DynamoDB refuses some of the requests; the message names what is the bottleneck: the table's capacity for writes
        /// or reads, or an index.
        Throttled,
        /// The job is at rest because `spec.suspend` asks for it.
        Suspended,
        /// Work goes on (read by kstatus).
        Reconciling,
        /// No progress is possible until somebody changes something (read by kstatus).
        Stalled,
    }
}

closed_set! {
    /// Why a condition has its status. Reasons are stable: scripts may compare them.
    Reason {
        /// Accepted, not started yet.
        Pending,
        /// The table is being looked at: keys, indexes, backups.
        Preflight,
        /// The partition is being measured; nothing is deleted yet.
        Planning,
        /// The plan is complete.
        PlanReady,
        /// Items are being deleted.
        Deleting,
        /// Every key was acknowledged; a consistent read decides whether the partition is empty.
        Verifying,
        /// Requests failed for a passing reason; the job waits and tries again.
        Retrying,
        /// At rest on request (`spec.suspend`).
        Suspended,
        /// Not at rest.
        Running,
        /// Nothing is being throttled.
        NotThrottled,
        /// The table's own capacity, for writes or reads, is the limit; the message says which.
        TableThrottled,
        /// A global secondary index cannot follow the deletions; it is named in the message.
        IndexThrottled,
        /// The 1,000 write units or 3,000 read units per second of a physical partition are the limit.
        KeyRangeThrottled,
        /// A quota of the AWS account is the limit.
        AccountThrottled,
        /// A consistent read found the partition empty.
        PartitionEmpty,
        /// The dry run is over: the plan stands in the status, nothing was deleted.
        DryRunCompleted,
        /// The spec names no usable target: table name, region or key are malformed.
        TargetInvalid,
        /// `endpointURL` is not a plain http or https URL of a host.
        EndpointInvalid,
        /// The operator may not connect to this endpoint.
        EndpointNotAllowed,
        /// The endpoint could not be reached.
        EndpointUnreachable,
        /// `partitionValue` cannot be a key of this table's type.
        PartitionValueInvalid,
        /// The table's partition key has another type than `keyType` says.
        KeyTypeMismatch,
        /// The sort key condition does not fit the table.
        SortKeyInvalid,
        /// There is no such table in the region, at the endpoint.
        TableNotFound,
        /// The table was dropped and created again under the same name since the job began.
        TableReplaced,
        /// The table exists and cannot be used now (being created or deleted, archived, key inaccessible).
        TableUnavailable,
        /// `requirePointInTimeRecovery` is set and the table has none.
        PointInTimeRecoveryDisabled,
        /// AWS denies an action; the message names it.
        AccessDenied,
        /// The credentials are expired, malformed or unknown.
        CredentialsInvalid,
        /// The Secret that should hold the credentials is missing or incomplete, or no credentials may be used here.
        CredentialsMissing,
        /// The plan or the run exceeds `limits`.
        LimitExceeded,
        /// `activeDeadlineSeconds` passed.
        DeadlineExceeded,
        /// `backoffLimit` rounds in a row brought no progress.
        BackoffLimitExceeded,
        /// Cancelled by `spec.cancel`.
        Cancelled,
        /// Items keep appearing: somebody writes to the partition while it is being deleted.
        PartitionNotEmpty,
        /// `notAfter` had passed before the job began.
        Expired,
        /// A job for the same target already ran to its end under this name, before this object was created again.
        AlreadyRan,
        /// The job would end, and the record of that cannot be written yet; the message says why. It has not ended: a restarted
        /// operator goes on deleting.
        RunNotRecorded,
        /// DynamoDB refused a request for a reason that the job cannot mend.
        RequestRejected,
        /// The job ended; nothing remains to be done.
        Finished,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_what_kubernetes_accepts_and_never_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for reason in Reason::ALL {
            assert!(
                reason.as_str().chars().all(|c| c.is_ascii_alphanumeric()),
                "{reason}"
            );
            assert!(seen.insert(reason.as_str()), "{reason} twice");
            assert!(!reason.meaning().trim().is_empty());
        }
        assert_eq!(ConditionType::ALL[0], ConditionType::Succeeded);
    }
}
