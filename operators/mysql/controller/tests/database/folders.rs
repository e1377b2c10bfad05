//! In a cluster without any StorageClass, where volumes are folders of nodes: no Pod finds the folder of another node.
//!
//! The nodes that are played here put each Pod on another node than the last one, wherever its volumes let them.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    batch::v1::Job,
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::bed::{Bed, message, says, spec};

pub(crate) const HOSTNAME: &str = "kubernetes.io/hostname";

/// The volumes of this bed, as JSON.
async fn volumes(bed: &Bed) -> Vec<Value> {
    let all: Api<PersistentVolume> = Api::all(bed.client.clone());
    let all = all.list(&ListParams::default()).await.unwrap().items;
    let all = all.iter().map(|volume| serde_json::to_value(volume).unwrap());
    all.filter(|volume| volume["spec"]["claimRef"]["namespace"] == bed.namespace.name())
        .filter(|volume| volume["metadata"]["deletionTimestamp"].is_null())
        .collect()
}

/// The one label that the volume of this claim is tied by.
async fn tied(bed: &Bed, claim: &str) -> Option<String> {
    let all = volumes(bed).await;
    let volume = all
        .iter()
        .find(|volume| volume["spec"]["claimRef"]["name"] == claim)?;
    let terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"].as_array()?;
    assert_eq!(terms.len(), 1, "{terms:?}");
    let expressions = terms[0]["matchExpressions"].as_array().unwrap();
    assert_eq!(expressions.len(), 1, "{expressions:?}");
    assert_eq!(
        (&expressions[0]["key"], &expressions[0]["operator"]),
        (&json!(HOSTNAME), &json!("In"))
    );
    Some(expressions[0]["values"][0].as_str().unwrap().to_owned())
}

/// What the claim says of where it is.
pub(crate) async fn noted(bed: &Bed, claim: &str) -> Option<String> {
    let claim = bed.api::<PersistentVolumeClaim>().get(claim).await.unwrap();
    claim.annotations().get("otus.homework/node").cloned()
}

/// The nodes that these Pods were given.
pub(crate) async fn nodes_of(bed: &Bed, selector: &str) -> Vec<String> {
    let params = ListParams::default().labels(selector);
    let all = bed.api::<Pod>().list(&params).await.unwrap().items;
    all.into_iter().filter_map(|pod| pod.spec?.node_name).collect()
}

/// Takes the server's Pod away, and waits for another.
async fn move_server(bed: &Bed, name: &str) {
    let params = ListParams::default().labels(&format!("app={name}"));
    let pods = bed.api::<Pod>();
    for pod in pods.list(&params).await.unwrap().items {
        let now = DeleteParams::default().grace_period(0);
        pods.delete(&pod.name_any(), &now).await.unwrap();
        bed.eventually("there is another Pod", async || {
            let all = pods.list(&params).await.unwrap().items;
            all.iter().any(|other| other.uid() != pod.uid())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_storage_class_two_of_one_name_have_folders_of_their_own() {
    let ((mut one, _), (mut other, _)) = (Bed::of_folders(2).await, Bed::of_folders(2).await);
    let mut paths = BTreeSet::new();
    for bed in [&mut one, &mut other] {
        bed.start();
        bed.create("same", spec(&json!({}))).await;
    }
    for bed in [&one, &other] {
        bed.ready("same").await;
        let all = volumes(bed).await;
        assert_eq!(all.len(), 2, "{all:?}");
        paths.extend(
            all.iter()
                .map(|volume| volume["spec"]["hostPath"]["path"].to_string()),
        );
    }
    assert_eq!(paths.len(), 4, "{paths:?}");
    one.delete("same").await;
    one.gone("same").await;
    one.eventually("its data volume is gone, and only that", async || {
        volumes(&one).await.len() == 1 && volumes(&other).await.len() == 2
    })
    .await;
    other.ready("same").await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_and_its_backups_stay_on_their_node_and_so_does_the_next_of_the_name() {
    let (mut bed, _) = Bed::of_folders(3).await;
    bed.start();
    bed.create("home", spec(&json!({}))).await;
    bed.ready("home").await;
    let home = tied(&bed, "home-pvc").await.unwrap();
    assert_eq!(
        tied(&bed, "backup-home-pvc").await.as_ref(),
        Some(&home),
        "the Pod that restores has both"
    );
    let node = noted(&bed, "home-pvc").await.unwrap();
    assert_eq!(home, format!("host-of-{node}"));
    assert!(bed.kubelet.disks.write(&bed.data("home").await, "row"));
    for _ in 0..2 {
        move_server(&bed, "home").await;
        bed.eventually("it is on a node", async || {
            !nodes_of(&bed, "app=home").await.is_empty()
        })
        .await;
        assert_eq!(nodes_of(&bed, "app=home").await, std::slice::from_ref(&node));
        bed.ready("home").await;
    }
    bed.delete("home").await;
    bed.gone("home").await;

    // Before any Pod is put anywhere the new volume is where the backups are.
    bed.kubelet.be_full(true);
    bed.create("home", spec(&json!({}))).await;
    bed.eventually("there is another volume", async || {
        bed.has_claim("home-pvc").await
    })
    .await;
    assert_eq!(tied(&bed, "home-pvc").await.as_ref(), Some(&home));
    assert_eq!(noted(&bed, "home-pvc").await.as_ref(), Some(&node));
    bed.kubelet.be_full(false);
    let object = bed.ready("home").await;
    assert!(says(Some(&object), "RestoreDone", "True", "Restored"));
    let data = bed.data("home").await;
    assert_eq!(bed.kubelet.disks.rows(&data).unwrap(), ["row"]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_is_tried_again_is_tried_on_the_same_node() {
    let (mut bed, _) = Bed::of_folders(2).await;
    bed.kubelet.hold("restore", "");
    bed.start();
    bed.create("again", spec(&json!({}))).await;
    for claim in ["again-pvc", "backup-again-pvc"] {
        bed.eventually("it is tied before anything was done", async || {
            tied(&bed, claim).await.is_some()
        })
        .await;
    }
    bed.kubelet
        .break_("restore", 1, json!({"reason": "Unexplained", "error": "killed"}));
    bed.kubelet.let_go("restore");
    bed.eventually("an attempt has failed", async || {
        let job = bed.api::<Job>().get_opt("restore-again-job").await.unwrap();
        let failed = job.and_then(|job| job.status?.failed);
        failed.is_some_and(|failed| failed > 0)
    })
    .await;
    bed.kubelet.repair("restore");
    bed.ready("again").await;
    let nodes: BTreeSet<_> = nodes_of(&bed, "batch.kubernetes.io/job-name=restore-again-job")
        .await
        .into_iter()
        .collect();
    assert_eq!(nodes.len(), 1, "{nodes:?}");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_volume_is_made_again_on_the_node_with_the_backups() {
    let (mut bed, _) = Bed::of_folders(2).await;
    bed.start();
    bed.create("claimless", spec(&json!({}))).await;
    bed.ready("claimless").await;
    assert!(bed.kubelet.disks.write(&bed.data("claimless").await, "row"));
    let now = json!({"metadata": {"annotations": {"otus.homework/backup-now": "1"}}});
    bed.patch("claimless", now).await;
    bed.until("claimless", "a backup is there", |object| {
        says(object, "BackupTaken", "True", "BackupDone")
    })
    .await;
    let (before, home) = (bed.data("claimless").await, tied(&bed, "claimless-pvc").await);
    let claims = bed.api::<PersistentVolumeClaim>();
    claims
        .delete("claimless-pvc", &DeleteParams::default())
        .await
        .unwrap();
    let server = ListParams::default().labels("app=claimless");
    bed.api::<Pod>()
        .delete_collection(&DeleteParams::default(), &server)
        .await
        .unwrap();
    bed.eventually("there is another volume", async || {
        let found = claims.get_opt("claimless-pvc").await.unwrap();
        found.is_some_and(|found| found.metadata.uid.as_ref() != Some(&before))
    })
    .await;
    assert_eq!(tied(&bed, "claimless-pvc").await, home);
    bed.until("claimless", "it is restored", |object| {
        says(object, "RestoreDone", "True", "Restored")
    })
    .await;
    bed.ready("claimless").await;
    let data = bed.data("claimless").await;
    assert_eq!(bed.kubelet.disks.rows(&data).unwrap(), ["row"]);
    bed.stop().await;
}

/// Nodes come to Pods that had none: to the operator, folders that nobody has tied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_that_an_older_operator_has_left_are_tied_where_they_are_seen() {
    let mut bed = Bed::on(crate::bed::classless().await).await;
    bed.start();
    bed.create("older", spec(&json!({}))).await;
    bed.ready("older").await;
    assert!(bed.kubelet.disks.write(&bed.data("older").await, "row"));
    for claim in ["older-pvc", "backup-older-pvc"] {
        assert_eq!((tied(&bed, claim).await, noted(&bed, claim).await), (None, None));
    }
    let nodes = bed.kubelet.nodes(&bed.client, bed.namespace.name(), 2).await;
    let nodes = nodes.unwrap();
    for claim in ["older-pvc", "backup-older-pvc"] {
        bed.eventually("it is tied", async || noted(&bed, claim).await.is_some())
            .await;
    }
    let node = noted(&bed, "older-pvc").await.unwrap();
    assert!(nodes.contains(&node));
    assert_eq!(nodes_of(&bed, "app=older").await, std::slice::from_ref(&node));
    assert_eq!(tied(&bed, "older-pvc").await, Some(format!("host-of-{node}")));
    move_server(&bed, "older").await;
    bed.ready("older").await;
    bed.delete("older").await;
    bed.gone("older").await;
    bed.create("older", spec(&json!({}))).await;
    bed.ready("older").await;
    assert_eq!(bed.kubelet.disks.rows(&bed.data("older").await).unwrap(), ["row"]);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_gone_is_told_and_so_is_one_without_its_label() {
    let (mut bed, nodes) = Bed::of_folders(1).await;
    let all: Api<Node> = Api::all(bed.client.clone());
    let relabel = async |value: Option<&str>| {
        let patch = Patch::Merge(json!({"metadata": {"labels": {HOSTNAME: value}}}));
        all.patch(&nodes[0], &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    relabel(None).await;
    bed.start();
    bed.create("lost", spec(&json!({}))).await;
    let object = bed
        .until("lost", "the label is missed", |object| {
            says(object, "Ready", "False", "WaitingForVolume")
        })
        .await
        .unwrap();
    let text = message(&object, "Ready");
    assert!(text.contains(&nodes[0]) && text.contains(HOSTNAME), "{text}");
    relabel(Some("again")).await;
    bed.ready("lost").await;
    assert_eq!(tied(&bed, "lost-pvc").await.as_deref(), Some("again"));

    all.delete(&nodes[0], &DeleteParams::default()).await.unwrap();
    move_server(&bed, "lost").await;
    let gone = format!(
        "lost-pvc and backup-lost-pvc are folders of node {}, which is gone",
        nodes[0]
    );
    bed.until("lost", "where its volumes are is told", |object| {
        says(object, "ServerReady", "False", "ServerFailing")
            && object.is_some_and(|object| message(object, "ServerReady").contains(&gone))
    })
    .await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_was_inherited_goes_with_its_claim_and_its_folder_is_told() {
    let (mut bed, _) = Bed::of_folders(1).await;
    bed.start();
    bed.create("heir", spec(&json!({"deletionPolicy": "Retain"})))
        .await;
    bed.ready("heir").await;
    let object = bed.databases.get("heir").await.unwrap();
    bed.delete("heir").await;
    bed.gone("heir").await;
    bed.create("heir", spec(&json!({}))).await;
    bed.ready("heir").await;
    bed.delete("heir").await;
    bed.gone("heir").await;
    let all = volumes(&bed).await;
    let mut claims = all.iter().map(|volume| &volume["spec"]["claimRef"]["name"]);
    assert!(claims.all(|claim| claim == "backup-heir-pvc"), "{all:#?}");
    let folder = format!("/var/lib/mysql-operator/mysql-{}-data", object.uid().unwrap());
    bed.eventually("an event names the folder", async || {
        let events = bed.api::<k8s_openapi::api::events::v1::Event>();
        let events = events.list(&ListParams::default()).await.unwrap().items;
        let mut notes = events.iter().filter_map(|event| event.note.as_deref());
        notes.any(|note| note.contains(&folder))
    })
    .await;
    bed.stop().await;
}

/// Keeps everybody from making volumes for this namespace, in the words of a role that does not allow it.
async fn forbid(bed: &Bed) {
    let name = bed.namespace.name();
    let allowed = format!("!has(object.spec.claimRef) || object.spec.claimRef.namespace != '{name}'");
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                        "resources": ["persistentvolumes"]}]);
    let policy = json!({"metadata": {"name": name}, "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": rules},
        "validations": [{"expression": allowed, "reason": "Forbidden"}]}});
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(bed.client.clone());
    let policy = serde_json::from_value(policy).unwrap();
    policies.create(&PostParams::default(), &policy).await.unwrap();
    let binding = json!({"metadata": {"name": name},
                         "spec": {"policyName": name, "validationActions": ["Deny"]}});
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(bed.client.clone());
    let binding = serde_json::from_value(binding).unwrap();
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    let volume = json!({"metadata": {"name": name}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/nowhere"},
        "claimRef": {"namespace": name, "name": "any"}}});
    let volume: PersistentVolume = serde_json::from_value(volume).unwrap();
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let volumes: Api<PersistentVolume> = Api::all(bed.client.clone());
    bed.eventually("the policy is kept", async || {
        volumes.create(&dry, &volume).await.is_err()
    })
    .await;
}

async fn allow(bed: &Bed) {
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(bed.client.clone());
    let name = bed.namespace.name();
    bindings.delete(name, &DeleteParams::default()).await.unwrap();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(bed.client.clone());
    policies.delete(name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_that_the_operator_may_not_make_are_said_until_it_may() {
    let (mut bed, _) = Bed::of_folders(1).await;
    forbid(&bed).await;
    bed.start();
    bed.create("role", spec(&json!({}))).await;
    let object = bed
        .until("role", "it is said", |object| {
            says(object, "Ready", "False", "VolumesForbidden")
        })
        .await
        .unwrap();
    assert!(message(&object, "Ready").contains("install a StorageClass"));
    allow(&bed).await;
    bed.ready("role").await;
    // The same of the other volume is no trouble of the server's.
    forbid(&bed).await;
    let claims = bed.api::<PersistentVolumeClaim>();
    claims
        .delete("backup-role-pvc", &DeleteParams::default())
        .await
        .unwrap();
    bed.until("role", "it is said of the backups", |object| {
        says(object, "BackupTaken", "False", "VolumesForbidden") && says(object, "Ready", "True", "Serving")
    })
    .await;
    allow(&bed).await;
    bed.until("role", "it is over", |object| {
        says(object, "BackupTaken", "False", "NoBackupYet")
    })
    .await;
    bed.stop().await;
}
