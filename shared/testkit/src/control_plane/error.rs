//! What can go wrong with a control plane.

use std::{io, path::PathBuf, time::Duration};

use super::{KUBECONFIG_VARIABLE, PkiError};
use crate::{process::ProcessError, tools::ToolError};

/// Why there is no control plane, or why it did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// A program is not to be had.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// No certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A process did not start or ended.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file or a port.
    #[error("control plane: {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// The reason.
        source: io::Error,
    },
    /// The kubeconfig cannot be used.
    #[error("control plane: kubeconfig {}: {source}", .path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: Box<kube::config::KubeconfigError>,
    },
    /// A request failed.
    #[error("control plane: cannot {action}: {source}")]
    Request {
        /// What was tried.
        action: String,
        /// The reason.
        source: Box<kube::Error>,
    },
    /// Something did not happen in time.
    #[error("control plane: not within {after:?}: {what}; logs are in {}", .folder.display())]
    Deadline {
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
        /// Where the processes' logs are.
        folder: PathBuf,
    },
    /// The processes belong to somebody else.
    #[error(
        "control plane: cannot {0}: this one was attached to through {KUBECONFIG_VARIABLE}; start one of your own with ControlPlane::start"
    )]
    NotOurs(&'static str),
}

pub(super) fn during(action: &str) -> impl FnOnce(io::Error) -> ControlPlaneError {
    let action = action.to_owned();
    move |source| ControlPlaneError::Io { action, source }
}

pub(super) fn requesting(action: String) -> impl FnOnce(kube::Error) -> ControlPlaneError {
    move |source| ControlPlaneError::Request {
        action,
        source: Box::new(source),
    }
}
