//! What a cluster owns in Kubernetes is kept as it is to be; and a cluster that is paused keeps its hands off everything.

use fake_ec2::State;
use k8s_openapi::api::{
    core::v1::{Secret, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use mysql_api::MySQLCluster;
use mysql_controller::identity::CLUSTER_UID;
use reconcile::{clock::Clock, conditions};
use serde_json::json;

use crate::bed::{Bed, SPEED, condition, eventually, message, ready, sample, says};

/// In real time nothing is looked at for five minutes that nothing has happened to; each is changed twice, for what is
/// changed first may be put right by the first look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_and_slices_that_somebody_changes_or_deletes_are_put_right_at_once() {
    let mut bed = Bed::new().await;
    bed.create("kept", sample(1)).await;
    bed.until("kept", "it is ready", ready).await;
    bed.restart(Clock::accelerated(1), async |_| ()).await;
    let (client, namespace) = (bed.client.clone(), bed.namespace.name());
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let slices: Api<EndpointSlice> = Api::namespaced(client, namespace);
    let (params, delete) = (PatchParams::default(), DeleteParams::default());
    let behind = bed.behind("kept").await;
    assert_eq!(behind.len(), 1);
    for _ in 0..2 {
        let uid = services.get("kept-ro").await.unwrap().uid();
        services.delete("kept-ro", &delete).await.unwrap();
        eventually("the Service is there again", async || {
            let found = services.get_opt("kept-ro").await.unwrap();
            found.is_some_and(|service| service.uid() != uid)
        })
        .await;
        let emptied = json!({"endpoints": []});
        slices
            .patch("kept", &params, &Patch::Merge(&emptied))
            .await
            .unwrap();
        eventually("the slice has its address again", async || {
            bed.behind("kept").await == behind
        })
        .await;
        slices.delete("kept", &delete).await.unwrap();
        eventually("the slice is there again", async || {
            slices.get_opt("kept").await.unwrap().is_some() && bed.behind("kept").await == behind
        })
        .await;
    }
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_that_somebody_deletes_come_back_with_what_was_in_them() {
    let bed = Bed::new().await;
    bed.create("secret", sample(1)).await;
    bed.until("secret", "it is ready", ready).await;
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    for name in ["secret-operator", "secret-binding"] {
        let before = secrets.get(name).await.unwrap();
        secrets.delete(name, &DeleteParams::default()).await.unwrap();
        eventually("it is there again", async || {
            let found = secrets.get_opt(name).await.unwrap();
            found.is_some_and(|secret| secret.uid() != before.uid() && secret.data == before.data)
        })
        .await;
    }
    // Somebody makes it anew, with something else in it.
    let before = secrets.get("secret-operator").await.unwrap();
    let made = Secret {
        metadata: ObjectMeta {
            resource_version: None,
            uid: None,
            ..before.metadata.clone()
        },
        string_data: Some([("tls.key".to_owned(), "another".to_owned())].into()),
        ..before.clone()
    };
    secrets
        .delete("secret-operator", &DeleteParams::default())
        .await
        .unwrap();
    // The operator may be faster.
    let made = secrets.create(&PostParams::default(), &made).await;
    assert!(made.is_ok() || matches!(&made, Err(kube::Error::Api(status)) if status.code == 409));
    eventually("it holds again what it held", async || {
        let found = secrets.get_opt("secret-operator").await.unwrap();
        found.is_some_and(|secret| secret.uid() != before.uid() && secret.data == before.data)
    })
    .await;
    bed.stop().await;
}

/// Somebody has taken it from the cluster, and brought it back as a backup has it: without its owner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_without_its_owner_is_told_or_known_by_its_mark() {
    let mut bed = Bed::new().await;
    bed.create("freed", sample(1)).await;
    let cluster = bed.until("freed", "it is ready", ready).await;
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let how = PatchParams::default();
    bed.restart(Clock::accelerated(SPEED), async |_| {
        let freed = json!({"metadata": {"ownerReferences": null, "annotations": {CLUSTER_UID: null}}});
        let freed = secrets.patch("freed-operator", &how, &Patch::Merge(&freed)).await;
        freed.unwrap();
    })
    .await;
    let told = |cluster: Option<&MySQLCluster>| {
        says(cluster, "Ready", "False", "NameConflict")
            && message(cluster, "Ready").is_some_and(|text| text.contains("freed-operator"))
    };
    bed.until("freed", "it says so", told).await;
    let marked = json!({"metadata": {"annotations": {CLUSTER_UID: cluster.unwrap().uid()}}});
    let marked = secrets
        .patch("freed-operator", &how, &Patch::Merge(&marked))
        .await;
    marked.unwrap();
    bed.until("freed", "it is ready again", ready).await;
    let owned = secrets.get("freed-operator").await.unwrap();
    assert_eq!(owned.owner_references().len(), 1);
    // An operator that has read it takes it as it is, too: nobody has what is in it but for that.
    let freed = json!({"metadata": {"ownerReferences": null, "annotations": {CLUSTER_UID: null}}});
    let freed = secrets.patch("freed-operator", &how, &Patch::Merge(&freed)).await;
    freed.unwrap();
    eventually("it has its owner again, and is the same", async || {
        let found = secrets.get("freed-operator").await.unwrap();
        assert_eq!(found.uid(), owned.uid());
        found.owner_references().len() == 1
    })
    .await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_not_given_up_for_an_authority_that_they_do_not_know() {
    let mut bed = Bed::new().await;
    bed.create("strange", sample(1)).await;
    bed.until("strange", "it is ready", ready).await;
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let mut saved = secrets.get("strange-operator").await.unwrap();
    bed.restart(Clock::accelerated(SPEED), async |_| {
        let gone = secrets.delete("strange-operator", &DeleteParams::default()).await;
        gone.unwrap();
    })
    .await;
    let lost = |cluster: Option<&MySQLCluster>| {
        says(cluster, "Ready", "False", "AuthorityUnusable")
            && message(cluster, "Ready").is_some_and(|text| text.contains("strange-operator"))
    };
    bed.until("strange", "it says what is missing", lost).await;
    assert!(
        secrets.get_opt("strange-operator").await.unwrap().is_none(),
        "none is made that nobody knows"
    );
    (saved.metadata.resource_version, saved.metadata.uid) = (None, None);
    secrets.create(&PostParams::default(), &saved).await.unwrap();
    bed.until("strange", "it is ready again", ready).await;
    bed.stop().await;
}

/// `kubectl delete --cascade=foreground`, which removes what a cluster owns before the cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_whose_instances_are_retained_does_not_go_without_the_secrets_that_reach_them() {
    let mut bed = Bed::new().await;
    let mut spec = sample(1);
    spec["deletionPolicy"] = json!("Retain");
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    for name in ["first", "second"] {
        bed.create(name, spec.clone()).await;
        bed.until(name, "it is ready", ready).await;
    }
    let data = async |name: &str| {
        secrets
            .get_opt(name)
            .await
            .unwrap()
            .and_then(|secret| secret.data)
    };
    let before = (data("first-operator").await, data("first-binding").await);
    bed.clusters
        .delete("first", &DeleteParams::foreground())
        .await
        .unwrap();
    bed.until("first", "it is gone", |cluster| cluster.is_none())
        .await;
    let after = (data("first-operator").await, data("first-binding").await);
    assert!(before.0.is_some() && before.1.is_some() && before == after);

    // One that begins when they are gone already has never read them.
    let saved = secrets.get("second-operator").await.unwrap();
    bed.restart(Clock::accelerated(SPEED), async |bed| {
        bed.clusters
            .delete("second", &DeleteParams::foreground())
            .await
            .unwrap();
        eventually("the Secrets are gone", async || {
            data("second-operator").await.is_none() && data("second-binding").await.is_none()
        })
        .await;
    })
    .await;
    let lost = |cluster: Option<&MySQLCluster>| says(cluster, "DeletionBlocked", "True", "AuthorityUnusable");
    bed.until("second", "it says so", lost).await;
    for name in ["second-operator", "second-binding"] {
        let again = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..saved.clone()
        };
        secrets.create(&PostParams::default(), &again).await.unwrap();
    }
    bed.until("second", "it is gone", |cluster| cluster.is_none())
        .await;
    let running = bed.ec2.world().instances();
    assert!(running.len() == 2 && running.iter().all(|one| one.state == State::Running));
    bed.stop().await;
}

/// Another process has read the Secret by which members know the operator, and this one can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_that_is_missing_is_made_again_before_instances_are_retained() {
    let mut bed = Bed::new().await;
    let mut spec = sample(1);
    spec["deletionPolicy"] = json!("Retain");
    bed.create("bound", spec).await;
    bed.until("bound", "it is ready", ready).await;
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let before = secrets.get("bound-binding").await.unwrap();
    bed.restart(Clock::accelerated(SPEED), async |bed| {
        let params = DeleteParams::default();
        secrets.delete("bound-binding", &params).await.unwrap();
        bed.clusters.delete("bound", &params).await.unwrap();
    })
    .await;
    bed.until("bound", "it is gone", |cluster| cluster.is_none())
        .await;
    let after = secrets.get("bound-binding").await.unwrap();
    assert_eq!(after.data, before.data);
    assert!(after.owner_references().is_empty() && after.uid() != before.uid());
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_instances_that_were_to_be_retained_go_with_them_when_they_go_after_all() {
    let bed = Bed::new().await;
    let mut spec = sample(1);
    spec["deletionPolicy"] = json!("Retain");
    bed.create("turned", spec).await;
    bed.until("turned", "it is ready", ready).await;
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let names = ["turned-operator", "turned-binding"];
    bed.ec2.world().deny("CreateTags", Some("UnauthorizedOperation"));
    bed.clusters
        .delete("turned", &DeleteParams::default())
        .await
        .unwrap();
    bed.until("turned", "it cannot mark them", |cluster| {
        says(cluster, "DeletionBlocked", "True", "CredentialsInvalid")
    })
    .await;
    for name in names {
        let secret = secrets.get(name).await.unwrap();
        assert!(secret.owner_references().is_empty(), "{name} is released");
    }
    bed.patch("turned", json!({"spec": {"deletionPolicy": "Delete"}}))
        .await;
    bed.until("turned", "it is gone", |cluster| cluster.is_none())
        .await;
    for name in names {
        assert!(secrets.get_opt(name).await.unwrap().is_none(), "{name} is left");
    }
    bed.ec2.world().deny("CreateTags", None);
    bed.create("turned", sample(1)).await;
    bed.until("turned", "another of its name is ready", ready).await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_cluster_says_so_and_goes_on_where_it_was() {
    let bed = Bed::new().await;
    bed.create("still", sample(1)).await;
    bed.until("still", "it is ready", ready).await;
    bed.patch("still", json!({"spec": {"paused": true, "replicas": 3}}))
        .await;
    let paused = |cluster: Option<&MySQLCluster>| says(cluster, "Paused", "True", "Paused");
    let cluster = bed.until("still", "it says so", paused).await.unwrap();
    assert!(ready(Some(&cluster)), "what was observed stands");
    let status = cluster.status.unwrap();
    assert!(
        status.topology.is_some() && status.launches.len() == 1,
        "and what was intended"
    );
    assert!(
        conditions::find(&status.conditions, "Paused")
            .unwrap()
            .message
            .contains("spec.paused")
    );
    bed.patch("still", json!({"spec": {"paused": false}})).await;
    let three = |cluster: Option<&MySQLCluster>| {
        ready(cluster) && cluster.is_some_and(|one| one.status.as_ref().unwrap().members.len() == 3)
    };
    let cluster = bed.until("still", "it goes on", three).await;
    assert_eq!(condition(cluster.as_ref(), "Paused"), None);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_keep_the_certificate_of_a_member_that_is_stopped_for_a_while() {
    let bed = Bed::new().await;
    bed.create("halted", sample(3)).await;
    let cluster = bed.until("halted", "it is ready", ready).await.unwrap();
    let ids = cluster.status.unwrap().aws_instance_ids;
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let before = secrets.get("halted-binding").await.unwrap();
    assert_eq!(bed.behind("halted-ro").await.len(), 2);
    bed.ec2
        .world()
        .deny("StartInstances", Some("UnauthorizedOperation"));
    assert!(bed.ec2.world().stop(&ids[2]));
    eventually("clients are told of it no more", async || {
        bed.behind("halted-ro").await.len() == 1
    })
    .await;
    bed.until("halted", "it says so", |cluster| !ready(cluster)).await;
    let during = secrets.get("halted-binding").await.unwrap();
    assert_eq!(during.data, before.data);
    bed.ec2.world().deny("StartInstances", None);
    bed.until("halted", "it is ready again", ready).await;
    bed.stop().await;
}
