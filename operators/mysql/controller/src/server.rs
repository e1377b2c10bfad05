//! The only seam to the MySQL servers.

use std::{collections::BTreeSet, future::Future};

use crate::{authority::Authority, gtid::GtidSet};

/// Where a member's server is, and how to know that it is the one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its address inside the VPC.
    pub host: String,
    /// The name in its certificate.
    pub name: String,
    /// Its pinned certificate, as PEM.
    pub certificate: String,
}

/// What a replica says of its replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    /// Whom it follows.
    pub source: String,
    /// Whether it receives, or is connecting.
    pub receives: bool,
    /// Whether it is connected.
    pub connected: bool,
    /// Whether it applies.
    pub applies: bool,
    /// The transactions that it has received from whom it follows, applied or not. What is not applied is thrown away when
    /// it is told to lead, or to follow another.
    pub received: GtidSet,
    /// What stopped it; empty if nothing did.
    pub error: String,
}

/// The settings of a source of semi-synchronous replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Whether commits wait for replicas.
    pub enabled: bool,
    /// For how many.
    pub replicas: u32,
    /// For how long, in milliseconds.
    pub timeout: u64,
}

impl Acknowledgement {
    /// For how many replicas a commit waits; zero for none.
    pub fn waited_for(self) -> u32 {
        if self.enabled { self.replicas } else { 0 }
    }
}

/// How a server takes text of which nobody says how it is meant. MySQL makes a copy only of a server that takes it alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Characters {
    /// `character_set_server`.
    pub server: String,
    /// `character_set_filesystem`.
    pub filesystem: String,
    /// `collation_server`.
    pub collation: String,
}

/// What one look at a server showed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "variables of a server, each of which stands for itself"
)]
pub struct Survey {
    /// Its identity, made with its data folder.
    pub uuid: String,
    /// Its version.
    pub version: String,
    /// The operating system and the CPU that it is built for.
    pub platform: String,
    /// How it takes text.
    pub characters: Characters,
    /// The transactions that it has.
    pub executed: GtidSet,
    /// Those of them that it cannot give to others any more.
    pub purged: GtidSet,
    /// Whether ordinary users cannot write.
    pub read_only: bool,
    /// Whether nobody can, and could not before [`Survey::executed`] was read.
    pub super_read_only: bool,
    /// Accounts that exist, of those that the operator makes.
    pub accounts: BTreeSet<String>,
    /// How it acknowledges as a source.
    pub acknowledgement: Acknowledgement,
    /// Replicas that acknowledge to it at the moment.
    pub acknowledging: u32,
    /// Whether it acknowledges as a replica.
    pub acknowledges: bool,
    /// Whether what it receives is on disk before it acknowledges it, and not only with the operating system.
    pub syncs: bool,
    /// Whether it is becoming a copy of another member at the moment.
    pub copying: bool,
    /// What it said when it was last to become a copy, has no data yet, and refused.
    pub copy_refused: Option<String>,
    /// Its replication, if it follows anybody.
    pub replication: Option<Replication>,
}

impl Survey {
    /// A server as it boots first: without data, closed to writes, following nobody. What stand-ins of servers begin
    /// with.
    pub fn fresh(uuid: impl Into<String>) -> Self {
        Self {
            uuid: uuid.into(),
            version: "9.7.4".into(),
            platform: "Linux x86_64".into(),
            characters: Characters {
                server: "utf8mb4".into(),
                filesystem: "binary".into(),
                collation: "utf8mb4_0900_ai_ci".into(),
            },
            executed: GtidSet::default(),
            purged: GtidSet::default(),
            read_only: true,
            super_read_only: true,
            accounts: BTreeSet::new(),
            acknowledgement: Acknowledgement {
                enabled: false,
                replicas: 1,
                timeout: 10_000,
            },
            acknowledging: 0,
            acknowledges: false,
            syncs: false,
            copying: false,
            copy_refused: None,
            replication: None,
        }
    }
}

/// One change of a server. Each may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Make the accounts that are missing.
    CreateAccounts,
    /// Set how commits are acknowledged.
    Acknowledge(Acknowledgement),
    /// Have on disk what is received before it is acknowledged.
    Sync,
    /// Take writes.
    Open,
    /// Take no more writes, from nobody.
    Close,
    /// Follow this member from now on.
    Follow(Address),
    /// Go on following this member, as it did before it was stopped, or as the member did that it is a copy of.
    Resume(Address),
    /// Apply what was received, whether more can be received or not.
    Apply,
    /// Receive nothing more.
    Detach,
    /// Follow nobody any more: it is about to lead.
    Lead,
    /// Take text as another member does that it is to become a copy of, until it starts anew.
    Resemble(Characters),
    /// Become a copy of this member: its data in place of the own, which must be none. Takes as long as it takes; the
    /// server restarts itself at the end.
    Copy(Address),
}

/// A server could not be asked, or refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{server}: {message}")]
pub struct ServerError {
    /// The member.
    pub server: String,
    /// What happened, without anything that differs from attempt to attempt.
    pub message: String,
}

/// What the operator asks of MySQL servers.
///
/// # Assumptions about implementations
/// - A server is spoken to only if it shows the certificate that is pinned for it.
/// - A call ends within seconds. One that was given up may have taken effect.
pub trait Servers: Send + Sync + 'static {
    /// Looks at a server.
    fn survey(
        &self,
        authority: &Authority,
        at: &Address,
    ) -> impl Future<Output = Result<Survey, ServerError>> + Send;

    /// Changes a server.
    fn change(
        &self,
        authority: &Authority,
        at: &Address,
        change: &Change,
    ) -> impl Future<Output = Result<(), ServerError>> + Send;
}
