//! Who signs a job's requests: the credentials that it is entitled to, read when its work begins.

use aws_credential_types::provider::SharedCredentialsProvider;
use dynamodb_api::{DdbctlDpJob, Reason};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use reconcile::{Class, Pass, error::ApiError};

use super::{error::JobError, job::Job, run::Runner};
use crate::{
    credentials::{self, Source},
    partition::Failure,
    policy::Policy,
};

/// Credentials, and a name for them that reveals nothing.
pub(super) struct Signer {
    pub(super) name: String,
    pub(super) provider: SharedCredentialsProvider,
}

impl Signer {
    pub(super) fn new(name: String, provider: SharedCredentialsProvider) -> Self {
        Self { name, provider }
    }
}

/// The signer of the requests of `job`.
///
/// # Errors
/// Class `Denied`, reason `CredentialsMissing`, if it is entitled to none or they are not there; what Kubernetes says if
/// the Secret cannot be read.
pub(super) async fn of(
    job: &Job,
    pass: &Pass<DdbctlDpJob>,
    policy: &Policy,
    runner: &Runner,
) -> Result<Signer, JobError> {
    let namespace = &pass.key().namespace;
    let denied = |error: credentials::CredentialsError| Failure {
        class: Class::Denied,
        reason: Reason::CredentialsMissing,
        message: error.to_string(),
    };
    let source = credentials::source(&job.endpoint, job.secret.is_some(), namespace, &policy.identity)
        .map_err(denied)?;
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
            let missing = || credentials::CredentialsError::SecretMissing {
                namespace: namespace.to_string(),
                name: name.to_owned(),
            };
            let data = secret
                .ok_or_else(missing)
                .map_err(denied)?
                .data
                .unwrap_or_default();
            let provider = credentials::from_secret(name, &data).map_err(denied)?;
            Signer::new(format!("{namespace}/{name}"), provider)
        }
    })
}
