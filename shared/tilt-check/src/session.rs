//! One evaluation: what has been said so far, and what it amounts to at the end.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    Setting, TiltError,
    arguments::TAG,
    builtins,
    configuration::Configuration,
    files,
    image::{self, Image},
    interpreter::{self, Answer, Call, Host},
    kubernetes::{self, Object},
    live_update::Unused,
    outcome::{BuiltImage, Button, Kind, Outcome, Resource},
    resource::{self, Options},
};

/// What objects belong to that are no part of a workload.
const UNCATEGORIZED: &str = "uncategorized";

/// What a Tiltfile has said so far.
pub(crate) struct Session<'setting> {
    pub(crate) setting: &'setting Setting,
    pub(crate) main: PathBuf,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) configuration: Configuration,
    pub(crate) images: Vec<Image>,
    pub(crate) objects: Vec<Object>,
    pub(crate) options: Vec<Options>,
    pub(crate) locals: Vec<(String, Resource)>,
    pub(crate) unused: Unused,
    pub(crate) allowed: Vec<String>,
    pub(crate) registry: Option<String>,
    /// Images of which Tilt is told not to say that nothing uses them; `*` for all.
    pub(crate) unused_images: Vec<String>,
    pub(crate) manual: bool,
    pub(crate) buttons: Vec<Value>,
    pub(crate) commands: Vec<Value>,
    pub(crate) warnings: Vec<String>,
    pub(crate) printed: Vec<String>,
}

impl<'setting> Session<'setting> {
    pub(crate) fn new(setting: &'setting Setting, tiltfile: &Path) -> Result<Self, TiltError> {
        let main = std::path::absolute(tiltfile).map_err(|error| TiltError::Refused(error.to_string()))?;
        if !main.is_file() {
            return Err(TiltError::Refused(format!(
                "No Tiltfile found at {}",
                main.display()
            )));
        }
        Ok(Self {
            setting,
            main,
            environment: setting.environment.clone(),
            configuration: Configuration::default(),
            images: Vec::new(),
            objects: Vec::new(),
            options: Vec::new(),
            locals: Vec::new(),
            unused: Unused::new(),
            allowed: Vec::new(),
            registry: None,
            unused_images: Vec::new(),
            manual: false,
            buttons: Vec::new(),
            commands: Vec::new(),
            warnings: Vec::new(),
            printed: Vec::new(),
        })
    }

    /// The folder of the first Tiltfile.
    pub(crate) fn folder(&self) -> &Path {
        self.main.parent().unwrap_or_else(|| Path::new("/"))
    }

    /// Executes the Tiltfile.
    pub(crate) fn run(&mut self) -> Result<(), TiltError> {
        let mode = |name: &str| json!({ TAG: "TriggerMode", "value": name });
        let constants = json!({
            "TRIGGER_MODE_AUTO": mode("TRIGGER_MODE_AUTO"),
            "TRIGGER_MODE_MANUAL": mode("TRIGGER_MODE_MANUAL"),
            "config.main_dir": self.folder(),
            "config.main_path": self.main,
            "config.tilt_subcommand": self.setting.subcommand,
            "os.name": "posix",
            "os.environ": self.environment,
            "sys.executable": "tilt",
        });
        let main = self.main.clone();
        interpreter::run(&self.setting.interpreter, &main, &constants, self)?.map_err(TiltError::Refused)
    }

    /// Puts together what has been said.
    pub(crate) fn finish(mut self) -> Result<Outcome, String> {
        if let Some((at, name)) = self.unused.first_key_value() {
            return Err(format!(
                "found {} live_update steps that were created but not used in a live_update, among them {name} at {at}",
                self.unused.len()
            ));
        }
        let resources = self.resources()?;
        self.check_context(&resources)?;
        for (name, dep) in resource::missing_deps(resources.iter()) {
            self.warnings.push(format!(
                "the resource {name:?} depends on {dep:?}, which does not exist"
            ));
        }
        self.check_images();
        let buttons = self.buttons(&resources);
        Ok(Outcome {
            resources,
            images: self.images.iter().map(built).collect(),
            buttons,
            warnings: self.warnings,
            printed: self.printed,
            registry: self.registry,
        })
    }

    fn check_context(&self, resources: &BTreeMap<String, Resource>) -> Result<(), String> {
        let context = &self.setting.context;
        let deploys = resources
            .values()
            .any(|resource| resource.kind == Kind::Kubernetes);
        if !deploys || kubernetes::is_local(context) || self.allowed.contains(context) {
            return Ok(());
        }
        Err(format!(
            "Stop! {context} might be production. If you're sure you want to deploy there, add: \
             allow_k8s_contexts('{context}') to your Tiltfile"
        ))
    }

    fn check_images(&mut self) {
        for image in &self.images {
            let deployed = self
                .objects
                .iter()
                .flat_map(|object| &object.images)
                .any(|used| image.is(used));
            let base = self
                .images
                .iter()
                .flat_map(|other| &other.bases)
                .any(|used| image.is(used));
            let suppressed = self
                .unused_images
                .iter()
                .any(|name| name == "*" || *name == image.reference);
            if !deployed && !base && !suppressed {
                self.warnings.push(format!(
                    "Image not used in any Kubernetes config: {} (a typo, or an object that does not exist?)",
                    image.reference
                ));
            }
            if image::context_is_missing(image) {
                self.warnings.push(format!(
                    "{}: the context {} does not exist",
                    image.reference, image.context
                ));
            }
        }
    }

    fn resources(&self) -> Result<BTreeMap<String, Resource>, String> {
        let mut made = Assembly::of(self);
        for options in &self.options {
            made.configure(options)
                .map_err(|why| format!("{}: k8s_resource: {why}", options.at))?;
        }
        let mut resources = made.finish(&self.images);
        for (name, local) in &self.locals {
            if resources.insert(name.clone(), local.clone()).is_some() {
                return Err(format!("duplicate resource name: {name:?}"));
            }
        }
        Ok(resources)
    }

    fn buttons(&mut self, resources: &BTreeMap<String, Resource>) -> Vec<Button> {
        let mut made = Vec::new();
        for button in &self.buttons {
            let name = button["name"].as_str().unwrap_or_default();
            let starts = |command: &&Value| {
                let buttons = command.pointer("/start_on/ui_buttons").and_then(Value::as_array);
                buttons.is_some_and(|list| list.iter().any(|of| of == name))
            };
            let Some(command) = self.commands.iter().find(starts) else {
                self.warnings.push(format!("the button {name:?} starts nothing"));
                continue;
            };
            let place = |key: &str| button.pointer(key).and_then(Value::as_str).unwrap_or_default();
            let resource = (place("/location/component_type").eq_ignore_ascii_case("resource"))
                .then(|| place("/location/component_id").to_owned());
            if let Some(missing) = resource.as_ref().filter(|name| !resources.contains_key(*name)) {
                self.warnings.push(format!(
                    "the button {name:?} belongs to {missing:?}, which does not exist"
                ));
            }
            let words = command["args"].as_array().into_iter().flatten();
            made.push(Button {
                name: name.to_owned(),
                text: button["text"].as_str().unwrap_or_default().to_owned(),
                resource,
                command: words.filter_map(Value::as_str).map(str::to_owned).collect(),
            });
        }
        made
    }

    /// Calls a function as if the Tiltfile did, at its end.
    pub(crate) fn call_as(&mut self, name: &str, kwargs: &Value) -> Result<(), String> {
        let call = Call {
            name: name.to_owned(),
            args: Vec::new(),
            kwargs: kwargs.as_object().cloned().unwrap_or_default(),
            file: self.main.display().to_string(),
            at: name.to_owned(),
        };
        match builtins::answer(self, &call) {
            Answer::Error(why) => Err(format!("{name}: {why}")),
            _ => Ok(()),
        }
    }
}

impl Host for Session<'_> {
    fn call(&mut self, call: &Call) -> Answer {
        builtins::answer(self, call)
    }

    fn load(&mut self, path: &str, file: &str) -> Answer {
        if let Some(extension) = path.strip_prefix("ext://") {
            return Answer::Error(format!(
                "the extension {extension} comes from the network, which is not modelled; use what Tilt brings itself"
            ));
        }
        let folder = Path::new(file).parent().unwrap_or_else(|| Path::new("/"));
        let path = files::clean(&folder.join(path));
        if !path.is_file() {
            return Answer::Error(format!("cannot load {}: no such file", path.display()));
        }
        Answer::Run {
            run: path.display().to_string(),
            globals: true,
        }
    }

    fn print(&mut self, text: String) {
        self.printed.push(text);
    }
}

fn built(image: &Image) -> BuiltImage {
    BuiltImage {
        reference: image.reference.clone(),
        context: image.context.clone(),
        build_args: image.build_args.clone(),
        target: image.target.clone(),
        syncs: image.update.syncs.clone(),
        runs: image.update.runs.clone(),
    }
}

/// Resources in the making.
struct Assembly<'session> {
    objects: &'session [Object],
    /// The resource of each object.
    owner: Vec<Option<String>>,
    /// By the name that Tilt gives, which `k8s_resource` may change.
    resources: BTreeMap<String, Resource>,
    renamed: BTreeMap<String, String>,
}

impl<'session> Assembly<'session> {
    /// A resource of each workload, with the Services of its pods.
    fn of(session: &'session Session<'_>) -> Self {
        let objects = &session.objects;
        let workloads: Vec<&Object> = objects.iter().filter(|object| object.has_pods).collect();
        let names = kubernetes::workload_names(&workloads);
        let owner = |object: &Object| {
            let own = workloads
                .iter()
                .position(|workload| workload.identity() == object.identity() || object.selects(workload));
            own.map(|index| names[index].clone())
        };
        Self {
            objects,
            owner: objects.iter().map(owner).collect(),
            resources: names
                .iter()
                .map(|name| (name.clone(), Resource::new(Kind::Kubernetes)))
                .collect(),
            renamed: BTreeMap::new(),
        }
    }

    fn configure(&mut self, options: &Options) -> Result<(), String> {
        let name = if options.workload.is_empty() {
            if self.resources.contains_key(&options.new_name) {
                return Err(format!("there is already a resource {:?}", options.new_name));
            }
            options.new_name.clone()
        } else {
            if !self.resources.contains_key(&options.workload) {
                let known: Vec<_> = self.resources.keys().map(String::as_str).collect();
                return Err(format!(
                    "could not find any workload named {:?}. Could find {}",
                    options.workload,
                    known.join(", ")
                ));
            }
            options.workload.clone()
        };
        for selector in &options.objects {
            let index = self.select(selector)?;
            self.owner[index] = Some(name.clone());
        }
        let resource = self
            .resources
            .entry(name.clone())
            .or_insert_with(|| Resource::new(Kind::Kubernetes));
        let said = options.settings.clone();
        resource.labels.extend(said.labels);
        resource.resource_deps.extend(said.resource_deps);
        resource.port_forwards.extend(said.port_forwards);
        (resource.manual, resource.auto_init) = (said.manual, said.auto_init);
        if !options.new_name.is_empty() && !options.workload.is_empty() {
            self.renamed.insert(name, options.new_name.clone());
        }
        Ok(())
    }

    /// The one object that a selector means and that belongs to nothing yet.
    fn select(&self, selector: &str) -> Result<usize, String> {
        let free = |index: &usize| self.owner[*index].is_none();
        let all = 0..self.objects.len();
        let meant: Vec<_> = all.filter(|&index| self.objects[index].is(selector)).collect();
        match meant.iter().copied().filter(free).collect::<Vec<_>>().as_slice() {
            [one] => Ok(*one),
            [] if meant.is_empty() => Err(format!(
                "No object identified by the fragment {selector:?} could be found"
            )),
            [] => Err(format!("the object {selector:?} belongs to a resource already")),
            many => {
                let shown: Vec<_> = many.iter().map(|&index| self.objects[index].shown()).collect();
                Err(format!(
                    "{selector:?} is not a unique fragment. Objects that match: {}",
                    shown.join(", ")
                ))
            }
        }
    }

    fn finish(mut self, images: &[Image]) -> BTreeMap<String, Resource> {
        for (object, owner) in self.objects.iter().zip(&self.owner) {
            let name = owner.clone().unwrap_or_else(|| UNCATEGORIZED.to_owned());
            let resource = self
                .resources
                .entry(name)
                .or_insert_with(|| Resource::new(Kind::Kubernetes));
            resource.objects.push(object.shown());
            let built = images
                .iter()
                .filter(|image| object.images.iter().any(|used| image.is(used)));
            resource.images.extend(built.map(|image| image.reference.clone()));
        }
        let named = |(name, resource)| (self.renamed.get(&name).cloned().unwrap_or(name), resource);
        self.resources.into_iter().map(named).collect()
    }
}
