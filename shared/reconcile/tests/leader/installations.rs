//! Several installations of one operator, each with a lease of its own: which of them act.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::{
    events::v1::Event,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use reconcile::{
    Manager,
    leader::{LeaderConfig, Timing},
    manager::{ManagerError, Options},
    metrics::Metrics,
};
use serde_json::json;
use testkit::{
    control_plane::{ControlPlane, TestNamespace},
    process::free_address,
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{DEADLINE, LEASE, fastest};

/// As fast as a machine allows that may be busy for a few seconds.
const TIMING: Timing = Timing {
    lease_duration: Duration::from_secs(6),
    renew_deadline: Duration::from_secs(5),
    retry_period: Duration::from_millis(500),
};

/// One operator's installations, and how many of them act.
struct Floor {
    plane: &'static ControlPlane,
    /// Of the operator; other tests run on the same API server.
    name: &'static str,
    acting: Arc<Acting>,
}

#[derive(Default)]
struct Acting {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// Somebody acts as long as this lives.
struct Part(Arc<Acting>, watch::Sender<bool>);

impl Part {
    fn begin(acting: Arc<Acting>, told: watch::Sender<bool>) -> Self {
        let now = acting.now.fetch_add(1, Ordering::SeqCst) + 1;
        acting.most.fetch_max(now, Ordering::SeqCst);
        told.send_replace(true);
        Self(acting, told)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
        self.1.send_replace(false);
    }
}

impl Floor {
    async fn new() -> Self {
        let plane = ControlPlane::shared().await.unwrap();
        Self {
            plane,
            name: Box::leak(format!("operator-{}", uuid::Uuid::new_v4()).into_boxed_str()),
            acting: Arc::default(),
        }
    }

    async fn namespace(&self) -> TestNamespace {
        self.plane.namespace().await.unwrap()
    }

    /// Starts an operator with its lease in `namespace` for what is in `serves`; everything, if that is nothing.
    fn install(&self, namespace: &TestNamespace, serves: &[&str]) -> Installed {
        self.install_as(namespace, serves, None)
    }

    /// The same for one that acts as `user`.
    fn install_as(&self, namespace: &TestNamespace, serves: &[&str], user: Option<&str>) -> Installed {
        let probes = free_address().unwrap();
        let mut options = Options::new(self.name);
        options.namespaces = serves.iter().map(|&name| name.to_owned()).collect();
        options.probe_address = probes.to_string();
        let mut election = LeaderConfig::new(LEASE, namespace.name());
        election.timing = TIMING;
        options.leader_election = Some(election);
        let mut config = self.plane.config().clone();
        config.auth_info.impersonate = user.map(str::to_owned);
        let (told, acts) = watch::channel(false);
        let acting = self.acting.clone();
        let manager = Manager::new(options, config).background("work", |_| async move {
            let _part = Part::begin(acting, told);
            std::future::pending::<()>().await;
        });
        let (metrics, shutdown) = (manager.metrics().clone(), CancellationToken::new());
        let running = tokio::spawn(manager.run(shutdown.clone()));
        Installed {
            shutdown,
            running,
            acts,
            probes,
            metrics,
        }
    }

    fn most(&self) -> usize {
        self.acting.most.load(Ordering::SeqCst)
    }

    /// Notes of the event that says for whom an installation waits.
    async fn told(&self, namespace: &TestNamespace) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.plane.client(), namespace.name());
        let all = events.list(&ListParams::default()).await.unwrap().items;
        let overlaps = all
            .into_iter()
            .filter(|event| event.reason.as_deref() == Some("NamespacesOverlap"));
        overlaps.filter_map(|event| event.note).collect()
    }
}

struct Installed {
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), ManagerError>>,
    acts: watch::Receiver<bool>,
    probes: SocketAddr,
    metrics: Metrics,
}

impl Installed {
    /// Whether it tells those who watch it that it acts.
    fn says_that_it_acts(&self) -> bool {
        let line = format!("leader_election_master_status{{name=\"{LEASE}\"}} 1");
        self.metrics.encode().contains(&line)
    }

    fn acts(&self) -> bool {
        *self.acts.borrow()
    }

    async fn until_it_acts(&self) {
        let mut acts = self.acts.clone();
        let begun = tokio::time::timeout(DEADLINE, acts.wait_for(|acts| *acts)).await;
        begun.expect("it does not begin to act").unwrap();
    }

    /// What `/readyz` answers; nothing if nobody does.
    async fn readiness(&self) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let asked = async {
            let mut stream = tokio::net::TcpStream::connect(self.probes).await?;
            let request = "GET /readyz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        asked.await.unwrap_or_default()
    }

    async fn until_ready(&self) {
        until("it is ready", async || {
            self.readiness().await.starts_with("HTTP/1.1 200")
        })
        .await;
    }

    /// Tells it to end, and waits until it has.
    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_installations_for_the_same_namespaces_one_acts_and_the_other_says_whom_it_waits_for() {
    let floor = Floor::new().await;
    let (home, away) = (floor.namespace().await, floor.namespace().await);
    let first = floor.install(&home, &[]);
    first.until_it_acts().await;
    first.until_ready().await;
    let second = floor.install(&away, &["a", "b"]);
    until("the second says that it waits", async || {
        assert!(!second.acts(), "both act");
        !floor.told(&away).await.is_empty()
    })
    .await;
    let told = floor.told(&away).await;
    let names = format!("waiting for {}/{LEASE}: ", home.name());
    assert!(told.len() == 1 && told[0].starts_with(&names), "{told:?}");
    assert!(told[0].contains("all namespaces"), "{told:?}");
    let readiness = second.readiness().await;
    assert!(readiness.starts_with("HTTP/1.1 500"), "{readiness}");
    assert!(
        readiness.contains(&format!("[-]no-other-installation failed: {names}")),
        "{readiness}"
    );
    assert!(first.says_that_it_acts() && !second.says_that_it_acts());
    assert!(floor.told(&home).await.is_empty());
    first.until_ready().await;

    first.stop().await;
    second.until_it_acts().await;
    second.until_ready().await;
    // Who comes back finds it at work.
    let first = floor.install(&home, &[]);
    until("the first waits now", async || {
        assert!(!first.acts(), "both act");
        !floor.told(&home).await.is_empty()
    })
    .await;
    first.stop().await;
    second.stop().await;
    assert_eq!(floor.most(), 1);
}

/// How long nobody acts when the replica that does is told to end and another stands by.
async fn end_and_begin() -> Duration {
    let floor = Floor::new().await;
    let home = floor.namespace().await;
    let first = floor.install(&home, &[]);
    first.until_it_acts().await;
    let second = floor.install(&home, &[]);
    second.until_ready().await;
    assert!(!second.acts());
    let begun = Instant::now();
    let ((), ()) = tokio::join!(first.stop(), second.until_it_acts());
    let took = begun.elapsed();
    testkit::progress::line(&format!("work handed over in {took:?}"));
    second.stop().await;
    assert_eq!(floor.most(), 1);
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_ends_hands_its_work_over_in_less_than_a_second() {
    let took = fastest(Duration::from_secs(1), end_and_begin).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn installations_for_disjoint_namespaces_act_both() {
    let floor = Floor::new().await;
    let (home, away) = (floor.namespace().await, floor.namespace().await);
    let (first, second) = (floor.install(&home, &["a", "b"]), floor.install(&away, &["c"]));
    first.until_it_acts().await;
    second.until_it_acts().await;
    assert_eq!(floor.most(), 2);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_installations_that_come_at_the_same_time_one_acts_at_a_time_until_all_have() {
    let floor = Floor::new().await;
    let homes = [
        floor.namespace().await,
        floor.namespace().await,
        floor.namespace().await,
    ];
    let mut waiting: Vec<_> = homes.iter().map(|home| floor.install(home, &["a"])).collect();
    while !waiting.is_empty() {
        let begun = waiting
            .iter()
            .map(|installed| Box::pin(installed.until_it_acts()));
        let ((), index, _) = futures::future::select_all(begun).await;
        waiting.swap_remove(index).stop().await;
    }
    assert_eq!(floor.most(), 1);
}

/// A user with the rights of an election in `namespace`, and no others.
async fn confined(plane: &ControlPlane, namespace: &TestNamespace) -> String {
    let (client, namespace) = (plane.client(), namespace.name());
    let user = format!("confined-to-{namespace}");
    let role = json!({
        "metadata": {"name": "election"},
        "rules": [
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
             "verbs": ["get", "list", "watch", "create", "update"]},
            {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
        ],
    });
    let binding = json!({
        "metadata": {"name": "election"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "election"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    let (role, binding): (Role, RoleBinding) = (
        serde_json::from_value(role).unwrap(),
        serde_json::from_value(binding).unwrap(),
    );
    let params = PostParams::default();
    let (roles, bindings) = (
        Api::namespaced(client.clone(), namespace),
        Api::namespaced(client, namespace),
    );
    roles.create(&params, &role).await.unwrap();
    bindings.create(&params, &binding).await.unwrap();
    user
}

/// It cannot see others, so it begins beside one that acts: the one way in which two can.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_list_leases_acts_all_the_same_and_who_may_says_so_and_goes_on() {
    let floor = Floor::new().await;
    let (home, away) = (floor.namespace().await, floor.namespace().await);
    let user = confined(floor.plane, &home).await;
    let other = floor.install(&away, &[]);
    other.until_it_acts().await;
    let blind = floor.install_as(&home, &[], Some(&user));
    blind.until_it_acts().await;
    until("it says so", async || !floor.told(&away).await.is_empty()).await;
    let told = floor.told(&away).await;
    let named = format!("{}/{LEASE} acts on all namespaces", home.name());
    assert!(told[0].starts_with(&named), "{told:?}");
    // A lease is not enough to end it: others may write some.
    assert!(other.acts() && blind.acts());
    other.stop().await;
    blind.stop().await;
}
