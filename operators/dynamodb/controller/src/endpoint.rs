//! Which hosts a job may make the operator talk to.
//!
//! Whoever may create a `DdbctlDpJob` chooses the host that the operator connects to and signs requests for. Without
//! limits that reaches the node's metadata service and anything else on the cluster's network, and hands signed
//! requests to strangers.
//!
//! # Guarantees
//! - An endpoint is scheme, host and port; user info, path, query and fragment are refused.
//! - Anything but AWS itself must match an entry of [`AllowedEndpoints`], which only the administrator sets.
//! - Link-local, metadata, multicast and unspecified addresses are refused always, whatever name leads to them: names
//!   are resolved by [`CheckedResolver`], and the connection goes to the addresses that were checked, so that a name
//!   cannot change its meaning between check and connection. [`Names::check`] tells such a name from one that nobody
//!   answers at, so that a job is told what is wrong.
//! - AWS is spoken to over https only, at a host made here of a region's name ([`Endpoint::url_in`]): what is not such a
//!   name could lead elsewhere (the SDK takes `local` for `http://localhost:8000`) and is refused.
//!
//! # Caveats
//! An allowed endpoint may well be on a private address or on loopback: that is what a local DynamoDB is.

mod address;
mod region;

use std::{fmt, net::IpAddr, str::FromStr};

use url::{Host, Url};

pub use address::{CheckedResolver, Names};
pub use region::RegionError;

/// The flag that names allowed endpoints.
pub const FLAG: &str = "--allowed-endpoints";
/// The chart value that sets the flag.
pub const CHART_VALUE: &str = "allowedEndpoints";

/// Why an endpoint cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not a plain URL of a host.
    #[error(
        "`endpointURL` {url:?} is not usable: {problem}; write scheme, host and port only, such as `http://dynamodb.local:8000`"
    )]
    Invalid {
        /// As given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Not allowed by the administrator.
    #[error(
        "`endpointURL` {0:?} is not allowed here; an administrator can allow it with the operator's flag {FLAG} (chart value `{CHART_VALUE}`)"
    )]
    NotAllowed(String),
    /// It leads to an address that is never connected to.
    #[error(
        "`endpointURL` {url:?} leads to {address}, a link-local, metadata or otherwise special address, which is never connected to"
    )]
    ForbiddenAddress {
        /// As given.
        url: String,
        /// Where it leads.
        address: IpAddr,
    },
}

/// The DynamoDB API of a job: AWS itself, or a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// AWS, in the job's region.
    #[default]
    Aws,
    /// A URL that was given and is plain.
    Url(PlainUrl),
}

/// Scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlainUrl(Url);

impl Endpoint {
    /// Parses `endpointURL`; empty means AWS.
    ///
    /// # Errors
    /// [`EndpointError::Invalid`] and [`EndpointError::ForbiddenAddress`].
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.is_empty() {
            return Ok(Self::Aws);
        }
        let invalid = |problem: &str| EndpointError::Invalid {
            url: redacted(text),
            problem: problem.into(),
        };
        let url = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("the scheme must be http or https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("it must not contain user info"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("it must not contain a query or fragment"));
        }
        if url.path() != "/" {
            return Err(invalid("it must not contain a path"));
        }
        let address = match url.host() {
            None => return Err(invalid("it has no host")),
            Some(Host::Domain(_)) => None,
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        };
        if let Some(address) = address.filter(|address| address::is_forbidden(*address)) {
            return Err(EndpointError::ForbiddenAddress {
                url: text.into(),
                address,
            });
        }
        let endpoint = PlainUrl(url);
        if endpoint.is_aws_host() && endpoint.0.scheme() != "https" {
            return Err(invalid("AWS must be spoken to over https"));
        }
        Ok(Self::Url(endpoint))
    }

    /// Whether it is AWS: the operator's own credentials go nowhere else.
    pub fn is_aws(&self) -> bool {
        match self {
            Self::Aws => true,
            Self::Url(url) => url.is_aws_host(),
        }
    }

    /// The name that has to be resolved to reach it; none for AWS, whose names the SDK makes, and for an address.
    fn domain(&self) -> Option<&str> {
        match self {
            Self::Aws => None,
            Self::Url(url) => url.0.domain(),
        }
    }

    /// The URL that was given, if one was.
    pub fn url(&self) -> Option<String> {
        match self {
            Self::Aws => None,
            Self::Url(url) => Some(url.to_string()),
        }
    }

    /// The URL that requests of `region` go to. The region must have passed [`Endpoint::check_region`].
    pub fn url_in(&self, region: &str) -> String {
        match self {
            Self::Aws => format!("https://dynamodb.{region}.{}", region::dns_suffix(region)),
            Self::Url(url) => url.to_string(),
        }
    }

    /// Refuses what cannot be a region here: AWS has names of its own shape, other servers take any label.
    ///
    /// # Errors
    /// [`RegionError`].
    pub fn check_region(&self, region: &str) -> Result<(), RegionError> {
        let known = if self.is_aws() {
            region::is_region(region)
        } else {
            region::is_label(region)
        };
        if known {
            Ok(())
        } else {
            Err(RegionError::new(region, self.is_aws()))
        }
    }
}

impl PlainUrl {
    fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Whether it is DynamoDB's own: many hosts below AWS's domains belong to AWS's customers.
    fn is_aws_host(&self) -> bool {
        let domains = [
            ".amazonaws.com",
            ".amazonaws.com.cn",
            ".amazonaws.eu",
            ".api.aws",
            ".api.amazonwebservices.com.cn",
        ];
        let Some(name) = domains.iter().find_map(|domain| self.host().strip_suffix(domain)) else {
            return false;
        };
        match name.split('.').collect::<Vec<_>>()[..] {
            // Regional; by account; through an interface endpoint of a VPC. What stands where the region belongs and is
            // none may be another service, with names that its users choose.
            ["dynamodb" | "dynamodb-fips", region] => region::is_region(region),
            [account, "ddb", region] => {
                account.chars().all(|c| c.is_ascii_digit()) && region::is_region(region)
            }
            [endpoint, "dynamodb", region, "vpce"] => {
                endpoint.starts_with("vpce-") && region::is_region(region)
            }
            _ => false,
        }
    }
}

impl fmt::Display for PlainUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// A URL in a message without what may be a password in it.
fn redacted(text: &str) -> String {
    let shown: String = text.chars().take(200).collect();
    match shown.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => shown,
    }
}

/// What the administrator allows beside AWS.
///
/// As a flag: entries separated by commas, each `scheme://host[:port]`. A host may begin with `*.`, which stands for
/// one or more labels; a missing port stands for the scheme's own. `aws` allows all of AWS (the default); a list without
/// it allows those of AWS's hosts that it names, such as `https://dynamodb.eu-west-1.amazonaws.com`, and jobs without
/// `endpointURL` in the regions of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedEndpoints {
    aws: bool,
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    scheme: String,
    /// Without the `*.`.
    host: String,
    wildcard: bool,
    port: Option<u16>,
}

impl Default for AllowedEndpoints {
    fn default() -> Self {
        Self {
            aws: true,
            patterns: Vec::new(),
        }
    }
}

/// An entry of the flag cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an endpoint; write `aws` or `scheme://host[:port]`, the host may begin with `*.`")]
pub struct PatternError(String);

impl AllowedEndpoints {
    /// Refuses what is not allowed for a job in `region`.
    ///
    /// # Errors
    /// [`EndpointError::NotAllowed`].
    pub fn check(&self, endpoint: &Endpoint, region: &str) -> Result<(), EndpointError> {
        let url = endpoint.url_in(region);
        let listed = || {
            let plain = Url::parse(&url).map(PlainUrl);
            plain.is_ok_and(|url| self.patterns.iter().any(|pattern| pattern.matches(&url)))
        };
        if (self.aws && endpoint.is_aws()) || listed() {
            Ok(())
        } else {
            Err(EndpointError::NotAllowed(url))
        }
    }
}

impl Pattern {
    fn matches(&self, url: &PlainUrl) -> bool {
        let host = url.host();
        let host_matches = if self.wildcard {
            host.strip_suffix(&self.host)
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.host
        };
        self.scheme == url.0.scheme() && host_matches && self.port == url.0.port_or_known_default()
    }
}

impl FromStr for AllowedEndpoints {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let mut allowed = Self {
            aws: false,
            patterns: Vec::new(),
        };
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            if entry == "aws" {
                allowed.aws = true;
            } else {
                allowed.patterns.push(entry.parse()?);
            }
        }
        Ok(allowed)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(entry: &str) -> Result<Self, PatternError> {
        let refused = || PatternError(entry.to_owned());
        let (scheme, rest) = entry.split_once("://").ok_or_else(refused)?;
        let (wildcard, rest) = rest.strip_prefix("*.").map_or((false, rest), |rest| (true, rest));
        let Ok(Endpoint::Url(PlainUrl(url))) = Endpoint::parse(&format!("{scheme}://{rest}")) else {
            return Err(refused());
        };
        Ok(Self {
            scheme: scheme.to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
            wildcard,
            port: url.port_or_known_default(),
        })
    }
}

#[cfg(test)]
mod tests;
