//! What a cluster takes over from an earlier one of its name, and what it leaves alone if it cannot.

use fake_ec2::StateReason;
use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, PropagationPolicy},
};
use mysql_api::{
    MySQLCluster,
    cluster::{ADOPT, LaunchPhase},
};
use mysql_controller::identity::CLUSTER_UID;
use serde_json::{Value, json};

use crate::bed::{Bed, eventually, message, ready, sample, says};

/// A spec whose deletion leaves the instances running.
fn retained(replicas: i32) -> Value {
    let mut spec = sample(replicas);
    spec["deletionPolicy"] = json!("Retain");
    spec
}

impl Bed {
    async fn gone(&self, name: &str) {
        let deleted = self.clusters.delete(name, &DeleteParams::default()).await;
        deleted.unwrap();
        self.until(name, "it is gone", |cluster| cluster.is_none()).await;
    }

    /// A cluster that takes over what the cluster `from` has left.
    async fn heir(&self, name: &str, from: &str, spec: Value) -> MySQLCluster {
        let mut heir = MySQLCluster::new(name, serde_json::from_value(spec).unwrap());
        heir.annotations_mut().insert(ADOPT.into(), from.to_owned());
        let created = self.clusters.create(&PostParams::default(), &heir).await;
        created.unwrap()
    }
}

/// An adoption that is refused, and one that ends half-way, leave the only key to the instances as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_has_taken_nothing_over_takes_no_secret_with_it() {
    let bed = Bed::new().await;
    bed.create("left", retained(1)).await;
    let old = bed.until("left", "it is ready", ready).await.unwrap();
    let (from, ids) = (old.uid().unwrap(), old.status.unwrap().aws_instance_ids);
    bed.gone("left").await;
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let nobodys = async || {
        let key = secrets.get_opt("left-operator").await.unwrap();
        key.is_some_and(|key| key.owner_references().is_empty())
    };
    assert!(nobodys().await);

    // The Secret for applications is somebody else's by now.
    let binding = secrets.get("left-binding").await.unwrap();
    let params = DeleteParams::default();
    secrets.delete("left-binding", &params).await.unwrap();
    let stranger = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "stranger", "uid": "1b0c7e1a-0000-4000-8000-000000000001"});
    let theirs = Secret {
        metadata: ObjectMeta {
            name: Some("left-binding".into()),
            // Kubernetes does not remove what it owns as long as this is there.
            finalizers: Some(vec!["test.example.com/hold".into()]),
            owner_references: Some(vec![serde_json::from_value(stranger).unwrap()]),
            ..ObjectMeta::default()
        },
        ..binding.clone()
    };
    secrets.create(&PostParams::default(), &theirs).await.unwrap();
    let refused = |cluster: Option<&MySQLCluster>| {
        says(cluster, "Ready", "False", "AdoptionImpossible")
            && message(cluster, "Ready").is_some_and(|text| text.contains("left-binding"))
    };
    bed.heir("left", &from, retained(1)).await;
    bed.until("left", "it says what is in the way", refused).await;
    assert!(nobodys().await, "nothing was taken");
    bed.gone("left").await;
    assert!(nobodys().await);

    // One that had taken it when its operator ended, and no more.
    let heir = bed.heir("left", &from, retained(1)).await;
    bed.until("left", "it says so again", refused).await;
    let owner =
        json!({"apiVersion": "mysql.alx.ke/v1", "kind": "MySQLCluster", "name": "left", "uid": heir.uid()});
    let taken = json!({"metadata": {
        "ownerReferences": [owner],
        "annotations": {"mysql.alx.ke/taken-over-from": from, "mysql.alx.ke/released-by": null},
    }});
    let (how, patch) = (PatchParams::default(), Patch::Merge(&taken));
    secrets.patch("left-operator", &how, &patch).await.unwrap();
    bed.gone("left").await;
    assert!(nobodys().await, "it is given back");

    let free = json!({"metadata": {"finalizers": null}});
    let freed = secrets.patch("left-binding", &how, &Patch::Merge(&free)).await;
    freed.unwrap();
    let _ = secrets.delete("left-binding", &params).await;
    bed.heir("left", &from, sample(1)).await;
    let new = bed.until("left", "it is ready", ready).await.unwrap();
    let uid = new.uid().unwrap();
    assert_eq!(new.status.unwrap().aws_instance_ids, ids);
    bed.gone("left").await;
    assert!(bed.ec2.world().live(CLUSTER_UID, &uid).is_empty());
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_are_missing_or_wanted_besides_join_those_that_are_taken_over() {
    let bed = Bed::new().await;
    bed.create("more", retained(3)).await;
    let old = bed.until("more", "it is ready", ready).await.unwrap();
    let (from, status) = (old.uid().unwrap(), old.status.unwrap());
    bed.fleet.write(&status.aws_instance_ids[0], 50);
    bed.gone("more").await;
    let lost = &status.aws_instance_ids[2];
    let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
    assert!(bed.ec2.world().terminate(lost, &reason));
    bed.heir("more", &from, sample(4)).await;
    let new = bed.until("more", "it is ready", ready).await.unwrap();
    let after = new.status.unwrap();
    assert_eq!(after.topology, status.topology, "who led leads");
    assert_eq!(after.aws_instance_ids.len(), 4);
    assert_eq!(after.aws_instance_ids[..2], status.aws_instance_ids[..2]);
    for id in &after.aws_instance_ids {
        assert_eq!(bed.fleet.transactions(id), 50, "{id} has everything");
    }
    bed.stop().await;
}

/// What they were launched with is not known, and nobody replaces them for what their new cluster asks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_another_size_are_taken_over_as_they_are_which_is_said() {
    let bed = Bed::new().await;
    bed.create("sized", retained(3)).await;
    let old = bed.until("sized", "it is ready", ready).await.unwrap();
    let (from, ids) = (old.uid().unwrap(), old.status.unwrap().aws_instance_ids);
    bed.gone("sized").await;
    let mut spec = sample(3);
    spec["aws"]["instanceType"] = json!("t3.small");
    spec["storage"] = json!({"size": "30Gi"});
    bed.heir("sized", &from, spec).await;
    let told = |cluster: Option<&MySQLCluster>| {
        let text = message(cluster, "UpToDate").unwrap_or_default();
        let named = (0..3).all(|ordinal| text.contains(&format!("sized-{ordinal}")));
        ready(cluster) && says(cluster, "UpToDate", "True", "MembersCurrent") && named
    };
    let new = bed
        .until("sized", "it says of whom it is not known", told)
        .await
        .unwrap();
    assert_eq!(new.status.unwrap().aws_instance_ids, ids);
    // One that is launched since has what is asked for.
    let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
    assert!(bed.ec2.world().terminate(&ids[2], &reason));
    let replaced = |cluster: Option<&MySQLCluster>| {
        let text = message(cluster, "UpToDate").unwrap_or_default();
        ready(cluster) && text.contains("sized-1") && !text.contains("sized-2")
    };
    let after = bed.until("sized", "one is replaced", replaced).await.unwrap();
    let after = after.status.unwrap().aws_instance_ids;
    assert!(after[..2] == ids[..2] && after[2] != ids[2], "{after:?}");
    bed.stop().await;
}

/// With `--cascade=orphan` Kubernetes takes the cluster off the owners during the deletion: here before the operator looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_over_half_way_is_given_back_also_when_nobody_owns_it_any_more() {
    let bed = Bed::new().await;
    bed.create("loose", retained(2)).await;
    let old = bed.until("loose", "it is ready", ready).await.unwrap();
    let (from, ids) = (old.uid().unwrap(), old.status.unwrap().aws_instance_ids);
    bed.gone("loose").await;
    let heir = bed.heir("loose", &from, retained(1)).await;
    bed.until("loose", "it cannot be taken over", |cluster| {
        says(cluster, "Ready", "False", "AdoptionImpossible")
    })
    .await;
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let names = ["loose-operator", "loose-binding"];
    let (taken, released) = ("mysql.alx.ke/taken-over-from", "mysql.alx.ke/released-by");
    let marks = json!({taken: from, released: null, CLUSTER_UID: heir.uid()});
    let patch = json!({"metadata": {"ownerReferences": null, "annotations": marks}});
    for name in names {
        let patched = secrets
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        patched.unwrap();
    }
    let orphaning = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    bed.clusters.delete("loose", &orphaning).await.unwrap();
    bed.until("loose", "it is gone", |cluster| cluster.is_none())
        .await;
    for name in names {
        let key = secrets.get(name).await.unwrap();
        let marks = key.annotations();
        assert!(key.owner_references().is_empty() && !marks.contains_key(taken));
        assert_eq!(
            (marks.get(released), marks.get(CLUSTER_UID)),
            (Some(&from), Some(&from))
        );
    }
    bed.heir("loose", &from, sample(2)).await;
    let new = bed.until("loose", "it is ready", ready).await.unwrap();
    assert_eq!(new.status.unwrap().aws_instance_ids, ids);
    bed.stop().await;
}

/// Nobody knows who led until all that were adopted have answered, and by then fewer members are wanted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_led_leads_also_beyond_the_number_of_replicas_until_another_has_everything() {
    let bed = Bed::new().await;
    bed.create("fewer", retained(3)).await;
    bed.until("fewer", "it is ready", ready).await;
    let mut spec = sample(3);
    spec["aws"]["instanceType"] = json!("t3.small");
    bed.patch("fewer", json!({"spec": {"aws": spec["aws"]}})).await;
    let handed_over = |cluster: Option<&MySQLCluster>| {
        let status = cluster.and_then(|cluster| cluster.status.as_ref());
        let primary = status.and_then(|status| Some(status.topology.as_ref()?.primary));
        ready(cluster)
            && says(cluster, "UpToDate", "True", "MembersCurrent")
            && primary.is_some_and(|one| one > 0)
    };
    let old = bed
        .until("fewer", "another one leads", handed_over)
        .await
        .unwrap();
    let (from, before) = (old.uid().unwrap(), old.status.unwrap());
    let leader = before.topology.unwrap().primary;
    let led = &before.aws_instance_ids[usize::try_from(leader).unwrap()];
    bed.fleet.write(led, 50);
    bed.gone("fewer").await;

    bed.fleet.silence(led, true);
    bed.heir("fewer", &from, spec).await;
    let name = format!("fewer-{leader}");
    let waits = |cluster: Option<&MySQLCluster>| {
        let text = message(cluster, "Ready").unwrap_or_default();
        says(cluster, "Ready", "False", "Forming") && text.contains(&name)
    };
    bed.until("fewer", "it waits for the one that led", waits).await;
    bed.patch("fewer", json!({"spec": {"replicas": 1}})).await;
    let told = |cluster: Option<&MySQLCluster>| {
        let text = message(cluster, "Ready").unwrap_or_default();
        says(cluster, "Ready", "False", "ScalingDown") && text.contains("nobody knows yet")
    };
    bed.until("fewer", "nobody is removed meanwhile", told).await;
    // One that somebody terminates is waited for no more, and one that somebody stops is started: it may have led.
    let other = usize::try_from(3 - leader).unwrap();
    let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
    let world = bed.ec2.world();
    assert!(world.terminate(&before.aws_instance_ids[other], &reason) && world.stop(led));
    bed.until("fewer", "the end of one is known", |cluster| {
        let status = cluster.and_then(|cluster| cluster.status.as_ref());
        status.is_some_and(|status| status.launches[other].phase == LaunchPhase::Over)
    })
    .await;
    bed.fleet.silence(led, false);
    let one = |cluster: Option<&MySQLCluster>| {
        ready(cluster) && cluster.is_some_and(|one| one.status.as_ref().unwrap().members.len() == 1)
    };
    let after = bed
        .until("fewer", "one is left", one)
        .await
        .unwrap()
        .status
        .unwrap();
    assert_eq!(after.topology.unwrap().primary, 0);
    assert_eq!(after.aws_instance_ids, before.aws_instance_ids[..1]);
    assert_eq!(
        bed.fleet.transactions(&after.aws_instance_ids[0]),
        50,
        "it has everything"
    );
    bed.stop().await;
}

/// Somebody has taken the Secrets out of the way, and annotates the cluster when it has instances of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_has_instances_says_that_it_takes_over_no_others() {
    let bed = Bed::new().await;
    bed.create("late", retained(1)).await;
    let old = bed.until("late", "it is ready", ready).await.unwrap();
    let (from, ids) = (old.uid().unwrap(), old.status.unwrap().aws_instance_ids);
    bed.gone("late").await;
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    for name in ["late-operator", "late-binding"] {
        secrets.delete(name, &DeleteParams::default()).await.unwrap();
    }
    bed.create("late", sample(1)).await;
    bed.until("late", "it is ready", ready).await;
    bed.patch("late", json!({"metadata": {"annotations": {ADOPT: from}}}))
        .await;
    let events: Api<Event> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    eventually("it says so", async || {
        let all = events.list(&ListParams::default()).await.unwrap();
        let told = |event: &Event| {
            event.reason.as_deref() == Some("AdoptionImpossible")
                && event.note.as_deref().is_some_and(|note| note.contains(&ids[0]))
        };
        all.iter().any(told)
    })
    .await;
    bed.until("late", "and serves on", ready).await;
    bed.stop().await;
}
