//! A job's spec, parsed: from here on nothing about it can be malformed.

use std::time::Duration;

use dynamodb_api::{DEFAULT_REGION, DdbctlDpJob, DdbctlDpJobSpec, Reason, ResolvedTarget, RunMode};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::{
    endpoint::{Endpoint, EndpointError},
    partition::{Failure, Request},
    table_name,
};

/// What a job asks for.
#[derive(Clone, Debug)]
pub struct Job {
    /// Where the table is.
    pub endpoint: Endpoint,
    /// The target with its defaults filled in.
    pub target: ResolvedTarget,
    /// What to delete.
    pub request: Request,
    /// Upper bound of the consumption, in WCU per second.
    pub max_wcu: Option<u32>,
    /// At rest?
    pub suspend: bool,
    /// Ended by its author?
    pub cancel: bool,
    /// When it must have begun.
    pub not_after: Option<Timestamp>,
    /// How long it may work.
    pub deadline: Option<Duration>,
    /// The Secret with its credentials.
    pub secret: Option<String>,
}

impl Job {
    /// Parses the spec of `object`.
    ///
    /// # Errors
    /// Terminal, with reason `TargetInvalid` or `EndpointInvalid`: the spec must change.
    pub fn parse(object: &DdbctlDpJob) -> Result<Self, Failure> {
        let spec = &object.spec;
        let target = Target::of(spec).ok_or_else(|| {
            Failure::terminal(
                Reason::TargetInvalid,
                "the spec names no target: set `tableName` and `partitionValue`, directly or under `ddbCtlDpJob`",
            )
        })?;
        table_name::check(target.table)
            .map_err(|error| Failure::terminal(Reason::TargetInvalid, format!("`tableName` {error}")))?;
        let region = target.region();
        let endpoint =
            Endpoint::parse(target.endpoint.unwrap_or_default()).map_err(|error| invalid(&error))?;
        endpoint
            .check_region(region)
            .map_err(|error| Failure::terminal(Reason::TargetInvalid, format!("`awsRegion`: {error}")))?;
        let limits = spec.limits.clone().unwrap_or_default();
        let bound = |value: Option<i64>| {
            value
                .and_then(|value| u64::try_from(value).ok())
                .filter(|v| *v > 0)
        };
        let request = Request {
            key_type: spec.key_type,
            sort_key: spec.sort_key.clone(),
            mode: spec.mode,
            require_point_in_time_recovery: spec.require_point_in_time_recovery,
            max_items: bound(limits.max_items),
            max_wcu_total: bound(limits.max_wcu_total),
            backoff_limit: u32::try_from(spec.backoff_limit).unwrap_or(0),
            ..Request::new(target.table, target.partition)
        };
        Ok(Self {
            target: ResolvedTarget {
                table_name: target.table.to_owned(),
                region: region.to_owned(),
                endpoint: endpoint.url(),
            },
            endpoint,
            request,
            max_wcu: spec
                .max_wcu_per_second
                .and_then(|value| u32::try_from(value).ok()),
            suspend: spec.suspend,
            cancel: spec.cancel,
            not_after: spec.not_after.as_ref().map(|time| time.0),
            deadline: spec
                .active_deadline_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map(Duration::from_secs),
            secret: spec
                .credentials
                .as_ref()
                .and_then(|c| c.secret_ref.as_ref())
                .map(|secret| secret.name.clone()),
        })
    }

    /// What is to be emptied, for people.
    pub fn extent(&self) -> &'static str {
        match self.request.sort_key {
            None => "partition",
            Some(_) => "asked range of sort keys of the partition",
        }
    }

    /// Whether nothing is to be deleted.
    pub fn is_dry_run(&self) -> bool {
        self.request.mode == RunMode::DryRun
    }

    /// Whether what it may delete or consume in all is limited.
    pub fn has_limits(&self) -> bool {
        self.request.max_items.is_some() || self.request.max_wcu_total.is_some()
    }

    /// What makes two jobs the same deletion: for the record of jobs that ran.
    pub fn identity(&self) -> Vec<String> {
        let range = serde_json::to_string(&self.request.sort_key).unwrap_or_default();
        let target = &self.target;
        vec![
            target.endpoint.clone().unwrap_or_default(),
            target.region.clone(),
            target.table_name.clone(),
            self.request.partition_value.clone(),
            range,
        ]
    }

    /// A hash of everything that a running task depends on and that may change while it runs.
    pub fn run_hash(&self, phase: &str) -> u64 {
        let request = &self.request;
        let parts = (
            phase,
            request.max_items,
            request.max_wcu_total,
            request.require_point_in_time_recovery,
            request.backoff_limit,
            &self.secret,
        );
        let digest = Sha256::digest(format!("{parts:?}"));
        digest
            .iter()
            .take(8)
            .fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
    }
}

struct Target<'a> {
    table: &'a str,
    partition: &'a str,
    endpoint: Option<&'a str>,
    region: Option<&'a str>,
}

/// The target that `spec` names, whether or not it can be worked with; a malformed endpoint as it is written there.
pub(super) fn target(spec: &DdbctlDpJobSpec) -> Option<ResolvedTarget> {
    let target = Target::of(spec)?;
    let written = target.endpoint.unwrap_or_default();
    let as_written = || (!written.is_empty()).then(|| written.to_owned());
    Some(ResolvedTarget {
        table_name: target.table.to_owned(),
        region: target.region().to_owned(),
        endpoint: Endpoint::parse(written).map_or_else(|_| as_written(), |endpoint| endpoint.url()),
    })
}

impl<'a> Target<'a> {
    fn region(&self) -> &'a str {
        self.region
            .filter(|region| !region.is_empty())
            .unwrap_or(DEFAULT_REGION)
    }

    fn of(spec: &'a DdbctlDpJobSpec) -> Option<Self> {
        if let Some(nested) = &spec.ddb_ctl_dp_job {
            return Some(Self {
                table: &nested.table_name,
                partition: &nested.partition_value,
                endpoint: nested.endpoint_url.as_deref(),
                region: nested.aws_region.as_deref(),
            });
        }
        Some(Self {
            table: spec.table_name.as_deref()?,
            partition: spec.partition_value.as_deref()?,
            endpoint: spec.endpoint_url.as_deref(),
            region: spec.aws_region.as_deref(),
        })
    }
}

/// What a refused endpoint means for the job.
pub fn invalid(error: &EndpointError) -> Failure {
    let reason = match error {
        EndpointError::Invalid { .. } => Reason::EndpointInvalid,
        EndpointError::NotAllowed(_) | EndpointError::ForbiddenAddress { .. } => Reason::EndpointNotAllowed,
    };
    Failure::terminal(reason, error.to_string())
}

#[cfg(test)]
mod tests {
    use dynamodb_api::DpJobTarget;
    use rstest::rstest;

    use super::*;

    fn flat(endpoint: &str, region: Option<&str>) -> DdbctlDpJobSpec {
        DdbctlDpJobSpec {
            table_name: Some("Orders".into()),
            partition_value: Some("tenant".into()),
            endpoint_url: Some(endpoint.into()),
            aws_region: region.map(Into::into),
            ..DdbctlDpJobSpec::default()
        }
    }

    fn parse(spec: DdbctlDpJobSpec) -> Result<Job, Failure> {
        Job::parse(&DdbctlDpJob::new("x", spec))
    }

    #[test]
    fn both_forms_mean_the_same() {
        let nested = DdbctlDpJobSpec {
            ddb_ctl_dp_job: Some(DpJobTarget {
                table_name: "Orders".into(),
                partition_value: "tenant".into(),
                endpoint_url: Some("http://dynamodb.local:8000".into()),
                aws_region: None,
            }),
            ..DdbctlDpJobSpec::default()
        };
        let (flat, nested) = (
            parse(flat("http://dynamodb.local:8000/", Some(""))).unwrap(),
            parse(nested).unwrap(),
        );
        assert_eq!(flat.target, nested.target);
        assert_eq!(flat.identity(), nested.identity());
        assert_eq!(flat.target.region, "us-east-1");
        assert_eq!(
            flat.target.endpoint.as_deref(),
            Some("http://dynamodb.local:8000")
        );
    }

    #[rstest]
    #[case("http://aws-dynamhttp://dynamodb.local:8000", None, Reason::EndpointInvalid)]
    #[case("http://169.254.169.254", None, Reason::EndpointNotAllowed)]
    #[case("", Some("evil.example/#"), Reason::TargetInvalid)]
    // The SDK takes it for http://localhost:8000.
    #[case("", Some("local"), Reason::TargetInvalid)]
    #[case(
        "https://dynamodb.us-east-1.amazonaws.com",
        Some("local"),
        Reason::TargetInvalid
    )]
    #[case("http://dynamodb.local:8000", Some("evil.example/#"), Reason::TargetInvalid)]
    fn a_target_that_cannot_be_is_terminal(
        #[case] url: &str,
        #[case] region: Option<&str>,
        #[case] reason: Reason,
    ) {
        let failure = parse(flat(url, region)).unwrap_err();
        assert_eq!(
            (failure.reason, failure.class),
            (reason, reconcile::Class::Terminal)
        );
    }

    #[test]
    fn a_target_is_told_also_when_its_endpoint_is_none() {
        let told = target(&flat("http://dynamodb.local:8000/shell", None)).unwrap();
        assert_eq!(
            (told.table_name.as_str(), told.region.as_str()),
            ("Orders", "us-east-1")
        );
        assert_eq!(told.endpoint.as_deref(), Some("http://dynamodb.local:8000/shell"));
        assert_eq!(target(&flat("", None)).unwrap().endpoint, None);
        assert_eq!(target(&DdbctlDpJobSpec::default()), None);
    }

    #[test]
    fn a_name_that_no_table_can_have_is_named_with_its_field() {
        let spec = DdbctlDpJobSpec {
            table_name: Some("a/b".into()),
            ..flat("", None)
        };
        let failure = parse(spec).unwrap_err();
        assert_eq!(failure.reason, Reason::TargetInvalid);
        assert!(failure.message.starts_with("`tableName` \"a/b\""), "{failure}");
    }

    #[test]
    fn tunable_fields_do_not_restart_a_run_and_limits_do() {
        let base = flat("", None);
        let hash = |spec: DdbctlDpJobSpec| parse(spec).unwrap().run_hash("delete");
        let tuned = DdbctlDpJobSpec {
            max_wcu_per_second: Some(5),
            active_deadline_seconds: Some(9),
            ..base.clone()
        };
        assert_eq!(hash(base.clone()), hash(tuned));
        assert_ne!(
            hash(base.clone()),
            hash(DdbctlDpJobSpec {
                backoff_limit: 9,
                ..base
            })
        );
    }
}
