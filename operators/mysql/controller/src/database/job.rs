//! The Jobs that fill a data folder and take backups: what they look like, and what has become of them.
//!
//! There is one Job for backups at a time, `backup-<name>-job`; its existence is the record that a backup was begun, and
//! what it was begun for stands on it. It has no owner, so that it, and its end, outlive the object.

mod request;
mod words;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        batch::v1::{
            Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
        },
        core::v1::{Container, EnvVar, PodSpec, PodTemplateSpec, VolumeMount},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{ResourceExt as _, api::ObjectMeta};
use mysql_api::database::RestorePolicy;
use sha2::{Digest as _, Sha256};

pub use self::{
    request::{Request, told},
    words::{last_words, pace, slower},
};
use super::{
    amounts::Amounts,
    desired::Desired,
    names::{MADE_FOR, Names, Owned, owned},
    program,
    server::{claimed, client_mounts, client_volumes, config_argument, mount, scratch},
};

/// Annotation with what a backup was begun for.
const REQUEST: &str = "otus.homework/request";
/// Annotation with the id of a backup.
const ID: &str = "otus.homework/backup-id";
/// Annotation with the UID of the claim that a restore fills, or that a backup goes to.
const CLAIM: &str = "otus.homework/claim";
/// Annotation with a digest of what a restore was begun with.
const INPUTS: &str = "otus.homework/inputs";
/// Annotation with which server was there when a backup was begun: [`super::server::running`].
const SERVER: &str = "otus.homework/server";
/// How often a Pod is tried again.
const RETRIES: i32 = 3;
/// When a backup gives up: a dump of hundreds of gigabytes takes hours.
pub const DEADLINE: Duration = Duration::from_hours(6);
/// When a restore gives up. It begins anew after that, and loading takes many times as long as dumping.
const RESTORE_DEADLINE: Duration = Duration::from_hours(7 * 24);
/// Label that keeps a mesh from putting a program of its own into a Pod, which would never end.
const NO_SIDECAR: &str = "sidecar.istio.io/inject";
/// The containers of the two Jobs.
const CONTAINERS: [&str; 2] = ["backup", "restore"];

/// The Job that takes a backup, begun now, of the server that `running` tells.
pub fn backup(desired: &Desired, request: &Request, now: Timestamp, running: Option<&str>) -> Job {
    let id = request.id(&desired.uid, now);
    let owner = owner(desired);
    let asked = program::Backup {
        id: &id,
        database: &desired.database,
        owner: &owner,
        data_uid: &desired.lineage.claim,
        host: desired.names.name(),
        keep: u32::try_from(desired.keep).unwrap_or(1).max(1),
        from: desired.pinned.as_deref(),
        is_fresh: desired.lineage.is_fresh,
        is_final: matches!(request, Request::Final(_)),
        version: desired.version,
    };
    let annotations = [
        (MADE_FOR, desired.uid.clone()),
        (REQUEST, request.annotation()),
        (ID, id.clone()),
        (SERVER, running.unwrap_or_default().to_owned()),
        (CLAIM, desired.backups_claim.clone().unwrap_or_default()),
    ];
    let mounts = vec![mount("backups", program::BACKUP_FOLDER, false)];
    let container = Task {
        name: CONTAINERS[0],
        deadline: DEADLINE,
        // The server keeps its own meanwhile.
        amounts: desired.resources.beside(),
        program: program::BACKUP,
        environment: asked.environment(),
        mounts,
    };
    job(desired, desired.names.backup_job(), annotations.into(), container)
}

/// The Job that fills the data folder on the volume whose claim has this UID.
pub fn restore(desired: &Desired, claim: &str) -> Job {
    let owner = owner(desired);
    let policy = match desired.restore.policy {
        RestorePolicy::IfBackupExists => program::Policy::IfBackupExists,
        RestorePolicy::Required => program::Policy::Required,
        RestorePolicy::Never => program::Policy::Never,
    };
    let asked = program::Restore {
        database: &desired.database,
        owner: &owner,
        policy,
        from: desired.restore.from.as_deref(),
        expected: desired.expected.as_deref(),
        config: config_argument(desired),
        version: desired.version,
    };
    let annotations = [
        (MADE_FOR, desired.uid.clone()),
        (CLAIM, claim.to_owned()),
        (INPUTS, inputs(desired)),
    ];
    let mounts = vec![
        mount("data", program::DATA_FOLDER, false),
        mount("backups", program::BACKUP_FOLDER, true),
    ];
    let container = Task {
        name: CONTAINERS[1],
        deadline: RESTORE_DEADLINE,
        // No server runs meanwhile: it has what that is to have.
        amounts: desired.resources.clone(),
        program: program::RESTORE,
        environment: asked.environment(),
        mounts,
    };
    job(
        desired,
        desired.names.restore_job(),
        annotations.into(),
        container,
    )
}

fn owner(desired: &Desired) -> String {
    format!("{}/{}", desired.namespace, desired.names.name())
}

/// A digest of what a restore depends on: another image, policy, backup or user is another try.
pub fn inputs(desired: &Desired) -> String {
    let policy = format!("{:?}", desired.restore);
    let identity = format!("{:?}", desired.identity);
    let restore = (&desired.image, policy, &desired.options, identity);
    let digest = Sha256::digest(format!("{restore:?}"));
    hexadecimal(&digest[..], 8)
}

/// The first bytes of a digest, at most eight of them.
fn hexadecimal(digest: &[u8], bytes: usize) -> String {
    let number = digest
        .iter()
        .take(bytes)
        .fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    format!("{number:0width$x}", width = 2 * bytes)
}

/// The one container of a Job.
struct Task {
    name: &'static str,
    deadline: Duration,
    amounts: Amounts,
    program: &'static str,
    environment: Vec<EnvVar>,
    mounts: Vec<VolumeMount>,
}

fn job(desired: &Desired, name: String, annotations: BTreeMap<&str, String>, task: Task) -> Job {
    let names = &desired.names;
    let uses = |volume: &str| task.mounts.iter().any(|mount| mount.name == volume);
    let mut volumes = vec![scratch("tmp"), claimed("backups", &names.backup_claim())];
    if uses("data") {
        volumes.push(claimed("data", &names.data_claim()));
    }
    volumes.extend(client_volumes(desired));
    let mut mounts = task.mounts;
    mounts.push(mount("tmp", "/tmp", false));
    mounts.extend(client_mounts());
    let container = Container {
        name: task.name.to_owned(),
        image: Some(desired.image.clone()),
        command: Some(program::command(task.program)),
        env: Some(task.environment),
        volume_mounts: Some(mounts),
        // Where a quota asks for amounts, a Pod without them is refused.
        resources: task.amounts.requirements(),
        ..Container::default()
    };
    let mut pod = PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        containers: vec![container],
        // A Pod that failed stays, with its last words.
        restart_policy: Some("Never".to_owned()),
        volumes: Some(volumes),
        ..PodSpec::default()
    };
    desired.identity.confine(&mut pod);
    let mut labels = names.labels();
    labels.insert(NO_SIDECAR.to_owned(), "false".to_owned());
    let annotations = annotations
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(desired.namespace.clone()),
            labels: Some(names.labels()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            active_deadline_seconds: i64::try_from(task.deadline.as_secs()).ok(),
            backoff_limit: Some(RETRIES),
            pod_failure_policy: Some(hopeless(task.name)),
            // Two Pods at a time on one volume are two too many.
            pod_replacement_policy: Some("Failed".to_owned()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

/// The status by which a program says that trying again is of no use ends the Job.
fn hopeless(container: &str) -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![PodFailurePolicyRule {
            action: "FailJob".to_owned(),
            on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                container_name: Some(container.to_owned()),
                operator: "In".to_owned(),
                values: vec![program::HOPELESS],
            }),
            ..PodFailurePolicyRule::default()
        }],
    }
}

/// Whose a Job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This object's.
    Ours,
    /// An earlier object's of this name, by this operator; of no use any more.
    Left,
    /// The kind's first operator's; of no use any more once it has ended.
    Former,
    /// Somebody else's.
    Foreign,
}

/// What has become of a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has not ended.
    Running,
    /// It has done what it should.
    Succeeded,
    /// It has given up.
    Failed {
        /// When.
        at: Option<Timestamp>,
        /// In Kubernetes' words.
        why: String,
    },
}

/// How far any Pod of a Job has come, as the Job's own counts tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// There was none.
    Nothing,
    /// There is one.
    Made,
    /// One was at its work, or is gone, which afterwards nobody can tell apart.
    Begun,
}

/// What a Job shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its UID.
    pub uid: String,
    /// Whose it is.
    pub whose: Whose,
    /// What has become of it.
    pub phase: Phase,
    /// How far any of its Pods has come.
    pub reached: Reached,
    /// What a backup was begun for.
    pub request: Option<Request>,
    /// The id of the backup.
    pub id: Option<String>,
    /// UID of the claim that a restore fills, or that a backup goes to.
    pub claim: Option<String>,
    /// What a restore was begun with.
    pub inputs: Option<String>,
    /// Which server was there when a backup was begun.
    pub server: Option<String>,
    /// When it was made.
    pub made: Option<Timestamp>,
    /// Since when it is being deleted, if it is.
    pub going: Option<Timestamp>,
}

/// Reads a Job, for the object of these names and this UID.
pub fn seen(job: &Job, names: &Names, uid: &str) -> Seen {
    let annotation = |key: &str| job.annotations().get(key).cloned();
    Seen {
        uid: job.uid().unwrap_or_default(),
        whose: whose(job, names, uid),
        phase: phase(job),
        reached: reached(job),
        request: annotation(REQUEST).as_deref().and_then(Request::parse),
        id: annotation(ID),
        claim: annotation(CLAIM).filter(|claim| !claim.is_empty()),
        inputs: annotation(INPUTS),
        server: annotation(SERVER).filter(|server| !server.is_empty()),
        made: job.metadata.creation_timestamp.as_ref().map(|Time(at)| *at),
        going: job.metadata.deletion_timestamp.as_ref().map(|Time(at)| *at),
    }
}

fn whose(job: &Job, names: &Names, uid: &str) -> Whose {
    let made_for = job.annotations().get(MADE_FOR);
    match owned(job, names, uid) {
        Owned::Foreign => Whose::Foreign,
        Owned::Ours | Owned::Nobody
            if names.marked(job) && made_for.is_some_and(|made_for| made_for == uid) =>
        {
            Whose::Ours
        }
        Owned::Nobody if !names.marked(job) && !mounts_backups(job, names) => Whose::Foreign,
        // The first operator's bear no mark, and mount the volume of this name.
        _ if !names.marked(job) => Whose::Former,
        Owned::Ours | Owned::Nobody | Owned::Predecessor => Whose::Left,
    }
}

fn mounts_backups(job: &Job, names: &Names) -> bool {
    let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let volumes = pod.and_then(|pod| pod.volumes.as_ref());
    volumes.into_iter().flatten().any(|volume| {
        let claim = volume.persistent_volume_claim.as_ref();
        claim.is_some_and(|claim| claim.claim_name == names.backup_claim())
    })
}

fn phase(job: &Job) -> Phase {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    let holds = |type_: &str| {
        let mut all = conditions.into_iter().flatten();
        all.find(|condition| condition.type_ == type_ && condition.status == "True")
    };
    if holds("Complete").is_some() {
        return Phase::Succeeded;
    }
    holds("Failed").map_or(Phase::Running, |condition| Phase::Failed {
        at: condition.last_transition_time.as_ref().map(|Time(at)| *at),
        why: [condition.reason.as_deref(), condition.message.as_deref()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(": "),
    })
}

fn reached(job: &Job) -> Reached {
    let Some(status) = &job.status else {
        return Reached::Nothing;
    };
    let any = |counts: &[Option<i32>]| counts.iter().flatten().any(|count| *count > 0);
    let mut uncounted = status
        .uncounted_terminated_pods
        .iter()
        .flat_map(|ended| [&ended.failed, &ended.succeeded])
        .flatten();
    let ended = uncounted.any(|ended| !ended.is_empty());
    if ended || any(&[status.ready, status.failed, status.succeeded]) {
        Reached::Begun
    } else if any(&[status.active, status.terminating]) {
        Reached::Made
    } else {
        Reached::Nothing
    }
}

#[cfg(test)]
mod tests;
