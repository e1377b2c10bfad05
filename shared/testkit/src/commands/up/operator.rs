//! The operators that `up` can show: their programs, kinds and examples.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    discovery,
};
use serde_json::Value;

/// An operator and what it is shown with.
#[derive(Debug)]
pub(super) struct Operator {
    /// What people call it.
    pub(super) name: &'static str,
    /// Its binary.
    pub(super) program: &'static str,
    /// The API group of its kinds.
    pub(super) group: &'static str,
    /// The manifest of its main job, whose last object is the job.
    pub(super) example: &'static str,
}

/// All of them.
const OPERATORS: [Operator; 1] = [Operator {
    name: "dynamodb",
    program: "dynamoctl",
    group: "dynamoctl.dp.operators.sanjivmadhavan.io",
    example: "examples/dynamodb/quick-start.yaml",
}];

/// The namespace in which the example lives: that of a plain `kubectl get`.
const NAMESPACE: &str = "default";

/// The object whose progress is shown.
#[derive(Debug)]
pub(super) struct Target {
    /// Its address in the API.
    pub(super) path: String,
}

impl Operator {
    /// The operator of this name.
    pub(super) fn called(name: &str) -> anyhow::Result<&'static Self> {
        OPERATORS
            .iter()
            .find(|operator| operator.name == name)
            .with_context(|| {
                let names: Vec<_> = OPERATORS.iter().map(|operator| operator.name).collect();
                format!("there is no operator {name}; there are: {}", names.join(", "))
            })
    }

    /// Its CRDs, from `crds/`.
    pub(super) fn crds(&self, project: &Path) -> anyhow::Result<Vec<CustomResourceDefinition>> {
        let folder = project.join("crds");
        let mut crds = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("no CRDs in {}", folder.display()))? {
            let path = entry.context("cannot list the CRDs")?.path();
            if path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().ends_with(&format!("{}.yaml", self.group)))
            {
                crds.push(serde_saphyr::from_str(&read(&path)?).with_context(|| path.display().to_string())?);
            }
        }
        ensure!(
            !crds.is_empty(),
            "no CRD of {} in {}",
            self.group,
            folder.display()
        );
        Ok(crds)
    }

    /// The objects of its example.
    pub(super) fn example(&self, project: &Path) -> anyhow::Result<Vec<Value>> {
        let path = project.join(self.example);
        serde_saphyr::from_multiple(&read(&path)?).with_context(|| path.display().to_string())
    }

    /// Where its program is.
    pub(super) fn program(&self, programs: &Path) -> anyhow::Result<PathBuf> {
        let program = programs.join(self.program);
        ensure!(
            program.is_file(),
            "{} is not built: `cargo xtask up` builds it",
            program.display()
        );
        Ok(program)
    }
}

/// The command that runs an operator, with probes and metrics off: nobody asks for them here, and ports may be taken.
pub(super) fn command(program: &Path, kubeconfig: &Path, arguments: &[String]) -> Command {
    let mut command = Command::new(program);
    command.arg("manager").arg("--kubeconfig").arg(kubeconfig);
    command
        .args(["--metrics-bind-address", "0", "--health-probe-bind-address", "0"])
        .args(arguments);
    command
}

/// The objects of an example, the last of which, the job, is changed by `adapt`.
pub(super) fn adapted(
    mut objects: Vec<Value>,
    adapt: impl Fn(&mut Value),
) -> anyhow::Result<Vec<DynamicObject>> {
    if let Some(job) = objects.last_mut() {
        adapt(job);
    }
    let objects = objects.into_iter().map(serde_json::from_value);
    objects
        .collect::<Result<_, _>>()
        .context("an object of the example")
}

/// Applies the objects in their order; returns where the last one is.
pub(super) async fn apply(client: &Client, objects: &[DynamicObject]) -> anyhow::Result<Target> {
    let mut target = None;
    for object in objects {
        let name = object
            .metadata
            .name
            .as_deref()
            .context("an object of the example has no name")?;
        let kind = object
            .types
            .as_ref()
            .context("an object of the example has no kind")?;
        let kind = kind.try_into().with_context(|| format!("the kind of {name}"))?;
        let (resource, _) = discovery::pinned_kind(client, &kind)
            .await
            .with_context(|| format!("kind of {name}"))?;
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource);
        api.patch(name, &PatchParams::apply("up").force(), &Patch::Apply(object))
            .await
            .with_context(|| format!("cannot apply {} {name}", resource.kind))?;
        target = Some(Target {
            path: format!("{}/{name}", api.resource_url()),
        });
    }
    target.context("the example is empty")
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
