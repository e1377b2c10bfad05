//! The simulated EC2 as the operator's cloud.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fake_ec2::{ApiError, Options, State, Timings, World};
use mysql_controller::{
    cloud::{CloudError, Instance, InstanceState, Instances, Part, PartKind, Subnet},
    identity::{CLUSTER_UID, OPERATOR_ID, TOMBSTONE},
    parameters::LaunchParameters,
};
use parking_lot::Mutex;
use reconcile::{clock::Clock, fence::Fence};

use crate::{
    chance::{Chance, Fate, THROTTLED},
    notebook::Notebook,
};

/// EC2 behind a network that fate rules, watched by an inspector.
#[derive(Clone)]
pub(crate) struct Cloud {
    pub(crate) world: World,
    /// The account that answers in its place, if any.
    pub(crate) elsewhere: Arc<Mutex<Option<World>>>,
    pub(crate) chance: Chance,
    pub(crate) notebook: Notebook,
    pub(crate) violations: Arc<Mutex<Vec<String>>>,
    /// How many requests were answered that they were too many.
    pub(crate) throttled: Arc<AtomicU64>,
    /// What becomes of the next launch.
    pub(crate) doom: Arc<Mutex<Option<Fate>>>,
}

impl Cloud {
    /// This EC2, and nothing noted yet.
    pub(crate) fn new(world: World, chance: Chance) -> Self {
        Self {
            world,
            notebook: Notebook::new(chance.clone()),
            chance,
            elsewhere: Arc::default(),
            violations: Arc::default(),
            throttled: Arc::default(),
            doom: Arc::default(),
        }
    }

    /// An account without trouble, whose listings are so late.
    pub(crate) fn calm(clock: &Clock, lag: Duration) -> Self {
        let timings = Timings {
            lag,
            ..Timings::default()
        };
        let world = World::new(&Options {
            timings,
            clock: clock.clone(),
            ..Options::default()
        });
        Self::new(world, Chance::new(1, 0))
    }

    async fn ask(
        &self,
        action: &'static str,
        region: &str,
        params: &[(String, String)],
    ) -> Result<String, CloudError> {
        let params: Vec<(&str, &str)> = params.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let elsewhere = self.elsewhere.lock().clone();
        let answer = self.chance.request(|| {
            let world = elsewhere.as_ref().unwrap_or(&self.world);
            let answer = world.ask(region, action, &params);
            self.inspect();
            answer
        });
        let answer = answer.await.map_err(|broken| {
            let throttled = broken == THROTTLED;
            self.throttled.fetch_add(u64::from(throttled), Ordering::Relaxed);
            CloudError {
                action,
                code: throttled.then(|| "RequestLimitExceeded".to_owned()),
                declined: false,
                message: broken.to_owned(),
            }
        })?;
        answer.map_err(|error| {
            let declined = error.status() < 500;
            let ApiError { code, message } = error;
            CloudError {
                action,
                code: Some(code.into_owned()),
                declined,
                message,
            }
        })
    }

    /// At no moment two instances of a member, one that is shutting down included.
    fn inspect(&self) {
        let mut members: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for instance in self.world.instances() {
            let tag = |key: &str| instance.tags.get(key).cloned().unwrap_or_default();
            // By its token, for tags may have been taken off it; the neighbour's has none.
            let ours = instance.client_token.is_some();
            if instance.state != State::Terminated && ours {
                let member = (tag("mysql.alx.ke/cluster-uid"), tag("mysql.alx.ke/ordinal"));
                members.entry(member).or_default().push(instance.id.clone());
            }
        }
        for ((_, ordinal), ids) in members {
            if ids.len() > 1 {
                self.violations
                    .lock()
                    .push(format!("member {ordinal} has {} instances: {ids:?}", ids.len()));
            }
        }
    }

    async fn describe(&self, region: &str, filter: (&str, &str)) -> Result<Vec<Instance>, CloudError> {
        let params = [
            ("Filter.1.Name".to_owned(), filter.0.to_owned()),
            ("Filter.1.Value.1".to_owned(), filter.1.to_owned()),
            ("MaxResults".to_owned(), "1000".to_owned()),
        ];
        Ok(instances(&self.ask("DescribeInstances", region, &params).await?))
    }

    async fn on_one(&self, action: &'static str, region: &str, id: &str) -> Result<String, CloudError> {
        self.ask(action, region, &[("InstanceId.1".to_owned(), id.to_owned())])
            .await
    }
}

impl Instances for Cloud {
    async fn launch(
        &self,
        parameters: &LaunchParameters,
        token: Option<&str>,
        _: &Fence,
    ) -> Result<Instance, CloudError> {
        if !token.is_some_and(|token| self.notebook.is_decided(token)) {
            self.violations
                .lock()
                .push(format!("a launch without a record of it: {token:?}"));
        }
        let template = &parameters.template;
        let mut params: Vec<(String, String)> = [
            ("ImageId", template.image.as_str()),
            ("InstanceType", &template.instance_type),
            ("SubnetId", &parameters.subnet),
            ("MinCount", "1"),
            ("MaxCount", "1"),
            ("BlockDeviceMapping.1.DeviceName", "/dev/sdf"),
            ("BlockDeviceMapping.1.Ebs.VolumeSize", "20"),
            ("TagSpecification.1.ResourceType", "instance"),
            ("TagSpecification.2.ResourceType", "volume"),
            ("TagSpecification.3.ResourceType", "network-interface"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        for (index, (key, value)) in (1..).zip(&parameters.tags) {
            for kind in 1..=3 {
                let tag = format!("TagSpecification.{kind}.Tag.{index}");
                params.push((format!("{tag}.Key"), key.clone()));
                params.push((format!("{tag}.Value"), value.clone()));
            }
        }
        params.extend(token.map(|token| ("ClientToken".to_owned(), token.to_owned())));
        if let Some(fate) = self.doom.lock().take() {
            self.chance.doom(fate);
        }
        let answer = self.ask("RunInstances", &parameters.region, &params).await?;
        Ok(instances(&answer).remove(0))
    }

    async fn list(&self, region: &str, operator_id: &str) -> Result<Vec<Instance>, CloudError> {
        self.describe(region, (&format!("tag:{OPERATOR_ID}"), operator_id))
            .await
    }

    async fn get(&self, region: &str, id: &str) -> Result<Instance, CloudError> {
        Ok(instances(&self.on_one("DescribeInstances", region, id).await?).remove(0))
    }

    async fn with_token(&self, region: &str, token: &str) -> Result<Vec<Instance>, CloudError> {
        self.describe(region, ("client-token", token)).await
    }

    async fn terminate(&self, region: &str, id: &str, _: &Fence) -> Result<(), CloudError> {
        self.on_one("TerminateInstances", region, id).await.map(drop)
    }

    async fn start(&self, region: &str, id: &str, _: &Fence) -> Result<(), CloudError> {
        self.on_one("StartInstances", region, id).await.map(drop)
    }

    async fn tag(
        &self,
        region: &str,
        ids: &[String],
        tags: &BTreeMap<String, String>,
        _: &Fence,
    ) -> Result<(), CloudError> {
        let mut params: Vec<(String, String)> = (1..)
            .zip(ids)
            .map(|(index, id)| (format!("ResourceId.{index}"), id.clone()))
            .collect();
        for (index, (key, value)) in (1..).zip(tags) {
            params.push((format!("Tag.{index}.Key"), key.clone()));
            params.push((format!("Tag.{index}.Value"), value.clone()));
        }
        self.ask("CreateTags", region, &params).await.map(drop)
    }

    async fn release(&self, region: &str, id: &str, _: &Fence) -> Result<(), CloudError> {
        let params = [
            ("ResourceId.1".to_owned(), id.to_owned()),
            ("Tag.1.Key".to_owned(), TOMBSTONE.to_owned()),
        ];
        self.ask("DeleteTags", region, &params).await.map(drop)
    }

    async fn parts(&self, region: &str, operator_id: &str, uid: &str) -> Result<Vec<Part>, CloudError> {
        let filters = [(OPERATOR_ID, operator_id), (CLUSTER_UID, uid)];
        let mut params = Vec::new();
        for (index, (key, value)) in (1..).zip(filters) {
            params.push((format!("Filter.{index}.Name"), format!("tag:{key}")));
            params.push((format!("Filter.{index}.Value.1"), value.to_owned()));
        }
        let volumes = self.ask("DescribeVolumes", region, &params).await?;
        let interfaces = self.ask("DescribeNetworkInterfaces", region, &params).await?;
        let mut found = parts(PartKind::Volume, &volumes);
        found.extend(parts(PartKind::Interface, &interfaces));
        Ok(found)
    }

    async fn discard(&self, region: &str, part: &Part, _: &Fence) -> Result<(), CloudError> {
        let (action, name) = match part.kind {
            PartKind::Volume => ("DeleteVolume", "VolumeId"),
            PartKind::Interface => ("DeleteNetworkInterface", "NetworkInterfaceId"),
        };
        let params = [(name.to_owned(), part.id.clone())];
        self.ask(action, region, &params).await.map(drop)
    }

    async fn console(&self, _: &str, _: &str) -> Result<Option<String>, CloudError> {
        Ok(None)
    }

    /// The image leaves nothing behind.
    async fn kept_devices(&self, _: &str, _: &str) -> Result<Vec<String>, CloudError> {
        Ok(Vec::new())
    }

    async fn subnets(&self, region: &str, ids: &[String]) -> Result<Vec<Subnet>, CloudError> {
        let ids = (1..)
            .zip(ids)
            .map(|(index, id)| (format!("Filter.1.Value.{index}"), id.clone()));
        let filter = ("Filter.1.Name".to_owned(), "subnet-id".to_owned());
        let params: Vec<_> = std::iter::once(filter).chain(ids).collect();
        let answer = self.ask("DescribeSubnets", region, &params).await?;
        let items = answer.split("<subnetId>").skip(1);
        Ok(items
            .map(|item| Subnet {
                id: item.split('<').next().unwrap().to_owned(),
                zone: one(item, "availabilityZone").unwrap(),
            })
            .collect())
    }
}

fn one(text: &str, name: &str) -> Option<String> {
    let after = text.split_once(&format!("<{name}>"))?.1;
    Some(after.split_once(&format!("</{name}>"))?.0.to_owned())
}

/// The instances in an answer.
fn instances(answer: &str) -> Vec<Instance> {
    answer.split("<instanceId>").skip(1).map(instance).collect()
}

/// The volumes or interfaces in an answer. An attachment repeats the id of its volume, and stands before its tags.
fn parts(kind: PartKind, answer: &str) -> Vec<Part> {
    let (name, first) = match kind {
        PartKind::Volume => ("volumeId", "<size>"),
        PartKind::Interface => ("networkInterfaceId", "<subnetId>"),
    };
    let mut described: Vec<String> = Vec::new();
    for text in answer.split(&format!("<{name}>")).skip(1) {
        match described.last_mut() {
            Some(last) if !text.contains(first) => last.push_str(text),
            _ => described.push(text.to_owned()),
        }
    }
    let described = described.iter().map(|text| Part {
        kind,
        id: text.split('<').next().unwrap().to_owned(),
        tags: tags(text),
        attached_to: one(text, "instanceId"),
        snapshot: one(text, "snapshotId").filter(|id| !id.is_empty()),
    });
    described.collect()
}

fn tags(text: &str) -> BTreeMap<String, String> {
    let tags = one(text, "tagSet").unwrap_or_default();
    let tags = tags.split("<item>").skip(1);
    tags.map(|item| (one(item, "key").unwrap(), one(item, "value").unwrap()))
        .collect()
}

fn instance(text: &str) -> Instance {
    let state = one(text, "instanceState").and_then(|state| one(&state, "name"));
    Instance {
        id: text.split('<').next().unwrap().to_owned(),
        state: state.and_then(|state| InstanceState::parse(&state)).unwrap(),
        reason: one(text, "stateReason").and_then(|reason| one(&reason, "code")),
        tags: tags(text),
        client_token: one(text, "clientToken"),
        zone: one(text, "availabilityZone"),
        private_ip: one(text, "privateIpAddress"),
        subnet: one(text, "subnetId"),
        launched_at: None,
    }
}
