//! The guard against deleting again what a job of the same name and target has deleted before.
//!
//! A GitOps tool or a restored backup re-creates a finished job's manifest, without its status. To the API that is a
//! new object; to its author it is the old one, and running it would delete what has been written to the partition
//! since. So a job that ended after it had deleted something, or may have (see [`may_have_deleted`]), leaves a record, a
//! ConfigMap in its own namespace, and a job that finds the record of *another* object of its name and target is refused
//! with reason `AlreadyRan`. That holds for
//! jobs that failed or were cancelled, too: created again by a tool, they would go on past their deadline, and begin
//! their `limits` anew. A job that was deleted before its end leaves none: it is meant to go on when it is created again.
//!
//! The record holds no key value, only a digest of the target. It belongs to nobody, so that it outlives the job.
//! Two ways lead past it: the annotation [`ALLOW_RERUN`], or deleting the ConfigMap.

use dynamodb_api::{DdbctlDpJob, DdbctlDpJobStatus, Reason};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    core::Status,
};
use reconcile::{
    ObjectKey,
    error::{ApiError, Class, ReconcileError as _, chain},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::step::Ending;
use crate::partition::{Failure, Totals};

/// The annotation (`"true"`) on a job that may run although one of its name and target already did.
pub(super) const ALLOW_RERUN: &str = "dynamoctl.dp.operators.sanjivmadhavan.io/allow-rerun";

const FIELD_MANAGER: &str = "ddbctldpjob";
const UID: &str = "uid";
const ENDED: &str = "ended";

/// The record of a job that ran to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Name of the ConfigMap.
    pub(super) config_map: String,
    /// UID of the job that ran.
    pub(super) uid: String,
    /// How it ended, where an operator wrote it that records that.
    pub(super) ended: Option<Reason>,
}

/// Whether a job with this status and these totals has deleted something, as far as anybody can tell.
///
/// Answers get lost, and an operator that is killed takes with it what it had in flight and had not told yet. So a job
/// without a single acknowledgement counts as well, once there were items to delete: the plan of a deletion that was about
/// to begin had some, or some were read later. It does not if it ended before its plan, or found nothing. What an operator
/// deleted against a plan of nothing, and was killed before it told of, is not known here.
pub(super) fn may_have_deleted(status: &DdbctlDpJobStatus, totals: &Totals) -> bool {
    let planned = status
        .plan
        .as_ref()
        .is_some_and(|plan| plan.items > 0 || !plan.complete || totals.keys_read > 0);
    planned || totals.keys_acknowledged > 0
}

/// Whether the object has its status from a backup: the run that it tells of began before it was created.
pub(super) fn is_restored(job: &DdbctlDpJob) -> bool {
    let began = job.status.as_ref().and_then(|status| status.start_time.as_ref());
    let created = job.metadata.creation_timestamp.as_ref();
    began
        .zip(created)
        .is_some_and(|(began, created)| began.0 < created.0)
}

/// Why a job that has come to its end is not told to have ended.
pub(super) fn unrecorded(ending: &Ending, error: &ApiError) -> Failure {
    Failure {
        class: error.class(),
        reason: Reason::RunNotRecorded,
        message: format!(
            "the job would end now ({}: {}), but its end is recorded first, so that it does not run again when it is \
             created again, and the record could not be written; an operator that is restarted before that goes on deleting: {}",
            ending.reason,
            ending.message,
            chain(error)
        ),
    }
}

impl Record {
    /// Whether this record forbids `job` to run.
    pub(super) fn forbids(&self, job: &DdbctlDpJob) -> bool {
        let allowed = job
            .annotations()
            .get(ALLOW_RERUN)
            .is_some_and(|value| value == "true");
        !allowed && job.uid().is_none_or(|uid| uid != self.uid)
    }
}

/// Where records are kept.
pub(super) struct Records<'a> {
    client: &'a Client,
    key: &'a ObjectKey,
    name: String,
}

impl<'a> Records<'a> {
    /// The record of the job `key` whose target is identified by `identity` (see [`config_map_name`]).
    pub(super) fn new(client: &'a Client, key: &'a ObjectKey, identity: &[&str]) -> Self {
        Self {
            client,
            key,
            name: config_map_name(&key.name, identity),
        }
    }

    /// Reads the record, if there is one.
    pub(super) async fn find(&self) -> Result<Option<Record>, ApiError> {
        let found = self
            .api()
            .get_opt(&self.name)
            .await
            .map_err(|e| self.failed("read", e))?;
        Ok(found.map(|map| {
            let mut data = map.data.unwrap_or_default();
            let ended = data.remove(ENDED);
            Record {
                config_map: self.name.clone(),
                uid: data.remove(UID).unwrap_or_default(),
                ended: ended.as_deref().and_then(Reason::named),
            }
        }))
    }

    /// Records that the job with this UID ran to this end. Repeating it is harmless. In a namespace that is being deleted
    /// there is nothing to be recorded: the record would go with it.
    pub(super) async fn write(&self, uid: &str, ending: &Ending) -> Result<(), ApiError> {
        let data = json!({ "job": &*self.key.name, UID: uid, ENDED: ending.reason.as_str() });
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            labels: Some(
                [(
                    "app.kubernetes.io/managed-by".to_owned(),
                    "dynamoctl-dp-operator".to_owned(),
                )]
                .into(),
            ),
            ..ObjectMeta::default()
        };
        let record = ConfigMap {
            metadata,
            data: serde_json::from_value(data.clone()).ok(),
            ..ConfigMap::default()
        };
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        match self.api().create(&params, &record).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if goes_with_its_namespace(&status) => return Ok(()),
            Err(error) => {
                let error = self.failed("create", error);
                if error.class() != Class::Conflict {
                    return Err(error);
                }
            }
        }
        // An earlier job's record, whose re-run was allowed, or our own from before a crash.
        let patch = Patch::Merge(json!({ "data": data }));
        self.api()
            .patch(
                &self.name,
                &PatchParams {
                    field_manager: Some(FIELD_MANAGER.into()),
                    ..PatchParams::default()
                },
                &patch,
            )
            .await
            .map(drop)
            .map_err(|e| self.failed("update", e))
    }

    fn api(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.key.namespace)
    }

    fn failed(&self, verb: &str, source: kube::Error) -> ApiError {
        ApiError::new(
            format!("{verb} ConfigMap {}/{}", self.key.namespace, self.name),
            source,
        )
    }
}

fn goes_with_its_namespace(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .into_iter()
        .any(|cause| cause.reason == "NamespaceTerminating")
}

/// The name of the record of job `job` with the target `identity` (table, region, endpoint, partition value, range):
/// a digest, since the value may be personal data and longer than a name.
pub(super) fn config_map_name(job: &str, identity: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in std::iter::once(&job).chain(identity) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    let short = digest
        .finalize()
        .iter()
        .take(16)
        .fold(0_u128, |value, byte| (value << 8) | u128::from(*byte));
    format!("ddbctldpjob-ran-{short:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_of_one_name_and_target_and_tells_neither() {
        let name = config_map_name("job", &["Orders", "us-east-1", "alice@example.com"]);
        assert!(name.len() <= 63 && !name.contains("alice"), "{name}");
        assert_ne!(
            name,
            config_map_name("job2", &["Orders", "us-east-1", "alice@example.com"])
        );
        assert_ne!(
            name,
            config_map_name("job", &["Orders", "us-east-1", "bob@example.com"])
        );
        assert_ne!(
            config_map_name("a", &["bc", ""]),
            config_map_name("a", &["b", "c"])
        );
    }

    #[test]
    fn what_may_have_been_deleted_counts_as_deleted_and_what_was_never_there_does_not() {
        let planned = |items, complete| DdbctlDpJobStatus {
            plan: Some(dynamodb_api::DeletionPlan {
                items,
                complete,
                ..dynamodb_api::DeletionPlan::default()
            }),
            ..DdbctlDpJobStatus::default()
        };
        let totals = |keys_read, keys_acknowledged| Totals {
            keys_read,
            keys_acknowledged,
            ..Totals::default()
        };
        for (status, totals, counts) in [
            (DdbctlDpJobStatus::default(), totals(0, 0), false),
            // Measured, and refused by a limit.
            (DdbctlDpJobStatus::default(), totals(50, 0), false),
            (planned(0, true), totals(0, 0), false),
            (planned(0, true), totals(1, 0), true),
            (planned(0, true), totals(1, 1), true),
            // Killed before it told of the first acknowledgement.
            (planned(50, true), totals(0, 0), true),
            (planned(0, false), totals(0, 0), true),
        ] {
            assert_eq!(
                may_have_deleted(&status, &totals),
                counts,
                "{status:?} {totals:?}"
            );
        }
    }

    #[test]
    fn only_another_object_without_permission_is_refused() {
        let record = Record {
            config_map: "m".into(),
            uid: "old".into(),
            ended: None,
        };
        let mut job = DdbctlDpJob::new("x", dynamodb_api::DdbctlDpJobSpec::default());
        job.metadata.uid = Some("old".into());
        assert!(!record.forbids(&job));
        job.metadata.uid = Some("new".into());
        assert!(record.forbids(&job));
        job.metadata.annotations = Some([(ALLOW_RERUN.to_owned(), "true".to_owned())].into());
        assert!(!record.forbids(&job));
    }
}
