//! Request rates below AWS's own, so that one operator leaves room for everything else in the account.
//!
//! A token bucket for each region and group of calls. Its rate is halved when EC2 says that it was too much, and grows
//! back slowly while EC2 does not (additive increase, multiplicative decrease).
//!
//! # Guarantees
//! - No call waits longer than [`PATIENCE`]: one that would is refused here, as throttled, without being sent.
//! - Waiting calls are let through in the order in which they came.
//! - The fence of a call is looked at when its turn has come, not when it is made.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use parking_lot::Mutex;
use reconcile::{clock::Clock, fence::Fence};

use crate::{
    cloud::{CloudError, Instance, Instances, Part, PartKind, Subnet},
    outcome::{Verdict, verdict},
    parameters::LaunchParameters,
};

/// The longest that a call waits for its turn.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The code of a call that was refused here.
pub const REFUSED: &str = "RequestThrottled";
/// The slowest: this part of the full rate.
const SLOWEST: f64 = 1.0 / 16.0;
/// What each call that was not throttled adds, as a part of the full rate.
const RECOVERY: f64 = 0.02;

/// A group of calls with a bucket of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Group {
    Launch,
    Terminate,
    Start,
    Describe,
    /// Of single instances, so that many that boot, or cannot, hold up no look at all of them.
    Console,
    Tag,
}

impl Group {
    /// Burst and calls per second: about half of what AWS documents for an account and region.
    fn rate(self) -> (f64, f64) {
        match self {
            Self::Launch | Self::Start => (3.0, 1.0),
            Self::Terminate => (20.0, 3.0),
            Self::Describe | Self::Tag => (20.0, 5.0),
            Self::Console => (10.0, 2.0),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Below zero: that many calls are waiting.
    tokens: f64,
    at: Duration,
    /// Part of the full rate.
    share: f64,
}

impl Bucket {
    fn full(group: Group, now: Duration) -> Self {
        Self {
            tokens: group.rate().0,
            at: now,
            share: 1.0,
        }
    }

    /// Takes a token, and says how long to wait for it; nothing if that is too long, and then takes none.
    fn take(&mut self, group: Group, now: Duration) -> Option<Duration> {
        let (burst, per_second) = group.rate();
        let rate = per_second * self.share;
        let gained = now.saturating_sub(self.at).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(burst);
        self.at = now;
        let wait = Duration::from_secs_f64(((1.0 - self.tokens) / rate).max(0.0));
        if wait > PATIENCE {
            return None;
        }
        self.tokens -= 1.0;
        Some(wait)
    }

    fn learn(&mut self, throttled: bool) {
        self.share = if throttled {
            (self.share / 2.0).max(SLOWEST)
        } else {
            (self.share + RECOVERY).min(1.0)
        };
    }
}

/// A cloud that is asked no faster than its buckets allow.
pub struct Limited<I> {
    cloud: I,
    clock: Clock,
    buckets: Mutex<HashMap<(String, Group), Bucket>>,
}

impl<I> Limited<I> {
    /// Limits `cloud`, with full buckets.
    pub fn new(cloud: I, clock: Clock) -> Self {
        Self {
            cloud,
            clock,
            buckets: Mutex::default(),
        }
    }

    async fn call<T>(
        &self,
        region: &str,
        group: Group,
        action: &'static str,
        call: impl Future<Output = Result<T, CloudError>>,
    ) -> Result<T, CloudError> {
        let wait = self.with(region, group, |bucket| bucket.take(group, self.clock.elapsed()));
        let Some(wait) = wait else {
            return Err(CloudError {
                action,
                code: Some(REFUSED.to_owned()),
                declined: false,
                message: "too many requests of this operator are waiting already; not sent".to_owned(),
            });
        };
        if !wait.is_zero() {
            self.clock.sleep(wait).await;
        }
        let result = call.await;
        let throttled = result
            .as_ref()
            .is_err_and(|error| verdict(error) == Verdict::Throttled);
        self.with(region, group, |bucket| bucket.learn(throttled));
        result
    }

    fn with<T>(&self, region: &str, group: Group, work: impl FnOnce(&mut Bucket) -> T) -> T {
        let mut buckets = self.buckets.lock();
        let now = self.clock.elapsed();
        work(
            buckets
                .entry((region.to_owned(), group))
                .or_insert_with(|| Bucket::full(group, now)),
        )
    }
}

impl<I: Instances> Instances for Limited<I> {
    async fn launch(
        &self,
        parameters: &LaunchParameters,
        token: Option<&str>,
        fence: &Fence,
    ) -> Result<Instance, CloudError> {
        let call = self.cloud.launch(parameters, token, fence);
        self.call(&parameters.region, Group::Launch, "RunInstances", call)
            .await
    }

    async fn list(&self, region: &str, operator_id: &str) -> Result<Vec<Instance>, CloudError> {
        self.call(
            region,
            Group::Describe,
            "DescribeInstances",
            self.cloud.list(region, operator_id),
        )
        .await
    }

    async fn get(&self, region: &str, id: &str) -> Result<Instance, CloudError> {
        self.call(
            region,
            Group::Describe,
            "DescribeInstances",
            self.cloud.get(region, id),
        )
        .await
    }

    async fn with_token(&self, region: &str, token: &str) -> Result<Vec<Instance>, CloudError> {
        self.call(
            region,
            Group::Describe,
            "DescribeInstances",
            self.cloud.with_token(region, token),
        )
        .await
    }

    async fn terminate(&self, region: &str, id: &str, fence: &Fence) -> Result<(), CloudError> {
        let call = self.cloud.terminate(region, id, fence);
        self.call(region, Group::Terminate, "TerminateInstances", call)
            .await
    }

    async fn start(&self, region: &str, id: &str, fence: &Fence) -> Result<(), CloudError> {
        let call = self.cloud.start(region, id, fence);
        self.call(region, Group::Start, "StartInstances", call).await
    }

    async fn tag(
        &self,
        region: &str,
        ids: &[String],
        tags: &BTreeMap<String, String>,
        fence: &Fence,
    ) -> Result<(), CloudError> {
        let call = self.cloud.tag(region, ids, tags, fence);
        self.call(region, Group::Tag, "CreateTags", call).await
    }

    async fn release(&self, region: &str, id: &str, fence: &Fence) -> Result<(), CloudError> {
        let call = self.cloud.release(region, id, fence);
        self.call(region, Group::Tag, "DeleteTags", call).await
    }

    async fn parts(&self, region: &str, operator_id: &str, uid: &str) -> Result<Vec<Part>, CloudError> {
        let call = self.cloud.parts(region, operator_id, uid);
        self.call(region, Group::Describe, "DescribeVolumes", call).await
    }

    async fn discard(&self, region: &str, part: &Part, fence: &Fence) -> Result<(), CloudError> {
        let action = match part.kind {
            PartKind::Volume => "DeleteVolume",
            PartKind::Interface => "DeleteNetworkInterface",
        };
        let call = self.cloud.discard(region, part, fence);
        self.call(region, Group::Terminate, action, call).await
    }

    async fn console(&self, region: &str, id: &str) -> Result<Option<String>, CloudError> {
        self.call(
            region,
            Group::Console,
            "GetConsoleOutput",
            self.cloud.console(region, id),
        )
        .await
    }

    async fn kept_devices(&self, region: &str, image: &str) -> Result<Vec<String>, CloudError> {
        let call = self.cloud.kept_devices(region, image);
        self.call(region, Group::Describe, "DescribeImages", call).await
    }

    async fn subnets(&self, region: &str, ids: &[String]) -> Result<Vec<Subnet>, CloudError> {
        self.call(
            region,
            Group::Describe,
            "DescribeSubnets",
            self.cloud.subnets(region, ids),
        )
        .await
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_members_of_a_cluster_are_launched_together_and_the_next_in_turn() {
        let mut bucket = Bucket::full(Group::Launch, Duration::ZERO);
        let waits: Vec<_> = (0..5)
            .map(|_| bucket.take(Group::Launch, Duration::ZERO).unwrap().as_secs())
            .collect();
        assert_eq!(waits, [0, 0, 0, 1, 2]);
    }

    #[test]
    fn who_would_wait_too_long_is_refused_and_takes_nothing() {
        let mut bucket = Bucket::full(Group::Launch, Duration::ZERO);
        let served = (0..100)
            .filter(|_| bucket.take(Group::Launch, Duration::ZERO).is_some())
            .count();
        assert_eq!(served, 13);
        assert!(bucket.take(Group::Launch, Duration::from_secs(1)).is_some());
    }

    #[test]
    fn being_throttled_halves_the_rate_which_comes_back_slowly() {
        let mut bucket = Bucket::full(Group::Describe, Duration::ZERO);
        bucket.learn(true);
        assert!((bucket.share - 0.5).abs() < 1e-9);
        for _ in 0..10 {
            bucket.learn(true);
        }
        assert!((bucket.share - SLOWEST).abs() < 1e-9);
        for _ in 0..50 {
            bucket.learn(false);
        }
        assert!((bucket.share - 1.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn over_any_stretch_no_more_pass_than_burst_and_rate_allow(gaps in prop::collection::vec(0u64..2000, 1..200)) {
            let mut bucket = Bucket::full(Group::Launch, Duration::ZERO);
            let (mut now, mut passed) = (Duration::ZERO, Vec::new());
            for gap in gaps {
                now += Duration::from_millis(gap);
                passed.extend(bucket.take(Group::Launch, now).map(|wait| now + wait));
            }
            for (index, from) in passed.iter().enumerate() {
                let within = passed[index..].iter().filter(|at| **at < *from + Duration::from_secs(10)).count();
                prop_assert!(within <= 3 + 10 + 1, "{within} calls within ten seconds");
            }
        }
    }
}
