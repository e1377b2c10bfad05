//! The test bed.

pub mod audit;
pub mod bench;
pub mod capi;
pub mod cluster;
pub mod control_plane;
pub mod docker;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
pub mod fault;
pub mod golden;
pub mod helm;
pub mod image;
pub mod process;
pub mod progress;
pub mod tools;
