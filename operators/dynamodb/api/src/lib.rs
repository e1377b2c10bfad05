//! The kind.
