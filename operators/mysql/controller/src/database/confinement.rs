//! As whom the Pods run, and with which rights: none, as the restricted Pod Security Standard wants it.
//!
//! The official images start as root, give the data folder to their user and become that user. Here a Pod is that user
//! from the beginning, and the kubelet gives the volumes to its group. That cannot be had where the kubelet gives a volume
//! to nobody: a folder of a node stays root's. There Pods start as their image does, and a namespace that enforces the
//! standard refuses them.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, PersistentVolumeClaim, PodSecurityContext, PodSpec, SeccompProfile,
    SecurityContext, Volume,
};

use super::{
    server::{mount, scratch},
    volumes,
};

/// The user and the group `mysql` of the official images (`mysql`).
const OFFICIAL: i64 = 999;
/// The user and the group `mysql` of the images that Oracle publishes itself (`mysql/mysql-server`,
/// `…/community-server`, `…/enterprise-server`).
const ORACLE: i64 = 27;
/// Where a server has its socket: an image's own folder belongs to the image's user.
const RUN_FOLDER: &str = "/run/mysqld";
const RUN: &str = "run";

/// As whom the Pods run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// As this user, which the spec names.
    Named(i64),
    /// As this user, which the image is known to have.
    OfImage(i64),
    /// As whom the image starts; for the official ones root, until the server starts.
    Started,
}

impl Identity {
    /// What a spec asks for that names this user, or none.
    pub fn new(user: Option<i64>, image: &str) -> Self {
        match user {
            Some(0) => Self::Started,
            Some(user) => Self::Named(user),
            None => Self::OfImage(user_of(image)),
        }
    }

    /// The same with another image.
    #[must_use]
    pub fn with_image(self, image: &str) -> Self {
        match self {
            Self::OfImage(_) => Self::OfImage(user_of(image)),
            other => other,
        }
    }

    /// What remains of it on the volume of this claim. A user that the spec names is taken anywhere: whoever names it
    /// knows the volume.
    #[must_use]
    pub fn on(self, claim: &PersistentVolumeClaim) -> Self {
        match self {
            Self::OfImage(_) if volumes::is_roots(claim) => Self::Started,
            other => other,
        }
    }

    fn user(self) -> Option<i64> {
        match self {
            Self::Named(user) | Self::OfImage(user) => Some(user),
            Self::Started => None,
        }
    }

    /// Confines a Pod and all of its containers.
    pub fn confine(self, pod: &mut PodSpec) {
        pod.security_context = Some(self.of_pod());
        let containers = pod.containers.iter_mut();
        for container in containers.chain(pod.init_containers.iter_mut().flatten()) {
            container.security_context = Some(self.of_container());
        }
    }

    fn of_pod(self) -> PodSecurityContext {
        let user = self.user();
        PodSecurityContext {
            run_as_user: user,
            run_as_group: user,
            run_as_non_root: user.map(|_| true),
            fs_group: user,
            // A large volume is looked through once and not at every start.
            fs_group_change_policy: user.map(|_| "OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }
    }

    fn of_container(self) -> SecurityContext {
        let none = || Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        };
        SecurityContext {
            allow_privilege_escalation: Some(false),
            // As root an image gives folders away and becomes its user, for which it needs some.
            capabilities: self.user().map(|_| none()),
            ..SecurityContext::default()
        }
    }
}

/// The user that servers of this image run as.
fn user_of(image: &str) -> i64 {
    let name = image.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split(':').next() {
        Some("mysql-server" | "community-server" | "enterprise-server") => ORACLE,
        _ => OFFICIAL,
    }
}

/// Whether the image is one of those that Oracle publishes itself.
pub(super) fn is_oracles(image: &str) -> bool {
    user_of(image) == ORACLE
}

/// Gives the server a folder for its socket that is the user's, whoever that is.
pub fn add_run_folder(pod: &mut PodSpec, container: &str) {
    let server = |one: &&mut Container| one.name == container;
    if let Some(server) = pod.containers.iter_mut().find(server) {
        let mounts = server.volume_mounts.get_or_insert_default();
        mounts.push(mount(RUN, RUN_FOLDER, false));
    }
    let volumes: &mut Vec<Volume> = pod.volumes.get_or_insert_default();
    volumes.push(scratch(RUN));
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("mysql:8.4", 999)]
    #[case("registry:5000/library/mysql:8.4@sha256:00", 999)]
    #[case("mysql/mysql-server:8.0", 27)]
    #[case("registry.example.com/mysql/community-server@sha256:00", 27)]
    fn the_user_is_the_images(#[case] image: &str, #[case] user: i64) {
        assert_eq!(Identity::new(None, image), Identity::OfImage(user));
        assert_eq!(
            Identity::new(None, "other").with_image(image),
            Identity::OfImage(user)
        );
        assert_eq!(Identity::new(Some(1001), image), Identity::Named(1001));
        assert_eq!(
            Identity::new(Some(1001), "other").with_image(image),
            Identity::Named(1001)
        );
    }

    #[test]
    fn only_on_a_folder_of_a_node_a_pod_starts_as_its_image_does_unless_a_user_is_named() {
        let claim = |annotations: serde_json::Value| -> PersistentVolumeClaim {
            serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap()
        };
        let (plain, folder) = (
            claim(json!({})),
            claim(json!({"otus.homework/volume": "mysql-u-data"})),
        );
        let usual = Identity::new(None, "mysql:8.4");
        assert_eq!(usual.on(&plain), usual);
        assert_eq!(usual.on(&folder), Identity::Started);
        assert_eq!(Identity::Named(5).on(&folder), Identity::Named(5));
        assert_eq!(Identity::new(Some(0), "mysql:8.4"), Identity::Started);
    }

    #[test]
    fn one_that_starts_as_its_image_does_keeps_what_its_entrypoint_needs() {
        let mut pod: PodSpec = serde_json::from_value(json!({"containers": [{"name": "mysql"}]})).unwrap();
        Identity::Started.confine(&mut pod);
        let whole = pod.security_context.unwrap();
        assert_eq!(
            (whole.run_as_user, whole.run_as_non_root, whole.fs_group),
            (None, None, None)
        );
        let container = pod.containers.remove(0).security_context.unwrap();
        assert_eq!(container.capabilities, None);
        assert_eq!(container.allow_privilege_escalation, Some(false));
    }
}
