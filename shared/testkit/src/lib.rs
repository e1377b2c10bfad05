//! The test bed.

pub mod audit;
pub mod control_plane;
pub mod fault;
pub mod process;
pub mod progress;
pub mod tools;
