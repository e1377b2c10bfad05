//! Where a load balancer is, and where people look for it.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use docker_controller::{
    contract::View,
    engine::{ContainerEvent, ContainerPlan, ContainerState},
    identity::ClusterId,
    load_balancer::{LoadBalancers, Request, home::Home},
};
use serde_json::{Value, json};
use testkit::fault::{FaultPlan, Schedule};

use crate::{
    docker::Docker,
    objects::{DEADLINE, is, message_of, reason},
    scene::Scene,
    world::{CONTROL_PLANE, NETWORK, serves_the_control_plane, up},
};

const SUBNET: (Ipv4Addr, u8) = (Ipv4Addr::new(172, 21, 0, 0), 16);
const SQUATTER: &str = "squatter";

impl Scene {
    fn balancer(&self) -> String {
        format!("c1_lb.{}", self.world.namespace.name())
    }

    fn address(&self) -> Option<Ipv4Addr> {
        let daemon = self.world.daemon.lock();
        daemon.containers.get(&self.balancer())?.address
    }

    /// Load balancer and machine get each other's address; those before and after of the load balancer.
    fn swap_addresses(&self) -> Result<(Ipv4Addr, Ipv4Addr)> {
        let machine = format!("{CONTROL_PLANE}.{}", self.world.namespace.name());
        let mut daemon = self.world.daemon.lock();
        let before = daemon.find(&self.balancer())?.address;
        let after = std::mem::replace(&mut daemon.find(&machine)?.address, before);
        daemon.find(&self.balancer())?.address = after;
        let _ = daemon.events.send(ContainerEvent::default());
        Ok((before.context("no address")?, after.context("no address")?))
    }

    async fn told(&self, holds: impl Fn(&str) -> bool) -> Result<Value> {
        let says = |object: &Value| message_of(object, "LoadBalancerAvailable").is_some_and(&holds);
        self.wait("DockerCluster", "c1", says).await
    }
}

/// Such as the network that kind makes.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_network_that_assigns_addresses_a_cluster_comes_up_and_says_that_they_may_move() -> Result<()> {
    let scene = Scene::set().await?;
    {
        let mut daemon = scene.world.daemon.lock();
        daemon.networks.insert(NETWORK.into(), SUBNET);
        daemon.assigning.insert(NETWORK.into());
    }
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    let object = scene
        .told(|message| message.contains("network nodes assigns addresses itself"))
        .await?;
    ensure!(is(&object, "LoadBalancerAvailable", "True"), "{object:#}");
    let asked = scene.world.daemon.lock().addresses_refused;
    ensure!(asked == 1, "the network was asked for an address {asked} times");
    operator.stop().await;
    Ok(())
}

/// Docker has restarted, and has handed out the addresses in another order.
#[tokio::test(flavor = "multi_thread")]
async fn where_addresses_have_moved_the_load_balancer_finds_its_machines_and_says_that_nobody_finds_it()
-> Result<()> {
    let scene = Scene::set().await?;
    {
        let mut daemon = scene.world.daemon.lock();
        daemon.networks.insert(NETWORK.into(), SUBNET);
        daemon.assigning.insert(NETWORK.into());
    }
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    let (before, after) = scene.swap_addresses()?;
    let object = scene
        .told(|message| {
            message.contains(&format!(
                "runs at {after}, and controlPlaneEndpoint names {before}"
            ))
        })
        .await?;
    ensure!(is(&object, "LoadBalancerAvailable", "False"), "{object:#}");
    let message = message_of(&object, "LoadBalancerAvailable").unwrap_or_default();
    ensure!(
        message.contains("make the cluster anew on a network"),
        "{message}"
    );
    ensure!(
        object["spec"]["controlPlaneEndpoint"]["host"] == before.to_string(),
        "{object:#}"
    );
    let moved = |object: &Value| {
        let addresses = object["status"]["addresses"].as_array();
        addresses
            .into_iter()
            .flatten()
            .any(|address| address["type"] == "InternalIP" && address["address"] == before.to_string())
    };
    scene.wait("DockerMachine", CONTROL_PLANE, moved).await?;
    let serves = async {
        while serves_the_control_plane(&scene.world).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, serves).await?;
    operator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_gets_the_address_that_the_endpoint_names() -> Result<()> {
    let scene = Scene::set().await?;
    scene.world.daemon.lock().networks.insert(NETWORK.into(), SUBNET);
    let endpoint = json!({"spec": {"controlPlaneEndpoint": {"host": "172.21.7.7", "port": 6443}}});
    scene.objects.patch("DockerCluster", "c1", &endpoint).await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    ensure!(
        scene.address() == Some([172, 21, 7, 7].into()),
        "{:?}",
        scene.address()
    );
    operator.stop().await;
    Ok(())
}

/// Such as one that upstream's provider runs: freeing the address would cut off its control plane.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_endpoint_is_another_providers_gets_no_second_load_balancer() -> Result<()> {
    const THEIRS: &str = "c1-lb";
    let scene = Scene::set().await?;
    let balancer = ContainerPlan {
        name: THEIRS.into(),
        network: NETWORK.into(),
        address: Some([172, 21, 7, 7].into()),
        ..ContainerPlan::default()
    };
    {
        let mut daemon = scene.world.daemon.lock();
        daemon.networks.insert(NETWORK.into(), SUBNET);
        daemon.create(&balancer)?;
        daemon.start(THEIRS)?;
    }
    let endpoint = json!({"spec": {"controlPlaneEndpoint": {"host": "172.21.7.7", "port": 6443}}});
    scene.objects.patch("DockerCluster", "c1", &endpoint).await?;
    let operator = scene.start();
    let object = scene
        .told(|message| message.contains("If another provider has made the cluster, finish it there"))
        .await?;
    ensure!(is(&object, "LoadBalancerAvailable", "False"), "{object:#}");
    ensure!(scene.address().is_none(), "there is a second load balancer");
    scene.world.daemon.lock().remove(THEIRS)?;
    let there = |object: &Value| is(object, "LoadBalancerAvailable", "True");
    scene.wait("DockerCluster", "c1", there).await?;
    ensure!(
        scene.address() == Some([172, 21, 7, 7].into()),
        "{:?}",
        scene.address()
    );
    operator.stop().await;
    Ok(())
}

/// One that an earlier version has made beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_load_balancer_does_not_advise_to_take_the_address_of_the_first() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    let there = |object: &Value| is(object, "LoadBalancerAvailable", "True");
    scene.wait("DockerCluster", "c1", there).await?;
    operator.stop().await;
    let theirs = {
        let mut daemon = scene.world.daemon.lock();
        let model = daemon.find(&scene.balancer())?;
        let theirs = model.address.context("it has no address")?;
        let next = Ipv4Addr::from(u32::from(theirs) - 1);
        (model.address, model.plan.address) = (Some(next), Some(next));
        theirs
    };
    let operator = scene.start();
    let message = format!("finish it there and leave {theirs} to it");
    let object = scene.told(|told| told.contains(&message)).await?;
    let told = message_of(&object, "LoadBalancerAvailable").unwrap_or_default();
    ensure!(!told.contains("docker rm"), "{told}");
    operator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_that_lost_its_address_says_so_and_gets_it_back() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    operator.stop().await;
    let address = scene.address().context("it has no address")?;
    let squatter = ContainerPlan {
        name: SQUATTER.into(),
        network: NETWORK.into(),
        address: Some(address),
        ..ContainerPlan::default()
    };
    {
        let mut daemon = scene.world.daemon.lock();
        daemon.remove(&scene.balancer())?;
        daemon.create(&squatter)?;
        daemon.start(SQUATTER)?;
    }
    let operator = scene.start();
    let lost = |object: &Value| is(object, "LoadBalancerAvailable", "False");
    let object = scene.wait("DockerCluster", "c1", lost).await?;
    ensure!(reason(&object, "Ready") == Some("NotAvailable"), "{object:#}");
    ensure!(
        object["status"]["initialization"]["provisioned"] == json!(true),
        "{object:#}"
    );
    let message = message_of(&object, "LoadBalancerAvailable").unwrap_or_default();
    let other = scene.address().context("it has no address")?;
    ensure!(other != address, "two have one address");
    for words in [
        address.to_string(),
        other.to_string(),
        format!("docker rm --force {}", scene.balancer()),
    ] {
        ensure!(message.contains(&words), "no {words} in {message}");
    }
    {
        let mut daemon = scene.world.daemon.lock();
        daemon.remove(SQUATTER)?;
        daemon.remove(&scene.balancer())?;
    }
    let found = |object: &Value| is(object, "LoadBalancerAvailable", "True");
    scene.wait("DockerCluster", "c1", found).await?;
    ensure!(scene.address() == Some(address), "{:?}", scene.address());
    operator.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_running_load_balancer_does_not_take_over_is_told_with_what_to_do() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    let id = || {
        scene
            .world
            .daemon
            .lock()
            .containers
            .get(&scene.balancer())
            .map(|model| model.id.clone())
    };
    let before = id();
    let other = json!({"spec": {"loadBalancer": {"hostPort": 32_767}, "loadbalancerImage": "other:1"}});
    scene.objects.patch("DockerCluster", "c1", &other).await?;
    let object = scene
        .told(|message| message.contains("32767") && message.contains("other:1 is asked for"))
        .await?;
    ensure!(is(&object, "Ready", "True"), "{object:#}");
    ensure!(id() == before, "it was made anew");
    scene.world.daemon.lock().remove(&scene.balancer())?;
    let object = scene.told(str::is_empty).await?;
    ensure!(object["status"]["hostPort"] == 32_767, "{object:#}");
    operator.stop().await;
    Ok(())
}

impl Scene {
    /// Stops the load balancer, and lets somebody else have the port of the host that it is published on.
    fn takes_its_port(&self) -> Result<u16> {
        let mut daemon = self.world.daemon.lock();
        let balancer = daemon.find(&self.balancer())?;
        balancer.state = ContainerState::Stopped;
        let port = balancer.plan.ports.first().and_then(|port| port.host_port);
        let port = port.context("it is not published")?;
        daemon.taken_ports.insert(port);
        Ok(port)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_whose_port_was_taken_while_it_was_down_is_made_anew_on_another() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    up(&scene.world, &scene.objects).await?;
    operator.stop().await;
    let address = scene.address().context("it has no address")?;
    let port = scene.takes_its_port()?;
    let operator = scene.start();
    let elsewhere = |object: &Value| {
        let told = object["status"]["hostPort"].as_u64();
        is(object, "LoadBalancerAvailable", "True") && told.is_some_and(|told| told != u64::from(port))
    };
    scene.wait("DockerCluster", "c1", elsewhere).await?;
    ensure!(scene.address() == Some(address), "{:?}", scene.address());
    serves_the_control_plane(&scene.world)?;
    operator.stop().await;
    Ok(())
}

/// Somebody relies on it: firewalls and kubeconfigs name it.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_was_asked_for_is_waited_for_and_not_replaced() -> Result<()> {
    const PORT: u16 = 30_001;
    let scene = Scene::set().await?;
    let fixed = json!({"spec": {"loadBalancer": {"hostPort": PORT}}});
    scene.objects.patch("DockerCluster", "c1", &fixed).await?;
    let operator = scene.start();
    let there = |object: &Value| {
        is(object, "LoadBalancerAvailable", "True") && object["status"]["hostPort"] == json!(PORT)
    };
    scene.wait("DockerCluster", "c1", there).await?;
    operator.stop().await;
    ensure!(scene.takes_its_port()? == PORT, "it is published elsewhere");
    let operator = scene.start();
    let object = scene.told(|message| message.contains("127.0.0.1:30001")).await?;
    ensure!(is(&object, "LoadBalancerAvailable", "False"), "{object:#}");
    ensure!(object["status"]["hostPort"] == json!(PORT), "{object:#}");
    scene.world.daemon.lock().taken_ports.clear();
    scene.wait("DockerCluster", "c1", there).await?;
    operator.stop().await;
    Ok(())
}

/// One pass over a load balancer that is well asks for the cluster's containers once.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_that_is_well_is_looked_at_by_one_list() -> Result<()> {
    let plan = FaultPlan::new(Schedule::default());
    let docker = Docker {
        daemon: Arc::default(),
        boundary: plan.boundary(),
        noted: Arc::default(),
    };
    let balancers = LoadBalancers::new(docker, View::default(), plan.clock().clone());
    let request = Request {
        cluster: ClusterId::new("ns", "c1"),
        image: "haproxy:1".into(),
        home: Home {
            named: None,
            default: NETWORK.into(),
        },
        address: None,
        port: 6443,
        host_port: None,
    };
    let (made, containers) = balancers.ensure(&request).await?;
    ensure!(containers.len() == 1, "{containers:?}");
    let lists = || plan.sites().get("Docker list").copied().unwrap_or_default();
    let before = lists();
    let (found, containers) = balancers.ensure(&request).await?;
    ensure!(found == made, "{found:?} was {made:?}");
    ensure!(containers.len() == 1, "{containers:?}");
    ensure!(lists() == before + 1, "{} lists", lists() - before);
    Ok(())
}

/// As after the network of a cluster that was stopped has been pruned.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_whose_network_was_removed_while_it_was_down_is_made_anew() -> Result<()> {
    let scene = Scene::set().await?;
    let operator = scene.start();
    let there = |object: &Value| is(object, "LoadBalancerAvailable", "True");
    scene.wait("DockerCluster", "c1", there).await?;
    operator.stop().await;
    let address = scene.address().context("it has no address")?;
    {
        let mut daemon = scene.world.daemon.lock();
        let balancer = daemon.find(&scene.balancer())?;
        balancer.state = ContainerState::Stopped;
        daemon.networks.remove(NETWORK);
    }
    let operator = scene.start();
    let runs = async {
        while scene
            .world
            .daemon
            .lock()
            .find(&scene.balancer())
            .is_ok_and(|model| model.state != ContainerState::Running)
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, runs).await?;
    scene.wait("DockerCluster", "c1", there).await?;
    ensure!(scene.address() == Some(address), "{:?}", scene.address());
    operator.stop().await;
    Ok(())
}
