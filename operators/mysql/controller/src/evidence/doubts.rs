//! What is known of the attempts of a launch, and of launches that are refused and may have been made all the same.
//!
//! # Guarantees
//! - What is not remembered counts as not known: an operator that has just started gives no launch up at once.
//! - A launch is disproved only when its last attempt is longer ago than EC2 may take to show what came of it.

use jiff::Timestamp;

use super::{Evidence, Hold, PROPAGATION};
use crate::outcome::Verdict;

impl Evidence {
    /// A launch of a member is attempted: until there is an answer, nobody knows what comes of it.
    pub fn attempt(&mut self, ordinal: i32) {
        self.refused.remove(&ordinal);
    }

    /// Every attempt of the launch of this token was refused.
    pub fn refused(&mut self, ordinal: i32, token: &str) {
        self.refused.insert(ordinal, token.to_owned());
    }

    /// Whether every attempt of the launch of this token was refused, as far as anybody remembers: if not, one may have been
    /// made.
    pub fn is_only_refused(&self, ordinal: i32, token: &str) -> bool {
        self.refused.get(&ordinal).is_some_and(|refused| refused == token)
    }

    /// The launch of this token is refused now, and may have been made before: it is not repeated any more.
    pub fn doubt(&mut self, ordinal: i32, token: &str, now: Timestamp) {
        let same = self
            .doubts
            .get(&ordinal)
            .is_some_and(|(doubted, _)| doubted == token);
        if !same {
            self.doubts.insert(ordinal, (token.to_owned(), now));
        }
    }

    /// Whether the launch of this token is not to be repeated but looked for.
    pub fn is_doubted(&self, ordinal: i32, token: &str) -> bool {
        self.doubts
            .get(&ordinal)
            .is_some_and(|(doubted, _)| doubted == token)
    }

    /// Whether the last attempt of a launch that is looked for is so long ago that EC2 would show what came of it.
    pub fn is_disproved(&self, ordinal: i32, token: &str, now: Timestamp) -> bool {
        let doubt = self.doubts.get(&ordinal).filter(|(doubted, _)| doubted == token);
        doubt.is_some_and(|(_, since)| now.duration_since(*since) > PROPAGATION)
    }

    /// Nothing came of a launch. The next one need not wait, unless it would be refused as well.
    pub fn settle(&mut self, ordinal: i32) {
        self.doubts.remove(&ordinal);
        let waits = |hold: &Hold| matches!(hold.verdict, Verdict::Refused | Verdict::NoCapacity);
        if !self.holds.get(&ordinal).is_some_and(waits) {
            self.release(ordinal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    #[test]
    fn only_what_was_refused_each_time_counts_as_never_made() {
        let mut evidence = Evidence::default();
        assert!(!evidence.is_only_refused(0, "t"), "nobody remembers");
        evidence.attempt(0);
        evidence.refused(0, "t");
        assert!(evidence.is_only_refused(0, "t") && !evidence.is_only_refused(0, "u"));
        evidence.attempt(0);
        assert!(
            !evidence.is_only_refused(0, "t"),
            "it may have been made just now"
        );
    }

    #[test]
    fn a_doubtful_launch_is_disproved_five_minutes_after_it_was_refused_whatever_is_refused_later() {
        let mut evidence = Evidence::default();
        evidence.doubt(0, "t", at(0));
        evidence.doubt(0, "t", at(200));
        assert!(evidence.is_doubted(0, "t") && !evidence.is_doubted(0, "u"));
        assert!(!evidence.is_disproved(0, "t", at(300)));
        assert!(evidence.is_disproved(0, "t", at(301)) && !evidence.is_disproved(0, "u", at(301)));
    }

    #[test]
    fn what_would_be_refused_again_waits_and_what_was_denied_does_not() {
        for (verdict, waits) in [(Verdict::Refused, true), (Verdict::Denied, false)] {
            let mut evidence = Evidence::default();
            evidence.hold(0, verdict, "no".into(), at(0));
            evidence.settle(0);
            assert_eq!(evidence.is_held(0, at(1)), waits, "{verdict:?}");
        }
    }
}
