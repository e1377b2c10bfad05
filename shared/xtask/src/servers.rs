//! What all tests of a run share, started through the `testkit` binary: a control plane, a cluster.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// What the test bed prints when the control plane is ready, and what the tests find it by.
const CONTROL_PLANE: [&str; 2] = ["TESTKIT_KUBECONFIG", "TESTKIT_AUDIT_LOG"];

/// The same for the cluster.
const CLUSTER: [&str; 1] = ["TESTKIT_CLUSTER"];

/// How long it may take to shut down before it is killed; a cluster has containers to remove.
const GRACE: Duration = Duration::from_mins(1);

/// Something that `testkit` runs for the tests. It ends with this value, and also when this process dies: it watches
/// the pipe that is its standard input.
#[derive(Debug)]
pub(crate) struct Shared {
    child: Child,
    /// For the tests: where it is.
    pub(crate) environment: Vec<(String, String)>,
}

/// A cluster in the making.
#[derive(Debug)]
pub(crate) struct Cluster(mpsc::Receiver<Result<Shared>>);

impl Shared {
    /// Starts a control plane and waits until it is ready. Builds Kubernetes when this machine has none yet, which
    /// takes minutes and shows its progress.
    pub(crate) fn control_plane(testkit: &Path) -> Result<Self> {
        Self::from_command(Command::new(testkit).arg("control-plane"), &CONTROL_PLANE)
    }

    fn from_command(command: &mut Command, variables: &[&str]) -> Result<Self> {
        let shown = crate::workspace::shown(command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{shown}`"))?;
        let output = child
            .stdout
            .take()
            .with_context(|| format!("`{shown}` has no output"))?;
        let mut started = Self {
            child,
            environment: Vec::new(),
        };
        for line in BufReader::new(output).lines() {
            let line = line.with_context(|| format!("cannot read the output of `{shown}`"))?;
            started.environment.extend(assignment(&line, variables));
            if started.environment.len() == variables.len() {
                return Ok(started);
            }
        }
        let status = started
            .child
            .wait()
            .with_context(|| format!("cannot wait for `{shown}`"))?;
        bail!("`{shown}` ended before it was ready ({status}); its messages stand above");
    }
}

impl Cluster {
    /// Begins to make a cluster of one node, behind the tests that run meanwhile: whatever has to be built for it
    /// first is built at a lower priority, and after it, if `everything` is wanted, the other images of the test bed.
    pub(crate) fn begin(testkit: &Path, everything: bool) -> Self {
        let mut command = in_background(testkit);
        command.args(["cluster", "hold"]);
        if everything {
            command.arg("--all-images");
        }
        let (sender, receiver) = mpsc::channel();
        // Not joined: should this process end first, the cluster ends with it.
        thread::spawn(move || drop(sender.send(Shared::from_command(&mut command, &CLUSTER))));
        Self(receiver)
    }

    /// Waits until it is ready.
    pub(crate) fn ready(self) -> Result<Shared> {
        self.0.recv().context("nobody makes the cluster any more")?
    }
}

/// `program` with all its children at a lower priority, where the machine can do that.
fn in_background(program: &Path) -> Command {
    let nice = Path::new("/usr/bin/nice");
    if !nice.is_file() {
        return Command::new(program);
    }
    let mut command = Command::new(nice);
    command.args(["-n", "10"]).arg(program);
    command
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + GRACE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        // It is gone in all but the worst case; then its own children die with it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One of `variables` in a line such as `TESTKIT_KUBECONFIG=/tmp/x` or `export TESTKIT_KUBECONFIG='/tmp/x'`.
fn assignment(line: &str, variables: &[&str]) -> Option<(String, String)> {
    let (name, value) = line.trim().trim_start_matches("export ").split_once('=')?;
    let value = value.trim_matches(['\'', '"']);
    variables
        .contains(&name)
        .then(|| (name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Shared> {
        Shared::from_command(Command::new("sh").args(["-c", script]), &CONTROL_PLANE)
    }

    #[test]
    fn a_control_plane_is_ready_when_it_has_said_where_it_is() {
        let plane = shell(
            "echo starting; echo TESTKIT_KUBECONFIG=/k; echo \"export TESTKIT_AUDIT_LOG='/a'\"; read -r _",
        )
        .unwrap();
        let expected = [("TESTKIT_KUBECONFIG", "/k"), ("TESTKIT_AUDIT_LOG", "/a")];
        assert_eq!(
            plane.environment,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn a_control_plane_that_ends_early_is_an_error() {
        let error = shell("echo TESTKIT_KUBECONFIG=/k; exit 3")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("before it was ready") && error.contains('3'),
            "{error}"
        );
    }
}
