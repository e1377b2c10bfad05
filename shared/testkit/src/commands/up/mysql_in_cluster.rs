//! A real cluster for `MySQL`, whose server is a Pod.

use std::path::Path;

use anyhow::{Context, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use serde_json::{Value, json};
use testkit::{
    cluster::{Cluster, Spec},
    docker::Docker,
    image::{Image, Images},
    progress::{Step, line},
};

use super::{
    operator::Target,
    progress::{self},
};

/// The example's name, its password and its database.
const NAME: &str = "mysql-instance";
const PASSWORD: &str = "otuspassword";
const DATABASE: &str = "otus-database";
/// How long a deletion with its backup may take.
const DELETION: &str = "--timeout=300s";

/// A cluster of one node. It ends with the value.
pub(super) struct World {
    cluster: Cluster,
    image: String,
}

impl World {
    /// Makes the cluster and the image. `None`, with a line that says why, where there is no Docker.
    pub(super) async fn start() -> anyhow::Result<Option<Self>> {
        let docker = match Docker::connect().await {
            Ok(docker) => docker,
            Err(error) => {
                line(&format!(
                    "mysql-in-cluster is left out, since there is no Docker: {error}"
                ));
                return Ok(None);
            }
        };
        let image = Images::new(&docker).ensure(Image::Mysql).await?;
        let cluster = Cluster::ephemeral(Spec {
            name: "up".to_owned(),
            load: vec![image.clone()],
            ..Spec::default()
        })
        .await?;
        Ok(Some(Self { cluster, image }))
    }

    /// Installs the kinds.
    pub(super) async fn install(&self, crds: &[CustomResourceDefinition]) -> anyhow::Result<()> {
        let texts = crds
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<Vec<_>, _>>()?;
        let apply = ["apply", "--server-side", "--filename=-"];
        self.cluster.kubectl(&apply, &texts.join("\n---\n")).await?;
        let wait = [
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "customresourcedefinitions",
            "--all",
        ];
        self.cluster.kubectl(&wait, "").await?;
        Ok(())
    }

    /// A client of the cluster, and the file that leads there.
    pub(super) fn site(&self) -> (Client, &Path) {
        (self.cluster.client(), self.cluster.kubeconfig_path())
    }

    /// Puts the image of this machine into an object of the example.
    pub(super) fn adapt(&self, object: &mut Value) {
        if object["kind"] == "MySQL" {
            object["spec"]["image"] = json!(self.image);
        }
    }

    /// What there is, in a few words.
    pub(super) fn describe(&self) -> String {
        format!("a cluster of one node, {}", self.cluster.name())
    }

    /// Writes a row, deletes the object, makes it again as it was, and reads the row.
    pub(super) async fn verify(&self, client: &Client, target: &Target) -> anyhow::Result<String> {
        self.sql("CREATE TABLE up (id INT PRIMARY KEY); INSERT INTO up VALUES (42)")
            .await?;
        let get = ["get", "mysql", NAME, "--output=json"];
        let object: Value = serde_json::from_str(&self.cluster.kubectl(&get, "").await?)?;
        let step = Step::start("deleting it with a row in it, which takes a backup");
        let delete = ["delete", "mysql", NAME, DELETION];
        self.cluster.kubectl(&delete, "").await?;
        step.done();
        let again = json!({
            "apiVersion": object["apiVersion"], "kind": object["kind"],
            "metadata": {"name": NAME}, "spec": object["spec"],
        });
        self.cluster
            .kubectl(&["apply", "--filename=-"], &again.to_string())
            .await?;
        line("\nmade again:\n");
        progress::follow(client, target, "Ready", || Ok(())).await?;
        let row = self.sql("SELECT id FROM up").await?;
        ensure!(row.trim() == "42", "the row has not come back: {row}");
        Ok("asked MySQL itself: deleted and made again, it has the row that was written before".to_owned())
    }

    async fn sql(&self, statement: &str) -> anyhow::Result<String> {
        let server = format!("deployment/{NAME}");
        let password = format!("--password={PASSWORD}");
        let command = [
            "exec",
            "--stdin",
            &server,
            "--",
            "mysql",
            "--user=root",
            &password,
            "--batch",
            "--skip-column-names",
            DATABASE,
        ];
        let printed = self.cluster.kubectl(&command, statement).await;
        printed.with_context(|| format!("in the Pod of {NAME}"))
    }

    /// What a person may try next.
    pub(super) fn hints(&self) -> String {
        format!(
            "  kubectl --kubeconfig {kubeconfig} get mysql,pods,jobs,pvc\n  kubectl --kubeconfig {kubeconfig} \
             annotate mysql {NAME} otus.homework/backup-now=1",
            kubeconfig = self.cluster.kubeconfig_path().display()
        )
    }
}
