//! What a replica knows of a job by its watch alone is not acted on.
//!
//! A watch may stand still, on a connection that nobody has noticed to be dead or on an API server that lags, while another
//! replica ends the job. Whoever takes over then has a cache in which the job is still at work. So the first time that a
//! process acts on a job it reads it live; after that the status is this process's own work, which its cache has.

use std::collections::HashSet;

use dynamodb_api::DdbctlDpJob;
use parking_lot::Mutex;
use reconcile::{Pass, error::ApiError};

use super::step;
use crate::sabotage;

/// The UIDs of the jobs that were read live since this process began.
#[derive(Default)]
pub(super) struct Confirmed(Mutex<HashSet<String>>);

impl Confirmed {
    /// Whether the job is what the pass was planned from. Asks the API server once for each job, and not for one that has
    /// ended: that never turns back.
    ///
    /// # Errors
    /// Those of [`Pass::live`].
    pub(super) async fn holds(
        &self,
        object: &DdbctlDpJob,
        pass: &Pass<DdbctlDpJob>,
    ) -> Result<bool, ApiError> {
        let ended = object.status.as_ref().is_some_and(step::has_ended);
        if ended || self.0.lock().contains(&pass.uid()) || sabotage::active(sabotage::TRUST_THE_WATCH) {
            return Ok(true);
        }
        let same = is_live(object, pass).await?;
        if same {
            self.0.lock().insert(pass.uid());
        }
        Ok(same)
    }

    /// The job is gone, or has ended.
    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

/// Whether the job is, at this moment, asked for as in `object`, and not being deleted. From here on the pass goes by what
/// was read.
///
/// # Errors
/// Those of [`Pass::live`].
pub(super) async fn is_live(object: &DdbctlDpJob, pass: &Pass<DdbctlDpJob>) -> Result<bool, ApiError> {
    let live = pass.live().await?;
    Ok(live.spec == object.spec && live.metadata.deletion_timestamp.is_none())
}
