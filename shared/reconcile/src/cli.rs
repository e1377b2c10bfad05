//! The flags that users of operators know, with the names and defaults that they expect.
//!
//! # Guarantees
//! - Every flag can be given as an environment variable instead (`OPERATOR_` and the flag's name in capitals; `KUBECONFIG`
//!   for the kubeconfig; zap's flags have none); the command line wins.
//! - Durations and booleans are written as in Go (`1m30s`, `--leader-elect=true`), and [`parse`] accepts one dash where Go does
//!   (`-zap-log-level=debug`): manifests written for other operators can be pasted.
//! - Of a flag of an operator that is given more than once the last one counts, as in Go: what stands behind a chart's
//!   arguments overrides them. Flags that make a list (`--place`) are added up. Commands for people refuse it.
//! - What cannot work is refused at the start with a message that says what to write, never ignored. The exceptions are
//!   zap's flags for stack traces and time formats, which are accepted and mean nothing here.
//!
//! # Caveats
//! `--<kind>-concurrency` is each operator's own. Leader election is off unless asked for, as everywhere; the charts ask.
//!
//! # Example
//! ```
//! use clap::Parser;
//! use reconcile::cli::{CommonArgs, parse_from};
//!
//! #[derive(Parser)]
//! struct Args {
//!     #[command(flatten)]
//!     common: CommonArgs,
//!     /// How many databases are reconciled at once.
//!     #[arg(long, default_value_t = 4)]
//!     database_concurrency: usize,
//! }
//!
//! let args: Args = parse_from(["manager", "--leader-elect", "-zap-log-level=debug"])?;
//! assert!(args.common.leader_elect);
//! assert_eq!(args.common.log_filter(), "debug");
//! # Ok::<(), clap::Error>(())
//! ```

mod go;
mod logging;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    ArgAction, Args, CommandFactory, FromArgMatches, Parser, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser},
};
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};

pub use self::logging::LogArgs;
use crate::{
    leader::{LeaderConfig, Timing},
    server::BindAddress,
    telemetry::LogFormat,
};

/// Flags of every operator. Flatten them into the operator's own.
#[derive(Args, Clone, Debug)]
pub struct CommonArgs {
    /// Act only while holding a lease, so that several replicas can run. Wanted even for a single replica: during an
    /// update there are two.
    #[arg(
        long,
        env = "OPERATOR_LEADER_ELECT",
        value_name = "BOOL",
        default_value = "false"
    )]
    #[arg(action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = go::parse_bool)]
    pub leader_elect: bool,

    /// Durations of leader election as a set; the three flags below override it one by one.
    #[arg(long, env = "OPERATOR_LEADER_ELECT_PRESET", value_enum, default_value_t)]
    pub leader_elect_preset: TimingPreset,

    /// How long a standby waits for a sign of life before it takes over (15s, fast: 3s, tolerant: 60s). Whole seconds.
    #[arg(long, env = "OPERATOR_LEADER_ELECT_LEASE_DURATION", value_name = "DURATION")]
    #[arg(value_parser = go::parse_duration)]
    pub leader_elect_lease_duration: Option<Duration>,

    /// How long the leader tries to renew before it gives up and ends (10s, fast: 2s, tolerant: 40s).
    #[arg(long, env = "OPERATOR_LEADER_ELECT_RENEW_DEADLINE", value_name = "DURATION")]
    #[arg(value_parser = go::parse_duration)]
    pub leader_elect_renew_deadline: Option<Duration>,

    /// How often the leader renews and a standby polls (2s, fast: 500ms, tolerant: 5s).
    #[arg(long, env = "OPERATOR_LEADER_ELECT_RETRY_PERIOD", value_name = "DURATION")]
    #[arg(value_parser = go::parse_duration)]
    pub leader_elect_retry_period: Option<Duration>,

    /// Name of the lease. Default: the operator's name.
    #[arg(long, env = "OPERATOR_LEADER_ELECTION_ID", value_name = "NAME")]
    pub leader_election_id: Option<String>,

    /// Namespace of the lease. Default: the operator's own.
    #[arg(long, env = "OPERATOR_LEADER_ELECTION_NAMESPACE", value_name = "NAMESPACE")]
    pub leader_election_namespace: Option<String>,

    /// The namespaces in which leases of other installations of this operator count, separated by commas. Empty: all. Who
    /// may write leases in one of them can make this operator wait before it acts.
    #[arg(
        long,
        env = "OPERATOR_INSTALLATIONS_IN",
        value_name = "NAMESPACES",
        default_value = "",
        value_parser = namespaces
    )]
    pub installations_in: String,

    /// Where to serve /metrics; 0 for nowhere.
    #[arg(
        long,
        env = "OPERATOR_METRICS_BIND_ADDRESS",
        value_name = "ADDRESS",
        default_value = ":8080"
    )]
    pub metrics_bind_address: BindAddress,

    /// Where to serve /healthz and /readyz; 0 for nowhere.
    #[arg(
        long,
        env = "OPERATOR_HEALTH_PROBE_BIND_ADDRESS",
        value_name = "ADDRESS",
        default_value = ":8081"
    )]
    pub health_probe_bind_address: BindAddress,

    /// The namespaces to serve, separated by commas. Empty: all.
    #[arg(
        long,
        env = "OPERATOR_NAMESPACE",
        value_name = "NAMESPACES",
        default_value = "",
        value_parser = namespaces
    )]
    pub namespace: String,

    /// How often every object is looked at again although nothing changed; 0 for never.
    #[arg(
        long,
        env = "OPERATOR_SYNC_PERIOD",
        value_name = "DURATION",
        default_value = "10m"
    )]
    #[arg(value_parser = go::parse_duration)]
    pub sync_period: Duration,

    /// Requests per second to the Kubernetes API, on average; 0 for no limit.
    #[arg(
        long,
        env = "OPERATOR_KUBE_API_QPS",
        value_name = "NUMBER",
        default_value_t = 100.0
    )]
    pub kube_api_qps: f32,

    /// Requests at once to the Kubernetes API.
    #[arg(
        long,
        env = "OPERATOR_KUBE_API_BURST",
        value_name = "NUMBER",
        default_value_t = 200
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub kube_api_burst: u32,

    /// The kubeconfig file. Default: the usual one if there is any, else the pod's service account.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    #[arg(value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub kubeconfig: Option<PathBuf>,

    /// How long passes and tasks may take to end after SIGTERM. A pod's grace period must be longer.
    #[arg(
        long,
        env = "OPERATOR_GRACEFUL_SHUTDOWN_TIMEOUT",
        value_name = "DURATION",
        default_value = "30s"
    )]
    #[arg(value_parser = go::parse_duration)]
    pub graceful_shutdown_timeout: Duration,

    /// For compatibility: HTTP/2 is never served, because of its rapid-reset attacks. Only `false` is accepted.
    #[arg(
        long,
        env = "OPERATOR_ENABLE_HTTP2",
        value_name = "BOOL",
        default_value = "false",
        hide = true
    )]
    #[arg(action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = go::parse_http2)]
    pub enable_http2: bool,

    /// What to log, and how.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Sets of durations for `--leader-elect-preset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TimingPreset {
    /// 15 s, 10 s, 2 s: as every operator.
    #[default]
    Default,
    /// 3 s, 2 s, 0.5 s: takes over within five seconds of a crash, at the price of two writes per second.
    Fast,
    /// 60 s, 40 s, 5 s: outlasts pauses of the API server.
    Tolerant,
}

/// The kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// The file given by `--kubeconfig`.
    #[error("failed to use the kubeconfig {path}; check --kubeconfig and KUBECONFIG")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// No file was given, and neither the usual one nor a service account could be used.
    #[error("found neither a kubeconfig nor a pod's service account; give --kubeconfig")]
    Infer(#[source] Box<InferConfigError>),
}

/// Lets through what [`CommonArgs::namespaces`] can make names of.
fn namespaces(text: &str) -> Result<String, String> {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let usable = |name: &str| {
        name.len() <= 63 && name.bytes().all(known) && !name.starts_with('-') && !name.ends_with('-')
    };
    match text.split(',').map(str::trim).find(|name| !usable(name)) {
        None => Ok(text.to_owned()),
        Some(name) => Err(format!(
            "{name:?} is no name of a namespace (lowercase letters, digits and '-', at most 63); separate several by commas, or leave it out for all"
        )),
    }
}

/// The names in a list with commas.
fn names(list: &str) -> Vec<String> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

impl CommonArgs {
    /// The namespaces to serve; empty for all.
    pub fn namespaces(&self) -> Vec<String> {
        names(&self.namespace)
    }

    /// Where other installations are looked for; empty for all namespaces.
    pub fn installations_in(&self) -> Vec<String> {
        names(&self.installations_in)
    }

    /// The election to take part in; `None` without `--leader-elect`.
    ///
    /// `operator` is the default name of the lease; `namespace` its default namespace, usually that of the
    /// [`kube::Config`].
    pub fn election(&self, operator: &str, namespace: &str) -> Option<LeaderConfig> {
        let lease = self.leader_election_id.as_deref().unwrap_or(operator);
        let namespace = self.leader_election_namespace.as_deref().unwrap_or(namespace);
        let mut config = self.leader_elect.then(|| LeaderConfig::new(lease, namespace))?;
        config.timing = self.timing();
        Some(config)
    }

    fn timing(&self) -> Timing {
        let preset = match self.leader_elect_preset {
            TimingPreset::Default => Timing::DEFAULT,
            TimingPreset::Fast => Timing::FAST,
            TimingPreset::Tolerant => Timing::TOLERANT,
        };
        Timing {
            lease_duration: self.leader_elect_lease_duration.unwrap_or(preset.lease_duration),
            renew_deadline: self.leader_elect_renew_deadline.unwrap_or(preset.renew_deadline),
            retry_period: self.leader_elect_retry_period.unwrap_or(preset.retry_period),
        }
    }

    /// The filter for [`crate::telemetry::init`], from whichever flag was given.
    pub fn log_filter(&self) -> String {
        self.log.filter()
    }

    /// The format for [`crate::telemetry::init`], from whichever flag was given.
    pub fn log_format(&self) -> LogFormat {
        self.log.format()
    }

    /// How to reach the cluster: `--kubeconfig`, or what kube finds by itself.
    pub async fn kube_config(&self) -> Result<kube::Config, KubeError> {
        let Some(path) = self
            .kubeconfig
            .clone()
            .filter(|path| !path.as_os_str().is_empty())
        else {
            return kube::Config::infer()
                .await
                .map_err(|source| KubeError::Infer(Box::new(source)));
        };
        // KUBECONFIG may list several files, which only kube's own search merges.
        let failed = |source| KubeError::File {
            path: path.clone(),
            source: Box::new(source),
        };
        let files = std::env::split_paths(&path).filter(|file| !file.as_os_str().is_empty());
        let mut merged = Kubeconfig::default();
        for file in files {
            let read = Kubeconfig::read_from(file).map_err(failed)?;
            merged = merged.merge(read).map_err(failed)?;
        }
        kube::Config::from_custom_kubeconfig(merged, &KubeConfigOptions::default())
            .await
            .map_err(failed)
    }
}

/// Parses this process's command line; prints help or what is wrong, and exits, as clap does.
pub fn parse<P: Parser>() -> P {
    parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// Parses `arguments`, the program's name first.
pub fn parse_from<P: Parser>(
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<P, clap::Error> {
    let command = go::last_wins(<P as CommandFactory>::command());
    let arguments = go::double_dashed(&command, arguments.into_iter().map(Into::into));
    let mut matches = command.try_get_matches_from(arguments)?;
    <P as FromArgMatches>::from_arg_matches_mut(&mut matches)
        .map_err(|error| error.format(&mut <P as CommandFactory>::command()))
}

/// Chooses aws-lc-rs as this process's TLS provider, unless one is chosen already.
///
/// With more than one provider compiled in, rustls cannot choose and panics at its first use; so call this first in
/// `main`. Calling it again does nothing.
pub fn install_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Lost only to another thread that installed one at the same moment.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests;
