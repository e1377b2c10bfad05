use std::net::Ipv4Addr;

use docker_api::DockerMachineSpec;
use reconcile::conditions::READY;

use super::*;
use crate::engine::{ContainerState, EngineError, Failure};

fn object() -> DockerMachine {
    let mut object = DockerMachine::new("m", DockerMachineSpec::default());
    object.metadata.namespace = Some("ns".into());
    object
}

fn running(bootstrap: Bootstrap) -> Picture {
    let address = ("kind".to_owned(), Ipv4Addr::new(172, 30, 128, 1));
    let container = Container {
        state: ContainerState::Running,
        addresses: [address].into(),
        ..Container::default()
    };
    Picture {
        step: Some(Step::Proceed),
        container: Some(container),
        balanced: false,
        bootstrap,
        is_paused: false,
        failure_domain: Some("fd".into()),
    }
}

fn told(status: &DockerMachineStatus, type_: &str) -> (String, String) {
    let condition = conditions::find(&status.conditions, type_).unwrap();
    (condition.status.clone(), condition.reason.clone())
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.into(), reason.into())
}

#[test]
fn provisioned_does_not_wait_for_the_bootstrap_and_ready_does() {
    let status = observed(
        &object(),
        &running(Bootstrap::Running {
            step: "3 of 5: x".into(),
        }),
        None,
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(
        status.initialization,
        Some(Initialization {
            provisioned: Some(true)
        })
    );
    assert_eq!(told(&status, "ContainerProvisioned"), pair("True", "Provisioned"));
    assert_eq!(told(&status, READY), pair("False", "Bootstrapping"));
    assert_eq!(status.failure_domain.as_deref(), Some("fd"));
    let kinds: Vec<_> = status.addresses.iter().map(|address| address.kind).collect();
    assert_eq!(
        kinds,
        [
            AddressType::Hostname,
            AddressType::InternalIp,
            AddressType::ExternalIp
        ]
    );
}

#[test]
fn both_names_of_the_bootstrap_say_the_same() {
    let bootstrap = Bootstrap::Ended {
        reason: Reason::Failed,
        message: "why".into(),
        output: "secret".into(),
    };
    let status = observed(&object(), &running(bootstrap), None, Timestamp::UNIX_EPOCH);
    assert_eq!(told(&status, "BootstrapCompleted"), pair("False", "Failed"));
    assert_eq!(told(&status, "BootstrapExecSucceeded"), pair("False", "Failed"));
    assert!(!serde_json::to_string(&status).unwrap().contains("secret"));
}

#[test]
fn how_a_bootstrap_ended_is_remembered_by_the_status_alone() {
    for bootstrap in [
        Bootstrap::Completed {
            ignored: vec!["ntp".into(), "mounts".into()],
        },
        Bootstrap::Completed { ignored: Vec::new() },
        Bootstrap::Ended {
            reason: Reason::Interrupted,
            message: "why".into(),
            output: String::new(),
        },
    ] {
        let mut object = object();
        let status = observed(&object, &running(bootstrap), None, Timestamp::UNIX_EPOCH);
        object.status = Some(status.clone());
        let remembered = known_bootstrap(&object).unwrap();
        assert_eq!(
            observed(&object, &running(remembered), None, Timestamp::MAX),
            status
        );
        // A pass that could not look at the container does not forget it either.
        let error = Error::from(EngineError {
            kind: Failure::Unavailable,
            action: "x".into(),
            message: "y".into(),
        });
        let blind = observed(&object, &Picture::default(), Some(&error), Timestamp::UNIX_EPOCH);
        assert_eq!(
            told(&blind, "BootstrapCompleted"),
            told(&status, "BootstrapCompleted")
        );
        assert_eq!(told(&blind, READY), pair("False", "DockerUnavailable"));
        assert_eq!(blind.addresses, status.addresses);
        // What is published runs on, for all that is known.
        let mut published = object.clone();
        published.spec.provider_id = Some("docker:////x".into());
        let blind = observed(
            &published,
            &Picture::default(),
            Some(&error),
            Timestamp::UNIX_EPOCH,
        );
        let unknown = pair("Unknown", "DockerUnavailable");
        assert_eq!(told(&blind, "ContainerProvisioned"), unknown);
    }
}

#[test]
fn bad_bootstrap_data_is_tried_again_once_it_changes() {
    let mut object = object();
    let bootstrap = Bootstrap::Ended {
        reason: Reason::BootstrapDataInvalid,
        message: "why".into(),
        output: String::new(),
    };
    object.status = Some(observed(
        &object,
        &running(bootstrap),
        None,
        Timestamp::UNIX_EPOCH,
    ));
    assert!(known_bootstrap(&object).is_none());
}

#[test]
fn an_image_that_is_missing_stays_told_while_the_bootstrap_begins_again() {
    let mut object = object();
    let error = Error::from(EngineError {
        kind: Failure::Image,
        action: "copy image x".into(),
        message: "it is not on the Docker host".into(),
    });
    let begins = || running(Bootstrap::Running { step: String::new() });
    let refused = observed(&object, &begins(), Some(&error), Timestamp::UNIX_EPOCH);
    let missing = pair("False", "ImageUnavailable");
    assert_eq!(told(&refused, "BootstrapCompleted"), missing);
    object.status = Some(refused.clone());
    let again = observed(&object, &begins(), None, Timestamp::MAX);
    assert_eq!(again.conditions, refused.conditions);
    let step = "1 of 5: x".into();
    let goes_on = observed(
        &object,
        &running(Bootstrap::Running { step }),
        None,
        Timestamp::MAX,
    );
    assert_eq!(
        told(&goes_on, "BootstrapCompleted"),
        pair("False", "Bootstrapping")
    );
}

#[test]
fn a_container_that_is_gone_is_told_from_one_that_is_stopped() {
    let picture = |step| Picture {
        step: Some(step),
        ..Picture::default()
    };
    let mut object = object();
    object.spec.provider_id = Some("docker:////m.ns".into());
    let of = |object: &DockerMachine, step| {
        let status = observed(object, &picture(step), None, Timestamp::UNIX_EPOCH);
        conditions::find(&status.conditions, READY)
            .unwrap()
            .message
            .clone()
    };
    assert!(of(&object, Step::Lost).contains("m.ns does not exist any more"));
    assert!(of(&object, Step::Stopped).contains("m.ns is not running"));
    // Upstream's provider names its containers otherwise, and they may well be there.
    object.spec.provider_id = Some("docker:////c1-m".into());
    assert!(of(&object, Step::Lost).contains("another provider has made this machine (docker:////c1-m)"));
}
