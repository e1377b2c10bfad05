//! The making of a cluster, step by step.

use std::{
    fs,
    io::Write,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::future::try_join_all;
use serde::{Deserialize, Serialize};

use super::{
    ClusterError, Spec,
    kubeadm::{self, Facts},
    layout::Layout,
    limit,
};
use crate::{
    docker::{Docker, DockerError, LABEL},
    image::{Image, Images, POD_NETWORK_NAME},
    progress::Step,
    tools::{self, Tool},
};

/// How long nodes and name server may take to become ready.
const READY_DEADLINE: Duration = Duration::from_mins(3);
/// Where the control plane's kubeconfig is, in its node.
const ADMIN: &str = "/etc/kubernetes/admin.conf";
/// The file in the control plane's node that says that the cluster was whole once.
const MARKER: &str = "/etc/operators-testbed.json";

/// A cluster in the making.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) docker: Docker,
    pub(super) layout: Layout,
    /// On every object, `key=value`.
    pub(super) labels: Vec<String>,
}

/// What is written down when a cluster is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    pub(super) nodes: u16,
}

impl Setup {
    pub(super) fn new(docker: &Docker, layout: Layout, ephemeral: bool) -> Self {
        let mut labels = vec![
            layout.label(),
            format!("{LABEL}.holder={}", holder(&layout)),
            format!("{LABEL}.created={}", jiff::Timestamp::now().as_second()),
        ];
        if ephemeral {
            labels.push(format!("{LABEL}.ephemeral=true"));
        }
        Self {
            docker: docker.clone(),
            layout,
            labels,
        }
    }

    /// Makes the cluster; nothing of it may exist. Returns its kubeconfig.
    pub(super) async fn create(&self, spec: &Spec) -> Result<PathBuf, ClusterError> {
        let image = Images::new(&self.docker).ensure(Image::Node).await?;
        let step = Step::start(format!(
            "making cluster {} ({} nodes)",
            self.layout.name, spec.nodes
        ));
        limit::raise_inotify_instances(spec.nodes);
        self.create_network().await?;
        self.create_volume(&self.layout.shared_volume()).await?;
        let nodes = self.layout.nodes(spec.nodes);
        let (control_plane, workers) = nodes
            .split_first()
            .map_or((&[][..], &[][..]), |_| nodes.split_at(1));
        let first = async {
            for node in control_plane {
                let port = self.boot(node, &image).await?.unwrap_or_default();
                step.advance("kubeadm init");
                self.init(node, spec.nodes == 1).await?;
                self.write_kubeconfig(node, port).await?;
                let manifests = kubeadm::manifests(POD_NETWORK_NAME);
                self.kubectl(&["apply", "--server-side", "--filename", "-"], &manifests)
                    .await?;
            }
            Ok::<_, ClusterError>(())
        };
        let others = try_join_all(workers.iter().map(|node| self.boot(node, &image)));
        tokio::try_join!(first, others)?;
        step.advance("joining and waiting for nodes");
        let join = async {
            try_join_all(workers.iter().map(|node| self.join(node))).await?;
            self.wait_until_ready(spec.nodes).await
        };
        let load = try_join_all(spec.load.iter().map(|image| self.load(&nodes, image)));
        tokio::try_join!(join, load)?;
        self.mark(spec.nodes).await?;
        step.done();
        self.layout.kubeconfig()
    }

    async fn create_network(&self) -> Result<(), ClusterError> {
        let mut arguments = vec!["network", "create"];
        for label in &self.labels {
            arguments.extend(["--label", label.as_str()]);
        }
        let name = self.layout.network();
        arguments.push(&name);
        self.docker("create its network", &arguments).await.map(drop)
    }

    /// The address that the machine has in the cluster's network.
    pub(super) async fn gateway(&self) -> Result<IpAddr, ClusterError> {
        let name = self.layout.network();
        let format = "{{range .IPAM.Config}}{{.Gateway}} {{end}}";
        let printed = self
            .docker(
                "look at its network",
                &["network", "inspect", "--format", format, &name],
            )
            .await?;
        let gateway = printed
            .split_whitespace()
            .find_map(|address| address.parse().ok());
        gateway.ok_or(ClusterError::NoGateway(name))
    }

    pub(super) async fn create_volume(&self, name: &str) -> Result<(), ClusterError> {
        let mut arguments = vec!["volume", "create"];
        for label in &self.labels {
            arguments.extend(["--label", label.as_str()]);
        }
        arguments.push(name);
        self.docker("create a volume", &arguments).await.map(drop)
    }

    async fn init(&self, node: &str, alone: bool) -> Result<(), ClusterError> {
        let version = tools::version(Tool::Kubeadm)?;
        let has_sys_resource = self.has_sys_resource(node).await?;
        let facts = Facts {
            name: &self.layout.name,
            version: &version,
            has_sys_resource,
            alone,
        };
        let configuration = kubeadm::configuration(facts);
        let script =
            "cat > /etc/kubernetes/init.yaml && kubeadm init --config /etc/kubernetes/init.yaml 2>&1";
        self.exec_with("run kubeadm init", node, script, &configuration)
            .await
            .map(drop)
    }

    async fn join(&self, node: &str) -> Result<(), ClusterError> {
        let control_plane = self.layout.control_plane();
        let print = [
            "exec",
            &control_plane,
            "kubeadm",
            "token",
            "create",
            "--print-join-command",
        ];
        let printed = self.docker("make a join token", &print).await?;
        let command = printed
            .lines()
            .rfind(|line| line.starts_with("kubeadm join"))
            .unwrap_or(&printed);
        let script = format!("{command} --skip-phases=preflight 2>&1");
        self.exec_with(&format!("join {node}"), node, &script, "")
            .await
            .map(drop)
    }

    /// Runs kubectl in the control plane's node.
    pub(super) async fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, ClusterError> {
        let command = [&["kubectl", "--kubeconfig", ADMIN], arguments].concat();
        let action = format!("run kubectl {}", arguments.join(" "));
        self.docker
            .exec_with(&self.layout.control_plane(), &command, input.as_bytes())
            .await
            .map_err(self.failed(&action))
    }

    async fn wait_until_ready(&self, nodes: u16) -> Result<(), ClusterError> {
        let control_plane = self.layout.control_plane();
        let script = format!(
            "export KUBECONFIG={ADMIN}; \
             kubectl get nodes -o jsonpath='{{range .items[*]}}{{.status.conditions[?(@.type==\"Ready\")].status}} {{end}}'; \
             kubectl -n kube-system get deployment coredns -o jsonpath='/{{.status.readyReplicas}}'"
        );
        let expected = "True ".repeat(usize::from(nodes));
        self.wait(
            READY_DEADLINE,
            "all nodes and the name server are ready",
            async || {
                let seen = self
                    .docker
                    .exec(&control_plane, &["sh", "-c", &script])
                    .await
                    .unwrap_or_default();
                let (ready, names) = seen.split_once('/').unwrap_or_default();
                ready == expected && names.parse::<u16>().is_ok_and(|replicas| replicas > 0)
            },
        )
        .await
    }

    /// Copies an image of the daemon into `nodes`.
    pub(super) async fn load(&self, nodes: &[String], image: &str) -> Result<(), ClusterError> {
        let step = Step::start(format!("loading {image} into cluster {}", self.layout.name));
        let import = |node: &str| {
            ["exec", "-i", node, "ctr", "-n", "k8s.io", "images", "import", "-"].map(str::to_owned)
        };
        try_join_all(nodes.iter().map(|node| async {
            let import = import(node);
            let import: Vec<&str> = import.iter().map(String::as_str).collect();
            self.docker.pipe(&["save", image], &import).await
        }))
        .await
        .map_err(self.failed(&format!("load the image {image}")))?;
        step.done();
        Ok(())
    }

    async fn write_kubeconfig(&self, node: &str, port: u16) -> Result<(), ClusterError> {
        let admin = self
            .docker("read its kubeconfig", &["exec", node, "cat", ADMIN])
            .await?;
        let published = at_port(&admin, port);
        let path = self.layout.kubeconfig()?;
        write_private(&path, &published).map_err(|source| ClusterError::File { path, source })
    }

    /// Writes the kubeconfig of a cluster that is there anew.
    pub(super) async fn rewrite_kubeconfig(&self) -> Result<(), ClusterError> {
        let node = self.layout.control_plane();
        let printed = self
            .docker("ask for its port", &["port", &node, "6443/tcp"])
            .await?;
        let port = printed.lines().next().and_then(|line| line.rsplit(':').next());
        let port = port.and_then(|port| port.trim().parse().ok()).unwrap_or_default();
        self.write_kubeconfig(&node, port).await
    }

    async fn mark(&self, nodes: u16) -> Result<(), ClusterError> {
        let marker = serde_json::json!(Marker { nodes }).to_string();
        let script = format!("cat > {MARKER}.new && mv {MARKER}.new {MARKER}");
        self.exec_with("mark it as whole", &self.layout.control_plane(), &script, &marker)
            .await
            .map(drop)
    }

    /// What was written down when the cluster was whole; nothing when it never was, or is not there.
    pub(super) async fn marker(&self) -> Result<Option<Marker>, ClusterError> {
        let control_plane = self.layout.control_plane();
        if !self.docker.exists("container", &control_plane).await? {
            return Ok(None);
        }
        // Copied and not read by a command in it: the container may have been stopped.
        let source = format!("{control_plane}:{MARKER}");
        let archive = self.docker.run(&["cp", &source, "-"]).await;
        let text = archive.ok().and_then(|archive| {
            let start = archive.find('{')?;
            let end = archive[start..].find('}')?;
            Some(archive[start..=start + end].to_owned())
        });
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// How many of the cluster's containers run.
    pub(super) async fn running(&self) -> Result<usize, ClusterError> {
        let filter = format!("label={}", self.layout.label());
        let ids = self
            .docker("list its containers", &["ps", "--quiet", "--filter", &filter])
            .await?;
        Ok(ids.lines().count())
    }

    pub(super) async fn describe_nodes(&self) -> String {
        let script = format!("kubectl --kubeconfig {ADMIN} get nodes,pods -A --no-headers 2>&1 | head -40");
        let control_plane = self.layout.control_plane();
        let seen = self.docker.exec(&control_plane, &["sh", "-c", &script]).await;
        seen.unwrap_or_else(|error| error.to_string())
    }

    pub(super) async fn docker(&self, action: &str, arguments: &[&str]) -> Result<String, ClusterError> {
        self.docker.run(arguments).await.map_err(self.failed(action))
    }

    async fn exec_with(
        &self,
        action: &str,
        node: &str,
        script: &str,
        input: &str,
    ) -> Result<String, ClusterError> {
        let command = ["sh", "-c", script];
        self.docker
            .exec_with(node, &command, input.as_bytes())
            .await
            .map_err(self.failed(action))
    }

    fn failed(&self, action: &str) -> impl FnOnce(DockerError) -> ClusterError + use<> {
        let (name, action) = (self.layout.name.clone(), action.to_owned());
        move |source| ClusterError::Docker {
            name,
            action,
            source: Box::new(source),
        }
    }
}

/// Where the lock of a cluster is that says whether it is held: this machine, and the file on it. Another machine, or a
/// container, may use the same Docker.
pub(super) fn holder(layout: &Layout) -> String {
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let path = layout.lock().map(|path| path.display().to_string());
    format!("{machine}:{}", path.unwrap_or_default())
}

/// The kubeconfig with its server at a port of 127.0.0.1.
fn at_port(kubeconfig: &str, port: u16) -> String {
    let lines = kubeconfig.lines().map(|line| match line.find("server: ") {
        Some(at) => format!("{}server: https://127.0.0.1:{port}\n", &line[..at]),
        None => format!("{line}\n"),
    });
    lines.collect()
}

/// Writes a file that only its owner may read, in one step.
fn write_private(path: &Path, content: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let temporary = path.with_extension("new");
    let mut file = fs::File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(content.as_bytes())?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_kubeconfig_leads_to_the_loopback_port_and_keeps_the_rest() {
        let admin = "clusters:\n- cluster:\n    server: https://172.18.0.2:6443\n  name: dev\n";
        let expected = "clusters:\n- cluster:\n    server: https://127.0.0.1:20001\n  name: dev\n";
        assert_eq!(at_port(admin, 20001), expected);
    }

    #[test]
    fn a_kubeconfig_is_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clusters").join("dev.kubeconfig");
        write_private(&path, "secret").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(path).unwrap(), "secret");
    }
}
