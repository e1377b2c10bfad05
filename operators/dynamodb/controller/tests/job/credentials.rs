//! Whose credentials sign, and what becomes of a job when they do not work.

use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use reconcile::{clock::Clock, conditions};
use serde_json::json;

use crate::{
    bed::{BYSTANDERS, Bed, Gate, message, server, servers},
    operator::Operator,
};

/// Denied work is tried again after minutes: these clocks make them tenths of a second.
const FAST: u32 = 1000;

fn operator(bed: &Bed) -> Operator {
    bed.operator_with(|options, _| options.clock = Clock::accelerated(FAST))
}

async fn put_secret(bed: &Bed, name: &str, data: serde_json::Value) {
    let secrets: Api<Secret> = Api::namespaced(bed.plane.client(), bed.namespace.name());
    let secret =
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data });
    let params = PatchParams::apply("author").force();
    secrets.patch(name, &params, &Patch::Apply(secret)).await.unwrap();
}

fn keys(id: &str) -> serde_json::Value {
    json!({ "AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": "secret" })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_signs_the_requests_of_its_job_and_a_placeholder_those_of_a_job_without() {
    for server in servers().await {
        let bed = Bed::new(server, 50).await;
        put_secret(&bed, "aws", keys("JOBSOWN")).await;
        let operator = operator(&bed);
        let mut spec = bed.spec();
        spec.credentials = serde_json::from_value(json!({ "secretRef": { "name": "aws" } })).unwrap();
        bed.create("x", spec).await;
        bed.until("x", "True", "PartitionEmpty").await;
        let signers: Vec<_> = bed.proxy.audit().signers().into_keys().collect();
        assert_eq!(signers, ["JOBSOWN"]);
        bed.create("y", bed.spec()).await;
        bed.until("y", "True", "PartitionEmpty").await;
        let signers: Vec<_> = bed.proxy.audit().signers().into_keys().collect();
        assert_eq!(signers, ["JOBSOWN", "local"]);
        operator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_incomplete_secret_is_named_and_the_job_runs_once_it_is_there() {
    let bed = Bed::new(server().await, 50).await;
    let operator = operator(&bed);
    let mut spec = bed.spec();
    spec.credentials = serde_json::from_value(json!({ "secretRef": { "name": "aws" } })).unwrap();
    bed.create("x", spec).await;
    let status = bed.until("x", "Unknown", "CredentialsMissing").await;
    assert!(message(&status).contains("aws") && message(&status).contains("AWS_ACCESS_KEY_ID"));
    assert!(
        message(&status).contains("looked for again"),
        "{}",
        message(&status)
    );
    assert!(conditions::is_true(&status.conditions, "Stalled"));
    let event = bed.until_event("x", "CredentialsMissing").await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    assert_eq!(bed.proxy.audit().total(), 0);

    put_secret(&bed, "aws", json!({ "AWS_ACCESS_KEY_ID": "JOBSOWN" })).await;
    crate::bed::eventually("the missing key is named", async || {
        let status = bed.status("x").await;
        let text = message(&status).to_owned();
        if text.contains("AWS_SECRET_ACCESS_KEY") && !text.contains("JOBSOWN") && text.contains("no usable") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
    assert_eq!(bed.counts().await, (50, BYSTANDERS));

    put_secret(&bed, "aws", keys("JOBSOWN")).await;
    bed.until("x", "True", "PartitionEmpty").await;
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_credentials_are_reported_and_read_again_and_nothing_is_lost() {
    let bed = Bed::new(server().await, 2000).await;
    put_secret(&bed, "aws", keys("OLD")).await;
    bed.faults.set(|settings| settings.expire_after = Some(30));
    let operator = operator(&bed);
    let mut spec = bed.spec();
    spec.credentials = serde_json::from_value(json!({ "secretRef": { "name": "aws" } })).unwrap();
    bed.create("x", spec).await;
    let status = bed.until("x", "Unknown", "CredentialsInvalid").await;
    assert!(message(&status).contains("expired"), "{}", message(&status));
    bed.until_event("x", "CredentialsInvalid").await;
    let (left, bystanders) = bed.counts().await;
    assert!(left > 0 && bystanders == BYSTANDERS);

    put_secret(&bed, "aws", keys("NEW")).await;
    // The old ones stay expired until the new ones are in use.
    crate::bed::eventually("the new credentials are used", async || {
        let signers = bed.proxy.audit().signers();
        if signers.contains_key("NEW") {
            Ok(())
        } else {
            Err(format!("{signers:?}"))
        }
    })
    .await;
    bed.faults.set(|settings| settings.expire_after = None);
    let status = bed.until("x", "True", "PartitionEmpty").await;
    assert!(conditions::find(&status.conditions, "Stalled").is_some_and(|c| c.status == "False"));
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_were_renewed_before_they_expired_hold_nothing_up_and_alarm_nobody() {
    let bed = Bed::new(server().await, 2500).await;
    put_secret(&bed, "aws", keys("OLD")).await;
    let gate = Gate::after(&bed.faults, 100);
    // On a faster clock the table would be looked at so often that no calls were left for the rest.
    let operator = bed.operator_with(|options, _| options.clock = Clock::system());
    let mut spec = bed.spec();
    spec.credentials = serde_json::from_value(json!({ "secretRef": { "name": "aws" } })).unwrap();
    bed.create("x", spec).await;
    gate.until_held().await;
    put_secret(&bed, "aws", keys("NEW")).await;
    // Fewer calls than are left to do; each of the two could do the rest of the other.
    bed.faults.set(|settings| settings.expire_after = Some(60));
    gate.open();
    bed.until("x", "True", "PartitionEmpty").await;
    bed.until_event("x", "PartitionEmpty").await;
    let signers: Vec<_> = bed.proxy.audit().signers().into_keys().collect();
    assert_eq!(signers, ["NEW", "OLD"]);
    let events: Api<Event> = Api::namespaced(bed.plane.client(), bed.namespace.name());
    let warnings: Vec<_> = events
        .list(&ListParams::default())
        .await
        .unwrap()
        .into_iter()
        .filter(|event| event.type_.as_deref() == Some("Warning"))
        .map(|event| (event.reason, event.note))
        .collect();
    assert_eq!(warnings, []);
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_action_is_named_and_the_job_goes_on_once_it_is_allowed() {
    // Each waits for minutes of its clock.
    futures::join!(denied("DescribeTable"), denied("Query"), denied("BatchWriteItem"));
}

async fn denied(action: &str) {
    let bed = Bed::new(server().await, 50).await;
    let operator = operator(&bed);
    bed.faults
        .set(|settings| settings.denied = vec![action.to_owned()]);
    bed.create("x", bed.spec()).await;
    let status = bed.until("x", "Unknown", "AccessDenied").await;
    let wanted = format!("dynamodb:{action}");
    assert!(message(&status).contains(&wanted), "{}", message(&status));
    bed.until_event("x", "AccessDenied").await;
    assert_eq!(bed.counts().await, (50, BYSTANDERS));
    bed.faults.set(|settings| settings.denied.clear());
    bed.until("x", "True", "PartitionEmpty").await;
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_key_is_disabled_is_looked_at_every_few_minutes_and_told_of() {
    let bed = Bed::new(server().await, 50).await;
    let clock = Clock::accelerated(FAST);
    let speeding = clock.clone();
    let operator = bed.operator_with(|options, _| options.clock = speeding);
    bed.faults
        .set(|settings| settings.refused = Some("KMSDisabledException"));
    bed.create("x", bed.spec()).await;
    let status = bed.until("x", "Unknown", "TableUnavailable").await;
    assert!(
        message(&status).contains("encryption key"),
        "{}",
        message(&status)
    );
    assert!(conditions::is_true(&status.conditions, "Stalled"));
    let event = bed.until_event("x", "TableUnavailable").await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));

    let looks = || bed.proxy.audit().count("DynamoDB DescribeTable");
    let (begun, before) = (clock.elapsed(), looks());
    crate::bed::eventually("three more looks", async || {
        let more = looks() - before;
        if more >= 3 { Ok(()) } else { Err(format!("{more}")) }
    })
    .await;
    // Two and a half minutes at least between two; the first may have been near.
    let more = looks() - before;
    let took = clock.elapsed().saturating_sub(begun).as_secs_f64();
    assert!(more as f64 <= 1.0 + took / 150.0, "{more} looks within {took} s");

    bed.faults.set(|settings| settings.refused = None);
    bed.until("x", "True", "PartitionEmpty").await;
    operator.stop().await;
}
