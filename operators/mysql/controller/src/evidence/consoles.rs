//! When consoles were read of members that have no certificate yet: reading one is a request for each member, where all else
//! that is asked of EC2 is asked for all members at once.

use jiff::{SignedDuration, Timestamp};

use super::Evidence;

/// How often a console is read while its instance boots.
const BOOTING: SignedDuration = SignedDuration::from_secs(10);
/// For so long an instance counts as booting.
const BOOT: SignedDuration = SignedDuration::from_mins(2);
/// How often a console is read in the end, and one that tells of a failure from the beginning.
const SLOWEST: SignedDuration = SignedDuration::from_mins(5);

/// What came of reading a console that showed no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoCertificate {
    /// In words.
    pub trouble: String,
    /// What mysqld says against its options, if it does.
    pub refusal: Option<String>,
    /// Whether the setup of the instance has ended, as far as it tells.
    pub is_final: bool,
}

/// The console of an instance.
#[derive(Clone, Debug)]
pub(super) struct Console {
    first: Timestamp,
    again: Timestamp,
    shown: NoCertificate,
}

impl Evidence {
    /// What the console of an instance showed, while it is too early to read it again.
    pub fn console(&self, instance: &str, now: Timestamp) -> Option<&NoCertificate> {
        let console = self.consoles.get(instance)?;
        (now < console.again).then_some(&console.shown)
    }

    /// The console of an instance was read, and showed no certificate. The longer it does not, the less often it is read.
    pub fn console_read(&mut self, instance: &str, shown: NoCertificate, now: Timestamp) {
        let first = self.consoles.get(instance).map_or(now, |console| console.first);
        let waited = now.duration_since(first);
        let wait = if shown.is_final {
            SLOWEST
        } else if waited < BOOT {
            BOOTING
        } else {
            (waited / 4).min(SLOWEST)
        };
        // Instances come and go; of those that have gone nobody asks any more.
        self.consoles
            .retain(|_, console| now.duration_since(console.again) < SLOWEST);
        let again = now.checked_add(wait).unwrap_or(now);
        self.consoles
            .insert(instance.to_owned(), Console { first, again, shown });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At which seconds of an hour a console is read that shows this.
    fn read(shown: &NoCertificate) -> Vec<i64> {
        let mut evidence = Evidence::default();
        (0..3600)
            .filter(|second| {
                let now = Timestamp::from_second(1_000_000 + second).unwrap();
                let due = evidence.console("i-1", now).is_none();
                if due {
                    evidence.console_read("i-1", shown.clone(), now);
                }
                due
            })
            .collect()
    }

    #[test]
    fn a_console_that_shows_no_certificate_is_read_less_and_less_often() {
        let booting = NoCertificate {
            trouble: "nothing yet".into(),
            refusal: None,
            is_final: false,
        };
        let often = read(&booting);
        assert_eq!(
            often[..13],
            [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120]
        );
        assert_eq!(often[13..18], [150, 188, 235, 294, 368]);
        assert!(often.len() < 40, "{often:?}");
        let ended = NoCertificate {
            is_final: true,
            ..booting
        };
        assert_eq!(read(&ended)[..4], [0, 300, 600, 900]);
    }

    #[test]
    fn each_instance_has_a_console_of_its_own_and_none_is_remembered_for_ever() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let shown = NoCertificate {
            trouble: "nothing yet".into(),
            refusal: None,
            is_final: false,
        };
        let mut evidence = Evidence::default();
        evidence.console_read("i-1", shown.clone(), at(0));
        assert_eq!(evidence.console("i-1", at(9)), Some(&shown));
        assert_eq!(evidence.console("i-1", at(10)), None);
        assert_eq!(evidence.console("i-2", at(0)), None);
        evidence.console_read("i-2", shown, at(1000));
        assert_eq!(evidence.consoles.len(), 1);
    }
}
