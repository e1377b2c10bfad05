//! Addresses that are never connected to, and the resolver that filters them out of every name's answer.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use futures::future::BoxFuture;

use super::{Endpoint, EndpointError};

/// Whether `address` is one that no endpoint may lead to: link-local (most metadata services of clouds among them),
/// metadata services elsewhere, multicast, broadcast, unspecified, and the same in IPv6's disguises.
pub(super) fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_forbidden_v4(address),
        IpAddr::V6(address) => match inner(address) {
            Some(inner) => is_forbidden_v4(inner),
            None => is_forbidden_v6(address),
        },
    }
}

/// The IPv4 address that this one reaches: `::ffff:a.b.c.d` (mapped), `64:ff9b::a.b.c.d` (NAT64), `2002:…` (6to4).
fn inner(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    match octets {
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] | [0x20, 0x02, a, b, c, d, ..] => {
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => address.to_ipv4_mapped(),
    }
}

fn is_forbidden_v4(address: Ipv4Addr) -> bool {
    /// Metadata services that are not link-local: Alibaba Cloud's, Azure's and Oracle's.
    const METADATA: [Ipv4Addr; 3] = [
        Ipv4Addr::new(100, 100, 100, 200),
        Ipv4Addr::new(168, 63, 129, 16),
        Ipv4Addr::new(192, 0, 0, 192),
    ];
    address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.octets()[0] == 0
        || METADATA.contains(&address)
}

fn is_forbidden_v6(address: Ipv6Addr) -> bool {
    /// Google Cloud's metadata service: a unique local address, unlike others.
    const GOOGLE: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);
    // AWS keeps `fd00:ec2::/32` for services of the node: instance metadata, Pod Identity's credentials, DNS, time.
    let of_aws_node = address.segments()[..2] == [0xfd00, 0xec2];
    address.is_unicast_link_local()
        || address.is_multicast()
        || address.is_unspecified()
        || of_aws_node
        || address == GOOGLE
}

/// How the names of endpoints become addresses: as the system resolves them, or as a test says. Clones are the same.
#[derive(Clone)]
pub struct Names(Arc<Lookup>);

type Lookup = dyn Fn(&str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync;

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

impl Default for Names {
    /// The system's resolver.
    fn default() -> Self {
        Self::new(|name| {
            let name = name.to_owned();
            Box::pin(async move {
                // The port is the connector's business; the system's resolver wants one.
                let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        })
    }
}

impl Names {
    /// Resolves names by `lookup`.
    pub fn new(
        lookup: impl Fn(&str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(lookup))
    }

    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        (self.0)(name).await
    }

    /// Refuses an endpoint whose name leads to forbidden addresses alone. That a name cannot be resolved is no
    /// refusal: it may be resolved later.
    ///
    /// # Errors
    /// [`EndpointError::ForbiddenAddress`].
    pub async fn check(&self, endpoint: &Endpoint) -> Result<(), EndpointError> {
        let Some(name) = endpoint.domain() else {
            return Ok(());
        };
        let found = self.addresses(name).await.unwrap_or_default();
        match found.first() {
            Some(address) if found.iter().all(|ip| is_forbidden(*ip)) => {
                Err(EndpointError::ForbiddenAddress {
                    url: endpoint.url().unwrap_or_default(),
                    address: *address,
                })
            }
            _ => Ok(()),
        }
    }
}

/// Resolves names and drops forbidden addresses; a name that has no other fails.
#[derive(Clone, Debug, Default)]
pub struct CheckedResolver(pub Names);

impl ResolveDns for CheckedResolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = self.0.addresses(name).await.map_err(ResolveDnsError::new)?;
            let allowed: Vec<_> = found.into_iter().filter(|ip| !is_forbidden(*ip)).collect();
            if allowed.is_empty() {
                let reason = format!("{name} resolves to no address that may be connected to");
                return Err(ResolveDnsError::new(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    reason,
                )));
            }
            Ok(allowed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_forbidden_and_private_ones_are_not() {
        for text in [
            "169.254.169.254",
            "fe80::1",
            "169.254.170.2",
            "169.254.170.23",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::ffff:168.63.129.16",
            "224.0.0.1",
            "::",
            "0.1.2.3",
        ] {
            assert!(is_forbidden(text.parse().unwrap()), "{text}");
        }
        for text in [
            "10.0.0.1",
            "127.0.0.1",
            "::1",
            "fd12::1",
            "52.94.0.1",
            "100.100.100.1",
            "fd20:ce::1",
        ] {
            assert!(!is_forbidden(text.parse().unwrap()), "{text}");
        }
    }

    #[tokio::test]
    async fn the_resolver_answers_with_checked_addresses_only() {
        let system = CheckedResolver::default();
        let found = system.resolve_dns("localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty());
        assert!(system.resolve_dns("169.254.169.254").await.is_err());
        let mixed = CheckedResolver(names(&["169.254.169.254", "10.0.0.1"]));
        assert_eq!(
            mixed.resolve_dns("db.example").await.unwrap(),
            ["10.0.0.1".parse::<IpAddr>().unwrap()]
        );
    }

    /// Every name leads to these addresses.
    fn names(addresses: &[&str]) -> Names {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Names::new(move |_| Box::pin(std::future::ready(Ok(addresses.clone()))))
    }

    #[tokio::test]
    async fn a_name_that_leads_to_forbidden_addresses_alone_is_refused_and_an_unknown_one_is_not() {
        let endpoint = Endpoint::parse("http://db.example:8000").unwrap();
        let refusal = names(&["169.254.169.254", "fe80::1"])
            .check(&endpoint)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refusal.contains("http://db.example:8000") && refusal.contains("169.254.169.254"),
            "{refusal}"
        );
        for other in [&["169.254.169.254", "10.0.0.1"][..], &[]] {
            names(other).check(&endpoint).await.unwrap();
        }
        let unknown = Names::new(|_| Box::pin(std::future::ready(Err(io::ErrorKind::NotFound.into()))));
        unknown.check(&endpoint).await.unwrap();
        // What is no name is not asked for.
        names(&["169.254.169.254"]).check(&Endpoint::Aws).await.unwrap();
    }
}
