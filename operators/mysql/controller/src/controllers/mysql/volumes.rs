//! Making, inheriting and enlarging the two volumes.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
};
use mysql_api::{MySQL, database::Reason};
use reconcile::{
    apply::APPLIED,
    error::{ApiError, is_not_found},
};
use serde_json::json;

use super::{
    DatabaseError, going,
    hand::{Hand, Stop, held, soon},
    life,
    nodes::{self, Home},
};
use crate::{
    database::{
        self,
        desired::Desired,
        former,
        names::Names,
        nodes::NODE,
        report::{self, Facts, Said},
        volumes::{self, BEREFT, Placement, Resize, Role, Standing},
    },
    sabotage,
};

/// Brings the claim of one volume about, and returns it.
pub(super) async fn ensure(
    hand: &Hand<'_>,
    desired: &Desired,
    role: Role,
    facts: &mut Facts,
) -> Result<PersistentVolumeClaim, Stop> {
    let name = role.claim(&desired.names);
    let claim = match hand.get::<PersistentVolumeClaim>(&name).await? {
        None => make(hand, desired, role).await?,
        Some(claim) => match volumes::standing(&claim, role, &desired.names, &desired.uid) {
            Standing::Ours => claim,
            Standing::Inherited => inherit(hand, desired, role, &claim).await?,
            Standing::Leaving => {
                let (what, held_by) = (
                    hand.what::<PersistentVolumeClaim>(&name),
                    going::release(hand, desired, role).await?,
                );
                let message = format!("{what} of an earlier MySQL of this name is still going{held_by}");
                return held(
                    Said::pending(Reason::LeftoversGoing, message),
                    going::pace(hand, &claim),
                );
            }
            Standing::Foreign => {
                return Err(DatabaseError::NameConflict(hand.what::<PersistentVolumeClaim>(&name)).into());
            }
        },
    };
    resize(hand, desired, role, claim, facts).await
}

/// Brings the claim of the volume that backups go to about, if it can be had: what stands in its way is said, and is no
/// reason to stop.
pub(super) async fn spare(
    hand: &Hand<'_>,
    desired: &Desired,
    facts: &mut Facts,
) -> Result<Option<PersistentVolumeClaim>, Stop> {
    let said = match ensure(hand, desired, Role::Backups, facts).await {
        Ok(claim) => return Ok(Some(claim)),
        Err(Stop::Held { said, .. }) => said,
        Err(Stop::Failed(error)) if error.is_namespace_going() => return Ok(None),
        Err(Stop::Failed(error))
            if error.is_refusal() || error.is_failure() || error.is_conflict_of_names() =>
        {
            Said::no(Reason::BackupFailed, error.words())
        }
        Err(other) => return Err(other),
    };
    facts.backup.get_or_insert(said);
    Ok(None)
}

async fn inherit(
    hand: &Hand<'_>,
    desired: &Desired,
    role: Role,
    claim: &PersistentVolumeClaim,
) -> Result<PersistentVolumeClaim, Stop> {
    let name = claim.name_any();
    let ours = &desired.database;
    if role == Role::Data
        && let Some(theirs) = volumes::other_database(claim, ours)
    {
        let message = format!(
            "{name} holds the database {theirs:?} of an earlier MySQL of this name, and spec.database is {ours:?}: no backup \
             would have the rows of the former. To go on with them: delete this MySQL, and create it with {theirs:?}; to \
             begin without them: kubectl delete pvc {name}"
        );
        return held(Said::no(Reason::DatabaseInvalid, message), super::IDLE / 10);
    }
    let patch = volumes::inheritance(claim, role, &desired.names, &desired.uid, Some(ours));
    let claim = hand.merge(&name, &patch).await?;
    hand.tell(
        "VolumeInherited",
        "Adopt",
        format!("{name} was there before and is used with what is on it"),
    )
    .await;
    Ok(claim)
}

/// Leaves the data volume for the next object of the name. One that the first operator made is the object's own, and would
/// go with it.
pub(super) async fn retain(
    hand: &Hand<'_>,
    object: &MySQL,
    claim: &PersistentVolumeClaim,
) -> Result<(), Stop> {
    let (name, uid) = (claim.name_any(), object.uid().unwrap_or_default());
    if let Ok(names) = Names::new(&object.name_any())
        && volumes::standing(claim, Role::Data, &names, &uid) == Standing::Inherited
    {
        let server = hand.get::<Deployment>(names.name()).await?;
        let database = server.as_ref().and_then(former::database_of);
        let patch = volumes::inheritance(claim, Role::Data, &names, &uid, database);
        hand.merge::<PersistentVolumeClaim>(&name, &patch).await?;
    }
    let note = format!("{name} stays, with the data; the next MySQL of this name goes on with it");
    hand.tell("VolumeRetained", "Delete", note).await;
    Ok(())
}

async fn make(hand: &Hand<'_>, desired: &Desired, role: Role) -> Result<PersistentVolumeClaim, Stop> {
    if role == Role::Data
        && let Some(server) = hand.get::<Deployment>(desired.names.name()).await?
        && server.annotations().contains_key(APPLIED)
    {
        // Its volume was taken from under it: it must not make an empty folder on the next one.
        life::end(hand, desired, &server).await?;
        hand.warn(
            "VolumeLost",
            "Heal",
            "the data volume is gone; another is made, from the newest backup",
        )
        .await;
        return soon(
            Reason::Restoring,
            "the data volume is gone; the server ends before another is made",
        );
    }
    let wanted = role.wanted(desired);
    let placement = match volumes::placement(wanted.class.as_deref(), &classes(hand).await?) {
        Ok(placement) => placement,
        Err(error) => return held(Said::no(error.reason, error.message), super::IDLE / 10),
    };
    let mut claim = volumes::claim(role, desired, &placement);
    if placement == Placement::Node
        && let Some(home) = make_fixed(hand, desired, role).await?
    {
        claim.annotations_mut().insert(NODE.to_owned(), home.node);
    }
    if role == Role::Data && has_lost(hand, desired).await? {
        volumes::mark_lost(&mut claim, &desired.restore);
    }
    if sabotage::active(sabotage::REMOVE_BACKUPS) && role == Role::Backups {
        let owner = json!({"apiVersion": "otus.homework/v1", "kind": "MySQL", "name": desired.names.name(),
                           "uid": desired.uid});
        claim.metadata.owner_references = serde_json::from_value(json!([owner])).ok();
    }
    let made = hand.create(&claim).await?;
    let (name, size) = (made.name_any(), &wanted.size);
    hand.tell("VolumeClaimed", "Create", format!("claimed {name}, {size}"))
        .await;
    Ok(made)
}

/// Whether the volume to be made takes a lost one's place. The status tells only until another is being filled, and that
/// one may be lost, too: it is noted where it lasts, before there is another.
async fn has_lost(hand: &Hand<'_>, desired: &Desired) -> Result<bool, Stop> {
    let name = desired.names.backup_claim();
    let backups = hand.get::<PersistentVolumeClaim>(&name).await?;
    let noted = |claim: &PersistentVolumeClaim| claim.annotations().get(BEREFT) == Some(&desired.uid);
    if backups.as_ref().is_some_and(noted) {
        return Ok(true);
    }
    if !report::had_data(&hand.pass.current()) {
        return Ok(false);
    }
    if let Some(backups) = backups {
        let patch = json!({"metadata": {"uid": backups.metadata.uid, "annotations": {BEREFT: desired.uid}}});
        hand.merge::<PersistentVolumeClaim>(&name, &patch).await?;
    }
    Ok(true)
}

async fn classes(hand: &Hand<'_>) -> Result<Vec<StorageClass>, ApiError> {
    let classes: Api<StorageClass> = Api::all(hand.pass.client().clone());
    let listed = classes.list(&ListParams::default()).await;
    listed
        .map(|list| list.items)
        .map_err(|error| ApiError::new("list StorageClasses", error))
}

/// Makes the folder of a node that stands in for a volume: on the node of the other one, where that is known. The Pod that
/// fills the data folder has both.
async fn make_fixed(hand: &Hand<'_>, desired: &Desired, role: Role) -> Result<Option<Home>, Stop> {
    let volumes: Api<PersistentVolume> = Api::all(hand.pass.client().clone());
    let home = nodes::beside(hand, desired, role).await?;
    let affinity = home.as_ref().map(|home| home.affinity.clone());
    let volume = volumes::fixed(role, desired, affinity.clone());
    let name = volume.name_any();
    match volumes.create(&PostParams::default(), &volume).await {
        Ok(_) => Ok(home),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let found = nodes::read(hand, &name).await?;
            if found.as_ref().is_some_and(database::nodes::had_claim) {
                // That was deleted; it takes no other one, but the folder does.
                remove_fixed(hand, &name, &role.claim(&desired.names), None).await?;
                return soon(
                    Reason::WaitingForVolume,
                    format!("PersistentVolume {name} is made anew"),
                );
            }
            // It was made before the other one was tied.
            if let (Some(volume), Some(affinity)) = (&found, &affinity)
                && database::nodes::binding(volume).is_none()
            {
                nodes::pin(hand, volume, affinity).await?;
            }
            Ok(home)
        }
        Err(kube::Error::Api(status)) if status.code == 403 => {
            let message = "there is no StorageClass, and the operator may not make PersistentVolumes: install a StorageClass, \
                           or grant it that right";
            held(Said::no(Reason::VolumesForbidden, message), super::IDLE / 10)
        }
        Err(error) => Err(ApiError::new(format!("create PersistentVolume {name}"), error).into()),
    }
}

/// Removes the volume of a node that a claim has had, of this UID if it was of one; its folder stays on the node, and is told.
pub(super) async fn remove_fixed(
    hand: &Hand<'_>,
    name: &str,
    claim: &str,
    uid: Option<&str>,
) -> Result<Option<String>, ApiError> {
    let all: Api<PersistentVolume> = Api::all(hand.pass.client().clone());
    let found = nodes::read(hand, name).await?;
    let namespace = &hand.pass.key().namespace;
    let Some(volume) = found.filter(|volume| database::nodes::is_of(volume, namespace, claim, uid)) else {
        return Ok(None);
    };
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: volume.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match all.delete(name, &params).await {
        Err(error) if !is_not_found(&error) => {
            Err(ApiError::new(format!("delete PersistentVolume {name}"), error))
        }
        _ => Ok(database::nodes::folder(&volume)),
    }
}

async fn resize(
    hand: &Hand<'_>,
    desired: &Desired,
    role: Role,
    claim: PersistentVolumeClaim,
    facts: &mut Facts,
) -> Result<PersistentVolumeClaim, Stop> {
    let wanted = role.wanted(desired);
    let name = claim.name_any();
    if let Some(class) = volumes::other_class(&claim, wanted) {
        facts.refused = Some(Said::no(
            Reason::StorageClassFixed,
            format!(
                "{name} is of StorageClass {class:?}, which never changes; delete and create this MySQL to move it"
            ),
        ));
    }
    match volumes::resize(&claim, wanted) {
        Resize::None => Ok(claim),
        Resize::Refused => {
            facts.refused = Some(Said::no(
                Reason::ShrinkRefused,
                format!(
                    "{name} is larger than {}, and no volume shrinks; ask for its size",
                    wanted.size
                ),
            ));
            Ok(claim)
        }
        Resize::Grow => {
            let patch = json!({
                "metadata": {"uid": claim.metadata.uid},
                "spec": {"resources": {"requests": {"storage": wanted.size}}},
            });
            match hand.merge(&name, &patch).await {
                Ok(claim) => {
                    hand.tell(
                        "VolumeGrows",
                        "Grow",
                        format!("{name} is to have {}", wanted.size),
                    )
                    .await;
                    Ok(claim)
                }
                Err(error) => match refusal(&error) {
                    Some(why) => {
                        let message = format!("{name} cannot grow to {}: {why}", wanted.size);
                        facts.refused = Some(Said::no(Reason::GrowthRefused, message));
                        Ok(claim)
                    }
                    None => Err(error.into()),
                },
            }
        }
    }
}

/// Why the API server will not have a change, as opposed to not being able to make it.
fn refusal(error: &ApiError) -> Option<String> {
    match error.source.as_ref() {
        kube::Error::Api(status) if matches!(status.code, 403 | 422) => Some(status.message.clone()),
        _ => None,
    }
}

/// What is to be said of the data volume.
pub(super) fn said(claim: &PersistentVolumeClaim, desired: &Desired) -> Said {
    let name = claim.name_any();
    if claim.metadata.deletion_timestamp.is_some() {
        return Said::no(
            Reason::LeftoversGoing,
            format!(
                "somebody has deleted {name}: it and its data go when its Pod ends; take a backup before that. Nothing \
                 about the server is changed meanwhile"
            ),
        );
    }
    if !volumes::is_bound(claim) {
        return Said::pending(Reason::WaitingForVolume, format!("{name} is not bound yet"));
    }
    let has = volumes::capacity(claim).and_then(|quantity| crate::database::size::bytes(&quantity.0));
    if volumes::resize(claim, &desired.data) == Resize::None
        && has.is_some_and(|has| has < desired.data.bytes)
    {
        return Said::yes(
            Reason::Growing,
            format!("{name} is bound and being enlarged to {}", desired.data.size),
        );
    }
    Said::yes(Reason::VolumeBound, format!("{name} is bound"))
}
