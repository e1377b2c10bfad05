//! The status of a DockerMachine: a function of what was observed.

use docker_api::{
    AddressType, ConditionType, DockerMachine, DockerMachineStatus, Initialization, MachineAddress, Reason,
};
use jiff::Timestamp;
use kube::ResourceExt as _;
use reconcile::conditions::{self, ConditionStatus, DesiredCondition};

use super::{
    Error, is_final,
    plan::{Step, waiting_message},
};
use crate::{
    controllers,
    engine::{Container, Failure},
    identity,
};

/// What a pass saw.
#[derive(Debug, Default)]
pub(super) struct Picture {
    /// What comes next; none as long as that is not known.
    pub(super) step: Option<Step>,
    /// The container.
    pub(super) container: Option<Container>,
    /// Whether the load balancer knows the machine.
    pub(super) balanced: bool,
    /// Where the bootstrap is.
    pub(super) bootstrap: Bootstrap,
    failure_domain: Option<String>,
    /// Whether it was paused when it was looked at live: nothing is done, and nothing of this is told.
    pub(super) is_paused: bool,
}

/// Where a bootstrap is.
#[derive(Debug, Default)]
pub(super) enum Bootstrap {
    /// Not begun.
    #[default]
    NotBegun,
    /// Under way.
    Running {
        /// The current step; empty as long as none was told.
        step: String,
    },
    /// Over, and well.
    Completed {
        /// Modules of the cloud-config that are not supported.
        ignored: Vec<String>,
    },
    /// Over, and not well; to be tried again in a fresh container.
    Repeating {
        /// The attempt that comes, counted from 1.
        attempt: i32,
        /// For people.
        message: String,
        /// The end of its output, for an event.
        output: String,
    },
    /// Over, and not well.
    Ended {
        /// Why.
        reason: Reason,
        /// For people.
        message: String,
        /// The end of its output, for an event.
        output: String,
    },
}

impl Picture {
    pub(super) fn new(failure_domain: Option<String>) -> Self {
        Self {
            failure_domain,
            ..Self::default()
        }
    }
}

/// What the status says already of how the bootstrap ended; nothing if it is not over.
pub(super) fn known_bootstrap(object: &DockerMachine) -> Option<Bootstrap> {
    let conditions = &object.status.as_ref()?.conditions;
    let known = conditions::find(conditions, ConditionType::BootstrapCompleted.as_str())?;
    if known.status == "True" {
        let ignored = known
            .message
            .strip_prefix(IGNORED)
            .map(|list| list.split(", ").map(str::to_owned).collect());
        return Some(Bootstrap::Completed {
            ignored: ignored.unwrap_or_default(),
        });
    }
    let reason = is_final(&known.reason)?;
    Some(Bootstrap::Ended {
        reason,
        message: known.message.clone(),
        output: String::new(),
    })
}

/// The attempt that the status has announced, as long as `container` is not of it.
pub(super) fn announced(object: &DockerMachine, container: Option<&Container>) -> Option<i32> {
    let status = object.status.as_ref()?;
    let told = conditions::find(&status.conditions, ConditionType::BootstrapCompleted.as_str())?;
    let attempt = status.bootstrap_attempt?;
    let made = container.is_some_and(|container| identity::attempt(&container.labels) >= attempt);
    (told.reason == Reason::Repeating.as_str() && !made).then_some(attempt)
}

/// Whether the id is in the spec, by which Cluster API, and others, may rely on the container.
pub(super) fn is_published(object: &DockerMachine) -> bool {
    object.spec.provider_id.as_ref().is_some_and(|id| !id.is_empty())
}

/// Whether the status says already that the object is being removed.
pub(super) fn is_deleting(object: &DockerMachine) -> bool {
    has_reason(object, ConditionType::ContainerProvisioned, Reason::Deleting)
}

fn has_reason(object: &DockerMachine, type_: ConditionType, reason: Reason) -> bool {
    let status = object.status.as_ref();
    status
        .and_then(|status| conditions::find(&status.conditions, type_.as_str()))
        .is_some_and(|told| told.reason == reason.as_str())
}

const IGNORED: &str = "modules of the cloud-config that are not supported were ignored: ";

/// After a pass, which may have ended with `error`.
pub(super) fn observed(
    object: &DockerMachine,
    picture: &Picture,
    error: Option<&Error>,
    now: Timestamp,
) -> DockerMachineStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let runs = picture.step == Some(Step::Proceed);
    if runs {
        status.addresses = addresses(object, picture);
        status.failure_domain.clone_from(&picture.failure_domain);
        status.load_balancer_configured = picture
            .balanced
            .then_some(true)
            .or(status.load_balancer_configured);
        if error.is_none() {
            // Cluster API reads id and addresses once this is true, and not before; it never goes back.
            status.initialization = Some(Initialization {
                provisioned: Some(true),
            });
            status.ready = Some(true);
        }
    }
    if let Bootstrap::Repeating { attempt, .. } = picture.bootstrap {
        status.bootstrap_attempt = Some(attempt);
    } else if let Some(container) = picture.container.as_ref().filter(|_| runs) {
        // One that was announced and withdrawn is none.
        let made = identity::attempt(&container.labels);
        status.bootstrap_attempt = status.bootstrap_attempt.map(|announced| announced.min(made));
    }
    let parts = [
        container(object, picture, error),
        bootstrap(object, picture, error),
    ];
    let older = DesiredCondition {
        type_: ConditionType::BootstrapExecSucceeded.as_str(),
        ..parts[1].clone()
    };
    let others = [older, controllers::paused(false)];
    controllers::report(
        &mut status.conditions,
        &parts,
        others,
        object.metadata.generation,
        now,
    );
    status
}

fn addresses(object: &DockerMachine, picture: &Picture) -> Vec<MachineAddress> {
    let hostname = identity::hostname(&object.name_any());
    let mut addresses = vec![MachineAddress {
        kind: AddressType::Hostname,
        address: hostname,
    }];
    // By the name of the network: a map without order would make the list differ from pass to pass.
    let found = picture
        .container
        .iter()
        .flat_map(|container| container.addresses.values());
    for address in found {
        for kind in [AddressType::InternalIp, AddressType::ExternalIp] {
            addresses.push(MachineAddress {
                kind,
                address: address.to_string(),
            });
        }
    }
    addresses
}

fn container(object: &DockerMachine, picture: &Picture, error: Option<&Error>) -> DesiredCondition {
    let say = |holds: bool, reason, message: String| {
        controllers::condition(ConditionType::ContainerProvisioned, holds, reason, message)
    };
    let name = identity::node_name(&object.namespace().unwrap_or_default(), &object.name_any());
    match (picture.step, error) {
        (Some(Step::Proceed), _) => say(true, Reason::Provisioned, String::new()),
        (_, Some(error)) => {
            let said = say(false, error.condition_reason(), reconcile::error::chain(error));
            // What runs, runs on while Docker does not answer; that it does not is not known.
            let status = match error {
                Error::Engine(failed) if is_published(object) && failed.kind == Failure::Unavailable => {
                    ConditionStatus::Unknown
                }
                _ => said.status,
            };
            DesiredCondition { status, ..said }
        }
        (Some(Step::Wait(reason)), None) => say(false, reason, waiting_message(reason).into()),
        (Some(Step::Stopped), None) => {
            let advice = "start it, or replace the machine";
            say(
                false,
                Reason::NotProvisioned,
                format!("container {name} is not running; {advice}"),
            )
        }
        (Some(Step::Lost), None) => {
            let id = object.spec.provider_id.as_deref().unwrap_or_default();
            let message = if id == identity::provider_id(&name) {
                format!(
                    "container {name} does not exist any more; its data went with it; replace the machine"
                )
            } else {
                format!(
                    "another provider has made this machine ({id}): it is not taken over, and not touched"
                )
            };
            say(false, Reason::NotProvisioned, message)
        }
        (Some(Step::Restarting), None) => say(
            false,
            Reason::NotProvisioned,
            format!("container {name} is being restarted by the daemon"),
        ),
        (Some(Step::Launch) | None, None) => say(
            false,
            Reason::NotProvisioned,
            format!("container {name} is being made"),
        ),
    }
}

fn bootstrap(object: &DockerMachine, picture: &Picture, error: Option<&Error>) -> DesiredCondition {
    let say = |holds: bool, reason, message: String| {
        controllers::condition(ConditionType::BootstrapCompleted, holds, reason, message)
    };
    let waiting = || {
        say(
            false,
            Reason::WaitingForContainer,
            "the container must run first".into(),
        )
    };
    // What was told before is true still when this pass did not get to look.
    let known = known_bootstrap(object);
    let told = object
        .status
        .as_ref()
        .and_then(|status| conditions::find(&status.conditions, ConditionType::BootstrapCompleted.as_str()));
    let current = match (&picture.bootstrap, &known) {
        (Bootstrap::NotBegun, Some(known)) => known,
        (current, _) => current,
    };
    match (current, error) {
        (Bootstrap::Completed { ignored }, _) if ignored.is_empty() => {
            say(true, Reason::Completed, String::new())
        }
        (Bootstrap::Completed { ignored }, _) => say(
            true,
            Reason::Completed,
            format!("{IGNORED}{}", ignored.join(", ")),
        ),
        (Bootstrap::Ended { reason, message, .. }, _) => say(false, *reason, message.clone()),
        (Bootstrap::Repeating { message, .. }, _) => say(false, Reason::Repeating, message.clone()),
        // Taken back only when the container of that attempt is there: it is what that container is made for.
        (Bootstrap::NotBegun, _) if announced(object, picture.container.as_ref()).is_some() => say(
            false,
            Reason::Repeating,
            told.map(|told| told.message.clone()).unwrap_or_default(),
        ),
        (Bootstrap::NotBegun | Bootstrap::Running { .. }, Some(error))
            if picture.step == Some(Step::Proceed) =>
        {
            say(false, error.condition_reason(), reconcile::error::chain(error))
        }
        (Bootstrap::NotBegun, _) => waiting(),
        (Bootstrap::Running { step }, _) if step.is_empty() => match told {
            // Begun again, it has to get beyond what has ended it before.
            Some(told) if told.reason == Reason::ImageUnavailable.as_str() => {
                say(false, Reason::ImageUnavailable, told.message.clone())
            }
            _ => say(false, Reason::Bootstrapping, "the bootstrap begins".into()),
        },
        (Bootstrap::Running { step }, _) => say(false, Reason::Bootstrapping, format!("step {step}")),
    }
}

/// While it is being removed; `error` is what holds that up.
pub(super) fn deleting(object: &DockerMachine, error: Option<&Error>, now: Timestamp) -> DockerMachineStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let message = error.map_or_else(
        || "the container is being removed".to_owned(),
        |error| {
            format!(
                "the container cannot be removed yet: {}",
                reconcile::error::chain(error)
            )
        },
    );
    let part = controllers::condition(
        ConditionType::ContainerProvisioned,
        false,
        Reason::Deleting,
        message,
    );
    controllers::report(
        &mut status.conditions,
        &[part],
        [],
        object.metadata.generation,
        now,
    );
    status
}

/// While it is paused: nothing is looked at, so nothing else is said.
pub(super) fn paused(object: &DockerMachine, now: Timestamp) -> DockerMachineStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let paused = controllers::paused(true);
    let _ = conditions::set(&mut status.conditions, paused, object.metadata.generation, now);
    status
}

#[cfg(test)]
#[path = "status/tests.rs"]
mod tests;
