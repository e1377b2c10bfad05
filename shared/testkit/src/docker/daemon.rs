//! Finds a Docker daemon, or starts one.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::DockerError;
use crate::{
    process::tail,
    progress::Step,
    tools::{blocking, cache_folder, on_path},
};

/// How long a daemon may take until it answers.
const DEADLINE: Duration = Duration::from_mins(1);
/// The bit of `CAP_SYS_RESOURCE` in a capability set.
pub(crate) const SYS_RESOURCE: u32 = 24;
/// The runtime that takes that capability out of what a container asks for; the same file serves inside of nodes.
const SHIM: &str = include_str!("../../images/node/root/usr/local/libexec/runc-without-sys-resource");

/// Returns once a daemon answers.
pub(super) async fn ensure() -> Result<(), DockerError> {
    blocking(|| {
        if answers().is_ok() {
            return Ok(());
        }
        let cache = cache_folder()?;
        fs::create_dir_all(&cache).map_err(io_error("make the cache folder"))?;
        let lock = File::create(cache.join("dockerd.lock")).map_err(io_error("make a lock file"))?;
        lock.lock().map_err(io_error("lock the start of dockerd"))?;
        // Another process may have started it while this one waited.
        match answers() {
            Ok(()) => Ok(()),
            Err(why) => start(&cache, &why),
        }
    })
    .await
}

/// Whether a daemon answers; if not, what the command line says.
fn answers() -> Result<(), String> {
    let output = Command::new("docker")
        .args(["version", "--format", "{{.Server.APIVersion}}"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("the `docker` command cannot be run ({error})"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "no daemon answers ({})",
        said.trim().lines().last().unwrap_or_default()
    ))
}

fn start(cache: &Path, why: &str) -> Result<(), DockerError> {
    let unavailable = |remedy: &str| {
        Err(DockerError::Unavailable {
            why: why.to_owned(),
            remedy: remedy.to_owned(),
        })
    };
    for name in ["DOCKER_HOST", "DOCKER_CONTEXT"] {
        if std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "default") {
            return unavailable(&format!("{name} names it: start it there, or unset {name}"));
        }
    }
    if !cfg!(target_os = "linux") {
        return unavailable("start Docker Desktop, Colima or another Docker and run this again");
    }
    if !rustix::process::geteuid().is_root() {
        return unavailable(
            "start it with `sudo systemctl start docker` (first, if need be: `sudo apt-get install docker.io`) and \
             see that you may use it (`sudo usermod -aG docker $USER`)",
        );
    }
    if on_path("dockerd").is_none() {
        if on_path("apt-get").is_none() {
            return unavailable("install Docker with your system's package manager and start it");
        }
        install()?;
    }
    if Path::new("/run/systemd/system").is_dir() && lacks_nothing() {
        run(
            "starting Docker",
            Command::new("systemctl").args(["start", "docker"]),
        )?;
        return wait(None);
    }
    start_by_hand(cache)
}

fn install() -> Result<(), DockerError> {
    let install = ["install", "--yes", "--no-install-recommends", "docker.io"];
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run("updating the list of packages", apt().arg("update"))?;
    run("installing Docker (docker.io)", apt().args(install))?;
    // Newer releases have the command line in a package of its own.
    if on_path("docker").is_none() {
        let install = ["install", "--yes", "--no-install-recommends", "docker-cli"];
        run("installing Docker's command line", apt().args(install))?;
    }
    Ok(())
}

/// Starts a daemon that outlives this process, on the default socket and with the default folder, so that every
/// other command finds it.
fn start_by_hand(cache: &Path) -> Result<(), DockerError> {
    let log = cache.join("dockerd.log");
    // Appended: why an earlier one ended may stand there.
    let output = File::options().create(true).append(true).open(&log);
    let output = output.map_err(io_error("make dockerd's log"))?;
    let errors = output.try_clone().map_err(io_error("make dockerd's log"))?;
    // Neither the terminal's end nor the low priority of whoever needed it first is to reach it.
    let nice = rustix::process::getpriority_process(None).unwrap_or(0);
    let mut command = Command::new("setsid");
    command.args(["nice", "-n", &(-nice).to_string(), "dockerd"]);
    if !lacks_nothing() {
        let shim = write_shim(cache).map_err(io_error("write the runtime shim"))?;
        command
            .arg("--add-runtime")
            .arg(format!("testbed={}", shim.display()));
        command.args(["--default-runtime", "testbed"]);
    }
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    command.spawn().map_err(io_error("start dockerd"))?;
    wait(Some(&log))
}

fn wait(log: Option<&Path>) -> Result<(), DockerError> {
    let step = Step::start("waiting for Docker");
    let deadline = Instant::now() + DEADLINE;
    loop {
        match answers() {
            Ok(()) => {
                step.done();
                return Ok(());
            }
            Err(why) if Instant::now() >= deadline => {
                let said = log.map(|log| tail(log, 10)).unwrap_or_default();
                return Err(DockerError::Unavailable {
                    why: format!("dockerd was started and {why} after {DEADLINE:?}"),
                    remedy: format!("the end of its log may say why:\n{said}"),
                });
            }
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

pub(super) fn write_shim(cache: &Path) -> io::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = cache.join("runc-without-sys-resource");
    let temporary = path.with_extension("new");
    fs::write(&temporary, SHIM)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755))?;
    fs::rename(&temporary, &path)?;
    Ok(path)
}

/// Whether this machine may give every capability to a container.
pub(crate) fn lacks_nothing() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| has_capability(&status, SYS_RESOURCE))
}

/// Whether the bounding set in a `/proc/PID/status` has the capability of this number. True where it does not say.
pub(crate) fn has_capability(status: &str, number: u32) -> bool {
    let set = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_none_or(|set| set & (1 << number) != 0)
}

fn run(what: &str, command: &mut Command) -> Result<(), DockerError> {
    let step = Step::start(what);
    let output = command.stdin(Stdio::null()).output().map_err(io_error(what))?;
    if output.status.success() {
        step.done();
        return Ok(());
    }
    Err(DockerError::Failed {
        command: command.get_program().to_string_lossy().into_owned(),
        status: output.status,
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn io_error(action: &str) -> impl FnOnce(io::Error) -> DockerError {
    let command = action.to_owned();
    move |source| DockerError::Run { command, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_seen_and_no_other() {
        assert!(!has_capability(
            "Name:\tx\nCapBnd:\t000001fffeffffff\n",
            SYS_RESOURCE
        ));
        assert!(has_capability("CapBnd:\t000001ffffffffff\n", SYS_RESOURCE));
        assert!(has_capability("CapBnd:\t000001fffeffffff\n", SYS_RESOURCE - 1));
        assert!(has_capability("Name:\tx\n", SYS_RESOURCE));
    }
}
