//! What the programs of the test bed promise: each is the one that is pinned, and says so.

use std::process::Command;

use testkit::tools::{self, Tool};

/// What a cluster is made of, with the arguments by which each tells its version.
const OF_A_CLUSTER: [(Tool, &[&str]); 9] = [
    (Tool::Etcd, &["--version"]),
    (Tool::KubeApiserver, &["--version"]),
    (Tool::KubeControllerManager, &["--version"]),
    (Tool::KubeScheduler, &["--version"]),
    (Tool::KubeProxy, &["--version"]),
    (Tool::Kubelet, &["--version"]),
    (Tool::Kubeadm, &["version", "--output=short"]),
    (Tool::Kubectl, &["version", "--client"]),
    (Tool::Coredns, &["-version"]),
];

/// What takes minutes to build and is needed by none of the other smokes.
const OTHERS: [(Tool, &[&str]); 3] = [
    (Tool::Helm, &["version", "--short"]),
    (Tool::Kustomize, &["version"]),
    (Tool::Clusterctl, &["version", "--output=short"]),
];

#[tokio::test]
async fn smoke_every_program_is_of_the_version_that_is_pinned() {
    let full = std::env::var_os("TESTKIT_FULL").is_some();
    let others = if full { OTHERS.as_slice() } else { &[] };
    for (tool, arguments) in OF_A_CLUSTER.iter().chain(others) {
        let program = tools::ensure_pinned(&[*tool]).await.unwrap().remove(0);
        let output = Command::new(program).args(*arguments).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let version = tools::version(*tool).unwrap();
        assert!(output.status.success(), "{}: {}", tool.name(), output.status);
        assert!(
            printed.contains(&version),
            "{} is {version} and says {printed}",
            tool.name()
        );
    }
}
