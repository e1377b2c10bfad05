use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use mysql_api::MySQLSpec;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::database::{desired::Owner, job};

fn desired(changes: &Value) -> Desired {
    let mut spec = json!({
        "image": "mysql:9.7", "database": "shop", "password": "s3cret-in-clear", "storage_size": "1Gi",
    });
    for (key, value) in changes.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let spec: MySQLSpec = serde_json::from_value(spec).unwrap();
    let owner = Owner {
        namespace: "ns",
        name: "m",
        uid: "u",
    };
    Desired::resolve(owner, &spec).unwrap()
}

#[test]
fn only_the_servers_pod_carries_the_label_that_users_look_for() {
    let desired = desired(&json!({}));
    let deployment = deployment(&desired, "r").spec.unwrap();
    let labels = deployment.template.metadata.unwrap().labels.unwrap();
    assert_eq!(labels[APP], "m");
    for (key, value) in deployment.selector.match_labels.unwrap() {
        assert_eq!(labels[&key], value);
    }
    for (key, value) in service(&desired).spec.unwrap().selector.unwrap() {
        assert_eq!(labels[&key], value);
    }
    let request = job::Request::Now("1".into());
    for job in [
        job::restore(&desired, "claim"),
        job::backup(&desired, &request, Timestamp::UNIX_EPOCH, None),
    ] {
        let labels = job.spec.unwrap().template.metadata.unwrap().labels.unwrap();
        assert!(!labels.contains_key(APP), "{labels:?}");
    }
}

#[test]
fn a_server_ends_before_the_next_one_starts_and_never_without_a_filled_folder() {
    let spec = deployment(&desired(&json!({})), "r").spec.unwrap();
    assert_eq!(spec.strategy.unwrap().type_.as_deref(), Some("Recreate"));
    assert_eq!(spec.replicas, Some(1));
    let pod = spec.template.spec.unwrap();
    let first = &pod.init_containers.unwrap()[0];
    assert_eq!(first.command, Some(program::command(program::GUARD)));
    assert_eq!(pod.automount_service_account_token, Some(false));
}

/// The images that Oracle publishes itself include no folder of options.
#[rstest]
#[case::official("mysql:8.4", true, false)]
#[case::oracles("mysql/mysql-server:8.0", true, true)]
#[case::oracles_without_options("mysql/mysql-server:8.0", false, false)]
fn options_are_read_by_every_image(#[case] image: &str, #[case] has_options: bool, #[case] is_told: bool) {
    let config = if has_options {
        json!({"max_connections": "7"})
    } else {
        json!({})
    };
    let desired = desired(&json!({"image": image, "config": config}));
    let told = format!("--defaults-extra-file={CONFIG_FOLDER}/{CONFIG_FILE}");
    let server = deployment(&desired, "r").spec.unwrap().template.spec.unwrap();
    let arguments = server.containers[0].args.clone().unwrap();
    // mysqld takes it in no other place.
    assert_eq!(
        arguments.iter().position(|one| *one == told),
        is_told.then_some(0)
    );
    let restore = job::restore(&desired, "c").spec.unwrap().template.spec.unwrap();
    let variables = restore.containers[0].env.clone().unwrap();
    let given = variables
        .iter()
        .find(|one| one.name == "CONFIG_ARGUMENT")
        .unwrap();
    assert_eq!(
        given.value.as_deref(),
        Some(if is_told { told.as_str() } else { "" })
    );
}

/// Of everything that the restricted Pod Security Standard asks of a Pod.
fn is_restricted(pod: &PodSpec) -> bool {
    let whole = pod.security_context.as_ref().unwrap();
    let profile = whole.seccomp_profile.as_ref().unwrap();
    let (none, given) = (pod.init_containers.iter().flatten(), &pod.containers);
    whole.run_as_non_root == Some(true)
        && whole.run_as_user.is_some_and(|user| user > 0)
        && profile.type_ == "RuntimeDefault"
        && none.chain(given).all(|container| {
            let own = container.security_context.as_ref().unwrap();
            let capabilities = own.capabilities.as_ref();
            own.allow_privilege_escalation == Some(false)
                && capabilities.and_then(|of| of.drop.as_deref()) == Some(&["ALL".to_owned()])
                && own.privileged.is_none()
        })
}

#[test]
fn every_pod_is_restricted_and_its_volumes_belong_to_its_group() {
    let pods = |user: Value| {
        let desired = desired(&user);
        let template = |job: Job| job.spec.unwrap().template.spec.unwrap();
        [
            deployment(&desired, "r").spec.unwrap().template.spec.unwrap(),
            template(job::restore(&desired, "claim")),
            template(job::backup(
                &desired,
                &job::Request::Now("1".into()),
                Timestamp::UNIX_EPOCH,
                None,
            )),
        ]
    };
    for (asked, user) in [(json!({}), 999), (json!({"runAsUser": 1001}), 1001)] {
        for pod in pods(asked) {
            assert!(is_restricted(&pod), "{pod:?}");
            let whole = pod.security_context.unwrap();
            assert_eq!((whole.run_as_user, whole.fs_group), (Some(user), Some(user)));
        }
    }
    for pod in pods(json!({"runAsUser": 0})) {
        assert!(!is_restricted(&pod));
    }
}

/// A quota on memory refuses a Pod of which one container has no amounts.
#[test]
fn every_container_has_the_amounts_that_the_spec_gives() {
    let amounts = json!({"limits": {"memory": "1Gi"}, "requests": {"cpu": "100m"}});
    let desired = desired(&json!({"resources": amounts}));
    let template = |job: Job| job.spec.unwrap().template.spec.unwrap();
    let server = deployment(&desired, "r").spec.unwrap().template.spec.unwrap();
    let request = job::Request::Now("1".into());
    for pod in [
        server,
        template(job::restore(&desired, "claim")),
        template(job::backup(&desired, &request, Timestamp::UNIX_EPOCH, None)),
    ] {
        for container in pod.init_containers.iter().flatten().chain(&pod.containers) {
            let given = serde_json::to_value(&container.resources).unwrap();
            // Of what is only limited a backup asks for some, too.
            assert_eq!(given["limits"], amounts["limits"], "{}", container.name);
            assert_eq!(given["requests"]["cpu"], "100m", "{}", container.name);
        }
    }
}

#[test]
fn what_ended_a_server_is_said() {
    let server = deployment(&desired(&json!({})), "r")
        .spec
        .unwrap()
        .template
        .spec
        .unwrap();
    let policy = server.containers[0].termination_message_policy.as_deref();
    assert_eq!(policy, Some("FallbackToLogsOnError"));
    let ended = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    let container = json!({"name": "mysql", "image": "i", "imageID": "i", "ready": false, "restartCount": 1,
                           "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended});
    let pod = json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [container]}});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let said = trouble(&pod).unwrap();
    assert!(said.contains("status 137 (OOMKilled)"), "{said}");
}

#[test]
fn another_password_and_other_options_restart_the_server_and_nothing_else_does() {
    let template = |changes: &Value, revision: &str| {
        let spec = deployment(&desired(changes), revision).spec.unwrap();
        serde_json::to_string(&spec.template).unwrap()
    };
    let base = template(&json!({}), "r");
    assert_eq!(
        template(&json!({"backup": {"keep": 5}, "storage_size": "2Gi"}), "r"),
        base
    );
    assert_ne!(template(&json!({}), "s"), base);
    assert_ne!(template(&json!({"config": {"max_connections": "5"}}), "r"), base);
}

#[test]
fn no_object_but_the_secrets_holds_the_password() {
    let desired = desired(&json!({}));
    let texts = [
        serde_json::to_string(&deployment(&desired, "r")).unwrap(),
        serde_json::to_string(&service(&desired)).unwrap(),
        serde_json::to_string(&config(&desired)).unwrap(),
        serde_json::to_string(&job::restore(&desired, "claim")).unwrap(),
        serde_json::to_string(&job::backup(
            &desired,
            &job::Request::Now("1".into()),
            Timestamp::UNIX_EPOCH,
            None,
        ))
        .unwrap(),
    ];
    for text in texts {
        assert!(!text.contains("s3cret-in-clear"), "{text}");
    }
}

#[test]
fn options_keep_their_values_whatever_is_in_them() {
    let desired =
        desired(&json!({"config": {"init-connect": "SET @a = \"#1\\\\\"", "skip-name-resolve": ""}}));
    let text = &config(&desired).data.unwrap()[CONFIG_FILE];
    assert_eq!(
        text,
        "[mysqld]\ninit_connect=\"SET @a = \\\"#1\\\\\\\\\\\"\"\nskip_name_resolve\n"
    );
}

#[rstest]
#[case("Headless", Some("None"), "ClusterIP")]
#[case("ClusterIP", None, "ClusterIP")]
#[case("NodePort", None, "NodePort")]
#[case("LoadBalancer", None, "LoadBalancer")]
fn services_are_of_the_type_that_was_asked_for(
    #[case] type_: &str,
    #[case] address: Option<&str>,
    #[case] kind: &str,
) {
    let desired = desired(&json!({"service": {"type": type_}}));
    let service = service(&desired);
    assert!(!is_other_service(&service, desired.service));
    let spec = service.spec.as_ref().unwrap();
    assert_eq!(spec.type_.as_deref(), Some(kind));
    assert_eq!(spec.cluster_ip.as_deref(), address);
    let other = if type_ == "Headless" {
        ServiceType::ClusterIP
    } else {
        ServiceType::Headless
    };
    assert!(is_other_service(&service, other));
}

#[rstest]
#[case(json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]}),
    Some("0/3 nodes"))]
#[case(json!({"containerStatuses": [{"name": "mysql", "image": "", "imageID": "", "ready": false, "restartCount": 3,
    "state": {"waiting": {"reason": "ImagePullBackOff", "message": "back-off 10s"}}}]}), Some("mysql: ErrImagePull"))]
#[case(json!({"initContainerStatuses": [{"name": "guard", "image": "", "imageID": "", "ready": false, "restartCount": 1,
    "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 64,
    "message": "{\"reason\":\"DataFolderNotPrepared\",\"error\":\"the folder is empty\"}"}}}]}),
    Some("status 64: the folder is empty"))]
#[case(json!({"containerStatuses": [{"name": "mysql", "image": "", "imageID": "", "ready": false, "restartCount": 0,
    "state": {"waiting": {"reason": "PodInitializing"}}}]}), None)]
fn why_a_pod_does_not_come_up_is_said_in_words_that_do_not_change_by_themselves(
    #[case] status: Value,
    #[case] words: Option<&str>,
) {
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "m-1"}, "status": status})).unwrap();
    match (trouble(&pod), words) {
        (Some(text), Some(words)) => {
            assert!(text.contains(words) && !text.contains("back-off 10s"), "{text}");
        }
        (found, expected) => assert_eq!(found.as_deref(), expected),
    }
}

#[test]
fn a_server_serves_when_its_newest_pod_is_ready() {
    let with = |status: Value| -> Deployment {
        serde_json::from_value(json!({"metadata": {"name": "m", "generation": 2}, "status": status})).unwrap()
    };
    let status = |generation: i64, updated: i32, available: i32| json!({"observedGeneration": generation, "updatedReplicas": updated, "availableReplicas": available});
    assert!(is_serving(&with(status(2, 1, 1))));
    for not in [status(1, 1, 1), status(2, 0, 1), status(2, 1, 0), json!({})] {
        assert!(!is_serving(&with(not.clone())), "{not}");
    }
}
