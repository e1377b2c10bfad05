//! The seam to what must survive a crash: the ledger of launches and their frozen parameters.

use std::future::Future;

use reconcile::ReconcileError;

use crate::{ledger::Ledger, parameters::Frozen};

/// One cluster's records.
pub trait Records: Send + Sync {
    /// Its errors.
    type Error: ReconcileError;

    /// Keeps the parameters of a launch until it is over, and returns what is kept: if there are some already, from before a
    /// crash, those stay.
    fn freeze(
        &self,
        ordinal: i32,
        incarnation: i32,
        wanted: &Frozen,
    ) -> impl Future<Output = Result<Frozen, Self::Error>> + Send;

    /// The parameters that were frozen for a launch; nothing if they are not there any more, or not readable.
    fn frozen(
        &self,
        ordinal: i32,
        incarnation: i32,
    ) -> impl Future<Output = Result<Option<Frozen>, Self::Error>> + Send;

    /// Forgets the parameters of a launch that is over. There may be none any more.
    fn discard(&self, ordinal: i32, incarnation: i32)
    -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Writes the ledger, on condition that nobody has written it since it was read.
    fn write(&self, ledger: &Ledger) -> impl Future<Output = Result<(), Self::Error>> + Send;
}
