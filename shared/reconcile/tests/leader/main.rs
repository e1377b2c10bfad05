//! Leader election against a real API server: who leads, when it changes hands, and that two never lead at once.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of this crate is a test, which fails by panicking"
)]

mod cable;
mod installations;

use std::{collections::BTreeMap, time::Duration};

use cable::{Cable, Fault};
use k8s_openapi::api::{coordination::v1::Lease, events::v1::Event};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use reconcile::{
    client::ClientOptions,
    leader::{LeaderConfig, LeaderElector, Leadership, Timing},
    metrics::Metrics,
};
use serde_json::json;
use testkit::control_plane::{ControlPlane, TestNamespace};
use tokio::time::{Instant, timeout};

const DEADLINE: Duration = Duration::from_mins(3);
/// How often leadership changes hands at most until it was done in time once: a machine may stop and think now and then.
const ATTEMPTS: usize = 5;
const LEASE: &str = "operator";

/// An election in a namespace of its own.
struct Election {
    plane: &'static ControlPlane,
    namespace: TestNamespace,
    leases: Api<Lease>,
}

impl Election {
    async fn new() -> Self {
        let plane = ControlPlane::shared().await.unwrap();
        let namespace = plane.namespace().await.unwrap();
        let leases = Api::namespaced(plane.client(), namespace.name());
        Self {
            plane,
            namespace,
            leases,
        }
    }

    async fn join(&self, timing: Timing) -> Leadership {
        self.join_with(timing, ClientOptions::new("test-operator/1.0"))
            .await
    }

    async fn join_with(&self, timing: Timing, options: ClientOptions) -> Leadership {
        let mut config = LeaderConfig::new(LEASE, self.namespace.name());
        config.timing = timing;
        config.labels = BTreeMap::from([("app.kubernetes.io/name".to_owned(), "operator".to_owned())]);
        LeaderElector::spawn(config, self.plane.config().clone(), options)
            .await
            .unwrap()
    }

    async fn lease(&self) -> Lease {
        self.leases.get(LEASE).await.unwrap()
    }

    async fn holder(&self) -> String {
        self.lease()
            .await
            .spec
            .unwrap()
            .holder_identity
            .unwrap_or_default()
    }

    async fn transitions(&self) -> Option<i32> {
        self.lease().await.spec.unwrap().lease_transitions
    }

    /// Waits until the Lease is as `expected` says.
    async fn until(&self, what: &str, expected: impl Fn(&Lease) -> bool) {
        let seen =
            kube::runtime::wait::await_condition(self.leases.clone(), LEASE, move |lease: Option<&Lease>| {
                lease.is_some_and(&expected)
            });
        timeout(DEADLINE, seen)
            .await
            .unwrap_or_else(|_| panic!("never: {what}"))
            .unwrap();
    }
}

async fn acquired(leadership: &Leadership) {
    timeout(DEADLINE, leadership.acquired())
        .await
        .expect("never acquired the lease")
        .unwrap();
}

async fn lost(leadership: &Leadership) {
    timeout(DEADLINE, leadership.lost())
        .await
        .expect("never lost the lease");
}

/// Waits for two renewals: by then a standby has watched the Lease for a while.
async fn renewed_twice(election: &Election) {
    for _ in 0..2 {
        let before = election.lease().await.spec.unwrap().renew_time;
        election
            .until("a renewal", |lease| {
                lease.spec.as_ref().unwrap().renew_time != before
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_candidate_leads_says_so_and_renews() {
    let election = Election::new().await;
    let options = ClientOptions::new("test-operator/1.0");
    let metrics: Metrics = options.metrics.clone();
    let leader = election.join_with(Timing::FAST, options).await;
    acquired(&leader).await;
    assert!(leader.is_leader());
    leader.acts();
    let acts = r#"leader_election_master_status{name="operator"} 1"#;
    assert!(metrics.encode().contains(acts));

    let lease = election.lease().await;
    assert_eq!(
        lease.metadata.labels.unwrap()["app.kubernetes.io/name"],
        "operator"
    );
    let spec = lease.spec.unwrap();
    assert_eq!(
        (spec.lease_duration_seconds, spec.lease_transitions),
        (Some(3), Some(0))
    );
    renewed_twice(&election).await;

    let events: Api<Event> = Api::namespaced(election.plane.client(), election.namespace.name());
    leader.release().await;
    let notes: Vec<_> = events
        .list(&ListParams::default())
        .await
        .unwrap()
        .into_iter()
        .filter_map(|e| e.note)
        .collect();
    assert!(
        notes.iter().any(|note| note.ends_with(" became leader")),
        "{notes:?}"
    );
    assert!(
        notes.iter().any(|note| note.ends_with(" stopped leading")),
        "{notes:?}"
    );
    assert!(
        metrics
            .encode()
            .contains(r#"leader_election_master_status{name="operator"} 0"#)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_lease_changes_hands_in_less_than_a_second() {
    let took = fastest(Duration::from_secs(1), release_and_take).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_a_standby_takes_over_when_the_lease_expires_and_not_before() {
    let took = fastest(Duration::from_secs(5), crash_and_take).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Lets leadership change hands until that takes less than `enough`; returns the shortest time.
async fn fastest(enough: Duration, change: impl AsyncFn() -> Duration) -> Duration {
    let mut fastest = Duration::MAX;
    for _ in 0..ATTEMPTS {
        fastest = fastest.min(change().await);
        if fastest < enough {
            break;
        }
    }
    fastest
}

/// How long a standby needs when the leader leaves.
async fn release_and_take() -> Duration {
    let election = Election::new().await;
    // The default timing: nothing here depends on short periods.
    let first = election.join(Timing::DEFAULT).await;
    acquired(&first).await;
    let second = election.join(Timing::DEFAULT).await;
    renewed_twice(&election).await;
    assert!(!second.is_leader());

    let (fence, begun) = (first.fence(), Instant::now());
    let (took, ()) = tokio::join!(
        async {
            acquired(&second).await;
            assert!(fence.check().is_err(), "two lead at once");
            begun.elapsed()
        },
        first.release(),
    );
    testkit::progress::line(&format!("leadership handed over in {took:?}"));
    assert_eq!(election.transitions().await, Some(1));
    second.release().await;
    assert_eq!(election.holder().await, "");
    took
}

/// How long a standby needs when the leader dies.
async fn crash_and_take() -> Duration {
    let election = Election::new().await;
    let first = election.join(Timing::FAST).await;
    acquired(&first).await;
    let second = election.join(Timing::FAST).await;
    renewed_twice(&election).await;

    let begun = Instant::now();
    drop(first);
    acquired(&second).await;
    let took = begun.elapsed();
    testkit::progress::line(&format!("leadership taken over {took:?} after a crash"));
    assert!(
        took > Timing::FAST.renew_deadline,
        "taken over while the old leader could still have acted: {took:?}"
    );
    assert_eq!(election.transitions().await, Some(1));
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_cut_off_stops_before_a_standby_starts() {
    let election = Election::new().await;
    let cable = Cable::default();
    let first = election.join_with(Timing::FAST, cable.options()).await;
    acquired(&first).await;
    let second = election.join(Timing::FAST).await;
    renewed_twice(&election).await;

    let begun = Instant::now();
    cable.set(Fault::Hang);
    let (stopped, started) = tokio::join!(
        async {
            lost(&first).await;
            begun.elapsed()
        },
        async {
            acquired(&second).await;
            assert!(!first.is_leader(), "two lead at once");
            begun.elapsed()
        },
    );
    // What it may still begin its own fence decides, to the instant; that it is told so may take a busy machine a moment.
    assert!(stopped >= Timing::FAST.renew_deadline / 2, "{stopped:?}");
    assert!(stopped < started, "{stopped:?} {started:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_was_lost_is_found_again() {
    let election = Election::new().await;
    let cable = Cable::default();
    cable.set(Fault::LoseAnswer);
    let leader = election.join_with(Timing::FAST, cable.options()).await;
    acquired(&leader).await;
    // And so is a renewal.
    cable.set(Fault::LoseAnswer);
    renewed_twice(&election).await;
    assert!(leader.is_leader());
    assert_eq!(election.transitions().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_lease_is_put_back_by_its_leader() {
    let election = Election::new().await;
    let first = election.join(Timing::FAST).await;
    acquired(&first).await;
    let second = election.join(Timing::FAST).await;
    renewed_twice(&election).await;
    let holder = election.holder().await;
    election
        .leases
        .delete(LEASE, &DeleteParams::default())
        .await
        .unwrap();
    election.until("the lease is back", |_| true).await;
    assert_eq!(election.holder().await, holder);
    assert!(first.is_leader() && !second.is_leader());
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_edit_of_the_lease_costs_nothing() {
    let election = Election::new().await;
    let leader = election.join(Timing::FAST).await;
    acquired(&leader).await;
    let patch = json!({ "metadata": { "annotations": { "edited": "by hand" } } });
    election
        .leases
        .patch(LEASE, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    renewed_twice(&election).await;
    assert!(leader.is_leader());
    assert_eq!(
        election.lease().await.metadata.annotations.unwrap()["edited"],
        "by hand"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_lease_is_taken_by_force_stops_at_its_next_renewal() {
    let election = Election::new().await;
    let leader = election.join(Timing::DEFAULT).await;
    acquired(&leader).await;
    let begun = Instant::now();
    let patch = json!({ "spec": { "holderIdentity": "thief" } });
    election
        .leases
        .patch(LEASE, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    lost(&leader).await;
    assert!(
        begun.elapsed() < Timing::DEFAULT.renew_deadline,
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(election.holder().await, "thief");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_candidates_one_leads() {
    let election = Election::new().await;
    let candidates = futures::future::join_all((0..5).map(|_| election.join(Timing::FAST))).await;
    let mut waiting = candidates;
    // Each gives up in turn; at every moment there is one leader, and every hand-over is counted once.
    for handover in 0..5 {
        let next =
            futures::future::select_all(waiting.iter().map(|candidate| Box::pin(candidate.acquired())));
        let (outcome, index, _) = timeout(DEADLINE, next).await.expect("nobody leads");
        outcome.unwrap();
        assert_eq!(
            waiting.iter().filter(|candidate| candidate.is_leader()).count(),
            1
        );
        assert_eq!(election.transitions().await, Some(handover));
        waiting.swap_remove(index).release().await;
    }
    assert_eq!(election.holder().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_leaves_without_touching_the_lease() {
    let election = Election::new().await;
    let leader = election.join(Timing::FAST).await;
    acquired(&leader).await;
    let standby = election.join(Timing::FAST).await;
    renewed_twice(&election).await;
    let holder = election.holder().await;
    standby.release().await;
    renewed_twice(&election).await;
    assert_eq!(election.holder().await, holder);
    assert!(leader.is_leader());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_by_leaves_the_lease_alone_until_it_campaigns() {
    let election = Election::new().await;
    let mut config = LeaderConfig::new(LEASE, election.namespace.name());
    config.timing = Timing::FAST;
    let options = ClientOptions::new("test-operator/1.0");
    let unready = LeaderElector::stand_by(config, election.plane.config().clone(), options)
        .await
        .unwrap();
    let leader = election.join(Timing::FAST).await;
    acquired(&leader).await;
    leader.release().await;
    // A candidate would have it within a moment: nobody wants it.
    let leader = election.join(Timing::FAST).await;
    acquired(&leader).await;
    assert!(!unready.is_leader());
    leader.release().await;
    unready.campaign();
    acquired(&unready).await;
    unready.release().await;
    assert_eq!(election.holder().await, "");
}
