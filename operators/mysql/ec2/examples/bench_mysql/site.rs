//! A namespace of a real cluster, with an operator for it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use kube::{Api, Client};
use reconcile::reconciler::Kind;
use testkit::{
    cluster::Cluster,
    image::{Image, Images},
    process::{Janitor, ScratchFolder, Supervised, free_address, tail},
};

use crate::operator;

/// How often a condition is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(50);
/// How long anything may take.
const DEADLINE: Duration = Duration::from_mins(20);
/// The password of every server here.
pub(crate) const PASSWORD: &str = "otuspassword";
/// The database of every server here.
pub(crate) const DATABASE: &str = "otus-database";
/// Bytes of one row.
const ROW: usize = 16 * 1024;

/// Removes what the benchmark has made. `$1` is Docker, `$2` the control plane's node, `$3` the namespace.
const SWEEP: &str = r#"docker=$1; node=$2; namespace=$3
k() { "$docker" exec "$node" kubectl --kubeconfig=/etc/kubernetes/admin.conf --namespace="$namespace" "$@"; }
k delete mysqls --all --wait=false
for one in $(k get mysqls --output=name); do k patch "$one" --type=merge --patch='{"metadata":{"finalizers":null}}'; done
k delete --wait=false --ignore-not-found "namespace/$namespace""#;

/// A namespace of a real cluster, gone when the value is, and soon after its process has ended in any other way.
pub(crate) struct Site {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// The image of every server.
    pub(crate) image: String,
    cluster: &'static Cluster,
    folder: ScratchFolder,
    _operator: Supervised,
    _janitor: Janitor,
}

impl Site {
    pub(crate) async fn start() -> Result<Self> {
        let cluster = Cluster::shared().await?;
        let image = Images::new(cluster.docker()).ensure(Image::Mysql).await?;
        cluster.load_image(&image).await?;
        let namespace = format!("bench-mysql-{}", std::process::id());
        let docker = cluster.docker().program().to_string_lossy().into_owned();
        let janitor = Janitor::engage(SWEEP, &[docker, cluster.nodes().remove(0), namespace.clone()])?;
        cluster.kubectl(&["create", "namespace", &namespace], "").await?;
        let crd = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../crds/mysqls.otus.homework.yaml");
        let crd = std::fs::read_to_string(&crd).with_context(|| crd.display().to_string())?;
        let apply = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
        cluster.kubectl(&apply, &crd).await?;
        let folder = ScratchFolder::create("bench-mysql")?;
        let metrics = free_address()?;
        let log = folder.path().join("operator.log");
        let operator = operator::start(cluster.kubeconfig_path(), &namespace, 1, metrics, &log)?;
        Ok(Self {
            client: cluster.client(),
            namespace,
            image,
            cluster,
            folder,
            _operator: operator,
            _janitor: janitor,
        })
    }

    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits until `holds`, and looks every `pause`. A failure to look counts as no.
    pub(crate) async fn until(
        &self,
        what: &str,
        pause: Duration,
        mut holds: impl AsyncFnMut() -> kube::Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while !holds().await.unwrap_or_default() {
            if Instant::now() > deadline {
                let seen = self
                    .kubectl(&["get", "mysqls,pods,jobs,pvc", "--output=wide"])
                    .await;
                let log = tail(&self.folder.path().join("operator.log"), 20);
                bail!("not within {DEADLINE:?}: {what}\n{seen:?}\n{log}");
            }
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let whole = [&["--namespace", &self.namespace], arguments].concat();
        Ok(self.cluster.kubectl(&whole, "").await?)
    }

    /// Lets the server of this name run statements.
    pub(crate) async fn sql(&self, name: &str, statements: &str) -> Result<String> {
        let server = format!("deployment/{name}");
        let password = format!("-p{PASSWORD}");
        let options = [
            "exec",
            &server,
            "--",
            "mysql",
            "-u",
            "root",
            &password,
            "--skip-column-names",
        ];
        self.kubectl(&[&options[..], &["-e", statements, DATABASE]].concat())
            .await
    }

    /// Writes so many MiB of rows that no compression makes smaller; returns what tells them from others.
    pub(crate) async fn fill(&self, name: &str, mib: usize) -> Result<String> {
        let bytes = vec!["RANDOM_BYTES(1024)"; ROW / 1024].join(",");
        let rows = (mib * 1024 * 1024 / ROW).max(1);
        let doublings = rows.next_power_of_two().trailing_zeros();
        let first = format!(
            "CREATE TABLE t (a INT AUTO_INCREMENT PRIMARY KEY, b BLOB); INSERT INTO t (b) VALUES (CONCAT({bytes}))"
        );
        self.sql(name, &first).await?;
        for _ in 0..doublings {
            // So that the last one is no transaction of half of it all in the binary log.
            let double = format!("SET sql_log_bin = 0; INSERT INTO t (b) SELECT CONCAT({bytes}) FROM t");
            self.sql(name, &double).await?;
        }
        self.sum(name).await
    }

    /// What tells the rows from others.
    pub(crate) async fn sum(&self, name: &str) -> Result<String> {
        self.sql(name, "SELECT COUNT(*), SUM(CRC32(b)) FROM t").await
    }
}
