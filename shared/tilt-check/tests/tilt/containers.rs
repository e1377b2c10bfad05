//! The scripts that stand around a program in its container, and the one that builds programs.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::root;

const DEADLINE: Duration = Duration::from_secs(60);

fn script(name: &str) -> PathBuf {
    root().join("tilt/container").join(name)
}

fn executable(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// `start` with a program that says which of its lives it is, ends with code 7 on SIGTERM, and says that too.
fn started(folder: &Path) -> Result<Child> {
    let program = folder.join("program");
    let text =
        "#!/bin/sh\ntrap 'echo ended; exit 7' TERM\necho \"started $1\"\nwhile :; do sleep 0.05; done\n";
    executable(&program, text)?;
    Command::new("sh")
        .arg(script("start"))
        .arg(program)
        .arg("with-argument")
        .env("TILT_STATE", folder)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run sh")
}

fn wait(child: &mut Child) -> Result<i32> {
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        if let Some(status) = child.try_wait()? {
            return status.code().context("killed");
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill()?;
    anyhow::bail!("it does not end")
}

#[test]
fn a_program_is_run_again_when_it_is_replaced_and_ends_its_container_otherwise() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut child = started(folder.path())?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let mut line = || lines.next().context("no more output")?.context("unreadable");
    assert_eq!(line()?, "started with-argument");
    let restarted = Command::new("sh")
        .arg(script("restart"))
        .env("TILT_STATE", folder.path())
        .status()?;
    ensure!(restarted.success());
    assert_eq!(line()?, "ended");
    assert_eq!(line()?, "started with-argument");
    // As the kubelet ends a container: the program ends in order, and its code is the container's.
    Command::new("kill").arg(child.id().to_string()).status()?;
    assert_eq!(line()?, "ended");
    assert_eq!(wait(&mut child)?, 7);
    Ok(())
}

#[test]
fn a_program_that_ends_by_itself_ends_its_container_with_its_code() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut child = Command::new("sh")
        .arg(script("start"))
        .args(["sh", "-c", "exit 3"])
        .env("TILT_STATE", folder.path())
        .spawn()?;
    assert_eq!(wait(&mut child)?, 3);
    Ok(())
}

/// What `gdbserver` is started with, for these arguments of the Go debugger's.
fn debugged(arguments: &[&str]) -> Result<String> {
    let folder = tempfile::tempdir()?;
    executable(
        &folder.path().join("gdbserver"),
        "#!/bin/sh\necho gdbserver \"$@\"\n",
    )?;
    executable(
        &folder.path().join("manager"),
        "#!/bin/sh\nwait\necho manager \"$@\"\n",
    )?;
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .arg(script("dlv"))
        .args(arguments)
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .env("TILT_MANAGER", folder.path().join("manager"))
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    Ok(text.replace(&folder.path().display().to_string(), ""))
}

#[test]
fn what_is_debugged_waits_for_its_debugger_unless_it_is_to_continue() -> Result<()> {
    let common = [
        "--accept-multiclient",
        "--api-version=2",
        "--headless=true",
        "exec",
        "--listen=:30000",
    ];
    let rest = ["--", "/manager", "--leader-elect=false"];
    let waiting = debugged(&[&common[..], &rest].concat())?;
    assert_eq!(
        waiting.trim(),
        "gdbserver --once :30000 /manager --leader-elect=false"
    );
    let continued = debugged(&[&common[..], &["--continue"], &rest].concat())?;
    let mut lines: Vec<_> = continued.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["gdbserver --multi :30000", "manager --leader-elect=false"]
    );
    Ok(())
}

/// A copy of `build` beside a cargo that writes this program.
fn build(folder: &Path, program: &str) -> Result<()> {
    fs::create_dir_all(folder.join("tilt/container"))?;
    fs::copy(root().join("tilt/build"), folder.join("tilt/build"))?;
    fs::write(folder.join("tilt/container/start"), "")?;
    let cargo = folder.join("cargo");
    executable(
        &cargo,
        &format!(
            "#!/bin/sh\necho \"$@\" >asked\nmkdir -p target/debug\nprintf %s '{program}' >target/debug/capdkc\n"
        ),
    )?;
    let status = Command::new("sh")
        .arg(folder.join("tilt/build"))
        .arg("capdkc")
        .env("CARGO", &cargo)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET")
        .status()?;
    ensure!(status.success());
    Ok(())
}

/// Inode and time of the last change of a context and of each file in it: what a watch of them sees.
fn written(context: &Path) -> Result<BTreeMap<String, (u64, i64, i64)>> {
    let state = |path: &Path| -> Result<_> {
        let of = fs::metadata(path)?;
        Ok((of.ino(), of.ctime(), of.ctime_nsec()))
    };
    let mut found = BTreeMap::from([(".".to_owned(), state(context)?)]);
    for entry in fs::read_dir(context)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        found.insert(name, state(&entry.path())?);
    }
    Ok(found)
}

#[test]
fn nothing_is_written_where_tilt_watches_but_a_program_that_has_changed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    build(folder.path(), "one")?;
    let asked = fs::read_to_string(folder.path().join("asked"))?;
    assert_eq!(asked.trim(), "build --workspace --all-features --bin capdkc");
    let context = folder.path().join(".tiltbuild/capdkc");
    let first = written(&context)?;
    ensure!(
        ["manager", "start"].iter().all(|name| first.contains_key(*name)),
        "{first:?}"
    );
    build(folder.path(), "one")?;
    assert_eq!(written(&context)?, first);
    build(folder.path(), "two")?;
    assert_eq!(fs::read_to_string(context.join("manager"))?, "two");
    let second = written(&context)?;
    ensure!(
        second.keys().eq(first.keys()),
        "something was left behind: {second:?}"
    );
    // The folder changes with the name in it.
    let changed = second
        .iter()
        .filter(|(name, state)| first.get(*name) != Some(state));
    let changed: Vec<_> = changed.map(|(name, _)| name.as_str()).collect();
    assert_eq!(changed, [".", "manager"]);
    Ok(())
}
