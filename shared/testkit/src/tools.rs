//! The Go programs of the test bed: Kubernetes, etcd and whatever else has no package to install.
//!
//! Each is built once from a module pinned under `shared/testkit/tools/<module>` (its `go.mod` and `go.sum` name
//! everything down to the hash) into the user's cache folder and found there from then on:
//! `$XDG_CACHE_HOME/operators-testbed/bin/<module>-<version>/<tool>`, `~/.cache` by default.
//!
//! # Guarantees
//! - A tool in the cache is complete: it is built beside its place and moved there in one step.
//! - A change of the pins or of the flags builds it again: its inputs' hash is kept next to it.
//! - Two processes never build the same module at the same time; the second finds what the first has built.
//! - With `KUBEBUILDER_ASSETS` set, the programs which that folder has are used and not built.
//!
//! # Errors
//! [`ToolError`]; each says what to install or what to run.

mod build;
mod catalogue;

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
};

pub(crate) use build::hex;
pub use catalogue::Tool;

/// Why a tool is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// No Go compiler.
    #[error(
        "{tool} must be built and there is no `go` command: install Go 1.26 or newer (https://go.dev/doc/install, \
         or `apt-get install golang`), or set KUBEBUILDER_ASSETS to a folder that has it (`setup-envtest use -p path`)"
    )]
    NoGo {
        /// What was to be built.
        tool: &'static str,
    },
    /// The cache folder or a file in it cannot be used.
    #[error("tool cache: cannot {action} {}: {source}", .path.display())]
    Cache {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Neither `XDG_CACHE_HOME` nor `HOME` is set.
    #[error(
        "tool cache: neither XDG_CACHE_HOME nor HOME is set; set XDG_CACHE_HOME to a folder that may grow to 2 GB"
    )]
    NoCacheFolder,
    /// The module does not pin what it should.
    #[error("{}: no version of {requirement} is required there; run `go get {requirement}@VERSION` in its folder", .path.display())]
    NotPinned {
        /// The module file.
        path: PathBuf,
        /// The requirement that it lacks.
        requirement: &'static str,
    },
    /// The compiler failed.
    #[error("building {tools} with Go failed ({status}):\n{output}\nTo see it again: cd {} && go build {packages}", .folder.display())]
    Build {
        /// The tools.
        tools: String,
        /// How the compiler ended.
        status: ExitStatus,
        /// The end of what it said.
        output: String,
        /// The module's folder.
        folder: PathBuf,
        /// The packages.
        packages: String,
    },
}

/// The paths of `tools`, in that order, after building those that are missing. Blocks, for minutes when all of
/// Kubernetes is to be built, and shows progress on standard error.
pub fn ensure(tools: &[Tool]) -> Result<Vec<PathBuf>, ToolError> {
    let cache = cache_folder()?;
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let mut missing: Vec<Tool> = Vec::new();
    for &tool in tools {
        if provided(tool, assets.as_deref()).is_none() && !missing.contains(&tool) {
            missing.push(tool);
        }
    }
    build::ensure_built(&cache, &missing)?;
    tools
        .iter()
        .map(|&tool| match provided(tool, assets.as_deref()) {
            Some(path) => Ok(path),
            None => build::place(&cache, tool),
        })
        .collect()
}

/// [`ensure`], but always the program built from the pinned module, whatever else there is: for images, whose content
/// must not depend on the machine.
pub async fn ensure_pinned(tools: &[Tool]) -> Result<Vec<PathBuf>, ToolError> {
    let tools = tools.to_vec();
    blocking(move || {
        let cache = cache_folder()?;
        build::ensure_built(&cache, &tools)?;
        tools.iter().map(|&tool| build::place(&cache, tool)).collect()
    })
    .await
}

/// The pinned version of `tool`, without a leading `v`.
pub fn version(tool: Tool) -> Result<String, ToolError> {
    Ok(build::identity(tool)?.0)
}

/// A hash over everything that `tool` is built from.
pub fn fingerprint(tool: Tool) -> Result<String, ToolError> {
    Ok(build::identity(tool)?.1)
}

/// [`ensure`] without blocking the runtime's worker.
pub async fn ensure_async(tools: &[Tool]) -> Result<Vec<PathBuf>, ToolError> {
    let tools = tools.to_vec();
    blocking(move || ensure(&tools)).await
}

/// Runs `work` on a thread that may block; a panic in it goes on here.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// The folder of everything that the test bed keeps between runs: `$XDG_CACHE_HOME/operators-testbed`.
pub fn cache_folder() -> Result<PathBuf, ToolError> {
    let set = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .map(|folder| folder.join("operators-testbed"))
        .ok_or(ToolError::NoCacheFolder)
}

/// The tool as somebody else provides it: in `KUBEBUILDER_ASSETS`, or for kubectl on the `PATH`.
fn provided(tool: Tool, assets: Option<&Path>) -> Option<PathBuf> {
    if !tool.is_in_envtest_assets() {
        return None;
    }
    let asset = assets
        .map(|folder| folder.join(tool.name()))
        .filter(|path| path.is_file());
    asset.or_else(|| (tool == Tool::Kubectl).then(|| on_path("kubectl")).flatten())
}

/// Where on the `PATH` `program` is.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_are_preferred_for_what_they_have() {
        let assets = tempfile::tempdir().unwrap();
        std::fs::write(assets.path().join("etcd"), "").unwrap();
        assert_eq!(
            provided(Tool::Etcd, Some(assets.path())),
            Some(assets.path().join("etcd"))
        );
        assert_eq!(provided(Tool::KubeApiserver, Some(assets.path())), None);
        assert_eq!(provided(Tool::Kubelet, Some(assets.path())), None);
    }
}
