//! The steps of a `MySQL` that lives.

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::{Resource as _, ResourceExt as _};
use mysql_api::{MySQL, database::Reason};
use reconcile::{
    Progress,
    apply::{APPLIED, Applied, ApplyError},
};
use serde_json::json;

use super::{
    DatabaseError, IDLE, SOON, backups, cleanup,
    hand::{Hand, Stop, held, soon, sooner},
    secrets, version, volumes,
};
use crate::{
    database::{
        credentials::Credentials,
        desired::{Desired, SpecError},
        job,
        names::{APP, Owned, owned},
        plan::{self, Beginning, Start},
        pods,
        program::Outcome,
        report::{Facts, Said},
        server,
        volumes::{Content, DATA, NEWEST, Role, capacity, filling},
    },
    version::Version,
};

/// When a server that does not come up is looked at again: its Pod's troubles send no event.
const STARTING: std::time::Duration = std::time::Duration::from_secs(10);

/// Brings everything about, one step after the other.
pub(super) async fn settle(
    hand: &Hand<'_>,
    desired: &mut Desired,
    facts: &mut Facts,
) -> Result<Progress, Stop> {
    let live = hand.get::<Deployment>(desired.names.name()).await?;
    version::hold(hand, desired, live.as_ref(), facts).await?;
    let credentials = secrets::ensure(hand, desired).await?;
    let backups = volumes::ensure(hand, desired, Role::Backups, facts).await?;
    let data = volumes::ensure(hand, desired, Role::Data, facts).await?;
    desired.identity = desired.identity.on(&backups).on(&data);
    desired.restore = filling(&data, desired.restore.clone());
    desired.expected = backups.annotations().get(NEWEST).cloned();
    facts.storage = Some(volumes::said(&data, desired));
    facts.capacity = capacity(&data).map(|quantity| quantity.0.clone());
    configure(hand, desired).await?;
    publish(hand, desired, &credentials, facts).await?;
    fill(hand, desired, &data, live.is_some(), facts).await?;
    let serving = serve(hand, desired, live.is_some(), &credentials, facts).await?;
    version::record(hand, &data, facts).await?;
    let progress = backups::tend(hand, desired, serving, facts).await?;
    Ok(sooner(progress, if serving { IDLE } else { STARTING }))
}

/// What goes on for a server whose spec cannot be carried out as it is now: it is looked after, backed up, and stays what
/// it is. Nothing if there is none.
pub(super) async fn keep(
    hand: &Hand<'_>,
    object: &MySQL,
    error: &SpecError,
    facts: &mut Facts,
) -> Option<Result<Progress, Stop>> {
    let (mut desired, _) = cleanup::reachable(object)?;
    let live = match hand.get::<Deployment>(desired.names.name()).await {
        Ok(live) => live?,
        Err(error) => return Some(Err(error.into())),
    };
    let owner = owned(&live, &desired.names, &desired.uid);
    let image = server::image_of(&live)?;
    if owner != Owned::Ours || !live.annotations().contains_key(APPLIED) {
        return None;
    }
    image.clone_into(&mut desired.image);
    desired.version = Version::of_image(image);
    desired.identity = desired.identity.with_image(image);
    facts.refused = Some(Said::no(error.reason, error.message.clone()));
    Some(tend_kept(hand, &mut desired, &live, facts).await)
}

async fn tend_kept(
    hand: &Hand<'_>,
    desired: &mut Desired,
    live: &Deployment,
    facts: &mut Facts,
) -> Result<Progress, Stop> {
    let data = hand
        .get::<PersistentVolumeClaim>(&desired.names.data_claim())
        .await?;
    cleanup::confine(hand, desired, data.as_ref()).await?;
    let credentials = secrets::ensure(hand, desired).await?;
    publish(hand, desired, &credentials, facts).await?;
    let serving = watch(hand, desired, live, facts).await?;
    let progress = backups::tend(hand, desired, serving, facts).await?;
    Ok(sooner(progress, if serving { IDLE } else { STARTING }))
}

/// The options.
pub(super) async fn configure(hand: &Hand<'_>, desired: &Desired) -> Result<(), Stop> {
    hand.apply(server::config(desired)).await?;
    Ok(())
}

/// The Service, and the Secret for clients.
pub(super) async fn publish(
    hand: &Hand<'_>,
    desired: &Desired,
    credentials: &Credentials,
    facts: &mut Facts,
) -> Result<(), Stop> {
    let name = desired.names.name();
    let service = match hand.apply(server::service(desired)).await {
        Ok((service, _)) => Some(service),
        Err(ApplyError::Api(error)) if is_invalid(&error) => hand.get(name).await?,
        Err(error) => return Err(error.into()),
    };
    if let Some(service) = service.filter(|live| server::is_other_service(live, desired.service)) {
        hand.remove(&service).await?;
        return soon(
            Reason::Starting,
            format!("Service {name} is made anew, with another type"),
        );
    }
    let binding = credentials.binding(&desired.names, &desired.namespace, &desired.database);
    hand.apply(binding).await?;
    facts.binding = Some(desired.names.binding());
    Ok(())
}

fn is_invalid(error: &reconcile::error::ApiError) -> bool {
    matches!(error.source.as_ref(), kube::Error::Api(status) if status.code == 422)
}

/// Fills the data folder, before a server may have it.
async fn fill(
    hand: &Hand<'_>,
    desired: &Desired,
    data: &PersistentVolumeClaim,
    server: bool,
    facts: &mut Facts,
) -> Result<(), Stop> {
    let content = Content::of(data);
    let name = desired.names.restore_job();
    let live = hand.get_if::<Job>(&name, content == Content::Awaited).await?;
    let seen = live
        .as_ref()
        .map(|live| job::seen(live, &desired.names, &desired.uid));
    let outcome = match &seen {
        Some(seen) if seen.phase != job::Phase::Running => last_words(hand, &seen.uid).await?,
        _ => None,
    };
    let inputs = job::inputs(desired);
    let claim = data.uid().unwrap_or_default();
    let step = plan::start(Beginning {
        content: &content,
        claim: &claim,
        server,
        job: seen.as_ref(),
        outcome: outcome.as_ref(),
        inputs: &inputs,
        now: hand.pass.clock().now(),
    });
    facts.restore = Some(Said::pending(
        Reason::Restoring,
        format!("{name} fills the data folder"),
    ));
    match (step, live) {
        (Start::Go, _) => {
            filled(&content, facts);
            Ok(())
        }
        (Start::RemoveServer, _) => {
            if let Some(server) = hand.get::<Deployment>(desired.names.name()).await? {
                hand.remove(&server).await?;
            }
            soon(
                Reason::Restoring,
                "the server ends, for its data folder is to be filled",
            )
        }
        (Start::Create, _) => {
            let mut job = job::restore(desired, &claim);
            job.metadata.owner_references = hand
                .pass
                .current()
                .controller_owner_ref(&())
                .map(|owner| vec![owner]);
            hand.create(&job).await?;
            hand.tell(
                "RestoreStarted",
                "Restore",
                format!("{name} fills the data folder: from a backup if there is one"),
            )
            .await;
            soon(Reason::Restoring, format!("{name} fills the data folder"))
        }
        (Start::Remove, Some(job)) => {
            hand.remove(&job).await?;
            soon(Reason::Restoring, format!("{name} is begun again"))
        }
        (Start::Record(content), _) => record(hand, data, &content, facts).await,
        (Start::Failed { after }, _) => {
            let said = failed(&name, seen.as_ref(), outcome.as_ref());
            facts.restore = Some(said.clone());
            held(said, after)
        }
        (Start::Conflict, _) => Err(DatabaseError::NameConflict(hand.what::<Job>(&name)).into()),
        (Start::Wait | Start::Remove, _) => {
            let mut message = format!("{name} fills the data folder");
            if let Some(seen) = &seen {
                let pods = pods_of(hand, &seen.uid).await?;
                let trouble = pods.iter().find_map(server::trouble);
                let stuck = pods::stuck(seen, &name, &pods, hand.pass.clock().now());
                message = trouble
                    .or_else(|| stuck.map(|stuck| stuck.why))
                    .unwrap_or(message);
            }
            let after = job::pace(seen.as_ref(), hand.pass.clock().now());
            held(Said::pending(Reason::Restoring, message), after)
        }
    }
}

/// Writes down that a server may have the volume, before one does.
async fn record(
    hand: &Hand<'_>,
    data: &PersistentVolumeClaim,
    content: &Content,
    facts: &mut Facts,
) -> Result<(), Stop> {
    let patch = json!({"metadata": {
        "uid": data.metadata.uid,
        "resourceVersion": data.metadata.resource_version,
        "annotations": {DATA: content.annotation()},
    }});
    hand.merge::<PersistentVolumeClaim>(&data.name_any(), &patch)
        .await?;
    filled(content, facts);
    let note = facts
        .restore
        .as_ref()
        .map(|said| said.message.clone())
        .unwrap_or_default();
    hand.tell("DataFolderFilled", "Restore", note).await;
    Ok(())
}

fn filled(content: &Content, facts: &mut Facts) {
    facts.restore = Some(match content {
        Content::Restored(id) => Said::yes(Reason::Restored, format!("restored from backup {id}")),
        Content::Empty => Said::yes(
            Reason::StartedEmpty,
            "started empty: there was no backup, or none was wanted",
        ),
        Content::Kept | Content::Awaited => Said::yes(Reason::DataKept, "the volume came with its data"),
    });
    facts.content = Some(content.clone());
}

fn failed(name: &str, seen: Option<&job::Seen>, outcome: Option<&Outcome>) -> Said {
    use crate::database::program::Reason as Word;
    let (reason, why) = match (outcome, seen.map(|seen| &seen.phase)) {
        (Some(Outcome::Failed(failure)), _) if failure.reason == Word::BackupMissing => {
            (Reason::BackupMissing, failure.error.clone())
        }
        (Some(Outcome::Failed(failure)), _) => (
            Reason::RestoreFailed,
            format!("{}: {}", failure.reason, failure.error),
        ),
        (_, Some(job::Phase::Failed { why, .. })) => (Reason::RestoreFailed, why.clone()),
        _ => (Reason::RestoreFailed, "it left no words".to_owned()),
    };
    Said::no(reason, format!("{name} failed, and no server is started: {why}"))
}

/// The last words of a Job's Pods.
pub(super) async fn last_words(hand: &Hand<'_>, uid: &str) -> Result<Option<Outcome>, Stop> {
    Ok(job::last_words(&pods_of(hand, uid).await?))
}

/// The Pods of the Job with this UID.
pub(super) async fn pods_of(hand: &Hand<'_>, uid: &str) -> Result<Vec<Pod>, Stop> {
    let selector = format!("batch.kubernetes.io/controller-uid={uid}");
    Ok(hand.list::<Pod>(&selector).await?)
}

/// The Pods that have the data volume. A label anybody can give.
pub(super) async fn server_pods(hand: &Hand<'_>, desired: &Desired) -> Result<Vec<Pod>, Stop> {
    let mut all = hand
        .list::<Pod>(&format!("{APP}={}", desired.names.name()))
        .await?;
    let claim = desired.names.data_claim();
    all.retain(|pod| pods::mounts(pod, &claim));
    Ok(all)
}

/// Keeps the server running; says whether it answers.
pub(super) async fn serve(
    hand: &Hand<'_>,
    desired: &Desired,
    is_there: bool,
    credentials: &Credentials,
    facts: &mut Facts,
) -> Result<bool, Stop> {
    if !is_there {
        // Two servers on one data folder destroy it.
        let left = server_pods(hand, desired).await?;
        if let Some(pod) = left.first() {
            let message = format!(
                "Pod {} of an earlier server has to end before another starts",
                pod.name_any()
            );
            facts.server = Some(Said::pending(Reason::LeftoversGoing, message.clone()));
            return soon(Reason::LeftoversGoing, message);
        }
    }
    let (live, applied) = hand
        .apply(server::deployment(desired, credentials.revision()))
        .await?;
    match applied {
        Applied::Created => {
            hand.tell("ServerCreated", "Create", format!("starting {}", desired.image))
                .await;
        }
        Applied::Changed => {
            hand.tell(
                "ServerChanged",
                "Update",
                "the server starts again with what was changed",
            )
            .await;
        }
        Applied::Unchanged => {}
    }
    facts.applied = true;
    watch(hand, desired, &live, facts).await
}

/// Says whether the server answers, and why not.
async fn watch(
    hand: &Hand<'_>,
    desired: &Desired,
    live: &Deployment,
    facts: &mut Facts,
) -> Result<bool, Stop> {
    if server::is_serving(live) {
        facts.server = Some(Said::yes(Reason::Serving, "the server's Pod is ready"));
        facts.image = server::image_of(live).map(str::to_owned);
        return Ok(true);
    }
    let pods = server_pods(hand, desired).await?;
    let trouble = pods.iter().find_map(server::trouble);
    let now = hand.pass.clock().now();
    let trouble = trouble.or_else(|| pods.iter().find_map(|pod| pods::mute(pod, now)));
    facts.server = Some(match trouble.or_else(|| pods::replica_failure(live)) {
        Some(why) => Said::no(Reason::ServerFailing, why),
        None => Said::pending(Reason::Starting, "the server's Pod is starting"),
    });
    Ok(false)
}

/// As soon as anything can have changed.
pub(super) const fn at_once() -> Progress {
    Progress::Waiting { after: SOON }
}
