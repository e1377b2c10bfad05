//! What docs/install.md says of taking an operator away, on a real API server.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use testkit::{
    control_plane::{ControlPlane, Options},
    tools::{self, Tool},
};

use crate::{release, root, said};

const PAGE: &str = "docs/install.md";
const KINDS: [&str; 2] = ["mysqlclusters.mysql.alx.ke", "mysqls.otus.homework"];

/// The commands in the blocks of a section of the page that begin with these words.
fn documented(heading: &str, beginning: &str) -> Result<Vec<String>> {
    let page = fs::read_to_string(root().join(PAGE))?;
    let section = page
        .split(heading)
        .nth(1)
        .with_context(|| format!("{PAGE} has no {heading}"))?;
    let section = section.split("\n#").next().unwrap_or(section);
    let commands = section.lines().filter(|line| line.starts_with(beginning));
    Ok(commands.map(str::to_owned).collect())
}

#[tokio::test]
async fn the_documented_uninstall_by_kubectl_leaves_the_definitions_and_every_object() -> Result<()> {
    let programs = tools::ensure_async(&[Tool::Helm, Tool::Kubectl]).await?;
    let (folder, plane) = (
        tempfile::tempdir()?,
        ControlPlane::start(Options::default()).await?,
    );
    let repository = folder.path().join("target/release-repository");
    release(&repository, concat!("v", env!("CARGO_PKG_VERSION")), &programs[0])?;
    let example = root().join("examples/database/minimal.yaml").canonicalize()?;
    let path = std::env::join_paths(programs[1].parent().into_iter().chain([
        Path::new("/usr/local/bin"),
        Path::new("/usr/bin"),
        Path::new("/bin"),
    ]))?;
    let shell = |command: &str| {
        said(
            Command::new("sh")
                .args(["-ec", command])
                .current_dir(folder.path())
                .env("PATH", &path)
                .env("KUBECONFIG", plane.kubeconfig_path()),
        )
    };

    let install = documented("## kubectl and Kustomize", "kubectl apply")?;
    let uninstall = documented("### Keep the databases", "kubectl delete")?;
    ensure!(
        install.len() == 2 && uninstall.len() == 2,
        "{install:?} {uninstall:?}"
    );
    let manifest = install[0].rsplit(' ').next().context("no manifest")?;
    for (install, uninstall) in install.iter().zip(&uninstall) {
        shell(install)?;
        for kind in KINDS {
            shell(&format!(
                "kubectl wait --for=condition=Established --timeout=5m crd/{kind}"
            ))?;
        }
        shell(&format!("kubectl apply --server-side -f {}", example.display()))?;
        shell(uninstall)?;
        let left = shell(&format!(
            "kubectl get --ignore-not-found --output=name -f {manifest}"
        ))?;
        let expected = KINDS.map(|kind| format!("customresourcedefinition.apiextensions.k8s.io/{kind}\n"));
        ensure!(
            left == format!("namespace/nairobi-mysql-system\n{}", expected.concat()),
            "{uninstall} leaves {left}"
        );
        let leaving = "kubectl get crd,mysqls -A -o jsonpath='{.items[*].metadata.deletionTimestamp}'";
        let leaving = shell(leaving)?;
        ensure!(leaving.is_empty(), "{uninstall} deletes at {leaving}");
        let objects = shell("kubectl get mysqls --output=name")?;
        ensure!(objects.lines().count() == 1, "{uninstall} leaves {objects:?}");
    }
    Ok(())
}
