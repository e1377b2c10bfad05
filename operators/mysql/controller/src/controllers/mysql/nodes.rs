//! Tying the folders that stand in for volumes to the node where they are: [`crate::database::nodes`].

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, VolumeNodeAffinity},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use mysql_api::database::Reason;
use reconcile::{Reconciler as _, error::ApiError};
use serde_json::json;

use super::{
    Databases,
    hand::{Hand, Stop, held},
    life::{pods_of, server_pods},
};
use crate::database::{
    desired::Desired,
    job::{self, Phase, Seen, Whose},
    nodes::{self, NODE, Sight, Trace, is_loose},
    program::{Origin, Outcome},
    report::{Facts, Said},
    volumes::{Content, NEWEST, Role, Standing, fixed_of, standing},
};

/// The claims of the two volumes.
pub(super) struct Pair {
    pub(super) data: PersistentVolumeClaim,
    pub(super) backups: Option<PersistentVolumeClaim>,
}

/// Where a volume is tied to.
pub(super) struct Home {
    /// Name of the node.
    pub(super) node: String,
    pub(super) affinity: VolumeNodeAffinity,
}

/// Ties the backups to where they are, and the data that are still to be filled beside them; where there are none, both to
/// the node that a Pod of the Job that fills the data folder was given, before it is tried again or counts. Where nobody can
/// tell on which node they are, the data are tied once they are filled. Says whether they were filled elsewhere.
pub(super) async fn tie(
    hand: &Hand<'_>,
    desired: &Desired,
    pair: &Pair,
    job: Option<(&Seen, Option<&Outcome>)>,
    pods: &[Pod],
) -> Result<bool, Stop> {
    let Some(backups_claim) = pair
        .backups
        .as_ref()
        .filter(|_| Content::of(&pair.data).is_open())
    else {
        return Ok(false);
    };
    let claim = pair.data.uid();
    let current = |job: &Seen| job.whose == Whose::Ours && job.going.is_none() && job.claim == claim;
    let job = job.filter(|(job, _)| current(job));
    let place = nodes::place(pods).filter(|_| job.is_some());
    let read = nodes::done_on(pods).filter(|_| {
        let newest = backups_claim.annotations().get(NEWEST);
        let words = job.and_then(|(_, words)| words);
        matches!(words, Some(Outcome::Filled(Origin::Backup(backup))) if newest == Some(&backup.id))
    });
    let backups = find_backups(hand, desired, backups_claim, place, read).await?;
    let mut home = nodes::tied(&pair.data).map(str::to_owned);
    // Tied to where a restore has only been tried they would never come to a node with backups that are elsewhere. A backup
    // that is named is one of those that were found there.
    let lost = backups.is_none()
        && desired.restore.from.is_none()
        && is_loose(backups_claim)
        && backups_claim.annotations().contains_key(NEWEST)
        && nodes::done_on(pods).is_none();
    if let Some(node) = place.filter(|_| is_loose(&pair.data) && !lost) {
        let node = backups.as_deref().unwrap_or(node);
        home = Some(bind(hand, &pair.data, node).await?);
    }
    let Some((job, _)) = job else { return Ok(false) };
    let done = fixed_of(&pair.data).is_some() && job.phase == Phase::Succeeded;
    let astray = done && nodes::astray(pods, home.as_deref());
    if astray {
        let home = home.as_deref().unwrap_or("one that is still to be known");
        let note = format!("the folder of node {home} is not known to be filled, and is filled again");
        hand.warn("FilledElsewhere", "Restore", note).await;
    }
    Ok(astray)
}

/// Ties what was made before folders were tied, once it is seen where they are: the data where a server answers from them,
/// the backups where they are, or beside the server if there are none. What stands in the way is said, and nobody is served
/// less for it. Says whether the data stay loose for what may be over in a moment: a server that is changed meanwhile may be
/// put on another node.
pub(super) async fn remember(
    hand: &Hand<'_>,
    desired: &Desired,
    data: Option<&PersistentVolumeClaim>,
    backups: Option<&PersistentVolumeClaim>,
    facts: &mut Facts,
) -> Result<bool, Stop> {
    let loose = [data, backups].map(|claim| claim.filter(|claim| is_loose(claim)));
    if loose.iter().all(Option::is_none) {
        return Ok(false);
    }
    let outcome = find(hand, desired, loose).await;
    let passes = matches!(&outcome, Err(Stop::Failed(error)) if error.is_trouble());
    let found = mildly(outcome)?;
    if let (Some(why), Some(storage)) = (found, &mut facts.storage) {
        storage.message = format!("{}, and is tied to no node: {}", storage.message, why.message);
    }
    Ok(passes && loose[0].is_some())
}

async fn find(
    hand: &Hand<'_>,
    desired: &Desired,
    [data, backups]: [Option<&PersistentVolumeClaim>; 2],
) -> Result<(), Stop> {
    let servers = server_pods(hand, desired).await?;
    let Some(node) = nodes::serving_on(&servers) else {
        return Ok(());
    };
    if let Some(data) = data {
        bind(hand, data, node).await?;
    }
    if let Some(backups) = backups {
        find_backups(hand, desired, backups, Some(node), None).await?;
    }
    Ok(())
}

/// Ties the folder with the backups to where they are: where a Job has taken the newest or is about to write one, or where
/// it was `read`; if there are none, to this `place`. Says where it is tied.
async fn find_backups(
    hand: &Hand<'_>,
    desired: &Desired,
    claim: &PersistentVolumeClaim,
    place: Option<&str>,
    read: Option<&str>,
) -> Result<Option<String>, Stop> {
    if !is_loose(claim) {
        return Ok(nodes::tied(claim).map(str::to_owned));
    }
    let job = hand.get::<Job>(&desired.names.backup_job()).await?;
    let seen = job.map(|job| job::seen(&job, &desired.names, &desired.uid));
    let pods = match &seen {
        Some(seen) => pods_of(hand, &seen.uid).await?,
        None => Vec::new(),
    };
    let newest = claim.annotations().get(NEWEST).map(String::as_str);
    let made = claim.metadata.creation_timestamp.as_ref().map(|Time(at)| *at);
    let node = match nodes::trace(newest, made, seen.as_ref(), &pods) {
        Trace::On(node) => Some(node),
        Trace::Nowhere => place,
        Trace::Unknown => read,
    };
    match node {
        Some(node) => bind(hand, claim, node).await.map(Some),
        None => Ok(None),
    }
}

/// Ties the volume with the backups to where these Pods have taken the newest.
pub(super) async fn taken(
    hand: &Hand<'_>,
    backups: &PersistentVolumeClaim,
    pods: &[Pod],
) -> Result<(), Stop> {
    if let Some(node) = nodes::done_on(pods).filter(|_| is_loose(backups)) {
        bind(hand, backups, node).await?;
    }
    Ok(())
}

/// What stands in the way, where that is no reason to stop.
pub(super) fn mildly(outcome: Result<(), Stop>) -> Result<Option<Said>, Stop> {
    match outcome {
        Ok(()) => Ok(None),
        Err(Stop::Held { said, .. }) => Ok(Some(said)),
        Err(Stop::Failed(error)) if error.is_refusal() || error.is_trouble() => {
            Ok(Some(Said::no(Reason::RequestRefused, error.words())))
        }
        Err(other) => Err(other),
    }
}

/// Where a new volume has to be: beside the other one, if that is tied.
pub(super) async fn beside(hand: &Hand<'_>, desired: &Desired, role: Role) -> Result<Option<Home>, ApiError> {
    let other = match role {
        Role::Data => Role::Backups,
        Role::Backups => Role::Data,
    };
    let claim = hand
        .get::<PersistentVolumeClaim>(&other.claim(&desired.names))
        .await?;
    let stays = |claim: &PersistentVolumeClaim| {
        let whose = standing(claim, other, &desired.names, &desired.uid);
        matches!(whose, Standing::Ours | Standing::Inherited) && claim.metadata.deletion_timestamp.is_none()
    };
    let Some(claim) = claim.filter(stays) else {
        return Ok(None);
    };
    let (Some(volume), Some(node)) = (fixed_of(&claim), nodes::tied(&claim)) else {
        return Ok(None);
    };
    let found = read(hand, volume).await?;
    Ok(found.as_ref().and_then(nodes::binding).map(|affinity| Home {
        node: node.to_owned(),
        affinity: affinity.clone(),
    }))
}

/// Ties a volume, and notes that on its claim. What is tied already stays so. Says to which node.
async fn bind(hand: &Hand<'_>, claim: &PersistentVolumeClaim, node: &str) -> Result<String, Stop> {
    let (name, home) = (claim.name_any(), node.to_owned());
    let Some(volume) = fixed_of(claim) else {
        return Ok(home);
    };
    // Without its volume a claim is of no use to anybody, and says so itself.
    let Some(volume) = read(hand, volume).await? else {
        return Ok(home);
    };
    let host = host(hand, node, &name).await?;
    let home = if let Some(binding) = nodes::binding(&volume) {
        // By us before a crash; or by somebody who knew better.
        nodes::host_of(binding)
            .filter(|other| *other != host)
            .map_or(home, str::to_owned)
    } else {
        pin(hand, &volume, &nodes::affinity(&host)).await?;
        home
    };
    let patch = json!({"metadata": {"uid": claim.metadata.uid, "annotations": {NODE: home}}});
    hand.merge::<PersistentVolumeClaim>(&name, &patch).await?;
    hand.tell(
        "VolumeTied",
        "Tie",
        format!("{name} is a folder of node {home}, and Pods that have it are put there"),
    )
    .await;
    Ok(home)
}

/// Ties a volume that is tied to nothing.
pub(super) async fn pin(
    hand: &Hand<'_>,
    volume: &PersistentVolume,
    affinity: &VolumeNodeAffinity,
) -> Result<(), ApiError> {
    let name = volume.name_any();
    let patch = json!({
        "metadata": {"uid": volume.metadata.uid, "resourceVersion": volume.metadata.resource_version},
        "spec": {"nodeAffinity": affinity},
    });
    let params = PatchParams {
        field_manager: Some(Databases::NAME.to_owned()),
        ..PatchParams::default()
    };
    let volumes: Api<PersistentVolume> = Api::all(hand.pass.client().clone());
    let patched = volumes.patch(&name, &params, &Patch::Merge(patch)).await;
    patched
        .map(drop)
        .map_err(|error| ApiError::new(format!("change PersistentVolume {name}"), error))
}

/// The volume of this name, if there is one.
pub(super) async fn read(hand: &Hand<'_>, name: &str) -> Result<Option<PersistentVolume>, ApiError> {
    let volumes: Api<PersistentVolume> = Api::all(hand.pass.client().clone());
    let found = volumes.get_opt(name).await;
    found.map_err(|error| ApiError::new(format!("read PersistentVolume {name}"), error))
}

async fn node(hand: &Hand<'_>, name: &str) -> Result<Option<Node>, ApiError> {
    let all: Api<Node> = Api::all(hand.pass.client().clone());
    let found = all.get_opt(name).await;
    found.map_err(|error| ApiError::new(format!("read Node {name}"), error))
}

/// The label of a node by which the volume of this claim is tied to it.
async fn host(hand: &Hand<'_>, name: &str, claim: &str) -> Result<String, Stop> {
    let found = node(hand, name).await?;
    let why = match found.as_ref().map(nodes::hostname) {
        Some(Some(host)) => return Ok(host.to_owned()),
        Some(None) => nodes::unlabelled(name),
        None => nodes::elsewhere(name, Sight::Gone, &[claim]),
    };
    held(Said::no(Reason::WaitingForVolume, why), super::IDLE / 10)
}

/// Says of Pods that no node takes where their volumes are, and what is wrong there.
pub(super) async fn explain(
    hand: &Hand<'_>,
    desired: &Desired,
    pods: &[Pod],
    why: Option<String>,
) -> Result<Option<String>, ApiError> {
    let Some(mut why) = why else { return Ok(None) };
    for (name, claims) in nodes::homes(&desired.ties, pods) {
        let sight = match node(hand, name).await {
            Ok(found) => Sight::of(found.as_ref()),
            Err(error) if is_forbidden(&error) => Sight::Hidden,
            Err(error) => return Err(error),
        };
        why = format!("{why}; {}", nodes::elsewhere(name, sight, &claims));
    }
    Ok(Some(why))
}

fn is_forbidden(error: &ApiError) -> bool {
    matches!(error.source.as_ref(), kube::Error::Api(status) if status.code == 403)
}
