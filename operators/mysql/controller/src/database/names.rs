//! How the objects of one `MySQL` are called and marked.
//!
//! Names are those that users of the kind know: `<name>` for Deployment and Service, `<name>-pvc`, `backup-<name>-pvc`,
//! `restore-<name>-job`, `backup-<name>-job`, and the label `app=<name>` on the server's Pod, and on no other.

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt as _};
use mysql_api::database::Reason;

use super::desired::SpecError;

/// Value of `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "mysql-operator";
/// Label with the name of the `MySQL`, on everything that is made for it.
pub const OF: &str = "otus.homework/mysql";
/// Annotation with the UID of the `MySQL` that something was made for, where no owner reference says so.
pub const MADE_FOR: &str = "otus.homework/made-for";
/// The label that the server's Pod alone carries.
pub const APP: &str = "app";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// `restore-` and `-job` with it are a label's 63 characters.
const LONGEST: usize = 51;

/// The names of one `MySQL`'s objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    name: String,
}

impl Names {
    /// For the `MySQL` of this name.
    ///
    /// # Errors
    /// If the name is too long, or none that a Service can have.
    pub fn new(name: &str) -> Result<Self, SpecError> {
        let refused = |why: String| SpecError {
            reason: Reason::NameInvalid,
            message: why,
        };
        if name.len() > LONGEST {
            return Err(refused(format!(
                "metadata.name has {} characters; with more than {LONGEST} its Jobs could not be named: create one with a \
                 shorter name",
                name.len()
            )));
        }
        let label = name.starts_with(|c: char| c.is_ascii_lowercase())
            && !name.ends_with('-')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !label {
            return Err(refused(format!(
                "metadata.name {name:?} is none that a Service can have: create one whose name starts with a letter and \
                 has only a–z, 0–9 and -"
            )));
        }
        Ok(Self {
            name: name.to_owned(),
        })
    }

    /// Name of the `MySQL`, its Deployment and its Service.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The claim of the data volume.
    pub fn data_claim(&self) -> String {
        format!("{}-pvc", self.name)
    }

    /// The claim of the volume that backups go to.
    pub fn backup_claim(&self) -> String {
        format!("backup-{}-pvc", self.name)
    }

    /// The Job that restores.
    pub fn restore_job(&self) -> String {
        format!("restore-{}-job", self.name)
    }

    /// The Job that backs up.
    pub fn backup_job(&self) -> String {
        format!("backup-{}-job", self.name)
    }

    /// The Secret with the password of root, as Pods mount it.
    pub fn credentials(&self) -> String {
        format!("{}-credentials", self.name)
    }

    /// The Secret for clients.
    pub fn binding(&self) -> String {
        format!("{}-binding", self.name)
    }

    /// The ConfigMap with the options of the server.
    pub fn config(&self) -> String {
        format!("{}-config", self.name)
    }

    /// The labels of everything that is made for it, Pods included.
    pub fn labels(&self) -> BTreeMap<String, String> {
        [
            ("app.kubernetes.io/name", "mysql"),
            ("app.kubernetes.io/instance", &self.name),
            (MANAGED_BY, MANAGER),
            (OF, &self.name),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    /// What the server's Pod is selected by.
    pub fn selector(&self) -> BTreeMap<String, String> {
        [(APP, self.name.as_str()), (MANAGED_BY, MANAGER)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    /// Whether an object is marked as made for a `MySQL` of this name, whichever.
    pub fn marked(&self, object: &impl Resource) -> bool {
        let labels = object.labels();
        labels.get(MANAGED_BY).is_some_and(|by| by == MANAGER) && labels.get(OF) == Some(&self.name)
    }
}

/// Whose an object is, by its controlling owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned {
    /// The `MySQL` with this UID.
    Ours,
    /// An earlier `MySQL` of this name, which is gone: so will this be, soon.
    Predecessor,
    /// Somebody else.
    Foreign,
    /// Nobody.
    Nobody,
}

/// Whose `object` is, for the `MySQL` of this name and UID.
pub fn owned(object: &impl Resource, names: &Names, uid: &str) -> Owned {
    let owners = object.owner_references();
    let Some(owner) = owners.iter().find(|owner| owner.controller == Some(true)) else {
        return Owned::Nobody;
    };
    let kind = owner.kind == "MySQL" && owner.api_version.starts_with("otus.homework/");
    match (owner.uid == uid, kind && owner.name == names.name) {
        (true, _) => Owned::Ours,
        (false, true) => Owned::Predecessor,
        (false, false) => Owned::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("mysql-instance", true)]
    #[case(&"m".repeat(51), true)]
    #[case(&"m".repeat(52), false)]
    #[case(&"m".repeat(253), false)]
    #[case("7up", false)]
    #[case("a.b", false)]
    #[case("a-", false)]
    fn names_that_children_cannot_have_are_refused(#[case] name: &str, #[case] fits: bool) {
        match Names::new(name) {
            Ok(names) => {
                assert!(fits);
                assert!(names.restore_job().len() <= 63 && names.backup_claim().len() <= 63);
            }
            Err(error) => {
                assert!(!fits);
                assert_eq!(error.reason, Reason::NameInvalid);
            }
        }
    }

    #[rstest]
    #[case(json!([]), Owned::Nobody)]
    #[case(json!([{"apiVersion": "otus.homework/v1", "kind": "MySQL", "name": "m", "uid": "u", "controller": true}]), Owned::Ours)]
    #[case(json!([{"apiVersion": "otus.homework/v1", "kind": "MySQL", "name": "m", "uid": "v", "controller": true}]), Owned::Predecessor)]
    #[case(json!([{"apiVersion": "apps/v1", "kind": "MySQL", "name": "m", "uid": "v", "controller": true}]), Owned::Foreign)]
    #[case(json!([{"apiVersion": "otus.homework/v1", "kind": "MySQL", "name": "m", "uid": "v"}]), Owned::Nobody)]
    fn whose_an_object_is_stands_in_its_controlling_owner(
        #[case] owners: serde_json::Value,
        #[case] whose: Owned,
    ) {
        let object: ConfigMap =
            serde_json::from_value(json!({"metadata": {"name": "m", "ownerReferences": owners}})).unwrap();
        assert_eq!(owned(&object, &Names::new("m").unwrap(), "u"), whose);
    }
}
