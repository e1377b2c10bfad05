//! What a backup is taken for, as it stands on its Job.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::hexadecimal;

/// How many characters of what a person writes into the annotation are kept: a status holds no more.
const LONGEST: usize = 256;

/// What a backup is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A person asked, with this value of the annotation: [`told`].
    Now(String),
    /// The schedule said this time.
    Scheduled(Timestamp),
    /// The object is being deleted, since this time.
    Final(Timestamp),
}

impl Request {
    /// As it stands on a Job.
    pub(super) fn annotation(&self) -> String {
        match self {
            Self::Now(value) => format!("now/{value}"),
            Self::Scheduled(at) => format!("schedule/{at}"),
            Self::Final(at) => format!("final/{at}"),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kind, value) = text.split_once('/')?;
        Some(match kind {
            "now" => Self::Now(told(value)),
            "schedule" => Self::Scheduled(value.parse().ok()?),
            "final" => Self::Final(value.parse().ok()?),
            _ => return None,
        })
    }

    /// The id of the backup that it makes if it is begun at `begun`. What falls due or is the last has one id, however
    /// often it is begun; a person may ask with one value again and means another backup each time.
    pub fn id(&self, uid: &str, begun: Timestamp) -> String {
        let digest = Sha256::digest(format!("{uid} {}", self.annotation()));
        let mark = hexadecimal(&digest[..], 5);
        let at = |at: &Timestamp| at.strftime("%Y%m%dT%H%M%SZ").to_string();
        match self {
            Self::Now(_) => format!("now-{}-{mark}", at(&begun)),
            Self::Scheduled(time) => format!("{}-{mark}", at(time)),
            Self::Final(time) => format!("final-{}-{mark}", at(time)),
        }
    }
}

/// The value of the annotation as it is remembered: one that is too long for a status is cut, and told from others by a
/// digest of the whole.
pub fn told(value: &str) -> String {
    if value.chars().count() <= LONGEST {
        return value.to_owned();
    }
    let mark = hexadecimal(&Sha256::digest(value)[..], 8);
    let begin: String = value.chars().take(LONGEST - mark.len() - 1).collect();
    format!("{begin}…{mark}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_value_that_is_too_long_what_fits_is_kept_and_no_two_are_the_same() {
        let (one, other) = ("ä".repeat(300), format!("{}b", "ä".repeat(299)));
        assert_eq!(told(&one).chars().count(), LONGEST);
        assert_ne!(told(&one), told(&other));
        assert_eq!(told(&told(&one)), told(&one), "what was told is told as it is");
        let longest = "x".repeat(LONGEST);
        assert_eq!(told(&longest), longest);
    }
}
