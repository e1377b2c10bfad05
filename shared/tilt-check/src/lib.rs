//! Tiltfiles, evaluated by Tilt's rules and without Tilt.
//!
//! The language is run by the interpreter that Tilt itself is built on, in the same dialect: a small program of the test
//! bed (`shared/testkit/tools/starlark`) that asks this crate about every call. Tilt's functions are modelled here, as
//! strictly as Tilt takes them: an argument that it does not know, a file that is not there, a step of a live update in the
//! wrong place, a resource that nothing makes, a context that might be production. [`cluster_api`] does the same for
//! what Cluster API's own Tiltfile makes of a provider's `tilt-provider.json`.
//!
//! # Guarantees
//! - Nothing is built, deployed or pulled. `helm`, `kustomize` and `local` run what the Tiltfile says, as in Tilt.
//! - A function of Tilt's that is not modelled is an error that says so, never ignored.
//! - What Tilt lets pass although it can only be a mistake (an image that no object uses, a dependency on a resource that
//!   does not exist) is in [`Outcome::warnings`].

mod arguments;
mod builtins;
pub mod cluster_api;
mod configuration;
mod files;
mod image;
mod interpreter;
mod kubernetes;
mod live_update;
mod outcome;
mod program;
mod resource;
mod session;
mod signature;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub use outcome::{BuiltImage, Button, Kind, Outcome, Resource};

/// Why an evaluation has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum TiltError {
    /// Tilt would refuse the Tiltfile; where, and why.
    #[error("{0}")]
    Refused(String),
    /// The interpreter cannot be run, or what it said cannot be understood.
    #[error("the interpreter {}: {why}", .program.display())]
    Interpreter {
        /// The program.
        program: PathBuf,
        /// What went wrong.
        why: String,
    },
}

/// What a Tiltfile finds around it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The program `starlark` of the test bed.
    pub interpreter: PathBuf,
    /// The program behind `helm()`; a Tiltfile that calls it without is refused.
    pub helm: Option<PathBuf>,
    /// The version of Kubernetes that `helm()` renders for where the Tiltfile names none. A released helm has its own.
    pub kube_version: String,
    /// The program behind `kustomize()`.
    pub kustomize: Option<PathBuf>,
    /// The current context of the user's kubeconfig.
    pub context: String,
    /// `up`, `ci` or `down`.
    pub subcommand: String,
    /// What stands after `--` on Tilt's command line.
    pub arguments: Vec<String>,
    /// The environment, which the Tiltfile sees beside nothing else.
    pub environment: BTreeMap<String, String>,
}

impl Setting {
    /// `tilt up` on a kind cluster, without arguments, helm, kustomize or environment.
    pub fn new(interpreter: impl Into<PathBuf>) -> Self {
        Self {
            interpreter: interpreter.into(),
            helm: None,
            kube_version: "1.34.0".to_owned(),
            kustomize: None,
            context: "kind-kind".to_owned(),
            subcommand: "up".to_owned(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
        }
    }
}

/// What Tilt would make of this Tiltfile.
pub fn evaluate(setting: &Setting, tiltfile: &Path) -> Result<Outcome, TiltError> {
    let mut session = session::Session::new(setting, tiltfile)?;
    session.run()?;
    session.finish().map_err(TiltError::Refused)
}
