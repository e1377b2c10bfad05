//! A `MySQL` on a real cluster, with real servers, volumes and Jobs, and the shipped program as its operator.
//!
//! `TESTKIT_FULL=1` kills more often; the line that a test prints replays its moments.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; the lints' own exceptions do not reach their helper functions"
)]

mod bed;
mod kills;
mod story;
