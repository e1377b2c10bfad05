//! What administrators allow jobs to do, set by flags.

use std::str::FromStr;

use dynamodb_api::Reason;
use reconcile::ObjectKey;

use crate::{
    connection::RequestTimeout,
    controllers::ddbctldpjob::Job,
    credentials::{IdentityNamespaces, Source, source},
    endpoint::{AllowedEndpoints, Names},
    partition::Failure,
};

/// The flag that names the tables which the operator's own identity touches.
pub const TABLES_FLAG: &str = "--allowed-tables";

/// What is allowed. The default: AWS alone, every table, the operator's own identity for every namespace.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Hosts that jobs may name.
    pub endpoints: AllowedEndpoints,
    /// Namespaces that the operator's own identity serves.
    pub identity: IdentityNamespaces,
    /// Tables that the operator's own identity touches.
    pub tables: TablePatterns,
    /// How the names of hosts are resolved; as the system does, outside of tests.
    pub names: Names,
    /// How long a request to DynamoDB may take; the default outside of tests.
    pub request_timeout: RequestTimeout,
}

impl Policy {
    /// Refuses what is not allowed.
    ///
    /// # Errors
    /// Terminal, with reason `EndpointNotAllowed` or `AccessDenied`; the message names the flag. A change of flags
    /// restarts the operator, and a job that is refused before it has begun must be created anew; see [`for_good`], and
    /// [`for_now`] for one that has.
    pub fn admit(&self, job: &Job, key: &ObjectKey) -> Result<(), Failure> {
        self.endpoints
            .check(&job.endpoint, &job.target.region)
            .map_err(|error| crate::controllers::ddbctldpjob::refused(&error))?;
        let own = source(
            &job.endpoint,
            job.secret.is_some(),
            &key.namespace,
            &self.identity,
        );
        let table = &job.target.table_name;
        if own == Ok(Source::Operator) && !self.tables.match_table(table) {
            return Err(Failure {
                class: reconcile::Class::Terminal,
                reason: Reason::AccessDenied,
                message: format!(
                    "table {table:?} is not among those that the operator's own AWS identity may touch; name a Secret in `credentials.secretRef`, or ask an administrator to extend the operator's flag {TABLES_FLAG}"
                ),
            });
        }
        Ok(())
    }
}

/// A refusal of a job that has not begun: it does not come back to it when the flags allow it.
pub fn for_good(mut refusal: Failure) -> Failure {
    refusal.message += "; once that is done, create the job again";
    refusal
}

/// A refusal of a job that has begun: the flags were others then, and may be so again. It waits for that.
pub fn for_now(refusal: &Failure) -> Failure {
    Failure {
        class: reconcile::Class::Denied,
        reason: refusal.reason,
        message: format!(
            "the job has begun, and waits until the operator's flags allow it again: {}",
            refusal.message
        ),
    }
}

/// Names of tables, `*` standing for any run of characters; separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePatterns(Vec<String>);

impl Default for TablePatterns {
    fn default() -> Self {
        Self(vec!["*".to_owned()])
    }
}

impl FromStr for TablePatterns {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(Self(names.map(str::to_owned).collect()))
    }
}

impl TablePatterns {
    /// Whether one of the patterns matches the whole name.
    pub fn match_table(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern, name))
    }
}

/// Matches the parts between the stars from left to right; the last one must end the name.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything_and_nothing_else_does() {
        let patterns: TablePatterns = "Orders, tmp-*, *-eu-*-blue".parse().unwrap();
        for name in ["Orders", "tmp-", "tmp-1", "x-eu-1-blue"] {
            assert!(patterns.match_table(name), "{name}");
        }
        for name in ["Orders2", "MyOrders", "tmp", "x-eu-blue", "x-eu-1-green"] {
            assert!(!patterns.match_table(name), "{name}");
        }
        assert!(TablePatterns::default().match_table("anything"));
        assert!(!"".parse::<TablePatterns>().unwrap().match_table("anything"));
    }
}
