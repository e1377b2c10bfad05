//! What Tilt would do: resources, images, buttons.

use std::collections::{BTreeMap, BTreeSet};

/// Everything that a Tiltfile amounts to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// By name.
    pub resources: BTreeMap<String, Resource>,
    /// References of the images that are built, in the order of the Tiltfile, with what a change of a file does to a
    /// running container.
    pub images: Vec<BuiltImage>,
    /// What the user interface offers beside Tilt's own.
    pub buttons: Vec<Button>,
    /// What Tilt lets pass although it can only be a mistake, and what the Tiltfile itself warns of.
    pub warnings: Vec<String>,
    /// What the Tiltfile printed.
    pub printed: Vec<String>,
    /// The registry that images are renamed to, if one is set.
    pub registry: Option<String>,
}

/// An image that is built.
#[derive(Clone, Debug)]
pub struct BuiltImage {
    /// Its name, as objects use it.
    pub reference: String,
    /// The folder that is sent to the builder.
    pub context: String,
    /// Arguments of the build.
    pub build_args: BTreeMap<String, String>,
    /// The stage of the Dockerfile that is built; empty for the last.
    pub target: String,
    /// Files that are copied into running containers: from here to there.
    pub syncs: Vec<(String, String)>,
    /// Commands that are run there afterwards.
    pub runs: Vec<String>,
}

/// Where a resource does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On this machine.
    Local,
    /// In the cluster.
    Kubernetes,
}

/// One line of Tilt's list.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Where it does its work.
    pub kind: Kind,
    /// The groups that it is shown in.
    pub labels: BTreeSet<String>,
    /// What has to be ready before it starts.
    pub resource_deps: Vec<String>,
    /// Its objects, as `name:Kind:namespace`.
    pub objects: Vec<String>,
    /// The images of its objects that are built.
    pub images: Vec<String>,
    /// `local:container` of its port forwards.
    pub port_forwards: Vec<String>,
    /// The command of a local resource, as one line.
    pub command: String,
    /// Files whose change runs it again, absolute.
    pub deps: Vec<String>,
    /// Whether it waits for a person.
    pub manual: bool,
    /// Whether it runs at the start.
    pub auto_init: bool,
}

impl Resource {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            labels: BTreeSet::new(),
            resource_deps: Vec::new(),
            objects: Vec::new(),
            images: Vec::new(),
            port_forwards: Vec::new(),
            command: String::new(),
            deps: Vec::new(),
            manual: false,
            auto_init: true,
        }
    }
}

/// A button of the user interface with the command behind it.
#[derive(Clone, Debug)]
pub struct Button {
    /// Its name.
    pub name: String,
    /// What stands on it.
    pub text: String,
    /// The resource that it belongs to; nothing for the bar on top.
    pub resource: Option<String>,
    /// What it runs.
    pub command: Vec<String>,
}
