//! Which tools there are, and from which package of which pinned module each is built.

use std::{fmt::Write, path::PathBuf};

/// A program of the test bed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tool {
    /// The store of the control plane.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// Garbage collection, namespaces, jobs, volumes.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
    /// The node's agent.
    Kubelet,
    /// Sets nodes up.
    Kubeadm,
    /// The command line.
    Kubectl,
    /// Services on a node.
    KubeProxy,
    /// The cluster's name server.
    Coredns,
    /// What holds a pod's namespaces.
    Pause,
    /// Makes manifests out of layers.
    Kustomize,
    /// Installs charts.
    Helm,
    /// Cluster API's core manager.
    ClusterApiCore,
    /// Cluster API's kubeadm bootstrap manager.
    ClusterApiBootstrap,
    /// Cluster API's kubeadm control plane manager.
    ClusterApiControlPlane,
    /// Cluster API's command line.
    Clusterctl,
    /// Cluster API's own Docker provider.
    ClusterApiDocker,
    /// Runs Tiltfiles for whoever answers their calls.
    Starlark,
    /// Keeps container images, for those who log in.
    Registry,
}

/// A pinned Go module under `shared/testkit/tools`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Module {
    Kubernetes,
    Etcd,
    Coredns,
    Pause,
    Kustomize,
    Helm,
    ClusterApi,
    ClusterApiTest,
    Starlark,
    Registry,
}

impl Tool {
    /// Every tool.
    pub const ALL: [Self; 19] = [
        Self::Etcd,
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::KubeScheduler,
        Self::Kubelet,
        Self::Kubeadm,
        Self::Kubectl,
        Self::KubeProxy,
        Self::Coredns,
        Self::Pause,
        Self::Kustomize,
        Self::Helm,
        Self::ClusterApiCore,
        Self::ClusterApiBootstrap,
        Self::ClusterApiControlPlane,
        Self::Clusterctl,
        Self::ClusterApiDocker,
        Self::Starlark,
        Self::Registry,
    ];

    /// The tool of this file name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    /// The file name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::Kubeadm => "kubeadm",
            Self::Kubectl => "kubectl",
            Self::KubeProxy => "kube-proxy",
            Self::Coredns => "coredns",
            Self::Pause => "pause",
            Self::Kustomize => "kustomize",
            Self::Helm => "helm",
            Self::ClusterApiCore => "cluster-api-core",
            Self::ClusterApiBootstrap => "cluster-api-bootstrap",
            Self::ClusterApiControlPlane => "cluster-api-control-plane",
            Self::Clusterctl => "clusterctl",
            Self::ClusterApiDocker => "cluster-api-docker",
            Self::Starlark => "starlark",
            Self::Registry => "registry",
        }
    }

    /// The main package.
    pub(super) const fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::KubeApiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::KubeScheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
            Self::Kubelet => "k8s.io/kubernetes/cmd/kubelet",
            Self::Kubeadm => "k8s.io/kubernetes/cmd/kubeadm",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::KubeProxy => "k8s.io/kubernetes/cmd/kube-proxy",
            Self::Coredns => "github.com/coredns/coredns",
            Self::Pause => "tools.invalid/pause",
            Self::Kustomize => "sigs.k8s.io/kustomize/kustomize/v5",
            Self::Helm => "helm.sh/helm/v3/cmd/helm",
            Self::ClusterApiCore => "sigs.k8s.io/cluster-api",
            Self::ClusterApiBootstrap => "sigs.k8s.io/cluster-api/bootstrap/kubeadm",
            Self::ClusterApiControlPlane => "sigs.k8s.io/cluster-api/controlplane/kubeadm",
            Self::Clusterctl => "sigs.k8s.io/cluster-api/cmd/clusterctl",
            Self::ClusterApiDocker => "sigs.k8s.io/cluster-api/test/infrastructure/docker",
            Self::Starlark => "tools.invalid/starlark",
            Self::Registry => "tools.invalid/registry",
        }
    }

    pub(super) const fn module(self) -> Module {
        match self {
            Self::Etcd => Module::Etcd,
            Self::KubeApiserver
            | Self::KubeControllerManager
            | Self::KubeScheduler
            | Self::Kubelet
            | Self::Kubeadm
            | Self::Kubectl
            | Self::KubeProxy => Module::Kubernetes,
            Self::Coredns => Module::Coredns,
            Self::Pause => Module::Pause,
            Self::Kustomize => Module::Kustomize,
            Self::Helm => Module::Helm,
            Self::ClusterApiCore
            | Self::ClusterApiBootstrap
            | Self::ClusterApiControlPlane
            | Self::Clusterctl => Module::ClusterApi,
            Self::ClusterApiDocker => Module::ClusterApiTest,
            Self::Starlark => Module::Starlark,
            Self::Registry => Module::Registry,
        }
    }

    /// Whether the archives that `setup-envtest` downloads hold it.
    pub(super) const fn is_in_envtest_assets(self) -> bool {
        matches!(self, Self::Etcd | Self::KubeApiserver | Self::Kubectl)
    }
}

impl Module {
    /// The folder under `shared/testkit/tools`, which is also its name in the cache.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Etcd => "etcd",
            Self::Coredns => "coredns",
            Self::Pause => "pause",
            Self::Kustomize => "kustomize",
            Self::Helm => "helm",
            Self::ClusterApi => "cluster-api",
            Self::ClusterApiTest => "cluster-api-test",
            Self::Starlark => "starlark",
            Self::Registry => "registry",
        }
    }

    /// The module whose required version is the version of the tools; nothing where the source is here.
    pub(super) const fn requirement(self) -> Option<&'static str> {
        match self {
            Self::Kubernetes => Some("k8s.io/kubernetes"),
            Self::Etcd => Some("go.etcd.io/etcd/server/v3"),
            Self::Coredns => Some("github.com/coredns/coredns"),
            Self::Pause => None,
            Self::Kustomize => Some("sigs.k8s.io/kustomize/kustomize/v5"),
            Self::Helm => Some("helm.sh/helm/v3"),
            Self::ClusterApi => Some("sigs.k8s.io/cluster-api"),
            Self::ClusterApiTest => Some("sigs.k8s.io/cluster-api/test"),
            Self::Starlark => Some("go.starlark.net"),
            Self::Registry => Some("github.com/distribution/distribution/v3"),
        }
    }

    /// The packages whose variables tell a program its own version. kubeadm and clusterctl compare them and take a
    /// program without for v0.0.0.
    const fn version_packages(self) -> &'static [&'static str] {
        match self {
            Self::Kubernetes => &["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"],
            Self::ClusterApi | Self::ClusterApiTest => &["sigs.k8s.io/cluster-api/version"],
            Self::Etcd
            | Self::Coredns
            | Self::Pause
            | Self::Kustomize
            | Self::Helm
            | Self::Starlark
            | Self::Registry => &[],
        }
    }

    /// One variable that holds the version with its `v`.
    const fn version_variable(self) -> Option<&'static str> {
        match self {
            Self::Kustomize => Some("sigs.k8s.io/kustomize/api/provenance.version"),
            Self::Helm => Some("helm.sh/helm/v3/internal/version.version"),
            _ => None,
        }
    }

    /// The linker's flags for `version`, which has no leading `v`.
    pub(super) fn linker_flags(self, version: &str) -> String {
        let mut flags = "-s -w".to_owned();
        let mut parts = version.splitn(3, '.');
        let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let of_packages = self.version_packages().iter().flat_map(|package| {
            [
                (format!("{package}.gitVersion"), format!("v{version}")),
                (format!("{package}.gitMajor"), major.to_owned()),
                (format!("{package}.gitMinor"), minor.to_owned()),
                (format!("{package}.gitTreeState"), "clean".to_owned()),
            ]
        });
        let of_variable = self
            .version_variable()
            .map(|name| (name.to_owned(), format!("v{version}")));
        for (name, value) in of_packages.chain(of_variable) {
            // Writing to a String cannot fail.
            write!(flags, " -X {name}={value}").ok();
        }
        flags
    }

    /// Where its `go.mod` is.
    pub(super) fn folder(self) -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tools")).join(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_their_version() {
        let flags = Module::Kubernetes.linker_flags("1.34.4");
        assert!(
            flags.contains("-X k8s.io/component-base/version.gitVersion=v1.34.4 "),
            "{flags}"
        );
        assert!(
            flags.contains("-X k8s.io/component-base/version.gitMinor=34 "),
            "{flags}"
        );
        assert_eq!(Module::Etcd.linker_flags("3.6.8"), "-s -w");
    }

    #[test]
    fn each_tool_is_found_by_its_own_name() {
        for tool in Tool::ALL {
            assert_eq!(Tool::named(tool.name()), Some(tool));
        }
        assert_eq!(Tool::named("kube-apiserver "), None);
    }
}
