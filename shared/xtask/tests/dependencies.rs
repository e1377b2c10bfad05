//! The rules of who may depend on whom, held against `cargo metadata` and `cargo tree`.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{collections::BTreeSet, path::Path, process::Command};

use serde::Deserialize;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

impl Package {
    /// Whether it is in `operators/<any>/<part>`.
    fn is_operators(&self, part: &str) -> bool {
        let folders: Vec<_> = Path::new(&self.manifest_path)
            .iter()
            .rev()
            .skip(1)
            .take(3)
            .collect();
        folders.first().is_some_and(|name| *name == part)
            && folders.get(2).is_some_and(|name| *name == "operators")
    }

    /// What it ships with.
    fn ships_with(&self) -> BTreeSet<&str> {
        let shipped = self
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind.as_deref() != Some("dev"));
        shipped.map(|dependency| dependency.name.as_str()).collect()
    }

    fn needs(&self, name: &str) -> bool {
        self.dependencies.iter().any(|dependency| dependency.name == name)
    }
}

fn cargo(arguments: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let output = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn packages() -> Vec<Package> {
    let text = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Metadata = serde_json::from_str(&text).unwrap();
    assert!(
        metadata.packages.len() >= 5,
        "only {} packages",
        metadata.packages.len()
    );
    metadata.packages
}

fn package<'a>(packages: &'a [Package], name: &str) -> &'a Package {
    packages.iter().find(|package| package.name == name).unwrap()
}

#[test]
fn kinds_need_no_more_than_their_schema_does() {
    let allowed = BTreeSet::from(["kube", "k8s-openapi", "schemars", "serde", "serde_json"]);
    let packages = packages();
    let kinds: Vec<_> = packages
        .iter()
        .filter(|package| package.is_operators("api"))
        .collect();
    assert!(!kinds.is_empty());
    for kinds in kinds {
        let needs = kinds.ships_with();
        assert!(
            needs.is_subset(&allowed),
            "{} needs {:?}",
            kinds.name,
            needs.difference(&allowed)
        );
    }
}

#[test]
fn controllers_never_import_one_another() {
    let packages = packages();
    let controllers: Vec<_> = packages
        .iter()
        .filter(|package| package.is_operators("controller"))
        .collect();
    assert!(!controllers.is_empty());
    for controller in &controllers {
        for other in &controllers {
            assert!(
                !controller.needs(&other.name),
                "{} imports {}",
                controller.name,
                other.name
            );
        }
    }
}

#[test]
fn the_framework_knows_no_cloud_and_no_product() {
    let packages = packages();
    let products: Vec<_> = packages
        .iter()
        .filter(|package| package.is_operators("api") || package.is_operators("controller"))
        .map(|package| package.name.as_str())
        .collect();
    for name in package(&packages, "reconcile").ships_with() {
        let of_a_cloud = name.starts_with("aws-") || ["bollard", "mysql_async", "sqlx"].contains(&name);
        assert!(!of_a_cloud && !products.contains(&name), "reconcile needs {name}");
    }
}

#[test]
fn nobody_ships_the_test_bed() {
    for package in packages() {
        for test_bed in ["testkit", "fake-ec2"] {
            let is_test_bed = ["testkit", "fake-ec2"].contains(&package.name.as_str());
            assert!(
                is_test_bed || !package.ships_with().contains(test_bed),
                "{} ships {test_bed}",
                package.name
            );
        }
    }
}

#[test]
fn only_one_crate_compiles_the_ec2_sdk() {
    for package in packages() {
        let its_place = package.manifest_path.ends_with("operators/mysql/ec2/Cargo.toml");
        assert!(
            its_place || !package.needs("aws-sdk-ec2"),
            "{} needs aws-sdk-ec2",
            package.name
        );
    }
}

#[test]
fn the_commands_compile_without_a_runtime_and_without_a_cloud() {
    let tree = cargo(&[
        "tree",
        "--package",
        "xtask",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
    ]);
    let names: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(
        names.contains("clap") && names.contains("k8s-openapi"),
        "{names:?}"
    );
    for name in names {
        let heavy = ["tokio", "hyper", "rustls"].contains(&name) || name.starts_with("aws-");
        assert!(
            !heavy,
            "xtask needs {name}: `cargo tree --package xtask --invert {name}` says why"
        );
    }
}
