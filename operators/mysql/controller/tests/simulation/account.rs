//! Credentials of another account: EC2 shows nothing of the cluster there, which proves nothing.

use std::time::Duration;

use fake_ec2::{Account, Options, World};
use mysql_controller::{
    act::{Leaving, PassError, SWEEP_AGAIN, is_over},
    identity::CLUSTER_UID,
    outcome::{Verdict, verdict},
};
use reconcile::{clock::Clock, fence::Fence};

use crate::{
    cloud::Cloud,
    life::{Memory, REGION, UID, desired},
};

/// Longer than EC2 may take to show an instance.
const LONG: Duration = Duration::from_mins(20);

/// A cluster of three members, and another account.
struct Stage {
    cloud: Cloud,
    clock: Clock,
    memory: Memory,
    fence: Fence,
    other: World,
}

impl Stage {
    async fn new() -> Self {
        let clock = Clock::accelerated(1);
        let cloud = Cloud::calm(&clock, Duration::ZERO);
        let other = World::new(&Options {
            account: Account::empty().with_region(REGION, "87654321", "ami-0c02fb55956c7d316"),
            clock: clock.clone(),
            ..Options::default()
        });
        let stage = Self {
            memory: Memory::new(&cloud, &clock),
            cloud,
            clock,
            fence: Fence::open(),
            other,
        };
        stage.pass(Duration::from_mins(5)).await;
        assert_eq!(stage.live(), 3);
        stage
    }

    /// The credentials are another account's, or the right ones again.
    fn move_away(&self, away: bool) {
        *self.cloud.elsewhere.lock() = away.then(|| self.other.clone());
    }

    async fn pass(&self, time: Duration) {
        let until = self.clock.elapsed() + time;
        while self.clock.elapsed() < until {
            let ledger = self.cloud.notebook.ledger();
            let work = self.memory.work(&self.cloud, &self.fence);
            let pass = work.apply(&desired(3, 0), ledger).await;
            let next = pass.map_or(Duration::from_secs(1), |outcome| outcome.next);
            self.clock.sleep(next).await;
        }
        assert_eq!(*self.cloud.violations.lock(), [""; 0]);
    }

    /// Passes of a deletion for so long, or until the ledger says that every launch is over, or the end of it; whether it came.
    async fn leave(&self, time: Duration, until_over: bool) -> bool {
        let until = self.clock.elapsed() + time;
        while self.clock.elapsed() < until && !(until_over && is_over(&self.cloud.notebook.ledger())) {
            let ledger = self.cloud.notebook.ledger();
            let work = self.memory.work(&self.cloud, &self.fence);
            let next = match work.leave(ledger).await {
                Ok(Leaving::Over(_)) => return true,
                Ok(Leaving::Showing(_)) => SWEEP_AGAIN,
                Ok(Leaving::Going(outcome)) => outcome.next,
                Err(PassError::Cloud(error)) => {
                    assert_eq!(verdict(&error), Verdict::Denied, "{error}");
                    assert!(error.to_string().contains("subnet-1234567"), "{error}");
                    SWEEP_AGAIN
                }
                Err(error) => panic!("{error}"),
            };
            self.clock.sleep(next).await;
        }
        false
    }

    fn live(&self) -> usize {
        self.cloud.world.live(CLUSTER_UID, UID).len()
    }

    fn launches(&self) -> usize {
        let both = [self.cloud.world.audit(), self.other.audit()].concat();
        both.iter().filter(|call| call.action == "RunInstances").count()
    }

    fn is_doubted(&self) -> bool {
        let evidence = self.memory.evidence.lock();
        evidence
            .account_doubt()
            .is_some_and(|why| why.contains("subnet-1234567"))
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_launched_a_second_time_because_another_account_shows_nothing() {
    let stage = Stage::new().await;
    stage.move_away(true);
    stage.pass(LONG).await;
    assert!(stage.is_doubted(), "a person is told");
    stage.move_away(false);
    stage.pass(LONG).await;
    assert_eq!(
        (stage.launches(), stage.live(), stage.is_doubted()),
        (3, 3, false)
    );
}

#[tokio::test(start_paused = true)]
async fn a_deletion_waits_while_another_account_shows_nothing_and_then_leaves_nothing() {
    let stage = Stage::new().await;
    stage.move_away(true);
    assert!(!stage.leave(LONG, false).await);
    assert!(stage.is_doubted(), "a person is told");
    stage.move_away(false);
    assert!(stage.leave(LONG, false).await);
    assert_eq!(stage.live(), 0);
}

/// Volumes may be left, which another account does not show either.
#[tokio::test(start_paused = true)]
async fn the_last_look_of_a_deletion_is_not_at_another_account() {
    let stage = Stage::new().await;
    assert!(!stage.leave(LONG, true).await);
    stage.move_away(true);
    assert!(!stage.leave(LONG, false).await);
    stage.move_away(false);
    assert!(stage.leave(LONG, false).await);
}
