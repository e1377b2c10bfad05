//! Where a load balancer is, and where people look for it.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use docker_controller::engine::ContainerPlan;
use serde_json::{Value, json};

use crate::{
    objects::{is, message_of, reason},
    scene::Scene,
    world::{NETWORK, up},
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
