//! Members without data become copies of others, instead of repeating a long history that may not even be there any
//! more. Pure.

use mysql_api::Reason;

use super::{Goal, Member, Plan, acknowledging::is_starved};
use crate::server::{Change, Survey};

/// From so many transactions on a new member becomes a copy instead of repeating them all.
const MANY: u64 = 100;

impl Plan {
    /// A member becomes a copy of the donor. One at a time: a member can be copied once at a time. One that could not does not
    /// keep the others from it, nor the donor busy.
    pub(super) fn copy(&mut self, goal: &Goal, member: &Member, donor: &Member, members: &[Member]) {
        let copying = |other: &Member| other.survey.as_ref().is_some_and(|survey| survey.copying);
        let begun = self
            .changes
            .iter()
            .any(|(_, change)| matches!(change, Change::Copy(_)));
        let refused = member
            .survey
            .as_ref()
            .and_then(|survey| survey.copy_refused.as_ref());
        self.lack(Reason::Forming, || match refused {
            Some(why) => format!(
                "{} could not become a copy of another member: {why}, which the error log of its server explains; it is tried again after 1 to 30 minutes. Its volume must hold all data of the other, with the same innodb_page_size",
                member.name
            ),
            None => format!("{} is to become a copy of another member", member.name),
        });
        if !begun
            && !goal.resting.contains(&member.ordinal)
            && !members.iter().any(copying)
            && let Some(address) = donor.address.clone()
        {
            if let (Some(own), Some(other)) = (&member.survey, &donor.survey)
                && own.characters != other.characters
            {
                let characters = other.characters.clone();
                self.changes.push((member.ordinal, Change::Resemble(characters)));
            }
            self.changes.push((member.ordinal, Change::Copy(address)));
        }
    }
}

/// The member that one without data is to become a copy of: a replica that serves, else the leader. None for a member
/// that has data, or that need not be one because the leader still has its whole, short history; and none of another
/// series or for another machine, which MySQL would refuse. A leader whose commits hang is none as long as its whole history can be repeated.
pub(super) fn donor<'a>(
    (head, led): (&'a Member, &Survey),
    survey: &Survey,
    members: &'a [Member],
) -> Option<&'a Member> {
    let is_long = !led.purged.is_empty() || led.executed.count() > MANY;
    if !survey.executed.is_empty() || !is_long {
        return None;
    }
    let alike = |theirs: &Survey| {
        series(&theirs.version) == series(&survey.version) && theirs.platform == survey.platform
    };
    let serves = |theirs: &Survey| {
        let source = theirs.replication.as_ref();
        alike(theirs)
            && !theirs.executed.is_empty()
            && led.purged.is_within(&theirs.executed)
            && source.is_some_and(|source| source.connected && source.applies)
    };
    let replica = members
        .iter()
        .find(|other| other.ordinal != head.ordinal && other.survey.as_ref().is_some_and(serves));
    let hangs = is_starved(led) && led.purged.is_empty();
    replica.or_else(|| (alike(led) && !hangs).then_some(head))
}

/// Why a member that lacks what the leader has purged cannot get it, and what to do.
pub(super) fn hindrance(survey: &Survey, led: &Survey) -> String {
    if !survey.executed.is_empty() {
        return "has data of its own; terminate its instance, and it is replaced by a copy".into();
    }
    let (what, own, other) = if series(&survey.version) == series(&led.version) {
        ("is built for another machine", &survey.platform, &led.platform)
    } else {
        ("is of another series", &survey.version, &led.version)
    };
    format!(
        "cannot become a copy, for its MySQL {what} than the primary's ({own}, {other}); launch members of one image and kind of CPU: set the spec back, and it is replaced, or terminate its instance, as with terminationProtection"
    )
}

/// `9.7` of `9.7.4-log`.
fn series(version: &str) -> Option<(&str, &str)> {
    let mut numbers = version.split(['.', '-']);
    Some((numbers.next()?, numbers.next()?))
}
