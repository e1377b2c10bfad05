//! The shipped program as processes: killed in the middle of a launch, and in two replicas.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; the lints' own exceptions do not reach their helper functions"
)]

use std::{collections::BTreeMap, process::Command, time::Duration};

use fake_ec2::{FakeEc2, Faults, InstanceView, Limits, Options, State, Timings};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use mysql_api::{
    MySQLCluster,
    cluster::{LaunchPhase, MySQLClusterStatus, Phase},
};
use mysql_controller::identity::{CLUSTER_UID, ORDINAL};
use reconcile::clock::Clock;
use serde_json::json;
use testkit::{
    control_plane::{ControlPlane, TestNamespace},
    process::{ScratchFolder, Supervised, tail},
};
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_mins(2);
const NAME: &str = "c";

struct Bed {
    plane: &'static ControlPlane,
    namespace: TestNamespace,
    ec2: FakeEc2,
    clusters: Api<MySQLCluster>,
    folder: ScratchFolder,
}

impl Bed {
    async fn new() -> Self {
        reconcile::cli::install_crypto_provider();
        let plane = ControlPlane::shared().await.unwrap();
        plane.apply_crds(&mysql_api::crds()).await.unwrap();
        let namespace = plane.namespace().await.unwrap();
        // The operator's waits are real; machines need not take their time.
        let ec2 = FakeEc2::start(&Options {
            timings: Timings {
                boot: Duration::from_millis(100),
                terminate: Duration::from_millis(100),
                lag: Duration::ZERO,
                ..Timings::default()
            },
            limits: Limits::Unlimited,
            clock: Clock::system(),
            ..Options::default()
        })
        .unwrap();
        Self {
            clusters: Api::namespaced(plane.client(), namespace.name()),
            folder: ScratchFolder::create("mysql-process").unwrap(),
            plane,
            namespace,
            ec2,
        }
    }

    fn log(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    fn start(&self, name: &str, flags: &[&str]) -> Supervised {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mysql-operator"));
        command
            .args(["--namespace", self.namespace.name()])
            .args(["--metrics-bind-address", "0", "--health-probe-bind-address", "0"])
            .args(["--aws-endpoint-url", &self.ec2.endpoint()])
            .args(["--leader-election-namespace", self.namespace.name()])
            .args(flags)
            .arg("--kubeconfig")
            .arg(self.plane.kubeconfig_path())
            .env("AWS_ACCESS_KEY_ID", "AKIDTEST")
            .env("AWS_SECRET_ACCESS_KEY", "secret");
        Supervised::spawn(name, &command, &self.log(name)).unwrap()
    }

    async fn create(&self, replicas: i32) -> String {
        let spec = json!({"replicas": replicas, "aws": {
            "ami": "ami-0c02fb55956c7d316",
            "instanceType": "t3.micro",
            "subnetId": "subnet-12345678",
            "subnetIds": ["subnet-12345679", "subnet-1234567a"],
            "securityGroupIds": ["sg-12345678"],
        }});
        let cluster = MySQLCluster::new(NAME, serde_json::from_value(spec).unwrap());
        let made = self
            .clusters
            .create(&PostParams::default(), &cluster)
            .await
            .unwrap();
        made.uid().unwrap()
    }

    async fn status(&self) -> MySQLClusterStatus {
        let found = self.clusters.get(NAME).await.unwrap();
        found.status.unwrap_or_default()
    }

    async fn eventually(&self, what: &str, logs: &[&str], mut holds: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds().await {
            if Instant::now() > deadline {
                let said: Vec<_> = logs.iter().map(|name| tail(&self.log(name), 30)).collect();
                panic!("not within {LIMIT:?}: {what}\n{}", said.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How often each member was launched, by its number.
    fn launched(&self, uid: &str) -> BTreeMap<String, usize> {
        let mut numbers = BTreeMap::new();
        for instance in self.ec2.world().instances() {
            assert_eq!(instance.tags[CLUSTER_UID], uid);
            *numbers.entry(instance.tags[ORDINAL].clone()).or_default() += 1;
        }
        numbers
    }

    async fn end(&self, logs: &[&str]) {
        self.clusters
            .delete(NAME, &DeleteParams::default())
            .await
            .unwrap();
        self.eventually("it is gone", logs, async || {
            self.clusters.get_opt(NAME).await.unwrap().is_none()
        })
        .await;
        let all = self.ec2.world().instances();
        let over = |instance: &InstanceView| instance.state == State::Terminated;
        assert!(all.iter().all(over), "{all:#?}");
        assert!(self.ec2.world().volumes().is_empty() && self.ec2.world().interfaces().is_empty());
    }
}

fn once(members: usize) -> BTreeMap<String, usize> {
    (0..members).map(|number| (number.to_string(), 1)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_launch_it_launches_each_member_once_when_it_is_back() {
    let bed = Bed::new().await;
    // Launches are made and never answered; nothing tells what came of them.
    let silence: Faults = "RunInstances=lose; DescribeInstances#2+=InternalError"
        .parse()
        .unwrap();
    bed.ec2.world().set_faults(silence);
    let mut first = bed.start("first", &["--leader-elect=false"]);
    let uid = bed.create(3).await;
    bed.eventually("every launch is made", &["first"], async || {
        bed.launched(&uid).len() == 3
    })
    .await;
    first.kill();
    let launches = bed.status().await.launches;
    assert!(
        launches
            .iter()
            .any(|launch| launch.phase == LaunchPhase::Launching),
        "what came of a launch is not known when it is killed: {launches:#?}"
    );
    bed.ec2.world().set_faults(Faults::default());
    let _second = bed.start("second", &["--leader-elect=false"]);
    bed.eventually("every instance runs", &["second"], async || {
        bed.status().await.phase == Some(Phase::Provisioned)
    })
    .await;
    assert_eq!(bed.launched(&uid), once(3));
    bed.end(&["second"]).await;
    assert_eq!(bed.launched(&uid), once(3), "nothing was launched while it ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_the_other_finishes_what_the_killed_one_began() {
    let bed = Bed::new().await;
    let silence: Faults = "RunInstances#2+=lose; DescribeInstances#2+=InternalError"
        .parse()
        .unwrap();
    bed.ec2.world().set_faults(silence);
    let flags = ["--leader-elect", "--leader-elect-preset=fast"];
    let mut leader = bed.start("one", &flags);
    let uid = bed.create(3).await;
    bed.eventually("launches are made", &["one"], async || {
        bed.launched(&uid).len() > 1
    })
    .await;
    let _standby = bed.start("other", &flags);
    leader.kill();
    bed.ec2.world().set_faults(Faults::default());
    bed.eventually("every instance runs", &["other"], async || {
        bed.status().await.phase == Some(Phase::Provisioned)
    })
    .await;
    assert_eq!(bed.launched(&uid), once(3));
    bed.end(&["other"]).await;
}
