//! What reads show, and when.

use std::time::Duration;

use fake_ec2::{Options, Timings};
use rstest::rstest;

use crate::bed::{Bed, options};

#[tokio::test]
async fn a_read_may_lag_behind_the_launch_and_a_repeated_launch_does_not() {
    let lagging = Options {
        timings: Timings {
            lag: Duration::from_hours(1),
            ..Timings::default()
        },
        ..options(1)
    };
    let bed = Bed::new(&lagging);
    let id = bed.launched(&[("ClientToken", "t")]).await;
    let list = bed.ask("DescribeInstances", &[]).await;
    assert!(list.all("instanceId").is_empty(), "{list:?}");
    let by_id = bed.ask("DescribeInstances", &[("InstanceId.1", &id)]).await;
    assert_eq!(by_id.code(), "InvalidInstanceID.NotFound");
    assert_eq!(bed.launched(&[("ClientToken", "t")]).await, id);
}

#[tokio::test]
async fn states_take_their_time_and_the_dead_stay_visible_for_an_hour() {
    let bed = Bed::new(&options(20_000));
    let id = bed.launched(&[("ClientToken", "t")]).await;
    let running = bed.until(&id, "running").await;
    assert!(!running.one("privateIpAddress").is_empty());
    bed.ask("TerminateInstances", &[("InstanceId.1", &id)]).await;
    let dead = bed.until(&id, "terminated").await;
    assert_eq!(dead.one("clientToken"), "t");
    assert!(dead.one("privateIpAddress").is_empty());
    assert!(dead.body.contains("<code>Client.UserInitiatedShutdown</code>"));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let answer = bed.ask("DescribeInstances", &[("InstanceId.1", &id)]).await;
        if answer.code() == "InvalidInstanceID.NotFound" {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn pages_count_instances_and_join_to_the_whole() {
    let bed = Bed::new(&options(1));
    bed.launch(&[("MinCount", "7"), ("MaxCount", "7")]).await;
    let first = bed.ask("DescribeInstances", &[("MaxResults", "5")]).await;
    assert_eq!(first.all("instanceId").len(), 5);
    let token = first.one("nextToken").to_owned();
    let second = bed
        .ask("DescribeInstances", &[("MaxResults", "5"), ("NextToken", &token)])
        .await;
    assert_eq!(second.all("instanceId").len(), 2);
    assert!(second.one("nextToken").is_empty());
    let mut all: Vec<_> = first.all("instanceId");
    all.extend(second.all("instanceId"));
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 7);
}

#[rstest]
#[case(&[("MaxResults", "4")], "InvalidParameterValue")]
#[case(&[("MaxResults", "1001")], "InvalidParameterValue")]
#[case(&[("MaxResults", "5"), ("InstanceId.1", "i-0123456789abcdef0")], "InvalidParameterCombination")]
#[case(&[("NextToken", "what")], "InvalidPaginationToken")]
#[case(&[("InstanceId.1", "x")], "InvalidInstanceID.Malformed")]
#[case(&[("InstanceId.1", "i-0123456789abcdef0")], "InvalidInstanceID.NotFound")]
#[case(&[("Filter.1.Name", "nonsense"), ("Filter.1.Value.1", "x")], "InvalidParameterValue")]
#[tokio::test]
async fn each_bad_listing_has_its_own_error(#[case] params: &[(&str, &str)], #[case] code: &str) {
    let bed = Bed::new(&options(1));
    let answer = bed.ask("DescribeInstances", params).await;
    assert_eq!((answer.status, answer.code()), (400, code), "{answer:?}");
}

#[tokio::test]
async fn filters_narrow_by_tag_token_and_state() {
    let bed = Bed::new(&options(1));
    let tagged = bed
        .launched(&[
            ("ClientToken", "a"),
            ("TagSpecification.1.ResourceType", "instance"),
            ("TagSpecification.1.Tag.1.Key", "Name"),
            ("TagSpecification.1.Tag.1.Value", "mysql-x"),
        ])
        .await;
    bed.launched(&[("ClientToken", "b")]).await;
    for (name, value) in [
        ("tag:Name", "mysql-*"),
        ("tag-key", "Name"),
        ("client-token", "a"),
    ] {
        let params = [("Filter.1.Name", name), ("Filter.1.Value.1", value)];
        let answer = bed.ask("DescribeInstances", &params).await;
        assert_eq!(answer.all("instanceId"), [tagged.as_str()], "{name}");
    }
    let params = [
        ("Filter.1.Name", "instance-state-name"),
        ("Filter.1.Value.1", "terminated"),
    ];
    assert!(
        bed.ask("DescribeInstances", &params)
            .await
            .all("instanceId")
            .is_empty()
    );
}

#[tokio::test]
async fn regions_know_nothing_of_each_other() {
    let bed = Bed::new(&options(1));
    let id = bed.launched(&[]).await;
    let elsewhere = bed.try_ask("eu-west-1", "DescribeInstances", &[]).await.unwrap();
    assert!(elsewhere.all("instanceId").is_empty());
    let params = [("InstanceId.1", id.as_str())];
    let terminated = bed
        .try_ask("eu-west-1", "TerminateInstances", &params)
        .await
        .unwrap();
    assert_eq!(terminated.code(), "InvalidInstanceID.NotFound");
}

#[tokio::test]
async fn the_console_shows_what_the_machine_printed() {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let bed = Bed::new(&options(1));
    let id = bed.launched(&[]).await;
    let empty = bed.ask("GetConsoleOutput", &[("InstanceId", &id)]).await;
    assert_eq!(empty.one("output"), "");
    bed.ec2.world().set_console(&id, "login:");
    let answer = bed
        .ask("GetConsoleOutput", &[("InstanceId", &id), ("Latest", "true")])
        .await;
    assert_eq!(BASE64_STANDARD.decode(answer.one("output")).unwrap(), b"login:");
}

/// By the documentation of GetConsoleOutput: "buffered information that was posted shortly after an instance transition".
#[tokio::test]
async fn who_does_not_ask_for_the_latest_console_sees_only_what_was_printed_shortly_after_the_start() {
    let mut options = options(100);
    options.timings.boot = std::time::Duration::ZERO;
    options.timings.post = std::time::Duration::ZERO;
    let bed = Bed::new(&options);
    let id = bed.launched(&[]).await;
    bed.until(&id, "running").await;
    bed.ec2.world().set_console(&id, "certificate");
    let posted = bed.ask("GetConsoleOutput", &[("InstanceId", &id)]).await;
    assert_eq!(posted.one("output"), "", "it was printed too late");
    let latest = [("InstanceId", id.as_str()), ("Latest", "true")];
    assert_ne!(bed.ask("GetConsoleOutput", &latest).await.one("output"), "");
    bed.ask("StopInstances", &[("InstanceId.1", &id)]).await;
    bed.until(&id, "stopped").await;
    let posted = bed.ask("GetConsoleOutput", &[("InstanceId", &id)]).await;
    assert_ne!(posted.one("output"), "", "a stop posts it anew");
}

#[tokio::test]
async fn machines_that_are_not_built_on_nitro_have_no_latest_console() {
    let bed = Bed::new(&options(1));
    let id = bed.launched(&[("InstanceType", "t2.micro")]).await;
    let latest = [("InstanceId", id.as_str()), ("Latest", "true")];
    let answer = bed.ask("GetConsoleOutput", &latest).await;
    assert_eq!((answer.status, answer.code()), (400, "UnsupportedOperation"));
    let posted = bed.ask("GetConsoleOutput", &[("InstanceId", &id)]).await;
    assert_eq!(posted.status, 200);
}

#[tokio::test]
async fn surroundings_can_be_listed() {
    let bed = Bed::new(&options(1));
    assert_eq!(bed.ask("DescribeSubnets", &[]).await.all("subnetId").len(), 3);
    assert_eq!(
        bed.ask("DescribeAvailabilityZones", &[])
            .await
            .all("zoneName")
            .len(),
        3
    );
    assert_eq!(bed.ask("DescribeImages", &[]).await.all("imageId").len(), 1);
    assert_eq!(
        bed.ask("DescribeSecurityGroups", &[]).await.all("groupName"),
        ["mysql"]
    );
    let unknown = bed
        .ask("DescribeSubnets", &[("SubnetId.1", "subnet-99999999")])
        .await;
    assert_eq!(unknown.code(), "InvalidSubnetID.NotFound");
    assert_eq!(bed.ask("DescribeEverything", &[]).await.code(), "InvalidAction");
}
