//! What can go wrong with a cluster.

use std::{io, path::PathBuf, time::Duration};

use crate::{control_plane::ControlPlaneError, docker::DockerError, image::ImageError, tools::ToolError};

/// Why there is no cluster, or why it did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The name.
    #[error("cluster name {0:?}: use up to 40 lower-case letters, digits and dashes, a letter first")]
    Name(String),
    /// No nodes.
    #[error("cluster {0}: a cluster has 1 to 20 nodes, the control plane included")]
    Nodes(String),
    /// It is not there.
    #[error("cluster {0}: there is none of this name; `cargo xtask cluster --name {0}` makes one")]
    Absent(String),
    /// One of this name exists and is different.
    #[error(
        "cluster {name}: one with {existing} nodes exists and {wanted} are wanted; delete it first \
         (`cargo xtask cluster delete --name {name}`) or choose another name"
    )]
    Different {
        /// The cluster.
        name: String,
        /// How many nodes it has.
        existing: u16,
        /// How many it should have.
        wanted: u16,
    },
    /// A container that is not the cluster's has one of its names.
    #[error(
        "cluster {name}: the container {container} exists and belongs to somebody else; choose another name, or remove \
         that container if it is yours"
    )]
    Foreign {
        /// The cluster.
        name: String,
        /// The container.
        container: String,
    },
    /// It was whole once and does not run.
    #[error(
        "cluster {0}: its containers do not run (was the machine restarted?); delete it and make it again \
         (`cargo xtask cluster delete --name {0}`)"
    )]
    Stopped(String),
    /// Docker refused.
    #[error("cluster {name}: cannot {action}: {source}")]
    Docker {
        /// The cluster.
        name: String,
        /// What was tried.
        action: String,
        /// The reason.
        source: Box<DockerError>,
    },
    /// Something did not happen in time.
    #[error("cluster {name}: not within {after:?}: {what}; last seen: {last}")]
    Deadline {
        /// The cluster.
        name: String,
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
        /// The last answer.
        last: String,
    },
    /// The network has no address for this machine.
    #[error(
        "docker network {0}: it has no gateway, so pods cannot reach this machine; is Docker's default driver in use?"
    )]
    NoGateway(String),
    /// An image is missing.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A tool or the cache is missing.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// Docker is missing.
    #[error(transparent)]
    NoDocker(#[from] DockerError),
    /// The kubeconfig cannot be used.
    #[error(transparent)]
    Kubeconfig(#[from] ControlPlaneError),
    /// A file could not be read or written.
    #[error("cluster files: {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}
