//! The steps of a `MySQL` that lives.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::ResourceExt as _;
use mysql_api::{MySQL, database::Reason};
use reconcile::{
    Progress,
    apply::{APPLIED, Applied, ApplyError},
};

use super::{
    DatabaseError, IDLE, SOON, backups, cleanup, filling, going,
    hand::{Hand, Stop, soon, sooner},
    nodes::{self, Pair},
    secrets::{self, Passwords},
    standstill, version, volumes,
};
use crate::database::{
    credentials::Credentials,
    desired::{Desired, SpecError},
    names::{APP, Owned, owned},
    nodes::tie,
    pods,
    report::{Facts, Said},
    server,
    volumes::{Content, Lineage, NEWEST, Role, Standing, capacity, filling as manner, goes_with, standing},
};

/// When a server that does not come up is looked at again: its Pod's troubles send no event.
const STARTING: std::time::Duration = std::time::Duration::from_secs(10);

/// Brings everything about. An edit that cannot be carried out takes nothing from the server that serves, nor its backups.
pub(super) async fn settle(
    hand: &Hand<'_>,
    desired: &mut Desired,
    facts: &mut Facts,
) -> Result<Progress, Stop> {
    match proceed(hand, desired, facts).await {
        Err(stop) => back_up(hand, desired, stop, facts).await,
        settled => settled,
    }
}

/// Backs up the server that serves on as it is, and goes on to say what has `stop`ped the edit.
async fn back_up(
    hand: &Hand<'_>,
    desired: &mut Desired,
    stop: Stop,
    facts: &mut Facts,
) -> Result<Progress, Stop> {
    let (said, pause) = match &stop {
        Stop::Held { said, after }
            if matches!(said.reason, Reason::PasswordMissing | Reason::PasswordInvalid) =>
        {
            (said.clone(), *after)
        }
        Stop::Failed(error) if error.is_refusal() => {
            (Said::no(Reason::RequestRefused, error.words()), IDLE / 10)
        }
        _ => return Err(stop),
    };
    let Some(image) = serving_image(hand, desired).await? else {
        return Err(stop);
    };
    version::stay(desired, &image);
    desired.ties.clear();
    let data = desired.names.data_claim();
    let data = hand.get::<PersistentVolumeClaim>(&data).await?;
    let claim = cleanup::confine(hand, desired, data.as_ref()).await?;
    facts.refused = Some(said.clone());
    let after = match backups::tend(hand, desired, claim.as_ref(), true, facts).await? {
        Progress::Settled => pause,
        Progress::Waiting { after } => after.min(pause),
    };
    Err(Stop::Held { said, after })
}

/// The image of this object's server, if that serves from data that it was given, and there is where backups go to.
async fn serving_image(hand: &Hand<'_>, desired: &Desired) -> Result<Option<String>, Stop> {
    let (names, uid) = (&desired.names, &desired.uid);
    let live = hand.get::<Deployment>(names.name()).await?;
    let live = live.filter(|live| serves(live, desired));
    let data = hand.get::<PersistentVolumeClaim>(&names.data_claim()).await?;
    let data = data.filter(|data| goes_with(data, names, uid) && !Content::of(data).is_open());
    let backups = hand.get::<PersistentVolumeClaim>(&names.backup_claim()).await?;
    let ours = |claim: &PersistentVolumeClaim| standing(claim, Role::Backups, names, uid) == Standing::Ours;
    let whole = data.is_some() && backups.as_ref().is_some_and(ours);
    let image = live.as_ref().and_then(server::image_of);
    Ok(image.filter(|_| whole).map(str::to_owned))
}

/// Whether it is this object's server, and answers.
pub(super) fn serves(live: &Deployment, desired: &Desired) -> bool {
    owned(live, &desired.names, &desired.uid) == Owned::Ours
        && live.annotations().contains_key(APPLIED)
        && server::is_serving(live)
}

/// One step after the other.
async fn proceed(hand: &Hand<'_>, desired: &mut Desired, facts: &mut Facts) -> Result<Progress, Stop> {
    let live = hand.get::<Deployment>(desired.names.name()).await?;
    let data = desired.names.data_claim();
    let data = hand.get::<PersistentVolumeClaim>(&data).await?;
    version::hold(desired, live.as_ref(), data.as_ref(), facts);
    standstill::hold(desired, live.as_ref(), data.as_ref(), facts);
    let passwords = secrets::ensure(hand, desired, live.as_ref()).await?;
    let pair = claims(hand, desired, data, facts).await?;
    configure(hand, desired).await?;
    publish(hand, desired, &passwords.now, facts).await?;
    filling::fill(hand, desired, &pair, live.is_some(), facts).await?;
    let claims = [Some(&pair.data), pair.backups.as_ref()];
    let serving = go_on(hand, desired, claims, live.as_ref(), &passwords, facts).await?;
    version::record(hand, &pair.data, facts).await?;
    let progress = backups::tend(hand, desired, pair.backups.as_ref(), serving, facts).await?;
    let after = match (serving, facts.applied) {
        (false, _) => STARTING,
        // What keeps it from being changed sends no event when it is over.
        (true, false) => IDLE / 10,
        (true, true) => IDLE,
    };
    Ok(sooner(progress, after))
}

/// The claims of both volumes, and what Pods have to know of them. Once the data folder is filled the server has no need of
/// the volume for backups: trouble with that takes no care from it.
async fn claims(
    hand: &Hand<'_>,
    desired: &mut Desired,
    data: Option<PersistentVolumeClaim>,
    facts: &mut Facts,
) -> Result<Pair, Stop> {
    let is_filled = |data: &PersistentVolumeClaim| {
        goes_with(data, &desired.names, &desired.uid) && !Content::of(data).is_open()
    };
    let backups = if data.as_ref().is_some_and(is_filled) {
        volumes::spare(hand, desired, facts).await?
    } else {
        Some(volumes::ensure(hand, desired, Role::Backups, facts).await?)
    };
    let data = volumes::ensure(hand, desired, Role::Data, facts).await?;
    // One that is there counts for Pods also while it is in trouble: another template would end the server.
    let there = match &backups {
        Some(backups) => Some(backups.clone()),
        None => hand
            .get::<PersistentVolumeClaim>(&desired.names.backup_claim())
            .await?
            .filter(|claim| standing(claim, Role::Backups, &desired.names, &desired.uid) == Standing::Ours),
    };
    if let Some(there) = &there {
        desired.identity = desired.identity.on(there);
    }
    if let Some(backups) = &backups {
        desired.expected = backups.annotations().get(NEWEST).cloned();
        going::miss(hand, backups, facts).await;
    }
    desired.backups_claim = backups.as_ref().and_then(kube::ResourceExt::uid);
    desired.identity = desired.identity.on(&data);
    desired.lineage = Lineage::of(&data);
    desired.ties = std::iter::once(&data).chain(&there).filter_map(tie).collect();
    desired.restore = manner(&data, desired.restore.clone());
    let mut storage = volumes::said(&data, desired);
    if going::since(&data).is_some() {
        storage.message += &going::release(hand, desired, Role::Data).await?;
    }
    facts.storage = Some(storage);
    facts.capacity = capacity(&data).map(|quantity| quantity.0.clone());
    Ok(Pair { data, backups })
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
    version::stay(&mut desired, image);
    desired.keep_password();
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
    let claim = cleanup::confine(hand, desired, data.as_ref()).await?;
    let passwords = secrets::ensure(hand, desired, Some(live)).await?;
    publish(hand, desired, &passwords.now, facts).await?;
    let serving = watch(hand, desired, live, facts).await?;
    let progress = backups::tend(hand, desired, claim.as_ref(), serving, facts).await?;
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
    bind(hand, desired, credentials).await?;
    facts.binding = Some(desired.names.binding());
    Ok(())
}

/// The Secret for clients.
async fn bind(hand: &Hand<'_>, desired: &Desired, credentials: &Credentials) -> Result<(), Stop> {
    let binding = credentials.binding(&desired.names, &desired.namespace, &desired.database);
    hand.apply(binding).await?;
    Ok(())
}

fn is_invalid(error: &reconcile::error::ApiError) -> bool {
    matches!(error.source.as_ref(), kube::Error::Api(status) if status.code == 422)
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

/// Waits until no Pod of an earlier server has the data volume: two servers on one data folder destroy it.
pub(super) async fn alone(hand: &Hand<'_>, desired: &Desired, facts: &mut Facts) -> Result<(), Stop> {
    let left = server_pods(hand, desired).await?;
    let Some(pod) = left.first() else { return Ok(()) };
    let message = format!(
        "Pod {} of an earlier server has to end before another starts",
        pod.name_any()
    );
    facts.server = Some(Said::pending(Reason::LeftoversGoing, message.clone()));
    soon(Reason::LeftoversGoing, message)
}

/// Removes the server. A Deployment of somebody else's that has its name stays.
pub(super) async fn end(hand: &Hand<'_>, desired: &Desired, server: &Deployment) -> Result<(), Stop> {
    match owned(server, &desired.names, &desired.uid) {
        Owned::Ours | Owned::Predecessor => Ok(hand.remove(server).await?),
        Owned::Foreign | Owned::Nobody => {
            let what = hand.what::<Deployment>(&server.name_any());
            Err(DatabaseError::NameConflict(what).into())
        }
    }
}

/// Ties the volumes of these claims, of the data and of the backups, and keeps the server running; says whether it answers.
pub(super) async fn go_on(
    hand: &Hand<'_>,
    desired: &Desired,
    [data, backups]: [Option<&PersistentVolumeClaim>; 2],
    live: Option<&Deployment>,
    passwords: &Passwords,
    facts: &mut Facts,
) -> Result<bool, Stop> {
    // First of all: a server that is changed, and a backup, get Pods that may be put on another node.
    let may_move = nodes::remember(hand, desired, data, backups, facts).await?;
    let still = standstill::held(desired, live, data).or_else(|| live.filter(|_| may_move));
    match still {
        Some(live) => watch(hand, desired, live, facts).await,
        None => serve(hand, desired, live.is_some(), passwords, facts).await,
    }
}

/// Keeps the server running; says whether it answers.
async fn serve(
    hand: &Hand<'_>,
    desired: &Desired,
    is_there: bool,
    passwords: &Passwords,
    facts: &mut Facts,
) -> Result<bool, Stop> {
    if !is_there {
        alone(hand, desired, facts).await?;
    }
    let wanted = server::deployment(desired, passwords.wanted().revision());
    let another = secrets::hand_over(hand, desired, passwords, &wanted).await?;
    let (live, applied) = hand.apply(wanted).await?;
    if another {
        bind(hand, desired, passwords.wanted()).await?;
    }
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
pub(super) async fn watch(
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
    let trouble = nodes::explain(hand, desired, &pods, trouble).await?;
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
