//! Writing `status`: what was observed, and, apart from it, what is intended.
//!
//! Two field managers share the status of an object:
//! - `<controller>` reports. Once per pass, by server-side apply to `/status`, only when it differs.
//! - `<controller>-intent` records what is about to be done, *before* it is done, with the resourceVersion of the
//!   object that the decision was made from; a 409 means that the decision is stale and the pass is abandoned.
//!
//! Because a server-side apply removes the fields that its manager owned and no longer sends, the two must not name
//! the same fields: intent lives under the top-level fields that
//! [`Reconciler::INTENT_FIELDS`](crate::Reconciler::INTENT_FIELDS) lists, and a report never contains those.

use kube::{ResourceExt as _, api::PatchParams};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{reconciler::Kind, sabotage};

/// The patch that reports `desired`, or nothing if `object` already says so.
///
/// Absent and null fields are the same. The comparison leaves `intent_fields` aside.
pub(crate) fn report<K: Kind>(
    object: &K,
    desired: &impl Serialize,
    intent_fields: &[&str],
) -> Result<Option<Value>, serde_json::Error> {
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
    let differs = desired != current || sabotage::active(sabotage::WRITE_EQUAL_STATUS);
    Ok(differs.then(|| apply_body(object, &desired, false)))
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
        // A precondition: the object of this name may have been deleted and created again.
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
        assert_eq!(report(&object, &same, &["message"]).unwrap(), None);
        let patch = report(&object, &json!({"phase": "Failed"}), &["message"])
            .unwrap()
            .unwrap();
        assert_eq!(patch["status"], json!({"phase": "Failed"}));
        assert_eq!(
            patch["metadata"],
            json!({"name": "p", "namespace": "ns", "uid": "u"})
        );
    }

    #[test]
    fn a_field_that_is_no_longer_true_is_a_difference() {
        let object = pod(&json!({"phase": "Running", "reason": "Old"}));
        assert!(
            report(&object, &json!({"phase": "Running"}), &[])
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn intent_is_conditional_on_the_object_it_was_planned_from() {
        let patch = intend(&pod(&Value::Null), &json!({"launch": {"token": "t"}})).unwrap();
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["status"], json!({"launch": {"token": "t"}}));
    }
}
