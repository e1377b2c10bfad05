//! What clients inside the cluster connect with: Services without selectors, their EndpointSlices, and a Secret.
//!
//! Members are machines, so nobody else fills the slices. The writer's holds the leader and nobody else.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{
        core::v1::{Secret, Service, ServicePort, ServiceSpec},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::api::ObjectMeta;

use crate::{
    authority::{APPLICATION, Authority, DATABASE},
    replication::Standing,
    sql::PORT,
};

/// Who manages the slices: no controller of Kubernetes' own touches them.
const MANAGED_BY: &str = "mysql-operator.mysql.alx.ke";

/// A member as an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its address.
    pub address: String,
    /// Its zone.
    pub zone: Option<String>,
    /// What it does.
    pub standing: Standing,
}

/// The two Services of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `<name>`: the leader.
    Writer,
    /// `<name>-ro`: the replicas; the leader as well where it is alone.
    Readers,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Writer, Self::Readers];

    /// The name of the Service and of its slice.
    pub fn service(self, cluster: &str) -> String {
        match self {
            Self::Writer => cluster.to_owned(),
            Self::Readers => format!("{cluster}-ro"),
        }
    }

    /// Where clients connect: host and port.
    pub fn endpoint(self, cluster: &str, namespace: &str) -> String {
        format!("{}.{namespace}.svc:{PORT}", self.service(cluster))
    }
}

/// Why no Services can have this name; nothing if they can.
pub fn unfit(cluster: &str) -> Option<String> {
    let longest = 63 - "-ro".len();
    let fits = cluster.len() <= longest
        && cluster.starts_with(|c: char| c.is_ascii_lowercase())
        && cluster
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    (!fits).then(|| {
        format!(
            "the name {cluster:?} cannot be a Service's: it needs at most {longest} letters, digits and hyphens, a letter first; create a MySQLCluster of such a name"
        )
    })
}

/// The Service of one side.
pub fn service(cluster: &str, side: Side) -> Service {
    let port = ServicePort {
        name: Some("mysql".into()),
        port: i32::from(PORT),
        target_port: Some(IntOrString::Int(i32::from(PORT))),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    };
    Service {
        metadata: metadata(cluster, side.service(cluster)),
        spec: Some(ServiceSpec {
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The slice of one side.
pub fn slice(cluster: &str, side: Side, backends: &[Backend]) -> EndpointSlice {
    let alone = !backends
        .iter()
        .any(|backend| backend.standing == Standing::Follows);
    let chosen = backends.iter().filter(|backend| match (side, backend.standing) {
        (Side::Writer, standing) => standing == Standing::Leads,
        (Side::Readers, Standing::Follows) => true,
        (Side::Readers, Standing::Leads) => alone,
        (Side::Readers, Standing::Idle) => false,
    });
    let endpoint = |backend: &Backend| Endpoint {
        addresses: vec![backend.address.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            serving: Some(true),
            terminating: Some(false),
        }),
        zone: backend.zone.clone(),
        ..Endpoint::default()
    };
    let mut metadata = metadata(cluster, side.service(cluster));
    metadata.labels.get_or_insert_default().extend([
        ("kubernetes.io/service-name".to_owned(), side.service(cluster)),
        (
            "endpointslice.kubernetes.io/managed-by".to_owned(),
            MANAGED_BY.to_owned(),
        ),
    ]);
    EndpointSlice {
        metadata,
        address_type: "IPv4".into(),
        endpoints: chosen.map(endpoint).collect(),
        ports: Some(vec![EndpointPort {
            name: Some("mysql".into()),
            port: Some(i32::from(PORT)),
            protocol: Some("TCP".into()),
            ..EndpointPort::default()
        }]),
    }
}

/// The name of the Secret that applications bind to.
pub fn binding_name(cluster: &str) -> String {
    format!("{cluster}-binding")
}

/// The Secret that applications bind to, as servicebinding.io has it. `certificates` are those of all members: any of
/// them may be behind a Service.
pub fn binding(cluster: &str, namespace: &str, authority: &Authority, certificates: &str) -> Secret {
    let host = format!("{}.{namespace}.svc", Side::Writer.service(cluster));
    let password = &authority.application_password;
    let entries = [
        ("type", "mysql".to_owned()),
        ("provider", "mysql.alx.ke".to_owned()),
        ("host", host.clone()),
        ("port", PORT.to_string()),
        ("username", APPLICATION.to_owned()),
        ("password", password.clone()),
        ("database", DATABASE.to_owned()),
        (
            "uri",
            format!("mysql://{APPLICATION}:{password}@{host}:{PORT}/{DATABASE}"),
        ),
        (
            "read-host",
            format!("{}.{namespace}.svc", Side::Readers.service(cluster)),
        ),
        ("ca.crt", certificates.to_owned()),
    ];
    Secret {
        metadata: metadata(cluster, binding_name(cluster)),
        type_: Some("servicebinding.io/mysql".into()),
        data: Some(
            entries
                .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
                .into(),
        ),
        ..Secret::default()
    }
}

fn metadata(cluster: &str, name: String) -> ObjectMeta {
    let labels = BTreeMap::from([
        (
            "app.kubernetes.io/managed-by".to_owned(),
            "nairobi-mysql-operator".to_owned(),
        ),
        ("app.kubernetes.io/name".to_owned(), "mysql".to_owned()),
        ("mysql.alx.ke/cluster".to_owned(), cluster.to_owned()),
    ]);
    ObjectMeta {
        name: Some(name),
        labels: Some(labels),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn backend(address: &str, standing: Standing) -> Backend {
        Backend {
            address: address.into(),
            zone: Some("us-east-1a".into()),
            standing,
        }
    }

    fn addresses(side: Side, backends: &[Backend]) -> Vec<String> {
        slice("c", side, backends)
            .endpoints
            .into_iter()
            .flat_map(|endpoint| endpoint.addresses)
            .collect()
    }

    #[test]
    fn writes_go_to_the_leader_alone_and_reads_to_who_follows() {
        let three = [
            backend("10.0.0.4", Standing::Leads),
            backend("10.0.1.4", Standing::Follows),
            backend("10.0.2.4", Standing::Idle),
        ];
        assert_eq!(addresses(Side::Writer, &three), ["10.0.0.4"]);
        assert_eq!(addresses(Side::Readers, &three), ["10.0.1.4"]);
        assert_eq!(addresses(Side::Readers, &three[..1]), ["10.0.0.4"]);
        assert_eq!(addresses(Side::Writer, &three[1..]), [""; 0]);
    }

    #[test]
    fn nobody_else_fills_the_slices() {
        for side in Side::ALL {
            assert!(service("c", side).spec.unwrap().selector.is_none());
            let labels = slice("c", side, &[]).metadata.labels.unwrap();
            assert_eq!(labels["kubernetes.io/service-name"], side.service("c"));
        }
    }

    #[rstest]
    #[case("orders", true)]
    #[case(&"o".repeat(60), true)]
    #[case(&"o".repeat(61), false)]
    #[case("7up", false)]
    #[case("a.b", false)]
    fn a_name_that_no_service_can_have_is_refused(#[case] name: &str, #[case] fits: bool) {
        assert_eq!(unfit(name).is_none(), fits);
    }

    #[test]
    fn the_binding_holds_what_a_client_needs() {
        let authority = Authority::generate().unwrap();
        let data = binding("orders", "shop", &authority, "PEM").data.unwrap();
        let text = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
        assert_eq!(text("host"), "orders.shop.svc");
        assert_eq!(
            text("uri"),
            format!(
                "mysql://app:{}@orders.shop.svc:3306/app",
                authority.application_password
            )
        );
        assert_eq!(text("ca.crt"), "PEM");
    }
}
