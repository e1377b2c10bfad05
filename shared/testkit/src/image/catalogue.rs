//! Which images there are, and what each is made of.

use sha2::{Digest, Sha256};

use super::{ImageError, context, debian, node};
use crate::tools::{self, Tool, hex};

/// An image of the test bed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Image {
    /// Debian bookworm with everything that a node, its proxy and a load balancer need.
    Toolbox,
    /// kube-apiserver.
    KubeApiserver,
    /// kube-controller-manager.
    KubeControllerManager,
    /// kube-scheduler.
    KubeScheduler,
    /// etcd.
    Etcd,
    /// CoreDNS.
    Coredns,
    /// What holds a pod's namespaces.
    Pause,
    /// kube-proxy with iptables.
    KubeProxy,
    /// The agent of the pod network.
    PodNetwork,
    /// A TCP load balancer.
    Haproxy,
    /// A node without the images of its pods.
    NodeBase,
    /// A whole Kubernetes node.
    Node,
    /// Debian unstable with MySQL, systemd and cloud-init.
    MysqlToolbox,
    /// A MySQL server that is configured like the official image.
    Mysql,
    /// A machine as EC2 would give it: systemd, cloud-init, a MySQL server.
    Ec2Instance,
}

impl Image {
    /// The name: the last part of the repository's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Toolbox => "toolbox",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Etcd => "etcd",
            Self::Coredns => "coredns",
            Self::Pause => "pause",
            Self::KubeProxy => "kube-proxy",
            Self::PodNetwork => "pod-network",
            Self::Haproxy => "haproxy",
            Self::NodeBase => "node-base",
            Self::Node => "node",
            Self::MysqlToolbox => "mysql-toolbox",
            Self::Mysql => "mysql",
            Self::Ec2Instance => "ec2-instance",
        }
    }

    /// The image of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|image| image.name() == name)
    }

    /// Every image.
    pub const ALL: [Self; 15] = [
        Self::Toolbox,
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::KubeScheduler,
        Self::Etcd,
        Self::Coredns,
        Self::Pause,
        Self::KubeProxy,
        Self::PodNetwork,
        Self::Haproxy,
        Self::NodeBase,
        Self::Node,
        Self::MysqlToolbox,
        Self::Mysql,
        Self::Ec2Instance,
    ];

    /// The repository and the tag, which is a hash over everything that the image is made of.
    pub fn tag(self) -> Result<String, ImageError> {
        Ok(format!(
            "operators-testbed/{}:{}",
            self.name(),
            &self.fingerprint()?[..16]
        ))
    }

    /// The folders under `images` whose content is the context of its build.
    pub(super) const fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Toolbox => &["toolbox"],
            Self::KubeApiserver | Self::KubeControllerManager | Self::KubeScheduler | Self::Etcd => {
                &["component"]
            }
            Self::Coredns => &["coredns"],
            Self::Pause => &["pause"],
            Self::KubeProxy => &["kube-proxy", "collect"],
            Self::PodNetwork => &["pod-network", "collect"],
            Self::Haproxy => &["haproxy", "collect"],
            Self::NodeBase => &["node"],
            Self::Node => &[],
            Self::MysqlToolbox => &["mysql-toolbox"],
            Self::Mysql => &["mysql", "collect"],
            Self::Ec2Instance => &["ec2-instance"],
        }
    }

    /// The tools that are copied to `bin/` of the context.
    pub(super) const fn tools(self) -> &'static [Tool] {
        match self {
            Self::KubeApiserver => &[Tool::KubeApiserver],
            Self::KubeControllerManager => &[Tool::KubeControllerManager],
            Self::KubeScheduler => &[Tool::KubeScheduler],
            Self::Etcd => &[Tool::Etcd],
            Self::Coredns => &[Tool::Coredns],
            Self::Pause => &[Tool::Pause],
            Self::KubeProxy => &[Tool::KubeProxy],
            Self::PodNetwork => &[Tool::Kubectl],
            Self::NodeBase => &[Tool::Kubelet, Tool::Kubeadm, Tool::Kubectl],
            Self::Toolbox
            | Self::Haproxy
            | Self::Node
            | Self::MysqlToolbox
            | Self::Mysql
            | Self::Ec2Instance => &[],
        }
    }

    /// The images that must be there before this one can be made.
    pub(super) fn parts(self) -> Vec<Self> {
        match self {
            Self::KubeProxy | Self::PodNetwork | Self::Haproxy | Self::NodeBase => vec![Self::Toolbox],
            Self::Node => [&[Self::NodeBase], node::PRELOADED.as_slice()].concat(),
            Self::Mysql | Self::Ec2Instance => vec![Self::MysqlToolbox],
            _ => Vec::new(),
        }
    }

    /// The Debian suite whose packages are the whole of the image; the file `packages` of its folder lists them.
    pub(super) const fn suite(self) -> Option<&'static str> {
        match self {
            Self::Toolbox => Some("bookworm"),
            Self::MysqlToolbox => Some("sid"),
            _ => None,
        }
    }

    /// What the Dockerfile's arguments are.
    pub(super) fn build_arguments(self) -> Result<Vec<(&'static str, String)>, ImageError> {
        let mut arguments = Vec::new();
        if let Some(toolbox) = self.parts().into_iter().find(|part| part.suite().is_some()) {
            arguments.push(("TOOLBOX", toolbox.tag()?));
        }
        if self == Self::NodeBase {
            arguments.push((
                "KUBERNETES_VERSION",
                format!("v{}", tools::version(Tool::Kubelet)?),
            ));
        }
        Ok(arguments)
    }

    /// Adds the tools of this image and of its parts to `found`, each once.
    pub(super) fn all_tools(self, found: &mut Vec<Tool>) {
        for &tool in self.tools() {
            if !found.contains(&tool) {
                found.push(tool);
            }
        }
        for part in self.parts() {
            part.all_tools(found);
        }
    }

    /// A hash over everything that the image is made of.
    pub fn fingerprint(self) -> Result<String, ImageError> {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        };
        add(self.name().as_bytes());
        add(std::env::consts::ARCH.as_bytes());
        for folder in self.folders() {
            for (path, executable, content) in context::files(self, folder)? {
                add(path.as_os_str().as_encoded_bytes());
                add(&[u8::from(executable)]);
                add(&content);
            }
        }
        for &tool in self.tools() {
            add(tools::fingerprint(tool)?.as_bytes());
        }
        for part in self.parts() {
            add(part.fingerprint()?.as_bytes());
        }
        if self.suite().is_some() {
            add(debian::LEFT_OUT.concat().as_bytes());
        }
        if self == Self::Node {
            add(node::REVISION.as_bytes());
        }
        Ok(hex(&hash.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_has_a_tag_of_its_own() {
        let mut tags: Vec<String> = Image::ALL.iter().map(|image| image.tag().unwrap()).collect();
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), Image::ALL.len());
    }

    #[test]
    fn each_image_is_found_by_its_own_name() {
        for image in Image::ALL {
            assert_eq!(Image::named(image.name()), Some(image));
        }
    }

    #[test]
    fn every_folder_of_an_image_is_there_and_one_has_its_dockerfile() {
        for image in Image::ALL.into_iter().filter(|image| !image.folders().is_empty()) {
            let paths: Vec<_> = image
                .folders()
                .iter()
                .flat_map(|folder| context::files(image, folder).unwrap())
                .map(|(path, ..)| path)
                .collect();
            assert!(
                paths.iter().any(|path| path.as_os_str() == "Dockerfile"),
                "{}: {paths:?}",
                image.name()
            );
        }
    }

    #[test]
    fn the_tools_of_a_node_include_those_of_its_pods_once() {
        let mut found = Vec::new();
        Image::Node.all_tools(&mut found);
        for tool in [Tool::Kubelet, Tool::Etcd, Tool::Coredns, Tool::KubeProxy] {
            assert_eq!(
                found.iter().filter(|&&other| other == tool).count(),
                1,
                "{}",
                tool.name()
            );
        }
        assert_eq!(found.iter().filter(|&&tool| tool == Tool::Kubectl).count(), 1);
    }
}
