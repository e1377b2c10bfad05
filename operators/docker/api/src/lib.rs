//! The Docker kinds of Cluster API's infrastructure group: `DockerCluster`, `DockerMachine` and their templates.
//!
//! This crate is types and schema only. What each field means stands in its doc comment, which is also what
//! `kubectl explain` prints.
//!
//! # Guarantees
//! - One schema in all served versions (`v1alpha1`, `v1beta2`), so an object means the same in each and nothing is
//!   converted; `v1beta1` is listed and not served, so that the definitions can be applied over older ones.
//! - Manifests written for upstream's Docker provider (its `v1beta2`) apply unchanged.
//! - Two spellings of one thing (`loadbalancerImage` and `loadBalancer`, `mounts` and `extraMounts`) are refused
//!   together and mean the same alone.
//! - The shapes that Cluster API reads (`spec.providerID`, `spec.controlPlaneEndpoint`,
//!   `status.initialization.provisioned`, `status.failureDomains`, `status.addresses`) follow its contract v1beta2.

mod cluster;
mod crd;
mod machine;
mod reason;
mod shared;
mod template;

pub use cluster::{
    CustomTemplateRef, DockerCluster, DockerClusterSpec, DockerClusterStatus, Endpoint, FailureDomain,
    LoadBalancer, Network,
};
pub use crd::{CONTRACT_LABEL, crds};
pub use machine::{
    AddressType, DockerMachine, DockerMachineSpec, DockerMachineStatus, ImagePullPolicy, LocalSecretRef,
    MachineAddress, Mount, NodeResources, PortMapping, PortProtocol,
};
pub use reason::{ConditionType, Reason};
pub use shared::{Initialization, TemplateMeta};
pub use template::{
    DockerClusterTemplate, DockerClusterTemplateResource, DockerClusterTemplateSpec, DockerMachineTemplate,
    DockerMachineTemplateResource, DockerMachineTemplateSpec, DockerMachineTemplateStatus, NodeInfo,
};

/// The group that the kinds belong to; Cluster API's managers already have rights in it.
pub const GROUP: &str = "infrastructure.cluster.x-k8s.io";

/// The version that is stored, and that the controllers speak.
pub const STORAGE_VERSION: &str = "v1beta2";

/// The port of a control plane endpoint that names none.
pub const DEFAULT_ENDPOINT_PORT: i32 = 6443;
