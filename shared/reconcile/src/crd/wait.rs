//! Waits until definitions are served.

use std::{fmt, time::Duration};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};

use crate::clock::Clock;

/// Between two looks at a definition that is not there yet.
const PERIOD: Duration = Duration::from_secs(2);

/// What was found of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Established,
    Missing,
    /// It is there, but not served yet, or about to go.
    NotServed,
    Denied(String),
    Unreachable(String),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Established => f.write_str("it is established"),
            Self::Missing => f.write_str("it is not installed; apply the operator's CRDs"),
            Self::NotServed => f.write_str("it is installed, but not established yet or being deleted"),
            Self::Denied(error) => {
                write!(
                    f,
                    "this operator is not allowed to look; grant `get` on customresourcedefinitions ({error})"
                )
            }
            Self::Unreachable(error) => write!(f, "the API server cannot be asked ({error})"),
        }
    }
}

/// Returns when every definition of `names` (`<plural>.<group>`) is established.
///
/// Asks every two seconds of `clock`. Missing definitions are waited for, not exited over: whether CRDs or operator are
/// installed first is then all the same.
pub async fn wait_established(client: &Client, names: &[String], clock: &Clock) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in names {
        let mut reported = None;
        loop {
            let found = classify(definitions.get_opt(name).await);
            if found == Found::Established {
                tracing::debug!(crd = name, "Established");
                break;
            }
            // The text of an error may differ each time; what kind of trouble it is, seldom.
            let kind = std::mem::discriminant(&found);
            if reported.replace(kind) != Some(kind) {
                report(name, &found);
            }
            clock.sleep(PERIOD).await;
        }
    }
}

fn report(name: &str, found: &Found) {
    match found {
        Found::Denied(_) => tracing::error!(crd = name, "Waiting for a custom resource definition: {found}"),
        Found::Unreachable(_) | Found::Missing => {
            tracing::warn!(crd = name, "Waiting for a custom resource definition: {found}");
        }
        Found::Established | Found::NotServed => {
            tracing::info!(crd = name, "Waiting for a custom resource definition: {found}");
        }
    }
}

pub(super) fn classify(answer: kube::Result<Option<CustomResourceDefinition>>) -> Found {
    match answer {
        Ok(None) => Found::Missing,
        Ok(Some(definition)) if is_served(&definition) => Found::Established,
        Ok(Some(_)) => Found::NotServed,
        Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
            Found::Denied(status.message.clone())
        }
        Err(error) => Found::Unreachable(error.to_string()),
    }
}

/// One that is being deleted is served, too, but for new objects: it waits for the finalizers of the last ones, which nobody
/// but an operator takes off.
fn is_served(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    let holds = |kind: &str| {
        conditions
            .unwrap_or_default()
            .iter()
            .any(|condition| condition.type_ == kind && condition.status == "True")
    };
    holds("Established")
}
