//! The closed sets of condition types and reasons that the Docker kinds report.

use std::fmt;

macro_rules! closed_set {
    ($(#[$outer:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// Every value of the set, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The value as it stands in a condition.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)+ }
            }

            /// What the value tells a user.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc, "\n",)+),)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

closed_set! {
    /// The types of condition in `status.conditions`.
    ConditionType {
        /// The summary, over the whole life of the object, deletion included.
        Ready,
        /// DockerCluster: the load balancer runs with the configuration that it should have.
        LoadBalancerAvailable,
        /// DockerMachine: the container runs.
        ContainerProvisioned,
        /// DockerMachine: the bootstrap of the node is over and went well.
        BootstrapCompleted,
        /// DockerMachine: older name of `BootstrapCompleted`, always with the same content.
        BootstrapExecSucceeded,
        /// The object, or its Cluster, is paused: nothing is done.
        Paused,
    }
}

closed_set! {
    /// Why a condition has its status. Reasons are stable: scripts may compare them.
    Reason {
        /// Everything is as it should be.
        Ready,
        /// The load balancer runs with the configuration that it should have.
        Available,
        /// Not running, or not configured yet; the message says what is wrong.
        NotAvailable,
        /// The container runs.
        Provisioned,
        /// The container could not be made, or stopped; the message says why.
        NotProvisioned,
        /// The load balancer and the network must be there first.
        WaitingForClusterInfrastructureReady,
        /// The first control plane machine must be up before workers can join.
        WaitingForControlPlaneInitialized,
        /// The bootstrap provider has not delivered its data yet.
        WaitingForBootstrapData,
        /// The container must run first.
        WaitingForContainer,
        /// The node's bootstrap runs; the message tells the step.
        Bootstrapping,
        /// The bootstrap is over and went well.
        Completed,
        /// The bootstrap failed or took too long; it is not repeated over a half-made node.
        Failed,
        /// The bootstrap failed, and is tried again in a fresh container.
        Repeating,
        /// The container was restarted in mid-bootstrap; the half-made node cannot be trusted.
        Interrupted,
        /// The bootstrap data cannot be used: missing, of a format that is not supported, or malformed.
        BootstrapDataInvalid,
        /// A mount is incomplete, does not exist on the Docker host, or is not allowed.
        MountInvalid,
        /// The image is not there, cannot be pulled, or is of another architecture.
        ImageUnavailable,
        /// A container of that name exists and belongs to somebody else; it is left untouched.
        NameConflict,
        /// The Docker daemon cannot be reached or refuses.
        DockerUnavailable,
        /// Objects may still be stored in a version that is not converted; the message has the command that cures it.
        StorageMigrationNeeded,
        /// A limit, port or other field of the spec cannot be used as it stands.
        SpecInvalid,
        /// Being removed.
        Deleting,
        /// Paused by a person or by `clusterctl move`.
        Paused,
        /// Not paused.
        NotPaused,
    }
}
