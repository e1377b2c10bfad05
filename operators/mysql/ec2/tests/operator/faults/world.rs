//! One cluster of three, from creation to the last trace, in a world of its own.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use fake_ec2::{FakeEc2, InstanceView, Limits, Options as Ec2Options, State, StateReason, Timings};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use mysql_api::MySQLCluster;
use mysql_controller::{
    cloud::InstanceState,
    identity::{CLUSTER_UID, ORDINAL},
};
use reconcile::{client::wire_layer, clock::Clock, manager::Options};
use testkit::{
    control_plane::{ControlPlane, TestNamespace},
    fault::{FaultPlan, crash::Harness, kube::FaultLayer, proxy, proxy::Proxy, report::Coverage},
};
use tokio_util::sync::CancellationToken;

use super::{
    heir::Estate,
    protocol::{Ec2Protocol, Misdeeds},
};
use crate::{
    bed::{manager, sample, says, sdk},
    fleet::Fleet,
};

pub(crate) const NAME: &str = "c";
const SPEED: u32 = 200;
pub(crate) const POLL: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_mins(5);

/// What happens to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It runs, loses a member behind the operator's back, gets another, and is deleted.
    Whole,
    /// It is deleted as soon as launches are recorded.
    CutShort,
    /// It takes over what an earlier one has left, and is deleted.
    Heir,
    /// It is deleted in the foreground as soon as it has begun to take over, before an operator looks again.
    HeirCutShort,
}

pub(crate) struct World {
    pub(crate) plane: &'static ControlPlane,
    pub(crate) namespace: TestNamespace,
    pub(crate) ec2: FakeEc2,
    pub(crate) fleet: Fleet,
    proxy: Proxy,
    pub(crate) clock: Clock,
    life: Life,
    misdeeds: Misdeeds,
    struck: AtomicBool,
    /// What an earlier cluster has left.
    pub(crate) estate: Option<Estate>,
}

pub(crate) fn full() -> bool {
    std::env::var("TESTKIT_FULL").is_ok_and(|value| value == "1")
}

pub(crate) fn harness(name: &str) -> Harness {
    Harness::new(name)
        .clock(Clock::accelerated(SPEED))
        .deadline(Duration::from_mins(6))
        .parallel(3)
}

pub(crate) fn coverage(plans: usize, sites: usize, crash_sites: usize) -> Coverage {
    Coverage {
        plans,
        sites,
        crash_sites,
    }
}

/// An account behind the plan's proxy, and a cluster to be.
pub(crate) async fn world(plan: FaultPlan, life: Life) -> Result<World> {
    let plane = ControlPlane::shared().await?;
    plane.apply_crds(&mysql_api::crds()).await?;
    let namespace = plane.namespace().await?;
    let ec2 = FakeEc2::start(&Ec2Options {
        timings: Timings {
            lag: Duration::from_secs(20),
            ..Timings::default()
        },
        limits: Limits::Unlimited,
        clock: plan.clock().clone(),
        ..Ec2Options::default()
    })?;
    let misdeeds = Misdeeds::default();
    let protocol = Ec2Protocol {
        plane: plane.config().clone(),
        namespace: namespace.name().to_owned(),
        misdeeds: misdeeds.clone(),
    };
    let proxy = Proxy::start(ec2.address(), protocol, proxy::Options::new(&plan))?;
    let mut world = World {
        plane,
        namespace,
        fleet: Fleet::new(ec2.world()),
        ec2,
        proxy,
        clock: plan.clock().clone(),
        life,
        misdeeds,
        struck: AtomicBool::new(false),
        estate: None,
    };
    if matches!(life, Life::Heir | Life::HeirCutShort) {
        world.estate = Some(world.inherit().await?);
    } else {
        let cluster = MySQLCluster::new(NAME, serde_json::from_value(sample(3))?);
        world.clusters().create(&PostParams::default(), &cluster).await?;
    }
    Ok(world)
}

impl World {
    pub(crate) fn clusters(&self) -> Api<MySQLCluster> {
        Api::namespaced(self.plane.client(), self.namespace.name())
    }

    /// Whether its deletion was asked for; a crash may come before, in the middle of and after that request.
    async fn is_leaving(&self) -> Result<bool> {
        let found = self.clusters().get_opt(NAME).await?;
        Ok(found.is_none_or(|cluster| cluster.metadata.deletion_timestamp.is_some()))
    }

    /// Waits until the cluster satisfies `holds`; `None` is one that is gone. A plan that takes too long says where it
    /// stood.
    pub(crate) async fn until(&self, holds: impl Fn(Option<&MySQLCluster>) -> bool) -> Result<()> {
        let clusters = self.clusters();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let found = clusters.get_opt(NAME).await?;
            if holds(found.as_ref()) {
                return Ok(());
            }
            ensure!(
                tokio::time::Instant::now() < deadline,
                "not within {PATIENCE:?}: {:#?}",
                found.and_then(|cluster| cluster.status)
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends a member's instance behind the operator's back, once in a world's life.
    fn strike(&self) {
        if self.struck.swap(true, Ordering::AcqRel) {
            return;
        }
        let all = self.ec2.world().instances();
        let victim = all.iter().find(|instance| {
            instance.tags.get(ORDINAL).is_some_and(|ordinal| ordinal == "1")
                && instance.state == State::Running
        });
        let reason = StateReason::new("Client.UserInitiatedShutdown", "User initiated shutdown");
        if let Some(victim) = victim {
            self.ec2.world().terminate(&victim.id, &reason);
        }
    }
}

fn whole(cluster: Option<&MySQLCluster>) -> bool {
    says(cluster, "Provisioned", "True", "InstancesRunning")
}

fn replaced(cluster: Option<&MySQLCluster>) -> bool {
    let member = |cluster: &MySQLCluster| {
        let status = cluster.status.as_ref()?;
        let member = status.members.iter().find(|member| member.ordinal == 1)?;
        let runs = member.state.as_deref() == Some(InstanceState::Running.as_str());
        Some(member.incarnation > 1 && runs)
    };
    whole(cluster) && cluster.and_then(member).unwrap_or_default()
}

fn launching(cluster: Option<&MySQLCluster>) -> bool {
    let status = cluster.and_then(|cluster| cluster.status.as_ref());
    status.is_some_and(|status| !status.launches.is_empty())
}

/// One incarnation of the operator, until the object is gone.
pub(crate) async fn run(world: Arc<World>, plan: FaultPlan) -> Result<()> {
    let mut options = Options::new("mysql-operator");
    options.namespaces = vec![world.namespace.name().to_owned()];
    options.clock = world.clock.clone();
    options.wire = Some(wire_layer(FaultLayer::new(&plan)));
    let manager = manager(
        options,
        world.plane.config().clone(),
        &sdk(&world.proxy.endpoint()),
        world.fleet.clone(),
    );
    let cut_short = world.life == Life::HeirCutShort;
    if cut_short && world.is_taken().await? {
        world.delete_in_foreground().await?;
    }
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(manager.run(shutdown.clone()));
    if !world.is_leaving().await? {
        match world.life {
            Life::Heir => world.until(|cluster| world.has_inherited(cluster)).await?,
            Life::HeirCutShort => {
                while !world.is_taken().await? {
                    tokio::time::sleep(POLL).await;
                }
            }
            Life::CutShort => world.until(launching).await?,
            Life::Whole => {
                if !world.struck.load(Ordering::Acquire) {
                    world.until(whole).await?;
                    world.strike();
                }
                world.until(replaced).await?;
            }
        }
        let params = if cut_short {
            DeleteParams::foreground()
        } else {
            DeleteParams::default()
        };
        world.clusters().delete(NAME, &params).await?;
    }
    world.until(|cluster| cluster.is_none()).await?;
    shutdown.cancel();
    running.await??;
    Ok(())
}

/// What must hold afterwards, and must have held at every moment.
pub(crate) async fn check(world: Arc<World>) -> Result<()> {
    let misdeeds = world.misdeeds.lock().clone();
    ensure!(misdeeds.is_empty(), "{misdeeds:?}");
    let account = world.ec2.world();
    let all = account.instances();
    if let Some(estate) = &world.estate
        && world.is_left(estate).await?
    {
        ensure!(world.life == Life::HeirCutShort, "nothing was taken over");
        return Ok(());
    }
    let left: Vec<_> = all
        .iter()
        .filter(|instance| instance.state != State::Terminated)
        .collect();
    ensure!(left.is_empty(), "instances are left: {left:#?}");
    ensure!(
        account.volumes().is_empty(),
        "volumes are left: {:?}",
        account.volumes()
    );
    ensure!(
        account.interfaces().is_empty(),
        "interfaces are left: {:?}",
        account.interfaces()
    );
    if world.life == Life::Whole {
        ensure!(
            all.len() == 4,
            "{} instances were launched for three members and one loss",
            all.len()
        );
    }
    one_at_a_time(&all)
}

/// No instance of a member was launched before the last one was terminated.
fn one_at_a_time(all: &[InstanceView]) -> Result<()> {
    let mut members: BTreeMap<_, Vec<&InstanceView>> = BTreeMap::new();
    for instance in all {
        let tag = |key: &str| instance.tags.get(key).cloned().unwrap_or_default();
        members
            .entry((tag(CLUSTER_UID), tag(ORDINAL)))
            .or_default()
            .push(instance);
    }
    for (member, instances) in members {
        for pair in instances.windows(2) {
            let over = pair[0].terminated.is_some_and(|at| at <= pair[1].launched);
            ensure!(over, "member {member:?} had two instances at a time: {pair:#?}");
        }
    }
    Ok(())
}
