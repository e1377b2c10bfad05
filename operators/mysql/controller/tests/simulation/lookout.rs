//! How soon what happens to instances is known, and what knowing it costs, in simulated time.

use std::time::Duration;

use fake_ec2::{State, StateReason};
use futures::{FutureExt as _, StreamExt as _, stream::BoxStream};
use mysql_controller::{
    cloud::Instances as _,
    desired::{Desired, Owner, Settings},
    lookout::{INTERVAL, Lookout, PATIENCE},
};
use reconcile::{ObjectKey, clock::Clock, fence::Fence};

use crate::{
    cloud::Cloud,
    life::{Memory, REGION, UID, spec},
};

/// What the operator may add to EC2's own time, from the moment in which instances run.
const OWN: Duration = Duration::from_secs(2);

struct Scene {
    clock: Clock,
    cloud: Cloud,
    memory: Memory,
    lookout: Lookout<Cloud>,
    changes: BoxStream<'static, ObjectKey>,
}

impl Scene {
    /// An account without trouble, and a lookout that runs.
    fn new() -> Self {
        let clock = Clock::accelerated(1);
        let cloud = Cloud::calm(&clock, Duration::ZERO);
        let memory = Memory::new(&cloud, &clock);
        let (lookout, changes) = Lookout::new(&memory.operator.reader, &clock, INTERVAL);
        tokio::spawn(lookout.clone().run());
        Self {
            clock,
            cloud,
            memory,
            lookout,
            changes,
        }
    }

    fn listings(&self) -> usize {
        let audit = self.cloud.world.audit();
        let listings = audit.iter().filter(|call| call.action == "DescribeInstances");
        listings.count()
    }

    /// Passes whenever the cluster is woken, until so many members are seen to run; when that was.
    async fn reach(&mut self, desired: &Desired) -> Duration {
        let fence = Fence::open();
        let key = ObjectKey::new("ns", "c");
        loop {
            let ledger = self.cloud.notebook.ledger();
            let work = self.memory.work(&self.cloud, &fence);
            let outcome = work.apply(desired, ledger).await.unwrap();
            let running = outcome.seen.instances.iter();
            let running = running.filter(|one| one.state.as_str() == "running").count();
            if i32::try_from(running) == Ok(desired.replicas) {
                self.lookout.leave(UID);
                return self.clock.elapsed();
            }
            assert!(outcome.restless, "a launch under way is not looked for");
            self.lookout.watch(UID, (&key, REGION), &outcome.seen.instances);
            // Only by being woken: its own next look is ten seconds away.
            let woken = tokio::time::timeout(Duration::from_secs(60), self.changes.next());
            assert_eq!(woken.await.unwrap(), Some(key.clone()));
        }
    }
}

fn desired(replicas: i32) -> Desired {
    let owner = Owner {
        namespace: "ns",
        name: "c",
        uid: UID,
    };
    Desired::resolve(owner, &spec(replicas), &Settings::default()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn that_members_run_is_known_within_the_operators_own_two_seconds() {
    let mut scene = Scene::new();
    let (began, desired) = (scene.clock.elapsed(), desired(3));
    let known = scene.reach(&desired).await;
    let instances = scene.cloud.world.instances();
    let launched = instances.iter().map(|one| one.launched).max().unwrap();
    let running = instances.iter().filter_map(|one| one.running).max().unwrap();
    let between = |from: Duration, to: Duration| to.checked_sub(from).unwrap();
    assert!(
        between(launched, running) >= Duration::from_secs(5),
        "boots take time"
    );
    let own = between(began, launched) + between(running, known);
    assert!(own < OWN, "{own:?}");
    // One listing a second while they boot, not one for each member or pass.
    let seconds = usize::try_from(between(began, known).as_secs()).unwrap();
    assert!(
        scene.listings() <= seconds + 2,
        "{} in {seconds} s",
        scene.listings()
    );
}

#[tokio::test(start_paused = true)]
async fn a_hundred_clusters_cost_as_many_listings_as_one() {
    let mut scene = Scene::new();
    // Instances of a hundred clusters, as far as the lookout is concerned: each looks for a UID of its own.
    for number in 0..100 {
        let key = ObjectKey::new("ns", format!("c{number}"));
        scene.lookout.watch(&format!("uid-{number}"), (&key, REGION), &[]);
    }
    let before = scene.listings();
    scene.clock.sleep(Duration::from_secs(60)).await;
    let made = scene.listings() - before;
    assert!((40..=61).contains(&made), "{made} listings in a minute");
    assert!(scene.changes.next().now_or_never().is_none(), "nothing changed");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_change_is_left_after_five_minutes_and_what_has_settled_at_once() {
    let scene = Scene::new();
    scene.clock.sleep(Duration::from_secs(600)).await;
    assert_eq!(scene.listings(), 0, "nobody is looked for");
    let key = ObjectKey::new("ns", "c");
    scene.lookout.watch(UID, (&key, REGION), &[]);
    scene.clock.sleep(PATIENCE + Duration::from_secs(2)).await;
    let looked = scene.listings();
    assert!(looked >= 200, "{looked}");
    // Told again that nothing has changed, it does not begin anew.
    scene.lookout.watch(UID, (&key, REGION), &[]);
    scene.clock.sleep(Duration::from_secs(600)).await;
    assert_eq!(scene.listings(), looked);

    scene.lookout.leave(UID);
    scene.lookout.watch(UID, (&key, REGION), &[]);
    scene.clock.sleep(Duration::from_secs(10)).await;
    assert!(scene.listings() > looked, "it is on its way again");
    scene.lookout.leave(UID);
    scene.clock.sleep(Duration::from_secs(2)).await;
    let last = scene.listings();
    scene.clock.sleep(Duration::from_secs(600)).await;
    assert_eq!(scene.listings(), last);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_ends_behind_our_back_wakes_its_cluster_and_an_unanswered_listing_does_not() {
    let mut scene = Scene::new();
    scene.reach(&desired(1)).await;
    let shown = scene.cloud.list(REGION, "mysql-operator").await.unwrap();
    let key = ObjectKey::new("ns", "c");
    scene.lookout.watch(UID, (&key, REGION), &shown);
    scene
        .cloud
        .world
        .deny("DescribeInstances", Some("UnauthorizedOperation"));
    let id = scene.cloud.world.instances()[0].id.clone();
    let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
    assert!(scene.cloud.world.terminate(&id, &reason));
    scene.clock.sleep(Duration::from_secs(30)).await;
    assert!(scene.changes.next().now_or_never().is_none());
    scene.cloud.world.deny("DescribeInstances", None);
    let woken = tokio::time::timeout(Duration::from_secs(15), scene.changes.next());
    assert_eq!(woken.await.unwrap(), Some(key));
    assert_ne!(scene.cloud.world.instances()[0].state, State::Running);
}

/// A mistake in the spec: EC2 refuses a question that names one that it does not know.
#[tokio::test(start_paused = true)]
async fn a_subnet_that_does_not_exist_hides_no_other_and_is_asked_for_every_ten_minutes() {
    let scene = Scene::new();
    let named = ["subnet-12345678", "subnet-99999999"].map(str::to_owned);
    let reader = &scene.memory.operator.reader;
    let asked = || {
        let audit = scene.cloud.world.audit();
        audit
            .iter()
            .filter(|call| call.action == "DescribeSubnets")
            .count()
    };
    for minutes in [1, 4, 4, 2] {
        let known = reader.zones(REGION, &named).await.unwrap();
        assert_eq!(known.len(), 1, "{known:?}");
        assert_eq!(asked(), 1);
        scene.clock.sleep(Duration::from_mins(minutes)).await;
    }
    reader.zones(REGION, &named).await.unwrap();
    assert_eq!(asked(), 2);
}
