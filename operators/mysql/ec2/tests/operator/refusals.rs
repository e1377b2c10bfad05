//! Specs that cannot be carried out: each says so, and launches nothing or nothing twice.

use fake_ec2::{Account, State};
use kube::api::{Patch, PatchParams, PostParams};
use mysql_api::MySQLCluster;
use mysql_controller::identity::{CLUSTER_UID, INCARNATION, OPERATOR_ID, ORDINAL};
use reconcile::clock::Clock;
use rstest::rstest;
use serde_json::{Value, json};

use crate::bed::{Bed, SPEED, ready, sample, says};

/// The sample with one field changed.
fn with(path: &str, value: Value) -> Value {
    let mut spec = sample(1);
    *spec.pointer_mut(path).unwrap() = value;
    spec
}

#[rstest]
#[case("image", "/aws/ami", json!("ami-00000000000000000"), "LaunchRefused")]
#[case("subnet", "/aws/subnetId", json!("subnet-22345678"), "LaunchRefused")]
#[case("group", "/aws/securityGroupIds", json!(["sg-99999999"]), "LaunchRefused")]
#[case("place", "/geoAffinity", json!("atlantis"), "SpecInvalid")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ec2_or_the_operator_does_not_know_is_a_condition(
    #[case] name: &str,
    #[case] path: &str,
    #[case] value: Value,
    #[case] reason: &str,
) {
    let bed = Bed::new().await;
    let mut spec = with(path, value);
    // Without other subnets to fall back to.
    spec["aws"]["subnetIds"] = json!([]);
    bed.create(name, spec).await;
    bed.until(name, reason, |cluster| says(cluster, "Ready", "False", reason))
        .await;
    assert!(bed.ec2.world().instances().is_empty());
    bed.stop().await;
}

#[rstest]
#[case("none", "/replicas", json!(0))]
#[case("ten", "/replicas", json!(10))]
#[case("negative", "/replicas", json!(-1))]
#[case("groups", "/aws/securityGroupIds", json!([]))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_be_is_not_accepted(#[case] name: &str, #[case] path: &str, #[case] value: Value) {
    let bed = Bed::new().await;
    let spec = serde_json::from_value(with(path, value)).unwrap();
    let cluster = MySQLCluster::new(name, spec);
    let refused = bed
        .clusters
        .create(&PostParams::default(), &cluster)
        .await
        .unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 422));
    bed.stop().await;
}

#[rstest]
#[case("identity", "/aws/tags", json!([{"key": "mysql.alx.ke/ordinal", "value": "1"}]))]
#[case("title", "/aws/tags", json!([{"key": "Name", "value": "mine"}]))]
#[case("locked", "/mySQLOptions", json!({"super_read_only": "OFF"}))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_get_in_the_operators_way_is_not_accepted(
    #[case] name: &str,
    #[case] path: &str,
    #[case] value: Value,
) {
    let bed = Bed::new().await;
    let mut spec = sample(1);
    spec["aws"]["tags"] = json!([]);
    spec["mySQLOptions"] = json!({});
    *spec.pointer_mut(path).unwrap() = value;
    let cluster = MySQLCluster::new(name, serde_json::from_value(spec).unwrap());
    let refused = bed
        .clusters
        .create(&PostParams::default(), &cluster)
        .await
        .unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 422));
    bed.stop().await;
}

/// In a spelling that only mysqld knows for the locked one, or as something that is no option's name at all.
#[rstest]
#[case("dashed", "loose-super-read-only", "super-read-only")]
#[case("nameless", "no such option", "is no option's name")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_option_that_cannot_be_set_is_a_condition_and_launches_nothing(
    #[case] name: &str,
    #[case] option: &str,
    #[case] words: &str,
) {
    let bed = Bed::new().await;
    let mut spec = sample(1);
    spec["mySQLOptions"] = json!({option: "OFF"});
    bed.create(name, spec).await;
    let told = |cluster: Option<&MySQLCluster>| says(cluster, "Ready", "False", "OptionsInvalid");
    let cluster = bed.until(name, "it says so", told).await.unwrap();
    let conditions = cluster.status.unwrap().conditions;
    assert!(conditions[0].message.contains(words), "{}", conditions[0].message);
    assert!(bed.ec2.world().instances().is_empty());
    bed.stop().await;
}

/// Only a server knows every option. Nothing is formed then, nothing can be lost, and the corrected spec is tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_option_that_no_server_knows_is_told_and_the_corrected_spec_is_tried() {
    let bed = Bed::new().await;
    let mut spec = sample(2);
    spec["mySQLOptions"] = json!({"no_such_option": "1"});
    bed.create("unknown", spec).await;
    let told = |cluster: Option<&MySQLCluster>| says(cluster, "Ready", "False", "OptionsInvalid");
    let cluster = bed.until("unknown", "it says so", told).await.unwrap();
    let conditions = cluster.status.unwrap().conditions;
    assert!(
        conditions[0]
            .message
            .contains("unknown variable 'no_such_option=1'"),
        "{}",
        conditions[0].message
    );
    let options = json!({"no_such_option": null, "max_connections": "100"});
    bed.patch("unknown", json!({"spec": {"mySQLOptions": options}}))
        .await;
    bed.until("unknown", "it is ready", |cluster| {
        says(cluster, "Ready", "True", "Replicating") && says(cluster, "UpToDate", "True", "MembersCurrent")
    })
    .await;
    assert_eq!(
        bed.ec2.world().instances().len(),
        4,
        "each member was replaced once"
    );
    bed.stop().await;
}

#[rstest]
#[case("region", json!({"aws": {"region": "eu-west-1"}}))]
#[case("place", json!({"geoAffinity": null}))]
#[case("backend", json!({"aws": null}))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_change_is_not_changed(#[case] name: &str, #[case] change: Value) {
    let bed = Bed::new().await;
    let before = bed.create(name, sample(1)).await;
    let patch = Patch::Merge(json!({ "spec": change }));
    let refused = bed.clusters.patch(name, &PatchParams::default(), &patch).await;
    assert!(matches!(refused.unwrap_err(), kube::Error::Api(status) if status.code == 422));
    let after = bed.clusters.get(name).await.unwrap();
    assert_eq!(before.metadata.generation, after.metadata.generation);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_somebody_else_tagged_as_ours_is_reported_and_never_touched() {
    let bed = Bed::new().await;
    let params = [
        ("ImageId", "ami-0c02fb55956c7d316"),
        ("InstanceType", "t3.micro"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("SubnetId", "subnet-12345678"),
    ];
    bed.ec2.world().ask("us-east-1", "RunInstances", &params).unwrap();
    let theirs = bed.ec2.world().instances().remove(0);
    let cluster = bed.create("copied", sample(1)).await;
    let uid = cluster.metadata.uid.unwrap();
    for (key, value) in [
        (OPERATOR_ID, "mysql-operator"),
        (CLUSTER_UID, uid.as_str()),
        (ORDINAL, "0"),
        (INCARNATION, "1"),
    ] {
        bed.ec2.world().retag(&theirs.id, key, Some(value));
    }
    bed.until("copied", "it says so", |cluster| {
        says(cluster, "Provisioned", "False", "Ambiguous")
    })
    .await;
    bed.clusters
        .delete("copied", &kube::api::DeleteParams::default())
        .await
        .unwrap();
    bed.until("copied", "it is gone", |cluster| cluster.is_none())
        .await;
    let live = bed.ec2.world().live(CLUSTER_UID, &uid);
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].id, theirs.id, "only the one that was never ours is left");
    let touched = bed.ec2.world().audit().into_iter().any(|call| {
        ["TerminateInstances", "CreateTags", "StopInstances"].contains(&call.action.as_str())
            && call.params.values().any(|value| *value == theirs.id)
    });
    assert!(!touched);
    bed.stop().await;
}

/// Names as long as Services allow, and a namespace that fills a tag with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_of_forty_characters_fits_everywhere() {
    let bed = Bed::new().await;
    let name = format!("c{}", "x".repeat(39));
    bed.create(&name, sample(1)).await;
    bed.until(&name, "it is ready", |cluster| {
        says(cluster, "Ready", "True", "Replicating")
    })
    .await;
    assert_eq!(bed.ec2.world().live("Name", &format!("mysql-{name}")).len(), 1);
    bed.stop().await;
}

#[test]
fn the_account_of_the_tests_has_what_the_samples_name() {
    let account = Account::default();
    let region = &account.regions["us-east-1"];
    assert!(
        region
            .images
            .iter()
            .any(|image| image.id == "ami-0c02fb55956c7d316")
    );
    assert!(!region.subnets.iter().any(|subnet| subnet.id == "subnet-22345678"));
}

/// EC2 launches four, and would refuse the fifth for ever.
#[rstest]
#[case::at_once(false)]
#[case::after_a_restart(true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fewer_members_are_had_although_the_launch_of_one_more_is_refused(#[case] restarted: bool) {
    let mut bed = Bed::new().await;
    // Of two each.
    bed.ec2.world().set_vcpu_limit(Some(8));
    bed.create("few", sample(5)).await;
    let refused = |cluster: Option<&MySQLCluster>| {
        says(cluster, "Provisioned", "False", "QuotaExceeded")
            && cluster.is_some_and(|one| one.status.as_ref().unwrap().aws_instance_ids.len() == 4)
    };
    bed.until("few", "the fifth is refused", refused).await;
    let fewer = json!({"spec": {"replicas": 3}});
    if restarted {
        bed.restart(Clock::accelerated(SPEED), async |bed| {
            bed.patch("few", fewer).await;
        })
        .await;
    } else {
        bed.patch("few", fewer).await;
    }
    let three = |cluster: Option<&MySQLCluster>| {
        ready(cluster) && cluster.is_some_and(|one| one.status.as_ref().unwrap().members.len() == 3)
    };
    bed.until("few", "it is ready with three", three).await;
    let mut running = bed.ec2.world().instances();
    running.retain(|instance| instance.state == State::Running);
    assert_eq!(running.len(), 3);
    bed.stop().await;
}
