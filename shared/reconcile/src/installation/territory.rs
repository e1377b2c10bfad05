//! What an installation serves, as its Lease says it.

use std::{collections::BTreeSet, fmt};

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;

/// The annotation with the namespaces, separated by commas; [`ALL`] for all.
const NAMESPACES: &str = "reconcile.dev/namespaces";
/// The annotation with the part of the objects there that is served; empty for all.
const SHARD: &str = "reconcile.dev/shard";
/// No namespace has this name.
const ALL: &str = "*";

/// The objects that an installation serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Territory {
    /// None for all.
    namespaces: BTreeSet<String>,
    /// Of the objects in these, those of this part; all without.
    shard: Option<String>,
}

impl Territory {
    /// These namespaces, all if there are none; of their objects those of this part, all without.
    pub(crate) fn new(namespaces: &[String], shard: Option<&str>) -> Self {
        Self {
            namespaces: namespaces.iter().cloned().collect(),
            shard: shard.filter(|shard| !shard.is_empty()).map(str::to_owned),
        }
    }

    /// As [`Self::of`] reads it.
    pub(super) fn annotations(&self) -> [(String, String); 2] {
        [
            (NAMESPACES.to_owned(), self.names()),
            (SHARD.to_owned(), self.shard.clone().unwrap_or_default()),
        ]
    }

    fn names(&self) -> String {
        if self.namespaces.is_empty() {
            return ALL.to_owned();
        }
        let names: Vec<_> = self.namespaces.iter().map(String::as_str).collect();
        names.join(",")
    }

    /// What the Lease says; nothing if it does not.
    pub(super) fn of(lease: &Lease) -> Option<Self> {
        let names = lease.annotations().get(NAMESPACES)?;
        let namespaces: Vec<_> = names
            .split(',')
            .filter(|name| *name != ALL)
            .map(str::to_owned)
            .collect();
        Some(Self::new(
            &namespaces,
            lease.annotations().get(SHARD).map(String::as_str),
        ))
    }

    /// Whether there may be an object that both serve.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let anywhere = self.namespaces.is_empty()
            || other.namespaces.is_empty()
            || !self.namespaces.is_disjoint(&other.namespaces);
        anywhere && (self.shard.is_none() || other.shard.is_none() || self.shard == other.shard)
    }
}

impl fmt::Display for Territory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespaces.len() {
            0 => f.write_str("all namespaces")?,
            1 => write!(f, "namespace {}", self.names())?,
            _ => write!(f, "namespaces {}", self.names())?,
        }
        match &self.shard {
            Some(shard) => write!(f, " (part {shard})"),
            None => Ok(()),
        }
    }
}
