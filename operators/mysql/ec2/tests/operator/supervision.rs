//! A formed cluster is looked after whatever keeps the operator from doing what the spec says.

use fake_ec2::StateReason;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use mysql_api::{
    MySQLCluster,
    cluster::{Launch, MySQLClusterStatus},
};
use reconcile::clock::Clock;
use rstest::rstest;
use serde_json::{Value, json};

use crate::bed::{Bed, SPEED, eventually, message, ready, sample, says};

fn status(cluster: Option<MySQLCluster>) -> MySQLClusterStatus {
    cluster.and_then(|cluster| cluster.status).unwrap()
}

/// Each is accepted by the API server, and refused by the operator.
#[rstest]
#[case("option", json!({"mySQLOptions": {"server-id": "7"}}), json!({"mySQLOptions": null}), "OptionsInvalid")]
#[case("provider", json!({"cloudConfig": {"provider": "gcp"}}), json!({"cloudConfig": null}), "SpecInvalid")]
#[case("shrunk", json!({"storage": {"size": "19Gi"}}), json!({"storage": null}), "SpecInvalid")]
#[case("paged", json!({"mySQLOptions": {"innodb_page_size": "4k"}}), json!({"mySQLOptions": null}), "OptionsInvalid")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spec_that_is_refused_ends_nothing_for_the_members_that_there_are(
    #[case] name: &str,
    #[case] wrong: Value,
    #[case] right: Value,
    #[case] reason: &str,
) {
    let bed = Bed::new().await;
    bed.create(name, sample(3)).await;
    let before = status(bed.until(name, "it is ready", ready).await);
    let ids = &before.aws_instance_ids;
    let mut wrong = json!({ "spec": wrong });
    wrong["spec"]["replicas"] = json!(9);
    bed.patch(name, wrong).await;
    let refused = |cluster: Option<&MySQLCluster>| {
        says(cluster, "Ready", "False", reason) && says(cluster, "Provisioned", "False", reason)
    };
    bed.until(name, "it says so", refused).await;
    bed.reboot_and_recover(&ids[1], &ids[0]).await;
    let served = |cluster: Option<&MySQLCluster>| {
        let status = cluster.and_then(|cluster| cluster.status.as_ref());
        refused(cluster) && status.is_some_and(|status| status.ready.as_deref() == Some("3/3"))
    };
    let during = bed.until(name, "all three serve", served).await;
    assert!(
        message(during.as_ref(), "Ready").is_some_and(|text| text.contains("until the spec is corrected"))
    );
    let during = status(during);
    assert_eq!(during.primary, before.primary);
    // What is shown may be older than the primary's restart.
    eventually("clients are told of the primary", async || {
        bed.behind(name).await.len() == 1
    })
    .await;
    assert_eq!(
        bed.ec2.world().instances().len(),
        3,
        "nothing of it is carried out"
    );

    let mut right = json!({ "spec": right });
    right["spec"]["replicas"] = json!(3);
    bed.patch(name, right).await;
    let after = status(bed.until(name, "it is ready again", ready).await);
    assert_eq!(&after.aws_instance_ids, ids);
    bed.stop().await;
}

/// As long as there are no data that were made with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_size_and_an_option_that_were_mistakes_can_be_corrected_before_a_cluster_is_formed() {
    let bed = Bed::new().await;
    let mut spec = sample(1);
    spec["storage"] = json!({"size": "50Ti"});
    spec["mySQLOptions"] = json!({"innodb_page_size": "15k", "no_such_option": "1"});
    bed.create("typo", spec).await;
    bed.until("typo", "mysqld refuses it", |cluster| {
        says(cluster, "Ready", "False", "OptionsInvalid")
    })
    .await;
    let patch = json!({"spec": {"storage": {"size": "50Gi"}, "mySQLOptions": null}});
    bed.patch("typo", patch).await;
    let after = status(bed.until("typo", "it is ready", ready).await);
    let data = after.launches[0].data.as_ref().unwrap();
    assert_eq!((data.volume_gib, data.options.len()), (50, 0));
    bed.stop().await;
}

impl Bed {
    /// As an operator leaves it that does not record what the members' data were made with.
    async fn forget_data(&self, name: &str) {
        let cluster = self.clusters.get(name).await.unwrap();
        let mut launches = cluster.status.unwrap().launches;
        for launch in &mut launches {
            launch.data = None;
        }
        let older = json!({"status": {"launches": launches}});
        let (how, patch) = (PatchParams::default(), Patch::Merge(&older));
        self.clusters.patch_status(name, &how, &patch).await.unwrap();
    }

    /// Without `storage`, the size would be 20Gi.
    async fn is_refused_to_shrink(&self, name: &str, before: &MySQLClusterStatus) {
        let refused = |cluster: Option<&MySQLCluster>| {
            says(cluster, "Provisioned", "False", "SpecInvalid")
                && message(cluster, "Provisioned").is_some_and(|text| text.contains("100Gi"))
        };
        let after = status(self.until(name, "it says so", refused).await);
        assert_eq!(after.aws_instance_ids, before.aws_instance_ids);
        let audit = self.ec2.world().audit();
        assert!(audit.iter().all(|call| call.action != "TerminateInstances"));
    }
}

fn large() -> Value {
    let mut spec = sample(3);
    spec["storage"] = json!({"size": "100Gi"});
    spec
}

/// Launched with this spec, whatever has become of what was frozen for the launch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_operator_launched_as_the_spec_still_says_does_not_shrink() {
    let bed = Bed::new().await;
    bed.create("older", large()).await;
    let before = status(bed.until("older", "it is ready", ready).await);
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    for ordinal in 0..3 {
        let (name, params) = (format!("older-m{ordinal}-1-launch"), DeleteParams::default());
        secrets.delete(&name, &params).await.unwrap();
    }
    bed.forget_data("older").await;
    let known = |cluster: Option<&MySQLCluster>| {
        let launches = &cluster.unwrap().status.as_ref().unwrap().launches;
        let known = |launch: &Launch| launch.data.as_ref().is_some_and(|data| data.volume_gib == 100);
        launches.iter().all(known)
    };
    bed.until("older", "it is recorded late", known).await;
    bed.patch("older", json!({"spec": {"storage": null}})).await;
    bed.is_refused_to_shrink("older", &before).await;
    bed.stop().await;
}

/// The spec was changed while there was no operator.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_operator_launched_does_not_shrink_as_long_as_its_parameters_are_there() {
    let mut bed = Bed::new().await;
    bed.create("older", large()).await;
    let before = status(bed.until("older", "it is ready", ready).await);
    bed.restart(Clock::accelerated(SPEED), async |bed| {
        bed.forget_data("older").await;
        bed.patch("older", json!({"spec": {"storage": null}})).await;
    })
    .await;
    bed.is_refused_to_shrink("older", &before).await;
    bed.stop().await;
}

/// Somebody else has a Secret of the name that the launch of a member needs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_cannot_be_launched_keeps_nobody_from_looking_after_the_others() {
    let bed = Bed::new().await;
    bed.create("two", sample(3)).await;
    let before = status(bed.until("two", "it is ready", ready).await);
    let ids = &before.aws_instance_ids;
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let theirs = Secret {
        metadata: ObjectMeta {
            name: Some("two-m2-2-launch".into()),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    };
    secrets.create(&PostParams::default(), &theirs).await.unwrap();
    let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
    assert!(bed.ec2.world().terminate(&ids[2], &reason));
    let told = |cluster: Option<&MySQLCluster>| {
        says(cluster, "Provisioned", "False", "NameConflict")
            && message(cluster, "Provisioned").is_some_and(|text| text.contains("two-m2-2-launch"))
    };
    bed.until("two", "it says what is in the way", told).await;
    bed.fleet.reboot(&ids[0]);
    eventually("the primary is open again", async || bed.fleet.is_open(&ids[0])).await;
    bed.until("two", "it still says it", told).await;
    secrets
        .delete("two-m2-2-launch", &DeleteParams::default())
        .await
        .unwrap();
    let replaced = |cluster: Option<&MySQLCluster>| {
        ready(cluster) && cluster.is_some_and(|one| one.status.as_ref().unwrap().launches[2].incarnation == 2)
    };
    bed.until("two", "the member is replaced", replaced).await;
    bed.stop().await;
}

/// EC2 refused the launch, and then nobody knows any more what it was to be made with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launch_whose_parameters_are_lost_is_made_all_the_same() {
    let bed = Bed::new().await;
    bed.ec2
        .world()
        .deny("RunInstances", Some("UnauthorizedOperation"));
    bed.create("lost", sample(1)).await;
    bed.until("lost", "it says so", |cluster| {
        says(cluster, "Provisioned", "False", "CredentialsInvalid")
    })
    .await;
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let params = DeleteParams::default();
    secrets.delete("lost-m0-1-launch", &params).await.unwrap();
    bed.ec2.world().deny("RunInstances", None);
    let after = status(bed.until("lost", "it is ready", ready).await);
    assert_eq!(after.launches[0].incarnation, 1, "they follow from the spec");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_under_termination_protection_is_not_removed_and_it_is_said_what_to_do() {
    let bed = Bed::new().await;
    let mut spec = sample(3);
    spec["aws"]["terminationProtection"] = json!(true);
    bed.create("held", spec).await;
    let before = status(bed.until("held", "it is ready", ready).await);
    let told = |words: &'static str| {
        move |cluster: Option<&MySQLCluster>| {
            says(cluster, "Provisioned", "False", "TerminationProtected")
                && message(cluster, "Provisioned").is_some_and(|text| text.contains(words))
        }
    };
    bed.patch("held", json!({"spec": {"replicas": 2}})).await;
    bed.until("held", "it says so", told("aws.terminationProtection"))
        .await;
    bed.patch("held", json!({"spec": {"replicas": 3}})).await;
    let again = status(bed.until("held", "it is ready again", ready).await);
    assert_eq!(
        again.aws_instance_ids, before.aws_instance_ids,
        "nobody was replaced"
    );

    // Taken out of the spec the protection is still on the instances.
    let patch = json!({"spec": {"replicas": 2, "aws": {"terminationProtection": false}}});
    bed.patch("held", patch).await;
    bed.until("held", "it says so", told("in EC2")).await;
    let world = bed.ec2.world();
    let refused = || {
        let audit = world.audit();
        audit
            .iter()
            .filter(|call| call.action == "TerminateInstances")
            .count()
    };
    // Wanted again it goes all the same, as soon as it can, and EC2 is not asked for it with every pass.
    bed.patch("held", json!({"spec": {"replicas": 3}})).await;
    let (asked, began) = (refused(), world.clock().elapsed());
    eventually("ten minutes are over", async || {
        world.clock().elapsed() > began + std::time::Duration::from_mins(10)
    })
    .await;
    assert!(refused() - asked <= 12, "{} times", refused() - asked);
    let params = [
        ("InstanceId", before.aws_instance_ids[2].as_str()),
        ("DisableApiTermination.Value", "false"),
    ];
    world
        .ask("us-east-1", "ModifyInstanceAttribute", &params)
        .unwrap();
    let replaced = |cluster: Option<&MySQLCluster>| {
        ready(cluster) && cluster.is_some_and(|one| one.status.as_ref().unwrap().launches[2].incarnation == 2)
    };
    bed.until("held", "it is replaced", replaced).await;
    bed.stop().await;
}
