//! Helm, built from its pinned module, and the charts of this workspace.
//!
//! # Errors
//! [`HelmError`] has what helm said.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use crate::tools::{self, Tool, ToolError};

/// Why helm did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HelmError {
    /// It could not be built.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// It could not be run, or the charts not be read.
    #[error("cannot use {}: {source}", .path.display())]
    File {
        /// The program or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It refused.
    #[error("`helm {command}` failed: {said}")]
    Refused {
        /// Its arguments.
        command: String,
        /// What it printed.
        said: String,
    },
}

/// Runs helm.
#[derive(Clone, Debug)]
pub struct Helm {
    program: PathBuf,
    kubeconfig: Option<PathBuf>,
}

impl Helm {
    /// Helm without a cluster, built first where it is missing.
    pub async fn new() -> Result<Self, HelmError> {
        let program = tools::ensure_pinned(&[Tool::Helm]).await?.pop();
        Ok(Self {
            program: program.unwrap_or_default(),
            kubeconfig: None,
        })
    }

    /// The same, with the cluster of this kubeconfig.
    #[must_use]
    pub fn with_cluster(mut self, kubeconfig: &Path) -> Self {
        self.kubeconfig = Some(kubeconfig.to_owned());
        self
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs it; returns what it printed to standard output.
    pub async fn run<A: Into<OsString> + Clone>(&self, arguments: &[A]) -> Result<String, HelmError> {
        let arguments: Vec<OsString> = arguments.iter().cloned().map(Into::into).collect();
        let mut command = Command::new(&self.program);
        command.args(&arguments).stdin(Stdio::null()).kill_on_drop(true);
        match &self.kubeconfig {
            Some(path) => command.env("KUBECONFIG", path),
            // Whatever cluster the person who runs this has in mind is none of its business.
            None => command.env("KUBECONFIG", "/dev/null"),
        };
        let output = command.output().await.map_err(|source| HelmError::File {
            path: self.program.clone(),
            source,
        })?;
        let printed = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            return Ok(printed.into_owned());
        }
        let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
        Err(HelmError::Refused {
            command: words.join(" "),
            said: format!("{printed}{}", String::from_utf8_lossy(&output.stderr)),
        })
    }
}

/// The workspace's charts, by name.
pub fn charts() -> Result<Vec<PathBuf>, HelmError> {
    let folder = folder();
    let failed = |source| HelmError::File {
        path: folder.clone(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        found.push(entry.map_err(failed)?.path());
    }
    found.sort();
    Ok(found)
}

/// The workspace's chart of this name.
pub fn chart(name: &str) -> PathBuf {
    folder().join(name)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts")
}
