//! Looks at tables, each taken once for all runs that would see the same.
//!
//! However many runs delete from a table, DynamoDB is asked about it as often as by one.
//!
//! # Guarantees
//! - A run learns what a look showed together with when the look began: nobody takes an old one for a new one.
//! - [`Lookout::look`] tells of a look that began after it was called, never of one that was under way.
//! - No run waits for another one: a look goes on as long as anybody waits for it, whoever began it, and each that waits
//!   drives it. It is given up after [`LOOK`]; who waits for one that is under way, and then for the next, waits no longer
//!   than for two.
//!
//! # Assumptions
//! Runs that share a lookout reach the same server under the same name with the same credentials.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use parking_lot::Mutex;

use super::{
    budget::TableKey,
    error::{Kind, Problem},
    moment::Moment,
    table::Sighting,
};
use crate::sabotage;

/// A look that takes longer is taken to hang.
pub(crate) const LOOK: Duration = Duration::from_secs(2);

/// What asking about the table brings.
pub(crate) type Outcome = Result<Sighting, Problem>;

/// The lookouts of all tables that are being worked on. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lookouts(Arc<Mutex<HashMap<TableKey, Weak<Lookout>>>>);

impl Lookouts {
    /// The lookout of all runs with this key; without a key, one for nobody else.
    pub(crate) fn join(&self, key: Option<TableKey>) -> Arc<Lookout> {
        let Some(key) = key else {
            return Arc::default();
        };
        let mut tables = self.0.lock();
        tables.retain(|_, lookout| lookout.strong_count() > 0);
        let present = tables.get(&key).and_then(Weak::upgrade);
        present.unwrap_or_else(|| {
            let lookout = Arc::<Lookout>::default();
            tables.insert(key, Arc::downgrade(&lookout));
            lookout
        })
    }
}

/// One look, and what it showed.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    number: u64,
    pub(crate) began: Moment,
    pub(crate) ended: Moment,
    pub(crate) outcome: Outcome,
}

/// One table, as the runs that share this see it.
#[derive(Debug, Default)]
pub(crate) struct Lookout(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Looks that have begun.
    begun: u64,
    /// Nobody but those who wait for it holds it.
    under_way: Option<WeakShared<BoxFuture<'static, Look>>>,
    last: Option<Look>,
}

impl Lookout {
    /// What a look shows that begins from now on, by `sight` unless another run takes it.
    pub(crate) async fn look(&self, sight: impl Fn() -> BoxFuture<'static, Outcome>) -> Look {
        let before = self.0.lock().begun;
        loop {
            let look = self.next(&sight).await;
            if look.number > before || sabotage::active(sabotage::BELIEVE_EARLIER_LOOK) {
                return look;
            }
        }
    }

    /// What the last look showed, if it ended less than `age` ago; else what the next one shows.
    pub(crate) async fn glance(
        &self,
        age: Duration,
        sight: impl Fn() -> BoxFuture<'static, Outcome>,
    ) -> Look {
        let last = self.0.lock().last.clone();
        match last.filter(|look| look.ended.age() < age) {
            Some(look) => look,
            None => self.next(&sight).await,
        }
    }

    /// What the look shows that is under way, or that begins now.
    async fn next(&self, sight: &impl Fn() -> BoxFuture<'static, Outcome>) -> Look {
        let look = self.under_way(sight).await;
        let mut state = self.0.lock();
        if state.last.as_ref().is_none_or(|last| last.number < look.number) {
            state.last = Some(look.clone());
        }
        look
    }

    fn under_way(
        &self,
        sight: &impl Fn() -> BoxFuture<'static, Outcome>,
    ) -> Shared<BoxFuture<'static, Look>> {
        let mut state = self.0.lock();
        let present = state.under_way.as_ref().and_then(WeakShared::upgrade);
        // One that has ended may be there still, for somebody who has not come to take it.
        if let Some(look) = present.filter(|look| look.peek().is_none()) {
            return look;
        }
        state.begun += 1;
        let look = take(state.begun, sight()).boxed().shared();
        state.under_way = look.downgrade();
        look
    }
}

/// Nothing is asked before this is polled: the look begins when it is made, or later.
async fn take(number: u64, sight: BoxFuture<'static, Outcome>) -> Look {
    let began = Moment::now();
    let outcome = tokio::time::timeout(LOOK, sight).await;
    Look {
        number,
        began,
        ended: Moment::now(),
        outcome: outcome.unwrap_or_else(|_| Err(unseen(format!("no answer within {LOOK:?}")))),
    }
}

/// A look that showed nothing, for a passing reason.
pub(crate) fn unseen(message: String) -> Problem {
    Problem {
        kind: Kind::Transient,
        operation: "DescribeTable",
        code: None,
        message,
    }
}

#[cfg(test)]
mod tests;
