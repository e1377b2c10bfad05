//! Addresses that stay: a container keeps its address when it, the daemon or the host restarts.
//!
//! Docker hands out addresses anew on each start, lowest first. Clusters do not survive that: etcd members and
//! certificates name addresses. So an address is chosen here, from the upper half of the subnet, which Docker reaches
//! last.

use std::net::Ipv4Addr;

use crate::digest::fnv1a;

/// Subnets that are tried for a network of our own, in this order.
pub const SUBNETS: [(Ipv4Addr, u8); 12] = [
    (Ipv4Addr::new(172, 30, 0, 0), 16),
    (Ipv4Addr::new(172, 29, 0, 0), 16),
    (Ipv4Addr::new(172, 28, 0, 0), 16),
    (Ipv4Addr::new(172, 27, 0, 0), 16),
    (Ipv4Addr::new(172, 26, 0, 0), 16),
    (Ipv4Addr::new(172, 25, 0, 0), 16),
    (Ipv4Addr::new(10, 213, 0, 0), 16),
    (Ipv4Addr::new(10, 214, 0, 0), 16),
    (Ipv4Addr::new(10, 215, 0, 0), 16),
    (Ipv4Addr::new(10, 216, 0, 0), 16),
    (Ipv4Addr::new(10, 217, 0, 0), 16),
    (Ipv4Addr::new(10, 218, 0, 0), 16),
];

/// Ports of the host that are tried for a load balancer.
const PORTS: std::ops::Range<u16> = 30_000..32_000;

/// An address for the container `name`: free, in the upper half of `subnet`, and the same on every attempt as long
/// as it stays free. `None` if the subnet is too small or full.
pub fn address(subnet: (Ipv4Addr, u8), in_use: &[Ipv4Addr], name: &str) -> Option<Ipv4Addr> {
    let (base, prefix) = subnet;
    let size = 1_u64.checked_shl(32_u32.checked_sub(u32::from(prefix))?)?;
    let half = size / 2;
    // The highest address is for broadcasts.
    let usable = half.checked_sub(1).filter(|usable| *usable > 0)?;
    let start = fnv1a(name.as_bytes()) % usable;
    let network = u64::from(u32::from(base)) & !(size - 1);
    (0..usable.min(65_536))
        .map(|offset| network + half + (start + offset) % usable)
        .filter_map(|address| u32::try_from(address).ok().map(Ipv4Addr::from))
        .find(|address| !in_use.contains(address))
}

/// Whether a container on `subnet` could have `address`: the first and the last one are no container's.
pub fn contains(subnet: (Ipv4Addr, u8), address: Ipv4Addr) -> bool {
    let (base, prefix) = subnet;
    let mask = u32::MAX
        .checked_shl(32_u32.saturating_sub(u32::from(prefix)))
        .unwrap_or(0);
    let (base, address) = (u32::from(base) & mask, u32::from(address));
    address & mask == base && address != base && address != base | !mask
}

/// Ports of the host to try for the load balancer `name`, the same on every attempt.
pub fn host_ports(name: &str) -> impl Iterator<Item = u16> {
    let count = u64::from(PORTS.end - PORTS.start);
    let start = fnv1a(name.as_bytes()) % count;
    (0..32).filter_map(move |offset| {
        u16::try_from((start + offset * 61) % count)
            .ok()
            .map(|port| PORTS.start + port)
    })
}

/// Reads `172.18.0.0/16`; nothing for anything else, IPv6 included.
pub fn parse_subnet(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let prefix = prefix.parse().ok().filter(|prefix| (1..=30).contains(prefix))?;
    Some((address.parse().ok()?, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 1, 2, 0), 29);

    #[test]
    fn an_address_stays_the_same_until_it_is_taken() {
        let subnet = SUBNETS[0];
        let first = address(subnet, &[], "m.ns").unwrap();
        assert_eq!(address(subnet, &[], "m.ns"), Some(first));
        assert!(
            first.octets()[2] >= 128,
            "{first} is in the half that Docker fills"
        );
        let second = address(subnet, &[first], "m.ns").unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn a_full_subnet_gives_nothing_and_never_the_broadcast_address() {
        let mut taken = Vec::new();
        while let Some(next) = address(SMALL, &taken, "m") {
            assert!((4..7).contains(&next.octets()[3]), "{next}");
            taken.push(next);
        }
        assert_eq!(taken.len(), 3);
        assert_eq!(address((Ipv4Addr::new(10, 0, 0, 0), 32), &[], "m"), None);
    }

    #[test]
    fn a_subnet_contains_what_its_containers_can_have() {
        let has = |last| contains(SMALL, Ipv4Addr::new(10, 1, 2, last));
        assert!((1..7).all(has));
        assert!(!has(0) && !has(7) && !has(8));
        assert!(!contains(SMALL, Ipv4Addr::new(10, 1, 3, 1)));
        assert!(contains(
            (Ipv4Addr::new(10, 0, 0, 0), 1),
            Ipv4Addr::new(100, 0, 0, 1)
        ));
    }

    #[test]
    fn ports_are_tried_in_a_stable_order_without_repetition() {
        let ports: Vec<_> = host_ports("c_lb.ns").collect();
        assert_eq!(ports, host_ports("c_lb.ns").collect::<Vec<_>>());
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), 32);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }

    #[test]
    fn only_ipv4_subnets_are_read() {
        assert_eq!(
            parse_subnet("172.18.0.0/16"),
            Some((Ipv4Addr::new(172, 18, 0, 0), 16))
        );
        assert_eq!(parse_subnet("fc00::/64"), None);
        assert_eq!(parse_subnet("172.18.0.0"), None);
    }
}
