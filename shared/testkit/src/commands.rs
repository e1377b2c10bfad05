//! The subcommands of the test bed's binary, a file each.

pub(crate) mod control_plane;
#[cfg(feature = "dynamodb")]
pub(crate) mod up;
