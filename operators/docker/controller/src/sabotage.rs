//! Named mistakes, made on purpose in test builds; see [`reconcile::sabotages!`].

reconcile::sabotages! {
    /// A container of the right name counts as ours, whoever made it.
    ADOPT_FOREIGN_CONTAINER: &str = "adopt-foreign-container";
    /// A published machine whose container is gone gets a new one.
    RECREATE_LOST_MACHINE: &str = "recreate-lost-machine";
    /// A configuration that stands in its file counts as loaded.
    TRUST_WRITTEN_CONFIGURATION: &str = "trust-written-configuration";
    /// A machine that is about to go gets new connections.
    SERVE_DRAINING: &str = "serve-draining";
    /// A bootstrap that began is begun again.
    REPLAY_BOOTSTRAP: &str = "replay-bootstrap";
    /// The finalizer goes before the container.
    KEEP_CONTAINER: &str = "keep-container";
    /// Attempts at a bootstrap are not counted.
    FORGET_ATTEMPTS: &str = "forget-attempts";
    /// A further control plane machine gets another attempt, though it may be a member of etcd.
    REPEAT_CONTROL_PLANE: &str = "repeat-control-plane";
    /// The load balancer learns of a machine's end only from its own reconciler.
    SKIP_DEREGISTRATION: &str = "skip-deregistration";
    /// What comes to a cluster that names no network is put on the default one, wherever the cluster is.
    FOLLOW_DEFAULT_NETWORK: &str = "follow-default-network";
    /// What a move has deleted goes with all that it stands for.
    TEAR_DOWN_MOVED: &str = "tear-down-moved";
}
