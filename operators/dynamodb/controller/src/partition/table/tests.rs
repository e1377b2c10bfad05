use aws_sdk_dynamodb::types::GlobalSecondaryIndexDescription;
use dynamodb_api::SortKeyPredicate;

use super::*;

fn table(kind: AttributeType, sort: Option<AttributeType>) -> Table {
    Table {
        name: "Orders".into(),
        id: "id-1".into(),
        partition_key: KeyAttribute {
            name: "pk".into(),
            kind,
        },
        sort_key: sort.map(|kind| KeyAttribute {
            name: "sk".into(),
            kind,
        }),
        indexes: Vec::new(),
        streams: false,
        replicas: 0,
        provisioned_wcu: None,
        warm_wcu: None,
        write_limits: Vec::new(),
    }
}

#[test]
fn another_table_of_the_same_name_is_refused() {
    check_pin("Orders", "id-1", None).unwrap();
    check_pin("Orders", "id-1", Some("id-1")).unwrap();
    let failure = check_pin("Orders", "id-1", Some("id-0")).unwrap_err();
    assert_eq!(failure.reason, Reason::TableReplaced);
}

#[test]
fn a_request_that_does_not_fit_the_table_is_refused_with_its_reason() {
    use AttributeType::{B, N, S};
    let with = |value: &str| Request::new("Orders", value);
    let refuse = |table: Table, request: &Request| resolve(table, request).unwrap_err().reason;
    assert_eq!(
        refuse(table(N, None), &with("abc")),
        Reason::PartitionValueInvalid
    );
    assert_eq!(
        refuse(table(N, None), &with(&"1".repeat(39))),
        Reason::PartitionValueInvalid
    );
    assert_eq!(
        refuse(table(B, None), &with("***")),
        Reason::PartitionValueInvalid
    );
    assert_eq!(refuse(table(S, None), &with("")), Reason::PartitionValueInvalid);
    let asserted = Request {
        key_type: Some(N),
        ..with("1")
    };
    assert_eq!(refuse(table(S, None), &asserted), Reason::KeyTypeMismatch);
    let ranged = Request {
        sort_key: Some(SortKeyPredicate {
            ge: Some("x".into()),
            ..Default::default()
        }),
        ..with("1")
    };
    assert_eq!(refuse(table(S, None), &ranged), Reason::SortKeyInvalid);
    assert_eq!(refuse(table(S, Some(N)), &ranged), Reason::SortKeyInvalid);
    assert!(resolve(table(S, Some(S)), &ranged).is_ok());
}

#[test]
fn a_table_that_only_a_person_can_bring_back_is_told_from_one_that_is_being_made() {
    let class = |status: &str| {
        let description = TableDescription::builder()
            .table_status(TableStatus::from(status))
            .build();
        let failure = read("Orders", &description).unwrap_err();
        assert_eq!(failure.reason, Reason::TableUnavailable, "{status}");
        assert!(failure.message.contains(status), "{}", failure.message);
        failure.class
    };
    for status in ["CREATING", "DELETING", "NEWLY_INVENTED"] {
        assert_eq!(class(status), Class::Waiting, "{status}");
    }
    for status in ["ARCHIVING", "ARCHIVED", "INACCESSIBLE_ENCRYPTION_CREDENTIALS"] {
        assert_eq!(class(status), Class::Denied, "{status}");
    }
}

#[test]
fn what_bounds_the_writes_is_read_as_the_billing_mode_has_it() {
    let index = |name: &str| {
        GlobalSecondaryIndexDescription::builder()
            .index_name(name)
            .provisioned_throughput(
                ProvisionedThroughputDescription::builder()
                    .write_capacity_units(5)
                    .build(),
            )
            .on_demand_throughput(OnDemandThroughput::builder().max_write_request_units(70).build())
            .build()
    };
    let description = TableDescription::builder()
        .on_demand_throughput(OnDemandThroughput::builder().max_write_request_units(600).build())
        .global_secondary_indexes(index("by-date"))
        // Without a maximum; so DynamoDB says it.
        .global_secondary_indexes(
            GlobalSecondaryIndexDescription::builder()
                .index_name("by-name")
                .on_demand_throughput(OnDemandThroughput::builder().max_write_request_units(-1).build())
                .build(),
        )
        .build();
    let limit = |index: Option<&str>, wcu| WriteLimit {
        index: index.map(str::to_owned),
        wcu,
    };
    assert_eq!(
        write_limits(&description, true),
        [limit(None, 600), limit(Some("by-date"), 70)]
    );
    assert_eq!(write_limits(&description, false), [limit(Some("by-date"), 5)]);
}
