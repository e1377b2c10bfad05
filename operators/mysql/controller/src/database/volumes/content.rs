//! What a server finds on a data volume, as it stands on its claim.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;

/// Annotation on the claim of the data volume: whether a server may have it.
pub const DATA: &str = "otus.homework/data";
/// Value of [`DATA`]: the volume is new, and the restore Job has not been through.
const AWAITED: &str = "awaited";
/// Beginning of the value of [`DATA`] once a backup was restored; its id follows.
const RESTORED: &str = "restored:";
/// Value of [`DATA`] once an empty folder was made.
const EMPTY: &str = "empty";
/// Value of [`DATA`] once data were found that nobody had announced.
const KEPT: &str = "kept";
/// Value of [`DATA`] until somebody has looked at what the kind's first operator has left.
const UNSEEN: &str = "unseen";

/// Annotation on the claim of the data volume: what is on it began with nothing, whoever has inherited it since.
pub const BEGAN_EMPTY: &str = "otus.homework/began-empty";

/// Where the data on a volume are from, by which its backups are told from others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// UID of the volume's claim.
    pub claim: String,
    /// Whether they began with nothing, whatever backups there were.
    pub is_fresh: bool,
}

impl Lineage {
    /// Of the data on the volume of this claim.
    pub fn of(claim: &PersistentVolumeClaim) -> Self {
        Self {
            claim: claim.uid().unwrap_or_default(),
            is_fresh: claim.annotations().contains_key(BEGAN_EMPTY) || Content::of(claim) == Content::Empty,
        }
    }
}

/// What a server finds on the data volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing yet: the restore Job has to go through first.
    Awaited,
    /// What it started with: nothing.
    Empty,
    /// What this backup held.
    Restored(String),
    /// What was there before this operator saw the volume.
    Kept,
    /// What the kind's first operator has left, if that is anything: the restore Job has to look first. It may be all that
    /// somebody has.
    Unseen,
}

impl Content {
    /// As it stands on a claim. A claim without a word of ours was there before us, with data.
    pub fn of(claim: &PersistentVolumeClaim) -> Self {
        match claim.annotations().get(DATA).map(String::as_str) {
            Some(AWAITED) => Self::Awaited,
            Some(EMPTY) => Self::Empty,
            Some(UNSEEN) => Self::Unseen,
            Some(text) => text
                .strip_prefix(RESTORED)
                .map_or(Self::Kept, |id| Self::Restored(id.to_owned())),
            None => Self::Kept,
        }
    }

    /// The value of the annotation.
    pub fn annotation(&self) -> String {
        match self {
            Self::Awaited => AWAITED.to_owned(),
            Self::Empty => EMPTY.to_owned(),
            Self::Restored(id) => format!("{RESTORED}{id}"),
            Self::Kept => KEPT.to_owned(),
            Self::Unseen => UNSEEN.to_owned(),
        }
    }

    /// What stands on a claim that another object takes over. Without a mark of ours it is the first operator's, whose
    /// server may never have come up.
    pub fn inherited(claim: &PersistentVolumeClaim, is_marked: bool) -> Self {
        match Self::of(claim) {
            open @ (Self::Awaited | Self::Unseen) => open,
            _ if !is_marked && !claim.annotations().contains_key(DATA) => Self::Unseen,
            _ => Self::Kept,
        }
    }

    /// Whether no server may have it before the restore Job has been through.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Awaited | Self::Unseen)
    }
}
