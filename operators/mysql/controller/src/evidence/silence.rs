//! Servers that were waited for in vain.

use jiff::{SignedDuration, Timestamp};

use super::Evidence;

/// How long a server is not asked that was waited for in vain twice, one time after the other.
const SILENCE: SignedDuration = SignedDuration::from_secs(30);

/// What is known of such a one.
#[derive(Clone, Debug)]
pub(super) struct Silence {
    /// What was said the last time.
    trouble: String,
    /// When that was.
    last: Timestamp,
    /// How often, without an answer in between. Once is soon had by a server that has much to do.
    times: u32,
}

impl Evidence {
    /// The server with this certificate was waited for in vain; if not for the first time, it is not asked again for a
    /// while.
    pub fn silent(&mut self, server: &str, trouble: String, now: Timestamp) {
        self.silent
            .retain(|_, silence| now.duration_since(silence.last) < SILENCE * 10);
        let times = self.silent.get(server).map_or(0, |silence| silence.times) + 1;
        let silence = Silence {
            trouble,
            last: now,
            times,
        };
        self.silent.insert(server.to_owned(), silence);
    }

    /// It has answered.
    pub fn heard(&mut self, server: &str) {
        self.silent.remove(server);
    }

    /// What was said of a server that was waited for in vain lately.
    pub fn silence(&self, server: &str, now: Timestamp) -> Option<&str> {
        let silence = self.silent.get(server)?;
        let is_silent = silence.times > 1 && now.duration_since(silence.last) < SILENCE;
        is_silent.then_some(silence.trouble.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_waited_for_in_vain_is_not_waited_for_with_each_pass() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let mut evidence = Evidence::default();
        let silent =
            |evidence: &mut Evidence, second| evidence.silent("a", "no connection".into(), at(second));
        silent(&mut evidence, 0);
        assert_eq!(evidence.silence("a", at(1)), None, "it may have much to do");
        silent(&mut evidence, 10);
        assert_eq!(evidence.silence("a", at(39)), Some("no connection"));
        assert_eq!(
            (evidence.silence("a", at(40)), evidence.silence("b", at(11))),
            (None, None)
        );
        silent(&mut evidence, 40);
        assert_eq!(evidence.silence("a", at(41)), Some("no connection"));
        evidence.heard("a");
        silent(&mut evidence, 50);
        assert_eq!(evidence.silence("a", at(51)), None);
    }
}
