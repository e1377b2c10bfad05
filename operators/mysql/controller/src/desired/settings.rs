//! What the operator's administrator decided.

use std::{collections::BTreeMap, str::FromStr};

use super::VOLUME_TYPES;

/// The place of a cluster that names none.
pub(super) const DEFAULT_PLACE: &str = "nairobi";

/// A place: what `geoAffinity` stands for. Zones are not part of it, since a cluster's subnets are in theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its region; the operator's own if absent.
    pub region: Option<String>,
}

/// What the operator's administrator decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The operator's id, in every instance's tags.
    pub operator_id: String,
    /// The region of clusters that name none, by themselves or by their place.
    pub region: String,
    /// Places by name.
    pub places: BTreeMap<String, Place>,
    /// EBS volume types by the names that specs use for them.
    pub volume_types: BTreeMap<String, String>,
}

/// A name with what it stands for, as `name=meaning`: an argument of the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    name: String,
    meaning: String,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, meaning) = text
            .split_once('=')
            .filter(|(name, meaning)| !name.is_empty() && !meaning.is_empty())
            .ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
        Ok(Self {
            name: name.to_owned(),
            meaning: meaning.to_owned(),
        })
    }
}

impl Named {
    /// A place with its region, as `london=eu-west-2`.
    ///
    /// # Errors
    /// If that is not the shape of a region's name.
    pub fn place(text: &str) -> Result<Self, String> {
        let named: Self = text.parse()?;
        if is_region(&named.meaning) {
            return Ok(named);
        }
        Err(format!("{:?} is no region, as eu-west-2 is one", named.meaning))
    }

    /// A storage class with its EBS volume type, as `fast=io2`.
    ///
    /// # Errors
    /// If no data volume can be of that type, or the name is that of another type.
    pub fn storage_class(text: &str) -> Result<Self, String> {
        let named: Self = text.parse()?;
        if !VOLUME_TYPES.contains(&named.meaning.as_str()) {
            let known = VOLUME_TYPES.join(", ");
            let given = &named.meaning;
            return Err(format!(
                "a data volume cannot be of type {given:?}; it can be of {known}"
            ));
        }
        if VOLUME_TYPES.contains(&named.name.as_str()) && named.name != named.meaning {
            return Err(format!(
                "{:?} is an EBS volume type and stands for itself",
                named.name
            ));
        }
        Ok(named)
    }
}

/// Whether EC2 might have a region of this name: the rule of `spec.aws.region`.
fn is_region(name: &str) -> bool {
    let parts: Vec<_> = name.split('-').collect();
    let [first, middle @ .., last] = parts.as_slice() else {
        return false;
    };
    let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    (9..=32).contains(&name.len())
        && (2..=3).contains(&first.len())
        && is_word(first)
        && !middle.is_empty()
        && middle.iter().all(is_word)
        && !last.is_empty()
        && last.bytes().all(|byte| byte.is_ascii_digit())
}

impl Settings {
    /// Adds places and storage classes; what has the name of one that ships takes its place.
    #[must_use]
    pub fn with(mut self, places: Vec<Named>, storage_classes: Vec<Named>) -> Self {
        let places = places.into_iter().map(|place| {
            let region = Some(place.meaning);
            (place.name, Place { region })
        });
        self.places.extend(places);
        let classes = storage_classes
            .into_iter()
            .map(|class| (class.name, class.meaning));
        self.volume_types.extend(classes);
        self
    }

    /// The regions that clusters may be in, as far as no cluster names one itself.
    pub fn regions(&self) -> Vec<String> {
        let places = self.places.values().filter_map(|place| place.region.clone());
        places.chain([self.region.clone()]).collect()
    }
}

impl Default for Settings {
    /// us-east-1; the place `nairobi`, which leaves the region to the operator; the storage class
    /// `nairobi-local-fast`, which is gp3.
    fn default() -> Self {
        Self {
            operator_id: "mysql-operator".into(),
            region: "us-east-1".into(),
            places: BTreeMap::from([(DEFAULT_PLACE.into(), Place { region: None })]),
            volume_types: BTreeMap::from([("nairobi-local-fast".into(), "gp3".into())]),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("london=eu-west-2", true)]
    #[case("capitol=us-gov-west-1", true)]
    #[case("london", false)]
    #[case("=eu-west-2", false)]
    #[case("london=", false)]
    #[case("london=London", false)]
    #[case("london=eu-west-2a", false)]
    #[case("london=eu--2", false)]
    fn a_place_has_a_region(#[case] text: &str, #[case] is_one: bool) {
        assert_eq!(Named::place(text).is_ok(), is_one, "{text}");
    }

    #[rstest]
    #[case("fast=io2", true)]
    #[case("gp3=gp3", true)]
    #[case("fast=st1", false)]
    #[case("gp2=gp3", false)]
    #[case("fast", false)]
    fn a_storage_class_has_a_type_that_a_data_volume_may_have(#[case] text: &str, #[case] is_one: bool) {
        assert_eq!(Named::storage_class(text).is_ok(), is_one, "{text}");
    }

    #[test]
    fn what_is_given_comes_beside_what_ships_and_takes_its_place() {
        let places = ["london=eu-west-2", "nairobi=af-south-1"];
        let places = places.map(|text| Named::place(text).unwrap()).into();
        let classes = vec![Named::storage_class("fast=io2").unwrap()];
        let settings = Settings::default().with(places, classes);
        assert_eq!(settings.regions(), ["eu-west-2", "af-south-1", "us-east-1"]);
        let classes: Vec<_> = settings.volume_types.into_iter().collect();
        let owned = |(name, kind): (&str, &str)| (name.to_owned(), kind.to_owned());
        assert_eq!(
            classes,
            [("fast", "io2"), ("nairobi-local-fast", "gp3")].map(owned)
        );
    }
}
