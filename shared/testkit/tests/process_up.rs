//! `testkit up` as a process: it does what it says, and nothing of it stays behind, however it ends.
#![cfg(feature = "dynamodb")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

/// `testkit up` with 2,000 items, keeping its temporary files in `scratch`.
fn up(scratch: &Path, arguments: &[&str]) -> Result<Child> {
    let testkit = PathBuf::from(env!("CARGO_BIN_EXE_testkit"));
    let programs = testkit.parent().context("a program has no folder")?;
    let operator = programs.join("dynamoctl");
    ensure!(
        operator.is_file(),
        "{} is not built: cargo build --workspace --all-features --bins",
        operator.display()
    );
    Command::new(&testkit)
        .arg("up")
        .arg("--project")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .arg("--programs")
        .arg(programs)
        .args(["--items", "2000"])
        .args(arguments)
        .env("TMPDIR", scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start testkit")
}

/// Reads what `up` prints until a line contains `words`; returns all of it.
fn read_until(child: &mut Child, words: &str) -> Result<String> {
    let mut seen = String::new();
    for line in BufReader::new(child.stderr.take().context("no output")?).lines() {
        let line = line?;
        seen.push_str(&line);
        seen.push('\n');
        if line.contains(words) {
            break;
        }
    }
    Ok(seen)
}

/// Processes that work in `folder` or have it on their command line.
fn processes_of(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let named = folder.to_string_lossy().into_owned();
    let describe = |process: PathBuf| {
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let works_there = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        (works_there || command.contains(&named)).then_some(command)
    };
    entries
        .flatten()
        .filter_map(|entry| describe(entry.path()))
        .collect()
}

/// Fails unless within 20 s no process and no file is left.
fn assert_nothing_left(scratch: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let processes = processes_of(scratch);
        let files: Vec<_> = fs::read_dir(scratch)?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        if processes.is_empty() && files.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "left behind: {processes:?}, {files:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn up_empties_a_partition_proves_it_and_leaves_nothing_behind() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let output = up(scratch.path(), &["--once"])?.wait_with_output()?;
    let shown = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}:\n{shown}", output.status);
    for words in [
        "NAME",
        "PROGRESS",
        "0 items left in tenant-42",
        "first resource ready after",
    ] {
        ensure!(shown.contains(words), "{words} is missing:\n{shown}");
    }
    assert_nothing_left(scratch.path())
}

#[test]
fn a_killed_up_takes_its_servers_and_files_with_it() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let mut child = up(scratch.path(), &[])?;
    let shown = read_until(&mut child, "export KUBECONFIG=")?;
    child.kill()?;
    child.wait()?;
    ensure!(
        shown.contains("export KUBECONFIG="),
        "it ended by itself:\n{shown}"
    );
    assert_nothing_left(scratch.path())
}
