//! What goes on while EC2 does not show the instances, and what does not.

use fake_ec2::{Faults, StateReason};
use mysql_api::MySQLCluster;
use reconcile::clock::Clock;
use serde_json::json;

use crate::bed::{Bed, SPEED, eventually, message, ready, sample, says};

/// Whether it says for how long EC2 has shown nothing.
fn unseen(cluster: Option<&MySQLCluster>) -> bool {
    says(cluster, "Provisioned", "Unknown", "AWSAPIError")
        && message(cluster, "Provisioned")
            .is_some_and(|text| text.contains("EC2 has not shown the instances since 2"))
}

impl Bed {
    /// How often EC2 was asked to change something.
    fn changes(&self) -> usize {
        let audit = self.ec2.world().audit();
        let reads = |action: &str| action.starts_with("Describe") || action.starts_with("Get");
        audit.iter().filter(|call| !reads(&call.action)).count()
    }

    fn outage(&self, line: &str) {
        self.ec2.world().set_faults(line.parse::<Faults>().unwrap());
    }

    /// Waits until the addresses behind a Service are these.
    async fn until_behind(&self, service: &str, expected: &[&str]) {
        let what = format!("behind {service} are {expected:?}");
        let mut expected: Vec<_> = expected.iter().map(|one| (*one).to_owned()).collect();
        expected.sort();
        eventually(&what, async || {
            let mut found = self.behind(service).await;
            found.sort();
            found == expected
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_ec2_shows_nothing_mysql_is_looked_after_and_no_instance_is_touched() {
    let mut bed = Bed::new().await;
    bed.create("unseen", sample(3)).await;
    let cluster = bed.until("unseen", "it is ready", ready).await.unwrap();
    let status = cluster.status.unwrap();
    let ids = &status.aws_instance_ids;
    let ips: Vec<_> = status
        .members
        .iter()
        .filter_map(|member| member.private_ip.as_deref())
        .collect();

    bed.outage("DescribeInstances=InternalError");
    let cluster = bed.until("unseen", "it says so", unseen).await;
    assert!(ready(cluster.as_ref()), "clients notice nothing");
    let before = bed.changes();
    // Clients are told who serves.
    bed.fleet.silence(&ids[2], true);
    bed.until_behind("unseen-ro", &[ips[1]]).await;
    bed.fleet.silence(&ids[2], false);
    bed.until_behind("unseen-ro", &[ips[1], ips[2]]).await;
    // Servers that come back are formed, replica and primary.
    bed.reboot_and_recover(&ids[1], &ids[0]).await;
    // Another operator knows the members from the status alone.
    bed.restart(Clock::accelerated(SPEED), async |bed| bed.fleet.reboot(&ids[2]))
        .await;
    eventually("the other replica follows again", async || {
        bed.fleet.is_following(&ids[2])
    })
    .await;

    // What needs a sight of the instances waits for it.
    let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
    assert!(bed.ec2.world().terminate(&ids[2], &reason));
    bed.until_behind("unseen-ro", &[ips[1]]).await;
    bed.patch("unseen", json!({"spec": {"replicas": 1}})).await;
    let noticed = |cluster: Option<&MySQLCluster>| {
        unseen(cluster)
            && says(cluster, "UpToDate", "Unknown", "AWSAPIError")
            && cluster.is_some_and(|one| {
                one.status.as_ref().unwrap().observed_generation == one.metadata.generation
            })
    };
    bed.until("unseen", "it has looked at the new spec", noticed)
        .await;
    assert_eq!(bed.changes(), before, "no instance is launched or ended");

    bed.outage("");
    let alone = |cluster: Option<&MySQLCluster>| {
        ready(cluster) && cluster.is_some_and(|one| one.status.as_ref().unwrap().replicas == Some(1))
    };
    bed.until("unseen", "one is left", alone).await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_costs_as_many_requests_for_many_clusters_as_for_one() {
    let bed = Bed::new().await;
    for name in ["one", "two", "three", "four"] {
        bed.create(name, sample(1)).await;
        bed.until(name, "it is ready", ready).await;
    }
    bed.outage("DescribeInstances=InternalError");
    for name in ["one", "two", "three", "four"] {
        bed.until(name, "it says so", unseen).await;
    }
    let world = bed.ec2.world();
    let (calls, began) = (world.audit().len(), world.clock().elapsed());
    for name in ["one", "two", "three", "four"] {
        // What a pass finds wrong has it look again every ten seconds.
        let cluster = bed.clusters.get(name).await.unwrap();
        bed.fleet
            .silence(&cluster.status.unwrap().aws_instance_ids[0], true);
        bed.until(name, "it lacks its primary", |cluster| {
            says(cluster, "Ready", "False", "PrimaryUnavailable")
        })
        .await;
    }
    let minutes = std::time::Duration::from_mins(10);
    eventually("ten minutes are over", async || {
        world.clock().elapsed() > began + minutes
    })
    .await;
    let made = u64::try_from(world.audit().len() - calls).unwrap();
    let took = world.clock().elapsed().saturating_sub(began).as_secs();
    // One in five seconds at the most, whoever asks; and the sweep's own.
    assert!(made <= took / 5 + 4, "{made} calls in {took} s");
    bed.outage("");
    bed.stop().await;
}
