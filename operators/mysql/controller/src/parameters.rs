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
    /// Of the options in the user data those that the data are made with: [`Desired::lasting`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lasting: BTreeMap<String, String>,
    /// Devices of the image whose volumes would outlive the instance: the launch says that they do not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_devices: Vec<String>,
    /// Cloud-init's user data, not encoded.
    pub user_data: String,
    /// Tags of instance, volumes and interface.
    pub tags: BTreeMap<String, String>,
}

impl LaunchParameters {
    /// The parameters of a launch of `identity` into `subnet`, of an image that keeps no volume.
    pub fn new(desired: &Desired, identity: &Identity, subnet: &str, operator_id: &str) -> Self {
        Self {
            region: desired.region.clone(),
            subnet: subnet.to_owned(),
            template: desired.template.clone(),
            revision: Some(desired.revision()),
            lasting: desired.lasting(),
            kept_devices: Vec::new(),
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
}

/// Launch parameters as they are kept, with the bytes that they are kept as: another version of the operator may write the
/// same parameters in other words, and a launch is known by the words that it was decided with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The parameters.
    pub parameters: LaunchParameters,
    bytes: Vec<u8>,
}

impl Frozen {
    /// Parameters as this version of the operator writes them.
    pub fn new(parameters: LaunchParameters) -> Self {
        let bytes = serde_json::to_vec(&parameters).unwrap_or_default();
        Self { parameters, bytes }
    }

    /// Parameters that were kept as these bytes.
    pub fn read(bytes: Vec<u8>) -> Result<Self, serde_json::Error> {
        let parameters = serde_json::from_slice(&bytes)?;
        Ok(Self { parameters, bytes })
    }

    /// What is to be kept.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of what is kept, hexadecimal.
    pub fn digest(&self) -> String {
        hexadecimal(&self.bytes)
    }
}

/// SHA-256 of what a value is as JSON, hexadecimal.
///
/// Maps are ordered and fields come in the order of declaration: equal values are equal texts.
pub(crate) fn digest(value: &impl Serialize) -> String {
    hexadecimal(&serde_json::to_vec(value).unwrap_or_default())
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// EC2's limit for the value of a tag.
fn cut(value: &str) -> String {
    value.chars().take(255).collect()
}
