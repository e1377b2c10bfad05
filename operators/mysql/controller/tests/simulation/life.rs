//! One life of a cluster: three members, then five, two, four, none.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use fake_ec2::{InstanceView, Options, Outcome, State, StateReason, Timings, World};
use jiff::SignedDuration;
use mysql_api::cluster::{Aws, MySQLClusterSpec, Tag};
use mysql_controller::{
    act::{Leaving, Operator, SWEEP_AGAIN, Work},
    desired::{Desired, Owner, Settings},
    evidence::Evidence,
    identity::{CLUSTER_UID, INCARNATION, OPERATOR_ID, ORDINAL},
    plan::next_surplus,
    reader::Reader,
};
use parking_lot::Mutex;
use reconcile::{clock::Clock, fence::Fence};

use crate::{chance::Chance, cloud::Cloud, notebook::Notebook, report::Report};

pub(crate) const UID: &str = "7a5e0c0e-0000-4000-8000-000000000001";
pub(crate) const REGION: &str = "us-east-1";
/// The longest that a stage may take, in simulated time.
const LIMIT: Duration = Duration::from_hours(12);

/// A cluster of so many members, whose tags were changed so often.
pub(crate) fn desired(replicas: i32, edits: u64) -> Desired {
    let owner = Owner {
        namespace: "ns",
        name: "c",
        uid: UID,
    };
    let mut spec = spec(replicas);
    if let Some(aws) = &mut spec.aws {
        aws.tags.push(Tag {
            key: "edit".into(),
            value: edits.to_string(),
        });
    }
    Desired::resolve(owner, &spec, &Settings::default()).unwrap()
}

pub(crate) fn spec(replicas: i32) -> MySQLClusterSpec {
    MySQLClusterSpec {
        replicas,
        aws: Some(Aws {
            ami: "ami-0c02fb55956c7d316".into(),
            instance_type: Some("t3.micro".into()),
            subnet_id: "subnet-12345678".into(),
            subnet_ids: vec!["subnet-12345679".into(), "subnet-1234567a".into()],
            security_group_ids: vec!["sg-12345678".into()],
            ..Aws::default()
        }),
        ..MySQLClusterSpec::default()
    }
}

/// What one incarnation of the operator has in memory.
pub(crate) struct Memory {
    pub(crate) operator: Operator<Cloud>,
    pub(crate) evidence: Mutex<Evidence>,
}

struct Life {
    cloud: Cloud,
    clock: Clock,
    memory: Memory,
    fence: Fence,
    kills: u64,
    retags: u64,
    keeps: u64,
    /// How often somebody has changed the tags in the spec.
    edits: u64,
    /// The instance of another operator, whose cluster has our UID.
    neighbour: String,
    trouble: bool,
    /// How late EC2 shows what has happened.
    lag: Duration,
}

/// Lives one life, and says what was violated.
pub(crate) async fn live(seed: u64, trouble: u32) -> Result<Report, String> {
    let clock = Clock::accelerated(1);
    let chance = Chance::new(seed, trouble);
    let lag = if trouble == 0 {
        Duration::ZERO
    } else {
        Duration::from_secs(u64::try_from(chance.below(60)).unwrap())
    };
    let world = World::new(&Options {
        timings: Timings {
            lag,
            ..Timings::default()
        },
        clock: clock.clone(),
        seed,
        ..Options::default()
    });
    let neighbour = neighbour(&world);
    let cloud = Cloud::new(world, chance);
    let mut life = Life {
        memory: Memory::new(&cloud, &clock),
        cloud,
        clock,
        fence: Fence::open(),
        kills: 0,
        retags: 0,
        keeps: 0,
        edits: 0,
        neighbour,
        trouble: trouble > 0,
        lag,
    };
    for replicas in [3, 5, 2, 4] {
        life.reach(replicas).await?;
    }
    life.end().await?;
    life.report()
}

/// An instance of another operator in the account, for the same cluster, member and launch as one of ours.
fn neighbour(world: &World) -> String {
    let params = [
        ("ImageId", "ami-0c02fb55956c7d316"),
        ("InstanceType", "t3.micro"),
        ("SubnetId", "subnet-12345678"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
    ];
    world.ask(REGION, "RunInstances", &params).unwrap();
    let id = world.instances().remove(0).id;
    for (key, value) in [
        (CLUSTER_UID, UID),
        (ORDINAL, "0"),
        (INCARNATION, "1"),
        (OPERATOR_ID, "another"),
    ] {
        world.retag(&id, key, Some(value));
    }
    id
}

impl Memory {
    pub(crate) fn new(cloud: &Cloud, clock: &Clock) -> Self {
        let settings = Settings::default();
        let cloud = Arc::new(cloud.clone());
        let reader = Reader::new(cloud.clone(), &settings.operator_id, clock.clone());
        Self {
            operator: Operator {
                cloud,
                reader,
                operator_id: settings.operator_id,
                clock: clock.clone(),
            },
            evidence: Mutex::default(),
        }
    }

    pub(crate) fn work<'a>(&'a self, cloud: &'a Cloud, fence: &'a Fence) -> Work<'a, Cloud, Notebook> {
        Work {
            operator: &self.operator,
            records: &cloud.notebook,
            evidence: &self.evidence,
            cluster_uid: UID,
            region: REGION,
            fence,
            leader: None,
            spare: None,
        }
    }
}

impl Life {
    /// Passes until as many members run as are wanted, and no others.
    async fn reach(&mut self, replicas: i32) -> Result<(), String> {
        let started = self.clock.elapsed();
        while !self.has(replicas) {
            self.within(started, &format!("{replicas} members"))?;
            if self.trouble && self.clock.elapsed().saturating_sub(started) < LIMIT / 4 {
                self.strike();
            }
            let desired = desired(replicas, self.edits);
            let ledger = self.cloud.notebook.ledger();
            let mut work = self.memory.work(&self.cloud, &self.fence);
            work.spare = next_surplus(replicas, &ledger, None).map(|entry| entry.ordinal);
            let pass = tokio::select! {
                pass = work.apply(&desired, ledger) => Some(pass.map_or(Duration::from_secs(1), |outcome| outcome.next)),
                () = self.cloud.chance.death() => None,
            };
            self.rest(pass).await;
        }
        Ok(())
    }

    /// Passes until nothing is left.
    async fn end(&mut self) -> Result<(), String> {
        let started = self.clock.elapsed();
        loop {
            self.within(started, "the end")?;
            let ledger = self.cloud.notebook.ledger();
            let work = self.memory.work(&self.cloud, &self.fence);
            let pass = tokio::select! {
                pass = work.leave(ledger) => Some(match pass {
                    Ok(Leaving::Over(left)) => {
                        if !left.is_empty() {
                            return Err(format!("given up: {left:?}"));
                        }
                        (true, Duration::ZERO)
                    }
                    Ok(Leaving::Showing(_)) => (false, SWEEP_AGAIN),
                    Ok(Leaving::Going(outcome)) => (false, outcome.next),
                    Err(_) => (false, Duration::from_secs(1)),
                }),
                () = self.cloud.chance.death() => None,
            };
            if pass.is_some_and(|(done, _)| done) {
                break;
            }
            self.rest(pass.map(|(_, next)| next)).await;
        }
        let all = self.cloud.world.instances().into_iter();
        let (theirs, ours): (Vec<_>, Vec<_>) = all.partition(|instance| instance.id == self.neighbour);
        let left: Vec<_> = ours
            .into_iter()
            .filter(|instance| instance.state != State::Terminated)
            .collect();
        let theirs_stay = |ids: &[String]| ids.len() == 1;
        let (volumes, interfaces) = (self.cloud.world.volumes(), self.cloud.world.interfaces());
        if !theirs_stay(&volumes) || !theirs_stay(&interfaces) {
            return Err(format!(
                "not only the neighbour's are left: {volumes:?} {interfaces:?}"
            ));
        }
        if theirs.iter().any(|instance| instance.state != State::Running) {
            return Err(format!("another operator's instance was touched: {theirs:?}"));
        }
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("left behind after the deletion: {left:?}"))
        }
    }

    /// Waits until the next pass; after a crash with an empty memory.
    async fn rest(&mut self, next: Option<Duration>) {
        match next {
            Some(next) => self.clock.sleep(next).await,
            None => self.memory = Memory::new(&self.cloud, &self.clock),
        }
    }

    fn within(&self, started: Duration, what: &str) -> Result<(), String> {
        if let Some(violation) = self.cloud.violations.lock().first() {
            return Err(violation.clone());
        }
        if self.clock.elapsed().saturating_sub(started) < LIMIT {
            return Ok(());
        }
        let ledger = self.cloud.notebook.ledger();
        Err(format!(
            "not within {LIMIT:?}: {what}; {ledger:?}; {:?}",
            self.cloud.world.instances()
        ))
    }

    /// Our live instances.
    fn live(&self) -> Vec<InstanceView> {
        let mut live = self.cloud.world.live(CLUSTER_UID, UID);
        live.retain(|instance| instance.id != self.neighbour);
        live
    }

    fn has(&self, replicas: i32) -> bool {
        let live = self.live();
        i32::try_from(live.len()) == Ok(replicas)
            && live.iter().all(|instance| instance.state == State::Running)
            && self
                .cloud
                .notebook
                .ledger()
                .entries()
                .iter()
                .filter(|entry| entry.instance_id.is_some())
                .count()
                >= live.len()
    }

    /// Something happens behind the operator's back.
    fn strike(&mut self) {
        let (world, chance) = (&self.cloud.world, &self.cloud.chance);
        let live = self.live();
        if !live.is_empty() && chance.happens(30) {
            let victim = &live[chance.below(live.len())].id;
            let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
            self.kills += u64::from(world.terminate(victim, &reason));
        }
        if !live.is_empty() && chance.happens(20) {
            world.stop(&live[chance.below(live.len())].id);
        }
        if !live.is_empty() && chance.happens(20) {
            let victim = &live[chance.below(live.len())].id;
            self.retags += u64::from(world.retag(victim, OPERATOR_ID, None));
        }
        if !live.is_empty() && chance.happens(20) {
            let mut all = [world.volumes(), world.interfaces()].concat();
            // A root volume, as an image has it, goes with its instance.
            all.retain(|part| world.snapshot_of(part).is_none());
            self.keeps += u64::from(world.keep(&all[chance.below(all.len())]));
        }
        if chance.happens(50) {
            let zone = ["us-east-1a", "us-east-1b", "us-east-1c"][chance.below(3)];
            let left = chance.happens(500).then_some(0);
            world.set_capacity(zone, "t3.micro", left);
        }
        if chance.happens(20) {
            world.fail_next_launch(StateReason::new("Client.InternalError", "Client error on launch"));
        }
        if chance.happens(20) {
            let code = [
                "",
                "",
                "UnauthorizedOperation",
                "InvalidAMIID.NotFound",
                "SomethingNew",
            ][chance.below(5)];
            let code = Some(code).filter(|code| !code.is_empty());
            world.deny("RunInstances", code);
        }
        if chance.happens(20) {
            let by = SignedDuration::from_mins(10);
            self.clock.step(if chance.happens(500) { by } else { -by });
        }
        if chance.happens(5) {
            self.edits += 1;
            self.memory.evidence.lock().reconsider();
        }
        if self.clock.elapsed() > LIMIT / 8 {
            for zone in ["us-east-1a", "us-east-1b", "us-east-1c"] {
                world.set_capacity(zone, "t3.micro", None);
            }
            world.deny("RunInstances", None);
        }
    }

    fn report(&self) -> Result<Report, String> {
        if let Some(violation) = self.cloud.violations.lock().first() {
            return Err(violation.clone());
        }
        let (requests, crashes, lost) = self.cloud.chance.counts();
        let audit = self.cloud.world.audit();
        // Less the neighbour's.
        let launches = audit.iter().filter(|call| call.action == "RunInstances").count() - 1;
        let no_room = Outcome::Refused("InsufficientInstanceCapacity".into());
        let crowded = audit.iter().filter(|call| call.outcome == no_room).count();
        Ok(Report {
            lives: 1,
            requests,
            crashes,
            lost,
            throttled: self.cloud.throttled.load(Ordering::Relaxed),
            crowded: u64::try_from(crowded).unwrap(),
            late: u64::from(!self.lag.is_zero()),
            kills: self.kills,
            retags: self.retags,
            keeps: self.keeps,
            edits: self.edits,
            launches: u64::try_from(launches).unwrap(),
            instances: u64::try_from(self.cloud.world.instances().len() - 1).unwrap(),
        })
    }
}
