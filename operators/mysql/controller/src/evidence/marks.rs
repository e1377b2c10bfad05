//! What the leader had some time ago: a replica that has less is behind.

use jiff::{SignedDuration, Timestamp};

use super::Evidence;
use crate::gtid::GtidSet;

/// How far behind a replica may be, at least: what is written is applied by replicas a moment later.
pub const LAG: SignedDuration = SignedDuration::from_secs(10);

/// What the leader had at two moments, at least [`LAG`] apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    older: Option<GtidSet>,
    newer: Option<(GtidSet, Timestamp)>,
}

impl Evidence {
    /// The leader has these transactions now; returns what it had [`LAG`] ago or before, as far as it was looked at then.
    pub fn led_lately(&mut self, executed: &GtidSet, now: Timestamp) -> Option<GtidSet> {
        let marks = &mut self.marks;
        match &marks.newer {
            Some((_, at)) if now.duration_since(*at) < LAG => {}
            _ => {
                let newer = marks.newer.replace((executed.clone(), now));
                marks.older = newer.map(|(executed, _)| executed);
            }
        }
        marks.older.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_held_against_what_the_leader_had_some_time_ago() {
        let set = |last: u32| -> GtidSet {
            format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-{last}")
                .parse()
                .unwrap()
        };
        let mut evidence = Evidence::default();
        let mut look = |second: i64, last: u32| {
            let now = Timestamp::from_second(1_000_000 + second).unwrap();
            evidence.led_lately(&set(last), now)
        };
        assert_eq!(look(0, 10), None, "nobody has looked before");
        assert_eq!(look(9, 20), None);
        assert_eq!(look(10, 30), Some(set(10)));
        assert_eq!(look(15, 40), Some(set(10)));
        assert_eq!(look(20, 50), Some(set(30)));
        assert_eq!(look(900, 60), Some(set(50)));
    }
}
