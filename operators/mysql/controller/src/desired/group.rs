//! What holds of a cluster whatever becomes of the rest of its spec.

use mysql_api::cluster::Durability;

use super::{Desired, Owner};

/// The servers of a cluster: enough to look after those that there are, and too little to launch, replace or remove one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// UID of the object.
    pub uid: String,
    /// The region.
    pub region: String,
    /// Number of members.
    pub replicas: i32,
    /// What a commit waits for.
    pub durability: Durability,
}

impl Group {
    /// A group of `replicas` members in `region`.
    pub fn new(owner: Owner<'_>, region: &str, (replicas, durability): (i32, Durability)) -> Self {
        Self {
            namespace: owner.namespace.to_owned(),
            name: owner.name.to_owned(),
            uid: owner.uid.to_owned(),
            region: region.to_owned(),
            replicas,
            durability,
        }
    }
}

impl Desired {
    /// The group that this cluster is to be.
    pub fn group(&self) -> Group {
        let owner = Owner {
            namespace: &self.namespace,
            name: &self.name,
            uid: &self.uid,
        };
        Group::new(owner, &self.region, (self.replicas, self.durability))
    }
}
