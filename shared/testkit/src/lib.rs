//! The test bed.

pub mod audit;
pub mod bench;
pub mod control_plane;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
pub mod fault;
pub mod process;
pub mod progress;
pub mod tools;
