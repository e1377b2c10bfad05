//! What a program says when it ends.

use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;

/// The last words of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A backup is there.
    BackedUp(BackupMade),
    /// The data folder is filled.
    Filled(Origin),
    /// It gave up.
    Failed(Failure),
}

/// A backup that is complete and was checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BackupMade {
    /// Its id.
    pub id: String,
    /// What it shows is what was committed at this time, and perhaps a little more.
    pub time: Timestamp,
    /// Length of the compressed dump.
    pub bytes: u64,
    /// SHA-256 of the compressed dump, hexadecimal.
    pub sha256: String,
    /// What the server said it was; empty where nobody wrote it down.
    pub version: String,
}

/// Where the data of a server come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This backup.
    Backup(BackupMade),
    /// Nowhere: it started empty.
    Empty,
    /// They were there, and were left alone.
    Existing,
}

/// Why a program gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In a word.
    pub reason: Reason,
    /// In a sentence that names what is wrong and, where somebody can do something, what.
    pub error: String,
}

/// Defines [`Reason`] with its names, which are what the programs write.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Why a program gave up, in a word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)+
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            fn named(name: &str) -> Self {
                match name {
                    $(stringify!($name) => Self::$name,)+
                    _ => Self::Unexplained,
                }
            }
        }

        impl fmt::Display for Reason {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(match self {
                    $(Self::$name => stringify!($name),)+
                })
            }
        }
    };
}

reasons! {
    /// The server refuses the password of the Secret.
    AccessDenied,
    /// A backup is not what its manifest says, or its dump has no end.
    BackupDamaged,
    /// The backup that was asked for, or any where one is required, is not there.
    BackupMissing,
    /// The data volume holds something that is no data folder.
    DataFolderForeign,
    /// The server's data folder was never filled.
    DataFolderNotPrepared,
    /// The backup is one of another database.
    DatabaseDiffers,
    /// The server has no database of that name.
    DatabaseMissing,
    /// mysqldump failed.
    DumpFailed,
    /// mysqldump reported success, and its output has no end.
    DumpTruncated,
    /// The image lacks a program.
    ImageLacksProgram,
    /// The Pod was told to end.
    Interrupted,
    /// The server refused what the dump says.
    LoadFailed,
    /// The operator asked for something impossible.
    Misused,
    /// A lock keeps the server from being closed to writes.
    ServerBusy,
    /// The private server did not start or end.
    ServerFailed,
    /// The server was opened to writes while its last backup was taken.
    ServerRestarted,
    /// The server does not answer.
    ServerUnreachable,
    /// No space is left on a volume.
    VolumeFull,
    /// A volume is not there or cannot be written to.
    VolumeUnusable,
    /// It left no words: it was killed, evicted, or is no program of ours.
    Unexplained,
}

impl Reason {
    /// Whether the same program will fail again until somebody changes something.
    pub const fn is_hopeless(self) -> bool {
        matches!(
            self,
            Self::AccessDenied
                | Self::BackupDamaged
                | Self::BackupMissing
                | Self::DataFolderForeign
                | Self::DataFolderNotPrepared
                | Self::DatabaseDiffers
                | Self::DatabaseMissing
                | Self::ImageLacksProgram
                | Self::Misused
        )
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    Failed {
        reason: String,
        error: String,
    },
    Filled {
        origin: String,
        #[serde(flatten)]
        backup: Option<BackupMade>,
    },
    BackedUp(BackupMade),
}

impl Outcome {
    /// Reads the termination message of a container, or its whole output: the last line counts.
    pub fn parse(message: &str) -> Self {
        let line = message.trim_end().lines().next_back().unwrap_or_default();
        match serde_json::from_str(line) {
            Ok(Words::Failed { reason, error }) => Self::Failed(Failure {
                reason: Reason::named(&reason),
                error,
            }),
            Ok(Words::Filled { origin, backup }) => match (origin.as_str(), backup) {
                ("backup", Some(backup)) => Self::Filled(Origin::Backup(backup)),
                ("empty", _) => Self::Filled(Origin::Empty),
                ("existing", _) => Self::Filled(Origin::Existing),
                _ => Self::unexplained(line),
            },
            Ok(Words::BackedUp(backup)) => Self::BackedUp(backup),
            Err(_) => Self::unexplained(line),
        }
    }

    fn unexplained(line: &str) -> Self {
        let said: String = line.chars().take(200).collect();
        let error = if said.is_empty() {
            "it ended without a word".to_owned()
        } else {
            format!("its last words were: {said}")
        };
        Self::Failed(Failure {
            reason: Reason::Unexplained,
            error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: &str =
        r#""id":"b1","time":"2026-11-21T14:30:00Z","bytes":12,"sha256":"00ff","version":"9.7.4-2""#;

    fn made() -> BackupMade {
        BackupMade {
            id: "b1".into(),
            time: "2026-11-21T14:30:00Z".parse().unwrap(),
            bytes: 12,
            sha256: "00ff".into(),
            version: "9.7.4-2".into(),
        }
    }

    #[test]
    fn the_last_line_counts() {
        let backed_up = Outcome::parse(&format!("noise\n{{{MADE}}}\n"));
        assert_eq!(backed_up, Outcome::BackedUp(made()));
        let restored = Outcome::parse(&format!("{{\"origin\":\"backup\",{MADE}}}"));
        assert_eq!(restored, Outcome::Filled(Origin::Backup(made())));
        for (origin, expected) in [("empty", Origin::Empty), ("existing", Origin::Existing)] {
            let filled = Outcome::parse(&format!("{{\"origin\":\"{origin}\"}}"));
            assert_eq!(filled, Outcome::Filled(expected));
        }
    }

    #[test]
    fn a_failure_has_a_reason_and_a_sentence() {
        let outcome = Outcome::parse(r#"{"reason":"VolumeFull","error":"no \"space\""}"#);
        let expected = Failure {
            reason: Reason::VolumeFull,
            error: "no \"space\"".into(),
        };
        assert_eq!(outcome, Outcome::Failed(expected));
    }

    #[test]
    fn silence_and_noise_are_failures() {
        let others = [
            "",
            "\n",
            "Killed",
            r#"{"origin":"backup"}"#,
            r#"{"origin":"x"}"#,
            r#"{"id":"b1"}"#,
        ];
        for message in others {
            let Outcome::Failed(failure) = Outcome::parse(message) else {
                panic!("{message:?}")
            };
            assert_eq!(failure.reason, Reason::Unexplained, "{message:?}");
        }
    }
}
