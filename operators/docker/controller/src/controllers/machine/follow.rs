//! The bootstrap as a pass sees it: begun or resumed where that is not known, and told when it went wrong.

use docker_api::{ConditionType, DockerMachine, Reason};
use reconcile::{
    Pass, conditions,
    events::{EventKind, Notice},
    task::{Ended, TaskId, TaskState},
};

use super::{
    Error, Machines, Scope,
    status::{self, Bootstrap, Picture},
};
use crate::{
    bootstrap::{self, Job, Outcome},
    digest::fnv1a,
    engine::{Container, Engine},
    identity, sabotage,
};

impl<E: Engine + Clone> Machines<E> {
    /// Where the bootstrap is; starts or resumes its task where that is not known.
    pub(super) async fn bootstrap(
        &self,
        object: &DockerMachine,
        scope: &Scope,
        pass: &Pass<DockerMachine>,
        container: &Container,
    ) -> Result<Bootstrap, Error> {
        let uid = pass.uid();
        if let Some(state) = self.tasks.state(&uid) {
            // The Secret was repaired meanwhile: begin again with it.
            let tried = invalid_data(&state);
            if tried.is_none() || tried == Some(self.data(scope, pass).await?.digest()) {
                return self.task_state(&uid, state);
            }
            self.tasks.clear(&uid);
        }
        if scope.machine.has_node() {
            return Ok(Bootstrap::Completed { ignored: Vec::new() });
        }
        if let Some(known) = status::known_bootstrap(object) {
            return Ok(known);
        }
        let limit = object
            .spec
            .bootstrap_timeout
            .as_deref()
            .and_then(bootstrap::limit::parse);
        let job = Job {
            container: container.name.clone(),
            hostname: identity::hostname(&scope.name),
            provider_id: identity::provider_id(&container.name),
            limit: limit.unwrap_or(bootstrap::DEFAULT_LIMIT),
            images: object.spec.pre_load_images.clone(),
            data: self.data(scope, pass).await?,
        };
        let id = TaskId {
            uid,
            key: pass.key().clone(),
            spec_hash: fnv1a(container.id.as_bytes()),
        };
        let engine = self.engine.clone();
        let _ = self
            .tasks
            .start(&id, |context| bootstrap::run(engine, job, context));
        Ok(Bootstrap::Running { step: String::new() })
    }

    /// What follows a bootstrap that went wrong: another attempt, where one is left and does no harm.
    ///
    /// A worker, and the first machine of a control plane, leave nothing behind that a fresh container would meet. A
    /// further control plane machine may have become a member of etcd, which its successor could not be.
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
        let harmless = !scope.machine.is_control_plane()
            || !scope.cluster.control_plane_initialized()
            || sabotage::active(sabotage::REPEAT_CONTROL_PLANE);
        if !is_left || !harmless {
            return bootstrap;
        }
        let attempt = tried + 1;
        Bootstrap::Repeating {
            attempt,
            message: format!("attempt {attempt} of {of} follows in a fresh container; before it, {message}"),
            output: output.clone(),
        }
    }

    fn task_state(&self, uid: &str, state: TaskState<String, Outcome>) -> Result<Bootstrap, Error> {
        match state {
            TaskState::Running(step) | TaskState::Stopping(step) => Ok(Bootstrap::Running { step }),
            TaskState::Finished(step, ended) => {
                let outcome = match ended {
                    Ended::Returned(outcome) => outcome.as_ref().clone(),
                    Ended::Panicked(_) => Outcome::Stopped,
                };
                match outcome {
                    Outcome::Completed { ignored } => Ok(Bootstrap::Completed { ignored }),
                    Outcome::Ended {
                        reason,
                        message,
                        output,
                    } => Ok(Bootstrap::Ended {
                        reason,
                        message,
                        output,
                    }),
                    Outcome::DataInvalid { message, .. } => Ok(Bootstrap::Ended {
                        reason: Reason::BootstrapDataInvalid,
                        message,
                        output: String::new(),
                    }),
                    Outcome::Retry(error) => {
                        self.tasks.clear(uid);
                        Err(error.into())
                    }
                    Outcome::Stopped => {
                        self.tasks.clear(uid);
                        Ok(Bootstrap::Running { step })
                    }
                }
            }
        }
    }

    /// Tells a failed bootstrap once, with the end of its output.
    pub(super) async fn tell(&self, object: &DockerMachine, picture: &Picture, pass: &Pass<DockerMachine>) {
        let (reason, message, output) = match &picture.bootstrap {
            Bootstrap::Ended {
                reason,
                message,
                output,
            } => (*reason, message, output),
            Bootstrap::Repeating { message, output, .. } => (Reason::Repeating, message, output),
            _ => return,
        };
        let before = object.status.as_ref().and_then(|status| {
            conditions::find(&status.conditions, ConditionType::BootstrapCompleted.as_str())
        });
        if before.is_some_and(|condition| condition.reason == reason.as_str()) {
            return;
        }
        let note = if output.is_empty() {
            message.clone()
        } else {
            format!("{message}; its last words:\n{output}")
        };
        pass.event(Notice {
            kind: EventKind::Warning,
            reason: "BootstrapFailed",
            action: "Bootstrap",
            note,
        })
        .await;
    }
}

/// The digest of data that could not be used.
fn invalid_data(state: &TaskState<String, Outcome>) -> Option<u64> {
    match state {
        TaskState::Finished(_, Ended::Returned(outcome)) => match outcome.as_ref() {
            Outcome::DataInvalid { digest, .. } => Some(*digest),
            _ => None,
        },
        _ => None,
    }
}
