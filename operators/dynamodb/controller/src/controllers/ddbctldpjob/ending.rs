//! How a job ends: first by its record, then in its status.

use dynamodb_api::{DdbctlDpJob, Reason};
use reconcile::{Pass, Progress, error::ApiError};

use super::{
    JobError, Jobs, has_begun,
    job::Job,
    report::{self, News},
    rerun::{self, Records, unrecorded},
    step::{self, Ending},
    told,
};
use crate::sabotage;

/// The end that the record has for this job: its own, which an operator recorded that went before the status told it, or the
/// refusal to repeat that of another object of its name and target.
///
/// # Errors
/// The record cannot be read.
pub(super) async fn before(
    job: &Job,
    object: &DdbctlDpJob,
    pass: &Pass<DdbctlDpJob>,
) -> Result<Option<Ending>, ApiError> {
    if job.is_dry_run() || sabotage::active(sabotage::IGNORE_RERUN_RECORD) {
        return Ok(None);
    }
    let Some(record) = records(job, pass).find().await? else {
        return Ok(None);
    };
    // A record is written at an end only. One that does not say which, or says a reason that this operator does not know, is
    // of another version.
    let own = record.uid == pass.uid();
    if own && let Some(reason) = record.ended {
        return Ok(Some(step::recorded(job, reason)));
    }
    // What has begun was allowed to, unless it has its status from a backup.
    let may = || !record.forbids(object) || (has_begun(pass) && !rerun::is_restored(&pass.current()));
    if !own && may() {
        return Ok(None);
    }
    let message = format!(
        "a job of this name and target already ran to its end, before this object was created again; nothing was deleted now. If it is to run again, annotate it with {}=true, or delete ConfigMap {}, and create it anew",
        rerun::ALLOW_RERUN,
        record.config_map
    );
    Ok(Some(Ending::failure(Reason::AlreadyRan, message)))
}

/// The record of a run of this job.
fn records<'a>(job: &Job, pass: &'a Pass<DdbctlDpJob>) -> Records<'a> {
    let identity = job.identity();
    let identity: Vec<_> = identity.iter().map(String::as_str).collect();
    Records::new(pass.client(), pass.key(), &identity)
}

impl Jobs {
    /// Ends the job.
    pub(super) async fn finish(
        &self,
        job: &Job,
        ending: &Ending,
        pass: &Pass<DdbctlDpJob>,
    ) -> Result<Progress, JobError> {
        // First the record: a job whose end is known must not run again, whatever happens between the two.
        let recorded = !job.is_dry_run() && self.may_have_deleted(pass);
        let late = sabotage::active(sabotage::RECORD_AFTER_SUCCESS);
        if recorded
            && !late
            && let Err(error) = records(job, pass).write(&pass.uid(), ending).await
        {
            self.show(&News::Failing(&unrecorded(ending, &error)), pass)
                .await?;
            return Err(error.into());
        }
        self.show(&News::Ended(ending), pass).await?;
        if recorded && late {
            records(job, pass).write(&pass.uid(), ending).await?;
        }
        Ok(self.leave(pass))
    }

    fn may_have_deleted(&self, pass: &Pass<DdbctlDpJob>) -> bool {
        let status = pass.current().status.clone().unwrap_or_default();
        let totals = report::totals_now(&status, told(self.tasks.state(&pass.uid())).as_ref());
        rerun::may_have_deleted(&status, &totals)
    }
}
