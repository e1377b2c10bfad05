//! Who leads, who follows, and what is still missing: a pure function of what was seen.
//!
//! # Guarantees
//! - A leader is chosen once, when no member has any data; the choice is recorded before anything follows from it.
//! - Only the server that was chosen leads: another one in its place, empty or not, is not promoted.
//! - Writes are opened last: when as many replicas acknowledge as the promise of durability needs.
//! - Commits never begin to wait for replicas that are not there.
//! - A member with transactions that the leader does not have is never made to follow it.
//! - Only a member without any data becomes a copy of another.
//! - Another member leads only after the leader takes no more writes, when it has every transaction of it.
//! - What a replica has received and not applied is never thrown away, whoever has recorded another leader.
//! - A replica that lacks what the leader had some time ago serves nobody: what it shows is the past.
//! - A formed cluster needs no change.

mod acknowledging;
mod copying;
mod election;
mod succession;

use std::collections::BTreeSet;

use mysql_api::{
    Reason,
    cluster::{Durability, Topology},
};

use self::{
    acknowledging::{is_starved, possible},
    copying::{donor, hindrance},
    election::first,
};
use crate::{
    authority::{APPLICATION, REPLICATION},
    gtid::GtidSet,
    sabotage,
    server::{Acknowledgement, Address, Change, Survey},
};

/// A member as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub ordinal: i32,
    /// Its name.
    pub name: String,
    /// Where it is, once that is known.
    pub address: Option<Address>,
    /// What it showed, if it answered.
    pub survey: Option<Survey>,
    /// Why it did not.
    pub trouble: Option<String>,
}

/// What members do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It takes writes.
    Leads,
    /// It follows and applies.
    Follows,
    /// Neither, yet or any more.
    Idle,
}

/// What is to be done, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The leader to record, before anything else.
    pub elect: Option<Topology>,
    /// Changes in order, by member.
    pub changes: Vec<(i32, Change)>,
    /// What each member does now, in the order given.
    pub standings: Vec<(i32, Standing)>,
    /// Why the cluster does not serve in full: reason and words.
    pub lacking: Option<(Reason, String)>,
}

impl Plan {
    fn waiting(goal: &Goal, members: &[Member], reason: Reason, message: String) -> Self {
        Self {
            elect: None,
            changes: Vec::new(),
            standings: members
                .iter()
                .map(|member| (member.ordinal, without_leader(goal, member, members)))
                .collect(),
            lacking: Some((reason, message)),
        }
    }
}

/// What a member does while nobody leads: a replica still has what it applied, and can be read. Who was not read from before
/// begins only with everything that the others have: there is no leader to hold it against.
fn without_leader(goal: &Goal, member: &Member, members: &[Member]) -> Standing {
    let Some(survey) = &member.survey else {
        return Standing::Idle;
    };
    let follows = survey.replication.as_ref().is_some_and(|replication| {
        let source = &replication.source;
        replication.applies && goal.led_at.as_ref().is_none_or(|host| host == source)
    });
    let has_all = || {
        let others = members.iter().filter(|other| other.ordinal != member.ordinal);
        let mut others = others
            .filter_map(|other| other.survey.as_ref())
            .filter(|other| !other.executed.is_empty())
            .peekable();
        others.peek().is_some() && others.all(|other| other.executed.is_within(&survey.executed))
    };
    if follows && (goal.serving.contains(&member.ordinal) || has_all()) {
        Standing::Follows
    } else {
        Standing::Idle
    }
}

/// What is wanted of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// How many there are to be.
    pub replicas: i32,
    /// What a commit waits for.
    pub durability: Durability,
    /// The members of which one is to take the leader's place; none if it keeps it.
    pub successors: Vec<i32>,
    /// The members that another cluster has launched. If there are any, nobody else has data.
    pub adopted: BTreeSet<i32>,
    /// The members that have an instance that does not run: what is on it is not known.
    pub absent: BTreeSet<i32>,
    /// The members that were told lately to become copies, and have not become any: they are not told again yet.
    pub resting: BTreeSet<i32>,
    /// What the leader had a while ago, if it was looked at then.
    pub led_lately: Option<GtidSet>,
    /// The members that clients read from by now.
    pub serving: BTreeSet<i32>,
    /// The host that clients write to by now, if it is the leader's.
    pub led_at: Option<String>,
}

impl Goal {
    /// Whether a replica that is connected has what a client may expect to read. While there are writes nobody has all that
    /// the leader has at this moment; nobody who serves is doubted on no evidence.
    fn is_up_to_date(&self, member: &Member, replica: &Survey, leader: &Survey) -> bool {
        let is_behind = match &self.led_lately {
            Some(lately) => !lately.is_within(&replica.executed),
            None => !self.serving.contains(&member.ordinal),
        };
        !is_behind || leader.executed.is_within(&replica.executed) || sabotage::active("serve-the-past")
    }
}

/// What to do about the members of a cluster.
pub fn plan(goal: &Goal, chosen: Option<&Topology>, members: &[Member]) -> Plan {
    let Some(chosen) = chosen else {
        return first(goal, members);
    };
    let leader = members.iter().find(|member| member.ordinal == chosen.primary);
    let Some((leader, survey)) = leader.and_then(|leader| Some((leader, leader.survey.as_ref()?))) else {
        let trouble = leader
            .and_then(|leader| leader.trouble.clone())
            .unwrap_or_else(|| "it has no running instance".into());
        let message = format!(
            "the primary, member {}, does not answer: {trouble}",
            chosen.primary
        );
        return without_primary(goal, members, Reason::PrimaryUnavailable, message);
    };
    if survey.uuid != chosen.server_uuid && !sabotage::active("promote-empty") {
        let message = format!(
            "the server that led, {} on member {}, is gone, and another one stands in its place; none is promoted by itself. The replicas hold what it acknowledged",
            chosen.server_uuid, leader.name
        );
        return without_primary(goal, members, Reason::PrimaryLost, message);
    }
    succession::before_leading(goal, (leader, survey), members)
        .unwrap_or_else(|| led(goal, (leader, survey), members))
}

/// Nobody leads, and nobody is chosen by itself: replicas apply what they have received.
fn without_primary(goal: &Goal, members: &[Member], reason: Reason, message: String) -> Plan {
    Plan {
        changes: succession::apply_received(members),
        ..Plan::waiting(goal, members, reason, message)
    }
}

fn led(goal: &Goal, leader: (&Member, &Survey), members: &[Member]) -> Plan {
    let (head, survey) = leader;
    let replicas = goal.replicas;
    let mut plan = Plan {
        elect: None,
        changes: Vec::new(),
        standings: Vec::new(),
        lacking: None,
    };
    let wanted = acknowledging::wanted(replicas, goal.durability);
    let possible = possible(wanted, survey);
    let needed: BTreeSet<String> = [REPLICATION, APPLICATION].map(str::to_owned).into();
    let complete = needed.is_subset(&survey.accounts);
    if survey.replication.is_some() {
        plan.changes.push((head.ordinal, Change::Lead));
        plan.lack(Reason::HandingOver, || {
            format!("{} takes the primary's place", head.name)
        });
    }
    if !complete {
        plan.changes.push((head.ordinal, Change::CreateAccounts));
        plan.lack(Reason::Forming, || "accounts are being made".into());
    } else if survey.acknowledgement != possible {
        plan.changes.push((head.ordinal, Change::Acknowledge(possible)));
    }
    for member in members {
        let standing = if member.ordinal == head.ordinal {
            if survey.read_only {
                Standing::Idle
            } else {
                Standing::Leads
            }
        } else {
            plan.follower(goal, leader, member, (members, complete))
        };
        plan.standings.push((member.ordinal, standing));
    }
    let enough = survey.acknowledging >= wanted.replicas || !wanted.enabled || sabotage::active("open-early");
    let missing = (0..replicas).any(|ordinal| !members.iter().any(|member| member.ordinal == ordinal));
    let settled = plan.lacking.is_none() && enough && !missing && survey.acknowledgement == wanted;
    if settled && !goal.successors.is_empty() {
        plan.hand_over(goal, leader, members);
        return plan;
    }
    if survey.read_only && complete && survey.acknowledgement == wanted {
        if enough {
            plan.changes.push((head.ordinal, Change::Open));
        }
        let message = format!("writes are opened once {} replicas acknowledge", wanted.replicas);
        plan.lack(Reason::Forming, || message);
    }
    if survey.read_only {
        plan.lack(Reason::Forming, || "the primary takes no writes yet".into());
    }
    if !enough {
        let message = format!(
            "{} of {} replicas that a commit waits for acknowledge",
            survey.acknowledging, wanted.replicas
        );
        plan.lack(Reason::Forming, || message);
    }
    if survey.acknowledgement != wanted {
        plan.lack(Reason::Forming, || {
            "it is being set for how many replicas a commit waits".into()
        });
    }
    for ordinal in 0..replicas {
        if !members.iter().any(|member| member.ordinal == ordinal) {
            plan.lack(Reason::Forming, || format!("member {ordinal} is missing"));
        }
    }
    plan
}

impl Plan {
    /// The first thing that is lacking is what is said.
    fn lack(&mut self, reason: Reason, message: impl FnOnce() -> String) {
        self.lacking.get_or_insert_with(|| (reason, message()));
    }

    /// What a replica is to be set to, whomever it follows.
    fn settings(&mut self, goal: &Goal, member: &Member, survey: &Survey) {
        if !survey.super_read_only {
            self.changes.push((member.ordinal, Change::Close));
        }
        if goal.durability == Durability::Lossless && !survey.syncs {
            // Before it acknowledges anything: a zone that loses its power may have had the only other copy.
            self.changes.push((member.ordinal, Change::Sync));
        }
        if survey.acknowledgement.enabled {
            // It led. As a replica it would wait for replicas of its own.
            let off = Acknowledgement {
                enabled: false,
                ..survey.acknowledgement
            };
            self.changes.push((member.ordinal, Change::Acknowledge(off)));
        }
    }

    fn follower(
        &mut self,
        goal: &Goal,
        leader: (&Member, &Survey),
        member: &Member,
        (members, accounts): (&[Member], bool),
    ) -> Standing {
        let (head, led) = leader;
        let Some(survey) = &member.survey else {
            let trouble = member.trouble.clone().unwrap_or_else(|| "not asked yet".into());
            self.lack(Reason::Forming, || {
                format!("replica {} does not answer: {trouble}", member.name)
            });
            return Standing::Idle;
        };
        if survey.copying {
            self.lack(Reason::Forming, || {
                format!("{} is becoming a copy of another member", member.name)
            });
            return Standing::Idle;
        }
        self.settings(goal, member, survey);
        let Some(address) = &head.address else {
            return Standing::Idle;
        };
        let follows = survey
            .replication
            .as_ref()
            .filter(|replication| replication.source == address.host);
        if let Some(replication) = follows {
            if replication.receives && replication.applies && survey.acknowledges {
                if replication.connected && goal.is_up_to_date(member, survey, led) {
                    return Standing::Follows;
                }
                if replication.connected {
                    self.lack(Reason::Forming, || {
                        format!("replica {} is catching up with the primary", member.name)
                    });
                    return Standing::Idle;
                }
                self.lack(Reason::Forming, || {
                    format!("replica {} is connecting to the primary", member.name)
                });
                return Standing::Idle;
            }
            if replication.error.is_empty() {
                self.changes
                    .push((member.ordinal, Change::Resume(address.clone())));
            }
            let error = replication.error.clone();
            self.lack(Reason::ReplicationBroken, || {
                format!("replica {} has stopped: {error}", member.name)
            });
            return Standing::Idle;
        }
        let settling = succession::settle(member, survey, (led, members));
        if settling.change.is_some() || settling.waits.is_some() {
            self.changes
                .extend(settling.change.map(|change| (member.ordinal, change)));
            self.lack(Reason::HandingOver, || {
                settling.waits.unwrap_or_else(|| {
                    format!(
                        "{} is to follow the primary, and nobody else any more",
                        member.name
                    )
                })
            });
        } else if !survey.executed.is_within(&led.executed) {
            self.lack(Reason::Diverged, || {
                format!(
                    "{} has transactions that the primary does not have; it is left alone",
                    member.name
                )
            });
        } else if accounts && let Some(donor) = donor(leader, survey, members) {
            if donor.ordinal == head.ordinal && is_starved(led) {
                self.relieve(goal, leader, member, members);
            } else {
                self.copy(goal, member, donor, members);
            }
        } else if !led.purged.is_within(&survey.executed) {
            self.lack(Reason::Diverged, || {
                format!(
                    "{} lacks transactions that the primary has purged already, and {}",
                    member.name,
                    hindrance(survey, led)
                )
            });
        } else if accounts {
            self.changes
                .push((member.ordinal, Change::Follow(address.clone())));
            self.lack(Reason::Forming, || {
                format!("replica {} begins to follow", member.name)
            });
        }
        Standing::Idle
    }
}

#[cfg(test)]
mod tests;
