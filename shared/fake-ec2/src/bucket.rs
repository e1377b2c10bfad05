//! Request rates: token buckets as AWS documents them in *Request throttling for the Amazon EC2 API*, per account
//! and region.

use std::collections::HashMap;

use crate::history::Moment;

/// A bucket's size and its refill per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    burst: u32,
    per_second: u32,
}

const fn rate(burst: u32, per_second: u32) -> Rate {
    Rate { burst, per_second }
}

#[derive(Clone, Copy, Debug)]
struct Level {
    tokens: f64,
    at: Moment,
}

/// The buckets of an account.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buckets {
    levels: HashMap<(String, String), Level>,
}

impl Buckets {
    /// Takes one request of `action`, and `resources` from its resource bucket if it has one. Says whether there
    /// was enough; if not, nothing is taken.
    pub(crate) fn take(&mut self, region: &str, action: &str, call: Shape, now: Moment) -> bool {
        let requests = request_rate(action, call.narrowed);
        let request_bucket = bucket_name(action, call.narrowed);
        if !self.holds(region, &request_bucket, requests, 1, now) {
            return false;
        }
        if let Some(resources) = resource_rate(action) {
            let bucket = format!("{action} resources");
            if !self.holds(region, &bucket, resources, call.resources, now) {
                return false;
            }
            self.spend(region, &bucket, call.resources);
        }
        self.spend(region, &request_bucket, 1);
        true
    }

    fn holds(&mut self, region: &str, bucket: &str, rate: Rate, wanted: u32, now: Moment) -> bool {
        let full = f64::from(rate.burst);
        let level = self
            .levels
            .entry((region.to_owned(), bucket.to_owned()))
            .or_insert(Level {
                tokens: full,
                at: now,
            });
        let gained = now.saturating_sub(level.at).as_secs_f64() * f64::from(rate.per_second);
        level.tokens = (level.tokens + gained).min(full);
        level.at = now;
        level.tokens >= f64::from(wanted)
    }

    fn spend(&mut self, region: &str, bucket: &str, wanted: u32) {
        if let Some(level) = self.levels.get_mut(&(region.to_owned(), bucket.to_owned())) {
            level.tokens -= f64::from(wanted);
        }
    }
}

/// What a call takes from the buckets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// For Describe calls: filtered or paginated.
    pub(crate) narrowed: bool,
    /// Instances launched, stopped, …
    pub(crate) resources: u32,
}

fn request_rate(action: &str, narrowed: bool) -> Rate {
    match action {
        "RunInstances" | "StartInstances" => rate(5, 2),
        "TerminateInstances" => rate(100, 5),
        "CreateTags" | "DeleteTags" => rate(100, 10),
        "DescribeInstances" | "DescribeVolumes" | "DescribeNetworkInterfaces" | "DescribeInstanceStatus"
            if !narrowed =>
        {
            rate(50, 10)
        }
        _ if action.starts_with("Describe") || action.starts_with("Get") => rate(100, 20),
        _ => rate(50, 5),
    }
}

/// Actions without a rate of their own share their category's bucket.
fn bucket_name(action: &str, narrowed: bool) -> String {
    let own = matches!(
        action,
        "RunInstances" | "StartInstances" | "TerminateInstances" | "CreateTags" | "DeleteTags"
    );
    if own {
        return action.to_owned();
    }
    match (
        action.starts_with("Describe") || action.starts_with("Get"),
        narrowed,
    ) {
        (true, true) => "reads".to_owned(),
        (true, false) => format!("plain {action}"),
        (false, _) => "mutations".to_owned(),
    }
}

fn resource_rate(action: &str) -> Option<Rate> {
    match action {
        "RunInstances" | "StartInstances" => Some(rate(1000, 2)),
        "TerminateInstances" | "StopInstances" => Some(rate(1000, 20)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ONE: Shape = Shape {
        narrowed: true,
        resources: 1,
    };

    #[test]
    fn launches_burst_to_five_and_then_go_on_at_two_a_second() {
        let mut buckets = Buckets::default();
        let now = Duration::from_secs(1);
        let mut launch = |at| buckets.take("r", "RunInstances", ONE, at);
        assert_eq!((0..9).filter(|_| launch(now)).count(), 5);
        let later = now + Duration::from_secs(1);
        assert_eq!((0..9).filter(|_| launch(later)).count(), 2);
    }

    #[test]
    fn regions_do_not_share_their_buckets() {
        let mut buckets = Buckets::default();
        let now = Duration::from_secs(1);
        while buckets.take("a", "RunInstances", ONE, now) {}
        assert!(buckets.take("b", "RunInstances", ONE, now));
    }
}
