//! Flags for logs: our own, and zap's, which people paste.

use clap::Args;

use super::go;
use crate::telemetry::{self, LogFormat};

/// What to log, and how. Zap's flags count only where ours are not given.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// error, warn, info, debug or trace; or directives like `info,kube_client=debug`. Default: RUST_LOG, or info.
    #[arg(long, env = "OPERATOR_LOG_LEVEL", value_name = "FILTER", value_parser = parse_filter)]
    pub log_level: Option<String>,

    /// json or text.
    #[arg(long, env = "OPERATOR_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,

    /// For compatibility: debug, info, error, panic, or a verbosity (1: debug, more: trace).
    #[arg(long, env = "OPERATOR_ZAP_LOG_LEVEL", value_name = "LEVEL", value_parser = parse_zap_level, hide = true)]
    pub zap_log_level: Option<String>,

    /// For compatibility: json or console.
    #[arg(long, env = "OPERATOR_ZAP_ENCODER", value_enum, hide = true)]
    pub zap_encoder: Option<LogFormat>,

    /// For compatibility: text at level debug.
    #[arg(
        long,
        env = "OPERATOR_ZAP_DEVEL",
        value_name = "BOOL",
        default_value = "false",
        hide = true
    )]
    #[arg(action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = go::parse_bool)]
    pub zap_devel: bool,

    /// For compatibility; means nothing here.
    #[arg(long, value_name = "LEVEL", hide = true)]
    pub zap_stacktrace_level: Option<String>,

    /// For compatibility; means nothing here: times are RFC 3339.
    #[arg(long, value_name = "ENCODING", hide = true)]
    pub zap_time_encoding: Option<String>,

    /// The variable that Rust programs read.
    #[arg(long = "rust-log", env = "RUST_LOG", hide = true)]
    rust_log: Option<String>,
}

impl LogArgs {
    pub(super) fn filter(&self) -> String {
        let devel = self.zap_devel.then_some("debug");
        let given = [
            self.log_level.as_deref(),
            self.zap_log_level.as_deref(),
            devel,
            self.rust_log.as_deref(),
        ];
        given
            .into_iter()
            .flatten()
            .find(|filter| !filter.is_empty())
            .unwrap_or("info")
            .to_owned()
    }

    pub(super) fn format(&self) -> LogFormat {
        let devel = self.zap_devel.then_some(LogFormat::Text);
        self.log_format.or(self.zap_encoder).or(devel).unwrap_or_default()
    }
}

fn parse_filter(text: &str) -> Result<String, String> {
    telemetry::check(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

/// Zap's levels, as a filter of ours.
fn parse_zap_level(text: &str) -> Result<String, String> {
    let level = match text.to_ascii_lowercase().as_str() {
        "debug" | "1" => "debug",
        "info" | "0" => "info",
        "warn" => "warn",
        "error" | "dpanic" | "panic" | "fatal" => "error",
        other if other.parse::<u8>().is_ok() => "trace",
        _ => return Err("write debug, info, error, panic, or a verbosity from 0 to 255".to_owned()),
    };
    Ok(level.to_owned())
}
