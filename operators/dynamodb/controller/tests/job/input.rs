//! Input that cannot work: a reason, a message that says what to do, an event, and nothing lost.

use dynamodb_api::{AttributeType, DdbctlDpJobSpec, SortKeyPredicate};
use testkit::dynamodb::KeyType;

use crate::bed::{BYSTANDERS, Bed, message, server, servers};

/// What is done to a good spec, the reason that follows, and words that the message must contain.
type Case = (
    &'static str,
    fn(&mut DdbctlDpJobSpec),
    &'static str,
    &'static [&'static str],
);

const ANY_KEY: &[Case] = &[
    (
        "unknown-table",
        |spec| spec.table_name = Some("no-such-table".into()),
        "TableNotFound",
        &["no-such-table", "tableName"],
    ),
    (
        "long-table",
        |spec| spec.table_name = Some("t".repeat(300)),
        "TargetInvalid",
        &["tableName", "255"],
    ),
    (
        "table-with-a-path",
        |spec| spec.table_name = Some("a/b".into()),
        "TargetInvalid",
        &["tableName", "\"a/b\"", "255"],
    ),
    (
        "endpoint-with-path",
        |spec| spec.endpoint_url.as_mut().unwrap().push_str("/shell"),
        "EndpointInvalid",
        &["endpointURL", "path"],
    ),
    (
        "endpoint-metadata",
        |spec| spec.endpoint_url = Some("http://169.254.169.254".into()),
        "EndpointNotAllowed",
        &["169.254.169.254", "never connected to"],
    ),
    (
        "endpoint-not-allowed",
        |spec| spec.endpoint_url = Some("http://127.0.0.1:9".into()),
        "EndpointNotAllowed",
        &["--allowed-endpoints", "allowedEndpoints", "create the job again"],
    ),
    (
        "endpoint-of-the-seed",
        |spec| spec.endpoint_url = Some("http://aws-dynamhttp://dynamodb.local:8000".into()),
        "EndpointInvalid",
        &["path", "http://dynamodb.local:8000"],
    ),
    (
        "region-with-host",
        |spec| spec.aws_region = Some("evil.example/#".into()),
        "TargetInvalid",
        &["awsRegion", "us-east-1"],
    ),
    (
        // The SDK would take it for http://localhost:8000, and sign with what is AWS's alone.
        "region-local",
        |spec| (spec.endpoint_url, spec.aws_region) = (None, Some("local".into())),
        "TargetInvalid",
        &["awsRegion", "local", "us-east-1"],
    ),
    (
        "sort-key-of-another-type",
        |spec| {
            spec.sort_key = Some(SortKeyPredicate {
                ge: Some("not a number".into()),
                ..SortKeyPredicate::default()
            });
        },
        "SortKeyInvalid",
        &["sk", "type N"],
    ),
];

const STRING_KEY: &[Case] = &[
    (
        "asserted-type",
        |spec| spec.key_type = Some(AttributeType::N),
        "KeyTypeMismatch",
        &["pk", "type S", "keyType"],
    ),
    (
        "too-long",
        |spec| spec.partition_value = Some("x".repeat(2049)),
        "PartitionValueInvalid",
        &["partitionValue", "2048"],
    ),
];

const NUMBER_KEY: &[Case] = &[
    (
        "no-number",
        |spec| spec.partition_value = Some("tenant".into()),
        "PartitionValueInvalid",
        &["partitionValue", "type N"],
    ),
    (
        "39-digits",
        |spec| spec.partition_value = Some("1".repeat(39)),
        "PartitionValueInvalid",
        &["38"],
    ),
];

const BINARY_KEY: &[Case] = &[(
    "bad-base64",
    |spec| spec.partition_value = Some("???".into()),
    "PartitionValueInvalid",
    &["base64", "type B"],
)];

async fn refuses(bed: &Bed, cases: &[Case]) {
    let operator = bed.operator();
    let spoilt = |spoil: fn(&mut DdbctlDpJobSpec)| {
        let mut spec = bed.spec();
        spoil(&mut spec);
        spec
    };
    for (name, spoil, _, _) in cases {
        bed.create(name, spoilt(*spoil)).await;
    }
    for (name, spoil, reason, words) in cases {
        let status = bed.until(name, "False", reason).await;
        let text = message(&status);
        assert!(words.iter().all(|word| text.contains(word)), "{name}: {text}");
        assert!(status.completion_time.is_some(), "{name}");
        let target = status.target.as_ref().map(|target| target.table_name.clone());
        assert_eq!(
            target,
            spoilt(*spoil).table_name,
            "{name}: what it was about is told"
        );
        let event = bed.until_event(name, reason).await;
        assert_eq!(event.type_.as_deref(), Some("Warning"), "{name}");
        assert!(event.note.is_some_and(|note| text.starts_with(&note)), "{name}");
    }
    assert_eq!(bed.counts().await, (50, BYSTANDERS));
    assert_eq!(bed.proxy.audit().count("DynamoDB BatchWriteItem"), 0);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_cannot_be_is_refused_with_reason_message_and_event_and_nothing_is_lost() {
    for server in servers().await {
        let bed = Bed::new(server, 50).await;
        refuses(&bed, ANY_KEY).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_no_key_of_the_tables_type_is_refused_and_nothing_is_lost() {
    for (key_type, cases) in [
        (KeyType::S, STRING_KEY),
        (KeyType::N, NUMBER_KEY),
        (KeyType::B, BINARY_KEY),
    ] {
        let bed = Bed::with(server().await, 50, key_type, |table| table).await;
        refuses(&bed, cases).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_type_are_deleted() {
    for server in servers().await {
        for key_type in [KeyType::S, KeyType::N, KeyType::B] {
            let bed = Bed::with(server.clone(), 100, key_type, |table| table).await;
            let operator = bed.operator();
            bed.create("x", bed.spec()).await;
            bed.until("x", "True", "PartitionEmpty").await;
            assert_eq!(bed.counts().await, (0, BYSTANDERS), "{key_type:?}");
            operator.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_the_greatest_length_works_down_to_its_events_and_its_record() {
    let bed = Bed::new(server().await, 50).await;
    let operator = bed.operator();
    let name = "n".repeat(253);
    bed.create(&name, bed.spec()).await;
    bed.until(&name, "True", "PartitionEmpty").await;
    bed.until_event(&name, "PartitionEmpty").await;
    bed.delete(&name).await;
    bed.until_gone(&name).await;
    bed.create(&name, bed.spec()).await;
    bed.until(&name, "False", "AlreadyRan").await;
    operator.stop().await;
}
