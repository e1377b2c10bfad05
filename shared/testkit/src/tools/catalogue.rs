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
}

/// A pinned Go module under `shared/testkit/tools`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Module {
    Kubernetes,
    Etcd,
}

impl Tool {
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
        }
    }

    /// The module whose required version is the version of the tools.
    pub(super) const fn requirement(self) -> &'static str {
        match self {
            Self::Kubernetes => "k8s.io/kubernetes",
            Self::Etcd => "go.etcd.io/etcd/server/v3",
        }
    }

    /// The variables that tell a program its own version. kubeadm compares them and takes a program without for
    /// v0.0.0.
    const fn version_packages(self) -> &'static [&'static str] {
        match self {
            Self::Kubernetes => &["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"],
            Self::Etcd => &[],
        }
    }

    /// The linker's flags for `version`, which has no leading `v`.
    pub(super) fn linker_flags(self, version: &str) -> String {
        let mut flags = "-s -w".to_owned();
        let mut parts = version.splitn(3, '.');
        let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        for package in self.version_packages() {
            for (name, value) in [
                ("gitVersion", format!("v{version}")),
                ("gitMajor", major.to_owned()),
                ("gitMinor", minor.to_owned()),
                ("gitTreeState", "clean".to_owned()),
            ] {
                // Writing to a String cannot fail.
                write!(flags, " -X {package}.{name}={value}").ok();
            }
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
}
