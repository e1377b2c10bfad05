//! The examples and the seed's manifests do what they say.

use std::{fs, path::Path};

use dynamodb_api::DdbctlDpJob;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::Value;
use testkit::dynamodb::{KeyType, Server, Table};

use crate::bed::{Bed, message, server};

/// The objects of an example, as written.
fn example(path: &str) -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../examples")
        .join(path);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_saphyr::from_multiple(&text).unwrap()
}

/// Applies an example, its job changed by `adapt`, and returns the job's name.
pub async fn apply(bed: &Bed, path: &str, adapt: impl Fn(&mut Value)) -> String {
    let mut name = String::new();
    for mut object in example(path) {
        if object["kind"] == "Secret" {
            let secrets: Api<Secret> = Api::namespaced(bed.plane.client(), bed.namespace.name());
            let secret: Secret = serde_json::from_value(object).unwrap();
            secrets.create(&PostParams::default(), &secret).await.unwrap();
            continue;
        }
        adapt(&mut object);
        let job: DynamicObject = serde_json::from_value(object).unwrap();
        name = job.name_any();
        // Strictly: a field that the schema does not know would be an error.
        let params = PatchParams::apply("author").validation_strict();
        let _: DdbctlDpJob = bed.jobs.patch(&name, &params, &Patch::Apply(job)).await.unwrap();
    }
    name
}

/// The table that a job names, with sort keys as text, and 5 items in the job's partition.
pub async fn table_for(server: &Server, name: &str, partition: &str) -> Table {
    let table = Table::new(name, "pk", KeyType::S).sorted_by("sk", KeyType::S);
    server.create_table(&table).await.unwrap();
    let value = aws_sdk_dynamodb::types::AttributeValue::S(partition.to_owned());
    let fill = testkit::dynamodb::Fill::new(value, 0..5);
    server.fill(&table, &fill).await.unwrap();
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seeds_sample_is_accepted_as_written_and_told_what_is_wrong_with_its_endpoint() {
    let bed = Bed::new(server().await, 0).await;
    let operator = bed.operator_with(|_, policy| {
        policy.endpoints = "http://dynamodb.local:8000".parse().unwrap();
    });
    let name = apply(&bed, "seeds/dynamoctl_v1alpha1_ddbctldpjob.yaml", |_| {}).await;
    let status = bed.until(&name, "False", "EndpointInvalid").await;
    assert!(
        message(&status).contains("http://dynamodb.local:8000"),
        "{}",
        message(&status)
    );
    operator.stop().await;
}

/// A name that only a cluster's DNS knows is replaced; all else is as written.
#[tokio::test(flavor = "multi_thread")]
async fn the_corrected_sample_in_its_nested_form_empties_its_partition() {
    // Its table has a fixed name: a server of its own.
    let bed = Bed::new(Server::embedded().unwrap(), 0).await;
    table_for(&bed.server, "my-dynamodb-table", "partition-key-value").await;
    let operator = bed.operator();
    let name = apply(&bed, "dynamodb/nested.yaml", |job| {
        assert_eq!(
            job["spec"]["ddbCtlDpJob"]["endpointURL"],
            "http://dynamodb.local:8000"
        );
        job["spec"]["ddbCtlDpJob"]["endpointURL"] = bed.endpoint().into();
    })
    .await;
    let status = bed.until(&name, "True", "PartitionEmpty").await;
    assert_eq!(status.plan.unwrap().items, 5);
    assert_eq!(status.target.unwrap().region, "us-east-1");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_example_ends_as_it_says() {
    for (path, status, reason) in [
        ("dynamodb/quick-start.yaml", "True", "PartitionEmpty"),
        ("dynamodb/dry-run.yaml", "True", "DryRunCompleted"),
        ("dynamodb/sort-key-range.yaml", "True", "PartitionEmpty"),
    ] {
        let bed = Bed::new(Server::embedded().unwrap(), 0).await;
        table_for(&bed.server, "Orders", "tenant-42").await;
        let operator = bed.operator();
        let name = apply(&bed, path, |job| {
            job["spec"]["endpointURL"] = bed.endpoint().into();
        })
        .await;
        bed.until(&name, status, reason).await;
        operator.stop().await;
    }
}
