//! Who signs a job's requests: the credentials that it is entitled to, read when its work begins.

use aws_credential_types::provider::SharedCredentialsProvider;
use dynamodb_api::{DdbctlDpJob, Reason};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Api;
use reconcile::{Class, Pass, error::ApiError};

use super::{error::JobError, job::Job, run::Runner};
use crate::{
    credentials::{self, CredentialsError, Source},
    partition::Failure,
    policy::Policy,
};

/// Credentials, and a name for them that reveals nothing. Equal names mean equal credentials.
pub(super) struct Signer {
    pub(super) name: String,
    pub(super) provider: SharedCredentialsProvider,
}

impl Signer {
    pub(super) fn new(name: String, provider: SharedCredentialsProvider) -> Self {
        Self { name, provider }
    }
}

/// A Secret is not watched: it is looked for again, by and by.
fn missing(error: &CredentialsError) -> Failure {
    let (class, then) = match error {
        CredentialsError::SecretMissing { .. } | CredentialsError::SecretIncomplete { .. } => (
            Class::Transient,
            "; it is looked for again within 5 minutes at most",
        ),
        CredentialsError::NamespaceNotServed(_) => (Class::Denied, ""),
    };
    Failure {
        class,
        reason: Reason::CredentialsMissing,
        message: format!("{error}{then}"),
    }
}

/// The signer of the requests of `job`.
///
/// # Errors
/// Reason `CredentialsMissing` if it is entitled to none (class `Denied`), or the Secret is not there or incomplete
/// (class `Transient`: it is likely about to be written); what Kubernetes says if the Secret cannot be read.
pub(super) async fn of(
    job: &Job,
    pass: &Pass<DdbctlDpJob>,
    policy: &Policy,
    runner: &Runner,
) -> Result<Signer, JobError> {
    let namespace = &pass.key().namespace;
    let source = credentials::source(&job.endpoint, job.secret.is_some(), namespace, &policy.identity)
        .map_err(|error| missing(&error))?;
    let name = job.secret.as_deref().unwrap_or_default();
    Ok(match source {
        Source::Placeholder => Signer::new("placeholder".into(), credentials::placeholder()),
        Source::Operator => runner.own_identity().await?,
        Source::Secret => {
            let secrets: Api<Secret> = Api::namespaced(pass.client().clone(), namespace);
            let secret = secrets
                .get_opt(name)
                .await
                .map_err(|e| ApiError::new(format!("read Secret {namespace}/{name}"), e))?;
            let absent = || CredentialsError::SecretMissing {
                namespace: namespace.to_string(),
                name: name.to_owned(),
            };
            let secret = secret.ok_or_else(absent).map_err(|error| missing(&error))?;
            let called = of_secret(&secret.metadata);
            let data = secret.data.unwrap_or_default();
            let provider = credentials::from_secret(name, &data).map_err(|error| missing(&error))?;
            Signer::new(called, provider)
        }
    })
}

/// Whether the credentials that failed so have been replaced since the job's task began: then there is nothing to wait for,
/// nor to tell anybody. Temporary ones are renewed before they expire, and a task knows only those it began with.
pub(super) async fn were_renewed(
    failure: &Failure,
    job: &Job,
    pass: &Pass<DdbctlDpJob>,
    policy: &Policy,
    runner: &Runner,
) -> bool {
    if failure.reason != Reason::CredentialsInvalid {
        return false;
    }
    let before = runner.signed_by(&pass.uid());
    let now = of(job, pass, policy, runner).await;
    now.is_ok_and(|now| before.is_some_and(|before| before != now.name))
}

/// What the credentials in a Secret are called. What it holds may change, and then belong to another account.
fn of_secret(secret: &ObjectMeta) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    let (uid, version) = (part(&secret.uid), part(&secret.resource_version));
    format!("secret/{uid}/{version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_was_changed_holds_other_credentials() {
        let secret = |uid: &str, version: &str| {
            of_secret(&ObjectMeta {
                uid: Some(uid.into()),
                resource_version: Some(version.into()),
                ..ObjectMeta::default()
            })
        };
        assert_eq!(secret("a", "1"), secret("a", "1"));
        assert_ne!(secret("a", "1"), secret("a", "2"));
        assert_ne!(secret("a", "1"), secret("b", "1"));
    }

    /// Denied work is tried again after minutes; what is about to be applied, after seconds that double.
    #[test]
    fn a_secret_that_is_not_there_yet_is_looked_for_again_soon_and_that_is_said() {
        let absent = CredentialsError::SecretMissing {
            namespace: "a".into(),
            name: "aws".into(),
        };
        let incomplete = CredentialsError::SecretIncomplete {
            name: "aws".into(),
            key: "AWS_ACCESS_KEY_ID",
        };
        for error in [absent, incomplete] {
            let failure = missing(&error);
            assert_eq!(
                (failure.class, failure.reason),
                (Class::Transient, Reason::CredentialsMissing)
            );
            assert!(failure.message.contains("looked for again"), "{failure}");
        }
        let refused = missing(&CredentialsError::NamespaceNotServed("a".into()));
        assert_eq!(refused.class, Class::Denied);
    }
}
