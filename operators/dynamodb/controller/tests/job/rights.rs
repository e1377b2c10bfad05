//! The rights in Kubernetes that the operator documents are those that it needs, all of them and no others.

use std::{collections::BTreeMap, fmt::Debug};

use dynamodb_api::{DdbctlDpJob, DdbctlDpJobSpec};
use dynamodb_controller::manager;
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Namespace, Secret},
        rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{ListParams, PostParams},
};
use reconcile::{
    clock::Clock,
    conditions,
    leader::{LeaderConfig, Timing},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use testkit::{
    audit::{Event, Filter, Rights},
    control_plane::TestNamespace,
    progress,
};

use crate::{
    bed::{BYSTANDERS, Bed, VICTIM, eventually, server},
    operator::Operator,
};

/// Denied work is tried again after minutes: this clock makes them tenths of a second.
const FAST: u32 = 1000;

/// The operator's account, bound to the documented roles in a bed's namespace, which it serves, and in that of its lease.
struct Account {
    user: String,
    role: String,
    own: TestNamespace,
}

/// The manifests that stand beside the source, and that the operator is installed with.
fn documented() -> Vec<Value> {
    serde_saphyr::from_multiple(include_str!("../../rbac.yaml")).unwrap()
}

impl Account {
    /// Creates the roles, with the rules of the first changed by `adjust`, and binds them.
    async fn new(bed: &Bed, adjust: impl Fn(&mut Vec<PolicyRule>)) -> Self {
        let (namespace, own) = (bed.namespace.name(), bed.plane.namespace().await.unwrap());
        let unique = |name: &str| format!("{name}-{namespace}");
        let owner = owner(bed).await;
        let mut role = String::new();
        for document in documented() {
            let name = document["metadata"]["name"].as_str().unwrap().to_owned();
            if document["kind"] == "Role" {
                let mut of: Role = serde_json::from_value(document).unwrap();
                of.metadata.namespace = Some(own.name().to_owned());
                create(Api::namespaced(bed.plane.client(), own.name()), &of).await;
                bind(bed, own.name(), "Role", &name).await;
                continue;
            }
            let mut of: ClusterRole = serde_json::from_value(document).unwrap();
            let everywhere = name.ends_with("-definitions");
            if !everywhere {
                adjust(of.rules.as_mut().unwrap());
                role = unique(&name);
            }
            // Others' tests run on the same API server: a name of its own, and gone with the namespace.
            of.metadata.name = Some(unique(&name));
            of.metadata.owner_references = Some(vec![owner.clone()]);
            create(Api::all(bed.plane.client()), &of).await;
            if everywhere {
                let mut binding: ClusterRoleBinding =
                    serde_json::from_value(binding(namespace, "ClusterRole", &unique(&name))).unwrap();
                binding.metadata.owner_references = Some(vec![owner.clone()]);
                create(Api::all(bed.plane.client()), &binding).await;
            } else {
                bind(bed, namespace, "ClusterRole", &unique(&name)).await;
            }
        }
        let user = format!("system:serviceaccount:{namespace}:operator");
        Self { user, role, own }
    }

    /// An operator that acts as this account, by lease.
    fn operator(&self, bed: &Bed) -> Operator {
        let mut config = bed.plane.config().clone();
        config.auth_info.impersonate = Some(self.user.clone());
        let namespace = bed.namespace.name();
        Operator::start(config, &[namespace], &bed.endpoint(), |options, _| {
            let mut election = LeaderConfig::new(manager::NAME, self.own.name());
            election.timing = Timing::DEFAULT;
            options.leader_election = Some(election);
            options.clock = Clock::accelerated(FAST);
        })
    }

    /// Gives the account the documented rights after all.
    async fn mend(&self, bed: &Bed) {
        let roles: Api<ClusterRole> = Api::all(bed.plane.client());
        let mut role = roles.get(&self.role).await.unwrap();
        let whole: ClusterRole = serde_json::from_value(documented().remove(0)).unwrap();
        role.rules = whole.rules;
        roles
            .replace(&self.role, &PostParams::default(), &role)
            .await
            .unwrap();
    }

    /// The documented rules, each with the namespace where they are granted.
    fn rules(&self, bed: &Bed) -> Vec<(String, Vec<PolicyRule>)> {
        let granted = |mut document: Value| {
            let rules = serde_json::from_value(document["rules"].take()).unwrap();
            let name = document["metadata"]["name"].as_str().unwrap();
            let place = match document["kind"].as_str() {
                Some("Role") => self.own.name(),
                _ if name.ends_with("-definitions") => "",
                _ => bed.namespace.name(),
            };
            (place.to_owned(), rules)
        };
        documented().into_iter().map(granted).collect()
    }

    async fn requests(&self, bed: &Bed) -> Vec<Event> {
        let client = bed.plane.client();
        let theirs = Filter::all().username(&self.user);
        let audit = bed.plane.audit();
        audit.query(&client, bed.begin, &theirs).await.unwrap()
    }
}

async fn owner(bed: &Bed) -> OwnerReference {
    let namespaces: Api<Namespace> = Api::all(bed.plane.client());
    let namespace = namespaces.get(bed.namespace.name()).await.unwrap();
    namespace.owner_ref(&()).unwrap()
}

async fn create<K>(api: Api<K>, object: &K)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    api.create(&PostParams::default(), object).await.unwrap();
}

fn binding(namespace: &str, kind: &str, role: &str) -> Value {
    json!({
        "metadata": { "name": role },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
        "subjects": [{ "kind": "ServiceAccount", "name": "operator", "namespace": namespace }],
    })
}

/// Grants a role in one namespace alone.
async fn bind(bed: &Bed, place: &str, kind: &str, role: &str) {
    let of: RoleBinding = serde_json::from_value(binding(bed.namespace.name(), kind, role)).unwrap();
    create(Api::namespaced(bed.plane.client(), place), &of).await;
}

fn with_secret(bed: &Bed) -> DdbctlDpJobSpec {
    DdbctlDpJobSpec {
        credentials: serde_json::from_value(json!({ "secretRef": { "name": "aws" } })).unwrap(),
        ..bed.spec()
    }
}

async fn put_secret(bed: &Bed) {
    let secret = json!({
        "metadata": { "name": "aws" },
        "stringData": { "AWS_ACCESS_KEY_ID": "JOBSOWN", "AWS_SECRET_ACCESS_KEY": "x" },
    });
    let secret: Secret = serde_json::from_value(secret).unwrap();
    create(Api::namespaced(bed.plane.client(), bed.namespace.name()), &secret).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_rights_are_enough_for_a_jobs_whole_life_and_none_is_left_over() {
    let bed = Bed::new(server().await, 50).await;
    let account = Account::new(&bed, |_| {}).await;
    // One leads, the other watches the lease.
    let (one, other) = (account.operator(&bed), account.operator(&bed));
    bed.create("x", with_secret(&bed)).await;
    // A warning that is repeated raises the count of its event.
    bed.until("x", "Unknown", "CredentialsMissing").await;
    eventually("the event is counted", async || {
        let event = bed.until_event("x", "CredentialsMissing").await;
        if event.series.is_some() {
            Ok(())
        } else {
            Err("once".to_owned())
        }
    })
    .await;
    put_secret(&bed).await;
    bed.until("x", "True", "PartitionEmpty").await;
    // Once more, over the record of the first run.
    bed.delete("x").await;
    bed.until_gone("x").await;
    bed.fill(VICTIM, 0..40).await;
    let mut again = DdbctlDpJob::new("x", with_secret(&bed));
    let allow = ("dynamoctl.dp.operators.sanjivmadhavan.io/allow-rerun", "true");
    again.metadata.annotations = Some(BTreeMap::from([(allow.0.to_owned(), allow.1.to_owned())]));
    bed.jobs.create(&PostParams::default(), &again).await.unwrap();
    bed.until("x", "True", "PartitionEmpty").await;
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    one.stop().await;
    other.stop().await;

    let requests = account.requests(&bed).await;
    let rights = Rights::of(account.rules(&bed), &requests, &[]);
    progress::line(&format!("dynamoctl\n{rights}"));
    rights.prove().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_named_in_an_event_and_the_job_goes_on_once_it_is_there() {
    for (resource, verb, told) in [
        ("secrets", "get", "read Secret"),
        ("configmaps", "create", "create ConfigMap"),
    ] {
        let bed = Bed::new(server().await, 50).await;
        let account = Account::new(&bed, |rules| {
            for rule in rules {
                if rule.resources.iter().flatten().any(|of| of == resource) {
                    rule.verbs.retain(|of| of != verb);
                    // A rule without verbs is none, and is refused.
                    rule.verbs.push("watch".to_owned());
                }
            }
        })
        .await;
        let operator = account.operator(&bed);
        put_secret(&bed).await;
        bed.create("x", with_secret(&bed)).await;
        let event = bed.until_event("x", "PermissionDenied").await;
        let note = event.note.unwrap();
        let named = [
            told,
            &account.user,
            &format!("cannot {verb} resource \"{resource}\""),
        ];
        assert!(named.iter().all(|word| note.contains(word)), "{named:?}: {note}");
        let status = bed.status("x").await;
        let summary = conditions::find(&status.conditions, "Succeeded");
        assert!(summary.is_none_or(|told| told.status == "Unknown"), "{summary:?}");
        account.mend(&bed).await;
        bed.until("x", "True", "PartitionEmpty").await;
        operator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_in_one_tenants_namespace_reach_nothing_of_another_tenant() {
    let bed = Bed::new(server().await, 50).await;
    let account = Account::new(&bed, |_| {}).await;
    let neighbour = bed.plane.namespace().await.unwrap();
    let jobs: Api<DdbctlDpJob> = Api::namespaced(bed.plane.client(), neighbour.name());
    let theirs = DdbctlDpJob::new("theirs", bed.spec());
    jobs.create(&PostParams::default(), &theirs).await.unwrap();
    let operator = account.operator(&bed);
    bed.create("x", bed.spec()).await;
    bed.until("x", "True", "PartitionEmpty").await;
    let job = jobs.get("theirs").await.unwrap();
    assert!(job.status.is_none() && job.finalizers().is_empty(), "{job:?}");

    let client = bed.plane.client_as(&account.user, &[]);
    let (ours, theirs) = (bed.namespace.name(), neighbour.name());
    let jobs = |of: &str| Api::<DdbctlDpJob>::namespaced(client.clone(), of);
    assert!(jobs(ours).list(&ListParams::default()).await.is_ok());
    let read_secret = Api::<Secret>::namespaced(client.clone(), theirs).get("aws").await;
    let read_record = Api::<ConfigMap>::namespaced(client.clone(), theirs)
        .get("x")
        .await;
    for refused in [
        jobs(theirs).list(&ListParams::default()).await.err(),
        read_secret.err(),
        read_record.err(),
    ] {
        let forbidden = matches!(&refused, Some(kube::Error::Api(status)) if status.code == 403);
        assert!(forbidden, "{refused:?}");
    }
    operator.stop().await;
}
