//! Members that have an older spec are replaced, one at a time, the primary last and by plan.

use kube::api::DeleteParams;
use mysql_api::{MySQLCluster, cluster::MySQLClusterStatus};
use mysql_controller::identity::ORDINAL;
use serde_json::json;

use crate::bed::{Bed, ready, sample, says};

fn status(cluster: Option<MySQLCluster>) -> MySQLClusterStatus {
    cluster.and_then(|cluster| cluster.status).unwrap()
}

/// Whether every member was replaced once.
fn replaced(cluster: Option<&MySQLCluster>) -> bool {
    ready(cluster) && says(cluster, "UpToDate", "True", "MembersCurrent") && {
        let status = cluster.unwrap().status.as_ref().unwrap();
        status.members.iter().all(|member| member.incarnation == 2)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_instance_type_reaches_every_member_one_by_one_and_no_write_is_lost() {
    let bed = Bed::new().await;
    bed.create("rolled", sample(3)).await;
    let before = status(bed.until("rolled", "it is ready", ready).await);
    // More than a new member would repeat: it becomes a copy.
    bed.fleet.write(&before.aws_instance_ids[0], 5000);
    let old = before.topology.unwrap();
    bed.patch("rolled", json!({"spec": {"aws": {"instanceType": "t3.small"}}}))
        .await;
    let after = status(bed.until("rolled", "every member is replaced", replaced).await);
    assert_eq!(bed.ec2.world().instances().len(), 6, "each was replaced once");
    let primary = after.primary.unwrap();
    assert_ne!(
        primary, "rolled-0",
        "the old primary gave its place to a current member"
    );
    assert_ne!(after.topology.unwrap().server_uuid, old.server_uuid);
    for id in &after.aws_instance_ids {
        assert!(bed.fleet.transactions(id) >= 5000, "{id} has everything");
    }

    // No two were gone at a time: each was launched after the last one that replaced another ran.
    let mut all = bed.ec2.world().instances();
    let replacements: Vec<_> = all.split_off(3);
    let order: Vec<_> = replacements
        .iter()
        .map(|one| one.tags[ORDINAL].as_str())
        .collect();
    assert_eq!(order, ["2", "1", "0"], "replicas first, the former primary last");
    for pair in replacements.windows(2) {
        let ended = all.iter().find(|one| one.tags[ORDINAL] == pair[1].tags[ORDINAL]);
        assert!(ended.unwrap().terminated.unwrap() > pair[0].launched);
    }
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_are_not_replaced_and_it_is_said_what_to_do() {
    let bed = Bed::new().await;
    bed.create("pair", sample(2)).await;
    bed.until("pair", "it is ready", ready).await;
    bed.patch("pair", json!({"spec": {"storage": {"size": "40Gi"}}}))
        .await;
    let cluster = bed
        .until("pair", "it says so", |cluster| {
            ready(cluster) && says(cluster, "UpToDate", "False", "MembersOutdated")
        })
        .await
        .unwrap();
    let conditions = cluster.status.unwrap().conditions;
    let told = conditions
        .iter()
        .find(|condition| condition.type_ == "UpToDate")
        .unwrap();
    assert!(told.message.contains("set replicas to 3"), "{}", told.message);
    assert_eq!(bed.ec2.world().instances().len(), 2);
    // A third one makes it possible.
    bed.patch("pair", json!({"spec": {"replicas": 3}})).await;
    bed.until("pair", "every member is replaced", |cluster| {
        ready(cluster) && says(cluster, "UpToDate", "True", "MembersCurrent")
    })
    .await;
    assert_eq!(bed.ec2.world().instances().len(), 5, "two old, three new");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_beyond_the_number_of_replicas_gives_its_place_to_one_that_stays() {
    let bed = Bed::new().await;
    bed.create("moved", sample(3)).await;
    let first = status(bed.until("moved", "it is ready", ready).await);
    bed.fleet.write(&first.aws_instance_ids[0], 50);
    bed.patch(
        "moved",
        json!({"spec": {"aws": {"ami": "ami-0c02fb55956c7d317"}}}),
    )
    .await;
    // The image is made known late: nothing is replaced by what cannot be launched, then all are.
    bed.ec2.world().change_account(|account| {
        let region = account.regions.get_mut("us-east-1").unwrap();
        let mut image = region.images[0].clone();
        image.id = "ami-0c02fb55956c7d317".into();
        region.images.push(image);
    });
    let after = status(bed.until("moved", "every member is replaced", replaced).await);
    assert_ne!(after.primary.as_deref(), Some("moved-0"));
    bed.patch("moved", json!({"spec": {"replicas": 1}})).await;
    let one = |cluster: Option<&MySQLCluster>| {
        ready(cluster) && cluster.is_some_and(|one| one.status.as_ref().unwrap().members.len() == 1)
    };
    let last = status(bed.until("moved", "one is left", one).await);
    assert_eq!(last.primary.as_deref(), Some("moved-0"));
    assert!(bed.fleet.transactions(&last.aws_instance_ids[0]) >= 50);
    bed.clusters
        .delete("moved", &DeleteParams::default())
        .await
        .unwrap();
    bed.until("moved", "it is gone", |cluster| cluster.is_none())
        .await;
    bed.stop().await;
}

/// MySQL makes no copy of a server that takes text in another way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_collation_reaches_every_member_also_where_each_becomes_a_copy() {
    let bed = Bed::new().await;
    bed.create("collated", sample(3)).await;
    let before = status(bed.until("collated", "it is ready", ready).await);
    bed.fleet.write(&before.aws_instance_ids[0], 5000);
    let options = json!({"spec": {"mySQLOptions": {"collation_server": "utf8mb4_bin"}}});
    bed.patch("collated", options).await;
    let after = status(bed.until("collated", "every member is replaced", replaced).await);
    for id in &after.aws_instance_ids {
        assert!(bed.fleet.transactions(id) >= 5000, "{id} has everything");
    }
    bed.stop().await;
}

/// It has no data, and will never get any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_nobody_can_be_copied_to_is_replaced_once_the_spec_is_set_back() {
    let bed = Bed::new().await;
    bed.create("built", sample(3)).await;
    let before = status(bed.until("built", "it is ready", ready).await);
    bed.fleet.purge(&before.aws_instance_ids[0]);
    bed.fleet.build_for("Linux aarch64");
    bed.patch("built", json!({"spec": {"aws": {"instanceType": "t3.small"}}}))
        .await;
    let cluster = bed
        .until("built", "it is said", |cluster| {
            says(cluster, "Ready", "False", "Diverged")
        })
        .await;
    let conditions = status(cluster).conditions;
    let told = conditions.iter().find(|condition| condition.type_ == "Ready");
    let told = &told.unwrap().message;
    assert!(
        told.contains("built for another machine than the primary's (Linux aarch64, Linux x86_64)"),
        "{told}"
    );
    assert_eq!(bed.ec2.world().instances().len(), 4, "nobody else is replaced");
    bed.fleet.build_for("Linux x86_64");
    let before_that = sample(3)["aws"]["instanceType"].clone();
    bed.patch("built", json!({"spec": {"aws": {"instanceType": before_that}}}))
        .await;
    let current = |cluster: Option<&MySQLCluster>| {
        ready(cluster) && says(cluster, "UpToDate", "True", "MembersCurrent")
    };
    let after = status(bed.until("built", "it is ready again", current).await);
    assert_eq!(after.aws_instance_ids[..2], before.aws_instance_ids[..2]);
    assert_eq!(after.launches[2].incarnation, 3);
    bed.stop().await;
}

/// It keeps the cluster from working, which a rollout waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spec_that_is_rolled_back_frees_the_member_that_it_was_tried_on() {
    let bed = Bed::new().await;
    bed.create("tried", sample(3)).await;
    let before = status(bed.until("tried", "it is ready", ready).await);
    bed.patch(
        "tried",
        json!({"spec": {"mySQLOptions": {"no_such_option": "1"}}}),
    )
    .await;
    bed.until("tried", "mysqld refuses it", |cluster| {
        says(cluster, "Ready", "False", "OptionsInvalid")
    })
    .await;
    bed.patch("tried", json!({"spec": {"mySQLOptions": null}})).await;
    let current = |cluster: Option<&MySQLCluster>| {
        ready(cluster) && says(cluster, "UpToDate", "True", "MembersCurrent")
    };
    let after = status(bed.until("tried", "it is ready again", current).await);
    assert_eq!(after.topology, before.topology);
    assert_eq!(
        after.aws_instance_ids[..2],
        before.aws_instance_ids[..2],
        "nobody else is replaced"
    );
    assert_eq!(after.launches[2].incarnation, 3);
    bed.stop().await;
}
