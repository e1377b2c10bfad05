//! What comes next for a machine: pure.

use docker_api::Reason;

use crate::{engine::ContainerState, sabotage};

/// What was observed.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one fact of the contract, and they are independent"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Observed {
    /// What all machines of the cluster share is there.
    pub(super) infrastructure_ready: bool,
    /// The first control plane machine is up.
    pub(super) control_plane_ready: bool,
    /// The machine belongs to the control plane.
    pub(super) is_control_plane: bool,
    /// The bootstrap provider has delivered.
    pub(super) has_data: bool,
    /// The id is published, so somebody may rely on the container.
    pub(super) is_provisioned: bool,
    /// Another attempt at the bootstrap was announced, and there is no container of it yet.
    pub(super) repeats: bool,
    /// The container.
    pub(super) container: Option<ContainerState>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing can be done yet.
    Wait(Reason),
    /// Make the container, after removing what is left of an attempt that failed.
    Launch,
    /// The container runs: publish it and see to its bootstrap.
    Proceed,
    /// The container is being restarted by the daemon; an event will tell.
    Restarting,
    /// The container stopped. Whoever stopped it can start it; we do not.
    Stopped,
    /// The container of a machine that was published is gone: its data went with it.
    Lost,
}

/// Decides. The order is that of Cluster API's contract; a container that exists is never waited for.
pub(super) fn next(observed: Observed) -> Step {
    match observed.container {
        // What is there is of an attempt that failed, and was announced to go.
        _ if observed.repeats => {}
        Some(ContainerState::Running) => return Step::Proceed,
        Some(ContainerState::Restarting) => return Step::Restarting,
        Some(ContainerState::Stopped) => return Step::Stopped,
        None if observed.is_provisioned && !sabotage::active(sabotage::RECREATE_LOST_MACHINE) => {
            return Step::Lost;
        }
        // One that was made and never started holds nothing yet: made anew, under the same conditions as the first time.
        Some(ContainerState::Created) | None => {}
    }
    if !observed.infrastructure_ready {
        return Step::Wait(Reason::WaitingForClusterInfrastructureReady);
    }
    if !observed.has_data {
        let first_is_missing = !observed.is_control_plane && !observed.control_plane_ready;
        return Step::Wait(if first_is_missing {
            Reason::WaitingForControlPlaneInitialized
        } else {
            Reason::WaitingForBootstrapData
        });
    }
    Step::Launch
}

/// What a person is told while nothing can be done yet.
pub(super) fn waiting_message(reason: Reason) -> &'static str {
    match reason {
        Reason::WaitingForClusterInfrastructureReady => {
            "the load balancer and the network of the cluster come first"
        }
        Reason::WaitingForControlPlaneInitialized => {
            "the first control plane machine must be up before workers can join"
        }
        _ => "the bootstrap provider has not delivered its data yet",
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const READY: Observed = Observed {
        infrastructure_ready: true,
        control_plane_ready: true,
        is_control_plane: false,
        has_data: true,
        is_provisioned: false,
        repeats: false,
        container: None,
    };

    #[rstest]
    #[case::all_there(READY, Step::Launch)]
    #[case::no_infrastructure(Observed { infrastructure_ready: false, ..READY }, Step::Wait(Reason::WaitingForClusterInfrastructureReady))]
    #[case::worker_too_early(Observed { has_data: false, control_plane_ready: false, ..READY }, Step::Wait(Reason::WaitingForControlPlaneInitialized))]
    #[case::worker_without_data(Observed { has_data: false, ..READY }, Step::Wait(Reason::WaitingForBootstrapData))]
    #[case::control_plane_without_data(Observed { has_data: false, control_plane_ready: false, is_control_plane: true, ..READY }, Step::Wait(Reason::WaitingForBootstrapData))]
    #[case::made_and_never_started(Observed { container: Some(ContainerState::Created), ..READY }, Step::Launch)]
    #[case::runs(Observed { container: Some(ContainerState::Running), ..READY }, Step::Proceed)]
    #[case::adopted(Observed { container: Some(ContainerState::Running), infrastructure_ready: false, has_data: false, is_provisioned: true, ..READY }, Step::Proceed)]
    #[case::stopped(Observed { container: Some(ContainerState::Stopped), is_provisioned: true, ..READY }, Step::Stopped)]
    #[case::repeats(Observed { repeats: true, is_provisioned: true, container: Some(ContainerState::Running), ..READY }, Step::Launch)]
    #[case::repeats_after_a_crash(Observed { repeats: true, is_provisioned: true, ..READY }, Step::Launch)]
    #[case::repeats_when_it_may(Observed { repeats: true, infrastructure_ready: false, ..READY }, Step::Wait(Reason::WaitingForClusterInfrastructureReady))]
    #[case::lost(Observed { is_provisioned: true, ..READY }, Step::Lost)]
    fn each_situation_has_one_next_step(#[case] observed: Observed, #[case] step: Step) {
        assert_eq!(next(observed), step);
    }

    #[test]
    fn a_published_machine_is_never_made_a_second_time() {
        for bits in 0..16_u8 {
            let bit = |n: u8| bits & (1 << n) != 0;
            let observed = Observed {
                infrastructure_ready: bit(0),
                control_plane_ready: bit(1),
                is_control_plane: bit(2),
                has_data: bit(3),
                is_provisioned: true,
                repeats: false,
                container: None,
            };
            assert_eq!(next(observed), Step::Lost);
        }
    }
}
