//! Filling a new data folder, before a server may have it.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::{Resource as _, ResourceExt as _};
use mysql_api::database::{ConditionType, Reason, RestorePolicy, RestoreSettings};
use reconcile::conditions::{self, ConditionStatus};
use serde_json::json;

use super::{
    DatabaseError,
    hand::{Hand, Stop, held, soon},
    life::{alone, end, pods_of},
    nodes::{self, Pair},
};
use crate::database::{
    desired::Desired,
    job::{self, Whose},
    plan::{self, Beginning, Start},
    pods,
    program::Outcome,
    report::{Facts, Said},
    server,
    volumes::{BEGAN_EMPTY, Content, DATA, SERVED, is_set_aside},
};

/// Fills the data folder, before a server may have it.
pub(super) async fn fill(
    hand: &Hand<'_>,
    desired: &Desired,
    pair: &Pair,
    server: bool,
    facts: &mut Facts,
) -> Result<(), Stop> {
    let data = &pair.data;
    let content = Content::of(data);
    let name = desired.names.restore_job();
    facts.restore = Some(Said::pending(
        Reason::Restoring,
        format!("{name} fills the data folder"),
    ));
    let live = hand.get_if::<Job>(&name, content.is_open()).await?;
    if content == Content::Unseen && live.is_none() && !server {
        // A server of the first operator's may still have it.
        alone(hand, desired, facts).await?;
    }
    let seen = live
        .as_ref()
        .map(|live| job::seen(live, &desired.names, &desired.uid));
    let pods = match &seen {
        Some(seen) => pods_of(hand, &seen.uid).await?,
        None => Vec::new(),
    };
    let outcome = match &seen {
        Some(seen) if seen.phase != job::Phase::Running => job::last_words(&pods),
        _ => None,
    };
    let job = seen.as_ref().map(|seen| (seen, outcome.as_ref()));
    let astray = nodes::tie(hand, desired, pair, job, &pods).await?;
    let spec = hand.pass.current().spec.restore.clone().unwrap_or_default();
    let aside = Some(&spec).filter(|spec| is_set_aside(data, spec));
    let failure = failed(&name, seen.as_ref(), outcome.as_ref(), aside);
    let inputs = job::inputs(desired);
    let claim = data.uid().unwrap_or_default();
    let step = plan::start(Beginning {
        content: &content,
        claim: &claim,
        server,
        job: seen.as_ref(),
        outcome: outcome.as_ref(),
        inputs: &inputs,
        astray,
        told: is_told(hand, &failure),
        now: hand.pass.clock().now(),
    });
    match (step, live) {
        (Start::Go, _) => {
            filled(&content, facts);
            Ok(())
        }
        (Start::RemoveServer, _) => {
            if let Some(server) = hand.get::<Deployment>(desired.names.name()).await? {
                end(hand, desired, &server).await?;
            }
            soon(
                Reason::Restoring,
                "the server ends, for its data folder is to be filled",
            )
        }
        (Start::Create, _) => {
            begin(hand, desired, &claim, &content).await?;
            soon(Reason::Restoring, format!("{name} fills the data folder"))
        }
        (Start::Remove, Some(job)) => {
            hand.remove(&job).await?;
            soon(Reason::Restoring, again(&name, seen.as_ref()))
        }
        (Start::Record(content), job) => {
            let image = job.as_ref().and_then(|job| maker(job, &content));
            record(hand, data, &content, image, facts).await
        }
        (Start::Failed { after }, _) => {
            facts.restore = Some(failure.clone());
            held(failure, after)
        }
        (Start::Conflict, _) => Err(DatabaseError::NameConflict(hand.what::<Job>(&name)).into()),
        (Start::Wait | Start::Remove, _) => {
            let message = match &seen {
                Some(seen) => hindrance(hand, desired, seen, &pods).await?,
                None => None,
            };
            let message = message.unwrap_or_else(|| format!("{name} fills the data folder"));
            // That its Pod runs, fails or ends is an event of the Job.
            let after = job::pace(seen.as_ref(), hand.pass.clock().now());
            held(Said::pending(Reason::Restoring, message), after)
        }
    }
}

/// Makes the Job.
async fn begin(hand: &Hand<'_>, desired: &Desired, claim: &str, content: &Content) -> Result<(), Stop> {
    let mut job = job::restore(desired, claim);
    job.metadata.owner_references = hand
        .pass
        .current()
        .controller_owner_ref(&())
        .map(|owner| vec![owner]);
    hand.create(&job).await?;
    let name = desired.names.restore_job();
    let note = if *content == Content::Unseen {
        format!(
            "{name} looks at what was left on the data volume, and fills the data folder only if there are no data"
        )
    } else {
        format!("{name} fills the data folder: from a backup if there is one")
    };
    hand.tell("RestoreStarted", "Restore", note).await;
    Ok(())
}

/// What is said of a Job that is removed.
fn again(name: &str, seen: Option<&job::Seen>) -> String {
    match seen {
        Some(seen) if seen.whose != Whose::Ours => format!(
            "{name} was left by an earlier MySQL or another operator, and its Pod has to end before another one fills the \
             data folder"
        ),
        _ => format!("{name} is begun again"),
    }
}

/// What keeps the Job from its work.
async fn hindrance(
    hand: &Hand<'_>,
    desired: &Desired,
    seen: &job::Seen,
    pods: &[Pod],
) -> Result<Option<String>, Stop> {
    let trouble = pods.iter().find_map(server::trouble);
    let name = desired.names.restore_job();
    let stuck = pods::stuck(seen, &name, pods, hand.pass.clock().now());
    let why = trouble.or_else(|| stuck.map(|stuck| stuck.why));
    Ok(nodes::explain(hand, desired, pods, why).await?)
}

/// Whether the condition says this already.
fn is_told(hand: &Hand<'_>, failure: &Said) -> bool {
    let object = hand.pass.current();
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice());
    let told = conditions::find(
        conditions.unwrap_or_default(),
        ConditionType::RestoreDone.as_str(),
    );
    told.is_some_and(|told| told.status == ConditionStatus::False.as_str() && told.message == failure.message)
}

/// The image whose server has made what a Job filled the folder with; nothing if it found it there.
fn maker<'a>(job: &'a Job, content: &Content) -> Option<&'a str> {
    let pod = job.spec.as_ref()?.template.spec.as_ref()?;
    server::image_in(pod).filter(|_| matches!(content, Content::Restored(_) | Content::Empty))
}

/// Writes down that a server may have the volume, before one does.
async fn record(
    hand: &Hand<'_>,
    data: &PersistentVolumeClaim,
    content: &Content,
    image: Option<&str>,
    facts: &mut Facts,
) -> Result<(), Stop> {
    note(hand, data, Some(content), image).await?;
    filled(content, facts);
    let text = facts
        .restore
        .as_ref()
        .map(|said| said.message.clone())
        .unwrap_or_default();
    hand.tell("DataFolderFilled", "Restore", text).await;
    Ok(())
}

/// Notes on the claim what is on its volume, and of which image, as far as that is known, if nobody has changed it meanwhile.
pub(super) async fn note(
    hand: &Hand<'_>,
    data: &PersistentVolumeClaim,
    content: Option<&Content>,
    image: Option<&str>,
) -> Result<(), Stop> {
    let empty = content.filter(|content| **content == Content::Empty);
    let empty = empty.map(|_| (BEGAN_EMPTY, "true".to_owned()));
    let content = content.map(|content| (DATA, content.annotation()));
    let image = image.map(|image| (SERVED, image.to_owned()));
    let annotations: BTreeMap<_, _> = content.into_iter().chain(empty).chain(image).collect();
    let patch = json!({"metadata": {
        "uid": data.metadata.uid,
        "resourceVersion": data.metadata.resource_version,
        "annotations": annotations,
    }});
    hand.merge::<PersistentVolumeClaim>(&data.name_any(), &patch)
        .await?;
    Ok(())
}

fn filled(content: &Content, facts: &mut Facts) {
    facts.restore = Some(match content {
        Content::Restored(id) => Said::yes(Reason::Restored, format!("restored from backup {id}")),
        Content::Empty => Said::yes(
            Reason::StartedEmpty,
            "started empty: there was no backup, or none was wanted",
        ),
        Content::Kept | Content::Awaited | Content::Unseen => {
            Said::yes(Reason::DataKept, "the volume came with its data")
        }
    });
    facts.content = Some(content.clone());
}

/// What is said of a Job that failed; `aside` is what the spec says and does not count.
fn failed(
    name: &str,
    seen: Option<&job::Seen>,
    outcome: Option<&Outcome>,
    aside: Option<&RestoreSettings>,
) -> Said {
    use crate::database::program::Reason as Word;
    let (reason, why) = match (outcome, seen.map(|seen| &seen.phase)) {
        (Some(Outcome::Failed(failure)), _) if failure.reason == Word::BackupMissing => {
            let more = aside.map(counts).unwrap_or_default();
            (Reason::BackupMissing, format!("{}{more}", failure.error))
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

/// What would have to be changed for the spec to count that was there before the volume was lost. Without a word of its own
/// whatever is said there is a change.
fn counts(aside: &RestoreSettings) -> &'static str {
    if aside.from.is_none() && aside.policy != RestorePolicy::Never {
        return "";
    }
    "; spec.restore is as it was before the data volume was lost and does not count: the same `from` counts with another \
     policy, and the same policy with another `from`"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::program::Outcome;

    #[test]
    fn of_a_restore_that_does_not_count_it_is_said_what_does() {
        let missing = Outcome::parse(r#"{"reason":"BackupMissing","error":"b1 was taken and is not here"}"#);
        let says = |outcome: &Outcome, aside: Option<(RestorePolicy, Option<&str>)>| {
            let aside = aside.map(|(policy, from)| RestoreSettings {
                policy,
                from: from.map(str::to_owned),
            });
            failed("restore-m-job", None, Some(outcome), aside.as_ref()).message
        };
        for aside in [
            (RestorePolicy::IfBackupExists, Some("b0")),
            (RestorePolicy::Never, None),
        ] {
            let told = says(&missing, Some(aside));
            assert!(
                told.contains("b1 was taken and is not here; spec.restore is as it was"),
                "{told}"
            );
        }
        let plain = (RestorePolicy::IfBackupExists, None);
        for told in [says(&missing, None), says(&missing, Some(plain))] {
            assert!(told.ends_with("is not here"), "{told}");
        }
        let damaged = Outcome::parse(r#"{"reason":"BackupDamaged","error":"it is short"}"#);
        let told = says(&damaged, Some((RestorePolicy::Never, None)));
        assert!(told.ends_with("it is short"), "{told}");
    }
}
