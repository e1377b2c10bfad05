//! Addresses that are never connected to, and the resolver that filters them out of every name's answer.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};

/// Whether `address` is one that no endpoint may lead to: link-local (the metadata services of clouds among them),
/// multicast, broadcast, unspecified, and the same in IPv6's disguises.
pub(super) fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_forbidden_v4(address),
        IpAddr::V6(address) => {
            // `::ffff:a.b.c.d` (mapped) and `64:ff9b::a.b.c.d` (NAT64) reach the IPv4 address inside.
            let nat64 = || {
                let [prefix @ .., a, b, c, d] = address.octets();
                (prefix == [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]).then(|| Ipv4Addr::new(a, b, c, d))
            };
            match address.to_ipv4_mapped().or_else(nat64) {
                Some(inner) => is_forbidden_v4(inner),
                None => is_forbidden_v6(address),
            }
        }
    }
}

fn is_forbidden_v4(address: Ipv4Addr) -> bool {
    address.is_link_local() || address.is_multicast() || address.is_broadcast() || address.octets()[0] == 0
}

fn is_forbidden_v6(address: Ipv6Addr) -> bool {
    /// Where EC2 serves instance metadata over IPv6: a unique local address, unlike the others.
    const EC2_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    address.is_unicast_link_local()
        || address.is_multicast()
        || address.is_unspecified()
        || address == EC2_METADATA
}

/// Resolves names as the system does, and drops forbidden addresses; a name that has no other fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckedResolver;

impl ResolveDns for CheckedResolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            // The port is the connector's business; the system's resolver wants one.
            let found = tokio::net::lookup_host((name, 0))
                .await
                .map_err(ResolveDnsError::new)?;
            let allowed: Vec<_> = found
                .map(|address| address.ip())
                .filter(|ip| !is_forbidden(*ip))
                .collect();
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
            "fd00:ec2::254",
            "64:ff9b::a9fe:a9fe",
            "224.0.0.1",
            "::",
            "0.1.2.3",
        ] {
            assert!(is_forbidden(text.parse().unwrap()), "{text}");
        }
        for text in ["10.0.0.1", "127.0.0.1", "::1", "fd12::1", "52.94.0.1"] {
            assert!(!is_forbidden(text.parse().unwrap()), "{text}");
        }
    }

    #[tokio::test]
    async fn the_resolver_answers_with_checked_addresses_only() {
        let found = CheckedResolver.resolve_dns("localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty());
        assert!(CheckedResolver.resolve_dns("169.254.169.254").await.is_err());
    }
}
