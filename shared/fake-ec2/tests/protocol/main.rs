//! What the server promises, asked over plain HTTP, so that no SDK's habits stand in between.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod bed;
mod describing;
mod failing;
mod launching;
mod living;
