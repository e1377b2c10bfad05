//! What Cluster API's own Tiltfile makes of a provider's repository.
//!
//! It reads `tilt-provider.yaml` or `.json`, kustomizes what runs the provider, changes the Deployment so that a binary can
//! be replaced in it, and builds the binary with Go if the provider names an image. A provider in another language names
//! none; a fragment in `tilt.d` of Cluster API's checkout, which is included first, builds that image instead.
//!
//! Modelled from what that Tiltfile and its helper `tilt-prepare` document and do; the rest of Cluster API is left out.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Map, Value, json};

use crate::{
    Outcome, Setting, TiltError,
    arguments::TAG,
    files,
    program::{self, substituted},
    session::Session,
};

/// The label by which a provider's objects are known.
const LABEL: &str = "cluster.x-k8s.io/provider";
/// The container that is changed.
const CONTAINER: &str = "manager";
/// The providers of Cluster API's own repository, which are left out here.
const OWN: [&str; 6] = [
    "core",
    "docker",
    "in-memory",
    "kubeadm-bootstrap",
    "kubeadm-control-plane",
    "test-extension",
];
/// What a provider may say of itself.
const KEYS: [&str; 14] = [
    "context",
    "version",
    "image",
    "live_reload_deps",
    "label",
    "go_main",
    "kustomize_folder",
    "kustomize_options",
    "apply_provider_yaml",
    "additional_docker_helper_commands",
    "additional_docker_build_commands",
    "additional_resources",
    "additional_uncategorized_resources",
    "resource_deps",
];

type Refusal<T> = Result<T, String>;

/// A provider as its repository describes it.
#[derive(Clone, Debug)]
pub struct Provider {
    /// What `enable_providers` names.
    pub name: String,
    /// The group in Tilt's list.
    pub label: String,
    /// The folder that everything else is relative to.
    pub context: PathBuf,
    config: Map<String, Value>,
}

/// What `tilt-settings.yaml` or `.json` of Cluster API's checkout says, as far as it concerns providers.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `enable_providers`.
    pub enable_providers: Vec<String>,
    /// `extra_args` by provider.
    pub extra_args: BTreeMap<String, Vec<String>>,
    /// `debug` by provider.
    pub debug: BTreeMap<String, Value>,
    /// `kustomize_substitutions`.
    pub kustomize_substitutions: BTreeMap<String, String>,
}

impl Settings {
    /// Reads the file's content.
    pub fn parse(text: &str) -> Result<Self, TiltError> {
        let value = files::yaml(text).map_err(TiltError::Refused)?;
        let get = |key: &str| value.get(key).cloned().unwrap_or(Value::Null);
        let read = |key: &str| format!("{key} of the settings is not what it should be");
        let parsed = Self {
            enable_providers: optional(get("enable_providers"), &read("enable_providers"))?,
            extra_args: optional(get("extra_args"), &read("extra_args"))?,
            debug: optional(get("debug"), &read("debug"))?,
            kustomize_substitutions: optional(
                get("kustomize_substitutions"),
                &read("kustomize_substitutions"),
            )?,
        };
        Ok(parsed)
    }
}

fn optional<T: Default + serde::de::DeserializeOwned>(value: Value, what: &str) -> Result<T, TiltError> {
    if value.is_null() {
        return Ok(T::default());
    }
    serde_json::from_value(value).map_err(|error| TiltError::Refused(format!("{what}: {error}")))
}

/// The providers of a repository.
pub fn providers(repository: &Path) -> Result<Vec<Provider>, TiltError> {
    read_providers(repository).map_err(TiltError::Refused)
}

fn read_providers(repository: &Path) -> Refusal<Vec<Provider>> {
    let path = ["tilt-provider.yaml", "tilt-provider.json"]
        .map(|name| repository.join(name))
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| {
            format!(
                "Failed to load provider. No tilt-provider.{{yaml|json}} file found in {}",
                repository.display()
            )
        })?;
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let items = match files::yaml(&text)? {
        Value::Array(items) => items,
        single => vec![single],
    };
    let named = |why: String| format!("{}: {why}", path.display());
    items
        .iter()
        .map(|item| provider(repository, item).map_err(named))
        .collect()
}

fn provider(repository: &Path, item: &Value) -> Refusal<Provider> {
    let name = item["name"].as_str().ok_or("a provider has no name")?;
    let config = item["config"]
        .as_object()
        .ok_or_else(|| format!("{name} has no config"))?;
    if let Some(unknown) = config.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("{name}: nobody reads {unknown:?}"));
    }
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    // Said to be optional; its lower case is used without asking.
    let label = text("label")
        .ok_or_else(|| format!("{name} has no label, which Cluster API's Tiltfile cannot do without"))?;
    if let Some(image) = text("image") {
        return Err(format!(
            "{name} names the image {image}: Cluster API would compile its main.go with Go"
        ));
    }
    Ok(Provider {
        name: name.to_owned(),
        label: label.to_owned(),
        context: text("context").map_or_else(|| repository.to_owned(), |context| repository.join(context)),
        config: config.clone(),
    })
}

impl Provider {
    /// The objects that run the provider, as they are deployed: kustomized, variables filled in, the Deployment made fit
    /// for a binary that is replaced.
    pub fn objects(&self, setting: &Setting, settings: &Settings) -> Result<Vec<Value>, TiltError> {
        self.prepare(setting, settings).map_err(TiltError::Refused)
    }

    fn prepare(&self, setting: &Setting, settings: &Settings) -> Refusal<Vec<Value>> {
        let kustomize = setting.kustomize.as_ref().ok_or("kustomize is not installed")?;
        let folder = self.config.get("kustomize_folder").and_then(Value::as_str);
        let folder = self.context.join(folder.unwrap_or("config/default"));
        let text = program::run(
            Command::new(kustomize)
                .arg("build")
                .args(self.list("kustomize_options"))
                .arg(&folder),
        )?;
        let text = substituted(&text, &settings.kustomize_substitutions)?;
        let mut objects = files::yaml_stream(&text)?;
        let debug = settings.debug.get(&self.name);
        let extra = settings.extra_args.get(&self.name).cloned().unwrap_or_default();
        let mut changed = 0;
        for object in &mut objects {
            if object["kind"] == "Namespace" {
                object["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "privileged".into();
            }
            if object["kind"] == "Deployment" && !object["metadata"]["labels"][LABEL].is_null() {
                changed += usize::from(self.change(object, debug, &extra));
            }
        }
        if changed == 0 {
            return Err(format!(
                "{}: no Deployment labelled {LABEL} with a container {CONTAINER:?}",
                folder.display()
            ));
        }
        let namespace = objects
            .iter()
            .find(|object| object["kind"] == "Namespace")
            .filter(|object| object["metadata"]["labels"][LABEL].is_string())
            .ok_or_else(|| format!("Could not find any Namespace object with label {LABEL}"))?;
        let installed = self.installed(namespace);
        objects.push(installed);
        for object in &mut objects {
            object["metadata"]["labels"]["clusterctl.cluster.x-k8s.io"] = "".into();
        }
        Ok(objects)
    }

    /// Makes the manager one that can be stopped, replaced and debugged.
    fn change(&self, deployment: &mut Value, debug: Option<&Value>, extra: &[String]) -> bool {
        deployment["spec"]["replicas"] = 1.into();
        let pod = &mut deployment["spec"]["template"]["spec"];
        let mut found = false;
        for container in pod["containers"].as_array_mut().into_iter().flatten() {
            if container["name"] != CONTAINER {
                continue;
            }
            found = true;
            let given = container["args"].as_array().into_iter().flatten();
            let mut args: Vec<String> = given.filter_map(Value::as_str).map(str::to_owned).collect();
            args.extend(extra.iter().cloned());
            let mut command = vec!["/manager".to_owned()];
            if !self.list("live_reload_deps").is_empty() {
                command = ["sh", "/start.sh", "/manager"].map(str::to_owned).to_vec();
            }
            if let Some(debug) = debug {
                command = debugger(debug);
                for arg in &mut args {
                    if matches!(arg.as_str(), "--leader-elect" | "--leader-elect=true") {
                        "--leader-elect=false".clone_into(arg);
                    }
                }
                remove(container, &["livenessProbe", "readinessProbe", "resources"]);
            }
            remove(container, &["securityContext"]);
            container["command"] = command.into();
            container["args"] = args.into();
        }
        remove(pod, &["securityContext"]);
        found
    }

    /// What `clusterctl init` would leave, so that clusterctl finds the provider.
    fn installed(&self, namespace: &Value) -> Value {
        let label = namespace["metadata"]["labels"][LABEL]
            .as_str()
            .unwrap_or_default();
        let (kind, name) = match label.strip_prefix("infrastructure-") {
            Some(name) => ("InfrastructureProvider", name),
            None => ("CoreProvider", label),
        };
        let version = self
            .config
            .get("version")
            .and_then(Value::as_str)
            .unwrap_or("v1.15.99");
        json!({
            "apiVersion": "clusterctl.cluster.x-k8s.io/v1alpha3", "kind": "Provider",
            "metadata": {"name": label, "namespace": namespace["metadata"]["name"], "labels": {LABEL: label}},
            "providerName": name, "type": kind, "version": version,
        })
    }

    fn list(&self, key: &str) -> Vec<String> {
        let list = self
            .config
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

/// How a provider is started that is to be debugged.
fn debugger(debug: &Value) -> Vec<String> {
    let mut words = vec![
        "sh",
        "/start.sh",
        "/dlv",
        "--accept-multiclient",
        "--api-version=2",
        "--headless=true",
        "exec",
    ];
    if debug["port"].as_i64().is_some_and(|port| port > 0) {
        words.push("--listen=:30000");
    }
    if debug["continue"] == true {
        words.push("--continue");
    }
    words.extend(["--", "/manager"]);
    words.into_iter().map(str::to_owned).collect()
}

fn remove(value: &mut Value, keys: &[&str]) {
    if let Some(fields) = value.as_object_mut() {
        for key in keys {
            fields.remove(*key);
        }
    }
}

/// What Tilt would make of `repository` in a `checkout` of Cluster API's, which needs a folder `tilt.d` and a Tiltfile that
/// includes what is in there: the providers that `settings` enable, after the fragments.
pub fn evaluate(
    setting: &Setting,
    checkout: &Path,
    repository: &Path,
    settings: &Settings,
) -> Result<Outcome, TiltError> {
    let mut session = Session::new(setting, &checkout.join("Tiltfile"))?;
    session.run()?;
    let enabled = enable(&mut session, setting, repository, settings);
    enabled.map_err(TiltError::Refused)?;
    session.finish().map_err(TiltError::Refused)
}

fn enable(
    session: &mut Session<'_>,
    setting: &Setting,
    repository: &Path,
    settings: &Settings,
) -> Refusal<()> {
    let providers = read_providers(repository)?;
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "providers.clusterctl.cluster.x-k8s.io"}});
    session.call_as("k8s_yaml", &json!({ "yaml": blob(&[crd])? }))?;
    let objects = ["providers.clusterctl.cluster.x-k8s.io:CustomResourceDefinition:default"];
    session.call_as(
        "k8s_resource",
        &json!({ "objects": objects, "new_name": "provider_crd" }),
    )?;
    for name in settings
        .enable_providers
        .iter()
        .filter(|name| !OWN.contains(&name.as_str()))
    {
        let provider = providers
            .iter()
            .find(|provider| provider.name == *name)
            .ok_or_else(|| format!("enable_providers names {name}, which no repository has"))?;
        let objects = provider.prepare(setting, settings)?;
        let is_manager = |object: &&Value| {
            object["kind"] == "Deployment" && !object["metadata"]["labels"][LABEL].is_null()
        };
        let workload = objects
            .iter()
            .find(is_manager)
            .map_or(&Value::Null, |object| &object["metadata"]["name"])
            .clone();
        let installed = objects
            .iter()
            .find(|object| object["kind"] == "Provider")
            .map(|object| {
                let [name, namespace] =
                    ["name", "namespace"].map(|key| object["metadata"][key].as_str().unwrap_or_default());
                format!("{name}:Provider:{namespace}")
            });
        let port = settings.debug.get(name).and_then(|debug| debug["port"].as_i64());
        let forwards: Vec<_> = port.iter().map(|port| format!("{port}:30000")).collect();
        let mut deps = vec!["provider_crd".to_owned()];
        deps.extend(provider.list("resource_deps"));
        session.call_as(
            "k8s_yaml",
            &json!({ "yaml": blob(&objects)?, "allow_duplicates": true }),
        )?;
        let resource = json!({
            "workload": workload,
            "objects": installed.into_iter().collect::<Vec<_>>(),
            "new_name": format!("{}_controller", provider.label.to_lowercase()),
            "labels": [provider.label, "ALL.controllers"],
            "port_forwards": forwards,
            "resource_deps": deps,
        });
        session.call_as("k8s_resource", &resource)?;
    }
    Ok(())
}

fn blob(objects: &[Value]) -> Refusal<Value> {
    Ok(json!({ TAG: "blob", "value": files::to_yaml(objects)? }))
}
