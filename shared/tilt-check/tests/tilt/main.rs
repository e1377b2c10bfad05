//! The project's own Tiltfile, its provider for Cluster API's, and that mistakes in either are found.

mod containers;
mod mistakes;
mod project;
mod provider;
mod rules;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use testkit::tools::{self, Tool};
use tilt_check::Setting;

/// The project's folder.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_owned()
}

/// `tilt up` on a kind cluster.
async fn setting() -> Result<Setting> {
    let mut programs = tools::ensure_pinned(&[Tool::Starlark, Tool::Helm, Tool::Kustomize]).await?;
    let kustomize = programs.pop();
    let helm = programs.pop();
    let interpreter = programs.pop().context("no interpreter")?;
    Ok(Setting {
        helm,
        kustomize,
        ..Setting::new(interpreter)
    })
}

/// A copy of what the Tiltfile reads, to make mistakes in.
fn copy() -> Result<tempfile::TempDir> {
    let copy = tempfile::tempdir()?;
    for name in [
        "Tiltfile",
        "tilt-provider.json",
        "tilt",
        "charts",
        "crds",
        "examples",
        "operators/docker/config",
    ] {
        copy_to(&root().join(name), &copy.path().join(name))?;
    }
    // Sources are watched, not read.
    for name in ["operators", "shared/fake-ec2", "shared/reconcile", ".tiltbuild"] {
        fs::create_dir_all(copy.path().join(name))?;
    }
    for name in ["dynamoctl", "mysql-operator", "capdkc", "fake-ec2"] {
        fs::create_dir_all(copy.path().join(".tiltbuild").join(name))?;
    }
    for name in ["Cargo.toml", "Cargo.lock"] {
        fs::write(copy.path().join(name), "")?;
    }
    Ok(copy)
}

fn copy_to(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy_to(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(())
}
