//! What of a spec cannot change any more once a cluster has data.

use std::collections::BTreeMap;

use mysql_api::{
    Reason,
    cluster::{Launch, LaunchData, LaunchPhase},
};

use crate::{
    desired::{Desired, SpecError},
    parameters::LaunchParameters,
};

/// Options that data are made with: no server with other values takes them over.
const LASTING: [&str; 2] = ["innodb_page_size", "lower_case_table_names"];

fn lasting<'a>(options: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    let plain = |name: &'a str| name.strip_prefix("loose_").unwrap_or(name);
    options
        .map(|(name, value)| (plain(name).to_owned(), value.to_owned()))
        .filter(|(name, _)| LASTING.contains(&name.as_str()))
        .collect()
}

impl LaunchParameters {
    /// What the data of a member are made with that is launched with these. Parameters that an older operator froze have the
    /// options in the user data alone, where each has a line of its own.
    pub fn data(&self) -> LaunchData {
        let mut options = self.lasting.clone();
        if options.is_empty() {
            let lines = self.user_data.lines();
            options = lasting(lines.filter_map(|line| line.trim_start().split_once('=')));
        }
        LaunchData {
            volume_gib: self.template.volume.size_gib,
            options,
        }
    }
}

impl Desired {
    /// The options that the data of a member are made with, as far as the spec sets them.
    pub fn lasting(&self) -> BTreeMap<String, String> {
        let options = self.options.iter();
        lasting(options.map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// What the data of a member are made with that has this spec.
    pub fn data(&self) -> LaunchData {
        LaunchData {
            volume_gib: self.template.volume.size_gib,
            options: self.lasting(),
        }
    }

    /// Refuses the spec for a formed cluster with these launches, if nobody who is launched with it could become a copy of any
    /// member that there is. As long as it is not known what the data of one of them were made with, that cannot be said: the
    /// spec may be right for that one, and the others a mistake.
    pub fn suit(&self, launches: &[Launch]) -> Result<(), SpecError> {
        let launched = launches
            .iter()
            .filter(|launch| launch.phase == LaunchPhase::Launched);
        let known: Option<Vec<&LaunchData>> = launched.map(|launch| launch.data.as_ref()).collect();
        let data = known.unwrap_or_default();
        let Some(least) = data.iter().map(|data| data.volume_gib).min() else {
            return Ok(());
        };
        let size = self.template.volume.size_gib;
        if size < least {
            return Err(SpecError {
                reason: Reason::SpecInvalid,
                message: format!(
                    "storage.size is {size}Gi, and the members have {least}Gi: it never shrinks, for what is on them might not fit; set it to {least}Gi or more, or create another MySQLCluster"
                ),
            });
        }
        let wanted = self.lasting();
        if data.iter().any(|data| data.options == wanted) {
            return Ok(());
        }
        let made = data
            .first()
            .map_or_else(BTreeMap::new, |data| data.options.clone());
        let said = |options: &BTreeMap<String, String>, name: &str| {
            options
                .get(name)
                .map_or_else(|| "absent".to_owned(), |value| format!("{value:?}"))
        };
        let differing = LASTING
            .iter()
            .filter(|name| made.get(**name) != wanted.get(**name));
        let differing: Vec<_> = differing
            .map(|name| format!("{name} is {}, and was {}", said(&wanted, name), said(&made, name)))
            .collect();
        Err(SpecError {
            reason: Reason::OptionsInvalid,
            message: format!(
                "mySQLOptions: {} when the members' data were made: it cannot change, for nobody could become a copy of them; set it back, or create another MySQLCluster",
                differing.join("; ")
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{desired::tests::desired, identity::Identity, parameters::Frozen, plan::tests::entry};

    fn launched(ordinal: i32, volume_gib: i32, options: &[(&str, &str)]) -> Launch {
        let pairs = options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Launch {
            data: Some(LaunchData {
                volume_gib,
                options: pairs.collect(),
            }),
            ..entry(ordinal, LaunchPhase::Launched, Some("i-1"))
        }
    }

    #[rstest]
    #[case::same(&[20, 20], true)]
    #[case::grown(&[10, 10], true)]
    #[case::shrunk(&[40, 40], false)]
    // A size that was a mistake has reached one member so far.
    #[case::corrected(&[20, 60_000], true)]
    #[case::unknown(&[], true)]
    fn a_volume_is_no_smaller_than_the_smallest_that_holds_the_data(
        #[case] sizes: &[i32],
        #[case] suits: bool,
    ) {
        let launches: Vec<_> = (0..)
            .zip(sizes)
            .map(|(ordinal, size)| launched(ordinal, *size, &[]))
            .collect();
        let refused = desired(3).suit(&launches);
        assert_eq!(refused.is_ok(), suits, "{refused:?}");
        let mut gone = launches;
        for launch in &mut gone {
            launch.phase = LaunchPhase::Launching;
        }
        assert!(
            desired(3).suit(&gone).is_ok(),
            "nothing is on a volume that may not be there"
        );
    }

    #[rstest]
    #[case(&[], None, true)]
    #[case(&[("innodb_page_size", "16k")], Some(("innodb_page_size", "16k")), true)]
    #[case(&[("innodb_page_size", "16k")], Some(("loose_innodb_page_size", "16k")), true)]
    #[case(&[("innodb_page_size", "16k")], Some(("innodb_page_size", "4k")), false)]
    #[case(&[("innodb_page_size", "16k")], None, false)]
    #[case(&[], Some(("lower_case_table_names", "1")), false)]
    #[case(&[], Some(("max_connections", "1")), true)]
    fn what_data_are_made_with_cannot_change(
        #[case] made: &[(&str, &str)],
        #[case] wanted: Option<(&str, &str)>,
        #[case] suits: bool,
    ) {
        let mut desired = desired(3);
        desired.options = wanted
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let refused = desired.suit(&[launched(0, 20, made)]);
        assert_eq!(refused.is_ok(), suits, "{refused:?}");
        if let Err(error) = refused {
            assert_eq!(error.reason, Reason::OptionsInvalid);
            assert!(
                !error.message.contains("is absent, and was absent"),
                "{}",
                error.message
            );
        }
    }

    /// Another cluster has launched member 0, with what its spec said.
    #[rstest]
    #[case::forgotten(&[(20, None)], 20, Some("4k"))]
    #[case::grown_by_mistake(&[(500, None)], 20, None)]
    #[case::both(&[(500, Some("16k")), (500, Some("16k"))], 20, Some("4k"))]
    fn what_is_right_for_a_member_of_unknown_origin_is_not_refused_for_the_others(
        #[case] others: &[(i32, Option<&str>)],
        #[case] size: i32,
        #[case] page: Option<&str>,
    ) {
        let mut launches = vec![entry(0, LaunchPhase::Launched, Some("i-0"))];
        for (ordinal, (size, page)) in (1..).zip(others) {
            let options = page.map(|page| ("innodb_page_size", page));
            launches.push(launched(ordinal, *size, options.as_slice()));
        }
        let mut wanted = desired(3);
        wanted.template.volume.size_gib = size;
        let pages = page.map(|page| ("innodb_page_size".to_owned(), page.to_owned()));
        wanted.options = pages.into_iter().collect();
        assert_eq!(wanted.suit(&launches), Ok(()));
        assert!(wanted.suit(&launches[1..]).is_err(), "the others alone are known");
    }

    #[rstest]
    #[case("loose_innodb_page_size", true)]
    #[case("innodb_page_size", false)]
    fn what_data_were_made_with_is_in_the_parameters_that_were_frozen(
        #[case] name: &str,
        #[case] is_recorded: bool,
    ) {
        let mut desired = desired(1);
        desired.options = [(name.to_owned(), "4k".to_owned())].into();
        let identity = Identity {
            cluster_uid: desired.uid.clone(),
            ordinal: 0,
            incarnation: 1,
        };
        let mut frozen = LaunchParameters::new(&desired, &identity, "subnet-12345678", "op");
        if !is_recorded {
            frozen.lasting.clear();
        }
        let read = Frozen::read(Frozen::new(frozen).bytes().to_vec()).unwrap();
        assert_eq!(read.parameters.data(), desired.data());
        assert_eq!(desired.data().options["innodb_page_size"], "4k");
    }
}
