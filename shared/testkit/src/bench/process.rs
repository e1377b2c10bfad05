//! Memory and processor time of a process.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

use super::machine::{field, kib};

/// Length of the ticks in `/proc/PID/stat`: the kernel's USER_HZ is 100 on every architecture that we run on.
const TICK: Duration = Duration::from_millis(10);

/// What a process uses at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory in KiB.
    pub resident_kib: u64,
    /// The most that was ever resident, in KiB.
    pub peak_kib: u64,
    /// Processor time since its start, in user mode and in the kernel, in steps of 10 ms.
    pub processor: Duration,
}

impl Usage {
    /// Of the process with this id.
    ///
    /// # Errors
    /// When it has ended.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).with_context(|| format!("cannot read {path}; has the process ended?"))
        };
        let (status, stat) = (read("status")?, read("stat")?);
        let memory = |name| field(&status, name).and_then(kib);
        let ticks = ticks(&stat).with_context(|| format!("cannot understand /proc/{pid}/stat: {stat}"))?;
        Ok(Self {
            resident_kib: memory("VmRSS").context("the process has no resident memory: it has ended")?,
            peak_kib: memory("VmHWM").context("the process has no memory: it has ended")?,
            processor: TICK * ticks,
        })
    }

    /// Resident memory in MB (10^6 bytes).
    pub fn resident_mb(&self) -> f64 {
        megabytes(self.resident_kib)
    }

    /// The most that was ever resident, in MB (10^6 bytes).
    pub fn peak_mb(&self) -> f64 {
        megabytes(self.peak_kib)
    }
}

#[expect(clippy::cast_precision_loss, reason = "memory sizes are far below 2^52 KiB")]
fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

/// User and system time: fields 14 and 15, counted behind the name, which may hold anything.
fn ticks(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11);
    let user: u32 = times.next()?.parse().ok()?;
    let system: u32 = times.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_can_read_itself() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident_kib > 100 && usage.peak_kib >= usage.resident_kib);
    }

    #[test]
    fn a_name_with_spaces_does_not_shift_the_fields() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194560 1 0 0 0 7 5 0 0 20 0 1 0 1 1 1";
        assert_eq!(ticks(stat), Some(12));
    }
}
