//! When members last tried to become copies: what fails is not repeated at once, for each attempt reads all of another member.

use std::time::Duration;

use jiff::Timestamp;

use super::Evidence;

/// How long after the end of the first attempt the second is made; twice as long after each further one.
const FIRST_REST: Duration = Duration::from_mins(1);
/// The longest time from the end of one to the next.
const LONGEST_REST: Duration = Duration::from_mins(30);

/// The attempts of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copies {
    /// The certificate of the server: the next one of the member begins anew.
    server: String,
    attempts: u32,
    rests_until: Timestamp,
}

impl Evidence {
    /// The server of a member is told to become a copy.
    pub fn copies(&mut self, ordinal: i32, server: &str, now: Timestamp) {
        let before = self.copies.get(&ordinal).filter(|copies| copies.server == server);
        let copies = Copies {
            server: server.to_owned(),
            attempts: before.map_or(0, |copies| copies.attempts) + 1,
            rests_until: now,
        };
        self.copies.insert(ordinal, copies);
        self.copying(ordinal, server, now);
    }

    /// The server of a member is still trying: the time until the next attempt begins when it is seen to no more.
    pub fn copying(&mut self, ordinal: i32, server: &str, now: Timestamp) {
        let copies = self.copies.get_mut(&ordinal);
        if let Some(copies) = copies.filter(|copies| copies.server == server) {
            let rest = (FIRST_REST * (1 << (copies.attempts - 1).min(10))).min(LONGEST_REST);
            copies.rests_until = now.checked_add(rest).unwrap_or(now);
        }
    }

    /// Whether the server of a member has tried so lately that it is not told again.
    pub fn rests(&self, ordinal: i32, server: &str, now: Timestamp) -> bool {
        let copies = self.copies.get(&ordinal);
        copies.is_some_and(|copies| copies.server == server && now < copies.rests_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_told_less_and_less_often_and_another_one_at_once() {
        let mut evidence = Evidence::default();
        let told: Vec<i64> = (0..7200)
            .filter(|second| {
                let now = Timestamp::from_second(1_000_000 + second).unwrap();
                let tells = !evidence.rests(2, "PEM", now);
                if tells {
                    evidence.copies(2, "PEM", now);
                }
                tells
            })
            .collect();
        assert_eq!(told, [0, 60, 180, 420, 900, 1860, 3660, 5460]);
        let now = Timestamp::from_second(1_000_000 + 5461).unwrap();
        assert!(evidence.rests(2, "PEM", now));
        assert!(!evidence.rests(2, "OTHER", now) && !evidence.rests(1, "PEM", now));
    }

    #[test]
    fn what_took_long_rests_no_less_than_what_failed_at_once() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let mut evidence = Evidence::default();
        evidence.copying(2, "PEM", at(0));
        assert!(!evidence.rests(2, "PEM", at(0)), "it was told by nobody here");
        evidence.copies(2, "PEM", at(0));
        evidence.copying(2, "PEM", at(1790));
        evidence.copying(2, "OTHER", at(1800));
        assert!(evidence.rests(2, "PEM", at(1849)) && !evidence.rests(2, "PEM", at(1850)));
        evidence.copies(2, "PEM", at(1850));
        assert!(evidence.rests(2, "PEM", at(1969)) && !evidence.rests(2, "PEM", at(1970)));
    }
}
