//! Launches that are refused when they are repeated, or cannot be repeated: nobody may launch the member again before it is
//! certain that nothing came of the first attempt.

use std::time::Duration;

use fake_ec2::{InstanceView, State};
use jiff::SignedDuration;
use mysql_controller::identity::{CLUSTER_UID, OPERATOR_ID};
use reconcile::{clock::Clock, fence::Fence};
use rstest::rstest;

use crate::{
    chance::Fate,
    cloud::Cloud,
    life::{Memory, UID, desired},
};

/// Longer than the longest wait between two attempts.
const LONG: Duration = Duration::from_hours(2);
/// Until then a listing shows nothing of what was launched at the beginning.
const UNSEEN: Duration = Duration::from_secs(20);

/// A cluster of one member in an EC2 whose listings are a minute late.
struct Stage {
    cloud: Cloud,
    clock: Clock,
    memory: Memory,
    fence: Fence,
    edits: u64,
}

impl Stage {
    fn new() -> Self {
        let clock = Clock::accelerated(1);
        let cloud = Cloud::calm(&clock, Duration::from_mins(1));
        Self {
            memory: Memory::new(&cloud, &clock),
            cloud,
            clock,
            fence: Fence::open(),
            edits: 0,
        }
    }

    /// Passes for so long.
    async fn pass(&self, time: Duration) {
        let until = self.clock.elapsed() + time;
        while self.clock.elapsed() < until {
            let ledger = self.cloud.notebook.ledger();
            let work = self.memory.work(&self.cloud, &self.fence);
            let pass = work.apply(&desired(1, self.edits), ledger).await;
            let next = pass.map_or(Duration::from_secs(1), |outcome| outcome.next);
            self.clock.sleep(next).await;
        }
        assert_eq!(*self.cloud.violations.lock(), [""; 0]);
    }

    /// Somebody changes the tags in the spec.
    fn edit(&mut self) {
        self.edits += 1;
        self.memory.evidence.lock().reconsider();
    }

    /// The operator ends, and another one begins.
    fn crash(&mut self) {
        self.memory = Memory::new(&self.cloud, &self.clock);
    }

    /// The token of each attempt to launch.
    fn tokens(&self) -> Vec<String> {
        let audit = self.cloud.world.audit();
        let launches = audit.iter().filter(|call| call.action == "RunInstances");
        launches.map(|call| call.params["ClientToken"].clone()).collect()
    }

    fn deny(&self, code: Option<&str>) {
        self.cloud.world.deny("RunInstances", code);
    }

    /// A launch with this fate, whose repetition is refused with this code for as long as nothing can be seen of it.
    async fn repeat_in_vain(&mut self, fate: Fate, code: &str, crash: bool) {
        *self.cloud.doom.lock() = Some(fate);
        self.pass(Duration::from_secs(1)).await;
        self.deny(Some(code));
        self.edit();
        if crash {
            self.crash();
        }
        self.pass(UNSEEN).await;
        self.deny(None);
    }

    /// The one instance that runs, and which launch of the member it is.
    fn only(&self) -> (InstanceView, i32) {
        let mut all = self.cloud.world.instances();
        all.retain(|instance| instance.state != State::Terminated);
        assert_eq!(all.len(), 1, "{all:?}");
        let ledger = self.cloud.notebook.ledger();
        let entry = ledger.get(0).unwrap();
        assert_eq!(entry.instance_id.as_ref(), Some(&all[0].id), "{entry:?}");
        (all.remove(0), entry.incarnation)
    }
}

/// The five minutes are measured with a clock that nobody sets.
#[rstest]
#[case::forward(10)]
#[case::back(-10)]
#[tokio::test(start_paused = true)]
async fn a_step_of_the_wall_clock_proves_nothing(#[case] minutes: i64) {
    let mut stage = Stage::new();
    *stage.cloud.doom.lock() = Some(Fate::Lost);
    stage.pass(Duration::from_secs(1)).await;
    stage.deny(Some("InvalidAMIID.NotFound"));
    stage.edit();
    stage.pass(Duration::from_secs(5)).await;
    // Nothing shows it yet.
    let id = stage.cloud.world.instances().remove(0).id;
    stage.clock.step(SignedDuration::from_mins(minutes));
    stage.deny(None);
    stage.edit();
    stage.pass(UNSEEN).await;
    stage.pass(LONG).await;
    let (instance, incarnation) = stage.only();
    assert_eq!((instance.id, incarnation), (id, 1));
}

/// EC2 looks at parameters and permissions first, and at the token then.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_launch_whose_answer_was_lost_is_not_given_up_because_its_repetition_is_refused(
    #[values(
        "UnauthorizedOperation",
        "InvalidAMIID.NotFound",
        "VcpuLimitExceeded",
        "SomethingNew"
    )]
    code: &str,
    #[values(false, true)] crash: bool,
) {
    let mut stage = Stage::new();
    stage.repeat_in_vain(Fate::Lost, code, crash).await;
    stage.edit();
    stage.pass(LONG).await;
    assert_eq!(stage.only().1, 1, "it is the first launch's");
}

/// Listings of what is ours do not show it then, and its token does.
#[rstest]
#[case::without_tags(&[(OPERATOR_ID, None), (CLUSTER_UID, None)])]
#[case::of_an_id_that_the_operator_had(&[(OPERATOR_ID, Some("former"))])]
#[tokio::test(start_paused = true)]
async fn a_doubtful_launch_is_known_by_its_token_whatever_became_of_its_tags(
    #[case] tags: &[(&str, Option<&str>)],
) {
    let mut stage = Stage::new();
    *stage.cloud.doom.lock() = Some(Fate::Lost);
    stage.pass(Duration::from_secs(1)).await;
    let id = stage.cloud.world.instances().remove(0).id;
    for (tag, value) in tags {
        stage.cloud.world.retag(&id, tag, *value);
    }
    stage.deny(Some("UnauthorizedOperation"));
    stage.edit();
    stage.pass(UNSEEN).await;
    stage.deny(None);
    stage.pass(LONG).await;
    let (instance, incarnation) = stage.only();
    assert_eq!((instance.id, incarnation), (id, 1));
    assert_eq!(instance.tags[CLUSTER_UID], UID, "its tags are given back");
}

#[rstest]
#[case("UnauthorizedOperation")]
#[case("InvalidAMIID.NotFound")]
#[case("SomethingNew")]
#[tokio::test(start_paused = true)]
async fn a_launch_of_which_nothing_came_is_made_anew_when_nothing_was_found_of_it_for_long_enough(
    #[case] code: &str,
    #[values(false, true)] crash: bool,
) {
    let mut stage = Stage::new();
    stage.repeat_in_vain(Fate::Refused, code, crash).await;
    stage.pass(Duration::from_mins(4)).await;
    assert!(stage.cloud.world.instances().is_empty(), "it may still show");
    stage.pass(LONG).await;
    let (instance, incarnation) = stage.only();
    assert_eq!(incarnation, 2);
    assert_eq!(instance.tags["edit"], "1", "it is what is wanted now");
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_was_refused_from_the_first_is_given_up_at_once() {
    let mut stage = Stage::new();
    stage.deny(Some("UnauthorizedOperation"));
    stage.pass(UNSEEN).await;
    stage.edit();
    stage.pass(Duration::from_secs(1)).await;
    stage.deny(None);
    stage.edit();
    stage.pass(Duration::from_secs(30)).await;
    assert_eq!(stage.only().0.tags["edit"], "2");
}

/// Parameters are sent as they were frozen, in whatever words that was: the spec has changed since.
#[tokio::test(start_paused = true)]
async fn what_another_version_has_frozen_is_repeated_as_it_is() {
    let mut stage = Stage::new();
    stage.deny(Some("UnauthorizedOperation"));
    stage.pass(Duration::from_secs(1)).await;
    stage.cloud.notebook.rewrite(0, "aFieldOfAnotherVersion");
    stage.crash();
    stage.edit();
    stage.deny(None);
    stage.pass(LONG).await;
    let (_, incarnation) = stage.only();
    assert_eq!(incarnation, 1);
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn parameters_that_are_lost_follow_from_the_spec_or_the_launch_is_looked_for_and_made_anew(
    #[values(false, true)] edited: bool,
    #[values(Fate::Lost, Fate::Refused)] first: Fate,
) {
    let mut stage = Stage::new();
    *stage.cloud.doom.lock() = Some(first);
    stage.pass(Duration::from_secs(1)).await;
    stage.cloud.notebook.lose(0, 1);
    stage.crash();
    if edited {
        stage.edit();
    }
    stage.pass(Duration::from_secs(30)).await;
    let known = !edited || first == Fate::Lost;
    assert_eq!(stage.cloud.world.instances().len(), usize::from(known));
    stage.pass(LONG).await;
    assert_eq!(stage.only().1, if known { 1 } else { 2 });
}

/// A group, a subnet or a profile that was made just before the cluster.
#[tokio::test(start_paused = true)]
async fn what_is_too_young_to_be_known_is_asked_for_with_the_same_token_for_five_minutes() {
    let stage = Stage::new();
    stage.deny(Some("InvalidGroup.NotFound"));
    stage.pass(Duration::from_mins(4)).await;
    let asked = stage.tokens();
    assert!((5..=7).contains(&asked.len()), "{asked:?}");
    assert!(asked.iter().all(|token| *token == asked[0]), "{asked:?}");
    // Now it is known everywhere.
    stage.deny(None);
    stage.pass(Duration::from_mins(2)).await;
    assert_eq!(stage.tokens().len(), asked.len() + 1);
    assert_eq!(stage.cloud.world.live(CLUSTER_UID, UID).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_for_five_minutes_is_wrong_and_asked_for_twice_an_hour() {
    let mut stage = Stage::new();
    stage.deny(Some("InvalidSubnetID.NotFound"));
    stage.pass(Duration::from_mins(20)).await;
    let soon = stage.tokens().len();
    stage.pass(Duration::from_hours(10)).await;
    let late = stage.tokens().len() - soon;
    assert!((15..=20).contains(&late), "{late} attempts in ten hours");
    // With another spec it may be another one that is young.
    let before = stage.tokens().len();
    stage.edit();
    stage.pass(Duration::from_mins(4)).await;
    assert!(stage.tokens().len() >= before + 5);
}

/// Clients would be told of no server in its place.
#[tokio::test(start_paused = true)]
async fn who_has_just_begun_asks_at_once_for_an_instance_that_listings_do_not_show() {
    let mut stage = Stage::new();
    stage.pass(LONG).await;
    let id = stage.only().0.id;
    stage.cloud.world.retag(&id, OPERATOR_ID, None);
    stage.clock.sleep(Duration::from_mins(2)).await;
    stage.crash();
    let work = stage.memory.work(&stage.cloud, &stage.fence);
    let outcome = work.apply(&desired(1, 0), stage.cloud.notebook.ledger()).await;
    let seen = outcome.unwrap().seen;
    assert!(seen.instance(&id).is_some_and(|shown| shown.private_ip.is_some()));
}
