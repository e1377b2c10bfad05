//! What was observed, as a status: conditions from facts, nothing else.

mod backup;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mysql_api::{
    MySQL, MySQLStatus,
    database::{Binding, ConditionType, Reason},
};
use reconcile::conditions::{self, ConditionStatus, DesiredCondition};

pub use self::backup::{failure, last_word, tells_of_a_failure};
use super::{job::Seen, plan::Leave, program::Outcome, volumes::Content};

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// True, False or Unknown.
    pub status: ConditionStatus,
    /// Why.
    pub reason: Reason,
    /// In words.
    pub message: String,
}

impl Said {
    /// What holds.
    pub fn yes(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(ConditionStatus::True, reason, message)
    }

    /// What does not hold.
    pub fn no(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(ConditionStatus::False, reason, message)
    }

    /// What is on its way.
    pub fn pending(reason: Reason, message: impl Into<String>) -> Self {
        Self::new(ConditionStatus::Unknown, reason, message)
    }

    fn new(status: ConditionStatus, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            message: message.into(),
        }
    }

    fn condition(&self, type_: ConditionType) -> DesiredCondition {
        DesiredCondition::new(
            type_.as_str(),
            self.status,
            self.reason.as_str(),
            self.message.clone(),
        )
    }
}

/// The facts that a status is made of.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The data volume; nothing leaves what was said, here and below.
    pub storage: Option<Said>,
    /// What the server starts from.
    pub restore: Option<Said>,
    /// The server.
    pub server: Option<Said>,
    /// The last backup.
    pub backup: Option<Said>,
    /// Whether backups were seen to, to the end: trouble that is not in `backup` is over then.
    pub tended: bool,
    /// The Job that failed last, which is written down; it is told of again once what was told of since is over.
    pub failed: Option<(Seen, Option<Outcome>)>,
    /// Whether the last backup is gone with its volume.
    pub backups_lost: bool,
    /// The change that is refused, if one is.
    pub refused: Option<Said>,
    /// Whether what the spec asks for is what runs.
    pub applied: bool,
    /// The image whose server answers.
    pub image: Option<String>,
    /// What keeps a deletion from going on.
    pub blocked: Option<Said>,
    /// What stands above all parts.
    pub summary: Option<Said>,
    /// Capacity of the data volume.
    pub capacity: Option<String>,
    /// What the data volume holds.
    pub content: Option<Content>,
    /// Name of the Secret for clients, once it is there.
    pub binding: Option<String>,
    /// The Job for backups that has ended, with its last words.
    pub ended: Option<(Seen, Option<Outcome>)>,
}

/// The status of `object` with these facts.
pub fn status(object: &MySQL, facts: &Facts, now: Timestamp) -> MySQLStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    status.observed_generation = generation;
    match &facts.image {
        Some(image) => status.server_version = version(image),
        None if status.server_version.is_none() => status.server_version = version(&object.spec.image),
        None => {}
    }
    let schedule = object
        .spec
        .backup
        .as_ref()
        .and_then(|backup| backup.schedule.clone());
    if status.schedule != schedule {
        status.schedule_since = schedule.is_some().then_some(Time(now));
        status.schedule = schedule;
    }
    if facts.capacity.is_some() {
        status.storage.clone_from(&facts.capacity);
    }
    if let Some(content) = &facts.content {
        status.restored_from = match content {
            Content::Restored(id) => Some(id.chars().take(128).collect()),
            _ => None,
        };
    }
    if let Some(name) = &facts.binding {
        status.binding = Some(Binding { name: name.clone() });
    }
    if facts.backups_lost {
        status.last_backup = None;
    }
    let mut backup = facts.backup.clone();
    if let Some((job, words)) = &facts.ended {
        backup = Some(backup::record(&mut status, job, words.as_ref()));
    }
    let backup = backup.or_else(|| backup::unmoved(&status, facts));
    let parts = [
        (ConditionType::StorageReady, &facts.storage),
        (ConditionType::RestoreDone, &facts.restore),
        (ConditionType::ServerReady, &facts.server),
    ]
    .map(|(type_, said)| {
        said.clone()
            .unwrap_or_else(|| known(&status, type_))
            .condition(type_)
    });
    let summary = facts.summary.as_ref().map_or_else(
        || {
            let serving = "the server answers";
            conditions::summary(
                ConditionType::Ready.as_str(),
                &parts,
                Reason::Serving.as_str(),
                serving,
            )
        },
        |said| said.condition(ConditionType::Ready),
    );
    let up_to_date = match &facts.refused {
        Some(refused) => refused.clone(),
        None if facts.applied => Said::yes(Reason::Applied, "what the spec asks for is what runs"),
        None => undecided(&status, generation),
    };
    let mut all = vec![summary];
    all.extend(parts);
    all.extend(backup.map(|said| said.condition(ConditionType::BackupTaken)));
    all.push(up_to_date.condition(ConditionType::UpToDate));
    all.extend(
        facts
            .blocked
            .as_ref()
            .map(|said| said.condition(ConditionType::DeletionBlocked)),
    );
    all.extend(clear_text(object));
    for condition in all {
        let _ = conditions::set(&mut status.conditions, condition, generation, now);
    }
    let gone = [
        (ConditionType::DeletionBlocked, facts.blocked.is_none()),
        (ConditionType::ClearTextPassword, object.spec.password.is_none()),
        (ConditionType::Paused, true),
    ];
    for (type_, gone) in gone {
        if gone {
            conditions::remove(&mut status.conditions, type_.as_str());
        }
    }
    status
}

/// Whether what this generation of the spec asks for runs, when a pass did not get so far as to see to it.
fn undecided(status: &MySQLStatus, generation: Option<i64>) -> Said {
    let type_ = ConditionType::UpToDate;
    match conditions::find(&status.conditions, type_.as_str()) {
        Some(condition) if condition.observed_generation == generation => known(status, type_),
        _ => Said::pending(Reason::Starting, "other steps come first"),
    }
}

/// What was said of a part before.
fn known(status: &MySQLStatus, type_: ConditionType) -> Said {
    let said = conditions::find(&status.conditions, type_.as_str()).and_then(|condition| {
        let reason = Reason::ALL
            .iter()
            .find(|reason| reason.as_str() == condition.reason)?;
        let status = match condition.status.as_str() {
            "True" => ConditionStatus::True,
            "False" => ConditionStatus::False,
            _ => ConditionStatus::Unknown,
        };
        Some(Said::new(status, *reason, condition.message.clone()))
    });
    said.unwrap_or_else(|| Said::pending(Reason::Starting, "other steps come first"))
}

/// The status of an object that is paused: as it was, and that it is.
pub fn paused(object: &MySQL, now: Timestamp) -> MySQLStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let said = Said::yes(
        Reason::Paused,
        "spec.paused is true: nothing is changed, backed up or healed until it is false; a deletion goes on",
    );
    let condition = said.condition(ConditionType::Paused);
    let _ = conditions::set(&mut status.conditions, condition, object.metadata.generation, now);
    status
}

/// The status of an object whose spec cannot be carried out.
pub fn prevented(object: &MySQL, reason: Reason, message: &str, now: Timestamp) -> MySQLStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    status.observed_generation = generation;
    let said = Said::no(reason, message);
    // A server that runs goes on running; the change is what is prevented.
    let running = conditions::is_true(&status.conditions, ConditionType::ServerReady.as_str());
    let mut all = vec![said.condition(ConditionType::UpToDate)];
    if !running {
        all.insert(0, said.condition(ConditionType::Ready));
    }
    all.extend(clear_text(object));
    for condition in all {
        let _ = conditions::set(&mut status.conditions, condition, generation, now);
    }
    conditions::remove(&mut status.conditions, ConditionType::Paused.as_str());
    status
}

fn clear_text(object: &MySQL) -> Option<DesiredCondition> {
    object.spec.password.as_ref()?;
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let said = Said::yes(
        Reason::InSpec,
        format!(
            "spec.password can be read by everybody who can read this object; to switch: kubectl create secret generic \
             {name}-root --from-literal=password=…, then replace spec.password by spec.passwordSecretRef {{name: \
             {name}-root}}"
        ),
    );
    Some(said.condition(ConditionType::ClearTextPassword))
}

/// Whether a server of this object has had a data volume: as long as none is filled anew, its status says so.
pub fn had_data(object: &MySQL) -> bool {
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice());
    [ConditionType::RestoreDone, ConditionType::ServerReady]
        .into_iter()
        .any(|type_| conditions::is_true(conditions.unwrap_or_default(), type_.as_str()))
}

/// The version in an image's tag: the numbers that it begins with.
fn version(image: &str) -> Option<String> {
    let name = image.split('@').next().unwrap_or_default();
    let (_, tag) = name.rsplit('/').next()?.split_once(':')?;
    let end = tag
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(tag.len());
    let version = tag[..end].trim_end_matches('.');
    let rest = tag[end..].chars().next();
    let is_version = version.contains('.') && rest.is_none_or(|c| c == '-');
    (is_version && version.len() <= 64).then(|| version.to_owned())
}

/// What lets an object go, for an event.
pub fn leave(leave: Leave) -> &'static str {
    match leave {
        Leave::BackedUp => "the final backup is there",
        Leave::Nothing => "there is nothing to back up: no server ever had the data volume, or it is gone",
        Leave::Policy => "backup.onDelete is Never: no final backup",
        Leave::Skipped => "the annotation otus.homework/skip-backup names this object: no final backup",
        Leave::NamespaceGone => "the namespace is being deleted, and the volume with the backups with it",
        Leave::Tried => "backup.onDelete is BestEffort, and the final backup failed",
    }
}

#[cfg(test)]
mod tests;
