//! One call for one member, and what follows from its answer.

use std::time::Duration;

use super::{Event, Outcome, PassError, Work};
use crate::{
    cloud::{CloudError, Instances},
    outcome::verdict,
    records::Records,
    sabotage,
};

impl<I: Instances, R: Records> Work<'_, I, R> {
    pub(super) async fn terminate(
        &self,
        ordinal: i32,
        id: String,
        outcome: &mut Outcome,
    ) -> Result<(), PassError<R::Error>> {
        match self.operator.cloud.terminate(self.region, &id, self.fence).await {
            Ok(()) => {
                self.evidence.lock().release(ordinal);
                if sabotage::active("trust-request") {
                    outcome.ledger.conclude(ordinal, false);
                }
                outcome.events.push(Event::Terminating(ordinal, id));
            }
            // Not visible yet, or gone for an hour: observation tells which.
            Err(error) if error.is_not_found() => {}
            Err(error) => self.hold(ordinal, &error)?,
        }
        Ok(())
    }

    pub(super) async fn start(
        &self,
        ordinal: i32,
        id: String,
        outcome: &mut Outcome,
    ) -> Result<(), PassError<R::Error>> {
        match self.operator.cloud.start(self.region, &id, self.fence).await {
            Ok(()) => {
                let now = self.operator.clock.steady();
                let mut evidence = self.evidence.lock();
                evidence.release(ordinal);
                evidence.started(&id, now);
                outcome.events.push(Event::Started(ordinal, id));
            }
            Err(error) => self.hold(ordinal, &error)?,
        }
        Ok(())
    }

    /// Records that a member is to be replaced.
    pub async fn replace(&self, ordinal: i32, outcome: &mut Outcome) -> Result<(), PassError<R::Error>> {
        let before = outcome.ledger.clone();
        outcome.ledger.retire(ordinal);
        outcome.events.push(Event::Replacing(ordinal));
        outcome.next = Duration::from_secs(1);
        self.save(&before, &outcome.ledger).await
    }

    /// Lets the next attempt for a member wait. Without the lease there is none.
    pub(super) fn hold(&self, ordinal: i32, error: &CloudError) -> Result<(), PassError<R::Error>> {
        if error.is_unsent() {
            self.fence.check()?;
        }
        let now = self.operator.clock.steady();
        self.evidence
            .lock()
            .hold(ordinal, verdict(error), error.to_string(), now);
        Ok(())
    }
}
