//! The controllers, one per kind.

pub mod mysql;
pub mod mysqlcluster;
