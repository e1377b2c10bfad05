//! The control plane that all tests of a run share, started through the `testkit` binary.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// What the test bed prints when the control plane is ready, and what the tests find it by.
const VARIABLES: [&str; 2] = ["TESTKIT_KUBECONFIG", "TESTKIT_AUDIT_LOG"];

/// How long it may take to shut down before it is killed.
const GRACE: Duration = Duration::from_secs(20);

/// A running control plane. It ends with this value, and also when this process dies: it watches the pipe that is
/// its standard input.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    child: Child,
    /// For the tests: where it is.
    pub(crate) environment: Vec<(String, String)>,
}

impl ControlPlane {
    /// Starts one and waits until it is ready. Builds Kubernetes when this machine has none yet, which takes
    /// minutes and shows its progress.
    pub(crate) fn start(testkit: &Path) -> Result<Self> {
        Self::from_command(Command::new(testkit).arg("control-plane"))
    }

    fn from_command(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start `testkit control-plane`")?;
        let output = child
            .stdout
            .take()
            .context("`testkit control-plane` has no output")?;
        let mut started = Self {
            child,
            environment: Vec::new(),
        };
        for line in BufReader::new(output).lines() {
            let line = line.context("cannot read the output of `testkit control-plane`")?;
            started.environment.extend(assignment(&line));
            if started.environment.len() == VARIABLES.len() {
                return Ok(started);
            }
        }
        let status = started
            .child
            .wait()
            .context("cannot wait for `testkit control-plane`")?;
        bail!("`testkit control-plane` ended before it was ready ({status}); its messages stand above");
    }
}

impl Drop for ControlPlane {
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

/// One of our variables in a line such as `TESTKIT_KUBECONFIG=/tmp/x` or `export TESTKIT_KUBECONFIG='/tmp/x'`.
fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.trim().trim_start_matches("export ").split_once('=')?;
    let value = value.trim_matches(['\'', '"']);
    VARIABLES
        .contains(&name)
        .then(|| (name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<ControlPlane> {
        ControlPlane::from_command(Command::new("sh").args(["-c", script]))
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
