//! Builds tools from their pinned module into the cache.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sha2::{Digest, Sha256};

use super::{
    ToolError,
    catalogue::{Module, Tool},
};
use crate::{process::leashed, progress::Step, tools::on_path};

/// What the names of folders start with in which something is being built.
const UNFINISHED: &str = ".building-";
/// How many lines of the compiler's output an error quotes.
const QUOTED_LINES: usize = 20;

/// A module as it is pinned now.
struct Pinned {
    module: Module,
    version: String,
    /// Over everything that the result depends on.
    inputs: String,
}

impl Pinned {
    fn read(module: Module) -> Result<Self, ToolError> {
        let mods = read(&module.folder().join("go.mod"))?;
        let version = match module.requirement() {
            Some(requirement) => required_version(&mods, requirement)
                .ok_or_else(|| ToolError::NotPinned {
                    path: module.folder().join("go.mod"),
                    requirement,
                })?
                .to_owned(),
            None => "local".to_owned(),
        };
        let mut hash = Sha256::new();
        for part in module_files(&module.folder())?
            .iter()
            .chain([&module.linker_flags(&version)])
        {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let inputs = hex(&hash.finalize());
        Ok(Self {
            module,
            version,
            inputs,
        })
    }

    fn folder(&self, cache: &Path) -> PathBuf {
        cache
            .join("bin")
            .join(format!("{}-{}", self.module.name(), self.version))
    }

    fn has(&self, folder: &Path, tool: Tool) -> bool {
        folder.join(tool.name()).is_file()
            && fs::read_to_string(stamp(folder, tool)).is_ok_and(|inputs| inputs == self.inputs)
    }

    /// Builds those of `tools` that are not there yet, as one compilation.
    fn build(&self, cache: &Path, tools: &[Tool]) -> Result<(), ToolError> {
        let folder = self.folder(cache);
        let missing = |tools: &[Tool]| -> Vec<Tool> {
            tools
                .iter()
                .copied()
                .filter(|&tool| !self.has(&folder, tool))
                .collect()
        };
        if missing(tools).is_empty() {
            return Ok(());
        }
        fs::create_dir_all(&folder).map_err(cache_error("create", &folder))?;
        let lock_path = folder.join(".lock");
        let lock = File::create(&lock_path).map_err(cache_error("open", &lock_path))?;
        lock.lock().map_err(cache_error("lock", &lock_path))?;
        // Another process may have built them while this one waited.
        let tools = missing(tools);
        if !tools.is_empty() {
            self.compile(&folder, &tools)?;
        }
        Ok(())
    }

    fn compile(&self, folder: &Path, tools: &[Tool]) -> Result<(), ToolError> {
        let names: Vec<&str> = tools.iter().map(|tool| tool.name()).collect();
        let names = names.join(", ");
        remove_unfinished(folder)?;
        let output = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(folder)
            .map_err(cache_error("create a folder in", folder))?;
        let step = Step::start(format!("building {names} {}", self.version));
        if let Some(count) = self.dependency_count(tools) {
            step.length(count);
        }
        let mut command = self.go();
        command
            .args(["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags"])
            .arg(self.module.linker_flags(&self.version))
            .arg("-o")
            .arg(format!("{}/", output.path().display()))
            .args(tools.iter().map(|tool| tool.package()));
        run(&command, &step).map_err(|failure| failure.into_error(self.module, tools))?;
        for &tool in tools {
            let built = output.path().join(go_name(tool.package()));
            let place = folder.join(tool.name());
            fs::rename(&built, &place).map_err(cache_error("move a finished tool to", &place))?;
            let stamp = stamp(folder, tool);
            fs::write(&stamp, &self.inputs).map_err(cache_error("write", &stamp))?;
        }
        step.done();
        Ok(())
    }

    fn go(&self) -> Command {
        let mut command = Command::new("go");
        command.current_dir(self.module.folder()).env("CGO_ENABLED", "0");
        command
    }

    /// How many packages the compiler has to go through at most; nothing if it cannot tell.
    fn dependency_count(&self, tools: &[Tool]) -> Option<u64> {
        let listing = self
            .go()
            .args(["list", "-deps"])
            .args(tools.iter().map(|tool| tool.package()))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let lines = listing
            .stdout
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .count();
        u64::try_from(lines).ok().filter(|&count| count > 0)
    }
}

/// How a run of the compiler failed.
enum Failure {
    NoGo,
    Start(std::io::Error),
    Ended(std::process::ExitStatus, String),
}

impl Failure {
    fn into_error(self, module: Module, tools: &[Tool]) -> ToolError {
        let join = |names: Vec<&str>, separator: &str| names.join(separator);
        match self {
            Self::NoGo => ToolError::NoGo {
                tool: tools.first().map_or("a tool", |tool| tool.name()),
            },
            Self::Start(source) => ToolError::Cache {
                action: "run `go` in",
                path: module.folder(),
                source,
            },
            Self::Ended(status, output) => ToolError::Build {
                tools: join(tools.iter().map(|tool| tool.name()).collect(), ", "),
                status,
                output,
                folder: module.folder(),
                packages: join(tools.iter().map(|tool| tool.package()).collect(), " "),
            },
        }
    }
}

/// Removes what a build that was killed has left. Nobody else builds: the caller holds the lock.
fn remove_unfinished(folder: &Path) -> Result<(), ToolError> {
    let entries = fs::read_dir(folder).map_err(cache_error("list", folder))?;
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(cache_error("remove", &path))?;
        }
    }
    Ok(())
}

/// Runs the compiler, which ends with this process; each line that it writes is a package that it has gone on to.
fn run(command: &Command, step: &Step) -> Result<(), Failure> {
    if on_path("go").is_none() {
        return Err(Failure::NoGo);
    }
    let mut child = leashed("go", command)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Failure::Start)?;
    // To wait for a child closes its input, which would end this one.
    let leash = child.stdin.take();
    let mut quoted = VecDeque::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            step.advance(&line);
            if quoted.len() == QUOTED_LINES {
                quoted.pop_front();
            }
            quoted.push_back(line);
        }
    }
    let status = child.wait().map_err(Failure::Start)?;
    drop(leash);
    if status.success() {
        return Ok(());
    }
    Err(Failure::Ended(status, Vec::from(quoted).join("\n")))
}

/// Builds every one of `tools` that is missing, module by module.
pub(super) fn ensure_built(cache: &Path, tools: &[Tool]) -> Result<(), ToolError> {
    let mut modules: BTreeMap<&str, Vec<Tool>> = BTreeMap::new();
    for &tool in tools {
        modules.entry(tool.module().name()).or_default().push(tool);
    }
    for tools in modules.values() {
        let Some(first) = tools.first() else { continue };
        let pinned = Pinned::read(first.module())?;
        for batch in batches(tools) {
            pinned.build(cache, &batch)?;
        }
    }
    Ok(())
}

/// The version of `tool` as it is pinned, without a leading `v`, and the hash over all that it is built from.
pub(super) fn identity(tool: Tool) -> Result<(String, String), ToolError> {
    let pinned = Pinned::read(tool.module())?;
    Ok((pinned.version, pinned.inputs))
}

/// Where `tool` is or will be.
pub(super) fn place(cache: &Path, tool: Tool) -> Result<PathBuf, ToolError> {
    Ok(Pinned::read(tool.module())?.folder(cache).join(tool.name()))
}

/// Splits tools into compilations in which no two results have the same file name.
fn batches(tools: &[Tool]) -> Vec<Vec<Tool>> {
    let mut batches: Vec<Vec<Tool>> = Vec::new();
    for &tool in tools {
        let name = go_name(tool.package());
        let free = batches
            .iter_mut()
            .find(|batch| batch.iter().all(|other| go_name(other.package()) != name));
        match free {
            Some(batch) => batch.push(tool),
            None => batches.push(vec![tool]),
        }
    }
    batches
}

/// The file name that `go build` gives to a main package: its last path element, without a major version.
fn go_name(package: &str) -> &str {
    let is_major = |part: &str| {
        part.strip_prefix('v')
            .is_some_and(|digits| digits.parse::<u32>().is_ok_and(|major| major > 1))
    };
    package
        .rsplit('/')
        .find(|part| !is_major(part))
        .unwrap_or(package)
}

/// The version, without `v`, that a `go.mod` requires of `module`.
fn required_version<'text>(mods: &'text str, module: &str) -> Option<&'text str> {
    mods.lines().find_map(|line| {
        let line = line.trim();
        line.strip_prefix("require ")
            .unwrap_or(line)
            .strip_prefix(module)?
            .strip_prefix(" v")?
            .split_whitespace()
            .next()
    })
}

/// What a module's folder holds, in the order of the files' names.
fn module_files(folder: &Path) -> Result<Vec<String>, ToolError> {
    let entries = fs::read_dir(folder).map_err(cache_error("list", folder))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").ok();
            text
        })
}

fn stamp(folder: &Path, tool: Tool) -> PathBuf {
    folder.join(format!(".{}.inputs", tool.name()))
}

fn read(path: &Path) -> Result<String, ToolError> {
    fs::read_to_string(path).map_err(cache_error("read", path))
}

fn cache_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ToolError {
    let path = path.to_owned();
    move |source| ToolError::Cache { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_go_mod_requires() {
        let mods = "require k8s.io/kubernetes v1.34.4\n\nrequire (\n\tgo.etcd.io/etcd/server/v3 v3.6.8 // indirect\n)\n";
        assert_eq!(required_version(mods, "k8s.io/kubernetes"), Some("1.34.4"));
        assert_eq!(required_version(mods, "go.etcd.io/etcd/server/v3"), Some("3.6.8"));
        assert_eq!(required_version(mods, "k8s.io/kube"), None);
    }

    #[test]
    fn a_binary_is_found_under_the_name_that_go_gives_it() {
        assert_eq!(go_name("go.etcd.io/etcd/server/v3"), "server");
        assert_eq!(go_name("k8s.io/kubernetes/cmd/kubelet"), "kubelet");
        assert_eq!(go_name("sigs.k8s.io/cluster-api"), "cluster-api");
    }

    #[test]
    fn a_tool_whose_inputs_changed_is_not_taken_for_built() {
        let folder = tempfile::tempdir().unwrap();
        let mut pinned = Pinned::read(Module::Etcd).unwrap();
        fs::write(folder.path().join("etcd"), "").unwrap();
        assert!(!pinned.has(folder.path(), Tool::Etcd));
        fs::write(stamp(folder.path(), Tool::Etcd), &pinned.inputs).unwrap();
        assert!(pinned.has(folder.path(), Tool::Etcd));
        pinned.inputs.push('0');
        assert!(!pinned.has(folder.path(), Tool::Etcd));
    }

    #[test]
    fn what_a_killed_build_has_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let [left, tool] = [".building-abc", "etcd"].map(|name| folder.path().join(name));
        fs::create_dir(&left).unwrap();
        fs::write(left.join("half"), "").unwrap();
        fs::write(&tool, "").unwrap();
        remove_unfinished(folder.path()).unwrap();
        assert_eq!([left.exists(), tool.exists()], [false, true]);
    }

    #[test]
    fn every_tool_names_a_package_of_a_pinned_module() {
        for tool in Tool::ALL {
            let pinned = Pinned::read(tool.module()).unwrap();
            assert!(!pinned.version.is_empty(), "{}", tool.name());
        }
    }

    #[test]
    fn tools_whose_files_would_clash_are_built_one_after_the_other() {
        let clash = [
            Tool::ClusterApiCore,
            Tool::ClusterApiBootstrap,
            Tool::ClusterApiControlPlane,
        ];
        let expected = vec![vec![clash[0], clash[1]], vec![clash[2]]];
        assert_eq!(batches(&clash), expected);
    }
}
