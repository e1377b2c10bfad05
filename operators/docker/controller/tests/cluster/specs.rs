//! Cluster API's own end-to-end specs, unmodified: the Go tests in `operators/docker/e2e`, called one at a time.
//!
//! They take minutes each, since they also watch that nothing changes for two, and run when everything is run
//! (`--full`).

use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::{
    capi::{Clusterctl, nodes::fit_for_this_machine},
    process::{ScratchFolder, tail},
};
use tokio::process::Command;

use crate::bed::Bed;

const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../e2e");
const FLAVOR: &str = "cluster-template.yaml";

/// Numbers that a flavor leaves to clusterctl's variables: quoted, they would be texts.
const COUNTS: [&str; 2] = ["${CONTROL_PLANE_MACHINE_COUNT}", "${WORKER_MACHINE_COUNT}"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: --full"]
async fn smoke_upstreams_own_quick_start_passes() {
    passes("QuickStartSpec").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: --full"]
async fn smoke_upstreams_own_scaling_of_a_machine_deployment_passes() {
    passes("MachineDeploymentScaleSpec").await;
}

async fn passes(spec: &str) {
    let folder = ScratchFolder::create("capdkc-specs").unwrap();
    let program = compiled(folder.path()).await;
    let bed = Bed::start().await;
    let configuration = with_nodes_of_this_machine(&bed.home.clusterctl, folder.path());
    let log = folder.path().join("log");
    let output = std::fs::File::create(&log).unwrap();
    let status = Command::new(&program)
        .args([
            "-ginkgo.v",
            "-ginkgo.no-color",
            "-ginkgo.focus",
            spec,
            "-test.timeout=30m",
        ])
        .current_dir(MODULE)
        .env("KUBECONFIG", bed.home.clusterctl.kubeconfig())
        .env("CLUSTERCTL_CONFIG", configuration)
        .env("KUBERNETES_VERSION", "v1.34.4")
        .env("ARTIFACTS", folder.path().join("artifacts"))
        .env("XDG_CONFIG_HOME", folder.path())
        .env("CAPDKC_NODE_IMAGE", &bed.node_image)
        .env("CLUSTERCTL_DISABLE_VERSIONCHECK", "true")
        // Nothing is looked for beyond this machine.
        .env("GOPROXY", "off")
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .kill_on_drop(true)
        .status()
        .await
        .unwrap();
    assert!(
        status.success(),
        "{spec}: {status}\n{}\n{}",
        tail(&log, 60),
        bed.home.last_words()
    );
    // A filter that matches nothing is a success of Ginkgo's.
    let said = tail(&log, 12);
    assert!(
        said.contains("Ran 1 of 2 Specs") && said.contains("1 Passed"),
        "{said}"
    );
    assert_eq!(
        bed.traces().await,
        Vec::<String>::new(),
        "the spec deletes its cluster"
    );
}

/// The Go tests as a program.
async fn compiled(folder: &Path) -> PathBuf {
    let program = folder.join("specs.test");
    let built = Command::new("go")
        .args(["test", "-c", "-trimpath", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(MODULE)
        .output()
        .await
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    program
}

/// clusterctl's configuration, with a copy of our release whose flavor makes nodes that are Ready here.
fn with_nodes_of_this_machine(clusterctl: &Clusterctl, folder: &Path) -> PathBuf {
    let text = std::fs::read_to_string(clusterctl.configuration()).unwrap();
    let mut configuration: Value = serde_json::from_str(&text).unwrap();
    let providers = configuration["providers"].as_array_mut().unwrap();
    let ours = providers
        .iter_mut()
        .find(|provider| provider["name"] == "capdkc")
        .unwrap();
    let components = PathBuf::from(ours["url"].as_str().unwrap());
    let release = components.parent().unwrap();
    let version = release.file_name().unwrap();
    let copy = folder.join("infrastructure-capdkc").join(version);
    std::fs::create_dir_all(&copy).unwrap();
    for entry in std::fs::read_dir(release).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let flavor = std::fs::read_to_string(copy.join(FLAVOR)).unwrap();
    std::fs::write(copy.join(FLAVOR), fitted(&flavor)).unwrap();
    ours["url"] = copy
        .join(components.file_name().unwrap())
        .to_str()
        .unwrap()
        .into();
    let path = folder.join("clusterctl.yaml");
    std::fs::write(&path, configuration.to_string()).unwrap();
    path
}

fn fitted(flavor: &str) -> String {
    let objects = fit_for_this_machine(serde_saphyr::from_multiple(flavor).unwrap());
    let texts: Vec<_> = objects.iter().map(Value::to_string).collect();
    COUNTS.into_iter().fold(texts.join("\n---\n"), |text, count| {
        text.replace(&format!("\"{count}\""), count)
    })
}
