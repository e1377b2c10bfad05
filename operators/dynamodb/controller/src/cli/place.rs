//! Where `dynamoctl` looks for a table: what its flags leave open, AWS's own settings say.

use std::fmt;

use anyhow::Context as _;
use aws_config::{
    BehaviorVersion, Region, meta::region::ProvideRegion as _, profile::ProfileFileRegionProvider,
};

use super::wording::at_a_terminal;
use crate::endpoint::Endpoint;

/// The settings that AWS's command line reads, in its order.
const REGION: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
const ENDPOINT: &str = "AWS_ENDPOINT_URL_DYNAMODB";
const ANY_ENDPOINT: &str = "AWS_ENDPOINT_URL, or the profile's endpoint_url";
const NO_ENDPOINT: &str = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS";

/// An endpoint, and a region that it can have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) endpoint: Endpoint,
    pub(super) region: String,
}

impl Place {
    /// What was given, empty if not; else what the environment says; else the profile whose credentials are used.
    ///
    /// # Errors
    /// What is said cannot be; the message names who said it.
    pub(super) async fn find(endpoint_url: &str, region: &str) -> anyhow::Result<Self> {
        let environment = |name: &str| std::env::var(name).ok();
        let mut region = first((region, "--region"), &REGION, environment);
        if region.is_none() {
            let profile = ProfileFileRegionProvider::new().region().await;
            region = profile.map(|region| (region.to_string(), "the profile's region"));
        }
        let ignored = environment(NO_ENDPOINT).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let names: &[&str] = if ignored { &[] } else { &[ENDPOINT] };
        let mut url = first((endpoint_url, "--endpoint-url"), names, environment);
        if url.is_none() {
            // A region is there, or the host would be asked for its own.
            let any = Region::from_static(dynamodb_api::DEFAULT_REGION);
            let settings = aws_config::defaults(BehaviorVersion::latest()).region(any).load();
            let found = settings.await.endpoint_url().map(str::to_owned);
            url = found.map(|url| (url, ANY_ENDPOINT));
        }
        Self::new(url, region)
    }

    /// What is not said is AWS, and us-east-1.
    fn new(url: Option<Setting>, region: Option<Setting>) -> anyhow::Result<Self> {
        let (url, from) = url.unwrap_or_default();
        let endpoint = Endpoint::parse(&url).map_err(at_a_terminal);
        let endpoint = if [ENDPOINT, ANY_ENDPOINT].contains(&from) {
            endpoint.context(from)?
        } else {
            endpoint?
        };
        let (region, from) = region.unwrap_or_else(|| (dynamodb_api::DEFAULT_REGION.to_owned(), "--region"));
        endpoint.check_region(&region).context(from)?;
        Ok(Self { endpoint, region })
    }
}

/// A value, and who said it.
type Setting = (String, &'static str);

/// What was given, or else the first of these variables that is not empty.
fn first(
    (given, flag): (&str, &'static str),
    names: &[&'static str],
    environment: impl Fn(&str) -> Option<String>,
) -> Option<Setting> {
    let flag = std::iter::once((Some(given.to_owned()), flag));
    let set = names.iter().map(|name| (environment(name), *name));
    flag.chain(set)
        .find_map(|(value, name)| Some((value.filter(|value| !value.is_empty())?, name)))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.endpoint.url_in(&self.region).trim_end_matches('/'))?;
        match self.endpoint {
            Endpoint::Aws => Ok(()),
            Endpoint::Url(_) => write!(f, " (region {})", self.region),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_comes_before_the_environment_and_that_before_the_default() {
        let both = |name: &str| {
            let value = match name {
                "AWS_REGION" => "eu-west-1",
                "AWS_DEFAULT_REGION" => "eu-west-3",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let later = |name: &str| (name == "AWS_DEFAULT_REGION").then(|| "eu-west-3".to_owned());
        let said = |value: &str, by| Some((value.to_owned(), by));
        let region = |given, environment: &dyn Fn(&str) -> Option<String>| {
            first((given, "--region"), &REGION, environment)
        };
        assert_eq!(region("us-west-2", &both), said("us-west-2", "--region"));
        assert_eq!(region("", &both), said("eu-west-1", "AWS_REGION"));
        assert_eq!(region("", &later), said("eu-west-3", "AWS_DEFAULT_REGION"));
        assert_eq!(region("", &|_| Some(String::new())), None);
        let place = Place::new(None, None).unwrap();
        assert_eq!(place.to_string(), "https://dynamodb.us-east-1.amazonaws.com");
    }

    #[test]
    fn what_cannot_be_is_blamed_on_who_said_it() {
        let said = |value: &str, by| Some((value.to_owned(), by));
        // The SDK takes this region for http://localhost:8000.
        for (url, region, blamed) in [
            (None, said("local", "--region"), "--region: "),
            (None, said("local", "AWS_REGION"), "AWS_REGION: "),
            (said("http://x/y", ENDPOINT), None, "AWS_ENDPOINT_URL_DYNAMODB: "),
            (said("http://x/y", "--endpoint-url"), None, "--endpoint-url"),
        ] {
            let refusal = format!("{:#}", Place::new(url, region).unwrap_err());
            assert!(
                refusal.starts_with(blamed) || refusal.contains(blamed),
                "{refusal}"
            );
        }
    }
}
