//! Who goes where, and who leads. Pure.

use std::collections::BTreeMap;

use mysql_api::cluster::{Launch, LaunchPhase};

/// The subnet for the next member: of those in the zone with the fewest members the one with the fewest, in the order
/// of the spec. Subnets without capacity are left out; nothing if none is left.
pub fn next_subnet<'a>(
    subnets: &'a [String],
    zones: &BTreeMap<String, String>,
    taken: &BTreeMap<String, usize>,
    exhausted: impl Fn(&str) -> bool,
) -> Option<&'a str> {
    let zone = |subnet: &str| zones.get(subnet).cloned().unwrap_or_else(|| subnet.to_owned());
    let in_zone = |wanted: &str| -> usize {
        taken
            .iter()
            .filter(|(subnet, _)| zone(subnet) == wanted)
            .map(|(_, count)| count)
            .sum()
    };
    let in_subnet = |subnet: &str| taken.get(subnet).copied().unwrap_or_default();
    subnets
        .iter()
        .map(String::as_str)
        .filter(|subnet| !exhausted(subnet))
        .min_by_key(|subnet| (in_zone(&zone(subnet)), in_subnet(subnet)))
}

/// How many members each subnet has, or will have.
pub fn occupancy(launches: &[Launch]) -> BTreeMap<String, usize> {
    let mut taken = BTreeMap::new();
    for launch in launches.iter().filter(|launch| launch.phase != LaunchPhase::Over) {
        *taken.entry(launch.subnet_id.clone()).or_insert(0) += 1;
    }
    taken
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn three() -> (Vec<String>, BTreeMap<String, String>) {
        let subnets: Vec<String> = ["s-a", "s-b", "s-c"].map(str::to_owned).into();
        let zones = subnets
            .iter()
            .map(|subnet| (subnet.clone(), subnet.replace("s-", "z-")))
            .collect();
        (subnets, zones)
    }

    #[test]
    fn two_subnets_of_one_zone_count_as_one_place() {
        let subnets: Vec<String> = ["s-a1", "s-a2", "s-b"].map(str::to_owned).into();
        let zones = [("s-a1", "a"), ("s-a2", "a"), ("s-b", "b")]
            .map(|(s, z)| (s.to_owned(), z.to_owned()))
            .into();
        let taken = BTreeMap::from([("s-a1".to_owned(), 1)]);
        assert_eq!(next_subnet(&subnets, &zones, &taken, |_| false), Some("s-b"));
    }

    proptest! {
        #[test]
        fn members_are_spread_evenly(count in 1usize..=9) {
            let (subnets, zones) = three();
            let mut taken = BTreeMap::new();
            for _ in 0..count {
                let subnet = next_subnet(&subnets, &zones, &taken, |_| false).unwrap().to_owned();
                *taken.entry(subnet).or_insert(0) += 1;
            }
            let counts: Vec<usize> = subnets.iter().map(|s| taken.get(s).copied().unwrap_or(0)).collect();
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
        }

        #[test]
        fn an_exhausted_subnet_is_never_chosen(exhausted in 0usize..8) {
            let (subnets, zones) = three();
            let is_exhausted = |subnet: &str| subnets.iter().position(|s| s == subnet).is_some_and(|i| exhausted & (1 << i) != 0);
            let chosen = next_subnet(&subnets, &zones, &BTreeMap::new(), is_exhausted);
            prop_assert!(chosen.is_none_or(|subnet| !is_exhausted(subnet)));
            prop_assert_eq!(chosen.is_none(), exhausted == 7);
        }
    }
}
