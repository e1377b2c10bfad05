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

mod scratch;

use std::{
    ffi::OsStr,
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rand::RngExt;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
pub use scratch::ScratchFolder;

/// The watchdog: a subshell that waits for end of file on the inherited pipe, then kills its own group. The shell
/// itself becomes the program, so that the child's id is the program's.
const WATCHDOG: &str = r#"exec 3<&0
( read -r _ <&3; kill -KILL 0 ) </dev/null >/dev/null 2>&1 &
exec "$@" 3<&- </dev/null"#;

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

/// `command` (its program, arguments, environment and folder) in a process group of its own that dies when the pipe
/// that is the child's standard input closes: with the `Child`, or with this process.
pub(crate) fn leashed(name: &str, command: &Command) -> Command {
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
    shell.stdin(Stdio::piped()).process_group(0);
    shell
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
        let mut shell = leashed(name, command);
        shell.stdout(output).stderr(errors);
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

/// The address of [`free_port`].
pub fn free_address() -> io::Result<SocketAddr> {
    Ok((Ipv4Addr::LOCALHOST, free_port()?).into())
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
}
