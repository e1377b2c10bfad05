//! What a cluster has made in its namespace, when the cluster goes.

use k8s_openapi::api::{
    core::v1::{Secret, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, PropagationPolicy},
};
use mysql_api::{MySQLCluster, cluster::ABANDON};
use mysql_controller::identity::{CLUSTER_UID, RETAINED, TOMBSTONE};
use reconcile::Kind;
use serde_json::json;
use testkit::control_plane::{ControlPlane, TestNamespace};

use crate::{
    bed::{Bed, eventually, message, ready, sample, says},
    rights,
};

impl Bed {
    /// What of a cluster is in its namespace besides itself.
    pub(crate) async fn left_in_namespace(&self, name: &str) -> Vec<String> {
        let (client, namespace) = (&self.client, self.namespace.name());
        let mut left = names::<Secret>(client, namespace).await;
        left.extend(names::<Service>(client, namespace).await);
        left.extend(names::<EndpointSlice>(client, namespace).await);
        left.retain(|one| one.starts_with(name));
        left.sort();
        left
    }

    /// The Secrets of a cluster that somebody owns.
    async fn owned(&self, name: &str) -> Vec<String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), self.namespace.name());
        let all = api.list(&ListParams::default()).await.unwrap();
        let owned = all.iter().filter(|secret| !secret.owner_references().is_empty());
        let names = owned.map(kube::ResourceExt::name_any);
        names.filter(|one| one.starts_with(name)).collect()
    }
}

async fn names<K: Kind>(client: &Client, namespace: &str) -> Vec<String> {
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let all = api.list(&ListParams::default()).await.unwrap();
    all.iter().map(kube::ResourceExt::name_any).collect()
}

/// `--cascade=orphan`.
fn orphaning() -> DeleteParams {
    DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    }
}

fn is_gone(cluster: Option<&MySQLCluster>) -> bool {
    cluster.is_none()
}

/// Kubernetes would remove it as the cluster's own, were it not told to leave that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_cluster_whose_instances_stay_nothing_stays_but_the_keys_that_reach_them() {
    let bed = Bed::new().await;
    let mut spec = sample(1);
    spec["deletionPolicy"] = json!("Retain");
    bed.create("retained", spec.clone()).await;
    bed.create("given-up", spec.clone()).await;
    bed.create("let-go", spec).await;
    bed.create("abandoned", sample(1)).await;
    let keys = |name: &str| vec![format!("{name}-binding"), format!("{name}-operator")];
    for (name, tag, params, kept) in [
        ("retained", RETAINED, orphaning(), keys("retained")),
        ("given-up", RETAINED, orphaning(), keys("given-up")),
        ("let-go", RETAINED, DeleteParams::default(), keys("let-go")),
        ("abandoned", TOMBSTONE, orphaning(), Vec::new()),
    ] {
        let cluster = bed.until(name, "it is ready", ready).await.unwrap();
        let uid = cluster.uid().unwrap();
        assert!(bed.left_in_namespace(name).await.len() >= 7);
        if name != "retained" {
            bed.patch(name, json!({"metadata": {"annotations": {ABANDON: uid}}}))
                .await;
        }
        bed.clusters.delete(name, &params).await.unwrap();
        bed.until(name, "it is gone", is_gone).await;
        assert_eq!(bed.left_in_namespace(name).await, kept);
        assert!(
            bed.owned(name).await.is_empty(),
            "Kubernetes removes what has an owner"
        );
        let live = bed.ec2.world().live(CLUSTER_UID, &uid);
        assert!(live.len() == 1 && live[0].tags.get(tag) == Some(&uid));
    }
    bed.stop().await;
}

/// Where Kubernetes removes it after the cluster nobody waits for that; where it does not, the deletion says what it may not do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_missing_at_the_end_holds_a_deletion_up_only_where_something_would_be_left() {
    let plane = ControlPlane::shared().await.unwrap();
    let lacking = ("endpointslices", "delete");
    let bed = Bed::with(async |namespace: &TestNamespace, setup| {
        let name = namespace.name();
        rights::grant(&plane.client(), name, name, Some(lacking)).await;
        rights::adjust(name, name, &mut setup.config, &mut setup.options);
    })
    .await;
    for name in ["owned", "left"] {
        bed.create(name, sample(1)).await;
    }
    bed.until("owned", "it is ready", ready).await;
    let params = DeleteParams::default();
    bed.clusters.delete("owned", &params).await.unwrap();
    bed.until("owned", "it is gone", is_gone).await;
    eventually("Kubernetes has removed the rest", async || {
        bed.left_in_namespace("owned").await.is_empty()
    })
    .await;

    bed.until("left", "it is ready", ready).await;
    bed.clusters.delete("left", &orphaning()).await.unwrap();
    let told = |cluster: Option<&MySQLCluster>| {
        let text = message(cluster, "DeletionBlocked").unwrap_or_default();
        says(cluster, "DeletionBlocked", "True", "CredentialsInvalid")
            && text.contains(&format!("EndpointSlice {}/left", bed.namespace.name()))
    };
    bed.until("left", "it says what it may not do", told).await;
    rights::permit(&plane.client(), bed.namespace.name()).await;
    bed.until("left", "it is gone", is_gone).await;
    assert!(bed.left_in_namespace("left").await.is_empty());
    bed.stop().await;
}
