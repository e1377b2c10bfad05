//! The names, labels and files of a cluster.

use std::path::PathBuf;

use super::ClusterError;
use crate::{docker::LABEL, tools::cache_folder};

/// The longest name of a cluster, in bytes: a node's name, which is longer, must be a DNS label.
const LONGEST_NAME: usize = 40;

/// A valid name, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) name: String,
}

impl Layout {
    /// Checks the name: lower-case letters, digits and dashes, a letter first.
    pub(super) fn new(name: &str) -> Result<Self, ClusterError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let valid = name.len() <= LONGEST_NAME
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.ends_with(|c: char| c != '-')
            && name.chars().all(allowed);
        if valid {
            Ok(Self {
                name: name.to_owned(),
            })
        } else {
            Err(ClusterError::Name(name.to_owned()))
        }
    }

    /// The label on every object of the cluster, `key=value`.
    pub(super) fn label(&self) -> String {
        format!("{LABEL}.cluster={}", self.name)
    }

    /// The containers, the control plane first.
    pub(super) fn nodes(&self, count: u16) -> Vec<String> {
        let workers = (1..count).map(|number| match number {
            1 => format!("{}-worker", self.name),
            _ => format!("{}-worker{number}", self.name),
        });
        std::iter::once(self.control_plane()).chain(workers).collect()
    }

    pub(super) fn control_plane(&self) -> String {
        format!("{}-control-plane", self.name)
    }

    pub(super) fn network(&self) -> String {
        format!("{LABEL}-{}", self.name)
    }

    /// What a node keeps under /var.
    pub(super) fn node_volume(node: &str) -> String {
        format!("{LABEL}-{node}")
    }

    /// What all nodes share: the content of persistent volumes, so that a pod finds its data on any node.
    pub(super) fn shared_volume(&self) -> String {
        format!("{LABEL}-{}-volumes", self.name)
    }

    /// Where its kubeconfig is kept.
    pub(super) fn kubeconfig(&self) -> Result<PathBuf, ClusterError> {
        Ok(folder()?.join(format!("{}.kubeconfig", self.name)))
    }

    /// The file that is locked while somebody sets the cluster up, or holds one that is to end with its holder.
    pub(super) fn lock(&self) -> Result<PathBuf, ClusterError> {
        Ok(folder()?.join(format!("{}.lock", self.name)))
    }
}

/// The folder of these files.
pub(super) fn folder() -> Result<PathBuf, ClusterError> {
    Ok(cache_folder()?.join("clusters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_container_could_have_is_refused() {
        for name in ["", "Upper", "-a", "a-", "a_b", "a.b", "1a", &"a".repeat(41)] {
            assert!(Layout::new(name).is_err(), "{name}");
        }
        assert!(Layout::new("dev-2").is_ok());
    }

    #[test]
    fn the_control_plane_is_the_first_node() {
        let layout = Layout::new("dev").unwrap();
        assert_eq!(layout.nodes(1), ["dev-control-plane"]);
        assert_eq!(
            layout.nodes(3),
            ["dev-control-plane", "dev-worker", "dev-worker2"]
        );
    }
}
