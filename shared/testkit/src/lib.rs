//! The test bed.

