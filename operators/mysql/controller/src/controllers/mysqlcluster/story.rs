//! What `kubectl describe` tells of a cluster: events, each once, when something has happened.

use mysql_api::{ConditionType, MySQLCluster, MySQLClusterStatus, Reason};
use reconcile::{
    Pass, conditions,
    events::{EventKind, Notice},
};

use crate::{act::Event, identity::member_name};

/// What a pass did.
pub(super) fn steps(cluster: &str, events: Vec<Event>) -> Vec<Notice> {
    events.into_iter().map(|event| step(cluster, event)).collect()
}

fn step(cluster: &str, event: Event) -> Notice {
    let name = |ordinal| member_name(cluster, ordinal);
    let (reason, action, note) = match event {
        Event::Provisioning(count) => (
            "Provisioning",
            "Launch",
            format!("provisioning EC2 instances: {count}"),
        ),
        Event::Launched(n, id) => ("Launched", "Launch", format!("launched {id} for {}", name(n))),
        Event::Terminating(n, id) => (
            "Terminating",
            "Terminate",
            format!("terminating {id} of {}", name(n)),
        ),
        Event::Started(n, id) => (
            "Started",
            "Start",
            format!("started {id} of {}, which was stopped", name(n)),
        ),
        Event::Marked(n, id) => (
            "TagsRestored",
            "Tag",
            format!("gave {id} of {} the tags back that were taken off it", name(n)),
        ),
        Event::Tagged(n, id) => (
            "TagsChanged",
            "Tag",
            format!(
                "gave {id} of {}, its volumes and its interface the tags of the spec",
                name(n)
            ),
        ),
        Event::Replacing(n) => (
            "Replacing",
            "Replace",
            format!("{} has an older spec and is replaced", name(n)),
        ),
        Event::Gone(n) => (
            "Gone",
            "Observe",
            format!("the last launch of {} is over", name(n)),
        ),
    };
    Notice {
        kind: EventKind::Normal,
        reason,
        action,
        note,
    }
}

/// What has become different from one status to the next.
pub(super) fn turns(before: Option<&MySQLClusterStatus>, after: &MySQLClusterStatus) -> Vec<Notice> {
    let last = before.map_or(&[][..], |status| &status.conditions);
    let mut turns = Vec::new();
    if let (Some(was), Some(now)) = (before.and_then(|before| before.primary.as_ref()), &after.primary)
        && was != now
    {
        let note = format!("{now} takes writes now, in place of {was}");
        turns.push(Notice {
            kind: EventKind::Normal,
            reason: "HandedOver",
            action: "Observe",
            note,
        });
    }
    for type_ in [ConditionType::Provisioned, ConditionType::Ready] {
        let Some(now) = conditions::find(&after.conditions, type_.as_str()) else {
            continue;
        };
        let was = conditions::find(last, type_.as_str());
        let turned = was.is_none_or(|was| was.status != now.status);
        let waiting = Reason::WaitingForInstances.as_str();
        let note = now.message.clone();
        let (kind, reason) = match (type_, now.status.as_str()) {
            (ConditionType::Provisioned, "True") if turned => (EventKind::Normal, "Provisioned"),
            (ConditionType::Provisioned, "Unknown") if turned => (EventKind::Warning, "OutOfSight"),
            (ConditionType::Ready, "True") if turned => (EventKind::Normal, "Ready"),
            (ConditionType::Ready, "False") if turned && was.is_some_and(|was| was.status == "True") => {
                (EventKind::Warning, "NotReady")
            }
            (ConditionType::Provisioned, "False")
                if now.reason == waiting && was.is_none_or(|was| was.reason != waiting) =>
            {
                let note = "waiting for instances to become running".to_owned();
                turns.push(Notice {
                    kind: EventKind::Normal,
                    reason: "WaitingForInstances",
                    action: "Observe",
                    note,
                });
                continue;
            }
            _ => continue,
        };
        turns.push(Notice {
            kind,
            reason,
            action: "Observe",
            note,
        });
    }
    turns
}

/// That a cluster does not take over what it was asked to.
pub(super) fn neglected(note: String) -> Notice {
    Notice {
        kind: EventKind::Warning,
        reason: Reason::AdoptionImpossible.as_str(),
        action: "Adopt",
        note,
    }
}

/// Publishes events in order.
pub(super) async fn tell(pass: &Pass<MySQLCluster>, notices: impl IntoIterator<Item = Notice>) {
    for notice in notices {
        pass.event(notice).await;
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use reconcile::conditions::DesiredCondition;

    use super::*;

    fn status(parts: &[(ConditionType, bool, Reason)]) -> MySQLClusterStatus {
        let mut status = MySQLClusterStatus::default();
        for (type_, holds, reason) in parts {
            let condition = DesiredCondition::new(type_.as_str(), *holds, reason.as_str(), "because");
            let _ = conditions::set(&mut status.conditions, condition, Some(1), Timestamp::UNIX_EPOCH);
        }
        status
    }

    fn reasons(before: Option<&MySQLClusterStatus>, after: &MySQLClusterStatus) -> Vec<&'static str> {
        turns(before, after)
            .into_iter()
            .map(|notice| notice.reason)
            .collect()
    }

    #[test]
    fn each_turn_is_told_once() {
        use ConditionType::{Provisioned, Ready};
        let waiting = status(&[
            (Ready, false, Reason::WaitingForInstances),
            (Provisioned, false, Reason::WaitingForInstances),
        ]);
        let forming = status(&[
            (Ready, false, Reason::Forming),
            (Provisioned, true, Reason::InstancesRunning),
        ]);
        let serving = status(&[
            (Ready, true, Reason::Replicating),
            (Provisioned, true, Reason::InstancesRunning),
        ]);
        assert_eq!(reasons(None, &waiting), ["WaitingForInstances"]);
        assert_eq!(reasons(Some(&waiting), &waiting), [""; 0]);
        assert_eq!(reasons(Some(&waiting), &forming), ["Provisioned"]);
        assert_eq!(reasons(Some(&forming), &serving), ["Ready"]);
        assert_eq!(reasons(Some(&serving), &serving), [""; 0]);
        assert_eq!(reasons(Some(&serving), &forming), ["NotReady"]);
    }
}
