//! `cargo xtask bench`: runs the benchmarks, which are the examples called `bench_…` of any package.
//!
//! A benchmark prints `figure NAME VALUE UNIT` lines and writes its raw samples as JSON into the folder that
//! `BENCH_OUTPUT` names.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::workspace::{self, Metadata};

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the benchmarks of this name: `dynamodb`, `framework`; all without
    name: Option<String>,
    /// Arguments for the benchmarks
    #[arg(last = true)]
    arguments: Vec<String>,
}

const PREFIX: &str = "bench_";

#[derive(Debug, PartialEq, Eq)]
struct Benchmark {
    package: String,
    example: String,
    features: Vec<String>,
}

/// Runs what is selected, one after the other, in the release profile.
pub(crate) fn run(args: &Args) -> Result<()> {
    let metadata = Metadata::read()?;
    let wanted = format!("{PREFIX}{}", args.name.as_deref().unwrap_or_default());
    let (chosen, others) = chosen(benchmarks(&metadata), &wanted);
    if chosen.is_empty() {
        let names: Vec<_> = others
            .iter()
            .map(|bench| bench.example.trim_start_matches(PREFIX))
            .collect();
        bail!("no benchmark is called so; there are: {}", names.join(", "));
    }
    let folder = metadata.target_directory.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for bench in chosen {
        let mut command = workspace::cargo("run");
        command.args([
            "--release",
            "--package",
            &bench.package,
            "--example",
            &bench.example,
        ]);
        if !bench.features.is_empty() {
            command.arg("--features").arg(bench.features.join(","));
        }
        command
            .arg("--")
            .args(&args.arguments)
            .env("BENCH_OUTPUT", &folder);
        workspace::run(&mut command)?;
    }
    eprintln!("raw samples: {}", folder.display());
    Ok(())
}

/// The one that is called so, else those that begin so; and the others.
fn chosen(all: Vec<Benchmark>, wanted: &str) -> (Vec<Benchmark>, Vec<Benchmark>) {
    let exact = all.iter().any(|bench| bench.example == wanted);
    all.into_iter().partition(|bench| {
        if exact {
            bench.example == wanted
        } else {
            bench.example.starts_with(wanted)
        }
    })
}

fn benchmarks(metadata: &Metadata) -> Vec<Benchmark> {
    let mut found = Vec::new();
    for package in &metadata.packages {
        for target in &package.targets {
            if target.kind.iter().any(|kind| kind == "example") && target.name.starts_with(PREFIX) {
                found.push(Benchmark {
                    package: package.name.clone(),
                    example: target.name.clone(),
                    features: target.required_features.clone(),
                });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_benchmark_is_found_by_its_name_although_another_begins_so() {
        let names = |found: Vec<Benchmark>| found.into_iter().map(|bench| bench.example).collect::<Vec<_>>();
        let all = || {
            ["bench_mysql", "bench_mysqlcluster", "bench_docker"].map(|example| Benchmark {
                package: "p".into(),
                example: example.into(),
                features: Vec::new(),
            })
        };
        let found = |wanted: &str| names(chosen(all().into(), wanted).0);
        assert_eq!(found("bench_mysql"), ["bench_mysql"]);
        assert_eq!(found("bench_mysqlc"), ["bench_mysqlcluster"]);
        assert_eq!(found("bench_").len(), 3);
    }

    #[test]
    fn benchmarks_are_the_examples_that_are_called_so() {
        let metadata = serde_json::json!({"target_directory": "/t", "packages": [{
            "name": "p", "manifest_path": "/p/Cargo.toml", "features": {}, "targets": [
                {"name": "bench_x", "kind": ["example"], "required-features": ["f"]},
                {"name": "bench_y", "kind": ["bin"]}, {"name": "simple", "kind": ["example"]}]}]});
        let found = benchmarks(&serde_json::from_value(metadata).unwrap());
        let expected = Benchmark {
            package: "p".into(),
            example: "bench_x".into(),
            features: vec!["f".into()],
        };
        assert_eq!(found, [expected]);
    }
}
