//! The load balancer's container: made, started again, and made anew where it cannot be started again.

use docker_api::{ImagePullPolicy, PortProtocol};

use super::{Error, HOME_LABEL, IMAGE_LABEL, Known, LoadBalancers, PORT_LABEL, Wanted, config};
use crate::{
    engine::{Container, ContainerPlan, Engine, Failure, PublishedPort},
    launch::{Launch, launch},
    network,
};

impl<E: Engine> LoadBalancers<E> {
    /// Makes the container anew, in the place of `existing`.
    pub(super) async fn launch(
        &self,
        wanted: &Wanted<'_>,
        existing: Option<&Container>,
        known: &mut Known,
    ) -> Result<(), Error> {
        let request = wanted.request;
        known.forget();
        self.engine
            .ensure_image(&request.image, ImagePullPolicy::IfNotPresent, None)
            .await?;
        let name = request.cluster.load_balancer_name();
        let host_ports = if request.host_port.is_some() {
            Vec::new()
        } else {
            network::host_ports(&name).collect()
        };
        let files = vec![(
            config::PATH.to_owned(),
            config::render(request.port, &wanted.servers).into_bytes(),
        )];
        Ok(launch(
            &self.engine,
            Launch {
                plan: plan(wanted, name),
                address: request.address,
                host_ports,
                files,
            },
            existing,
        )
        .await?)
    }

    /// Starts the container that stopped; makes it anew where that cannot be.
    pub(super) async fn restart(
        &self,
        wanted: &Wanted<'_>,
        existing: Option<&Container>,
        known: &mut Known,
    ) -> Result<(), Error> {
        known.forget();
        let name = wanted.request.cluster.load_balancer_name();
        match self.engine.start(&name).await {
            // Somebody took its place, or removed its network, while it was down.
            Err(error)
                if matches!(
                    error.kind,
                    Failure::PortTaken | Failure::AddressTaken | Failure::NotFound
                ) =>
            {
                self.launch(wanted, existing, known).await
            }
            other => Ok(other?),
        }
    }
}

fn plan(wanted: &Wanted<'_>, name: String) -> ContainerPlan {
    let (request, network) = (wanted.request, &wanted.network);
    let mut labels = request.cluster.load_balancer_labels();
    labels.insert(PORT_LABEL.into(), request.port.to_string());
    labels.insert(HOME_LABEL.into(), network.clone());
    labels.insert(IMAGE_LABEL.into(), request.image.clone());
    let port = PublishedPort {
        container_port: request.port,
        host_port: request.host_port,
        listen_address: "127.0.0.1".into(),
        protocol: PortProtocol::Tcp,
    };
    ContainerPlan {
        hostname: format!("{}-lb", request.cluster.name).chars().take(63).collect(),
        image: request.image.clone(),
        labels,
        entrypoint: Some(
            ["haproxy", "-W", "-db", "-f", config::PATH]
                .map(str::to_owned)
                .into(),
        ),
        network: network.clone(),
        ports: vec![port],
        name,
        ..ContainerPlan::default()
    }
}
