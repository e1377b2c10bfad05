//! A manifest that is applied again deletes nothing again.

use dynamodb_api::DdbctlDpJob;
use k8s_openapi::api::core::v1::{ConfigMap, ResourceQuota};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use reconcile::conditions;
use serde_json::json;
use testkit::audit::Filter;

use crate::bed::{BYSTANDERS, Bed, Gate, VICTIM, eventually, message, server};

/// A bed whose job ran and was deleted, and whose partition has new items since.
async fn bed_after_a_run() -> (Bed, crate::operator::Operator) {
    let bed = Bed::new(server().await, 50).await;
    let operator = bed.operator();
    bed.create("x", bed.spec()).await;
    bed.until("x", "True", "PartitionEmpty").await;
    bed.delete("x").await;
    bed.until_gone("x").await;
    bed.fill(VICTIM, 0..40).await;
    (bed, operator)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_created_again_after_its_run_deletes_nothing_until_that_is_allowed() {
    let (bed, operator) = bed_after_a_run().await;
    let asked = bed.proxy.audit().total();
    bed.create("x", bed.spec()).await;
    let status = bed.until("x", "False", "AlreadyRan").await;
    assert!(
        message(&status).contains("allow-rerun=true"),
        "{}",
        message(&status)
    );
    bed.until_event("x", "AlreadyRan").await;
    assert_eq!(bed.counts().await, (40, BYSTANDERS));
    assert_eq!(
        bed.proxy.audit().total(),
        asked,
        "nothing is asked of DynamoDB either"
    );

    bed.delete("x").await;
    bed.until_gone("x").await;
    let mut job = DdbctlDpJob::new("x", bed.spec());
    let allow = ("dynamoctl.dp.operators.sanjivmadhavan.io/allow-rerun", "true");
    job.metadata.annotations = Some([(allow.0.to_owned(), allow.1.to_owned())].into());
    bed.jobs.create(&PostParams::default(), &job).await.unwrap();
    bed.until("x", "True", "PartitionEmpty").await;
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_the_record_allows_a_run_and_another_name_or_target_was_never_forbidden() {
    let (bed, operator) = bed_after_a_run().await;
    bed.create("another-name", bed.spec()).await;
    bed.until("another-name", "True", "PartitionEmpty").await;
    bed.fill(VICTIM, 0..40).await;
    let mut other_range = bed.spec();
    other_range.sort_key = serde_json::from_value(json!({ "lt": "10" })).unwrap();
    bed.create("x", other_range).await;
    bed.until("x", "True", "PartitionEmpty").await;
    assert_eq!(bed.counts().await, (30, BYSTANDERS));
    bed.delete("x").await;
    bed.until_gone("x").await;

    let records: Api<ConfigMap> = Api::namespaced(bed.plane.client(), bed.namespace.name());
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=dynamoctl-dp-operator");
    let found = records.list(&ours).await.unwrap().items;
    assert_eq!(found.len(), 3, "one record for each name and target");
    let text = serde_json::to_string(&found).unwrap();
    let value = bed.spec().partition_value.unwrap();
    assert!(!text.contains(&value), "a record must not hold a key: {text}");
    for record in found {
        let name = record.metadata.name.unwrap();
        records.delete(&name, &DeleteParams::default()).await.unwrap();
    }
    bed.create("x", bed.spec()).await;
    bed.until("x", "True", "PartitionEmpty").await;
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_failed_or_was_cancelled_after_it_deleted_something_does_not_go_on_when_it_is_created_again()
 {
    futures::join!(
        created_again(json!({ "cancel": true }), "Cancelled"),
        created_again(json!({ "activeDeadlineSeconds": 1 }), "DeadlineExceeded"),
        created_again(json!({ "limits": { "maxItems": 1 } }), "LimitExceeded"),
    );
}

/// A job that ends for `reason`, because of `change` in mid-run, and is created again.
async fn created_again(change: serde_json::Value, reason: &str) {
    let bed = Bed::new(server().await, 1200).await;
    let operator = bed.operator();
    let gate = Gate::after(&bed.faults, 300);
    bed.create("x", bed.spec()).await;
    gate.until_held().await;
    bed.patch("x", json!({ "spec": change })).await;
    bed.until("x", "Unknown", "Running").await;
    gate.open();
    bed.until("x", "False", reason).await;
    let left = bed.count(VICTIM).await;
    assert!(left > 0 && left < 1200);
    bed.delete("x").await;
    bed.until_gone("x").await;
    bed.create("x", bed.spec()).await;
    bed.until("x", "False", "AlreadyRan").await;
    assert_eq!(bed.counts().await, (left, BYSTANDERS), "{reason}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_deleted_nothing_forbids_no_other_of_its_name() {
    let bed = Bed::new(server().await, 50).await;
    let operator = bed.operator();
    let mut spec = bed.spec();
    spec.limits = serde_json::from_value(json!({ "maxItems": 49 })).unwrap();
    bed.create("x", spec).await;
    bed.until("x", "False", "LimitExceeded").await;
    bed.delete("x").await;
    bed.until_gone("x").await;
    bed.create("x", bed.spec()).await;
    bed.until("x", "True", "PartitionEmpty").await;
    operator.stop().await;

    let bed = Bed::new(server().await, 0).await;
    let operator = bed.operator();
    for items in [0, 40] {
        bed.fill(VICTIM, 0..items).await;
        bed.create("x", bed.spec()).await;
        bed.until("x", "True", "PartitionEmpty").await;
        assert_eq!(bed.counts().await, (0, BYSTANDERS));
        bed.delete("x").await;
        bed.until_gone("x").await;
    }
    // The second one found some, and is remembered.
    bed.create("x", bed.spec()).await;
    bed.until("x", "False", "AlreadyRan").await;
    operator.stop().await;
}

/// Whoever sees that a job succeeded, and deletes it, must be able to rely on the record.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_recorded_before_its_success_is_told() {
    let bed = Bed::new(server().await, 50).await;
    let operator = bed.operator();
    bed.create("x", bed.spec()).await;
    bed.until("x", "True", "PartitionEmpty").await;
    operator.stop().await;
    let ours = Filter::writes().namespace(bed.namespace.name()).successes();
    let (client, audit) = (bed.plane.client(), bed.plane.audit());
    let writes = audit.query(&client, bed.begin, &ours).await.unwrap();
    let last = |resource: &str, subresource: &str| {
        let about = writes.iter().filter(|event| {
            let object = event.object_ref.as_ref();
            object
                .is_some_and(|of| (of.resource.as_str(), of.subresource.as_str()) == (resource, subresource))
        });
        about.map(|event| event.received).max().unwrap()
    };
    assert!(last("configmaps", "") < last("ddbctldpjobs", "status"));
}

/// Lets nobody make another ConfigMap in the bed's namespace.
async fn forbid_records(bed: &Bed) {
    let quota: ResourceQuota = serde_json::from_value(json!({
        "metadata": { "name": "full" },
        "spec": { "hard": { "configmaps": "0" } },
    }))
    .unwrap();
    let quotas: Api<ResourceQuota> = Api::namespaced(bed.plane.client(), bed.namespace.name());
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    eventually("the quota is not in force", async || {
        let live = quotas.get("full").await.unwrap();
        let hard = live.status.and_then(|status| status.hard).unwrap_or_default();
        if hard.is_empty() {
            Err("no status".to_owned())
        } else {
            Ok(())
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_recorded_says_so_and_is_not_told_to_have_ended_nor_let_go() {
    let bed = Bed::new(server().await, 50).await;
    forbid_records(&bed).await;
    let operator = bed.operator();
    bed.create("x", bed.spec()).await;
    let status = bed.until("x", "Unknown", "RunNotRecorded").await;
    let said = message(&status);
    assert!(
        said.contains("ddbctldpjob-ran-") && said.contains("quota"),
        "{said}"
    );
    assert!(conditions::is_true(&status.conditions, "Stalled"), "{status:?}");
    // Deleted and created again it would run again.
    bed.delete("x").await;
    bed.until_condition("x", "Stalled", "True", "RunNotRecorded")
        .await;
    let quotas: Api<ResourceQuota> = Api::namespaced(bed.plane.client(), bed.namespace.name());
    quotas.delete("full", &DeleteParams::default()).await.unwrap();
    bed.until_gone("x").await;
    let records: Api<ConfigMap> = Api::namespaced(bed.plane.client(), bed.namespace.name());
    let all = records.list(&ListParams::default()).await.unwrap();
    let recorded = |map: &ConfigMap| {
        map.metadata
            .name
            .as_deref()
            .is_some_and(|name| name.starts_with("ddbctldpjob-ran-"))
    };
    assert!(all.items.iter().any(recorded), "{all:?}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_has_passed_hurries_nothing_that_fails() {
    let bed = Bed::new(server().await, 200).await;
    forbid_records(&bed).await;
    let gate = Gate::after(&bed.faults, 30);
    let operator = bed.operator();
    let spec = dynamodb_api::DdbctlDpJobSpec {
        active_deadline_seconds: Some(30),
        ..bed.spec()
    };
    bed.create("x", spec).await;
    gate.until_held().await;
    // Half a minute of the operator's clock is a moment of real time.
    bed.clock.sleep(std::time::Duration::from_secs(60)).await;
    gate.open();
    bed.until("x", "Unknown", "RunNotRecorded").await;
    // Tries are minutes apart by then.
    let asked = || async {
        let posts = Filter::writes()
            .resource("configmaps")
            .namespace(bed.namespace.name());
        let (client, audit) = (bed.plane.client(), bed.plane.audit());
        audit.query(&client, bed.begin, &posts).await.unwrap().len()
    };
    let before = asked().await;
    bed.clock.sleep(std::time::Duration::from_mins(10)).await;
    let tried = asked().await - before;
    assert!(tried < 50, "{tried} tries in ten minutes");
    operator.stop().await;
}

/// As an operator leaves it that has recorded the end and went before the status told it.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_end_is_recorded_ends_so_although_its_status_does_not_say_it_yet() {
    let bed = Bed::new(server().await, 50).await;
    let operator = bed.operator();
    bed.create("x", bed.spec()).await;
    bed.until("x", "True", "PartitionEmpty").await;
    operator.stop().await;
    bed.fill(VICTIM, 0..40).await;
    reopen(&bed, json!({})).await;
    let operator = bed.operator();
    let status = bed.until("x", "True", "PartitionEmpty").await;
    assert!(message(&status).contains("nothing left"), "{}", message(&status));
    assert_eq!(bed.counts().await, (40, BYSTANDERS));
    operator.stop().await;

    // A newer operator may have had reasons that this one does not know; the job has ended all the same.
    let records: Api<ConfigMap> = Api::namespaced(bed.plane.client(), bed.namespace.name());
    let all = records.list(&ListParams::default()).await.unwrap().items;
    let record = all.into_iter().map(|map| map.name_any());
    let record = record.filter(|name| name.starts_with("ddbctldpjob-ran-"));
    let unknown = Patch::Merge(json!({"data": {"ended": "Whatever"}}));
    for name in record {
        records
            .patch(&name, &PatchParams::default(), &unknown)
            .await
            .unwrap();
    }
    reopen(&bed, json!({})).await;
    let operator = bed.operator();
    bed.until("x", "False", "AlreadyRan").await;
    assert_eq!(bed.counts().await, (40, BYSTANDERS));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_a_backup_brings_back_in_mid_run_deletes_nothing_once_it_has_run_to_its_end() {
    let bed = Bed::new(server().await, 50).await;
    let operator = bed.operator();
    bed.create("x", bed.spec()).await;
    let status = bed.until("x", "True", "PartitionEmpty").await;
    operator.stop().await;
    let records: Api<ConfigMap> = Api::namespaced(bed.plane.client(), bed.namespace.name());
    let none = json!({"metadata": {"finalizers": null}});
    bed.patch("x", none).await;
    bed.delete("x").await;
    bed.until_gone("x").await;
    bed.fill(VICTIM, 0..40).await;

    bed.create("x", bed.spec()).await;
    let mut status = serde_json::to_value(&status).unwrap();
    status["startTime"] = json!("2026-01-01T00:00:00Z");
    reopen(&bed, status).await;
    let operator = bed.operator();
    bed.until("x", "False", "AlreadyRan").await;
    assert_eq!(bed.counts().await, (40, BYSTANDERS));
    assert!(
        !records
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    operator.stop().await;
}

/// Gives job `x` this status, as one that has not ended.
async fn reopen(bed: &Bed, mut status: serde_json::Value) {
    status["conditions"] = json!([]);
    status["completionTime"] = json!(null);
    let patch = Patch::Merge(json!({ "status": status }));
    let params = PatchParams::default();
    bed.jobs.patch_status("x", &params, &patch).await.unwrap();
}
