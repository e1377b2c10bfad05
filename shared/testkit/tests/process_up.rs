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
use rustix::process::{Pid, Signal, kill_process};

/// `testkit up dynamodb` with 2,000 items, keeping its temporary files in `scratch`.
fn up(scratch: &Path, arguments: &[&str]) -> Result<Child> {
    let mut command = up_of("dynamodb", &["dynamoctl"], scratch)?;
    let child = command.args(["--items", "2000"]).args(arguments).spawn();
    child.context("cannot start testkit")
}

/// `testkit up OPERATOR`, which needs `programs`.
fn up_of(operator: &str, programs: &[&str], scratch: &Path) -> Result<Command> {
    let testkit = PathBuf::from(env!("CARGO_BIN_EXE_testkit"));
    let folder = testkit.parent().context("a program has no folder")?;
    for program in programs {
        let program = folder.join(program);
        ensure!(
            program.is_file(),
            "{} is not built: cargo build --workspace --all-features --bins",
            program.display()
        );
    }
    let mut command = Command::new(&testkit);
    command
        .args(["up", operator])
        .arg("--project")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .arg("--programs")
        .arg(folder)
        .env("TMPDIR", scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    Ok(command)
}

/// Reads what `up` prints until a line contains `words`; returns all of it. The rest can be read too.
fn read_until(child: &mut Child, words: &str) -> Result<String> {
    let mut seen = String::new();
    let output = child.stderr.as_mut().context("no output")?;
    for line in BufReader::with_capacity(1, output).lines() {
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

#[test]
fn without_docker_up_launches_instances_that_run_nothing_and_counts_them() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let mut command = up_of("mysql", &["mysql-operator", "fake-ec2"], scratch.path())?;
    // A daemon that does not answer.
    command.arg("--once").env("DOCKER_HOST", "tcp://127.0.0.1:1");
    let output = command.spawn()?.wait_with_output()?;
    let shown = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}:\n{shown}", output.status);
    for words in [
        "instances will run no MySQL, since there is no Docker",
        "asked EC2 itself: 3 instances run",
    ] {
        ensure!(shown.contains(words), "{words} is missing:\n{shown}");
    }
    assert_nothing_left(scratch.path())
}

/// Interrupts `up` when it has printed `words`; returns whether it then ended well, and how long it took.
fn interrupted_at(words: &str, arguments: &[&str]) -> Result<(bool, Duration)> {
    let scratch = tempfile::tempdir()?;
    let mut child = up(scratch.path(), arguments)?;
    let shown = read_until(&mut child, words)?;
    ensure!(shown.contains(words), "{words} was never printed:\n{shown}");
    let interrupted = Instant::now();
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.context("no process id")?, Signal::INT)?;
    let rest = child.wait_with_output()?;
    let took = interrupted.elapsed();
    let told = String::from_utf8_lossy(&rest.stderr).into_owned();
    ensure!(
        told.contains("everything that was started has ended"),
        "not told:\n{told}"
    );
    assert_nothing_left(scratch.path())?;
    Ok((rest.status.success(), took))
}

#[test]
fn ctrl_c_ends_up_at_any_moment_and_leaves_nothing_behind() -> Result<()> {
    for words in ["writing 2000 items", "applying", "It keeps running until Ctrl-C"] {
        let (well, took) = interrupted_at(words, &[])?;
        ensure!(well, "interrupted at {words:?}, it failed");
        // The operator alone may take 15 s to end in good order.
        ensure!(
            took < Duration::from_secs(25),
            "interrupted at {words:?}: {took:?}"
        );
    }
    Ok(())
}

#[test]
fn an_interrupted_up_does_not_claim_that_the_job_is_done() -> Result<()> {
    let (well, _) = interrupted_at("applying", &["--once"])?;
    ensure!(!well, "`--once` ended well although the job had not");
    Ok(())
}

#[test]
fn two_ups_do_not_disturb_each_other() -> Result<()> {
    let (one, another) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let running = [up(one.path(), &["--once"])?, up(another.path(), &["--once"])?];
    for child in running {
        let output = child.wait_with_output()?;
        let shown = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}:\n{shown}", output.status);
    }
    Ok(())
}

#[test]
fn what_up_cannot_do_is_refused_with_what_it_can() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let testkit = Path::new(env!("CARGO_BIN_EXE_testkit"));
    let programs = testkit.parent().and_then(Path::to_str).context("no folder")?;
    for (wrong, advice) in [
        (["nosuch"].as_slice(), "there are: dynamodb"),
        (&["--project", "/", "--programs", programs], "no CRDs in /crds"),
        (&["--programs", "/"], "`cargo xtask up` builds it"),
        (&["--items", "many"], "invalid value 'many'"),
    ] {
        let mut command = Command::new(testkit);
        command.arg("up").args(wrong).env("TMPDIR", scratch.path());
        let output = command
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
            .output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success(), "{wrong:?} was accepted");
        ensure!(told.contains(advice), "{wrong:?}: {told}");
    }
    assert_nothing_left(scratch.path())
}
