//! Launches: made from what was recorded, repeated, looked for.

use std::future::Future;

use mysql_api::cluster::Launch;

use super::{Event, Outcome, PassError, Work};
use crate::{
    cloud::{CloudError, Instance, Instances},
    desired::Desired,
    outcome::{Verdict, verdict},
    parameters::LaunchParameters,
    records::Records,
    sabotage,
};

impl<I: Instances, R: Records> Work<'_, I, R> {
    /// Makes the launches that the ledger holds, all at once, and records what came of them.
    pub(super) async fn launch(
        &self,
        desired: Option<&Desired>,
        calls: Vec<(i32, Option<LaunchParameters>)>,
        outcome: &mut Outcome,
    ) -> Result<(), PassError<R::Error>> {
        let mut ready = Vec::new();
        for (ordinal, frozen) in calls {
            let Some(entry) = outcome.ledger.get(ordinal).cloned() else {
                continue;
            };
            let frozen = match frozen {
                Some(frozen) => Some(frozen),
                None => self.thaw(&entry, desired).await?,
            };
            match frozen {
                Some(frozen) => ready.push((entry, frozen)),
                // Nothing to repeat it with: it can only be looked for.
                None => self.search(ordinal, outcome).await,
            }
        }
        if ready.is_empty() {
            return Ok(());
        }
        let attempts = ready.iter().map(|(entry, frozen)| {
            let token = (!sabotage::active("drop-token")).then_some(entry.token.as_str());
            self.operator.cloud.launch(frozen, token, self.fence)
        });
        let results = join_all(attempts).await;
        let before = outcome.ledger.clone();
        if results
            .iter()
            .any(|result| result.as_ref().is_err_and(CloudError::is_unsent))
        {
            self.fence.check()?;
        }
        for ((entry, frozen), result) in ready.iter().zip(results) {
            self.note(entry, frozen, (desired, result), outcome).await;
        }
        self.save(&before, &outcome.ledger).await
    }

    /// Freezes the parameters of a launch. Those of the one before it, which is over, go first: without capacity there may
    /// be a launch every few minutes, for days.
    pub(super) async fn freeze(
        &self,
        ordinal: i32,
        incarnation: i32,
        wanted: &LaunchParameters,
    ) -> Result<LaunchParameters, PassError<R::Error>> {
        if incarnation > 1 {
            let discarded = self.records.discard(ordinal, incarnation - 1).await;
            discarded.map_err(PassError::Records)?;
        }
        let frozen = self.records.freeze(ordinal, incarnation, wanted).await;
        frozen.map_err(PassError::Records)
    }

    /// The frozen parameters of a launch, if they are those that it was recorded with.
    async fn thaw(
        &self,
        entry: &Launch,
        desired: Option<&Desired>,
    ) -> Result<Option<LaunchParameters>, PassError<R::Error>> {
        if let Some(desired) = desired.filter(|_| sabotage::active("thaw-parameters")) {
            let identity = self.identity(entry.ordinal, entry.incarnation);
            let subnet = desired.subnets.last().unwrap_or(&entry.subnet_id);
            return Ok(Some(LaunchParameters::new(
                desired,
                &identity,
                subnet,
                &self.operator.operator_id,
            )));
        }
        let frozen = self
            .records
            .frozen(entry.ordinal, entry.incarnation)
            .await
            .map_err(PassError::Records)?;
        Ok(frozen.filter(|frozen| frozen.digest() == entry.params_hash))
    }

    /// Draws the consequence of one attempt.
    async fn note(
        &self,
        entry: &Launch,
        frozen: &LaunchParameters,
        attempt: (Option<&Desired>, Result<Instance, CloudError>),
        outcome: &mut Outcome,
    ) {
        let (desired, result) = attempt;
        let (ordinal, now) = (entry.ordinal, self.operator.clock.now());
        let error = match result {
            Ok(instance) => {
                self.evidence.lock().release(ordinal);
                outcome.ledger.record(ordinal, &instance.id);
                outcome.events.push(Event::Launched(ordinal, instance.id));
                return;
            }
            Err(error) => error,
        };
        let verdict = verdict(&error);
        self.evidence
            .lock()
            .hold(ordinal, verdict, error.to_string(), now);
        match verdict {
            Verdict::NoCapacity => {
                let kind = &frozen.template.instance_type;
                let mut evidence = self.evidence.lock();
                evidence.exhaust(kind, &frozen.subnet, now);
                let has_room = |subnet: &String| !evidence.is_exhausted(kind, subnet, now);
                // Another subnet may have room, and need not wait; where there is none, everybody waits.
                if desired.is_some_and(|desired| desired.subnets.iter().any(has_room)) {
                    evidence.release(ordinal);
                }
                outcome.ledger.conclude(ordinal, false);
            }
            Verdict::Refused => outcome.ledger.conclude(ordinal, false),
            Verdict::Spent => {
                self.evidence.lock().release(ordinal);
                outcome.ledger.conclude(ordinal, false);
            }
            Verdict::Mismatch => self.search(ordinal, outcome).await,
            // Not launched, and the spec has changed since: what was frozen is not wanted any more, and what is wanted
            // may be allowed.
            Verdict::Quota | Verdict::Denied
                if desired.is_some_and(|desired| self.is_outdated(entry, frozen, desired)) =>
            {
                self.evidence.lock().release(ordinal);
                outcome.ledger.conclude(ordinal, false);
            }
            Verdict::Quota | Verdict::Denied | Verdict::Unknown | Verdict::Throttled => {}
        }
    }

    /// Whether a launch would be made with other parameters today: another image, another tag, another subnet.
    fn is_outdated(&self, entry: &Launch, frozen: &LaunchParameters, desired: &Desired) -> bool {
        let identity = self.identity(entry.ordinal, entry.incarnation);
        let operator_id = &self.operator.operator_id;
        !desired.subnets.contains(&frozen.subnet)
            || LaunchParameters::new(desired, &identity, &frozen.subnet, operator_id) != *frozen
    }

    /// Looks for the instance of a launch by its token.
    pub(super) async fn search(&self, ordinal: i32, outcome: &mut Outcome) {
        let Some(token) = outcome.ledger.get(ordinal).map(|entry| entry.token.clone()) else {
            return;
        };
        let found = self
            .operator
            .cloud
            .with_token(self.region, &token)
            .await
            .unwrap_or_default();
        let ours = found
            .into_iter()
            .find(|instance| instance.is_ours(&self.operator.operator_id));
        if let Some(instance) = ours {
            self.evidence.lock().release(ordinal);
            outcome.ledger.record(ordinal, &instance.id);
            outcome.events.push(Event::Launched(ordinal, instance.id));
        }
    }
}

async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    futures::future::join_all(futures).await
}
