//! An operator in this process, an API server, and an EC2.

use std::{sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use fake_ec2::{FakeEc2, Limits, Options as Ec2Options, Timings};
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::{api::discovery::v1::EndpointSlice, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt as _, watcher::watch_object},
};
use mysql_api::{MySQLCluster, MySQLClusterSpec};
use mysql_controller::{
    act::Operator,
    controllers::{
        mysql,
        mysqlcluster::{self, Clusters},
    },
    desired::Settings,
    limiter::Limited,
    lookout::Lookout,
    metrics::ClusterMetrics,
    orphans::{Policy, Sweeper},
    reader::Reader,
    server::Servers,
};
use mysql_ec2::Ec2;
use reconcile::{
    Manager,
    clock::Clock,
    conditions,
    manager::{ManagerError, Options},
};
use serde_json::{Value, json};
use testkit::control_plane::{ControlPlane, TestNamespace};
use tokio_util::sync::CancellationToken;

use crate::fleet::Fleet;

/// How many times faster than real time everything happens.
pub(crate) const SPEED: u32 = 200;
/// Nothing waits for it in vain: it is how long a loaded machine may take.
const DEADLINE: Duration = Duration::from_mins(5);
/// How often instances on their way are looked at, in the clock's time. More seldom than in what ships, which at this
/// speed would do little else.
const LOOKS: Duration = Duration::from_secs(10);

pub(crate) fn ec2() -> FakeEc2 {
    FakeEc2::start(&Ec2Options {
        timings: Timings {
            lag: Duration::from_secs(5),
            ..Timings::default()
        },
        limits: Limits::Unlimited,
        clock: Clock::accelerated(SPEED),
        ..Ec2Options::default()
    })
    .unwrap()
}

/// An SDK configuration for this EC2.
pub(crate) fn sdk(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::from_keys("AKIDTEST", "secret", None);
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint)
        .build()
}

/// The operator as its binary assembles it.
pub(crate) fn manager(
    options: Options,
    plane: kube::Config,
    sdk: &SdkConfig,
    servers: impl Servers,
) -> Manager {
    let settings = Settings::default();
    assemble((options, plane), sdk, servers, (settings, Policy::Report))
}

/// As [`manager`], with these settings.
pub(crate) fn assemble(
    (options, plane): (Options, kube::Config),
    sdk: &SdkConfig,
    servers: impl Servers,
    (settings, policy): (Settings, Policy),
) -> Manager {
    let cloud = Arc::new(Limited::new(Ec2::new(sdk.clone()), options.clock.clone()));
    let operator = Operator {
        reader: Reader::new(cloud.clone(), &settings.operator_id, options.clock.clone()),
        cloud,
        operator_id: settings.operator_id.clone(),
        clock: options.clock.clone(),
    };
    let manager = Manager::new(options, plane);
    let metrics = ClusterMetrics::new(manager.metrics().registry()).unwrap();
    let sweeper = Sweeper::new(&operator, settings.regions(), policy, metrics.clone());
    let (databases, former) = mysql::controllers(4);
    let (lookout, changes) = Lookout::new(&operator.reader, &operator.clock, LOOKS);
    let clusters = Clusters::new(operator, lookout.clone(), servers, settings, metrics);
    manager
        .register(mysqlcluster::controller(clusters).wakes(changes))
        .register(databases)
        .register(former)
        .background("orphans", |given| sweeper.run(given))
        .background("lookout", |_| lookout.run())
}

/// What a bed's operator is started with.
pub(crate) struct Setup {
    pub(crate) config: kube::Config,
    pub(crate) options: Options,
    pub(crate) settings: Settings,
    pub(crate) policy: Policy,
}

pub(crate) struct Bed {
    pub(crate) ec2: Arc<FakeEc2>,
    pub(crate) fleet: Fleet,
    pub(crate) clusters: Api<MySQLCluster>,
    pub(crate) client: Client,
    pub(crate) namespace: TestNamespace,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), ManagerError>>,
}

/// Waits until it holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !holds().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "not within {DEADLINE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Bed {
    /// Reboots a replica, and when it follows again the primary, until that is open again: both are looked after.
    pub(crate) async fn reboot_and_recover(&self, replica: &str, primary: &str) {
        self.fleet.reboot(replica);
        eventually("the replica follows again", async || {
            self.fleet.is_following(replica)
        })
        .await;
        self.fleet.reboot(primary);
        eventually("the primary is open again", async || self.fleet.is_open(primary)).await;
    }

    pub(crate) async fn new() -> Self {
        Self::with(async |_, _| {}).await
    }

    /// One whose operator is started with what `adjust` makes of its setup.
    pub(crate) async fn with(adjust: impl AsyncFnOnce(&TestNamespace, &mut Setup)) -> Self {
        let ec2 = Arc::new(ec2());
        let fleet = Fleet::new(ec2.world());
        Self::on((ec2, fleet), adjust).await
    }

    /// One more operator in the account of another bed, in a namespace of its own.
    pub(crate) async fn beside(other: &Self, adjust: impl AsyncFnOnce(&TestNamespace, &mut Setup)) -> Self {
        Self::on((other.ec2.clone(), other.fleet.clone()), adjust).await
    }

    async fn on(
        (ec2, fleet): (Arc<FakeEc2>, Fleet),
        adjust: impl AsyncFnOnce(&TestNamespace, &mut Setup),
    ) -> Self {
        reconcile::cli::install_crypto_provider();
        let plane = ControlPlane::shared().await.unwrap();
        plane.apply_crds(&mysql_api::crds()).await.unwrap();
        let namespace = plane.namespace().await.unwrap();
        let mut options = Options::new("mysql-operator");
        options.namespaces = vec![namespace.name().to_owned()];
        options.clock = Clock::accelerated(SPEED);
        let mut setup = Setup {
            config: plane.config().clone(),
            options,
            settings: Settings::default(),
            policy: Policy::Report,
        };
        adjust(&namespace, &mut setup).await;
        let Setup {
            config,
            options,
            settings,
            policy,
        } = setup;
        let sdk = sdk(&ec2.endpoint());
        let manager = assemble((options, config), &sdk, fleet.clone(), (settings, policy));
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(manager.run(shutdown.clone()));
        Self {
            clusters: Api::namespaced(plane.client(), namespace.name()),
            client: plane.client(),
            ec2,
            fleet,
            namespace,
            shutdown,
            running,
        }
    }

    pub(crate) async fn create(&self, name: &str, spec: Value) -> MySQLCluster {
        let spec: MySQLClusterSpec = serde_json::from_value(spec).unwrap();
        self.clusters
            .create(&PostParams::default(), &MySQLCluster::new(name, spec))
            .await
            .unwrap()
    }

    pub(crate) async fn patch(&self, name: &str, patch: Value) {
        self.clusters
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// Waits until the cluster satisfies `holds`; `None` is one that is gone.
    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(Option<&MySQLCluster>) -> bool,
    ) -> Option<MySQLCluster> {
        let states = watch_object(self.clusters.clone(), name).default_backoff();
        pin_mut!(states);
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let mut seen = None;
        loop {
            let event = tokio::time::timeout(Duration::from_millis(50), states.next()).await;
            // An error is a server that is stopped; it answers later.
            if let Ok(Some(Ok(found))) = event {
                seen = Some(found);
            }
            // What holds may be about more than the object.
            if let Some(found) = &seen
                && holds(found.as_ref())
            {
                return seen.flatten();
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "not within {DEADLINE:?}: {what}; {:#?}",
                seen.flatten().and_then(|cluster| cluster.status)
            );
        }
    }

    /// The addresses behind a Service of the cluster.
    pub(crate) async fn behind(&self, service: &str) -> Vec<String> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), self.namespace.name());
        let slice = slices.get(service).await.unwrap();
        slice
            .endpoints
            .into_iter()
            .flat_map(|endpoint| endpoint.addresses)
            .collect()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }

    /// The operator ends, `meanwhile` happens, and another one that knows nothing of the first begins, on this clock.
    pub(crate) async fn restart(&mut self, clock: Clock, meanwhile: impl AsyncFnOnce(&Self)) {
        self.shutdown.cancel();
        (&mut self.running).await.unwrap().unwrap();
        meanwhile(self).await;
        let plane = ControlPlane::shared().await.unwrap();
        let mut options = Options::new("mysql-operator");
        options.namespaces = vec![self.namespace.name().to_owned()];
        options.clock = clock;
        let sdk = sdk(&self.ec2.endpoint());
        let manager = manager(options, plane.config().clone(), &sdk, self.fleet.clone());
        self.shutdown = CancellationToken::new();
        self.running = tokio::spawn(manager.run(self.shutdown.clone()));
    }
}

/// The spec of the original's sample, with this many members.
pub(crate) fn sample(replicas: i32) -> Value {
    json!({"replicas": replicas, "geoAffinity": "nairobi", "aws": {
        "ami": "ami-0c02fb55956c7d316",
        "instanceType": "t3.micro",
        "subnetId": "subnet-12345678",
        "subnetIds": ["subnet-12345679", "subnet-1234567a"],
        "securityGroupIds": ["sg-12345678"],
    }})
}

fn found<'a>(cluster: Option<&'a MySQLCluster>, type_: &str) -> Option<&'a Condition> {
    conditions::find(&cluster?.status.as_ref()?.conditions, type_)
}

/// Status and reason of a condition.
pub(crate) fn condition(cluster: Option<&MySQLCluster>, type_: &str) -> Option<(String, String)> {
    let found = found(cluster, type_)?;
    Some((found.status.clone(), found.reason.clone()))
}

/// What a condition says.
pub(crate) fn message<'a>(cluster: Option<&'a MySQLCluster>, type_: &str) -> Option<&'a str> {
    Some(found(cluster, type_)?.message.as_str())
}

/// Whether its members serve.
pub(crate) fn ready(cluster: Option<&MySQLCluster>) -> bool {
    says(cluster, "Ready", "True", "Replicating")
}

/// Whether a condition has this status and reason.
pub(crate) fn says(cluster: Option<&MySQLCluster>, type_: &str, status: &str, reason: &str) -> bool {
    condition(cluster, type_).is_some_and(|found| found == (status.to_owned(), reason.to_owned()))
}
