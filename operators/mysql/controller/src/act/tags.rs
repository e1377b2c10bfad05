//! Tags of members: given back where somebody took them off, and brought to what the spec says.
//!
//! # Guarantees
//! - Volumes and interfaces get tags only if they carry their member's identity already, which they have from its launch. What
//!   somebody attaches to a member is theirs: marked as ours, it would be deleted with the cluster.

use std::collections::{BTreeMap, BTreeSet};

use mysql_api::cluster::{Launch, LaunchPhase};

use super::{Event, Outcome, PassError, Work};
use crate::{
    cloud::{CloudError, Instance, Instances, Part},
    desired::Desired,
    identity::{CLUSTER_UID, Identity, OPERATOR_ID, ORIGIN, RETAINED},
    ledger::Ledger,
    parameters::LaunchParameters,
    plan::Seen,
    records::Records,
};

impl<I: Instances, R: Records> Work<'_, I, R> {
    /// The members whose instances have other tags than they are to have. Tags that nobody asks for are nobody's
    /// business here.
    pub(super) fn mistagged(&self, desired: &Desired, ledger: &Ledger, seen: &Seen) -> BTreeSet<i32> {
        let now = self.operator.clock.steady();
        let evidence = self.evidence.lock();
        let differs = |entry: &&Launch| {
            let id = entry.instance_id.as_deref();
            let instance = seen
                .instances
                .iter()
                .find(|instance| Some(instance.id.as_str()) == id);
            instance.is_some_and(|instance| {
                let wanted = self.tags(desired, entry);
                let has = |(key, value): (&String, &String)| instance.tags.get(key) == Some(value);
                let ours = instance.is_live() && instance.is_ours(&self.operator.operator_id);
                ours && !wanted.iter().all(has) && !evidence.is_tagged(&instance.id, &wanted, now)
            })
        };
        ledger
            .entries()
            .iter()
            .filter(|entry| entry.phase == LaunchPhase::Launched)
            .filter(differs)
            .map(|entry| entry.ordinal)
            .collect()
    }

    /// Whether more members are to be given tags, and EC2 does not refuse it.
    pub(super) fn is_tagging(&self, seen: &Seen) -> bool {
        let now = self.operator.clock.steady();
        !seen.mistagged.is_empty() && self.evidence.lock().tags_refused(now).is_none()
    }

    /// Gives a member's instance the tags back that somebody took off it, and its volumes and interfaces with it: what it was
    /// adopted with may be its former cluster's still.
    pub(super) async fn mark(
        &self,
        desired: Option<&Desired>,
        ordinal: i32,
        id: String,
        outcome: &mut Outcome,
    ) -> Result<(), PassError<R::Error>> {
        let Some((entry, tags)) = self.wanted(desired, ordinal, &outcome.ledger) else {
            return Ok(());
        };
        match self.give(entry, outcome.seen.instance(&id), &tags).await {
            Ok(()) => {
                self.evidence.lock().release(ordinal);
                outcome.events.push(Event::Marked(ordinal, id));
            }
            Err(error) => self.hold(ordinal, &error)?,
        }
        Ok(())
    }

    /// Gives a member's instance, its volumes and its interfaces the tags of the spec. What EC2 refuses is said, and
    /// hinders nothing else.
    pub(super) async fn tag(
        &self,
        desired: Option<&Desired>,
        ordinal: i32,
        id: String,
        outcome: &mut Outcome,
    ) -> Result<(), PassError<R::Error>> {
        let Some((entry, tags)) = self.wanted(desired, ordinal, &outcome.ledger) else {
            return Ok(());
        };
        let given = self.give(entry, outcome.seen.instance(&id), &tags).await;
        let now = self.operator.clock.steady();
        match given {
            Ok(()) => {
                self.evidence.lock().tagged(&id, tags, now);
                outcome.seen.mistagged.remove(&ordinal);
                outcome.events.push(Event::Tagged(ordinal, id));
            }
            Err(error) => {
                if error.is_unsent() {
                    self.fence.check()?;
                }
                self.evidence.lock().refuse_tags(error.to_string(), now);
            }
        }
        Ok(())
    }

    /// A member that is known with its tags, where it is known what is asked for.
    fn wanted<'b>(
        &self,
        desired: Option<&Desired>,
        ordinal: i32,
        ledger: &'b Ledger,
    ) -> Option<(&'b Launch, BTreeMap<String, String>)> {
        let entry = ledger.get(ordinal)?;
        Some((entry, self.tags(desired?, entry)))
    }

    fn tags(&self, desired: &Desired, entry: &Launch) -> BTreeMap<String, String> {
        tags(desired, entry, &self.operator.operator_id)
    }

    /// Gives a member's instance tags, and what was launched with it: all of it, or nothing.
    async fn give(
        &self,
        entry: &Launch,
        shown: Option<&Instance>,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), CloudError> {
        let cloud = &self.operator.cloud;
        // One that was adopted, and not tagged yet, says itself whose it was.
        let former = shown.and_then(|instance| instance.tags.get(CLUSTER_UID));
        let former = former
            .filter(|_| entry.adopted_from.is_some())
            .map(String::as_str);
        let owners: BTreeSet<&str> = former.into_iter().chain([self.cluster_uid]).collect();
        let ours = self.operator.operator_id.as_str();
        // One that was launched under another id of this operator still has that, as has what was launched with it.
        let before = shown.and_then(|instance| instance.tags.get(OPERATOR_ID));
        let operators: BTreeSet<&str> = before.map(String::as_str).into_iter().chain([ours]).collect();
        let mut ids: Vec<String> = entry.instance_id.iter().cloned().collect();
        for operator in operators {
            for uid in &owners {
                let parts = cloud.parts(self.region, operator, uid).await?;
                ids.extend(launched_along(entry, uid, &parts));
            }
        }
        cloud.tag(self.region, &ids, tags, self.fence).await
    }
}

/// The tags that a member is to have.
pub fn tags(desired: &Desired, entry: &Launch, operator_id: &str) -> BTreeMap<String, String> {
    let identity = identity(entry, &desired.uid);
    let mut tags = LaunchParameters::tags(desired, &identity, operator_id);
    let origin = entry.adopted_from.iter();
    tags.extend(origin.map(|uid| (ORIGIN.to_owned(), uid.clone())));
    tags
}

/// Those of the cluster `uid`'s parts that were launched with a member and are attached to it, but what somebody keeps.
pub fn launched_along(entry: &Launch, uid: &str, parts: &[Part]) -> Vec<String> {
    let identity = identity(entry, uid);
    let along = parts.iter().filter(|part| {
        let attached = part.attached_to.is_some() && part.attached_to == entry.instance_id;
        attached && part.identity().as_ref() == Some(&identity) && !part.tags.contains_key(RETAINED)
    });
    along.map(|part| part.id.clone()).collect()
}

fn identity(entry: &Launch, uid: &str) -> Identity {
    Identity {
        cluster_uid: uid.to_owned(),
        ordinal: entry.ordinal,
        incarnation: entry.incarnation,
    }
}

#[cfg(test)]
mod tests {
    use mysql_api::cluster::LaunchPhase;

    use super::*;
    use crate::{cloud::PartKind, plan::tests::entry};

    #[test]
    fn only_what_was_launched_with_a_member_and_is_still_attached_to_it_belongs_to_it() {
        let member = entry(1, LaunchPhase::Launched, Some("i-1"));
        let part = |id: &str, on: Option<&str>, identity: Option<Identity>| Part {
            kind: PartKind::Volume,
            id: id.into(),
            tags: identity
                .iter()
                .flat_map(Identity::tags)
                .chain([(CLUSTER_UID.to_owned(), "uid".to_owned())])
                .collect(),
            attached_to: on.map(str::to_owned),
            snapshot: None,
        };
        let own = || Some(identity(&member, "uid"));
        let earlier = Identity {
            incarnation: member.incarnation + 1,
            ..identity(&member, "uid")
        };
        let mut kept = part("vol-kept", Some("i-1"), own());
        kept.tags.insert(RETAINED.into(), "uid".into());
        let parts = [
            part("vol-own", Some("i-1"), own()),
            part("vol-tagged-by-hand", Some("i-1"), None),
            part("vol-of-another-launch", Some("i-1"), Some(earlier)),
            part("vol-elsewhere", Some("i-2"), own()),
            part("vol-at-rest", None, own()),
            kept,
        ];
        assert_eq!(launched_along(&member, "uid", &parts), ["vol-own"]);
        assert!(launched_along(&member, "other", &parts).is_empty());
        let unknown = entry(1, LaunchPhase::Launching, None);
        assert!(launched_along(&unknown, "uid", &parts).is_empty());
    }
}
