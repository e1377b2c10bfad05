//! The kind `MySQL` against a real API server with its controllers, and nodes that are played.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod adoption;
mod backups;
mod bed;
mod claims;
mod deletion;
mod disks;
mod efforts;
mod endings;
mod faults;
mod folders;
mod idle;
mod images;
mod kubelet;
mod lives;
mod loads;
mod losses;
mod moves;
mod neighbours;
mod refusals;
mod takeovers;
mod upgrade;
mod webhooks;
