//! A primary that is to go hands over to a replica, by plan. Pure.

use mysql_api::{Reason, cluster::Topology};

use super::{Goal, Member, Plan};
use crate::server::{Change, Survey};

impl Plan {
    /// The leader takes no more writes; then who has everything of it takes its place.
    pub(super) fn hand_over(&mut self, goal: &Goal, (head, survey): (&Member, &Survey), members: &[Member]) {
        let message = || {
            format!(
                "the primary, {}, is to be replaced or removed: it takes no writes any more, and another member takes its place as soon as it has all of them",
                head.name
            )
        };
        self.lack(Reason::HandingOver, message);
        if !survey.super_read_only {
            self.changes.push((head.ordinal, Change::Close));
            return;
        }
        let complete = |member: &&Member| {
            let theirs = member.survey.as_ref();
            goal.successors.contains(&member.ordinal)
                && theirs.is_some_and(|theirs| {
                    survey.executed.is_within(&theirs.executed) && survey.accounts.is_subset(&theirs.accounts)
                })
        };
        let successor = members.iter().find(complete);
        self.elect = successor.and_then(|successor| {
            Some(Topology {
                primary: successor.ordinal,
                server_uuid: successor.survey.as_ref()?.uuid.clone(),
            })
        });
    }
}
