//! Tags of members that run: those of the spec reach instance, volumes and interface, and stay there.

use std::collections::{BTreeMap, BTreeSet};

use fake_ec2::Outcome;
use mysql_api::MySQLCluster;
use mysql_controller::identity::{OPERATOR_ID, ORDINAL};
use serde_json::json;

use crate::bed::{Bed, condition, eventually, ready, sample, says};

const REGION: &str = "us-east-1";

/// Whether it serves and every member has the tags of the spec.
fn current(cluster: Option<&MySQLCluster>) -> bool {
    ready(cluster) && says(cluster, "UpToDate", "True", "MembersCurrent")
}

impl Bed {
    /// How many resources of each sort have this tag.
    fn tagged(&self, key: &str, value: &str) -> BTreeMap<String, usize> {
        let params = [
            ("Filter.1.Name", "key"),
            ("Filter.1.Value.1", key),
            ("Filter.2.Name", "value"),
            ("Filter.2.Value.1", value),
        ];
        let answer = self.ec2.world().ask(REGION, "DescribeTags", &params).unwrap();
        let mut kinds = BTreeMap::new();
        for rest in answer.split("<resourceType>").skip(1) {
            let kind = rest.split('<').next().unwrap().to_owned();
            *kinds.entry(kind).or_default() += 1;
        }
        kinds
    }

    /// The successful calls of CreateTags, each as the resources that it named.
    fn given(&self) -> Vec<Vec<String>> {
        let calls = self.ec2.world().audit().into_iter();
        calls
            .filter(|call| call.action == "CreateTags" && call.outcome == Outcome::Answered)
            .map(|call| {
                let named = call.params.into_iter();
                named
                    .filter(|(name, _)| name.starts_with("ResourceId"))
                    .map(|(_, id)| id)
                    .collect()
            })
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tag_in_the_spec_reaches_everything_of_each_running_member_and_replaces_nobody() {
    let bed = Bed::new().await;
    let mut spec = sample(3);
    spec["aws"]["tags"] = json!([{"key": "team", "value": "orders"}]);
    bed.create("tagged", spec).await;
    bed.until("tagged", "it is ready", current).await;
    assert_eq!(
        bed.given().len(),
        0,
        "what is launched has its tags from the beginning"
    );
    let before = bed.tagged("team", "orders");
    assert_eq!(before["instance"], 3, "{before:?}");
    assert!(
        before["volume"] >= 3 && before["network-interface"] == 3,
        "{before:?}"
    );

    let tags = json!([{"key": "team", "value": "billing"}, {"key": "costs", "value": "42"}]);
    bed.patch("tagged", json!({"spec": {"aws": {"tags": tags}}}))
        .await;
    let all = |cluster: Option<&MySQLCluster>| {
        current(cluster) && bed.tagged("team", "billing") == before && bed.tagged("costs", "42") == before
    };
    let cluster = bed
        .until("tagged", "the tags reach everybody", all)
        .await
        .unwrap();
    assert_eq!(cluster.status.unwrap().members.len(), 3);
    assert!(bed.tagged("team", "orders").is_empty());
    assert_eq!(bed.ec2.world().instances().len(), 3, "nobody was replaced");
    let given: BTreeSet<_> = bed.given().into_iter().collect();
    assert_eq!(
        given.len(),
        3,
        "one call for each member, and none twice: {given:?}"
    );
    for resources in given {
        let instances = resources.iter().filter(|id| id.starts_with("i-")).count();
        assert_eq!(instances, 1, "one member at a time: {resources:?}");
    }
    bed.stop().await;
}

/// The operator was given another id: what is there has the former one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_operator_id_reaches_everything_of_each_running_member() {
    let bed = Bed::new().await;
    bed.create("renumbered", sample(1)).await;
    bed.until("renumbered", "it is ready", current).await;
    let world = bed.ec2.world();
    let id = world.instances()[0].tags[OPERATOR_ID].clone();
    let before = bed.tagged(OPERATOR_ID, &id);
    let answer = world.ask(REGION, "DescribeTags", &[]).unwrap();
    let all: BTreeSet<_> = answer.split("<resourceId>").skip(1).collect();
    for rest in all {
        let resource = rest.split('<').next().unwrap();
        let params = [
            ("ResourceId.1", resource),
            ("Tag.1.Key", OPERATOR_ID),
            ("Tag.1.Value", "former"),
        ];
        world.ask(REGION, "CreateTags", &params).unwrap();
    }
    eventually("everything has the present id", async || {
        bed.tagged(OPERATOR_ID, &id) == before && bed.tagged(OPERATOR_ID, "former").is_empty()
    })
    .await;
    assert_eq!(world.instances().len(), 1);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_that_ec2_refuses_are_said_and_hinder_nothing_until_it_takes_them() {
    let bed = Bed::new().await;
    bed.create("refused", sample(1)).await;
    bed.until("refused", "it is ready", current).await;
    bed.ec2.world().deny("CreateTags", Some("UnauthorizedOperation"));
    let tags = json!([{"key": "team", "value": "billing"}]);
    bed.patch("refused", json!({"spec": {"aws": {"tags": tags}}}))
        .await;
    let told = |cluster: Option<&MySQLCluster>| says(cluster, "UpToDate", "False", "TagsOutdated");
    let cluster = bed.until("refused", "it says so", told).await.unwrap();
    let conditions = &cluster.status.as_ref().unwrap().conditions;
    let said = conditions.iter().find(|one| one.type_ == "UpToDate").unwrap();
    assert!(
        said.message.contains("refused-0") && said.message.contains("UnauthorizedOperation"),
        "{}",
        said.message
    );
    let summary = condition(Some(&cluster), "Ready").unwrap();
    assert_eq!(summary.0, "True", "it serves all the same: {summary:?}");
    bed.ec2.world().deny("CreateTags", None);
    bed.until("refused", "they are taken", current).await;
    // EC2 shows what it has done some time later.
    eventually("they are there", async || {
        bed.tagged("team", "billing").get("instance") == Some(&1)
    })
    .await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_that_somebody_changes_comes_back_and_others_tags_stay() {
    let bed = Bed::new().await;
    bed.create("renamed", sample(1)).await;
    bed.until("renamed", "it is ready", current).await;
    let world = bed.ec2.world();
    let id = world.instances()[0].id.clone();
    world.retag(&id, "Name", Some("mine"));
    world.retag(&id, "audited-by", Some("somebody"));
    let named = |_: Option<&MySQLCluster>| {
        let live = bed.ec2.world().live("Name", "mysql-renamed");
        live.len() == 1
            && live[0]
                .tags
                .get("audited-by")
                .is_some_and(|value| value == "somebody")
    };
    bed.until("renamed", "it has its name again", named).await;
    assert_eq!(world.instances()[0].tags[ORDINAL], "0");
    assert_eq!(world.instances().len(), 1);
    bed.stop().await;
}
