//! `cargo xtask crds`: the CRDs under `crds/`, one per file, generated from the types; and with them their reference, as
//! `cargo xtask docs` does.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::{docs, workspace};

/// Arguments of `cargo xtask crds`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail if a file is not what would be written
    #[arg(long)]
    check: bool,
}

const HEADER: &str = "# Generated from the types by `cargo xtask crds`. Change those, not this file.\n";

/// Every kind of the project.
pub(crate) fn all() -> Vec<CustomResourceDefinition> {
    let mut all = vec![dynamodb_api::DdbctlDpJob::crd()];
    all.extend(docker_api::crds());
    all.extend(mysql_api::crds());
    all
}

/// Writes the files, or compares them.
pub(crate) fn run(args: &Args) -> Result<()> {
    let folder = workspace::root().join("crds");
    let mut stale = Vec::new();
    let mut expected = Vec::new();
    for crd in all() {
        let name = file_name(&crd);
        let path = folder.join(&name);
        let text = yaml(&crd)?;
        if fs::read_to_string(&path).is_ok_and(|present| present == text) {
            eprintln!("crds/{name}: up to date");
        } else if args.check {
            stale.push(name.clone());
        } else {
            fs::create_dir_all(&folder).context("cannot make the folder crds")?;
            fs::write(&path, text).with_context(|| format!("cannot write crds/{name}"))?;
            eprintln!("crds/{name}: written");
        }
        expected.push(path);
    }
    for path in leftovers(&folder, &expected)? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if args.check {
            stale.push(name);
        } else {
            fs::remove_file(&path).with_context(|| format!("cannot remove crds/{name}"))?;
            eprintln!("crds/{name}: removed, no type has this kind any more");
        }
    }
    if stale.is_empty() {
        return docs::run(&docs::Args { check: args.check });
    }
    bail!(
        "crds/{} differs from the types: run `cargo xtask crds` and commit the result",
        stale.join(", crds/")
    );
}

/// `<plural>.<group>.yaml`.
fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}.{}.yaml", crd.spec.names.plural, crd.spec.group)
}

fn yaml(crd: &CustomResourceDefinition) -> Result<String> {
    let body = serde_saphyr::to_string(crd)
        .with_context(|| format!("cannot write the CRD of {} as YAML", crd.spec.names.kind))?;
    Ok(format!("{HEADER}{body}"))
}

fn leftovers(folder: &std::path::Path, expected: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.context("cannot list the folder crds")?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") && !expected.contains(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_as_the_same_crd() {
        for crd in all() {
            let text = yaml(&crd).unwrap();
            let read: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(read, serde_json::to_value(&crd).unwrap());
            assert_eq!(
                Some(file_name(&crd)),
                crd.metadata.name.map(|name| name + ".yaml")
            );
        }
    }
}
