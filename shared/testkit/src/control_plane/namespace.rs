//! A namespace for one test.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, PostParams},
};

use super::{ControlPlaneError, error::requesting, make_client};

/// The label on every namespace of the test bed.
const LABEL: &str = "testkit.example.com/namespace";

/// A namespace with a name of its own.
///
/// It stays until its control plane goes: to delete one takes two requests for each kind that the server knows, and where
/// every test did so that was two thirds of all that the server was asked. What works on all namespaces must therefore not
/// be misled by what other tests have left in theirs.
#[derive(Debug)]
pub struct TestNamespace {
    name: String,
    config: Config,
}

impl TestNamespace {
    pub(super) async fn create(config: &Config, prefix: &str) -> Result<Self, ControlPlaneError> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{prefix}-{}", &id[..12]);
        let object = Namespace {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some([(LABEL.to_owned(), "true".to_owned())].into()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let api: Api<Namespace> = Api::all(make_client(config.clone()));
        api.create(&PostParams::default(), &object)
            .await
            .map_err(requesting(format!("create the namespace {name}")))?;
        Ok(Self {
            name,
            config: config.clone(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A client that may do everything and whose default namespace is this one.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn client(&self) -> Client {
        let mut config = self.config.clone();
        config.default_namespace.clone_from(&self.name);
        make_client(config)
    }
}
