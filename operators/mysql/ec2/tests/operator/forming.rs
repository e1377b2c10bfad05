//! From instances to one replicated MySQL, as Kubernetes shows it. The servers are stand-ins; real ones are formed by
//! the smoke test.

use std::time::{Duration, Instant};

use fake_ec2::StateReason;
use k8s_openapi::api::{
    core::v1::{Secret, Service},
    events::v1::Event,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use mysql_api::{
    MySQLCluster,
    cluster::{Phase, Role},
};
use serde_json::json;

use crate::bed::{Bed, SPEED, eventually, message, ready, sample, says};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_become_a_primary_with_replicas_that_clients_can_find() {
    let bed = Bed::new().await;
    bed.create("formed", sample(3)).await;
    let cluster = bed.until("formed", "it is ready", ready).await.unwrap();
    let status = cluster.status.unwrap();
    assert_eq!(status.phase, Some(Phase::Running));
    assert_eq!(status.ready.as_deref(), Some("3/3"));
    assert_eq!(status.primary.as_deref(), Some("formed-0"));
    let roles: Vec<_> = status.members.iter().map(|member| member.role).collect();
    assert_eq!(
        roles,
        [Some(Role::Primary), Some(Role::Replica), Some(Role::Replica)]
    );
    assert!(
        status.members.iter().all(|member| member.certificate.is_some()),
        "certificates are pinned"
    );
    let namespace = bed.namespace.name();
    let endpoints = status.endpoints.unwrap();
    assert_eq!(
        endpoints.write_endpoint,
        Some(format!("formed.{namespace}.svc:3306"))
    );
    assert_eq!(
        endpoints.read_endpoint,
        Some(format!("formed-ro.{namespace}.svc:3306"))
    );

    let ip = |n: usize| status.members[n].private_ip.clone().unwrap();
    assert_eq!(bed.behind("formed").await, [ip(0)]);
    let mut readers = bed.behind("formed-ro").await;
    readers.sort();
    let mut replicas = [ip(1), ip(2)];
    replicas.sort();
    assert_eq!(readers, replicas);
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), namespace);
    let binding = secrets.get(&status.binding.unwrap().name).await.unwrap();
    assert_eq!(binding.type_.as_deref(), Some("servicebinding.io/mysql"));
    assert_eq!(
        binding.data.unwrap()["host"].0,
        format!("formed.{namespace}.svc").into_bytes()
    );
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_tell_the_story() {
    let bed = Bed::new().await;
    bed.create("told", sample(1)).await;
    bed.until("told", "it is ready", ready).await;
    bed.clusters
        .delete("told", &DeleteParams::default())
        .await
        .unwrap();
    bed.until("told", "it is gone", |cluster| cluster.is_none()).await;
    let events: Api<Event> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let expected = [
        ("Provisioning", "provisioning EC2 instances"),
        ("Launched", "launched i-"),
        ("WaitingForInstances", "waiting for instances to become running"),
        ("Provisioned", "1 of 1 instances run"),
        ("Ready", "takes writes"),
        ("Terminating", "terminating i-"),
        ("CleanupComplete", "cleanup complete"),
    ];
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_mins(5);
    for (reason, note) in expected {
        loop {
            let all = events.list(&ListParams::default()).await.unwrap();
            let told = |event: &Event| {
                event.reason.as_deref() == Some(reason)
                    && event.note.as_deref().is_some_and(|text| text.contains(note))
            };
            if all.iter().any(told) {
                break;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "no event {reason} that says {note:?}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_what_instances_are_launched_with() {
    let bed = Bed::new().await;
    bed.create("quiet", sample(1)).await;
    bed.until("quiet", "it is ready", ready).await;
    let secrets: Api<Secret> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let operator = secrets.get("quiet-operator").await.unwrap().data.unwrap();
    let instance = bed.ec2.world().instances().remove(0);
    let user_data = String::from_utf8(instance.user_data.unwrap()).unwrap();
    let text = |key: &str| String::from_utf8(operator[key].0.clone()).unwrap();
    let line = |pem: String| pem.lines().nth(1).unwrap().to_owned();
    assert!(
        user_data.contains(&line(text("ca.crt"))),
        "members know the authority"
    );
    for secret in [
        line(text("tls.key")),
        text("app-password"),
        text("replication-password"),
    ] {
        assert!(!user_data.contains(&secret));
    }
    assert!(user_data.len() <= 16 << 10);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_somebody_elses_is_not_taken_over() {
    let bed = Bed::new().await;
    let services: Api<Service> = Api::namespaced(bed.client.clone(), bed.namespace.name());
    let spec = serde_json::from_value(json!({"ports": [{"port": 80}]})).unwrap();
    let theirs = Service {
        metadata: ObjectMeta {
            name: Some("taken".into()),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        ..Service::default()
    };
    let before = services.create(&PostParams::default(), &theirs).await.unwrap();
    bed.create("taken", sample(1)).await;
    bed.until("taken", "it says so", |cluster| {
        says(cluster, "Ready", "False", "NameConflict")
    })
    .await;
    let after = services.get("taken").await.unwrap();
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    services.delete("taken", &DeleteParams::default()).await.unwrap();
    bed.until("taken", "it is ready", ready).await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_no_service_can_have_is_refused_before_anything_is_launched() {
    let bed = Bed::new().await;
    let name = "n".repeat(61);
    bed.create(&name, sample(1)).await;
    bed.until(&name, "it says so", |cluster| {
        says(cluster, "Ready", "False", "SpecInvalid")
    })
    .await;
    assert!(bed.ec2.world().instances().is_empty());
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_gone_is_not_replaced_by_an_empty_one() {
    let bed = Bed::new().await;
    bed.create("headless", sample(3)).await;
    let cluster = bed.until("headless", "it is ready", ready).await.unwrap();
    let topology = cluster.status.as_ref().unwrap().topology.clone();
    let id = &cluster.status.unwrap().aws_instance_ids[0];
    let reason = fake_ec2::StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
    assert!(bed.ec2.world().terminate(id, &reason));
    let lost = |cluster: Option<&MySQLCluster>| says(cluster, "Ready", "False", "PrimaryLost");
    let status = bed
        .until("headless", "it says that the primary is lost", lost)
        .await
        .unwrap()
        .status
        .unwrap();
    assert_eq!(status.topology, topology);
    assert_eq!(status.primary, None);
    assert!(bed.behind("headless").await.is_empty(), "nobody is written to");
    bed.stop().await;
}

/// What is accepted although it does not do everything yet, or not everything that somebody may expect, says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_and_backups_are_accepted_and_say_what_they_mean() {
    let bed = Bed::new().await;
    let mut spec = sample(2);
    spec["backup"] = json!({"enabled": true, "schedule": "0 2 * * *", "s3Bucket": "nairobi-backups"});
    bed.create("pair", spec).await;
    let cluster = bed.until("pair", "it is ready", ready).await.unwrap();
    assert!(says(Some(&cluster), "BackupReady", "False", "NotImplemented"));
    assert!(says(Some(&cluster), "FaultTolerant", "False", "TooFewMembers"));
    let conditions = cluster.status.unwrap().conditions;
    let tolerant = conditions
        .iter()
        .find(|one| one.type_ == "FaultTolerant")
        .unwrap();
    assert!(
        tolerant.message.contains("the loss of one stops writes"),
        "{}",
        tolerant.message
    );
    bed.stop().await;
}

/// How many attempts there can be within a time: after each there is a rest, of 1, 2, 4 … 30 minutes.
fn attempts(within: Duration) -> usize {
    let rests = (0..6)
        .map(|n| 1 << n)
        .chain(std::iter::repeat(30))
        .map(|minutes: u64| minutes.min(30));
    let ends = rests.scan(Duration::ZERO, |end, minutes| {
        *end += Duration::from_mins(minutes);
        Some(*end)
    });
    1 + ends.take_while(|end| *end <= within).count()
}

/// As with a volume that is too small for the data, or another size of pages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_fails_is_told_and_not_repeated_all_the_time() {
    let bed = Bed::new().await;
    bed.create("small", sample(3)).await;
    let cluster = bed.until("small", "it is ready", ready).await.unwrap();
    let ids = cluster.status.unwrap().aws_instance_ids;
    let begun = Instant::now();
    // More than a new member would repeat: it is to become a copy.
    bed.fleet.write(&ids[0], 5000);
    bed.fleet.refuse_copies(true);
    let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
    assert!(bed.ec2.world().terminate(&ids[2], &reason));
    let told = |cluster: Option<&MySQLCluster>| {
        let said = message(cluster, "Ready").unwrap_or_default();
        says(cluster, "Ready", "False", "Forming")
            && said.contains("small-2 could not become a copy")
            && said.contains("MySQL error 3862")
    };
    bed.until("small", "it says so", told).await;
    eventually("it is tried again and again", async || bed.fleet.copies() >= 6).await;
    let (copies, time) = (bed.fleet.copies(), begun.elapsed() * SPEED);
    assert!(copies <= attempts(time), "{copies} copies in {time:?}");
    bed.fleet.refuse_copies(false);
    bed.until("small", "it is ready again", ready).await;
    bed.stop().await;
}
