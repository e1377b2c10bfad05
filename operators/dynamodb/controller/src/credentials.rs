//! Whose AWS credentials a job's requests are signed with.
//!
//! # Guarantees
//! - The operator's own credentials are sent to AWS alone, and only for jobs of the namespaces that the
//!   administrator names.
//! - A Secret's values appear in no message.
//! - An endpoint that is not AWS, and for which the job brings no Secret, is sent fixed placeholder credentials: local
//!   servers want requests signed, and do not care by whom.

use std::collections::BTreeMap;

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use k8s_openapi::ByteString;

use crate::{endpoint::Endpoint, sabotage};

/// The flag that names the namespaces which the operator's own identity serves.
pub const IDENTITY_FLAG: &str = "--aws-identity-namespaces";

const PROVIDER: &str = "DdbctlDpJob";

/// Why there are no credentials for a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// The Secret is not there.
    #[error(
        "Secret {namespace}/{name}, named by `credentials.secretRef`, does not exist; create it with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )]
    SecretMissing {
        /// Namespace of the job.
        namespace: String,
        /// Name of the Secret.
        name: String,
    },
    /// The Secret lacks a key, or a value is empty or not text.
    #[error("Secret {name}, named by `credentials.secretRef`, has no usable value under {key}")]
    SecretIncomplete {
        /// Name of the Secret.
        name: String,
        /// The key that is missing.
        key: &'static str,
    },
    /// The operator's own identity does not serve this namespace.
    #[error(
        "the operator's own AWS identity does not serve namespace {0}; name a Secret in `credentials.secretRef`, or ask an administrator to add the namespace to the operator's flag {IDENTITY_FLAG}"
    )]
    NamespaceNotServed(String),
}

/// The namespaces whose jobs may use the operator's own identity: `*`, or names separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IdentityNamespaces {
    /// All of them.
    #[default]
    All,
    /// These only; possibly none.
    Only(Vec<String>),
}

impl IdentityNamespaces {
    /// Whether `namespace` is served.
    pub fn serve(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(|name| name == namespace),
        }
    }
}

impl std::str::FromStr for IdentityNamespaces {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names: Vec<_> = text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .collect();
        Ok(if names.contains(&"*") {
            Self::All
        } else {
            Self::Only(names.into_iter().map(str::to_owned).collect())
        })
    }
}

/// Where a job's credentials come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The Secret that the job names.
    Secret,
    /// The operator's own identity.
    Operator,
    /// Fixed ones that mean nothing.
    Placeholder,
}

/// Decides where the credentials of a job in `namespace` come from.
pub fn source(
    endpoint: &Endpoint,
    names_secret: bool,
    namespace: &str,
    served: &IdentityNamespaces,
) -> Result<Source, CredentialsError> {
    match (names_secret, endpoint.is_aws()) {
        (true, _) => Ok(Source::Secret),
        (false, false) if sabotage::active(sabotage::LEND_OWN_IDENTITY) => Ok(Source::Operator),
        (false, false) => Ok(Source::Placeholder),
        (false, true) if served.serve(namespace) => Ok(Source::Operator),
        (false, true) => Err(CredentialsError::NamespaceNotServed(namespace.to_owned())),
    }
}

/// The credentials in a Secret's data.
pub fn from_secret(
    name: &str,
    data: &BTreeMap<String, ByteString>,
) -> Result<SharedCredentialsProvider, CredentialsError> {
    let value = |key: &'static str| {
        let text = data
            .get(key)
            .and_then(|bytes| std::str::from_utf8(&bytes.0).ok())
            .map(str::trim);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let required = |key| {
        value(key).ok_or_else(|| CredentialsError::SecretIncomplete {
            name: name.to_owned(),
            key,
        })
    };
    let credentials = Credentials::new(
        required("AWS_ACCESS_KEY_ID")?,
        required("AWS_SECRET_ACCESS_KEY")?,
        value("AWS_SESSION_TOKEN"),
        None,
        PROVIDER,
    );
    Ok(SharedCredentialsProvider::new(credentials))
}

/// Credentials that mean nothing, for local servers. Letters only: DynamoDB Local refuses others.
pub fn placeholder() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new("local", "local", None, None, PROVIDER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> Endpoint {
        Endpoint::parse("http://dynamodb.local:8000").unwrap()
    }

    #[test]
    fn the_operators_identity_never_goes_to_a_host_that_is_not_aws() {
        assert_eq!(
            source(&local(), false, "a", &IdentityNamespaces::All),
            Ok(Source::Placeholder)
        );
        assert_eq!(
            source(&Endpoint::Aws, false, "a", &IdentityNamespaces::All),
            Ok(Source::Operator)
        );
        assert_eq!(
            source(&Endpoint::Aws, true, "a", &IdentityNamespaces::All),
            Ok(Source::Secret)
        );
    }

    #[test]
    fn a_second_tenant_is_refused_the_operators_identity() {
        let served: IdentityNamespaces = "team-a, team-b".parse().unwrap();
        assert_eq!(
            source(&Endpoint::Aws, false, "team-b", &served),
            Ok(Source::Operator)
        );
        let refusal = source(&Endpoint::Aws, false, "team-c", &served)
            .unwrap_err()
            .to_string();
        assert!(
            refusal.contains("team-c") && refusal.contains(IDENTITY_FLAG),
            "{refusal}"
        );
        assert_eq!("".parse(), Ok(IdentityNamespaces::Only(Vec::new())));
    }

    #[test]
    fn an_incomplete_secret_is_named_and_not_shown() {
        let data: BTreeMap<_, _> = [(
            "AWS_ACCESS_KEY_ID".to_owned(),
            ByteString(b"AKIAEXAMPLE\n".to_vec()),
        )]
        .into();
        let error = from_secret("aws", &data).unwrap_err().to_string();
        assert!(
            error.contains("AWS_SECRET_ACCESS_KEY") && !error.contains("AKIA"),
            "{error}"
        );
    }
}
