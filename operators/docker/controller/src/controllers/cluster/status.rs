//! The status of a DockerCluster: a function of what was observed.

use std::collections::BTreeSet;

use docker_api::{ConditionType, DockerCluster, DockerClusterStatus, FailureDomain, Initialization, Reason};
use jiff::Timestamp;
use reconcile::{conditions::DesiredCondition, error::ReconcileError as _};

use super::Error;
use crate::{controllers, load_balancer::LoadBalancer};

/// After a look at the load balancer.
pub(super) fn observed(
    object: &DockerCluster,
    balancer: Result<&LoadBalancer, &Error>,
    now: Timestamp,
) -> DockerClusterStatus {
    let mut status = object.status.clone().unwrap_or_default();
    status.failure_domains = failure_domains(object);
    let available = match balancer {
        Ok(balancer) => {
            status.host_port = balancer.host_port.map(i32::from);
            if balancer.trouble.is_none() {
                // Never taken back: what was there once is healed, and its health is in the conditions.
                status.initialization = Some(Initialization {
                    provisioned: Some(true),
                });
                status.ready = Some(true);
            }
            available(object, balancer)
        }
        Err(error) => {
            let reason = Reason::ALL
                .iter()
                .find(|reason| reason.as_str() == error.reason());
            let reason = reason.copied().unwrap_or(Reason::NotAvailable);
            let message = reconcile::error::chain(error);
            controllers::condition(ConditionType::LoadBalancerAvailable, false, reason, message)
        }
    };
    let generation = object.metadata.generation;
    controllers::report(
        &mut status.conditions,
        &[available],
        [controllers::paused(false)],
        generation,
        now,
    );
    status
}

/// What there is to say of a load balancer that runs.
fn available(object: &DockerCluster, balancer: &LoadBalancer) -> DesiredCondition {
    let say = |holds: bool, reason, message: String| {
        controllers::condition(ConditionType::LoadBalancerAvailable, holds, reason, message)
    };
    if let Some(trouble) = &balancer.trouble {
        return say(false, Reason::NotAvailable, trouble.clone());
    }
    let notes = custom_template_note(object).into_iter();
    let notes: Vec<_> = notes.chain(balancer.notes.iter().map(String::as_str)).collect();
    say(true, Reason::Available, notes.join("; "))
}

/// How many machines a message names.
const NAMED: usize = 3;

/// While it is being removed; `staying` are the machines that go first.
pub(super) fn deleting(
    object: &DockerCluster,
    staying: &BTreeSet<String>,
    now: Timestamp,
) -> DockerClusterStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let message = if staying.is_empty() {
        "the load balancer is being removed".to_owned()
    } else {
        let mut named: Vec<_> = staying.iter().take(NAMED).map(String::as_str).collect();
        if staying.len() > NAMED {
            named.push("…");
        }
        format!(
            "{} DockerMachines must go first ({}); delete their Machines, or the Cluster",
            staying.len(),
            named.join(", ")
        )
    };
    let part = controllers::condition(
        ConditionType::LoadBalancerAvailable,
        false,
        Reason::Deleting,
        message,
    );
    controllers::report(
        &mut status.conditions,
        &[part],
        [],
        object.metadata.generation,
        now,
    );
    status
}

/// While it is paused: nothing is looked at, so nothing else is said.
pub(super) fn paused(object: &DockerCluster, now: Timestamp) -> DockerClusterStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let paused = controllers::paused(true);
    let _ = reconcile::conditions::set(&mut status.conditions, paused, object.metadata.generation, now);
    status
}

/// Sorted: Cluster API compares the list as a whole.
fn failure_domains(object: &DockerCluster) -> Vec<FailureDomain> {
    let mut domains = object.spec.failure_domains.clone();
    domains.sort_by(|a, b| a.name.cmp(&b.name));
    domains
}

fn custom_template_note(object: &DockerCluster) -> Option<&'static str> {
    let balancer = object.spec.load_balancer.as_ref()?;
    balancer.custom_ha_proxy_config_template_ref.as_ref()?;
    Some("customHAProxyConfigTemplateRef is not evaluated; the controller's own configuration is in use")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use docker_api::DockerClusterSpec;
    use reconcile::conditions::{self, READY};

    use super::*;
    use crate::load_balancer;

    fn object(domains: &[&str]) -> DockerCluster {
        let domain = |name: &&str| FailureDomain {
            name: (*name).to_owned(),
            ..FailureDomain::default()
        };
        let spec = DockerClusterSpec {
            failure_domains: domains.iter().map(domain).collect(),
            ..Default::default()
        };
        DockerCluster::new("c", spec)
    }

    const BALANCER: LoadBalancer = LoadBalancer {
        address: Ipv4Addr::new(172, 30, 128, 1),
        host_port: Some(30_001),
        trouble: None,
        notes: Vec::new(),
    };

    #[test]
    fn failure_domains_are_sorted_whatever_the_order_of_the_spec() {
        let status = observed(&object(&["b", "c", "a"]), Ok(&BALANCER), Timestamp::UNIX_EPOCH);
        let names: Vec<_> = status.failure_domains.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn provisioned_stays_when_the_load_balancer_is_in_trouble() {
        let mut object = object(&[]);
        let status = observed(&object, Ok(&BALANCER), Timestamp::UNIX_EPOCH);
        assert!(conditions::is_true(&status.conditions, READY));
        object.status = Some(status);
        let error = Error::from(load_balancer::Error::NoAddress("c_lb.ns".into()));
        let status = observed(&object, Err(&error), Timestamp::UNIX_EPOCH);
        assert_eq!(
            status.initialization,
            Some(Initialization {
                provisioned: Some(true)
            })
        );
        assert_eq!(status.host_port, Some(30_001));
        let ready = conditions::find(&status.conditions, READY).unwrap();
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_str()),
            ("False", "NotAvailable")
        );
    }

    #[test]
    fn a_load_balancer_where_nobody_looks_for_it_is_not_available_and_a_note_does_no_harm() {
        let noted = LoadBalancer {
            notes: vec!["one".into(), "two".into()],
            ..BALANCER
        };
        let status = observed(&object(&[]), Ok(&noted), Timestamp::UNIX_EPOCH);
        let available = |status: &DockerClusterStatus| {
            let found = conditions::find(&status.conditions, "LoadBalancerAvailable").unwrap();
            (found.status.clone(), found.message.clone())
        };
        assert_eq!(available(&status), ("True".into(), "one; two".into()));
        assert!(conditions::is_true(&status.conditions, READY));
        let moved = LoadBalancer {
            trouble: Some("it moved".into()),
            ..BALANCER
        };
        let status = observed(&object(&[]), Ok(&moved), Timestamp::UNIX_EPOCH);
        assert_eq!(available(&status), ("False".into(), "it moved".into()));
        assert_eq!(
            status.initialization, None,
            "nobody would reach the control plane"
        );
    }

    #[test]
    fn a_deletion_names_the_machines_that_it_waits_for() {
        let message = |machines: &[&str]| {
            let staying = machines.iter().map(|name| (*name).to_owned()).collect();
            let status = deleting(&object(&[]), &staying, Timestamp::UNIX_EPOCH);
            let ready = conditions::find(&status.conditions, READY).unwrap();
            assert_eq!(
                (ready.status.as_str(), ready.reason.as_str()),
                ("False", "Deleting")
            );
            ready.message.clone()
        };
        assert!(message(&[]).contains("load balancer"));
        assert!(message(&["b", "a"]).contains("2 DockerMachines must go first (a, b)"));
        assert!(message(&["d", "c", "b", "a"]).contains("(a, b, c, …)"));
    }

    #[test]
    fn the_same_observation_gives_the_same_status() {
        let mut object = object(&["a"]);
        let status = observed(&object, Ok(&BALANCER), Timestamp::UNIX_EPOCH);
        object.status = Some(status.clone());
        assert_eq!(observed(&object, Ok(&BALANCER), Timestamp::MAX), status);
    }
}
