//! A namespace of a real cluster, and an operator for it that can be killed.

use std::{fs, path::Path, process::Command, time::Duration};

use tempfile::TempDir;
use testkit::{
    cluster::Cluster,
    image::{Image, Images},
    process::{Janitor, Supervised, tail},
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

pub(crate) const LIMIT: Duration = Duration::from_mins(4);
/// The seed's names.
pub(crate) const NAME: &str = "mysql-instance";
const SAMPLE: &str = include_str!("../../../../../examples/mysql/mysql-instance.yaml");
/// One at a time: each takes the whole machine.
static TURN: Mutex<()> = Mutex::const_new(());

/// Removes what a test has made. `$1` is Docker, `$2` the control plane's node, `$3` the namespace. The finalizers go
/// by force: the operator may not be there any more.
const SWEEP: &str = r#"docker=$1; node=$2; namespace=$3
k() { "$docker" exec "$node" kubectl --kubeconfig=/etc/kubernetes/admin.conf --namespace="$namespace" "$@"; }
k delete mysqls --all --wait=false
for one in $(k get mysqls --output=name); do k patch "$one" --type=merge --patch='{"metadata":{"finalizers":null}}'; done
k delete --wait=false --ignore-not-found "namespace/$namespace""#;

/// A namespace with what a test makes in it, gone when the test ends, however it ends.
pub(crate) struct Bed {
    cluster: &'static Cluster,
    namespace: String,
    image: String,
    operator: Option<Supervised>,
    folder: TempDir,
    _janitor: Janitor,
    _turn: MutexGuard<'static, ()>,
}

impl Bed {
    pub(crate) async fn new(purpose: &str) -> Self {
        let turn = TURN.lock().await;
        let cluster = Cluster::shared().await.unwrap();
        let image = Images::new(cluster.docker()).ensure(Image::Mysql).await.unwrap();
        cluster.load_image(&image).await.unwrap();
        let namespace = format!("instance-{purpose}-{}", std::process::id());
        let docker = cluster.docker().program().to_string_lossy().into_owned();
        let arguments = [docker, cluster.nodes().remove(0), namespace.clone()];
        let janitor = Janitor::engage(SWEEP, &arguments).unwrap();
        cluster
            .kubectl(&["create", "namespace", &namespace], "")
            .await
            .unwrap();
        // Whatever Pods there are in it keep to the standard, or are not there.
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        cluster
            .kubectl(&["label", "namespace", &namespace, restricted], "")
            .await
            .unwrap();
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../crds");
        let crds = ["mysqlclusters.mysql.alx.ke.yaml", "mysqls.otus.homework.yaml"]
            .map(|name| std::fs::read_to_string(crds.join(name)).unwrap());
        let apply = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
        cluster.kubectl(&apply, &crds.join("\n---\n")).await.unwrap();
        let mut bed = Self {
            cluster,
            namespace,
            image,
            operator: None,
            folder: tempfile::tempdir().unwrap(),
            _janitor: janitor,
            _turn: turn,
        };
        bed.start_operator();
        bed
    }

    /// Starts the operator. Nothing of EC2 is there, and nobody asks for it.
    pub(crate) fn start_operator(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mysql-operator"));
        command
            .arg("--kubeconfig")
            .arg(self.cluster.kubeconfig_path())
            .args(["--metrics-bind-address", "0", "--health-probe-bind-address", "0"])
            .args(["--leader-elect=false", "--aws-endpoint-url=http://127.0.0.1:1"])
            .arg(format!("--namespace={}", self.namespace))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "AKIDTEST")
            .env("AWS_SECRET_ACCESS_KEY", "secret");
        let log = self.folder.path().join("operator.log");
        self.operator = Some(Supervised::spawn("mysql-operator", &command, &log).unwrap());
    }

    /// What the operator has written.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("operator.log")).unwrap()
    }

    /// SIGKILL, and another in its place.
    pub(crate) fn kill_operator(&mut self) {
        if let Some(mut operator) = self.operator.take() {
            operator.kill();
        }
        self.start_operator();
    }

    /// The nodes start again, with everything that runs on them.
    pub(crate) async fn restart_nodes(&self) {
        for node in self.cluster.nodes() {
            self.cluster.docker().run(&["restart", &node]).await.unwrap();
        }
    }

    pub(crate) async fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let whole = [&["--namespace", &self.namespace], arguments].concat();
        let printed = self.cluster.kubectl(&whole, input).await;
        printed.map_err(|error| error.to_string())
    }

    /// Runs kubectl in the namespace. A failure shows what is there.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> String {
        match self.try_kubectl(arguments, "").await {
            Ok(printed) => printed,
            Err(error) => panic!("{error}\n{}", self.state().await),
        }
    }

    pub(crate) async fn state(&self) -> String {
        let mut seen = String::new();
        let questions: [&[&str]; 3] = [
            &["get", "mysqls,pods,jobs,persistentvolumeclaims", "--output=wide"],
            &["get", "mysqls", "--output=jsonpath={.items[*].status.conditions}"],
            &["events"],
        ];
        for question in questions {
            seen += &self.try_kubectl(question, "").await.unwrap_or_else(|error| error);
            seen.push('\n');
        }
        seen + &tail(&self.folder.path().join("operator.log"), 30)
    }

    /// Applies the seed's sample, which names an image that cannot be had here: with ours, and with nothing else changed.
    pub(crate) async fn apply(&self) {
        let manifest = SAMPLE.replace("mysql:5.7", &self.image);
        assert!(manifest.contains(&self.image));
        self.try_kubectl(&["apply", "--filename=-"], &manifest)
            .await
            .unwrap();
    }

    pub(crate) async fn ready(&self) {
        let what = format!("ms/{NAME}");
        self.kubectl(&["wait", "--for=condition=Ready", &what, "--timeout=240s"])
            .await;
    }

    /// Whether the object is gone.
    pub(crate) async fn is_gone(&self) -> bool {
        let what = ["get", "mysqls", NAME, "--ignore-not-found", "--output=name"];
        self.try_kubectl(&what, "")
            .await
            .is_ok_and(|found| found.is_empty())
    }

    pub(crate) async fn is_ready(&self) -> bool {
        let ready = r#"--output=jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        self.try_kubectl(&["get", "mysqls", NAME, ready], "")
            .await
            .is_ok_and(|status| status == "True")
    }

    pub(crate) async fn eventually(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds().await {
            assert!(
                Instant::now() < deadline,
                "not within {LIMIT:?}: {what}\n{}",
                self.state().await
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The one Pod that a person finds by the label.
    pub(crate) async fn pod(&self) -> String {
        let label = format!("--selector=app={NAME}");
        let names = "--output=jsonpath={.items[*].metadata.name}";
        let found = self.kubectl(&["get", "pod", &label, names]).await;
        assert!(
            !found.is_empty() && !found.contains(' '),
            "not one Pod: {found:?}"
        );
        found
    }

    /// What the seed's commands do.
    pub(crate) async fn sql(&self, statement: &str) -> String {
        let pod = self.pod().await;
        let options = [
            "exec",
            &pod,
            "--",
            "mysql",
            "-u",
            "root",
            "-potuspassword",
            "--skip-column-names",
        ];
        self.kubectl(&[&options[..], &["-e", statement, "otus-database"]].concat())
            .await
    }

    /// The names of all objects of a kind.
    pub(crate) async fn names(&self, kind: &str) -> Vec<String> {
        let names = "--output=jsonpath={.items[*].metadata.name}";
        let found = self.kubectl(&["get", kind, names]).await;
        found.split_whitespace().map(str::to_owned).collect()
    }

    /// Every Job with how many of its Pods have succeeded of how many that have to.
    pub(crate) async fn jobs(&self) -> String {
        let counts = "--output=jsonpath={range .items[*]}{.metadata.name} {.status.succeeded}/{.spec.completions} {end}";
        self.kubectl(&["get", "jobs", counts]).await.trim().to_owned()
    }
}
