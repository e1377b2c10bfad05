//! Names of AWS's regions, and the domains that DynamoDB's hosts have there.

/// What is given as a region and cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("region {name:?} is not usable: {problem}, such as us-east-1")]
pub struct RegionError {
    name: String,
    problem: &'static str,
}

impl RegionError {
    pub(super) fn new(name: &str, aws: bool) -> Self {
        Self {
            name: name.chars().take(64).collect(),
            problem: if aws {
                "AWS has no region of such a name; write one"
            } else {
                "write letters, digits and hyphens, 3 to 64 of them"
            },
        }
    }
}

/// Whether `name` looks like a region of AWS: a prefix, one or more words, a number (`us-gov-west-1`). New regions are
/// of this shape; `local` and the names of services are not.
pub(super) fn is_region(name: &str) -> bool {
    let words = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase());
    let [prefix, middle @ .., number] = &name.split('-').collect::<Vec<_>>()[..] else {
        return false;
    };
    name.len() <= 32
        && prefix.len() >= 2
        && words(prefix)
        && !middle.is_empty()
        && middle.iter().all(|part| words(part))
        && !number.is_empty()
        && number.chars().all(|c| c.is_ascii_digit())
}

/// Whether `name` can be a region's name for a server that is not AWS. It is signed, and part of no host name.
pub(super) fn is_label(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (3..=64).contains(&name.len())
        && name.chars().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The domain of AWS's hosts in `region`, as AWS's SDKs have it; a region of an unknown prefix counts as one of AWS's
/// main partition.
pub(super) fn dns_suffix(region: &str) -> &'static str {
    let of_prefix = [
        ("cn-", "amazonaws.com.cn"),
        ("eusc-", "amazonaws.eu"),
        ("us-iso-", "c2s.ic.gov"),
        ("us-isob-", "sc2s.sgov.gov"),
        ("eu-isoe-", "cloud.adc-e.uk"),
        ("us-isof-", "csp.hci.ic.gov"),
    ];
    let known = of_prefix.iter().find(|(prefix, _)| region.starts_with(prefix));
    known.map_or("amazonaws.com", |(_, domain)| domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_have_one_shape_and_nothing_else_passes_for_one() {
        for name in [
            "us-east-1",
            "ap-southeast-7",
            "mx-central-1",
            "us-gov-west-1",
            "us-isob-east-1",
            "eusc-de-east-1",
            "cn-northwest-1",
        ] {
            assert!(is_region(name), "{name}");
        }
        for name in [
            "",
            "local",
            "localhost",
            "s3",
            "us-east",
            "east-1",
            "u-east-1",
            "us-east-1a",
            "us--1",
            "us-east-",
            "-east-1",
            "US-EAST-1",
            "us-east-1.evil",
            "us-east-1/",
            "us-éast-1",
            "us-east-1-x",
        ] {
            assert!(!is_region(name), "{name}");
        }
        assert!(!is_region(&format!("us-{}-1", "a".repeat(40))));
    }

    #[test]
    fn a_region_is_reached_at_the_domain_of_its_partition() {
        for (region, domain) in [
            ("us-east-1", "amazonaws.com"),
            ("us-gov-west-1", "amazonaws.com"),
            ("il-central-1", "amazonaws.com"),
            ("cn-north-1", "amazonaws.com.cn"),
            ("eusc-de-east-1", "amazonaws.eu"),
            ("us-iso-east-1", "c2s.ic.gov"),
            ("us-isob-east-1", "sc2s.sgov.gov"),
        ] {
            assert_eq!(dns_suffix(region), domain, "{region}");
        }
    }
}
