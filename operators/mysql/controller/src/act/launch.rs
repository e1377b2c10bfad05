//! Launches: made from what was recorded, repeated, looked for.
//!
//! # Guarantees
//! - A launch that is refused is given up at once only if every attempt of it was refused. EC2 looks at parameters and
//!   permissions before it looks at the client token: a repetition may be refused although the first attempt, whose
//!   answer was lost, was made. Then the launch is looked for by its token, for as long as EC2 may take to show it.
//! - What prevents the launch of one member, be it EC2 or the Secret that its parameters are kept in, prevents nothing else.
//! - Every volume that a launch makes goes with its instance, also those that the image would leave behind, unless the operator
//!   may not look at images.

use std::future::Future;

use mysql_api::{Reason, cluster::Launch};
use reconcile::ReconcileError as _;

use super::{Event, Outcome, PassError, Work};
use crate::{
    cloud::{CloudError, Instance, Instances},
    desired::Desired,
    identity::{Identity, OPERATOR_ID, member_name},
    outcome::{Verdict, verdict},
    parameters::{Frozen, LaunchParameters},
    records::Records,
    sabotage,
};

/// A launch that is to be made: of which member, and with what, if it is the first attempt.
pub(super) type Call = (i32, Option<Frozen>);

/// A launch that is about to be made.
struct Attempt {
    entry: Launch,
    parameters: LaunchParameters,
    /// Whether every attempt before this one was refused, or there was none.
    is_first: bool,
}

impl<I: Instances, R: Records> Work<'_, I, R> {
    /// Freezes the parameters of a launch and enters it. If that cannot be done the member waits, and nobody else.
    pub(super) async fn decide(
        &self,
        desired: &Desired,
        (ordinal, incarnation): (i32, i32),
        (subnet, failures): (&str, i32),
        outcome: &mut Outcome,
    ) -> Option<Call> {
        let identity = self.identity(ordinal, incarnation);
        let wanted = match self.kept_devices(desired).await {
            Ok(kept_devices) => Frozen::new(LaunchParameters {
                kept_devices,
                ..self.parameters(desired, &identity, subnet)
            }),
            Err(error) => {
                let now = self.operator.clock.steady();
                let mut evidence = self.evidence.lock();
                evidence.hold(ordinal, verdict(&error), error.to_string(), now);
                return None;
            }
        };
        match self.freeze(ordinal, incarnation, &wanted).await {
            Ok(frozen) => {
                let now = self.operator.clock.steady();
                outcome.ledger.decide(&identity, &frozen, failures, now);
                Some((ordinal, Some(frozen)))
            }
            Err(error) => {
                self.hold_back(ordinal, &error);
                None
            }
        }
    }

    fn parameters(&self, desired: &Desired, identity: &Identity, subnet: &str) -> LaunchParameters {
        LaunchParameters::new(desired, identity, subnet, &self.operator.operator_id)
    }

    /// The devices whose volumes the image would leave behind. Who may not look at it launches all the same, and whether there
    /// is such an image the launch will say: what is left then is told of at the end of the cluster.
    async fn kept_devices(&self, desired: &Desired) -> Result<Vec<String>, CloudError> {
        let image = &desired.template.image;
        match self.operator.reader.kept_devices(self.region, image).await {
            Err(error) if matches!(verdict(&error), Verdict::Denied | Verdict::Refused) => {
                tracing::warn!(image, %error, "It is not known which volumes instances of the image leave behind");
                Ok(Vec::new())
            }
            found => found,
        }
    }

    /// Makes the launches that the ledger holds, all at once, and records what came of them.
    pub(super) async fn launch(
        &self,
        desired: Option<&Desired>,
        calls: Vec<Call>,
        outcome: &mut Outcome,
    ) -> Result<(), PassError<R::Error>> {
        let before = outcome.ledger.clone();
        let attempts = self.attempts(desired, calls, outcome).await;
        let results = attempts.iter().map(|attempt| {
            let token = (!sabotage::active("drop-token")).then_some(attempt.entry.token.as_str());
            // Until its answer is known it may have been made.
            self.evidence.lock().attempt(attempt.entry.ordinal);
            let cloud = &self.operator.cloud;
            cloud.launch(&attempt.parameters, token, self.fence)
        });
        let results = join_all(results).await;
        if results
            .iter()
            .any(|result| result.as_ref().is_err_and(CloudError::is_unsent))
        {
            self.fence.check()?;
        }
        for (attempt, result) in attempts.iter().zip(results) {
            self.note(attempt, (desired, result), outcome).await;
        }
        self.save(&before, &outcome.ledger).await
    }

    /// What can be made of these calls. The rest is looked for, or waits.
    async fn attempts(
        &self,
        desired: Option<&Desired>,
        calls: Vec<Call>,
        outcome: &mut Outcome,
    ) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        for (ordinal, frozen) in calls {
            let Some(entry) = outcome.ledger.get(ordinal).cloned() else {
                continue;
            };
            let is_first = frozen.is_some() || self.evidence.lock().is_only_refused(ordinal, &entry.token);
            let thawed = match frozen {
                Some(frozen) => Ok(Some(frozen.parameters)),
                None => self.thaw(&entry, desired).await,
            };
            match thawed {
                Ok(Some(parameters)) => attempts.push(Attempt {
                    entry,
                    parameters,
                    is_first,
                }),
                Ok(None) => self.miss(&entry, is_first, (desired, outcome)).await,
                Err(error) => self.hold_back(ordinal, &error),
            }
        }
        attempts
    }

    /// Freezes the parameters of a launch. Those of the one before it, which is over, go first: without capacity there may
    /// be a launch every few minutes, for days.
    async fn freeze(&self, ordinal: i32, incarnation: i32, wanted: &Frozen) -> Result<Frozen, R::Error> {
        if incarnation > 1
            && let Err(error) = self.records.discard(ordinal, incarnation - 1).await
        {
            // It goes with the cluster.
            let cluster_uid = self.cluster_uid;
            tracing::warn!(cluster_uid, ordinal, %error, "The parameters of a launch that is over stay");
        }
        self.records.freeze(ordinal, incarnation, wanted).await
    }

    /// The parameters of a launch, if they are those that it was recorded with: as they were frozen, or as they follow from
    /// the spec once more.
    async fn thaw(
        &self,
        entry: &Launch,
        desired: Option<&Desired>,
    ) -> Result<Option<LaunchParameters>, R::Error> {
        let identity = self.identity(entry.ordinal, entry.incarnation);
        if let Some(desired) = desired.filter(|_| sabotage::active("thaw-parameters")) {
            let subnet = desired.subnets.last().unwrap_or(&entry.subnet_id);
            return Ok(Some(self.parameters(desired, &identity, subnet)));
        }
        let kept = self.records.frozen(entry.ordinal, entry.incarnation).await?;
        let same = |frozen: &Frozen| frozen.digest() == entry.params_hash;
        let frozen = match (kept.filter(same), desired) {
            (None, Some(desired)) => {
                let again = LaunchParameters {
                    kept_devices: self.kept_devices(desired).await.unwrap_or_default(),
                    ..self.parameters(desired, &identity, &entry.subnet_id)
                };
                Some(Frozen::new(again)).filter(same)
            }
            (kept, _) => kept,
        };
        Ok(frozen.map(|frozen| frozen.parameters))
    }

    /// A launch cannot be repeated, for nobody knows with what.
    async fn miss(
        &self,
        entry: &Launch,
        is_first: bool,
        (desired, outcome): (Option<&Desired>, &mut Outcome),
    ) {
        let name = desired.map_or_else(
            || format!("member {}", entry.ordinal),
            |desired| member_name(&desired.name, entry.ordinal),
        );
        let message = format!(
            "the Secret with the parameters of the last launch of {name} is gone or holds others, and the spec has changed since: it is not repeated but looked for, and made anew if EC2 shows nothing of it for five minutes"
        );
        let now = self.operator.clock.steady();
        self.evidence
            .lock()
            .hold(entry.ordinal, Verdict::Unrecorded, message, now);
        self.give_up(entry, is_first, outcome).await;
    }

    /// Draws the consequence of one attempt.
    async fn note(
        &self,
        attempt: &Attempt,
        (desired, result): (Option<&Desired>, Result<Instance, CloudError>),
        outcome: &mut Outcome,
    ) {
        let Attempt {
            entry, parameters, ..
        } = attempt;
        let (ordinal, now) = (entry.ordinal, self.operator.clock.steady());
        let error = match result {
            Ok(instance) => {
                self.record(ordinal, instance, outcome);
                return;
            }
            Err(error) => error,
        };
        let verdict = verdict(&error);
        let is_refused = attempt.is_first && (verdict.is_certain() || error.is_unsent());
        let verdict = {
            let mut evidence = self.evidence.lock();
            if is_refused {
                evidence.refused(ordinal, &entry.token);
            }
            evidence.hold(ordinal, verdict, error.to_string(), now)
        };
        match verdict {
            Verdict::NoCapacity => {
                let kind = &parameters.template.instance_type;
                {
                    let mut evidence = self.evidence.lock();
                    evidence.exhaust(kind, &parameters.subnet, now);
                    let has_room = |subnet: &String| !evidence.is_exhausted(kind, subnet, now);
                    // Another subnet may have room, and need not wait; where there is none, everybody waits.
                    if desired.is_some_and(|desired| desired.subnets.iter().any(has_room)) {
                        evidence.release(ordinal);
                    }
                }
                self.give_up(entry, is_refused, outcome).await;
            }
            Verdict::Refused => self.give_up(entry, is_refused, outcome).await,
            Verdict::Spent => {
                self.evidence.lock().release(ordinal);
                outcome.ledger.conclude(ordinal, false);
            }
            Verdict::Mismatch => self.search(ordinal, outcome).await,
            // Not launched, and the spec has changed since: what was frozen is not wanted any more, or the member is not, and
            // what is wanted may be allowed.
            Verdict::Quota | Verdict::Denied | Verdict::Young | Verdict::Unlisted
                if desired.is_some_and(|desired| {
                    ordinal >= desired.replicas || self.is_outdated(entry, parameters, desired)
                }) =>
            {
                self.give_up(entry, is_refused, outcome).await;
            }
            Verdict::Quota
            | Verdict::Denied
            | Verdict::Young
            | Verdict::Unknown
            | Verdict::Unlisted
            | Verdict::Throttled
            | Verdict::Unrecorded
            | Verdict::Foreign => {}
        }
    }

    /// Gives a launch up: at once if nothing can have come of it, else when nothing is found of it for long enough.
    async fn give_up(&self, entry: &Launch, is_refused: bool, outcome: &mut Outcome) {
        let ordinal = entry.ordinal;
        if is_refused {
            outcome.ledger.conclude(ordinal, false);
            self.evidence.lock().settle(ordinal);
            return;
        }
        let now = self.operator.clock.steady();
        self.evidence.lock().doubt(ordinal, &entry.token, now);
        self.search(ordinal, outcome).await;
    }

    /// Whether a launch would be made with other parameters today: another image, another tag, another subnet. What an image
    /// leaves behind follows from the image.
    fn is_outdated(&self, entry: &Launch, frozen: &LaunchParameters, desired: &Desired) -> bool {
        let identity = self.identity(entry.ordinal, entry.incarnation);
        let today = LaunchParameters {
            kept_devices: frozen.kept_devices.clone(),
            ..self.parameters(desired, &identity, &frozen.subnet)
        };
        !desired.subnets.contains(&frozen.subnet) || today != *frozen
    }

    /// Looks for the instance of a launch by its token. One that has lost our tags, or has those of an id that this operator
    /// had, is known by it as well, unless it is another cluster's now.
    pub(super) async fn search(&self, ordinal: i32, outcome: &mut Outcome) {
        let Some(entry) = outcome.ledger.get(ordinal) else {
            return;
        };
        let (token, own) = (
            entry.token.clone(),
            self.identity(entry.ordinal, entry.incarnation),
        );
        let Ok(found) = self.operator.cloud.with_token(self.region, &token).await else {
            return;
        };
        let ours = found.into_iter().find(|instance| {
            let operator = instance.tags.get(OPERATOR_ID);
            operator.is_none_or(|id| *id == self.operator.operator_id)
                || instance.identity().as_ref() == Some(&own)
        });
        if let Some(instance) = ours {
            self.record(ordinal, instance, outcome);
            return;
        }
        let now = self.operator.clock.steady();
        let mut evidence = self.evidence.lock();
        if evidence.is_disproved(ordinal, &token, now) {
            outcome.ledger.conclude(ordinal, false);
            evidence.settle(ordinal);
        }
    }

    fn record(&self, ordinal: i32, instance: Instance, outcome: &mut Outcome) {
        self.evidence.lock().release(ordinal);
        outcome.ledger.record(ordinal, &instance.id);
        outcome.events.push(Event::Launched(ordinal, instance.id));
    }

    /// Lets the launch of a member wait whose parameters cannot be kept or read.
    fn hold_back(&self, ordinal: i32, error: &R::Error) {
        let foreign = error.reason() == Reason::NameConflict.as_str();
        let verdict = if foreign {
            Verdict::Foreign
        } else {
            Verdict::Unrecorded
        };
        let now = self.operator.clock.steady();
        self.evidence
            .lock()
            .hold(ordinal, verdict, error.to_string(), now);
    }
}

async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    futures::future::join_all(futures).await
}
