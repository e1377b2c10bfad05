//! What was measured, and on what.

use std::{fs, process::Command, thread};

use serde::Serialize;

/// The machine of a run.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Memory in KiB.
    pub memory_kib: u64,
    /// The kernel's version.
    pub kernel: String,
    /// Load averages at the start: what else went on.
    pub load: String,
}

impl Machine {
    /// Reads it; what cannot be read is empty.
    pub fn read() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (processors, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        Self {
            processor: field(&processors, "model name").unwrap_or_default().to_owned(),
            cores: thread::available_parallelism().map_or(0, usize::from),
            memory_kib: field(&memory, "MemTotal").and_then(kib).unwrap_or(0),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").trim().to_owned(),
        }
    }
}

/// The value of a line `NAME: VALUE`.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

/// The number in `123 kB`.
pub(super) fn kib(value: &str) -> Option<u64> {
    value.split_whitespace().next()?.parse().ok()
}

/// The commit that is checked out, with `-dirty` if tracked files differ from it; `unknown` outside of a checkout.
pub(super) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let clean =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| changes.is_empty());
    if clean { commit } else { format!("{commit}-dirty") }
}
