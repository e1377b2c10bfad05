//! Builds what is run: test binaries and the programs that they and `up` start.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::workspace;

/// What a build produced.
#[derive(Debug, Default)]
pub(crate) struct Artifacts {
    /// Test binaries, in the order of cargo's `Running` lines.
    pub(crate) tests: Vec<TestBinary>,
    programs: BTreeMap<String, PathBuf>,
}

/// One test binary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TestBinary {
    /// The package that it tests.
    pub(crate) package: String,
    /// Unit tests or integration tests.
    pub(crate) kind: TestKind,
    /// Name of the target: the crate's for unit tests, else the file's in `tests/`.
    pub(crate) target: String,
    /// The package's folder, in which the binary expects to run.
    pub(crate) folder: PathBuf,
    /// The binary.
    pub(crate) executable: PathBuf,
}

/// Where the tests of a binary are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TestKind {
    /// In the source, beside what they test.
    Unit,
    /// In `tests/`.
    Integration,
}

impl Artifacts {
    /// The program called `name`.
    pub(crate) fn program(&self, name: &str) -> Result<&PathBuf> {
        self.programs
            .get(name)
            .with_context(|| format!("no package of the workspace builds a program called {name}"))
    }

    fn take(&mut self, artifact: Artifact) {
        let Some(executable) = artifact.executable else {
            return;
        };
        let is = |kind: &str| artifact.target.kind.iter().any(|of| of == kind);
        if artifact.profile.test {
            let kind = if is("test") {
                TestKind::Integration
            } else {
                TestKind::Unit
            };
            let folder = artifact
                .manifest_path
                .parent()
                .map(PathBuf::from)
                .unwrap_or_default();
            let package = package_name(&artifact.package_id);
            self.tests.push(TestBinary {
                package,
                kind,
                target: artifact.target.name,
                folder,
                executable,
            });
        } else if is("bin") {
            self.programs.insert(artifact.target.name, executable);
        }
    }
}

/// What is built beside the programs that were asked for, so that dependencies get the very features that they have
/// when everything is built: the framework for its tests' sake, MySQL's controller because its client adds features to
/// what TLS is made of, DynamoDB's because it makes AWS's HTTP client itself, and a small test, because with one in the
/// selection cargo adds the features that tests need.
const ALONGSIDE: [&str; 6] = [
    "--package=testkit",
    "--package=reconcile",
    "--package=mysql-controller",
    "--package=dynamodb-controller",
    "--package=xtask",
    "--test=dependencies",
];

/// Builds every test and every program, once. Cargo shows its progress on standard error.
pub(crate) fn everything() -> Result<Artifacts> {
    let mut command = workspace::cargo("build");
    command.args(workspace::SELECTION).args(["--bins", "--tests"]);
    build(&mut command)
}

/// Builds the test bed's program and those of `packages`, and nothing that only other operators need. What is compiled
/// here serves the tests too.
pub(crate) fn programs(packages: &[&str]) -> Result<Artifacts> {
    let mut command = workspace::cargo("build");
    command.args(["--all-features", "--bins"]).args(ALONGSIDE);
    command.args(packages.iter().map(|package| format!("--package={package}")));
    build(&mut command)
}

fn build(command: &mut Command) -> Result<Artifacts> {
    command.arg("--message-format=json-render-diagnostics");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut artifacts = Artifacts::default();
    for line in BufReader::new(output).lines() {
        // Other messages have other fields: whatever does not parse is none of ours.
        if let Ok(artifact) = serde_json::from_str(&line.context("cannot read cargo's output")?) {
            artifacts.take(artifact);
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() {
        bail!("`{}` failed ({status})", workspace::shown(command));
    }
    artifacts.tests.sort();
    Ok(artifacts)
}

/// The name in a package id such as `path+file:///x/operators/dynamodb/api#dynamodb-api@0.1.0`; the name is left
/// out where it is that of the folder.
fn package_name(id: &str) -> String {
    let (path, fragment) = id.rsplit_once('#').unwrap_or((id, ""));
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => path.rsplit('/').next().unwrap_or(path).to_owned(),
    }
}

#[derive(Deserialize)]
struct Artifact {
    package_id: String,
    manifest_path: PathBuf,
    target: ArtifactTarget,
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct ArtifactTarget {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::up::OPERATORS;

    /// Every package with its features, as this selection compiles it.
    fn compiled(selection: &[String]) -> BTreeSet<String> {
        let mut command = workspace::cargo("tree");
        command.args([
            "--all-features",
            "--no-dedupe",
            "--prefix=none",
            "--format={p} {f}",
        ]);
        let output = command
            .arg("--edges=normal,build,dev")
            .args(selection)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| line.trim_end_matches("(*)").trim().to_owned())
            .collect()
    }

    #[test]
    fn nothing_is_compiled_for_up_that_tests_do_not_use() {
        let everything = compiled(&["--workspace".to_owned()]);
        for (_, packages) in OPERATORS {
            let mut selection: Vec<_> = ALONGSIDE
                .iter()
                .filter(|argument| argument.starts_with("--package"))
                .map(|&argument| argument.to_owned())
                .collect();
            selection.extend(packages.iter().map(|package| format!("--package={package}")));
            let twice: Vec<_> = compiled(&selection).difference(&everything).cloned().collect();
            assert!(
                twice.is_empty(),
                "compiled twice because of other features for {packages:?}: {twice:?}"
            );
        }
    }

    #[test]
    fn a_package_is_named_with_and_without_its_folder() {
        assert_eq!(package_name("path+file:///x/shared/xtask#0.1.0"), "xtask");
        assert_eq!(
            package_name("path+file:///x/dynamodb/api#dynamodb-api@0.1.0"),
            "dynamodb-api"
        );
    }

    #[test]
    fn tests_and_programs_are_told_apart() {
        let message = |kind: &str, test: bool| {
            serde_json::json!({"reason": "compiler-artifact", "package_id": "path+file:///x/a#0.1.0",
                "manifest_path": "/x/a/Cargo.toml", "target": {"name": "n", "kind": [kind]},
                "profile": {"test": test}, "executable": "/x/target/n"})
        };
        let mut artifacts = Artifacts::default();
        for (kind, test) in [("lib", true), ("test", true), ("bin", false), ("example", false)] {
            artifacts.take(serde_json::from_value(message(kind, test)).unwrap());
        }
        let kinds: Vec<_> = artifacts.tests.iter().map(|test| test.kind).collect();
        assert_eq!(kinds, [TestKind::Unit, TestKind::Integration]);
        assert!(artifacts.program("n").is_ok());
        assert!(
            artifacts
                .program("other")
                .unwrap_err()
                .to_string()
                .contains("other")
        );
    }
}
