//! The operator against a real API server and EC2's semantics, through the real SDK.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod adoption;
mod bed;
mod console;
mod disk;
#[path = "../../../controller/tests/database/disks.rs"]
#[expect(dead_code, reason = "another suite looks at what volumes hold")]
mod disks;
mod errors;
mod faults;
mod fence;
mod fleet;
mod forming;
#[path = "../../../controller/tests/database/kubelet.rs"]
#[expect(dead_code, reason = "another suite breaks programs")]
mod kubelet;
mod leftovers;
mod lives;
mod metrics;
mod orphans;
mod outages;
mod owned;
mod refusals;
mod remains;
mod rights;
mod rollout;
mod silence;
mod smoke;
mod succession;
mod supervision;
mod tags;
mod upgrade;
