//! The operator.

pub mod cli;
pub mod connection;
pub mod controllers;
pub mod credentials;
pub mod endpoint;
pub mod manager;
pub mod metrics;
pub mod partition;
pub mod policy;
pub mod sabotage;
