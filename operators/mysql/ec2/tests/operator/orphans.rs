//! Instances without a cluster: what is reported, what is removed, what is taken over; and two operators in one account.

use fake_ec2::State;
use k8s_openapi::api::{core::v1::Secret, events::v1::Event};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy},
};
use mysql_api::{
    MySQLCluster,
    cluster::{ABANDON, ADOPT},
};
use mysql_controller::{
    identity::{CLUSTER_UID, OPERATOR_ID, RETAINED, TOMBSTONE},
    orphans::Policy,
};
use serde_json::json;

use crate::bed::{Bed, eventually, ready, sample, says};

impl Bed {
    /// The object goes without a cleanup, as with a Kubernetes cluster that is lost.
    async fn lose(&self, name: &str) {
        // Held, so that the operator cleans nothing up.
        self.patch(
            name,
            json!({"metadata": {"finalizers": ["test.example.com/hold"]}, "spec": {"paused": true}}),
        )
        .await;
        self.clusters
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
        self.patch(name, json!({"metadata": {"finalizers": null}})).await;
        self.until(name, "the object is gone", |cluster| cluster.is_none())
            .await;
    }

    async fn orphaned(&self, id: &str) -> bool {
        let events: Api<Event> = Api::namespaced(self.client.clone(), self.namespace.name());
        let all = events.list(&ListParams::default()).await.unwrap();
        all.iter().any(|event| {
            event.reason.as_deref() == Some("Orphaned") && event.note.as_deref().is_some_and(|note| {
                // Whoever reads it may be about to terminate a database of another Kubernetes cluster.
                let warns =
                    "an operator of the same id, mysql-operator, in another Kubernetes cluster may have it";
                note.contains(id) && (note.contains(warns) || note.contains("is terminated now"))
            })
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_databases_of_a_lost_cluster_are_reported_and_survive_although_orphans_are_deleted() {
    let bed = Bed::with(async |_, setup| setup.policy = Policy::Delete).await;
    bed.create("lost", sample(1)).await;
    let cluster = bed.until("lost", "it is ready", ready).await.unwrap();
    let id = cluster.status.unwrap().aws_instance_ids.remove(0);
    bed.lose("lost").await;
    // The same name again, and so another UID.
    bed.create("lost", sample(1)).await;
    bed.until("lost", "the new one is ready", ready).await;
    eventually("it is reported", async || bed.orphaned(&id).await).await;
    let kept = bed
        .ec2
        .world()
        .instances()
        .into_iter()
        .find(|one| one.id == id)
        .unwrap();
    assert_eq!(kept.state, State::Running);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_to_end_with_its_cluster_is_removed_when_that_is_asked_for() {
    let bed = Bed::with(async |_, setup| setup.policy = Policy::Delete).await;
    let mut spec = sample(1);
    spec["aws"]["terminationProtection"] = json!(true);
    let cluster = bed.create("left", spec).await;
    bed.until("left", "it is ready", ready).await;
    bed.clusters
        .delete("left", &DeleteParams::default())
        .await
        .unwrap();
    bed.until("left", "it says what blocks it", |cluster| {
        says(cluster, "DeletionBlocked", "True", "TerminationProtected")
    })
    .await;
    let uid = cluster.uid().unwrap();
    bed.patch("left", json!({"metadata": {"annotations": {ABANDON: uid}}}))
        .await;
    bed.until("left", "the object is gone", |cluster| cluster.is_none())
        .await;
    let left = bed.ec2.world().live(CLUSTER_UID, &uid).remove(0);
    assert_eq!(left.tags.get(TOMBSTONE), Some(&uid));
    eventually("it is reported", async || bed.orphaned(&left.id).await).await;
    // Protected, it stays; then it goes.
    let params = [
        ("InstanceId", left.id.as_str()),
        ("DisableApiTermination.Value", "false"),
    ];
    let world = bed.ec2.world();
    world
        .ask("us-east-1", "ModifyInstanceAttribute", &params)
        .unwrap();
    eventually("it is removed", async || world.live(CLUSTER_UID, &uid).is_empty()).await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphan_that_ec2_keeps_keeps_no_other() {
    let bed = Bed::with(async |_, setup| setup.policy = Policy::Delete).await;
    let mut spec = sample(3);
    spec["aws"]["terminationProtection"] = json!(true);
    let uid = bed.create("guarded", spec).await.uid().unwrap();
    bed.until("guarded", "it is ready", ready).await;
    bed.clusters
        .delete("guarded", &DeleteParams::default())
        .await
        .unwrap();
    bed.until("guarded", "it says what blocks it", |cluster| {
        says(cluster, "DeletionBlocked", "True", "TerminationProtected")
    })
    .await;
    bed.patch("guarded", json!({"metadata": {"annotations": {ABANDON: uid}}}))
        .await;
    bed.until("guarded", "the object is gone", |cluster| cluster.is_none())
        .await;
    let world = bed.ec2.world();
    let left = || -> Vec<String> {
        let live = world.live(CLUSTER_UID, &uid).into_iter();
        live.map(|instance| instance.id).collect()
    };
    let mut all = left();
    assert_eq!(all.len(), 3);
    // A sweep goes through them in the order of their ids, so that the one that stays comes first.
    all.sort();
    for id in &all[1..] {
        let params = [
            ("InstanceId", id.as_str()),
            ("DisableApiTermination.Value", "false"),
        ];
        world
            .ask("us-east-1", "ModifyInstanceAttribute", &params)
            .unwrap();
    }
    eventually("the others are removed", async || left() == all[..1]).await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_takes_over_the_instances_of_an_earlier_one_when_it_is_told_to() {
    let bed = Bed::new().await;
    bed.create("heir", sample(3)).await;
    let old = bed.until("heir", "it is ready", ready).await.unwrap();
    let from = old.uid().unwrap();
    let ids = old.status.unwrap().aws_instance_ids;
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let saved = secrets.get("heir-operator").await.unwrap();
    bed.lose("heir").await;

    // As it comes back from a backup: the Secret has another UID than it had, and no owner.
    let gone = secrets.delete("heir-operator", &DeleteParams::default()).await;
    // The garbage collector may have been faster.
    assert!(gone.is_ok() || matches!(&gone, Err(kube::Error::Api(status)) if status.code == 404));
    let spec = serde_json::from_value(sample(3)).unwrap();
    let mut heir = MySQLCluster::new("heir", spec);
    heir.annotations_mut().insert(ADOPT.into(), from.clone());
    bed.clusters.create(&PostParams::default(), &heir).await.unwrap();
    bed.until("heir", "it says what is missing", |cluster| {
        says(cluster, "Ready", "False", "AdoptionImpossible")
    })
    .await;
    assert_eq!(
        bed.ec2.world().instances().len(),
        3,
        "nothing is launched meanwhile"
    );
    let mut restored = saved;
    restored.metadata.owner_references = None;
    restored.metadata.resource_version = None;
    restored.metadata.uid = None;
    secrets.create(&PostParams::default(), &restored).await.unwrap();

    let new = bed.until("heir", "it is ready", ready).await.unwrap();
    let uid = new.uid().unwrap();
    let status = new.status.unwrap();
    assert_eq!(status.aws_instance_ids, ids, "the same instances");
    assert_eq!(status.primary.as_deref(), Some("heir-0"), "and the same primary");
    assert_eq!(bed.ec2.world().live(CLUSTER_UID, &uid).len(), 3);
    assert!(bed.ec2.world().live(CLUSTER_UID, &from).is_empty());
    bed.clusters
        .delete("heir", &DeleteParams::default())
        .await
        .unwrap();
    bed.until("heir", "it is gone", |cluster| cluster.is_none()).await;
    assert!(bed.ec2.world().live(CLUSTER_UID, &uid).is_empty());
    bed.stop().await;
}

/// With everything that is needed to reach them: nobody could log in otherwise. And once more, for who is taken over has a
/// certificate of the first cluster's for as long as it lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retained_instances_can_be_taken_over_with_the_accounts_that_they_have_again_and_again() {
    let bed = Bed::new().await;
    let mut spec = sample(3);
    spec["deletionPolicy"] = json!("Retain");
    bed.create("kept", spec.clone()).await;
    let old = bed.until("kept", "it is ready", ready).await.unwrap();
    let mut from = old.uid().unwrap();
    let ids = old.status.unwrap().aws_instance_ids;
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let names = ["kept-operator", "kept-binding"];
    let mut before = Vec::new();
    for name in names {
        before.push(secrets.get(name).await.unwrap());
    }
    // What outlives an instance is taken over with it.
    let world = bed.ec2.world();
    let blank = |volume: &String| world.snapshot_of(volume).is_none();
    let volumes: Vec<_> = world.volumes().into_iter().filter(blank).collect();
    assert!(volumes.len() == 3 && volumes.iter().all(|volume| world.keep(volume)));
    for policy in ["Retain", "Delete"] {
        bed.clusters
            .delete("kept", &DeleteParams::default())
            .await
            .unwrap();
        bed.until("kept", "it is gone", |cluster| cluster.is_none()).await;
        let live = world.live(CLUSTER_UID, &from);
        assert_eq!(live.len(), 3, "what they are known by stays on them");
        assert!(live.iter().all(|one| one.tags.get(RETAINED) == Some(&from)));
        for (name, before) in names.iter().zip(&before) {
            let after = secrets.get(name).await.unwrap();
            assert_eq!(after.uid(), before.uid());
            assert!(
                after.owner_references().is_empty(),
                "Kubernetes removes what has an owner that is gone"
            );
        }

        spec["deletionPolicy"] = json!(policy);
        let mut heir = MySQLCluster::new("kept", serde_json::from_value(spec.clone()).unwrap());
        heir.annotations_mut().insert(ADOPT.into(), from);
        bed.clusters.create(&PostParams::default(), &heir).await.unwrap();
        let new = bed.until("kept", "it is ready", ready).await.unwrap();
        from = new.uid().unwrap();
        let status = new.status.unwrap();
        assert_eq!(status.aws_instance_ids, ids, "the same instances");
        for (name, before) in names.iter().zip(&before) {
            let after = secrets.get(name).await.unwrap();
            assert_eq!(
                after.data.as_ref().unwrap().get("password"),
                before.data.as_ref().unwrap().get("password")
            );
            assert_eq!(after.owner_references()[0].uid, from, "{name}");
        }
    }
    bed.clusters
        .delete("kept", &DeleteParams::default())
        .await
        .unwrap();
    bed.until("kept", "it is gone", |cluster| cluster.is_none()).await;
    let all = world.instances();
    assert!(all.iter().all(|one| one.state == State::Terminated));
    assert!(world.volumes().is_empty());
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_that_somebody_takes_off_a_member_are_given_back_and_the_member_stays() {
    let bed = Bed::new().await;
    bed.create("bare", sample(1)).await;
    let cluster = bed.until("bare", "it is ready", ready).await.unwrap();
    let id = cluster.status.unwrap().aws_instance_ids.remove(0);
    bed.ec2.world().retag(&id, OPERATOR_ID, None);
    bed.ec2.world().retag(&id, CLUSTER_UID, Some("somebody-elses"));
    let uid = cluster.metadata.uid.unwrap();
    eventually("the tags are back", async || {
        let live = bed.ec2.world().live(CLUSTER_UID, &uid);
        live.iter()
            .any(|one| one.id == id && one.tags.contains_key(OPERATOR_ID))
    })
    .await;
    bed.until("bare", "it is ready again", ready).await;
    assert_eq!(
        bed.ec2.world().instances().len(),
        1,
        "nothing was launched in its place"
    );
    bed.stop().await;
}

/// Both with a cluster of the same name, in namespaces of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_operators_in_one_account_leave_each_others_instances_alone() {
    let one = Bed::with(async |_, setup| setup.policy = Policy::Delete).await;
    let account = one.ec2.endpoint();
    let other = Bed::beside(&one, async |_, setup| {
        setup.settings.operator_id = "other".into();
        setup.policy = Policy::Delete;
    })
    .await;
    assert_eq!(other.ec2.endpoint(), account);
    for bed in [&one, &other] {
        bed.create("same", sample(1)).await;
        bed.until("same", "it is ready", ready).await;
    }
    let all = one.ec2.world().instances();
    let of = |operator: &str| {
        all.iter()
            .filter(|instance| instance.tags[OPERATOR_ID] == operator)
            .count()
    };
    assert_eq!((of("mysql-operator"), of("other"), all.len()), (1, 1, 2));
    one.clusters
        .delete("same", &DeleteParams::default())
        .await
        .unwrap();
    one.until("same", "it is gone", |cluster| cluster.is_none()).await;
    assert_eq!(one.ec2.world().live(OPERATOR_ID, "other").len(), 1);
    assert!(ready(other.clusters.get_opt("same").await.unwrap().as_ref()));
    other.stop().await;
    one.stop().await;
}

/// `kubectl delete --force --grace-period=0`, and `--cascade=orphan`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_it_is_deleted_nothing_is_left() {
    let bed = Bed::new().await;
    let forced = DeleteParams::default().grace_period(0);
    let orphaning = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    // The last one has the name of one that is gone: nothing is in its way.
    for (name, params) in [
        ("forced", &forced),
        ("cascading", &orphaning),
        ("cascading", &orphaning),
    ] {
        bed.create(name, sample(2)).await;
        bed.until(name, "it is ready", ready).await;
        assert!(
            bed.left_in_namespace(name).await.len() >= 8,
            "keys, launches, Services, slices"
        );
        bed.clusters.delete(name, params).await.unwrap();
        bed.until(name, "it is gone", |cluster| cluster.is_none()).await;
        let left = bed.left_in_namespace(name).await;
        assert!(left.is_empty(), "{name}: {left:?}");
    }
    // Paused, it goes all the same.
    bed.create("paused", sample(1)).await;
    bed.until("paused", "it is ready", ready).await;
    bed.patch("paused", json!({"spec": {"paused": true}})).await;
    bed.clusters
        .delete("paused", &DeleteParams::default())
        .await
        .unwrap();
    bed.until("paused", "it is gone", |cluster| cluster.is_none())
        .await;
    let world = bed.ec2.world();
    let all = world.instances();
    assert_eq!(all.len(), 7);
    assert!(all.iter().all(|instance| instance.state == State::Terminated));
    assert!(world.volumes().is_empty() && world.interfaces().is_empty());
    bed.stop().await;
}

/// What `kubectl scale` sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scale_subresource_changes_the_number_of_members() {
    let bed = Bed::new().await;
    bed.create("scaled", sample(1)).await;
    bed.until("scaled", "it is ready", ready).await;
    let scale = json!({"spec": {"replicas": 3}});
    bed.clusters
        .patch_scale("scaled", &PatchParams::default(), &Patch::Merge(&scale))
        .await
        .unwrap();
    let three = |cluster: Option<&MySQLCluster>| {
        ready(cluster) && cluster.is_some_and(|one| one.status.as_ref().unwrap().members.len() == 3)
    };
    bed.until("scaled", "three are ready", three).await;
    let scale = bed.clusters.get_scale("scaled").await.unwrap();
    assert_eq!(scale.status.unwrap().replicas, 3);
    bed.stop().await;
}
