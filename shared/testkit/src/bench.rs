//! What benchmarks share: figures on standard output, raw samples in a file, readings of a process.
//!
//! # Guarantees
//! - A figure is one line, `figure NAME VALUE UNIT`, and nothing else is written to standard output. There are no
//!   verdicts: whoever reads a figure knows what was hoped for.
//! - [`Report::write`] leaves a JSON file with every sample that was taken, what each figure was computed from and
//!   how, the commit and the machine: every figure can be recomputed.
//!
//! # Caveats
//! Readings of processes and of the machine come from `/proc`: Linux only.

mod exposition;
mod machine;
mod process;
mod sample;

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Serialize;

pub use self::{
    exposition::Exposition,
    machine::Machine,
    process::Usage,
    sample::{median, quantile},
};

/// The environment variable that names the folder of raw samples; without it they go to `target/bench`.
pub const OUTPUT_VARIABLE: &str = "BENCH_OUTPUT";

/// The figures and samples of one benchmark.
#[derive(Debug, Serialize)]
pub struct Report {
    benchmark: String,
    began: Timestamp,
    commit: String,
    profile: &'static str,
    machine: Machine,
    /// What the run was asked for, such as the number of objects.
    parameters: BTreeMap<String, serde_json::Value>,
    figures: Vec<Figure>,
    samples: BTreeMap<String, Samples>,
}

#[derive(Debug, Serialize)]
struct Figure {
    name: String,
    value: f64,
    unit: String,
    /// How the value follows from which samples.
    from: String,
}

#[derive(Debug, Serialize)]
struct Samples {
    unit: String,
    values: Vec<f64>,
}

impl Report {
    /// An empty report of the benchmark of this name.
    pub fn new(benchmark: &str) -> Self {
        Self {
            benchmark: benchmark.to_owned(),
            began: Timestamp::now(),
            commit: machine::commit(),
            profile: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
            machine: Machine::read(),
            parameters: BTreeMap::new(),
            figures: Vec::new(),
            samples: BTreeMap::new(),
        }
    }

    /// Notes what the run was asked for.
    pub fn parameter(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.parameters.insert(name.to_owned(), value.into());
    }

    /// Keeps samples under this name, behind those already there, without a figure of their own.
    pub fn samples(&mut self, name: &str, unit: &str, values: &[f64]) {
        let kept = self.samples.entry(name.to_owned()).or_insert_with(|| Samples {
            unit: unit.to_owned(),
            values: Vec::new(),
        });
        kept.values.extend_from_slice(values);
    }

    /// Prints a figure; `from` tells how it follows from which samples.
    ///
    /// # Errors
    /// When standard output cannot be written to.
    pub fn figure(&mut self, name: &str, value: f64, unit: &str, from: &str) -> Result<()> {
        let mut output = std::io::stdout().lock();
        writeln!(output, "figure {name} {} {unit}", shown(value))?;
        output.flush()?;
        self.figures.push(Figure {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            from: from.to_owned(),
        });
        Ok(())
    }

    /// Keeps one sample per run and prints their median.
    ///
    /// # Errors
    /// As [`Report::figure`].
    pub fn median(&mut self, name: &str, unit: &str, values: &[f64]) -> Result<()> {
        self.samples(name, unit, values);
        self.figure(name, median(values), unit, &format!("median of {name}"))
    }

    /// Keeps many samples and prints their 50th, 95th and 99th percentile and the largest.
    ///
    /// # Errors
    /// As [`Report::figure`].
    pub fn distribution(&mut self, name: &str, unit: &str, values: &[f64]) -> Result<()> {
        self.samples(name, unit, values);
        for (suffix, part) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)] {
            let from = format!("{suffix} of {name}");
            self.figure(&format!("{name}_{suffix}"), quantile(values, part), unit, &from)?;
        }
        Ok(())
    }

    /// Writes the file `NAME.json` into [`OUTPUT_VARIABLE`]'s folder; returns where it is.
    ///
    /// # Errors
    /// When the folder cannot be made or the file not be written.
    pub fn write(&self) -> Result<PathBuf> {
        let folder =
            env::var_os(OUTPUT_VARIABLE).map_or_else(|| PathBuf::from("target/bench"), PathBuf::from);
        self.write_into(&folder)
    }

    fn write_into(&self, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let path = folder.join(format!("{}.json", self.benchmark));
        let text = serde_json::to_vec(self)?;
        fs::write(&path, text).with_context(|| format!("cannot write the samples to {}", path.display()))?;
        Ok(path)
    }
}

/// Four significant digits, without an exponent.
fn shown(value: f64) -> String {
    let magnitude = value.abs();
    let decimals = match magnitude {
        m if m >= 1000.0 || m == 0.0 => 0,
        m if m >= 100.0 => 1,
        m if m >= 10.0 => 2,
        m if m >= 1.0 => 3,
        m if m >= 0.01 => 4,
        _ => 6,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_can_be_recomputed_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = Report::new("x");
        report.median("speed", "items/s", &[3.0, 1.0, 2.0]).unwrap();
        report.distribution("time", "ms", &[1.0, 2.0, 3.0, 4.0]).unwrap();
        let path = report.write_into(folder.path()).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        assert_eq!(
            file["samples"]["speed"]["values"],
            serde_json::json!([3.0, 1.0, 2.0])
        );
        assert_eq!(file["figures"][0]["value"], 2.0);
        assert_eq!(file["figures"][0]["from"], "median of speed");
        assert_eq!(file["figures"].as_array().unwrap().len(), 5);
        assert!(!file["commit"].as_str().unwrap().is_empty());
        assert!(file["machine"]["cores"].as_u64().unwrap() > 0);
    }

    #[test]
    fn values_are_shown_without_needless_digits() {
        let values = [0.0, 0.00123, 0.5, 1.5, 12.3456, 123.456, 98_765.4];
        let all: Vec<_> = values.into_iter().map(shown).collect();
        assert_eq!(
            all,
            ["0", "0.001230", "0.5000", "1.500", "12.35", "123.5", "98765"]
        );
    }
}
