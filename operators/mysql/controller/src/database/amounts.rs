//! CPU and memory of containers: what the spec gives to the server, and what a Job beside it asks for.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity};
use mysql_api::database::{Reason, ResourceAmounts, Resources};

use super::{desired::SpecError, size};

/// What a program that runs beside its server asks for, unless the server has less.
const LITTLE: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "256Mi")];

type Quantities = BTreeMap<String, Quantity>;

/// CPU and memory that were found to be amounts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amounts(Option<ResourceRequirements>);

impl Amounts {
    /// What `given` says.
    ///
    /// # Errors
    /// The first that is no amount.
    pub fn of(given: Option<&Resources>) -> Result<Self, SpecError> {
        let Some(given) = given else { return Ok(Self(None)) };
        Ok(Self(Some(ResourceRequirements {
            requests: amounts("requests", given.requests.as_ref())?,
            limits: amounts("limits", given.limits.as_ref())?,
            ..ResourceRequirements::default()
        })))
    }

    /// As a container has them. Every container of ours does: a quota refuses a Pod of which one has none.
    pub(super) fn requirements(&self) -> Option<ResourceRequirements> {
        self.0.clone()
    }

    /// For what runs while the server does, which keeps its own: it may take as much, and asks for little, so that a node
    /// or a quota need not have room for two servers.
    pub(super) fn beside(&self) -> Self {
        self.with(smaller, |limit, _| limit.clone())
    }

    /// The least that such a program can do with: nothing is kept for it, and it may take only little.
    #[must_use]
    pub fn least(&self) -> Self {
        self.with(|_, _| Quantity("0".to_owned()), smaller)
    }

    /// Whether less can be asked for.
    pub fn can_be_less(&self) -> bool {
        self.0.is_some() && self.beside() != self.least()
    }

    /// With other requests and limits wherever there are such. What is only limited is asked for as well.
    fn with(
        &self,
        request: impl Fn(&Quantity, &str) -> Quantity,
        limit: impl Fn(&Quantity, &str) -> Quantity,
    ) -> Self {
        let Some(given) = &self.0 else { return Self(None) };
        let of = |all: Option<&Quantities>, name: &str| all.and_then(|all| all.get(name).cloned());
        let (asked, limited) = (given.requests.as_ref(), given.limits.as_ref());
        let (mut requests, mut limits) = (Quantities::new(), Quantities::new());
        for (name, little) in LITTLE {
            let limit_of = of(limited, name);
            if let Some(amount) = of(asked, name).or_else(|| limit_of.clone()) {
                requests.insert(name.to_owned(), request(&amount, little));
            }
            if let Some(amount) = limit_of {
                limits.insert(name.to_owned(), limit(&amount, little));
            }
        }
        Self(Some(ResourceRequirements {
            requests: Some(requests).filter(|all| !all.is_empty()),
            limits: Some(limits).filter(|all| !all.is_empty()),
            ..ResourceRequirements::default()
        }))
    }
}

/// The smaller of two amounts.
fn smaller(given: &Quantity, little: &str) -> Quantity {
    let (one, other) = (size::thousandths(&given.0), size::thousandths(little));
    if one.is_some() && one <= other {
        given.clone()
    } else {
        Quantity(little.to_owned())
    }
}

fn amounts(field: &str, given: Option<&ResourceAmounts>) -> Result<Option<Quantities>, SpecError> {
    let Some(given) = given else { return Ok(None) };
    let mut amounts = Quantities::new();
    for (name, text) in [("cpu", &given.cpu), ("memory", &given.memory)] {
        let Some(text) = text else { continue };
        if size::bytes(text).is_none() {
            return Err(SpecError {
                reason: Reason::SizeInvalid,
                message: format!(
                    "resources.{field}.{name}: {text:?} is no amount; write one such as 500m or 1Gi"
                ),
            });
        }
        amounts.insert(name.to_owned(), Quantity(text.clone()));
    }
    Ok(Some(amounts))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn given(amounts: &Value) -> Amounts {
        Amounts::of(Some(&serde_json::from_value(amounts.clone()).unwrap())).unwrap()
    }

    fn told(amounts: &Amounts) -> Value {
        serde_json::to_value(amounts.requirements()).unwrap()
    }

    #[rstest]
    #[case::of_a_server(
        json!({"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}),
        json!({"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "4Gi"}}),
        json!({"requests": {"cpu": "0", "memory": "0"}, "limits": {"memory": "256Mi"}})
    )]
    #[case::of_a_small_server(
        json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "0.09", "memory": "128Mi"}}),
        json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "0.09", "memory": "128Mi"}}),
        json!({"requests": {"cpu": "0", "memory": "0"}, "limits": {"cpu": "0.09", "memory": "128Mi"}})
    )]
    #[case::of_one_that_is_only_limited(
        json!({"limits": {"cpu": "1", "memory": "200Mi"}}),
        json!({"requests": {"cpu": "100m", "memory": "200Mi"}, "limits": {"cpu": "1", "memory": "200Mi"}}),
        json!({"requests": {"cpu": "0", "memory": "0"}, "limits": {"cpu": "100m", "memory": "200Mi"}})
    )]
    fn beside_a_server_little_is_asked_for_and_at_the_least_nothing(
        #[case] server: Value,
        #[case] beside: Value,
        #[case] least: Value,
    ) {
        let server = given(&server);
        assert_eq!(told(&server.beside()), beside);
        assert_eq!(told(&server.least()), least);
        assert_eq!(told(&server.least().beside()), least, "a Job may be made of it");
        assert!(server.can_be_less() && !server.least().can_be_less());
    }

    #[test]
    fn of_nothing_there_is_no_less() {
        for none in [
            Amounts::default(),
            given(&json!({})),
            given(&json!({"limits": {}})),
        ] {
            assert!(!none.can_be_less(), "{none:?}");
        }
    }
}
