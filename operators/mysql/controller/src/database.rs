//! The kind `MySQL`: one server in the cluster, with its backups.

pub mod program;
