//! Named mistakes, made on purpose in test builds: a suite that stays green while one of them is made tests nothing.
//!
//! In what ships `active` is the constant `false` and the branches are compiled away. With the crate's feature
//! `sabotage`, or in its own unit tests, the environment variable `TESTKIT_SABOTAGE` names the one mistake that the
//! process makes.

/// A container of the right name counts as ours, whoever made it.
pub(crate) const ADOPT_FOREIGN_CONTAINER: &str = "adopt-foreign-container";
/// A published machine whose container is gone gets a new one.
pub(crate) const RECREATE_LOST_MACHINE: &str = "recreate-lost-machine";
/// A configuration that stands in its file counts as loaded.
pub(crate) const TRUST_WRITTEN_CONFIGURATION: &str = "trust-written-configuration";
/// A machine that is about to go gets new connections.
pub(crate) const SERVE_DRAINING: &str = "serve-draining";
/// A bootstrap that began is begun again.
pub(crate) const REPLAY_BOOTSTRAP: &str = "replay-bootstrap";
/// The finalizer goes before the container.
pub(crate) const KEEP_CONTAINER: &str = "keep-container";
/// The load balancer learns of a machine's end only from its own reconciler.
pub(crate) const SKIP_DEREGISTRATION: &str = "skip-deregistration";

/// Every mistake that this crate can make.
pub const ALL: &[&str] = &[
    ADOPT_FOREIGN_CONTAINER,
    RECREATE_LOST_MACHINE,
    TRUST_WRITTEN_CONFIGURATION,
    SERVE_DRAINING,
    REPLAY_BOOTSTRAP,
    KEEP_CONTAINER,
    SKIP_DEREGISTRATION,
];

/// Whether the named mistake is to be made now.
#[cfg(any(test, feature = "sabotage"))]
pub(crate) fn active(name: &str) -> bool {
    static CURRENT: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("TESTKIT_SABOTAGE").ok());
    debug_assert!(ALL.contains(&name), "{name} is not listed");
    CURRENT.as_deref() == Some(name)
}

/// Whether the named mistake is to be made now: never, in what ships.
#[cfg(not(any(test, feature = "sabotage")))]
pub(crate) const fn active(_name: &str) -> bool {
    false
}
