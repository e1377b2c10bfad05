//! Child processes that never outlive the process that started them.
//!
//! # Guarantees
//! - A [`Supervised`] process and everything it starts are killed when the value is dropped, and also when this
//!   process ends in any way, SIGKILL included: a watchdog shell in the child's process group holds the reading end
//!   of a pipe whose only writing end is here, and kills the group when the pipe closes.
//! - Its output goes to a log file, whose end is quoted by errors.
//!
//! # Why a shell
//! `PR_SET_PDEATHSIG` is bound to the *thread* that forked, which in a test ends long before the process does, and
//! setting it needs code between fork and exec. A pipe has neither flaw and works on every Unix.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rand::RngExt;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The watchdog: a subshell that waits for end of file on the inherited pipe, then kills its own group. The shell
/// itself becomes the program, so that the child's id is the program's.
const WATCHDOG: &str = r#"exec 3<&0
( read -r _ <&3; kill -KILL 0 ) </dev/null >/dev/null 2>&1 &
exec "$@" 3<&- </dev/null"#;

/// Removes a folder once the other watchdogs have done their work.
const REMOVE_FOLDER: &str =
    r#"for _ in 1 2 3 4 5; do sleep 0.2; rm -rf -- "$1" && [ ! -e "$1" ] && break; done"#;

/// Why a process could not be started or did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program could not be started at all.
    #[error("{name}: cannot start {}: {source}", .program.display())]
    Spawn {
        /// The process's name.
        name: String,
        /// What was to be run.
        program: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The program ended although it was meant to keep running.
    #[error("{name} ended with {status}; the end of its log {}:\n{tail}", .log.display())]
    Ended {
        /// The process's name.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Where its output is.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
}

/// A running child whose group dies with this value and with this process.
#[derive(Debug)]
pub struct Supervised {
    name: String,
    log: PathBuf,
    child: Child,
    /// Open for as long as the child may live: closing it is what the watchdog waits for.
    _leash: Option<ChildStdin>,
}

impl Supervised {
    /// Starts `command` (its program, arguments, environment and folder), appending its output to `log`.
    pub fn spawn(name: &str, command: &Command, log: &Path) -> Result<Self, ProcessError> {
        let failed = |source| ProcessError::Spawn {
            name: name.to_owned(),
            program: PathBuf::from(command.get_program()),
            source,
        };
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(WATCHDOG)
            .arg(name)
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        shell
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        let mut child = shell.spawn().map_err(failed)?;
        let leash = child.stdin.take();
        Ok(Self {
            name: name.to_owned(),
            log: log.to_owned(),
            child,
            _leash: leash,
        })
    }

    /// The process id, which is also its group's.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails if the process has ended, quoting its log.
    pub fn check(&mut self) -> Result<(), ProcessError> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(ProcessError::Ended {
                name: self.name.clone(),
                status,
                log: self.log.clone(),
                tail: tail(&self.log, 12),
            }),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// Asks the process to end (SIGTERM), waits up to `grace`, then kills its group. Returns once it is gone.
    pub fn stop(&mut self, grace: Duration) {
        if let Some(pid) = self.pid() {
            let deadline = Instant::now() + grace;
            let asked = kill_process(pid, Signal::TERM).is_ok();
            while asked && Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(10));
            }
        }
        self.kill();
    }

    /// Kills the process and its group at once. Returns once it is gone.
    pub fn kill(&mut self) {
        if let Some(pid) = self.pid() {
            // The group may be gone already; the wait below holds in either case.
            kill_process_group(pid, Signal::KILL).ok();
        }
        drop(self.child.wait());
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A shell script that runs when this value is dropped, and also when this process ends in any other way.
#[derive(Debug)]
pub struct Janitor {
    shell: Child,
}

impl Janitor {
    /// Lets `script` wait with `arguments` (its `$1`, `$2`, …).
    pub fn engage<A: AsRef<OsStr>>(script: &str, arguments: &[A]) -> io::Result<Self> {
        let shell = Command::new("/bin/sh")
            .args(["-c", &format!("read -r _\n{script}"), "janitor"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { shell })
    }

    /// Sends it home: the script will not run.
    pub fn dismiss(mut self) {
        self.shell.kill().ok();
    }
}

impl Drop for Janitor {
    /// Lets the script run, and waits for its end.
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        drop(self.shell.wait());
    }
}

/// A folder that is removed when this value is dropped, and also soon after this process ends in any other way.
#[derive(Debug)]
pub struct ScratchFolder {
    path: PathBuf,
    janitor: Option<Janitor>,
    /// Locked for as long as the folder is in use; what [`sweep`] goes by.
    _held: File,
}

/// The file in a scratch folder that is locked while the folder is in use.
const HELD: &str = ".held";

impl ScratchFolder {
    /// Makes a new folder whose name starts with `prefix` below the system's temporary folder. Folders of that
    /// prefix that nobody holds any more (the machine went down, say) are removed on the way.
    pub fn create(prefix: &str) -> io::Result<Self> {
        sweep(&std::env::temp_dir(), prefix);
        let path = std::env::temp_dir().join(format!("{prefix}-{}", uuid::Uuid::new_v4().simple()));
        Self::adopt(path)
    }

    /// Makes the folder `path`, which must not exist, and owns it from here on.
    pub fn adopt(path: PathBuf) -> io::Result<Self> {
        std::fs::create_dir(&path)?;
        let held = File::create(path.join(HELD))?;
        held.lock()?;
        let janitor = Janitor::engage(REMOVE_FOLDER, &[path.as_os_str()])?;
        Ok(Self {
            path,
            janitor: Some(janitor),
            _held: held,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        if std::fs::remove_dir_all(&self.path).is_ok()
            && let Some(janitor) = self.janitor.take()
        {
            janitor.dismiss();
        }
    }
}

/// Removes the folders in `parent` whose name starts with `prefix-` and that no process holds. A folder without
/// its lock file yet is left alone for a minute.
fn sweep(parent: &Path, prefix: &str) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_prefix(prefix)?.strip_prefix('-'))
            .is_some();
        if ours && is_abandoned(&entry.path()) {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

fn is_abandoned(folder: &Path) -> bool {
    match File::open(folder.join(HELD)) {
        Ok(held) => held.try_lock().is_ok(),
        Err(_) => folder
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > Duration::from_mins(1))),
    }
}

/// The last `lines` lines of a log file, or nothing when it cannot be read.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A loopback TCP port on which nothing listens now.
///
/// It is below the range from which Linux picks ports for outgoing connections, so that no connection takes it
/// between this call and the server's bind. Two callers may still be given the same one, which is why whoever
/// starts a server tries again with another port when the server does not come up.
pub fn free_port() -> io::Result<u16> {
    let mut random = rand::rng();
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..64 {
        match TcpListener::bind(("127.0.0.1", random.random_range(15_000..32_000))) {
            Ok(listener) => return Ok(listener.local_addr()?.port()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds() {
            assert!(Instant::now() < deadline, "not within 10 s: {what}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn dropping_a_process_kills_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let (log, pidfile) = (folder.path().join("log"), folder.path().join("pid"));
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "sleep 600 & echo $! > \"$0.tmp\"; mv \"$0.tmp\" \"$0\"; wait",
            ])
            .arg(&pidfile);
        let process = Supervised::spawn("parent", &command, &log).unwrap();
        eventually("the grandchild runs", || pidfile.exists());
        let grandchild: i32 = std::fs::read_to_string(&pidfile).unwrap().trim().parse().unwrap();
        drop(process);
        let pid = Pid::from_raw(grandchild).unwrap();
        eventually("the grandchild is gone", || {
            rustix::process::test_kill_process(pid).is_err() || is_zombie(grandchild)
        });
    }

    fn is_zombie(pid: i32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    }

    #[test]
    fn an_ended_process_is_reported_with_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo first; echo the reason; exit 3"]);
        let mut process = Supervised::spawn("short", &command, &folder.path().join("log")).unwrap();
        eventually("it ended", || process.check().is_err());
        let error = process.check().unwrap_err().to_string();
        assert!(
            error.contains("short ended") && error.contains("the reason"),
            "{error}"
        );
    }

    #[test]
    fn a_dropped_scratch_folder_is_removed_with_its_content() {
        let kept = ScratchFolder::create("testkit-scratch").unwrap();
        let path = kept.path().to_owned();
        std::fs::write(path.join("file"), "x").unwrap();
        drop(kept);
        assert!(!path.exists());
    }

    #[test]
    fn a_sweep_removes_abandoned_folders_and_no_other() {
        let parent = tempfile::tempdir().unwrap();
        let [held, abandoned, fresh, foreign] =
            ["bed-held", "bed-abandoned", "bed-fresh", "other"].map(|name| parent.path().join(name));
        let _held = ScratchFolder::adopt(held.clone()).unwrap();
        for folder in [&abandoned, &fresh, &foreign] {
            std::fs::create_dir(folder).unwrap();
        }
        File::create(abandoned.join(HELD)).unwrap();
        sweep(parent.path(), "bed");
        assert_eq!(
            [held, abandoned, fresh, foreign].map(|path| path.exists()),
            [true, false, true, true]
        );
    }
}
