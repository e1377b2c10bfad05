//! The spec, validated and completed: what is to be carried out. Whoever holds a [`Desired`] can act on it.

mod group;
mod settings;

use std::collections::BTreeMap;

use mysql_api::{
    Reason,
    cluster::{Aws, DeletionPolicy, Durability, HttpTokens, LOCKED_OPTIONS, MySQLClusterSpec, Storage},
};
use serde::{Deserialize, Serialize};

pub use self::{
    group::Group,
    settings::{Named, Place, Settings},
};

/// EBS volume types that can hold a data volume.
const VOLUME_TYPES: &[&str] = &["gp2", "gp3", "io1", "io2"];
/// How many bytes of options user data has room for beside the rest, under EC2's limit of 16 KB.
const MOST_OPTIONS: usize = 4096;

/// What all members of a cluster are launched with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// The machine image.
    pub image: String,
    /// The instance type.
    pub instance_type: String,
    /// The security groups.
    pub groups: Vec<String>,
    /// The key pair for SSH.
    pub key_name: Option<String>,
    /// Name of the IAM instance profile.
    pub instance_profile: Option<String>,
    /// The data volume.
    pub volume: Volume,
    /// Whether EC2 refuses to terminate the instance.
    pub termination_protection: bool,
    /// Whether the metadata service asks for session tokens.
    pub metadata_tokens_required: bool,
    /// How many hops the metadata service's answers survive.
    pub metadata_hop_limit: i32,
}

/// A data volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its EBS type.
    pub kind: String,
    /// Its size in GiB.
    pub size_gib: i32,
    /// Its I/O operations per second, if not the type's own.
    pub iops: Option<i32>,
    /// Whether it is encrypted.
    pub encrypted: bool,
}

/// A cluster as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// UID of the object.
    pub uid: String,
    /// Number of members.
    pub replicas: i32,
    /// The region.
    pub region: String,
    /// The subnets that members may go to, in the order of the spec.
    pub subnets: Vec<String>,
    /// What members are launched with.
    pub template: Template,
    /// The user's tags.
    pub tags: BTreeMap<String, String>,
    /// The user's options for mysqld, in their canonical spelling.
    pub options: BTreeMap<String, String>,
    /// What a deletion does with the instances.
    pub deletion_policy: DeletionPolicy,
    /// What a commit waits for.
    pub durability: Durability,
    /// The certificate of the authority that the operator proves itself by, as PEM. Members get it in their user data;
    /// empty until it is known.
    pub authority: String,
}

/// The spec cannot be carried out as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SpecError {
    /// The reason that a condition gives.
    pub reason: Reason,
    /// What is wrong and what to do.
    pub message: String,
}

fn invalid(message: String) -> SpecError {
    SpecError {
        reason: Reason::SpecInvalid,
        message,
    }
}

/// The object that a spec belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
}

impl Desired {
    /// Validates and completes a spec.
    pub fn resolve(
        owner: Owner<'_>,
        spec: &MySQLClusterSpec,
        settings: &Settings,
    ) -> Result<Self, SpecError> {
        let Some(aws) = &spec.aws else {
            return Err(SpecError {
                reason: Reason::BackendUnavailable,
                message: "members inside the cluster are not available yet; create a MySQLCluster with spec.aws for members on EC2".into(),
            });
        };
        if let Some(provider) = provider(spec).filter(|provider| *provider != "aws") {
            let message = format!("cloudConfig.provider {provider:?} is not available; only \"aws\" is");
            return Err(invalid(message));
        }
        let given = spec.cloud_config.as_ref();
        if given.is_some_and(|given| given.cpu_request.is_some() || given.memory_request.is_some()) {
            let message = "cloudConfig.cpuRequest and cloudConfig.memoryRequest mean nothing on EC2, where aws.instanceType says what a member has; remove them";
            return Err(invalid(message.into()));
        }
        if let Some(unfit) = crate::endpoints::unfit(owner.name) {
            return Err(invalid(unfit));
        }
        Ok(Self {
            namespace: owner.namespace.to_owned(),
            name: owner.name.to_owned(),
            uid: owner.uid.to_owned(),
            replicas: spec.replicas,
            region: region(spec, aws, settings)?,
            subnets: subnets(aws),
            template: template(spec, aws, settings)?,
            tags: aws
                .tags
                .iter()
                .map(|tag| (tag.key.clone(), tag.value.clone()))
                .collect(),
            options: options(&spec.my_sql_options, spec.durability)?,
            deletion_policy: spec.deletion_policy,
            durability: spec.durability,
            authority: String::new(),
        })
    }
}

impl Desired {
    /// Digest of what a member is: instance, volume and options. Members with another one are replaced, so nothing is in
    /// it that only the operator decides, but for the type of volume that a storage class stands for, and nothing that
    /// says where or how a member is kept: subnets, tags, termination protection.
    pub fn revision(&self) -> String {
        let template = Template {
            termination_protection: false,
            ..self.template.clone()
        };
        crate::parameters::digest(&(template, &self.options))
    }
}

fn provider(spec: &MySQLClusterSpec) -> Option<&str> {
    let given = spec.cloud_config.as_ref()?.provider.as_deref()?;
    (!given.is_empty()).then_some(given)
}

/// The spec's own region, else its place's, else the operator's.
fn region(spec: &MySQLClusterSpec, aws: &Aws, settings: &Settings) -> Result<String, SpecError> {
    if let Some(region) = &aws.region {
        return Ok(region.clone());
    }
    let name = spec.geo_affinity.as_deref().unwrap_or(settings::DEFAULT_PLACE);
    match settings.places.get(name) {
        Some(place) => Ok(place.region.as_ref().unwrap_or(&settings.region).clone()),
        None if spec.geo_affinity.is_none() => Ok(settings.region.clone()),
        None => {
            let known: Vec<_> = settings.places.keys().map(String::as_str).collect();
            let known = known.join(", ");
            Err(invalid(format!(
                "geoAffinity {name:?} is no place that this operator knows ({known}); name one of them or set spec.aws.region in a new MySQLCluster, or start the operator with --place {name}=REGION"
            )))
        }
    }
}

fn subnets(aws: &Aws) -> Vec<String> {
    let mut all = vec![aws.subnet_id.clone()];
    for subnet in &aws.subnet_ids {
        if !all.contains(subnet) {
            all.push(subnet.clone());
        }
    }
    all
}

fn template(spec: &MySQLClusterSpec, aws: &Aws, settings: &Settings) -> Result<Template, SpecError> {
    let metadata = aws.metadata.clone().unwrap_or_default();
    Ok(Template {
        image: aws.ami.clone(),
        instance_type: instance_type(spec, aws)?,
        groups: aws.security_group_ids.clone(),
        key_name: aws.key_name.clone(),
        instance_profile: aws.iam_instance_profile.clone(),
        volume: volume(spec.storage.as_ref(), settings)?,
        termination_protection: aws.termination_protection,
        metadata_tokens_required: metadata.http_tokens == HttpTokens::Required,
        metadata_hop_limit: metadata.hop_limit.max(1),
    })
}

fn instance_type(spec: &MySQLClusterSpec, aws: &Aws) -> Result<String, SpecError> {
    let class = || spec.cloud_config.as_ref()?.instance_class.as_ref();
    let given = aws.instance_type.as_ref().or_else(class);
    let why = "neither aws.instanceType nor cloudConfig.instanceClass is set; set one, such as t3.medium";
    given.cloned().ok_or_else(|| invalid(why.into()))
}

fn volume(storage: Option<&Storage>, settings: &Settings) -> Result<Volume, SpecError> {
    let class = storage
        .and_then(|storage| storage.storage_class.as_deref())
        .unwrap_or("gp3");
    let mapped = settings.volume_types.get(class).map(String::as_str);
    let Some(kind) = mapped.or_else(|| VOLUME_TYPES.contains(&class).then_some(class)) else {
        let known: Vec<_> = settings
            .volume_types
            .keys()
            .map(String::as_str)
            .chain(VOLUME_TYPES.iter().copied())
            .collect();
        return Err(invalid(format!(
            "storage.storageClass {class:?} is no EBS volume type and no name that this operator maps to one (its flag --storage-class); known are {}",
            known.join(", ")
        )));
    };
    let size = storage.map_or("20Gi", |storage| &storage.size);
    let size_gib = gibibytes(size)
        .filter(|size| (1..=65_536).contains(size))
        .ok_or_else(|| invalid(format!("storage.size {size:?} is not between 1Gi and 64Ti")))?;
    let iops = storage
        .and_then(|storage| storage.iops)
        .map(i32::try_from)
        .transpose();
    let iops = iops.map_err(|_| invalid("storage.iops is above what any volume has".into()))?;
    if kind.starts_with("io") && iops.is_none() {
        return Err(invalid(format!(
            "storage.iops must be set for volumes of type {kind}"
        )));
    }
    if kind == "gp2" && iops.is_some() {
        return Err(invalid(
            "storage.iops cannot be set for volumes of type gp2; use gp3".into(),
        ));
    }
    Ok(Volume {
        kind: kind.to_owned(),
        size_gib,
        iops,
        encrypted: storage.is_none_or(|storage| storage.encrypted),
    })
}

fn gibibytes(text: &str) -> Option<i32> {
    let (digits, factor) = match text.strip_suffix("Ti") {
        Some(digits) => (digits, 1024),
        None => (text.strip_suffix("Gi")?, 1),
    };
    digits.parse::<i32>().ok()?.checked_mul(factor)
}

/// The user's options in their canonical spelling. mysqld takes `-` for `_`, the prefixes `loose_` and `skip_`/`disable_`, and
/// sets nothing that the operator sets.
fn options(
    given: &BTreeMap<String, String>,
    durability: Durability,
) -> Result<BTreeMap<String, String>, SpecError> {
    let size: usize = given
        .iter()
        .map(|(name, value)| name.len() + value.len() + 2)
        .sum();
    if size > MOST_OPTIONS {
        let message = format!("mySQLOptions take {size} bytes; user data has room for {MOST_OPTIONS}");
        return Err(SpecError {
            reason: Reason::OptionsInvalid,
            message,
        });
    }
    let mut canonical = BTreeMap::new();
    for (name, value) in given {
        let refused = |why: &str| SpecError {
            reason: Reason::OptionsInvalid,
            message: format!("mySQLOptions: {name:?} {why}"),
        };
        let plain = name.replace('-', "_");
        let is_name = plain.len() <= 64
            && plain.starts_with(|c: char| c.is_ascii_lowercase())
            && plain
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.'));
        if !is_name {
            return Err(refused("is no option's name"));
        }
        if value.chars().any(is_no_text) {
            return Err(refused(
                "has a value with a line break or another control character",
            ));
        }
        let bare = ["loose_", "skip_", "disable_", "enable_", "maximum_"]
            .iter()
            .fold(plain.as_str(), |name, prefix| {
                name.strip_prefix(prefix).unwrap_or(name)
            });
        // mysqld accepts any unambiguous beginning of an option's name.
        let locked = |name: &str| {
            LOCKED_OPTIONS
                .iter()
                .any(|locked| name == *locked || (name.len() > 4 && locked.starts_with(name)))
        };
        if locked(&plain) || locked(bare) {
            return Err(refused("is set by the operator; remove it"));
        }
        if bare == "sync_relay_log" && durability == Durability::Lossless && value.trim() != "1" {
            return Err(refused(
                "is 1 while durability is Lossless, for what a replica acknowledges is on its disk then; remove it, or set durability to Available",
            ));
        }
        if canonical.insert(plain, value.clone()).is_some() {
            return Err(refused("is given twice, in two spellings"));
        }
    }
    Ok(canonical)
}

/// What ends a line for a reader of YAML, as cloud-init is, or is no character for it at all: it would cut what follows off, or
/// make something else of it.
fn is_no_text(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fdd0}'..='\u{fdef}'
        )
        || character as u32 & 0xfffe == 0xfffe
}

#[cfg(test)]
pub(crate) mod tests;
