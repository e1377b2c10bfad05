//! A namespace for one test.

use std::{
    sync::{LazyLock, mpsc},
    thread,
    time::Duration,
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ObjectMeta, PostParams},
};

use super::{ControlPlaneError, error::requesting, make_client};

/// How long a drop waits for its delete request to be answered. What is deleted goes away later.
const DELETE_DEADLINE: Duration = Duration::from_secs(2);

/// The label on every namespace of the test bed.
const LABEL: &str = "testkit.example.com/namespace";

/// A namespace with a name of its own. Dropping it asks the API server to delete it with everything in it, and does
/// not wait until that has happened.
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

impl Drop for TestNamespace {
    fn drop(&mut self) {
        let (answered, answer) = mpsc::channel();
        let doomed = Doomed {
            name: self.name.clone(),
            config: self.config.clone(),
            answered,
        };
        if let Some(undertaker) = UNDERTAKER.as_ref()
            && undertaker.send(doomed).is_ok()
        {
            // Best effort: with the server gone there is nothing left to delete.
            answer.recv_timeout(DELETE_DEADLINE).ok();
        }
    }
}

/// A namespace to delete.
struct Doomed {
    name: String,
    config: Config,
    answered: mpsc::Sender<()>,
}

/// A thread with a runtime of its own, because a test's runtime is about to end when the test drops its namespace.
static UNDERTAKER: LazyLock<Option<mpsc::Sender<Doomed>>> = LazyLock::new(|| {
    let (sender, doomed) = mpsc::channel::<Doomed>();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    let work = move || {
        for doomed in doomed {
            runtime.block_on(async {
                let api: Api<Namespace> = Api::all(make_client(doomed.config));
                let params = DeleteParams::background();
                let request = api.delete(&doomed.name, &params);
                drop(tokio::time::timeout(DELETE_DEADLINE, request).await);
            });
            doomed.answered.send(()).ok();
        }
    };
    thread::Builder::new()
        .name("namespaces".to_owned())
        .spawn(work)
        .ok()?;
    Some(sender)
});
