//! Logs: one line per happening, as JSON or as text, on standard error.
//!
//! # Guarantees
//! - Fields stay fields: nothing is interpolated into messages, so that a log can be searched by object.
//! - The fields of the span around a pass (controller, object, reconcile id) are on every line written within.
//!
//! # Caveats
//! A process has one subscriber. The second [`init`] fails, which tests that share a process may ignore.
//!
//! # Example
//! ```
//! use reconcile::telemetry::{self, LogFormat};
//!
//! telemetry::init("info,kube_client=warn", LogFormat::Json)?;
//! tracing::info!(table = "orders", "Partition is empty");
//! # Ok::<(), telemetry::Error>(())
//! ```

use std::io::{self, IsTerminal};

use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{LevelFilter, ParseError},
    fmt,
    layer::SubscriberExt,
    registry,
    util::SubscriberInitExt,
};

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// For people; coloured on a terminal.
    #[value(alias = "console")]
    Text,
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not understood.
    #[error("the log filter {filter:?} is not understood; write directives like `info,kube_client=debug`")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// A word of the filter is no level.
    #[error(
        "the log level {filter:?} is not understood; write error, warn, info, debug, trace, or directives like `info,kube_client=debug`"
    )]
    Level {
        /// As given.
        filter: String,
    },
    /// Something has set up logging before.
    #[error("logging is set up already")]
    AlreadySet,
}

/// Sets up logging for the process. `filter` is a level (`info`) or a list of directives (`info,kube_client=debug`).
pub fn init(filter: &str, format: LogFormat) -> Result<(), Error> {
    let parsed = check(filter)?;
    let layer = match format {
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(io::stderr)
            .boxed(),
        LogFormat::Text => fmt::layer()
            .with_ansi(io::stderr().is_terminal())
            .with_writer(io::stderr)
            .boxed(),
    };
    registry()
        .with(layer)
        .with(parsed)
        .try_init()
        .map_err(|_| Error::AlreadySet)
}

/// Parses a filter: what [`init`] would refuse is refused here.
pub fn check(filter: &str) -> Result<EnvFilter, Error> {
    let misspelt = || Error::Level {
        filter: filter.to_owned(),
    };
    // A lone word that is no level would be taken for the name of a module, and silence all the others.
    let words = filter
        .split(',')
        .map(str::trim)
        .filter(|word| !word.contains(['=', '[']));
    words
        .map(|word| word.parse::<LevelFilter>().map_err(|_| misspelt()))
        .collect::<Result<Vec<_>, _>>()?;
    EnvFilter::builder()
        .parse(filter)
        .map_err(|source| Error::Filter {
            filter: filter.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_or_directives() {
        for filter in ["info", "DEBUG", "warn,kube_client=trace", "off"] {
            assert!(check(filter).is_ok(), "{filter}");
        }
        assert!(
            check("loud").is_err(),
            "a misspelt level must not silence everything"
        );
        let error = check("info,kube_client=loud").unwrap_err().to_string();
        assert!(error.contains("kube_client=loud"), "{error}");
        assert!(error.contains("debug"), "{error}");
    }
}
