//! Endpoints that do not answer, and names that lead where nobody may connect.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use dynamodb_controller::endpoint::Names;
use reconcile::clock::Clock;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{
    bed::{BYSTANDERS, Bed, VICTIM, message, server},
    operator::Operator,
};

/// The cloud's metadata service.
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A port that refuses connections until somebody listens, and that nobody else can be given meanwhile.
fn closed_port() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Takes every connection on to `target`, until the test's runtime ends.
fn forward(listener: TcpListener, target: SocketAddr) {
    tokio::spawn(async move {
        while let Ok((mut incoming, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut outgoing = TcpStream::connect(target).await?;
                tokio::io::copy_bidirectional(&mut incoming, &mut outgoing).await
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_does_not_answer_is_reported_and_used_as_soon_as_it_does() {
    let bed = Bed::new(server().await, 50).await;
    let (socket, address) = closed_port();
    let endpoint = format!("http://{address}");
    let operator = bed.operator_with(|_, policy| policy.endpoints = endpoint.parse().unwrap());
    let mut spec = bed.spec();
    spec.endpoint_url = Some(endpoint.clone());
    bed.create("x", spec).await;
    let status = bed.until("x", "Unknown", "EndpointUnreachable").await;
    assert!(message(&status).contains("endpointURL"), "{}", message(&status));
    bed.until_event("x", "EndpointUnreachable").await;
    assert_eq!(bed.count(VICTIM).await, 50);

    forward(socket.listen(64).unwrap(), bed.proxy.address());
    bed.until("x", "True", "PartitionEmpty").await;
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    operator.stop().await;
}

/// An operator for which the job's host has these addresses, looked up again each time.
fn resolving(
    bed: &Bed,
    endpoint: &str,
    lookup: impl Fn() -> Vec<IpAddr> + Send + Sync + 'static,
) -> Operator {
    bed.operator_with(|options, policy| {
        options.clock = Clock::accelerated(1000);
        policy.endpoints = endpoint.parse().unwrap();
        policy.names = Names::new(move |_| Box::pin(std::future::ready(Ok(lookup()))));
    })
}

fn named(bed: &Bed) -> String {
    format!("http://db.example:{}", bed.proxy.address().port())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_connected_to_at_the_addresses_that_were_checked_and_at_no_other() {
    let bed = Bed::new(server().await, 50).await;
    let endpoint = named(&bed);
    let operator = resolving(&bed, &endpoint, || vec![METADATA, HERE]);
    let mut spec = bed.spec();
    spec.endpoint_url = Some(endpoint);
    bed.create("x", spec).await;
    bed.until("x", "True", "PartitionEmpty").await;
    assert_eq!(bed.counts().await, (0, BYSTANDERS));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_to_the_metadata_service_ends_the_job_as_not_allowed() {
    let bed = Bed::new(server().await, 50).await;
    let endpoint = named(&bed);
    let operator = resolving(&bed, &endpoint, || vec![METADATA]);
    let mut spec = bed.spec();
    spec.endpoint_url = Some(endpoint.clone());
    bed.create("x", spec).await;
    let status = bed.until("x", "False", "EndpointNotAllowed").await;
    let told = message(&status);
    assert!(
        told.contains(&endpoint) && told.contains("169.254.169.254"),
        "{told}"
    );
    bed.until_event("x", "EndpointNotAllowed").await;
    assert_eq!(bed.counts().await, (50, BYSTANDERS));
    operator.stop().await;
}

/// As an attacker does who owns the name's server: a good answer for whoever checks, another for whoever connects.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_changes_its_meaning_after_the_check_is_not_followed() {
    let bed = Bed::new(server().await, 50).await;
    let endpoint = named(&bed);
    let looked_up = Arc::new(AtomicU64::new(0));
    let counted = looked_up.clone();
    let operator = resolving(&bed, &endpoint, move || {
        match counted.fetch_add(1, Ordering::SeqCst) {
            0 => vec![HERE],
            _ => vec![METADATA],
        }
    });
    let mut spec = bed.spec();
    spec.endpoint_url = Some(endpoint);
    bed.create("x", spec).await;
    bed.until("x", "False", "EndpointNotAllowed").await;
    assert!(
        looked_up.load(Ordering::SeqCst) >= 3,
        "checked, connected, checked again"
    );
    assert_eq!(bed.proxy.audit().total(), 0, "nothing was sent");
    assert_eq!(bed.counts().await, (50, BYSTANDERS));
    operator.stop().await;
}
