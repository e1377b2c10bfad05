//! Another attempt at a bootstrap that went wrong: where one is asked for and does no harm.
//!
//! # Guarantees
//! - The status announces it before the container of the last attempt is removed.
//! - Right before the removal Machine and Cluster are looked at live. What has joined meanwhile stays, and the
//!   announcement is withdrawn; what was paused meanwhile is left as it is: it moves, failed container and all.

use docker_api::{DockerMachine, Reason};
use kube::ResourceExt as _;
use reconcile::Pass;

use super::{
    Error, Machines, Scope,
    status::{self, Bootstrap, Picture},
};
use crate::{
    contract::{Cluster, Machine, live},
    engine::{Container, Engine},
    identity, sabotage,
};

/// Whether a fresh container would meet nothing that the last one has left behind.
///
/// A machine whose Node has registered is a member of the cluster, whatever failed afterwards. Before that, a worker and
/// the first machine of a control plane leave nothing; a further control plane machine may have become a member of etcd,
/// which its successor could not be.
pub(super) fn is_harmless(scope: &Scope) -> bool {
    let first =
        !scope.cluster.control_plane_initialized() || sabotage::active(sabotage::REPEAT_CONTROL_PLANE);
    !scope.machine.has_node() && (!scope.machine.is_control_plane() || first)
}

/// What follows a bootstrap that went wrong: another attempt, where one is left and does no harm.
pub(super) fn repeated(
    object: &DockerMachine,
    scope: &Scope,
    container: &Container,
    bootstrap: Bootstrap,
) -> Bootstrap {
    let Bootstrap::Ended {
        reason: Reason::Failed | Reason::Interrupted,
        message,
        output,
    } = &bootstrap
    else {
        return bootstrap;
    };
    let (tried, of) = (
        identity::attempt(&container.labels),
        object.spec.bootstrap_attempts.unwrap_or(1),
    );
    let is_left = tried < of || (of > 1 && sabotage::active(sabotage::FORGET_ATTEMPTS));
    if !is_left || !is_harmless(scope) {
        return bootstrap;
    }
    let attempt = tried + 1;
    Bootstrap::Repeating {
        attempt,
        message: format!("attempt {attempt} of {of} follows in a fresh container; before it, {message}"),
        output: output.clone(),
    }
}

impl<E: Engine + Clone> Machines<E> {
    /// The scope as it is now, where a container is about to be removed for another attempt; nothing elsewhere.
    pub(super) async fn live_scope(
        &self,
        object: &DockerMachine,
        scope: &Scope,
        picture: &Picture,
        pass: &Pass<DockerMachine>,
    ) -> Result<Option<Scope>, Error> {
        let container = picture.container.as_ref();
        if container.is_none() || status::announced(object, container).is_none() {
            return Ok(None);
        }
        let machine: Option<Machine> = live::read(&scope.machine.name_any(), pass).await?;
        let cluster: Option<Cluster> = live::read(&scope.cluster.name_any(), pass).await?;
        Ok(Some(Scope {
            machine: machine.map_or_else(|| scope.machine.clone(), Into::into),
            cluster: cluster.map_or_else(|| scope.cluster.clone(), Into::into),
            id: scope.id.clone(),
            name: scope.name.clone(),
        }))
    }

    /// Before another attempt: forgets how the last one ended, and lets no new connection reach its node.
    pub(super) async fn give_up(
        &self,
        scope: &Scope,
        pass: &Pass<DockerMachine>,
        picture: &Picture,
    ) -> Result<(), Error> {
        self.tasks.clear(&pass.uid());
        match &picture.container {
            Some(container) => self.deregister(&scope.name, container).await,
            None => Ok(()),
        }
    }
}
