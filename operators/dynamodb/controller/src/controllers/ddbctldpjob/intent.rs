//! What is written before it is done: the plan before anything is deleted, the reserved keys before they are.
//!
//! An intent is written whole: what is left out is removed.

use dynamodb_api::{DdbctlDpJob, DdbctlDpJobStatus, DeletionAllowance, DeletionPlan, KeySchema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use reconcile::{Pass, clock::Clock, error::ApiError};
use serde::Serialize;

use super::{idle::Told, run::Runner, step::Measured};
use crate::sabotage;

/// The fields of the status that are intent.
pub(super) const FIELDS: &[&str] = &["tableId", "keySchema", "plan", "startTime", "allowance"];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Intent {
    table_id: Option<String>,
    key_schema: Option<KeySchema>,
    plan: Option<DeletionPlan>,
    start_time: Option<Time>,
    allowance: Option<DeletionAllowance>,
}

impl Intent {
    /// As it stands.
    fn of(status: DdbctlDpJobStatus) -> Self {
        Self {
            table_id: status.table_id,
            key_schema: status.key_schema,
            plan: status.plan,
            start_time: status.start_time,
            allowance: status.allowance,
        }
    }
}

/// Records, before anything is deleted, what is going to be deleted from what.
pub(super) async fn begin(measured: &Measured, pass: &Pass<DdbctlDpJob>) -> Result<(), ApiError> {
    let forget = sabotage::active(sabotage::INTENT_WITHOUT_TABLE_ID);
    let intent = Intent {
        table_id: (!forget).then(|| measured.table_id.clone()),
        key_schema: Some(measured.key_schema.clone()),
        plan: Some(measured.plan.clone()),
        start_time: Some(now(pass.clock())),
        allowance: None,
    };
    pass.write_intent(&intent).await
}

/// Records that the clock of the deadline starts again.
pub(super) async fn resume(status: &DdbctlDpJobStatus, pass: &Pass<DdbctlDpJob>) -> Result<(), ApiError> {
    let intent = Intent {
        start_time: Some(now(pass.clock())),
        ..Intent::of(status.clone())
    };
    pass.write_intent(&intent).await
}

/// Writes down what the run wants to have written, if it is not yet, and confirms it.
pub(super) async fn reserve(
    told: Option<&Told>,
    runner: &Runner,
    pass: &Pass<DdbctlDpJob>,
) -> Result<(), ApiError> {
    let Some(reservation) = told.and_then(|told| told.reservation.as_ref()) else {
        return Ok(());
    };
    let status = pass.current().status.clone().unwrap_or_default();
    let allowance = Some(reservation.to_status());
    if status.allowance != allowance {
        let intent = Intent {
            allowance,
            ..Intent::of(status)
        };
        pass.write_intent(&intent).await?;
    }
    runner.confirm(&pass.uid(), reservation.number);
    Ok(())
}

/// Forgets what an earlier run reserved: the job has no limits any more, and what it deletes now is not counted.
pub(super) async fn drop_allowance(pass: &Pass<DdbctlDpJob>) -> Result<(), ApiError> {
    let status = pass.current().status.clone().unwrap_or_default();
    if status.allowance.is_none() {
        return Ok(());
    }
    let intent = Intent {
        allowance: None,
        ..Intent::of(status)
    };
    pass.write_intent(&intent).await
}

/// To the second, as times are written.
fn now(clock: &Clock) -> Time {
    let now = clock.now();
    Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
}
