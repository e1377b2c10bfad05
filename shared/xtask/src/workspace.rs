//! The workspace: where it is, what is in it, and the one set of flags with which it is built.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// What every build selects. A selection decides which features dependencies are compiled with, so a second one
/// would compile half of them twice.
pub(crate) const SELECTION: [&str; 2] = ["--workspace", "--all-features"];

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_owned()
}

/// A cargo command in the workspace's root, as if typed in a shell: without the variables that `cargo run` sets
/// for this process, of which build scripts may take notice.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root()).arg(subcommand);
    for (name, _) in std::env::vars_os() {
        let of_this_package = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if of_this_package {
            command.env_remove(name);
        }
    }
    command
}

/// Runs `command` to its end and fails if it does, naming it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    ensure!(status.success(), "`{shown}` failed ({status})");
    Ok(())
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_else(|| command.get_program());
    let mut words = vec![program.to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|argument| argument.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

/// What `cargo metadata` says of the workspace's own packages.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) target_directory: PathBuf,
}

/// One package of the workspace.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) targets: Vec<Target>,
    pub(crate) features: BTreeMap<String, Vec<String>>,
}

/// One thing that a package builds.
#[derive(Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
    #[serde(default, rename = "required-features")]
    pub(crate) required_features: Vec<String>,
}

impl Metadata {
    /// Asks cargo, without resolving dependencies.
    pub(crate) fn read() -> Result<Self> {
        let output = cargo("metadata")
            .args(["--format-version", "1", "--no-deps", "--quiet"])
            .output()
            .context("cannot start cargo")?;
        ensure!(
            output.status.success(),
            "`cargo metadata` failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).context("`cargo metadata` printed something unexpected")
    }
}
