//! Tags of members: given back where somebody took them off, and brought to what the spec says.

use std::collections::{BTreeMap, BTreeSet};

use mysql_api::cluster::{Launch, LaunchPhase};

use super::{Event, Outcome, PassError, Work};
use crate::{
    cloud::{CloudError, Instance, Instances},
    desired::Desired,
    identity::{Identity, ORIGIN},
    ledger::Ledger,
    parameters::LaunchParameters,
    plan::Seen,
    records::Records,
};

impl<I: Instances, R: Records> Work<'_, I, R> {
    /// The members whose instances have other tags than they are to have. Tags that nobody asks for are nobody's
    /// business here.
    pub(super) fn mistagged(&self, desired: &Desired, ledger: &Ledger, seen: &Seen) -> BTreeSet<i32> {
        let now = self.operator.clock.now();
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
        let now = self.operator.clock.now();
        !seen.mistagged.is_empty() && self.evidence.lock().tags_refused(now).is_none()
    }

    /// Gives a member's instance the tags back that somebody took off it, and its volumes and interfaces with it: what it was
    /// adopted with may not have them yet.
    pub(super) async fn mark(
        &self,
        desired: Option<&Desired>,
        ordinal: i32,
        id: String,
        outcome: &mut Outcome,
    ) -> Result<(), PassError<R::Error>> {
        let Some(tags) = self.wanted(desired, ordinal, &outcome.ledger) else {
            return Ok(());
        };
        let resources = resources(&id, outcome.seen.instance(&id));
        match self.give(&resources, &tags).await {
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
        let Some(tags) = self.wanted(desired, ordinal, &outcome.ledger) else {
            return Ok(());
        };
        let shown = outcome.seen.instances.iter().find(|instance| instance.id == id);
        let given = self.give(&resources(&id, shown), &tags).await;
        let now = self.operator.clock.now();
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

    /// The tags of a member that is known, where it is known what is asked for.
    fn wanted(
        &self,
        desired: Option<&Desired>,
        ordinal: i32,
        ledger: &Ledger,
    ) -> Option<BTreeMap<String, String>> {
        Some(self.tags(desired?, ledger.get(ordinal)?))
    }

    fn tags(&self, desired: &Desired, entry: &Launch) -> BTreeMap<String, String> {
        tags(desired, entry, &self.operator.operator_id)
    }

    async fn give(&self, ids: &[String], tags: &BTreeMap<String, String>) -> Result<(), CloudError> {
        self.operator.cloud.tag(self.region, ids, tags, self.fence).await
    }
}

/// The tags that a member is to have.
pub fn tags(desired: &Desired, entry: &Launch, operator_id: &str) -> BTreeMap<String, String> {
    let identity = Identity {
        cluster_uid: desired.uid.clone(),
        ordinal: entry.ordinal,
        incarnation: entry.incarnation,
    };
    let mut tags = LaunchParameters::tags(desired, &identity, operator_id);
    let origin = entry.adopted_from.iter();
    tags.extend(origin.map(|uid| (ORIGIN.to_owned(), uid.clone())));
    tags
}

/// An instance with what belongs to it.
pub fn resources(id: &str, shown: Option<&Instance>) -> Vec<String> {
    let attached = shown.map_or(&[][..], |instance| &instance.attached);
    [&[id.to_owned()], attached].concat()
}
