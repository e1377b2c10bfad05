//! `cargo xtask test --sabotage`: the suites must notice every mistake that the product can be told to make.
//!
//! A package that has sabotages has a cargo feature `sabotage`, and asks `sabotage::active(…)` at the place that keeps
//! a promise: with the name itself, or with a constant of its file `sabotage.rs`. The names are read from there, so
//! that none can be forgotten here.

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use anyhow::{Context, Result, bail};

use crate::{
    build::TestBinary,
    stage::seconds,
    suite::Run,
    workspace::{Metadata, Package},
};

/// The variable that tells a product which mistake to make.
const VARIABLE: &str = "TESTKIT_SABOTAGE";

/// What stands before a name in the source.
const CALL: &str = "sabotage::active(\"";

/// What stands before a name in a `sabotage.rs`.
const CONSTANT: &str = ": &str = \"";

/// Runs the suites once per sabotage. Fails if one stays green, or if there are no sabotages at all.
pub(crate) fn run(binaries: &[&TestBinary], run: &Run) -> Result<()> {
    let mistakes = all(&Metadata::read()?)?;
    if mistakes.is_empty() {
        bail!("no package with the feature `sabotage` asks for one by `sabotage::active(…)`");
    }
    let mut green = Vec::new();
    for (name, package) in &mistakes {
        let started = Instant::now();
        let mut with_it = Run {
            fail_fast: true,
            quiet: true,
            ..run.clone()
        };
        with_it.environment.push((VARIABLE.to_owned(), name.clone()));
        // Whoever makes the mistake is the most likely to notice it, and integration tests before unit tests.
        let mut order = binaries.to_vec();
        order.sort_by_key(|binary| (binary.package != *package, std::cmp::Reverse(binary.kind)));
        let tally = with_it.all(order)?;
        let took = seconds(started.elapsed());
        if let Some(failed) = tally.failed.first() {
            eprintln!("sabotage {name}: red ({failed}), {took}");
        } else {
            eprintln!(
                "sabotage {name}: GREEN, {} tests did not notice, {took}",
                tally.passed
            );
            green.push(name.as_str());
        }
    }
    eprintln!(
        "{} sabotages, {} noticed",
        mistakes.len(),
        mistakes.len() - green.len()
    );
    if !green.is_empty() {
        bail!("not noticed by any test: {}", green.join(", "));
    }
    Ok(())
}

/// Every sabotage, with the package that makes it.
fn all(metadata: &Metadata) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for package in metadata
        .packages
        .iter()
        .filter(|package| package.features.contains_key("sabotage"))
    {
        collect(&source_folder(package), &mut |name| {
            found.insert(name, package.name.clone());
        })?;
    }
    Ok(found)
}

fn source_folder(package: &Package) -> std::path::PathBuf {
    package.manifest_path.with_file_name("src")
}

fn collect(folder: &Path, found: &mut dyn FnMut(String)) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.context("cannot list a source folder")?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            names(&text, CALL).for_each(&mut *found);
            if path.file_name().is_some_and(|name| name == "sabotage.rs") {
                names(&text, CONSTANT).for_each(&mut *found);
            }
        }
    }
    Ok(())
}

/// The words that stand in quotes after `before` (which ends with the first quote), comments left out.
fn names(source: &str, before: &'static str) -> impl Iterator<Item = String> {
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(move |line| {
            line.split(before)
                .skip(1)
                .filter_map(|rest| rest.split_once('"'))
                .map(|(name, _)| name.to_owned())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_the_code_and_not_from_comments() {
        let source =
            "if sabotage::active(\"a\") || sabotage::active(\"b\") {\n  // sabotage::active(\"c\")\n}";
        assert_eq!(names(source, CALL).collect::<Vec<_>>(), ["a", "b"]);
        let source = "/// x\npub(crate) const SKIP: &str = \"skip-it\";\npub const ALL: &[&str] = &[SKIP];";
        assert_eq!(names(source, CONSTANT).collect::<Vec<_>>(), ["skip-it"]);
    }

    #[test]
    fn the_operators_mistakes_are_found() {
        let found = all(&Metadata::read().unwrap()).unwrap();
        assert!(found.len() >= 5, "only {found:?}");
    }
}
