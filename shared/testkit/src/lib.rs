//! The test bed.

pub mod fault;
