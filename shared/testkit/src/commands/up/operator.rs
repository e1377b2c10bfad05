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
    /// What that is started with before everything else.
    arguments: &'static [&'static str],
    /// The API groups of its kinds.
    pub(super) groups: &'static [&'static str],
    /// The manifest of its main job.
    pub(super) example: &'static str,
    /// The kind in that whose progress is shown.
    pub(super) target: &'static str,
}

/// All of them, in the order in which they are shown.
const OPERATORS: [Operator; 4] = [
    Operator {
        name: "dynamodb",
        program: "dynamoctl",
        arguments: &["manager"],
        groups: &["dynamoctl.dp.operators.sanjivmadhavan.io"],
        example: "examples/dynamodb/quick-start.yaml",
        target: "DdbctlDpJob",
    },
    Operator {
        name: "mysql",
        program: "mysql-operator",
        arguments: &[],
        groups: &MYSQL,
        example: "examples/mysql/three-zones.yaml",
        target: "MySQLCluster",
    },
    Operator {
        name: "docker",
        program: "capdkc",
        arguments: &[],
        groups: &["infrastructure.cluster.x-k8s.io"],
        example: "examples/docker/quick-start.yaml",
        target: "Cluster",
    },
    Operator {
        name: "mysql-in-cluster",
        program: "mysql-operator",
        arguments: &[],
        groups: &MYSQL,
        example: "examples/mysql/mysql-instance.yaml",
        target: "MySQL",
    },
];

/// MySQL's operator has two kinds, and wants both.
const MYSQL: [&str; 2] = ["mysql.alx.ke", "otus.homework"];

/// What an operator must be told of its backend.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// Flags.
    pub(super) arguments: Vec<String>,
    /// Variables of its environment.
    pub(super) environment: Vec<(&'static str, String)>,
}

/// The object whose progress is shown.
#[derive(Debug)]
pub(super) struct Target {
    /// Its address in the API.
    pub(super) path: String,
}

impl Operator {
    /// The operators of these names, in this order; all where none is named.
    pub(super) fn called(names: &[String]) -> anyhow::Result<Vec<&'static Self>> {
        if names.is_empty() {
            return Ok(OPERATORS.iter().collect());
        }
        let mut found: Vec<&Self> = Vec::new();
        for name in names {
            let operator = OPERATORS.iter().find(|operator| operator.name == name);
            let operator = operator.with_context(|| {
                let names: Vec<_> = OPERATORS.iter().map(|operator| operator.name).collect();
                format!("there is no operator {name}; there are: {}", names.join(", "))
            })?;
            ensure!(
                !found.iter().any(|other| other.name == operator.name),
                "{name} is named twice"
            );
            found.push(operator);
        }
        Ok(found)
    }

    /// Its CRDs, from `crds/`.
    pub(super) fn crds(&self, project: &Path) -> anyhow::Result<Vec<CustomResourceDefinition>> {
        let folder = project.join("crds");
        let mut crds = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("no CRDs in {}", folder.display()))? {
            let path = entry.context("cannot list the CRDs")?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_of = |group: &&str| {
                name.strip_suffix(".yaml")
                    .is_some_and(|name| name.ends_with(*group))
            };
            if self.groups.iter().any(is_of) {
                crds.push(serde_saphyr::from_str(&read(&path)?).with_context(|| path.display().to_string())?);
            }
        }
        ensure!(
            !crds.is_empty(),
            "no CRD of {} in {}",
            self.groups.join(" and "),
            folder.display()
        );
        Ok(crds)
    }

    /// The objects of its example.
    pub(super) fn example(&self, project: &Path) -> anyhow::Result<Vec<Value>> {
        let path = project.join(self.example);
        serde_saphyr::from_multiple(&read(&path)?).with_context(|| path.display().to_string())
    }

    /// The command that runs it, with probes and metrics off: nobody asks for them here, and ports may be taken.
    pub(super) fn command(&self, program: &Path, kubeconfig: &Path, settings: Settings) -> Command {
        let mut command = Command::new(program);
        command.args(self.arguments).arg("--kubeconfig").arg(kubeconfig);
        command
            .args(["--metrics-bind-address", "0", "--health-probe-bind-address", "0"])
            .args(settings.arguments)
            .envs(settings.environment);
        command
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

/// Applies the objects in their order; returns where the one of the kind `target` is.
pub(super) async fn apply(
    client: &Client,
    namespace: &str,
    target: &str,
    objects: &[DynamicObject],
) -> anyhow::Result<Target> {
    let mut found = None;
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
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        api.patch(name, &PatchParams::apply("up").force(), &Patch::Apply(object))
            .await
            .with_context(|| format!("cannot apply {} {name}", resource.kind))?;
        if resource.kind == target {
            found = Some(Target {
                path: format!("{}/{name}", api.resource_url()),
            });
        }
    }
    found.with_context(|| format!("the example has no {target}"))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
