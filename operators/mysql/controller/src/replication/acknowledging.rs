//! For how many replicas a commit waits. Pure.
//!
//! # Guarantees
//! - A leader that takes writes never begins to wait for more replicas than acknowledge: its commits, and with them the
//!   copies that new replicas are to become, would hang.
//! - It never waits for fewer than before because replicas were lost: only because of what the spec says.

use std::collections::BTreeSet;

use mysql_api::{Reason, cluster::Durability};

use super::{Goal, Member, Plan};
use crate::server::{Acknowledgement, Change, Survey};

/// A commit waits for acknowledgements for this long where nothing may be lost, in milliseconds: the longest that MySQL
/// takes, 49 days.
const LOSSLESS: u64 = 4_294_967_295;
/// And this long where writes must go on.
const AVAILABLE: u64 = 10_000;

/// How a cluster of so many members acknowledges: half of them, so that the loss of the leader loses nothing.
pub(super) fn wanted(replicas: i32, durability: Durability) -> Acknowledgement {
    Acknowledgement {
        enabled: replicas > 1,
        replicas: u32::try_from(replicas / 2).unwrap_or_default().max(1),
        timeout: match durability {
            Durability::Lossless => LOSSLESS,
            Durability::Available => AVAILABLE,
        },
    }
}

/// What of `wanted` can be set on this leader now.
pub(super) fn possible(wanted: Acknowledgement, leader: &Survey) -> Acknowledgement {
    if leader.read_only || !wanted.enabled {
        return wanted;
    }
    let now = leader.acknowledgement;
    match now.waited_for().max(leader.acknowledging) {
        0 => Acknowledgement {
            enabled: false,
            replicas: now.replicas,
            ..wanted
        },
        most => Acknowledgement {
            replicas: wanted.replicas.min(most),
            ..wanted
        },
    }
}

/// Whether commits on this leader wait for replicas that do not acknowledge. It cannot be copied then: a copy waits for
/// the commits.
pub(super) fn is_starved(leader: &Survey) -> bool {
    let waits = leader.acknowledgement;
    !leader.read_only && waits.enabled && waits.timeout > AVAILABLE && leader.acknowledging < waits.replicas
}

impl Plan {
    /// The leader is starved, and `member` can only become a copy of it. Where no other member has any data, there is
    /// nobody left to wait for: the commits that hang are let through, and no others follow until there is a copy. Who is
    /// not proven gone may have some, also if nobody can ask it: its instance may only be stopped.
    pub(super) fn relieve(
        &mut self,
        goal: &Goal,
        (head, _): (&Member, &Survey),
        member: &Member,
        members: &[Member],
    ) {
        let others = members.iter().filter(|other| other.ordinal != head.ordinal);
        let absent = goal.absent.iter().filter(|ordinal| **ordinal != head.ordinal);
        let holding: BTreeSet<_> = others
            .filter(|other| {
                let survey = other.survey.as_ref();
                survey.is_none_or(|survey| !survey.executed.is_empty() || survey.copying)
            })
            .map(|other| other.name.clone())
            .chain(absent.map(|ordinal| format!("member {ordinal}, whose instance does not run")))
            .collect();
        if !holding.is_empty() {
            let holding = holding.into_iter().collect::<Vec<_>>().join(", ");
            self.lack(Reason::Forming, || {
                format!(
                    "{} is to become a copy of the primary, whose commits wait for replicas: these may have what it has and do not follow: {holding}; it is waited for them. Terminate their instances if they do not come back",
                    member.name
                )
            });
            return;
        }
        self.lack(Reason::Forming, || {
            format!(
                "every replica is lost, and {} is to become a copy of the primary: commits that wait for a replica are let through, and the primary takes no more writes until there is a copy",
                member.name
            )
        });
        let closes = (head.ordinal, Change::Close);
        if !self.changes.contains(&closes) {
            let off = Acknowledgement {
                enabled: false,
                replicas: 1,
                timeout: LOSSLESS,
            };
            self.changes.push((head.ordinal, Change::Acknowledge(off)));
            self.changes.push(closes);
        }
    }
}
