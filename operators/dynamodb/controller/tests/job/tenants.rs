//! Tenants: what belongs to one is not lent to another.

use dynamodb_api::DdbctlDpJob;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::PostParams};
use serde_json::json;

use crate::{
    bed::{BYSTANDERS, Bed, eventually, message, server},
    operator::Operator,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_not_served_is_refused_the_operators_identity() {
    let bed = Bed::new(server().await, 0).await;
    let operator = bed.operator_with(|_, policy| {
        policy.endpoints = "aws".parse().unwrap();
        policy.identity = "another-team".parse().unwrap();
    });
    let mut spec = bed.spec();
    spec.endpoint_url = None;
    bed.create("x", spec).await;
    let status = bed.until("x", "Unknown", "CredentialsMissing").await;
    let text = message(&status);
    assert!(
        text.contains("--aws-identity-namespaces") && text.contains(bed.namespace.name()),
        "{text}"
    );
    bed.until_event("x", "CredentialsMissing").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_allowed_is_refused_the_operators_identity() {
    let bed = Bed::new(server().await, 0).await;
    let operator = bed.operator_with(|_, policy| {
        policy.endpoints = "aws".parse().unwrap();
        policy.tables = "tmp-*".parse().unwrap();
    });
    let mut spec = bed.spec();
    spec.endpoint_url = Some(String::new());
    bed.create("x", spec).await;
    let status = bed.until("x", "False", "AccessDenied").await;
    assert!(
        message(&status).contains("--allowed-tables"),
        "{}",
        message(&status)
    );
    bed.until_event("x", "AccessDenied").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_another_namespace_is_out_of_reach() {
    let bed = Bed::new(server().await, 50).await;
    let neighbour = bed.plane.namespace().await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(bed.plane.client(), bed.namespace.name());
    let secret = json!({
        "metadata": { "name": "aws" },
        "stringData": { "AWS_ACCESS_KEY_ID": "FIRST", "AWS_SECRET_ACCESS_KEY": "x" },
    });
    let secret = serde_json::from_value(secret).unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    let operator = Operator::start(
        bed.plane.config().clone(),
        &[bed.namespace.name(), neighbour.name()],
        &bed.endpoint(),
        |options, _| options.clock = bed.clock.clone(),
    );
    let mut spec = bed.spec();
    spec.credentials = serde_json::from_value(json!({ "secretRef": { "name": "aws" } })).unwrap();
    let jobs: Api<DdbctlDpJob> = Api::namespaced(bed.plane.client(), neighbour.name());
    // Nothing is promised about two jobs of the same name in two namespaces but that they are two.
    let job = DdbctlDpJob::new("x", spec.clone());
    jobs.create(&PostParams::default(), &job).await.unwrap();
    eventually("the neighbour is refused", async || {
        let status = jobs.get("x").await.unwrap().status.unwrap_or_default();
        let text = message(&status).to_owned();
        let named = text.contains(&format!("{}/aws", neighbour.name()));
        if named { Ok(()) } else { Err(text) }
    })
    .await;
    assert_eq!(bed.proxy.audit().total(), 0);
    assert_eq!(bed.counts().await, (50, BYSTANDERS));
    bed.create("x", spec).await;
    bed.until("x", "True", "PartitionEmpty").await;
    operator.stop().await;
    let release = json!({ "metadata": { "finalizers": null } });
    let patch = kube::api::Patch::Merge(release);
    jobs.patch("x", &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
}
