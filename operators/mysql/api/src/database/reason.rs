//! The closed sets of condition types and reasons of `MySQL`.

use std::fmt;

use crate::reason::closed_set;

closed_set! {
    /// The types of condition that a `MySQL` reports. `Ready` is the summary.
    ConditionType {
        /// The summary. True means: the server answers, with the data that it should have.
        Ready,
        /// The data volume is bound, as large as was asked for.
        StorageReady,
        /// What the server starts from is settled: a backup, an empty folder, or data that was there.
        RestoreDone,
        /// The server's Pod is ready.
        ServerReady,
        /// The last backup that was asked for was taken.
        BackupTaken,
        /// What the spec asks for is what runs; otherwise it names the change that is refused.
        UpToDate,
        /// Deletion cannot go on until somebody changes something.
        DeletionBlocked,
        /// The password of root stands in the spec.
        ClearTextPassword,
        /// The operator's hands are off.
        Paused,
    }
}

closed_set! {
    /// Why a condition of a `MySQL` has its status. Reasons are stable: scripts may compare them.
    Reason {
        /// The name is too long for the children's names, or no Service can have it.
        NameInvalid,
        /// `database` cannot be created as it is written, or is MySQL's own.
        DatabaseInvalid,
        /// The password is empty or holds a control character.
        PasswordInvalid,
        /// The Secret that `passwordSecretRef` names does not exist or lacks the key.
        PasswordMissing,
        /// `config` holds an option that the operator sets itself, or one that is no option's name.
        OptionsInvalid,
        /// A size is no quantity, or is zero.
        SizeInvalid,
        /// `backup.schedule` is no cron expression of five fields, or never comes.
        ScheduleInvalid,
        /// An object of a name that is needed belongs to somebody else. It is not touched.
        NameConflict,
        /// The API server refuses an object that is needed; the message has its words.
        RequestRefused,
        /// Objects of a deleted MySQL of this name are still going away.
        LeftoversGoing,
        /// The StorageClass that the spec names does not exist.
        StorageClassUnknown,
        /// There are StorageClasses and none is the default, and the spec names none.
        NoDefaultStorageClass,
        /// There is no StorageClass, and the operator is not allowed to make a volume on a node.
        VolumesForbidden,
        /// The data volume is not bound yet.
        WaitingForVolume,
        /// The data volume is being enlarged.
        Growing,
        /// The storage class or the cluster refuses to enlarge the volume.
        GrowthRefused,
        /// The data volume is bound.
        VolumeBound,
        /// A volume never shrinks.
        ShrinkRefused,
        /// The class of a volume never changes.
        StorageClassFixed,
        /// Data cannot be carried from this series of MySQL to that one in one step.
        VersionChangeRefused,
        /// Everything that the spec asks for was applied.
        Applied,
        /// The backup is being restored.
        Restoring,
        /// It was restored from a backup.
        Restored,
        /// There was no backup, or none was wanted.
        StartedEmpty,
        /// The volume was there before, with its data.
        DataKept,
        /// A backup is required and there is none.
        BackupMissing,
        /// The restore failed; the server is not started.
        RestoreFailed,
        /// The server is being started.
        Starting,
        /// The server's Pod does not come up; the message says why.
        ServerFailing,
        /// The server answers.
        Serving,
        /// Nothing was asked for yet.
        NoBackupYet,
        /// A backup is being taken.
        BackupRunning,
        /// The last backup was taken.
        BackupDone,
        /// The last backup failed; earlier ones are kept.
        BackupFailed,
        /// Somebody has deleted the volume with the backups; another is in its place.
        BackupsLost,
        /// The final backup cannot be taken, so the deletion waits.
        FinalBackupFailed,
        /// It is being deleted.
        Deleting,
        /// The password stands in the spec, where everybody can read it who can read this object.
        InSpec,
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
