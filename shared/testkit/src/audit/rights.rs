//! Whether an account was granted what it needs and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::Event;

/// What a role grants where it is bound: the namespace, or nothing for all of them; the group and the resource with its
/// subresource (`apps/deployments/status`); and the verb.
type Right = (String, String, String);

/// The rights of an account beside the requests that it made with them; displayed as a table.
#[derive(Debug)]
pub struct Rights {
    granted: BTreeSet<Right>,
    /// How often each was used.
    used: BTreeMap<Right, usize>,
    /// Requests that were answered with 403.
    refused: Vec<String>,
    /// Resources whose rights nothing here asks for.
    elsewhere: &'static [&'static str],
}

impl Rights {
    /// Compares what rules grant with the `requests` of the account that has them, each with the namespace in which it has
    /// them; nothing for all. A request counts for the rules of its own namespace, if they allow it. The rights to the
    /// resources `elsewhere` (`apps/deployments/finalizers`) are asked for by what the API server does not run here.
    pub fn of(
        rules: impl IntoIterator<Item = (String, Vec<PolicyRule>)>,
        requests: &[Event],
        elsewhere: &'static [&'static str],
    ) -> Self {
        let granted = granted(rules);
        let mut used = BTreeMap::new();
        for mut right in requests.iter().filter_map(needed) {
            if !granted.contains(&right) {
                right.0.clear();
            }
            *used.entry(right).or_default() += 1;
        }
        let refused = requests.iter().filter(|event| event.code() == 403);
        Self {
            granted,
            used,
            refused: refused.map(|event| format!("{event:?}")).collect(),
            elsewhere,
        }
    }

    /// Nothing was refused, and every right was used.
    ///
    /// # Errors
    /// The requests that were refused, and the rights that nothing needed.
    pub fn prove(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.refused.is_empty(),
            "more is needed: {}",
            self.refused.join("\n")
        );
        let needless: Vec<_> = self
            .granted
            .iter()
            .filter(|right| !self.used.contains_key(*right) && !self.is_elsewhere(right))
            .collect();
        anyhow::ensure!(needless.is_empty(), "granted and not needed: {needless:?}");
        Ok(())
    }

    fn is_elsewhere(&self, (_, resource, _): &Right) -> bool {
        self.elsewhere.contains(&resource.as_str())
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<62} {:<8} {:<20} requests", "resource", "verb", "where")?;
        for right in &self.granted {
            let times = match self.used.get(right) {
                Some(times) => times.to_string(),
                None if self.is_elsewhere(right) => "(by a plugin that does not run here)".to_owned(),
                None => "none".to_owned(),
            };
            let (place, resource, verb) = right;
            let place = if place.is_empty() { "everywhere" } else { place };
            writeln!(f, "{resource:<62} {verb:<8} {place:<20} {times}")?;
        }
        write!(
            f,
            "{} rights, {} requests refused",
            self.granted.len(),
            self.refused.len()
        )
    }
}

/// The right that a request needs; nothing for a path outside the resources.
fn needed(event: &Event) -> Option<Right> {
    let object = event.object_ref.as_ref()?;
    let mut resource = format!("{}/{}", object.api_group, object.resource);
    if !object.subresource.is_empty() {
        resource = format!("{resource}/{}", object.subresource);
    }
    Some((object.namespace.clone(), resource, event.verb.clone()))
}

fn granted(rules: impl IntoIterator<Item = (String, Vec<PolicyRule>)>) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for (place, rules) in rules {
        for rule in rules {
            for group in rule.api_groups.iter().flatten() {
                for resource in rule.resources.iter().flatten() {
                    let verbs = rule.verbs.iter().cloned();
                    rights.extend(verbs.map(|verb| (place.clone(), format!("{group}/{resource}"), verb)));
                }
            }
        }
    }
    rights
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(verbs: &[&str]) -> PolicyRule {
        let resources = ["deployments", "deployments/status"];
        let rule = json!({"apiGroups": ["apps"], "resources": resources, "verbs": verbs});
        serde_json::from_value(rule).unwrap()
    }

    fn requests(requests: &[(&str, &str, u16)]) -> Vec<Event> {
        let event = |(place, verb, code): &(&str, &str, u16)| {
            json!({
                "requestReceivedTimestamp": "2026-01-01T00:00:00Z", "verb": verb, "requestURI": "/x", "user": {},
                "stage": "ResponseComplete", "responseStatus": {"code": code},
                "objectRef": {"resource": "deployments", "apiGroup": "apps", "namespace": place},
            })
        };
        requests
            .iter()
            .map(|request| serde_json::from_value(event(request)).unwrap())
            .collect()
    }

    fn rights(verbs: &[&str], made: &[(&str, u16)]) -> Rights {
        let made: Vec<_> = made.iter().map(|(verb, code)| ("a", *verb, *code)).collect();
        let everywhere = (String::new(), vec![rule(verbs)]);
        Rights::of([everywhere], &requests(&made), &["apps/deployments/status"])
    }

    #[test]
    fn what_is_used_in_one_namespace_is_not_needed_in_another() {
        let proved = |made: &[(&str, &str, u16)]| {
            let places = ["", "own", "served"].map(|place| (place.to_owned(), vec![rule(&["get"])]));
            Rights::of(places, &requests(made), &["apps/deployments/status"]).prove()
        };
        proved(&[("own", "get", 200), ("served", "get", 200), ("", "get", 200)]).unwrap();
        // Whatever is granted in the namespace itself is not granted everywhere for it.
        let told = proved(&[("own", "get", 200), ("own", "get", 200), ("other", "get", 200)]);
        let told = told.unwrap_err().to_string();
        assert!(told.contains("served") && !told.contains("own"), "{told}");
    }

    #[test]
    fn what_was_used_is_needed_and_what_was_not_is_too_much() {
        let enough = rights(&["get", "patch"], &[("get", 200), ("get", 404), ("patch", 200)]);
        enough.prove().unwrap();
        let table = enough.to_string();
        let line = |verb: &str| table.lines().find(|line| line.contains(verb)).unwrap().to_owned();
        assert!(
            line("get").ends_with(" 2") && line("patch").ends_with(" 1"),
            "{table}"
        );
        assert!(table.ends_with("4 rights, 0 requests refused"), "{table}");

        let told = rights(&["get", "patch"], &[("get", 200)]).prove().unwrap_err();
        assert!(told.to_string().starts_with("granted and not needed"), "{told}");
        let told = rights(&["get"], &[("get", 200), ("list", 403)])
            .prove()
            .unwrap_err();
        assert!(told.to_string().starts_with("more is needed"), "{told}");
    }
}
