//! Taking over from a server of the kind's first operator: [`crate::database::former`].
//!
//! It holds the password in clear and is replaced. One that answers is not taken away before another can take its place,
//! nor any whose rows would be in no backup.

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Secret},
};
use kube::ResourceExt as _;
use mysql_api::database::{BackupOnDelete, Reason};

use super::{
    DatabaseError, IDLE, filling,
    hand::{Hand, Stop, held},
    life::{pods_of, server_pods},
};
use crate::database::{
    desired::Desired,
    former::{self, Load},
    job,
    names::{Owned, owned},
    pods,
    report::Said,
    server::image_in,
    volumes::{Content, DATA, Role, SERVED, Standing, standing},
};

/// To be called before it is removed: holds while it is still needed.
pub(super) async fn relieve(
    hand: &Hand<'_>,
    desired: &Desired,
    server: Option<&Deployment>,
) -> Result<(), Stop> {
    claim(hand, desired, Role::Backups).await?;
    let data = claim(hand, desired, Role::Data).await?;
    if let Some(theirs) = server.and_then(|server| former::other_database(server, &desired.database)) {
        return held(
            Said::no(Reason::DatabaseInvalid, former::differs(theirs, desired)),
            IDLE / 10,
        );
    }
    let servers = server_pods(hand, desired).await?;
    let serves = servers.iter().any(pods::answers);
    let now = hand.pass.clock().now();
    if serves || server.is_some_and(|server| former::may_answer_again(server, now)) {
        loaded(hand, desired, serves).await?;
    }
    let lacks = |data: &PersistentVolumeClaim, note: &str| !data.annotations().contains_key(note);
    // The spec may have been changed since; its operator looked at no change. One that never began has written nothing.
    let begun = servers.iter().find(|pod| pods::has_begun(pod));
    let image = begun.and_then(|pod| image_in(pod.spec.as_ref()?));
    match data {
        // A server answers from them: no Job has to look before the next one starts.
        Some(data) if serves && lacks(&data, DATA) => {
            filling::note(hand, &data, Some(&Content::Kept), image).await
        }
        // It may never have come up: what is on the volume is looked at when it is gone.
        Some(data) if image.is_some() && lacks(&data, SERVED) => {
            filling::note(hand, &data, None, image).await
        }
        _ => Ok(()),
    }
}

/// Whether what is `said` to hold its server holds the final backup, too.
pub(super) async fn holds(hand: &Hand<'_>, desired: &Desired, said: &Said) -> Result<bool, Stop> {
    let policy = hand
        .pass
        .current()
        .spec
        .backup
        .clone()
        .unwrap_or_default()
        .on_delete;
    match said.reason {
        // A backup would be taken of what does not hold its rows.
        Reason::DatabaseInvalid => Ok(policy == BackupOnDelete::Required),
        // A Job that cannot have its Secret would count as one that was tried.
        Reason::LeftoversGoing => {
            let secret = hand.get::<Secret>(&desired.names.credentials()).await?;
            let ours = |secret: Secret| owned(&secret, &desired.names, &desired.uid) == Owned::Ours;
            Ok(!secret.is_some_and(ours))
        }
        _ => Ok(false),
    }
}

/// The claim of one volume, unless it is somebody else's; one that is there to be gone on with.
async fn claim(
    hand: &Hand<'_>,
    desired: &Desired,
    role: Role,
) -> Result<Option<PersistentVolumeClaim>, Stop> {
    let name = role.claim(&desired.names);
    let Some(claim) = hand.get::<PersistentVolumeClaim>(&name).await? else {
        return Ok(None);
    };
    match standing(&claim, role, &desired.names, &desired.uid) {
        Standing::Foreign => {
            Err(DatabaseError::NameConflict(hand.what::<PersistentVolumeClaim>(&name)).into())
        }
        Standing::Inherited => Ok(Some(claim)),
        Standing::Ours | Standing::Leaving => Ok(None),
    }
}

/// Waits for the restore Job that loads through the server; where that does not answer, only for one that has begun.
async fn loaded(hand: &Hand<'_>, desired: &Desired, serves: bool) -> Result<(), Stop> {
    let name = desired.names.restore_job();
    let Some(live) = hand.get::<Job>(&name).await? else {
        return Ok(());
    };
    let seen = job::seen(&live, &desired.names, &desired.uid);
    let pods = pods_of(hand, &seen.uid).await?;
    if !serves && !former::has_begun(&seen, &pods) {
        return Ok(());
    }
    let now = hand.pass.clock().now();
    let stuck = pods::stuck(&seen, &name, &pods, now);
    match former::load(&seen, &pods, stuck.as_ref(), now) {
        Load::Over => return Ok(()),
        Load::Wait => {}
        Load::End => {
            hand.may()?;
            hand.remove(&live).await?;
            let note = format!("{name} of an earlier operator has not ended, and is ended");
            hand.warn("LeftoverEnded", "Adopt", note).await;
        }
    }
    let why = stuck.map(|stuck| format!(" ({})", stuck.why)).unwrap_or_default();
    let message = format!(
        "Job {name} of an earlier operator has to end before its server is replaced, which stays until then{why}; if it \
         never will, `kubectl delete job {name}`: one that has never begun is ended after minutes, any after a day"
    );
    held(
        Said::pending(Reason::LeftoversGoing, message),
        job::pace(Some(&seen), now),
    )
}
