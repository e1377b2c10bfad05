//! Whether what a controller says about a child stands in the child as it is.
//!
//! The API server adds defaults, drops what is empty, writes quantities anew, and lets others extend lists. None of
//! these is a difference. What this controller said before and says no longer is not seen here: that shows in the digest.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use crate::reconciler::Kind;

/// Fields that tell the items of a list apart, as the API's merge keys do; the first one that the item has counts.
const KEYS: [&str; 9] = [
    "name",
    "mountPath",
    "devicePath",
    "containerPort",
    "port",
    "key",
    "uid",
    "type",
    "topologyKey",
];

/// Fields whose values are quantities by name.
const QUANTITIES: [&str; 6] = ["limits", "requests", "capacity", "hard", "sizeLimit", "storage"];

/// Whether everything that `desired` says stands in `live`.
pub(super) fn is_covered<C: Kind>(desired: &C, live: &C) -> bool {
    match (serde_json::to_value(desired), serde_json::to_value(live)) {
        (Ok(mut desired), Ok(live)) => {
            store_strings(&mut desired);
            covers(&live, &desired, false)
        }
        _ => false,
    }
}

/// A Secret's `stringData` is written only: the server keeps it as `data`.
fn store_strings(object: &mut Value) {
    let Some(Value::Object(strings)) = object
        .as_object_mut()
        .and_then(|fields| fields.remove("stringData"))
    else {
        return;
    };
    if !object["data"].is_object() {
        object["data"] = Value::Object(Map::new());
    }
    for (key, value) in strings {
        object["data"][key] = STANDARD.encode(value.as_str().unwrap_or_default()).into();
    }
}

/// `quantity`: strings may be the same amount written otherwise.
fn covers(live: &Value, desired: &Value, quantity: bool) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired.iter().all(|(key, value)| {
            let quantity = quantity || QUANTITIES.contains(&key.as_str());
            match live.get(key) {
                Some(live) => covers(live, value, quantity),
                None => is_empty(value),
            }
        }),
        (Value::Array(live), Value::Array(desired)) => lists(live, desired, quantity),
        (Value::String(live), Value::String(desired)) => {
            live == desired || quantity && amount(live).is_some() && amount(live) == amount(desired)
        }
        (live, desired) => live == desired || is_empty(live) && is_empty(desired),
    }
}

/// Lists of items with a key are sets that others may add to; all other lists are one value.
fn lists(live: &[Value], desired: &[Value], quantity: bool) -> bool {
    let key = |item: &Value| {
        KEYS.into_iter()
            .find(|key| item.get(key).is_some_and(|value| !value.is_null()))
    };
    if !desired.is_empty() && desired.iter().all(|item| key(item).is_some()) {
        return desired.iter().all(|item| {
            let key = key(item).unwrap_or_default();
            // Two ports of one number differ in their protocol: any item of the key that covers will do.
            live.iter()
                .any(|other| other.get(key) == item.get(key) && covers(other, item, quantity))
        });
    }
    live.len() == desired.len()
        && live
            .iter()
            .zip(desired)
            .all(|(live, desired)| covers(live, desired, quantity))
}

/// What the server leaves out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// A Kubernetes quantity in thousandths; `None` for what is none, or too large to compare.
fn amount(text: &str) -> Option<i128> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let thousandths: i128 = match suffix {
        "m" => 1,
        "" => 1000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = digits.checked_mul(thousandths)?;
    (scaled % scale == 0).then(|| scaled / scale)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn covered(live: &Value, desired: &Value) -> bool {
        covers(live, desired, false)
    }

    #[test]
    fn defaults_of_the_server_are_no_difference_but_changes_are() {
        let live = json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}], "type": "ClusterIP"}});
        assert!(covered(
            &live,
            &json!({"spec": {"ports": [{"port": 80}], "x": null}})
        ));
        assert!(!covered(&live, &json!({"spec": {"ports": [{"port": 81}]}})));
        assert!(!covered(&live, &json!({"spec": {"ports": []}})));
    }

    #[test]
    fn what_is_empty_may_be_absent() {
        let desired = json!({"data": {}, "readOnly": false, "args": [], "x": {"y": null}, "text": ""});
        assert!(covered(&json!({}), &desired));
        assert!(!covered(&json!({}), &json!({"replicas": 0})));
        assert!(!covered(&json!({"readOnly": true}), &json!({"readOnly": false})));
    }

    #[test]
    fn quantities_are_amounts() {
        let live = json!({"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}});
        assert!(covered(
            &live,
            &json!({"resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}}})
        ));
        assert!(!covered(
            &live,
            &json!({"resources": {"limits": {"cpu": "1001m"}}})
        ));
        assert!(!covered(
            &json!({"labels": {"n": "1"}}),
            &json!({"labels": {"n": "1000m"}})
        ));
        assert_eq!(amount("0.5"), amount("500m"));
        assert_eq!(amount("1.5Gi"), amount("1536Mi"));
        assert_eq!(amount("five"), None);
    }

    #[test]
    fn others_may_add_items_that_have_a_key() {
        let live =
            json!({"volumes": [{"name": "token"}, {"name": "data", "emptyDir": {}}], "args": ["a", "b"]});
        assert!(covered(&live, &json!({"volumes": [{"name": "data"}]})));
        assert!(!covered(&live, &json!({"volumes": [{"name": "gone"}]})));
        assert!(
            !covered(&live, &json!({"args": ["a"]})),
            "a list without keys is one value"
        );
        let ports = json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]);
        assert!(covered(&ports, &json!([{"port": 53, "protocol": "TCP"}])));
    }

    #[test]
    fn strings_of_a_secret_are_compared_as_they_are_stored() {
        let mut desired = json!({"stringData": {"password": "x"}});
        store_strings(&mut desired);
        assert!(covered(&json!({"data": {"password": "eA=="}}), &desired));
        assert!(!covered(&json!({"data": {"password": "eQ=="}}), &desired));
    }
}
