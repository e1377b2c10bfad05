//! The bootstrap as a pass sees it: begun or resumed where that is not known, and told when it went wrong.

use docker_api::{ConditionType, DockerMachine, Reason};
use reconcile::{
    Pass, conditions,
    events::{EventKind, NOTE_LIMIT, Notice},
    task::{Ended, TaskId, TaskState},
};

use super::{
    Error, Machines, Scope,
    status::{self, Bootstrap, Picture},
};
use crate::{
    bootstrap::{self, Job, Outcome, mask},
    digest::fnv1a,
    engine::{Container, Engine},
    identity,
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
            let begins_again = match invalid_data(&state) {
                // The Secret may have been repaired meanwhile, or can be read again.
                Some(tried) => tried != self.data(scope, pass).await?.digest(),
                // A pause has ended it, and is over.
                None => was_stopped(&state),
            };
            if !begins_again {
                return self.task_state(&uid, state);
            }
            self.tasks.clear(&uid);
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
            // What has registered under this name before another attempt was another container.
            registered: scope.machine.has_node() && identity::attempt(&container.labels) == 1,
            data: self.data_if_any(scope, pass).await,
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

    fn task_state(&self, uid: &str, state: TaskState<String, Outcome>) -> Result<Bootstrap, Error> {
        match state {
            TaskState::Running(step) | TaskState::Stopping(step) => Ok(Bootstrap::Running { step }),
            TaskState::Finished(step, ended) => {
                let outcome = match ended {
                    Ended::Returned(outcome) => outcome.as_ref().clone(),
                    Ended::Panicked(message) => {
                        self.tasks.clear(uid);
                        return Err(Error::Panicked(message));
                    }
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
                    Outcome::Unread(why) => {
                        self.tasks.clear(uid);
                        Err(Error::Unread(why))
                    }
                    Outcome::Stopped => Ok(Bootstrap::Running { step }),
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
        pass.event(Notice {
            kind: EventKind::Warning,
            reason: "BootstrapFailed",
            action: "Bootstrap",
            note: note(message, output),
        })
        .await;
    }
}

/// `message` and as much of the end of `output` as fits into an event: its last lines tell what went wrong.
fn note(message: &str, output: &str) -> String {
    let begin = format!("{message}; its last words:\n");
    match mask::end(output, NOTE_LIMIT.saturating_sub(begin.len())) {
        "" => message.to_owned(),
        end => begin + end,
    }
}

/// Whether the task has ended because it was told to.
fn was_stopped(state: &TaskState<String, Outcome>) -> bool {
    matches!(state, TaskState::Finished(_, Ended::Returned(outcome)) if **outcome == Outcome::Stopped)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_last_lines_of_a_long_output() {
        let lines: Vec<_> = (0..10).map(|i| format!("{i} {}", "é".repeat(150))).collect();
        let note = note("it failed", &lines.join("\n"));
        assert!(note.len() <= NOTE_LIMIT, "{}", note.len());
        assert!(note.starts_with("it failed; its last words:\n7 "), "{note}");
        assert!(note.ends_with(&lines[9]), "{note}");
        assert_eq!(super::note("it failed", ""), "it failed");
    }
}
