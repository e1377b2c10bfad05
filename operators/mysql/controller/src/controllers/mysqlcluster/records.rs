//! The records of a cluster: its ledger in the object's status, frozen parameters in Secrets that it owns.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
};
use mysql_api::MySQLCluster;
use reconcile::{Class, Pass, ReconcileError, error::ApiError};
use serde_json::json;

use super::remains;
use crate::{identity::frozen_name, ledger::Ledger, parameters::Frozen, records::Records};

/// The key under which a Secret holds the frozen parameters.
const KEY: &str = "parameters.json";

/// The records could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// A request failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A Secret of the needed name is somebody else's.
    #[error("Secret {0} exists and does not belong to this cluster; rename it or delete it")]
    NameConflict(String),
    /// A Secret does not hold what was put in.
    #[error("Secret {name} does not hold launch parameters: {source}; delete it")]
    Damaged {
        /// Namespace and name.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl ReconcileError for RecordsError {
    fn class(&self) -> Class {
        match self {
            Self::Api(error) => error.class(),
            // A person has to act, and what they do sends us no event.
            Self::NameConflict(_) | Self::Damaged { .. } => Class::Transient,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Api(error) => error.reason(),
            Self::NameConflict(_) => "NameConflict",
            Self::Damaged { .. } => "FrozenParametersDamaged",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// The records of the object that a pass is about.
pub(super) struct StatusRecords<'a> {
    pub(super) pass: &'a Pass<MySQLCluster>,
}

impl StatusRecords<'_> {
    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.pass.client().clone(), &self.pass.key().namespace)
    }

    fn secret(&self, name: &str, frozen: &Frozen) -> Secret {
        let cluster = self.pass.current();
        let owner = OwnerReference {
            api_version: MySQLCluster::api_version(&()).into_owned(),
            kind: MySQLCluster::kind(&()).into_owned(),
            name: cluster.name_any(),
            uid: self.pass.uid(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        let text = ByteString(frozen.bytes().to_vec());
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(self.pass.key().namespace.to_string()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            immutable: Some(true),
            data: Some(BTreeMap::from([(KEY.to_owned(), text)])),
            type_: Some("mysql.alx.ke/launch".to_owned()),
            ..Secret::default()
        };
        remains::marked(secret, &self.pass.uid())
    }

    async fn read(&self, name: &str) -> Result<Option<Frozen>, RecordsError> {
        let what = format!("{}/{name}", self.pass.key().namespace);
        let found = self
            .secrets()
            .get_opt(name)
            .await
            .map_err(|error| ApiError::new(format!("read Secret {what}"), error))?;
        let Some(secret) = found else { return Ok(None) };
        let uid = self.pass.uid();
        if !secret.owner_references().iter().any(|owner| owner.uid == uid) {
            return Err(RecordsError::NameConflict(what));
        }
        let text = secret.data.unwrap_or_default().remove(KEY).unwrap_or_default();
        Frozen::read(text.0)
            .map(Some)
            .map_err(|source| RecordsError::Damaged { name: what, source })
    }
}

impl Records for StatusRecords<'_> {
    type Error = RecordsError;

    async fn freeze(&self, ordinal: i32, incarnation: i32, wanted: &Frozen) -> Result<Frozen, RecordsError> {
        let name = frozen_name(&self.pass.key().name, ordinal, incarnation);
        let secret = self.secret(&name, wanted);
        match self.secrets().create(&PostParams::default(), &secret).await {
            Ok(_) => return Ok(wanted.clone()),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                let what = format!("create Secret {}/{name}", self.pass.key().namespace);
                return Err(ApiError::new(what, error).into());
            }
        }
        // It is there, from before a crash: what is in it stays.
        match self.read(&name).await? {
            Some(frozen) => Ok(frozen),
            None => Err(RecordsError::NameConflict(format!(
                "{}/{name}",
                self.pass.key().namespace
            ))),
        }
    }

    async fn frozen(&self, ordinal: i32, incarnation: i32) -> Result<Option<Frozen>, RecordsError> {
        let name = frozen_name(&self.pass.key().name, ordinal, incarnation);
        match self.read(&name).await {
            // Whatever it holds now, it is not what was put in.
            Err(RecordsError::NameConflict(_) | RecordsError::Damaged { .. }) => Ok(None),
            read => read,
        }
    }

    async fn discard(&self, ordinal: i32, incarnation: i32) -> Result<(), RecordsError> {
        let name = frozen_name(&self.pass.key().name, ordinal, incarnation);
        let what = format!("{}/{name}", self.pass.key().namespace);
        let found = self.secrets().get_opt(&name).await;
        let found = found.map_err(|error| ApiError::new(format!("read Secret {what}"), error))?;
        let uid = self.pass.uid();
        let ours = |secret: &Secret| secret.owner_references().iter().any(|owner| owner.uid == uid);
        let Some(secret) = found.filter(ours) else {
            return Ok(());
        };
        let this_one = Preconditions {
            uid: secret.uid(),
            ..Preconditions::default()
        };
        let how = DeleteParams::default().preconditions(this_one);
        match self.secrets().delete(&name, &how).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(ApiError::new(format!("delete Secret {what}"), error).into()),
            Ok(_) => Ok(()),
        }
    }

    async fn write(&self, ledger: &Ledger) -> Result<(), RecordsError> {
        let mut intent = json!({ "launches": ledger.entries() });
        // The intent is written whole: what is not in it would be given up.
        let topology = self
            .pass
            .current()
            .status
            .as_ref()
            .and_then(|status| status.topology.clone());
        if let Some(topology) = topology {
            intent["topology"] = json!(topology);
        }
        self.pass.write_intent(&intent).await.map_err(Into::into)
    }
}
