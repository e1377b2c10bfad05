//! The closed sets of condition types and reasons.

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

pub(crate) use closed_set;

closed_set! {
    /// The types of condition that a `MySQLCluster` reports. `Ready` is the summary.
    ConditionType {
        /// The summary. True means: a client in the cluster can write through the writer's Service and read it back
        /// from every replica.
        Ready,
        /// Every member has an instance that runs.
        Provisioned,
        /// The cloud accepts the operator's credentials and permissions.
        CredentialsValid,
        /// What the spec asks for is what the members were launched with.
        UpToDate,
        /// The loss of any one member loses nothing; that of a replica stops nothing either.
        FaultTolerant,
        /// Backups are taken as the spec asks.
        BackupReady,
        /// Deletion cannot go on until somebody changes something.
        DeletionBlocked,
        /// The operator's hands are off.
        Paused,
    }
}

closed_set! {
    /// Why a condition has its status. Reasons are stable: scripts may compare them.
    Reason {
        /// Accepted; nothing is launched yet.
        Pending,
        /// Instances are being launched.
        Launching,
        /// Instances are launched and not running yet.
        WaitingForInstances,
        /// Every member's instance runs.
        InstancesRunning,
        /// A member's instance is gone or stopped; it is being replaced.
        Replacing,
        /// Members are being removed, because `replicas` was lowered.
        ScalingDown,
        /// The cloud's API refused or failed; the message says with what.
        AWSAPIError,
        /// No zone that the spec allows has capacity for this instance type; tried again every five minutes.
        InsufficientCapacity,
        /// A quota of the account is exhausted; tried again every ten minutes.
        QuotaExceeded,
        /// The cloud's API throttles the account; the operator slows down.
        Throttled,
        /// The credentials are missing, expired or lack a permission; tried again, nothing needs to be edited here.
        CredentialsInvalid,
        /// The credentials work.
        CredentialsAccepted,
        /// The cloud refuses what the spec names (image, subnet, group, key, profile, volume).
        LaunchRefused,
        /// The Secret that the parameters of a launch are kept in cannot be written or read, or is gone; the message says why.
        LaunchUnrecorded,
        /// Launches end before they run, three times in a row.
        LaunchFailing,
        /// The spec cannot be carried out: a storage class, a place or an option is unknown.
        SpecInvalid,
        /// `mySQLOptions` contain an option that the operator sets itself, or one that is no option's name.
        OptionsInvalid,
        /// Two instances carry the identity of one member, and it is not safe to guess which is the real one.
        Ambiguous,
        /// Another instance answers for a member's client token.
        TokenTaken,
        /// The instances of the cluster that the annotation `mysql.alx.ke/adopt` names cannot be taken over; nothing is
        /// launched in their place.
        AdoptionImpossible,
        /// Members inside the cluster are not implemented yet; give `spec.aws`.
        BackendUnavailable,
        /// MySQL is being started and configured on the members.
        Forming,
        /// Writer and replicas work.
        Replicating,
        /// Another member is about to take writes, because the one that does is to be replaced or removed.
        HandingOver,
        /// The server that takes writes does not answer; nobody else is promoted by itself.
        PrimaryUnavailable,
        /// The server that took writes is gone with its data; the replicas hold what it acknowledged.
        PrimaryLost,
        /// A replica has stopped with an error of MySQL's.
        ReplicationBroken,
        /// A member's data cannot be brought together with the primary's; it is left alone.
        Diverged,
        /// One or more members were launched with an older spec; they keep it until they are replaced.
        MembersOutdated,
        /// One or more members have other tags than the spec says; they are given, or the message says why EC2 refuses them.
        TagsOutdated,
        /// Every member was launched with this spec.
        MembersCurrent,
        /// With this number of members the loss of one stops writes, or loses the only copy.
        TooFewMembers,
        /// The loss of any one member is survived.
        Redundant,
        /// Not implemented for this kind of member yet.
        NotImplemented,
        /// Nothing was asked for.
        NotRequested,
        /// Instances are being terminated.
        Terminating,
        /// An instance is protected against termination.
        TerminationProtected,
        /// A launch whose outcome is unknown is being looked for.
        LaunchUnresolved,
        /// An object of a name that is needed belongs to somebody else.
        NameConflict,
        /// Kubernetes refuses a request of the operator's; the message has its words.
        RequestRefused,
        /// The Secret by which the members know the operator is missing or lacks something; nobody reaches them without it.
        AuthorityUnusable,
        /// A person paused it.
        Paused,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn reasons_are_what_kubernetes_accepts_and_never_twice() {
        let mut seen = BTreeSet::new();
        for reason in Reason::ALL {
            assert!(
                reason.as_str().chars().all(|c| c.is_ascii_alphanumeric()),
                "{reason}"
            );
            assert!(seen.insert(reason.as_str()), "{reason} twice");
            assert!(!reason.meaning().trim().is_empty());
        }
        assert_eq!(ConditionType::ALL[0], ConditionType::Ready);
    }
}
