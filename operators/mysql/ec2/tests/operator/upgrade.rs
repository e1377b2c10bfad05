//! What an earlier release has left of a `MySQLCluster`, in Kubernetes and on EC2, is gone on with: nothing of it is touched, no
//! instance launched, stopped or changed; and it can be deleted.
//!
//! `golden/<version>.json` has every object of a namespace as the API server stored it under that release, its lease and the
//! definition among them, and the launches that EC2 was asked for. A release writes its own:
//! `GOLDEN=v0.1.0 cargo test --test operator -- can_be_recorded`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use fake_ec2::{FakeEc2, State};
use k8s_openapi::{
    api::core::v1::Secret, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use mysql_api::{MySQLCluster, cluster::FINALIZER};
use mysql_controller::{
    authority::Authority,
    bootstrap::tls_name,
    identity::CLUSTER_UID,
    server::{Acknowledgement, Address, Change, Servers as _},
};
use reconcile::{
    clock::Clock,
    leader::{LeaderConfig, Timing},
    manager::Options,
};
use serde_json::{Value, json};
use testkit::{
    audit::Filter,
    golden::{self, Upgrade},
};
use tokio_util::sync::CancellationToken;

use crate::{
    bed::{Bed, SPEED, ec2, eventually, manager, ready, sample, says, sdk},
    fleet::Fleet,
};

const NAME: &str = "golden";
const DEFINITION: &str = "mysqlclusters.mysql.alx.ke";
const OPERATOR: &str = "mysql-operator";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operator/golden")
}

/// Everything of a namespace that the operator makes.
const KINDS: [(&str, &str); 5] = [
    ("mysql.alx.ke/v1", "MySQLCluster"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("coordination.k8s.io/v1", "Lease"),
];

/// The lease that it leads by.
fn election(namespace: &str) -> LeaderConfig {
    let mut election = LeaderConfig::new(OPERATOR, namespace);
    election.timing = Timing::FAST;
    election
}

/// An instance that was launched.
struct Launched {
    id: String,
    address: String,
    region: String,
    params: BTreeMap<String, String>,
}

impl Launched {
    fn read(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str().unwrap().to_owned();
        Self {
            id: text("id"),
            address: text("address"),
            region: text("region"),
            params: serde_json::from_value(value["params"].clone()).unwrap(),
        }
    }

    fn value(&self) -> Value {
        json!({"id": self.id, "address": self.address, "region": self.region, "params": self.params})
    }
}

/// What a release leaves.
struct Left {
    definition: CustomResourceDefinition,
    objects: Vec<Value>,
    launches: Vec<Launched>,
    /// For how many replicas a commit waits on the primary, and for how many milliseconds.
    acknowledgement: (u32, u64),
}

impl Left {
    fn read(value: &Value) -> Self {
        let all = |key: &str| value[key].as_array().unwrap().clone();
        Self {
            definition: serde_json::from_value(value["definition"].clone()).unwrap(),
            objects: all("objects"),
            launches: all("launches").iter().map(Launched::read).collect(),
            acknowledgement: serde_json::from_value(value["acknowledgement"].clone()).unwrap(),
        }
    }

    fn value(&self) -> Value {
        let launches: Vec<_> = self.launches.iter().map(Launched::value).collect();
        json!({"definition": self.definition, "objects": self.objects, "launches": launches,
               "acknowledgement": self.acknowledgement})
    }

    fn cluster(&self) -> MySQLCluster {
        let found = self.objects.iter().find(|one| one["kind"] == "MySQLCluster");
        serde_json::from_value(found.unwrap().clone()).unwrap()
    }

    /// The instances as they were, in another world.
    fn launch(&self, ec2: &FakeEc2) {
        let world = ec2.world();
        for launch in &self.launches {
            let params: Vec<_> = launch
                .params
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect();
            world.ask(&launch.region, "RunInstances", &params).unwrap();
            let all = world.instances();
            let token = launch.params.get("ClientToken");
            let made = all.iter().find(|made| made.client_token.as_ref() == token);
            let made = made.unwrap();
            assert_eq!(made.address, launch.address);
            assert!(world.renumber(&made.id, &launch.id));
        }
    }

    /// The servers as they were: one leads, and the others follow it.
    async fn form(&self, fleet: &Fleet) {
        let (cluster, authority) = (self.cluster(), Authority::generate().unwrap());
        let (uid, status) = (cluster.uid().unwrap(), cluster.status.unwrap());
        let leader = status.topology.unwrap().primary;
        let addresses = status.members.iter().map(|member| {
            let id = member.instance_id.as_ref().unwrap();
            let launch = self.launches.iter().find(|launch| launch.id == *id).unwrap();
            let address = Address {
                host: launch.address.clone(),
                name: tls_name(&uid, member.ordinal),
                certificate: member.certificate.clone().unwrap(),
            };
            (member.ordinal, address)
        });
        let addresses: BTreeMap<i32, Address> = addresses.collect();
        let (replicas, timeout) = self.acknowledgement;
        let acknowledgement = Acknowledgement {
            enabled: true,
            replicas,
            timeout,
        };
        let head = &addresses[&leader];
        let mut changes = vec![
            (head, Change::CreateAccounts),
            (head, Change::Acknowledge(acknowledgement)),
        ];
        let others = addresses.iter().filter(|(ordinal, _)| **ordinal != leader);
        changes.extend(others.map(|(_, address)| (address, Change::Follow(head.clone()))));
        changes.push((head, Change::Open));
        for (address, change) in changes {
            fleet.change(&authority, address, &change).await.unwrap();
        }
    }
}

/// The objects, once nothing changes them any more; the lease apart, which its holder renews.
async fn settled(bed: &Bed) -> Vec<Value> {
    let (client, namespace) = (&bed.client, bed.namespace.name());
    let mut last = Vec::new();
    loop {
        let found = golden::objects(client, namespace, &KINDS).await.unwrap();
        let settled = found.iter().filter(|object| object["kind"] != "Lease");
        let settled: Vec<_> = settled.cloned().collect();
        if settled == last {
            return found;
        }
        last = settled;
        pass(bed.ec2.world().clock(), Duration::from_mins(3)).await;
    }
}

async fn pass(clock: &Clock, time: Duration) {
    let until = clock.elapsed() + time;
    eventually("time passes", async || clock.elapsed() > until).await;
}

async fn definition(client: &Client) -> CustomResourceDefinition {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let found = definitions.get(DEFINITION).await.unwrap();
    serde_json::from_value(json!({"metadata": {"name": DEFINITION}, "spec": found.spec})).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_release_leaves_of_a_cluster_can_be_recorded() {
    let bed = Bed::with(async |namespace, setup| {
        setup.options.leader_election = Some(election(namespace.name()));
    })
    .await;
    let mut spec = sample(3);
    spec["mySQLOptions"] = json!({"max_connections": "50"});
    spec["aws"]["tags"] = json!([{"key": "team", "value": "billing"}]);
    bed.create(NAME, spec).await;
    bed.until(NAME, "it has settled", |cluster| {
        ready(cluster) && says(cluster, "UpToDate", "True", "MembersCurrent")
    })
    .await;
    let objects = settled(&bed).await;
    for (_, kind) in KINDS {
        assert!(
            objects.iter().any(|object| object["kind"] == kind),
            "no {kind} is left"
        );
    }
    let world = bed.ec2.world();
    let calls = world.audit().into_iter();
    let calls: Vec<_> = calls
        .filter(|call| call.action == "RunInstances" && call.effective)
        .collect();
    let launches = world.instances().into_iter().map(|instance| {
        let token = instance.client_token.as_ref();
        let call = calls.iter().find(|call| call.params.get("ClientToken") == token);
        Launched {
            id: instance.id.clone(),
            address: instance.address.clone(),
            region: instance.region.clone(),
            params: call.unwrap().params.clone(),
        }
    });
    let launches: Vec<_> = launches.collect();
    assert_eq!(launches.len(), 3);
    let open = launches.iter().find(|one| bed.fleet.is_open(&one.id)).unwrap();
    let left = Left {
        definition: definition(&bed.client).await,
        objects,
        acknowledgement: bed.fleet.acknowledgement(&open.id),
        launches,
    };
    golden::record(&folder(), &left.value()).unwrap();
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_earlier_releases_have_left_of_a_cluster_is_not_touched_and_can_be_deleted() {
    for (release, left) in golden::releases::<Value>(&folder()).unwrap() {
        eprintln!("{release}");
        upgrade(&Left::read(&left)).await;
    }
}

async fn upgrade(left: &Left) {
    let upgrade = Upgrade::begin(std::slice::from_ref(&left.definition), &left.objects);
    let upgrade = upgrade.await.unwrap();
    let (plane, namespace) = (&upgrade.plane, upgrade.namespace());
    plane.apply_crds(&mysql_api::crds()).await.unwrap();
    let ec2 = ec2();
    let (world, fleet) = (ec2.world(), Fleet::new(ec2.world()));
    left.launch(&ec2);
    eventually("every instance runs", async || {
        world.instances().iter().all(|one| one.state == State::Running)
    })
    .await;
    left.form(&fleet).await;
    // Until the latest listing shows them so.
    pass(world.clock(), Duration::from_secs(10)).await;
    let before = world.audit().len();

    let mut options = Options::new(OPERATOR);
    options.namespaces = vec![namespace.to_owned()];
    options.clock = Clock::accelerated(SPEED);
    options.leader_election = Some(election(namespace));
    let shutdown = CancellationToken::new();
    let manager = manager(options, plane.config().clone(), &sdk(&ec2.endpoint()), fleet);
    let running = tokio::spawn(manager.run(shutdown.clone()));
    // Which it reads anew every five minutes only.
    let reads = Filter::all().user_agent(OPERATOR).resource("secrets").verb("get");
    let audit = plane.audit();
    eventually("the new operator has looked at everything twice", async || {
        let read = audit.query(&plane.client(), upgrade.begin, &reads).await.unwrap();
        let of = |name: &str| {
            let named = read.iter().filter(|event| {
                let object = event.object_ref.as_ref();
                object.is_some_and(|object| object.name == name)
            });
            named.count()
        };
        of("golden-binding") >= 2 && of("golden-operator") >= 2
    })
    .await;
    upgrade.untouched(OPERATOR).await.unwrap();
    let audit = world.audit();
    let effective: Vec<_> = audit[before..].iter().filter(|call| call.effective).collect();
    assert!(effective.is_empty(), "{effective:#?}");

    let clusters: Api<MySQLCluster> = Api::namespaced(plane.client(), namespace);
    let cluster = clusters.get(NAME).await.unwrap();
    assert!(ready(Some(&cluster)) && cluster.finalizers() == [FINALIZER]);
    let uid = cluster.uid().unwrap();
    assert_eq!(world.live(CLUSTER_UID, &uid).len(), 3);
    clusters.delete(NAME, &DeleteParams::default()).await.unwrap();
    eventually("it is gone", async || {
        clusters.get_opt(NAME).await.unwrap().is_none()
    })
    .await;
    assert!(world.live(CLUSTER_UID, &uid).is_empty() && world.volumes().is_empty());
    let secrets: Api<Secret> = Api::namespaced(plane.client(), namespace);
    let secrets = secrets.list(&ListParams::default()).await.unwrap();
    let names: Vec<_> = secrets.iter().map(kube::ResourceExt::name_any).collect();
    assert_eq!(names, [""; 0]);
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
