//! What an error means for the next attempt.
//!
//! Every error that leaves a pass has a [`Class`]; the class alone decides the requeue, the log level and whether
//! an event is published. Nothing in the framework looks at an error's text.
//!
//! # Example
//! ```
//! use reconcile::error::{ApiError, Class, ReconcileError as _, chain};
//!
//! let mut status = kube::core::Status::failure("configmaps is forbidden", "Forbidden");
//! status.code = 403;
//! let error = ApiError::new("create ConfigMap default/first", kube::Error::Api(Box::new(status)));
//! // Retried slowly, with a Warning event each time: somebody has to grant the right.
//! assert_eq!((error.class(), error.reason()), (Class::Denied, "PermissionDenied"));
//! assert!(chain(&error).starts_with("failed to create ConfigMap default/first: "));
//! ```
//! An error of one's own: see [`Reconciler`](crate::Reconciler#example).

use std::{error::Error as StdError, fmt::Write as _, time::Duration};

use kube::core::Status;

/// What has to happen before trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The spec (or something else that a person wrote) must change first. Not retried with backoff: the change
    /// itself wakes the object, and the slow periodic resync looks again.
    Terminal,
    /// Time may cure it: timeouts, 429, 5xx. Retried with exponential backoff.
    Transient,
    /// Somebody else wrote in between (409). Retried soon, from a fresh read; never an event, for it is normal.
    Conflict,
    /// Credentials, permissions or keys are missing (401, 403). They get repaired under us, so it is retried, slowly,
    /// and loudly: an error log line and a Warning event each time.
    Denied,
    /// A dependency is not ready. Not an error: no event, no error metric. Looked at again after the delay that
    /// [`ReconcileError::retry_after`] names; without one, with growing backoff.
    Waiting,
}

impl Class {
    /// The class as a metric label and log field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Transient => "transient",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Waiting => "waiting",
        }
    }
}

/// An error that a [`crate::Reconciler`] returns.
pub trait ReconcileError: StdError + Send + Sync + 'static {
    /// What must happen before a retry can help.
    fn class(&self) -> Class;

    /// The reason of the Warning event that reports this error: CamelCase, at most 128 characters, from a closed
    /// set.
    fn reason(&self) -> &'static str;

    /// A delay that the other side asked for (`Retry-After`), or, for [`Class::Waiting`], after which it is worth
    /// looking again. The next attempt is not made earlier.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// The class of an answer of the Kubernetes API.
///
/// 409, and the 422 with which a JSON patch's failed `test` is reported, are conflicts; 401 and 403 are denials;
/// 429, 5xx and transport failures are transient; other 4xx are terminal. A 404 is transient: it is either a race
/// with deletion, which the next pass sees, or a CRD that is about to be installed.
pub fn classify(error: &kube::Error) -> Class {
    match error {
        kube::Error::Api(status) => classify_status(status),
        kube::Error::Auth(_) => Class::Denied,
        kube::Error::BuildRequest(_) => Class::Terminal,
        _ => Class::Transient,
    }
}

fn classify_status(status: &Status) -> Class {
    match status.code {
        409 => Class::Conflict,
        422 if status.message.contains("the server rejected our request") => Class::Conflict,
        401 | 403 => Class::Denied,
        404 | 408 | 410 | 429 => Class::Transient,
        400..=499 => Class::Terminal,
        _ => Class::Transient,
    }
}

/// The delay that the API server asked for with `Retry-After`, if it did.
pub fn retry_after(error: &kube::Error) -> Option<Duration> {
    match error {
        kube::Error::Api(status) => {
            let seconds = status.details.as_ref()?.retry_after_seconds;
            (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
        }
        _ => None,
    }
}

/// Whether the API server said that the object does not exist.
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// An error's message followed by those of its sources, each once.
///
/// Libraries disagree about whether a message repeats its source; a source whose text the message before it
/// already ends with is left out. Of what the API server answered only its own words are taken.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = own_text(error);
    let mut source = error.source();
    while let Some(error) = source {
        let next = own_text(error);
        if !text.ends_with(&next) {
            let _ = write!(text, ": {next}");
        }
        source = error.source();
    }
    text
}

/// kube prints an answer of the API server twice, the second time as the debugging form of a struct.
fn own_text(error: &(dyn StdError + 'static)) -> String {
    let boxed = || error.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref);
    match error.downcast_ref::<kube::Error>().or_else(boxed) {
        Some(kube::Error::Api(status)) => status.to_string(),
        _ => error.to_string(),
    }
}

/// A failed request to the Kubernetes API, as a [`ReconcileError`].
///
/// For reconcilers that have nothing to add to it; `reason` is `KubernetesApiError` or, for a denial,
/// `PermissionDenied`.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action}")]
pub struct ApiError {
    /// What was attempted, as in "failed to …".
    pub action: String,
    /// The answer.
    #[source]
    pub source: Box<kube::Error>,
}

impl ApiError {
    /// Wraps `source`; `action` completes the sentence "failed to …" and names the object.
    pub fn new(action: impl Into<String>, source: kube::Error) -> Self {
        Self {
            action: action.into(),
            source: Box::new(source),
        }
    }
}

impl ReconcileError for ApiError {
    fn class(&self) -> Class {
        classify(&self.source)
    }

    fn reason(&self) -> &'static str {
        match self.class() {
            Class::Denied => "PermissionDenied",
            _ => "KubernetesApiError",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn api(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status {
            code,
            ..Status::default()
        }))
    }

    #[rstest]
    #[case(409, Class::Conflict)]
    #[case(401, Class::Denied)]
    #[case(403, Class::Denied)]
    #[case(404, Class::Transient)]
    #[case(429, Class::Transient)]
    #[case(500, Class::Transient)]
    #[case(504, Class::Transient)]
    #[case(400, Class::Terminal)]
    #[case(422, Class::Terminal)]
    fn each_answer_has_its_class(#[case] code: u16, #[case] class: Class) {
        assert_eq!(classify(&api(code)), class);
    }

    #[test]
    fn a_chain_says_each_text_once() {
        let inner = std::io::Error::other("socket closed");
        let error = ApiError::new("read Widget a/b", kube::Error::Service(Box::new(inner)));
        let text = chain(&error);
        assert!(text.starts_with("failed to read Widget a/b: "), "{text}");
        assert_eq!(text.matches("socket closed").count(), 1, "{text}");
    }

    #[test]
    fn of_a_refusal_the_servers_words_are_told_once_and_no_struct() {
        let refused = Status {
            code: 403,
            message: "secrets \"s\" is forbidden: User \"u\" cannot get resource".into(),
            reason: "Forbidden".into(),
            ..Status::default()
        };
        let refused = || kube::Error::Api(Box::new(refused.clone()));
        let said = "secrets \"s\" is forbidden: User \"u\" cannot get resource: Forbidden";
        assert_eq!(chain(&refused()), said);
        let error = ApiError::new("read Secret a/s", refused());
        assert_eq!(chain(&error), format!("failed to read Secret a/s: {said}"));
    }
}
