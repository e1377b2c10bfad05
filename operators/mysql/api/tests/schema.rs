//! The promises that the generated CRDs keep, and their CEL rules evaluated without an API server.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail by panicking"
)]

use std::{fs, path::Path};

use kube::CustomResourceExt;
use kube_cel::{ValidationErrors, Validator};
use mysql_api::{
    MySQL, MySQLCluster,
    cluster::{LOCKED_OPTIONS, MySQLClusterSpec},
    database::MySQLSpec,
};
use rstest::rstest;
use serde_json::{Value, json};

fn schema<K: CustomResourceExt>() -> Value {
    let crd = serde_json::to_value(K::crd()).unwrap();
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema")
        .cloned()
        .unwrap()
}

fn visit(path: &str, node: &Value, check: &mut dyn FnMut(&str, &Value)) {
    check(path, node);
    for (name, child) in node
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        visit(&format!("{path}.{name}"), child, check);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = node.get(key).filter(|child| child.is_object()) {
            visit(&format!("{path}[]"), child, check);
        }
    }
}

fn nodes() -> Vec<(String, Value)> {
    let mut nodes = Vec::new();
    for (kind, schema) in [
        ("cluster", schema::<MySQLCluster>()),
        ("database", schema::<MySQL>()),
    ] {
        for part in ["spec", "status"] {
            visit(
                &format!("{kind}.{part}"),
                &schema["properties"][part],
                &mut |path, node| {
                    nodes.push((path.to_owned(), node.clone()));
                },
            );
        }
    }
    assert!(nodes.len() > 120, "only {} nodes visited", nodes.len());
    nodes
}

#[test]
fn every_field_says_what_it_means() {
    for (path, node) in nodes() {
        let text = node
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        assert!(
            text.len() > 10 || path.ends_with("[]"),
            "{path} has no description"
        );
    }
}

#[test]
fn every_string_number_and_list_is_bounded() {
    for (path, node) in nodes() {
        let has = |key: &str| node.get(key).is_some();
        match node.get("type").and_then(Value::as_str) {
            Some("string") => assert!(
                has("maxLength") || has("enum") || node.get("format") == Some(&json!("date-time")),
                "{path}: {node}"
            ),
            Some("integer") => assert!(has("minimum") || path.contains("conditions"), "{path}: {node}"),
            Some("number") => panic!("{path} is a float"),
            Some("array") => assert!(has("maxItems"), "{path}: {node}"),
            _ => {}
        }
        assert!(
            !has("nullable") || path.ends_with(".status"),
            "{path} may be null"
        );
        let format = node.get("format").and_then(Value::as_str).unwrap_or("int64");
        assert!(
            ["int32", "int64", "date-time"].contains(&format),
            "{path} has format {format}"
        );
    }
}

#[test]
fn the_crds_have_the_names_columns_and_subresources_that_users_know() {
    let cluster = MySQLCluster::crd();
    assert_eq!(
        cluster.metadata.name.as_deref(),
        Some("mysqlclusters.mysql.alx.ke")
    );
    let database = MySQL::crd();
    assert_eq!(database.metadata.name.as_deref(), Some("mysqls.otus.homework"));
    assert_eq!(database.spec.names.short_names, Some(vec!["ms".to_owned()]));
    let columns = |crd: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition| {
        let all = crd.spec.versions[0].additional_printer_columns.clone().unwrap();
        let shown = all.into_iter().filter(|column| column.priority.is_none());
        shown.map(|column| column.name).collect::<Vec<_>>()
    };
    assert_eq!(
        columns(&cluster),
        ["Replicas", "Ready", "Primary", "Status", "Age"]
    );
    assert_eq!(
        columns(&database),
        ["Ready", "Version", "Storage", "Last backup", "Age"]
    );
    let subresources = cluster.spec.versions[0].subresources.clone().unwrap();
    let scale = subresources.scale.unwrap();
    assert_eq!(scale.spec_replicas_path, ".spec.replicas");
    assert_eq!(scale.status_replicas_path, ".status.replicas");
    assert!(subresources.status.is_some());
}

/// What the API server does before it evaluates rules: fill in defaults.
fn with_defaults(spec: &Value, defaults: &Value) -> Value {
    let mut spec = spec.clone();
    for (key, value) in defaults.as_object().unwrap() {
        spec.as_object_mut().unwrap().entry(key).or_insert(value.clone());
    }
    spec
}

fn cluster(spec: &Value) -> Value {
    let defaults =
        json!({"replicas": 1, "deletionPolicy": "Delete", "durability": "Lossless", "paused": false});
    json!({"apiVersion": "mysql.alx.ke/v1", "kind": "MySQLCluster", "metadata": {"name": "c"},
           "spec": with_defaults(spec, &defaults)})
}

fn database(spec: &Value) -> Value {
    let defaults = json!({"deletionPolicy": "Delete", "paused": false});
    json!({"apiVersion": "otus.homework/v1", "kind": "MySQL", "metadata": {"name": "m"},
           "spec": with_defaults(spec, &defaults)})
}

fn check_cluster(new: &Value, old: Option<&Value>) -> Result<(), ValidationErrors> {
    Validator::new().validate(
        &schema::<MySQLCluster>(),
        &cluster(new),
        old.map(cluster).as_ref(),
    )
}

fn check_database(new: &Value, old: Option<&Value>) -> Result<(), ValidationErrors> {
    // The API server escapes only two underscores in a row; this evaluator escapes each, so it knows the field by
    // another name.
    let schema = schema::<MySQL>()
        .to_string()
        .replace("self.storage_size", "self.storage__size")
        .replace("oldSelf.storage_size", "oldSelf.storage__size");
    let schema: Value = serde_json::from_str(&schema).unwrap();
    Validator::new().validate(&schema, &database(new), old.map(database).as_ref())
}

#[track_caller]
fn refused(result: Result<(), ValidationErrors>, words: &str) {
    let errors = result.expect_err("must be refused").to_string();
    assert!(errors.contains(words), "{errors}");
}

fn on_ec2() -> Value {
    json!({"replicas": 2, "geoAffinity": "nairobi", "aws": {
        "ami": "ami-0c02fb55956c7d316", "instanceType": "t3.micro", "subnetId": "subnet-12345678",
        "securityGroupIds": ["sg-12345678"], "terminationProtection": false,
    }})
}

#[test]
fn every_example_is_accepted_and_means_what_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../examples/mysql");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let object: Value = serde_saphyr::from_str(&text).unwrap();
        match object["kind"].as_str() {
            Some("MySQLCluster") => {
                check_cluster(&object["spec"], None).unwrap();
                let spec: MySQLClusterSpec = serde_json::from_value(object["spec"].clone()).unwrap();
                assert!(spec.replicas >= 2);
            }
            Some("MySQL") => {
                check_database(&object["spec"], None).unwrap();
                let spec: MySQLSpec = serde_json::from_value(object["spec"].clone()).unwrap();
                assert_eq!(spec.database, "otus-database");
            }
            other => panic!("an example of kind {other:?}"),
        }
        seen += 1;
    }
    assert!(seen >= 4);
}

#[rstest]
#[case(json!({"aws": null}), "aws")]
#[case(json!({"geoAffinity": "london"}), "geoAffinity")]
#[case(json!({"geoAffinity": null}), "geoAffinity")]
fn where_members_live_cannot_change(#[case] change: Value, #[case] words: &str) {
    let mut new = on_ec2();
    for (key, value) in change.as_object().unwrap() {
        if value.is_null() {
            new.as_object_mut().unwrap().remove(key);
        } else {
            new[key] = value.clone();
        }
    }
    refused(check_cluster(&new, Some(&on_ec2())), words);
}

#[test]
fn the_region_cannot_change_and_the_rest_of_aws_can() {
    let mut moved = on_ec2();
    moved["aws"]["region"] = json!("eu-west-1");
    refused(check_cluster(&moved, Some(&on_ec2())), "region");
    let mut bigger = on_ec2();
    bigger["aws"]["instanceType"] = json!("t3.large");
    bigger["replicas"] = json!(5);
    check_cluster(&bigger, Some(&on_ec2())).unwrap();
    let inside = json!({"replicas": 1});
    refused(check_cluster(&on_ec2(), Some(&inside)), "`aws` cannot be added");
}

#[test]
fn a_volume_of_members_never_has_another_class() {
    let with = |storage: Value| {
        let mut spec = on_ec2();
        spec["storage"] = storage;
        spec
    };
    let classed = with(json!({"size": "20Gi", "storageClass": "gp3", "encrypted": true}));
    refused(
        check_cluster(&on_ec2(), Some(&classed)),
        "storageClass` must not change",
    );
}

/// What is wrong of a cluster that has no data yet can be corrected: the controller refuses it of one that has.
#[test]
fn a_mistake_in_what_data_are_made_with_can_be_corrected() {
    let with = |size: &str, page: &str| {
        let mut spec = on_ec2();
        spec["storage"] = json!({"size": size, "encrypted": true});
        spec["mySQLOptions"] = json!({"innodb_page_size": page, "lower_case_table_names": page});
        spec
    };
    let mistaken = with("50Ti", "15k");
    check_cluster(&mistaken, None).unwrap();
    check_cluster(&with("50Gi", "16k"), Some(&mistaken)).unwrap();
    check_cluster(&on_ec2(), Some(&mistaken)).unwrap();
}

#[test]
fn the_instance_type_is_said_in_one_of_two_places() {
    let mut spec = on_ec2();
    spec["aws"].as_object_mut().unwrap().remove("instanceType");
    refused(check_cluster(&spec, None), "instanceClass");
    spec["cloudConfig"] = json!({"instanceClass": "t3.micro"});
    check_cluster(&spec, None).unwrap();
}

#[test]
fn every_locked_option_is_refused() {
    for option in LOCKED_OPTIONS {
        let mut spec = on_ec2();
        spec["mySQLOptions"] = json!({*option: "1"});
        refused(check_cluster(&spec, None), "operator sets itself");
    }
    let mut spec = on_ec2();
    spec["mySQLOptions"] = json!({"max_connections": "500"});
    check_cluster(&spec, None).unwrap();
}

#[rstest]
#[case("Name")]
#[case("aws:x")]
#[case("mysql.alx.ke/cluster-uid")]
#[case("kubernetes.io/cluster/nairobi-mysql")]
#[case("app.kubernetes.io/managed-by")]
fn tags_that_the_operator_lives_by_are_refused(#[case] key: &str) {
    let mut spec = on_ec2();
    spec["aws"]["tags"] = json!([{"key": key, "value": ""}]);
    refused(check_cluster(&spec, None), "not free to be set");
}

#[test]
fn a_database_says_its_size_and_its_password_once() {
    let base = json!({"image": "mysql:8.4", "database": "d", "storage_size": "1Gi"});
    check_database(&base, None).unwrap();
    let mut spec = base.clone();
    spec["storage"] = json!({"size": "2Gi"});
    refused(check_database(&spec, None), "exactly once");
    let mut spec = base.clone();
    spec.as_object_mut().unwrap().remove("storage_size");
    refused(check_database(&spec, None), "exactly once");
    spec["storage"] = json!({"size": "2Gi"});
    check_database(&spec, None).unwrap();
    let mut spec = base.clone();
    spec["password"] = json!("p");
    spec["passwordSecretRef"] = json!({"name": "s", "key": "password"});
    refused(check_database(&spec, None), "at most one");
    let mut spec = base.clone();
    spec["database"] = json!("e");
    refused(check_database(&spec, Some(&base)), "`database` must not change");
}

#[test]
fn a_volume_of_a_database_grows_and_never_shrinks_nor_changes_its_class() {
    let of = |size: &str| json!({"image": "mysql:8.4", "database": "d", "storage_size": size});
    check_database(&of("2Gi"), Some(&of("1Gi"))).unwrap();
    check_database(&of("1024Mi"), Some(&of("1Gi"))).unwrap();
    refused(check_database(&of("1G"), Some(&of("1Gi"))), "never shrink");
    let with = |storage: Value| json!({"image": "mysql:8.4", "database": "d", "storage": storage});
    let base = with(json!({"size": "10Gi", "storageClassName": "fast"}));
    // From the older way to say it to the better one.
    check_database(&base, Some(&of("1Gi"))).unwrap();
    refused(
        check_database(&with(json!({"size": "9Gi"})), Some(&base)),
        "never shrink",
    );
    let moved = with(json!({"size": "10Gi", "storageClassName": "slow"}));
    refused(check_database(&moved, Some(&base)), "must not change");
    // There is no volume yet, and a mistake in the name is mended by another.
    let crd = schema::<MySQL>();
    let (moved, mut base) = (database(&moved), database(&base));
    for (reason, fits) in [("VolumeBound", false), ("StorageClassUnknown", true)] {
        base["status"] = json!({"conditions": [{"type": "Ready", "status": "False", "reason": reason}]});
        let checked = Validator::new().validate(&crd, &moved, Some(&base));
        assert_eq!(checked.is_ok(), fits, "{reason}");
    }
}
