//! Faults drawn from a seed, without a generator's hidden state: each draw is a hash of the seed, the site and the
//! request's number there, so that concurrency does not change what a seed means.

use std::time::Duration;

use super::{Call, Kind};
use crate::fault::schedule::{Fault, Seeded};

const APPLIED_TIMEOUT: Fault = Fault::Status {
    code: 504,
    retry_after: None,
    applied: true,
};
const APPLIED_ERROR: Fault = Fault::Status {
    code: 500,
    retry_after: None,
    applied: true,
};

const READ: &[Fault] = &[
    Fault::Refuse,
    Fault::Lose,
    Fault::throttle(1),
    Fault::status(500),
    Fault::status(504),
];
const LIST: &[Fault] = &[
    Fault::Refuse,
    Fault::Lose,
    Fault::throttle(1),
    Fault::status(500),
    Fault::StaleList,
];
const WATCH: &[Fault] = &[
    Fault::Refuse,
    Fault::DropWatch(0),
    Fault::DropWatch(2),
    Fault::status(410),
    Fault::status(500),
];
const CREATE: &[Fault] = &[
    Fault::Refuse,
    Fault::Lose,
    Fault::throttle(1),
    Fault::status(500),
    Fault::status(504),
    APPLIED_TIMEOUT,
];
const CHANGE: &[Fault] = &[
    Fault::Refuse,
    Fault::Lose,
    Fault::throttle(1),
    Fault::status(409),
    Fault::status(500),
    Fault::status(504),
    APPLIED_TIMEOUT,
];
const CALL: &[Fault] = &[
    Fault::Refuse,
    Fault::Lose,
    Fault::Delay(Duration::from_millis(100)),
    Fault::status(500),
    Fault::status(503),
    APPLIED_ERROR,
];

/// What the seed has for the `nth` request of a site, after `consecutive` failures there. Never a hang: that lasts
/// as long as the caller's patience, which is real time.
pub(super) fn fault(seeded: Seeded, call: &Call, nth: u64, consecutive: u32) -> Option<Fault> {
    let drawn = hash(seeded.seed, &call.site, nth);
    if consecutive >= seeded.max_consecutive || drawn % 1000 >= u64::from(seeded.per_mille) {
        return None;
    }
    let faults = match call.kind {
        Kind::Read => READ,
        Kind::List => LIST,
        Kind::Watch => WATCH,
        Kind::Create => CREATE,
        Kind::Update | Kind::Delete => CHANGE,
        Kind::Call => CALL,
    };
    let pick = usize::try_from((drawn >> 20) & 0xffff_ffff).unwrap_or(0);
    faults.get(pick % faults.len()).copied()
}

/// FNV-1a over the site, finished by splitmix64's mixer.
fn hash(seed: u64, site: &str, nth: u64) -> u64 {
    let folded = site.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(mix(folded ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(nth))
}

/// splitmix64's mixer: every bit of the result depends on every bit of `value`.
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
