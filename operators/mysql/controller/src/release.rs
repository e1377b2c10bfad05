//! Which data a server of another release can open.

use crate::version::{Version, tag};

/// A release of MySQL, as far as the tag of an image tells it: `mysql:8.0` tells no patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Release {
    series: (u16, u16),
    patch: Option<u16>,
}

impl Release {
    fn of_image(image: &str) -> Option<Self> {
        let tag = tag(image)?;
        let numbers = tag.split('-').next().unwrap_or_default();
        let mut numbers = numbers.split('.').map(|number| number.parse().ok());
        let series = (numbers.next()??, numbers.next()??);
        let patch = numbers.next().flatten();
        Some(Self { series, patch })
    }

    /// Whether its data can be opened by an earlier release of its series, which is all that an earlier one can open, and
    /// then only in a series that is mended rather than extended. Source: reference manual, "Downgrading MySQL".
    fn opens_for(self, earlier: Self) -> bool {
        self.series == earlier.series
            && match self.series {
                (5 | 9, 7) | (8, 4) => true,
                (8, 0) => earlier.patch.is_none_or(|patch| patch >= 35),
                _ => false,
            }
    }
}

/// Whether a server of image `to` can open the data of one of image `from`: of the same series, or of the one before. What
/// cannot be told from an image's name is let through: mysqld itself refuses what it cannot read.
pub fn is_step(from: &str, to: &str) -> bool {
    let place = |image| {
        let version = Version::of_image(image);
        Version::ALL
            .iter()
            .position(|other| *other == version && version != Version::Unknown)
    };
    let (Some(before), Some(after)) = (place(from), place(to)) else {
        return true;
    };
    let is_back = |from: Release, to: Release| {
        to.series < from.series
            || (to.series == from.series && to.patch.zip(from.patch).is_some_and(|(to, from)| to < from))
    };
    match (Release::of_image(from), Release::of_image(to)) {
        (Some(from), Some(to)) if is_back(from, to) => from.opens_for(to),
        _ => after == before || after == before + 1,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("mysql:5.7", "mysql:8.0", true)]
    #[case("mysql:8.0", "mysql:8.4", true)]
    #[case("mysql:8.4", "mysql:9", true)]
    #[case("mysql:9.7", "mysql:9.8", true)]
    #[case("mysql:8.0.36", "mysql:8.3", true)]
    #[case("mysql:5.7", "mysql:8.4", false)]
    #[case("mysql:8.0", "mysql:9", false)]
    #[case("mysql:8.4", "mysql:8.0", false)]
    #[case("mysql:9", "mysql:5.7", false)]
    #[case::nobody_knows("mysql:latest", "mysql:5.7", true)]
    #[case::nobody_knows("mysql:9", "mysql@sha256:00ff", true)]
    #[case::back_in_a_series_with_long_term_support("mysql:8.4.6", "mysql:8.4.5", true)]
    #[case::back_in_a_series_with_long_term_support("mysql:9.7.4", "mysql:9.7.3", true)]
    #[case::back_in_5_7("mysql:5.7.44", "mysql:5.7.40", true)]
    #[case::back_as_far_as_it_goes("mysql:8.0.36", "mysql:8.0.35", true)]
    #[case::back_further("mysql:8.0.36-debian", "mysql:8.0.34", false)]
    #[case::no_patch_told("mysql:8.0.36", "mysql:8.0", true)]
    #[case::back_to_an_innovation("mysql:8.4", "mysql:8.3", false)]
    #[case::back_among_innovations("mysql:8.3", "mysql:8.0", false)]
    #[case::back_among_innovations("mysql:9.7", "mysql:9.1", false)]
    #[case::back_within_an_innovation("mysql:9.1.1", "mysql:9.1.0", false)]
    fn data_are_carried_one_series_at_a_time_and_back_only_where_mysql_says_so(
        #[case] from: &str,
        #[case] to: &str,
        #[case] fits: bool,
    ) {
        assert_eq!(is_step(from, to), fits);
    }
}
