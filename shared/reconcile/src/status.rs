//! Writing `status`: what was observed, and, apart from it, what is intended.
//!
//! Two field managers share the status of an object:
//! - `<controller>` reports. Once per pass, by server-side apply to `/status`, only when it differs. A report that
//!   somebody else's field keeps from coming true is sent once, not in every pass. It carries the resourceVersion that the
//!   pass knows, so that one that arrives late, from a leader that is none any more, does not undo what its successor
//!   reported. Where others have changed the object and nobody has reported, it is sent again over their change.
//! - `<controller>-intent` records what is about to be done, *before* it is done, with the resourceVersion of the
//!   object that the decision was made from; a 409 means that the decision is stale and the pass is abandoned.
//!
//! Because a server-side apply removes the fields that its manager owned and no longer sends, the two must not name
//! the same fields: intent lives under the top-level fields that
//! [`Reconciler::INTENT_FIELDS`](crate::Reconciler::INTENT_FIELDS) lists, and a report never contains those. Both in use: see
//! [`Reconciler`](crate::Reconciler#example) and [`Pass::write_status`](crate::Pass::write_status).

use kube::{ResourceExt as _, api::PatchParams};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{reconciler::Kind, sabotage};

/// A status to report, beside the one that the object has. Absent and null fields are the same; intent is left aside.
pub(crate) struct Report {
    pub(crate) desired: Value,
    pub(crate) current: Value,
}

impl Report {
    pub(crate) fn of<K: Kind>(
        object: &K,
        desired: &impl Serialize,
        intent_fields: &[&str],
    ) -> Result<Self, serde_json::Error> {
        let mut desired = without_nulls(serde_json::to_value(desired)?);
        let mut current = without_nulls(
            serde_json::to_value(object)?
                .get("status")
                .cloned()
                .unwrap_or(Value::Null),
        );
        for status in [&mut desired, &mut current] {
            if let Value::Object(fields) = status {
                for name in intent_fields {
                    fields.remove(*name);
                }
            }
        }
        if current.is_null() {
            current = json!({});
        }
        Ok(Self { desired, current })
    }

    pub(crate) fn differs(&self) -> bool {
        self.desired != self.current || sabotage::active(sabotage::WRITE_EQUAL_STATUS)
    }

    /// The request that writes it.
    pub(crate) fn patch<K: Kind>(&self, object: &K) -> Value {
        apply_body(object, &self.desired, !sabotage::active(sabotage::REPORT_LATE))
    }
}

/// The patch that records `intent`, conditional on `object` being the current one.
pub(crate) fn intend<K: Kind>(object: &K, intent: &impl Serialize) -> Result<Value, serde_json::Error> {
    Ok(apply_body(
        object,
        &without_nulls(serde_json::to_value(intent)?),
        !sabotage::active(sabotage::TRUST_STALE_INTENT),
    ))
}

/// Server-side apply as `manager`. Forced: within their fields our managers are the only owners.
pub(crate) fn apply_params(manager: &str) -> PatchParams {
    PatchParams::apply(manager).force()
}

fn apply_body<K: Kind>(object: &K, status: &Value, conditional: bool) -> Value {
    let mut metadata = json!({
        "name": object.name_any(),
        "namespace": object.namespace(),
        // Preconditions: the object of this name may have been deleted and created again.
        "uid": object.meta().uid,
    });
    if conditional {
        metadata["resourceVersion"] = json!(object.resource_version());
    }
    json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": metadata,
        "status": status,
    })
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields
                .into_iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k, without_nulls(v)));
            Value::Object(kept.collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "7"},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn an_equal_status_is_not_written_again() {
        let object = pod(&json!({"phase": "Running", "message": "intended"}));
        let same = json!({"phase": "Running", "reason": null});
        assert!(!Report::of(&object, &same, &["message"]).unwrap().differs());
        let report = Report::of(&object, &json!({"phase": "Failed"}), &["message"]).unwrap();
        assert!(report.differs());
        let patch = report.patch(&object);
        assert_eq!(patch["status"], json!({"phase": "Failed"}));
        assert_eq!(
            patch["metadata"],
            json!({"name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "7"})
        );
    }

    #[test]
    fn a_field_that_is_no_longer_true_is_a_difference() {
        let object = pod(&json!({"phase": "Running", "reason": "Old"}));
        assert!(
            Report::of(&object, &json!({"phase": "Running"}), &[])
                .unwrap()
                .differs()
        );
    }

    #[test]
    fn intent_is_conditional_on_the_object_it_was_planned_from() {
        let patch = intend(&pod(&Value::Null), &json!({"launch": {"token": "t"}})).unwrap();
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["status"], json!({"launch": {"token": "t"}}));
    }
}
