//! Level 3: the tests that need nodes, picked by name, and the cluster that they share.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{
    build::{Artifacts, TestBinary, TestKind},
    servers::{Cluster, Shared},
    suite::{Run, Tally},
};

/// What the names of these tests begin with.
pub(super) const PREFIX: &str = "smoke_";

/// What the names begin with of those of which each operator has one: it is installed from its chart, does its work as a pod,
/// and is killed at it.
const AS_A_POD: &str = "smoke_as_a_pod_";

/// Which smokes are to run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which<'a> {
    /// One for each operator.
    OfEachOperator,
    /// Those whose name, or whose suite's, contains this; all, if it is nothing.
    Matching(Option<&'a str>),
}

/// How many binaries run at the same time. Much of it is waiting: for a node to boot, a server to start, a lease to expire.
const AT_ONCE: usize = 2;

/// The smokes of a run, by binary.
#[derive(Debug, Default)]
pub(super) struct Smokes(Vec<(TestBinary, Vec<String>)>);

impl Smokes {
    /// These; with `full`, also those that are ignored because they take long.
    pub(super) fn among(artifacts: &Artifacts, which: Which<'_>, full: bool) -> Result<Self> {
        let mut found = Vec::new();
        for binary in &artifacts.tests {
            if binary.kind == TestKind::Integration {
                let filter = match which {
                    Which::OfEachOperator => Some(AS_A_POD),
                    Which::Matching(filter) => binary.among_its_tests(filter),
                };
                let mut names = listed(binary, filter, &[])?;
                if !full && !names.is_empty() {
                    let long = listed(binary, filter, &["--ignored"])?;
                    names.retain(|name| !long.contains(name));
                }
                if !names.is_empty() {
                    found.push((binary.clone(), names));
                }
            }
        }
        Ok(Self(found))
    }

    /// Begins to make the cluster that they share; nothing if there are none. With all of them, everything that they
    /// will ask for is built.
    pub(super) fn begin_cluster(&self, artifacts: &Artifacts, all: bool) -> Result<Option<Cluster>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        Ok(Some(Cluster::begin(artifacts.program("testkit")?, all)))
    }

    /// Runs them.
    pub(super) fn run(&self, run: &Run, cluster: &Shared) -> Result<Tally> {
        let mut run = Run {
            at_once: AT_ONCE,
            ..run.clone()
        };
        run.environment.extend(cluster.environment.iter().cloned());
        run.each(&self.0, |(binary, names)| {
            run.exactly(names.iter().cloned()).binary(binary)
        })
    }
}

fn listed(binary: &TestBinary, filter: Option<&str>, which: &[&str]) -> Result<Vec<String>> {
    let output = Command::new(&binary.executable)
        .current_dir(&binary.folder)
        .args(["--list", "--format", "terse"])
        .args(which)
        .output()
        .with_context(|| format!("cannot list the tests of {}", binary.label()))?;
    Ok(picked(&String::from_utf8_lossy(&output.stdout), filter))
}

/// The smokes in a listing such as `one::smoke_a: test`.
fn picked(listing: &str, filter: Option<&str>) -> Vec<String> {
    let names = listing.lines().filter_map(|line| line.strip_suffix(": test"));
    names
        .filter(|name| name.contains(PREFIX) && filter.is_none_or(|filter| name.contains(filter)))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smokes_are_picked_by_name_and_by_the_filter() {
        let listing = "smoke_a: test\nplain: test\nmodule::smoke_b: test\nsmoke_c: benchmark\n";
        assert_eq!(picked(listing, None), ["smoke_a", "module::smoke_b"]);
        assert_eq!(picked(listing, Some("_b")), ["module::smoke_b"]);
        let pods = "smoke_as_a_pod_it_works: test\nsmoke_as_clusterctl_installs_it: test\n";
        assert_eq!(picked(pods, Some(AS_A_POD)), ["smoke_as_a_pod_it_works"]);
        assert_eq!(picked(listing, Some("plain")), Vec::<String>::new());
    }
}
