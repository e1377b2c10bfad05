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
