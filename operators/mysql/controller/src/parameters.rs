//! What an instance is launched with, frozen.
//!
//! EC2 compares a repeated launch with the first by all of its parameters, so they are computed once, kept in an
//! immutable Secret, and sent from there ever after. Nothing in them is a clock, random or a secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    desired::{Desired, Template},
    identity::{Identity, OPERATOR_ID, OWNER},
};

/// Everything that RunInstances is told, but the client token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchParameters {
    /// The region.
    pub region: String,
    /// The subnet.
    pub subnet: String,
    /// Image, type, volume and so on: what all members have in common.
    pub template: Template,
    /// [`Desired::revision`] of the spec that this follows from; absent in what an older operator froze.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Cloud-init's user data, not encoded.
    pub user_data: String,
    /// Tags of instance, volumes and interface.
    pub tags: BTreeMap<String, String>,
}

impl LaunchParameters {
    /// The parameters of a launch of `identity` into `subnet`.
    pub fn new(desired: &Desired, identity: &Identity, subnet: &str, operator_id: &str) -> Self {
        Self {
            region: desired.region.clone(),
            subnet: subnet.to_owned(),
            template: desired.template.clone(),
            revision: Some(desired.revision()),
            user_data: crate::bootstrap::user_data(desired, identity.ordinal),
            tags: Self::tags(desired, identity, operator_id),
        }
    }

    /// The tags of a member's instance, volumes and interface: the user's and ours. Ours win.
    pub fn tags(desired: &Desired, identity: &Identity, operator_id: &str) -> BTreeMap<String, String> {
        let mut tags = desired.tags.clone();
        tags.extend(identity.tags());
        tags.extend([
            ("Name".to_owned(), format!("mysql-{}", desired.name)),
            (
                "kubernetes.io/cluster/nairobi-mysql".to_owned(),
                "owned".to_owned(),
            ),
            (
                "app.kubernetes.io/managed-by".to_owned(),
                "nairobi-mysql-operator".to_owned(),
            ),
            (OPERATOR_ID.to_owned(), operator_id.to_owned()),
            (
                OWNER.to_owned(),
                cut(&format!("{}/{}", desired.namespace, desired.name)),
            ),
        ]);
        tags.into_iter().map(|(key, value)| (key, cut(&value))).collect()
    }

    /// SHA-256 of the parameters, hexadecimal.
    pub fn digest(&self) -> String {
        digest(self)
    }
}

/// SHA-256 of what a value is as JSON, hexadecimal.
///
/// Maps are ordered and fields come in the order of declaration: equal values are equal texts.
pub(crate) fn digest(value: &impl Serialize) -> String {
    use std::fmt::Write as _;
    let text = serde_json::to_vec(value).unwrap_or_default();
    Sha256::digest(text).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// EC2's limit for the value of a tag.
fn cut(value: &str) -> String {
    value.chars().take(255).collect()
}
