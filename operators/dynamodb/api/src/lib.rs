//! The `DdbctlDpJob` kind: a job that deletes one partition of one DynamoDB table.
//!
//! This crate is types and schema only. What each field means to a user stands in its doc comment, which is also
//! what `kubectl explain` prints; what can be checked without the table is checked by the schema (bounds, CEL), the
//! rest by the controller, which reports it as a condition with one of the [`Reason`]s.
//!
//! # Guarantees
//! - Both forms of the target that users write are accepted: the four fields flat under `spec`, or nested under
//!   `spec.ddbCtlDpJob`; exactly one of them at a time.
//! - What a job deletes cannot be changed after its creation; how fast it does so, and whether, can.
//! - Numbers are integers with bounds; capacity is counted in thousandths of a unit where fractions matter.

mod reason;
mod schema;
mod spec;
mod status;

pub use reason::{ConditionType, Reason};
pub use spec::{
    AttributeType, Credentials, DdbctlDpJob, DdbctlDpJobSpec, DpJobTarget, LocalSecretRef, RunLimits,
    RunMode, SortKeyBounds, SortKeyPredicate, default_backoff_limit,
};
pub use status::{
    ConsumedCapacity, DdbctlDpJobStatus, DeletionAllowance, DeletionPlan, DeletionProgress, DeletionRate,
    IndexSummary, KeySchema, KeySchemaElement, ResolvedTarget,
};

/// The group that the kind belongs to.
pub const GROUP: &str = "dynamoctl.dp.operators.sanjivmadhavan.io";

/// The region of a job that names none.
pub const DEFAULT_REGION: &str = "us-east-1";
