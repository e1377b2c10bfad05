//! The scripts run here for real, in a folder of their own: what counts is what a shell makes of them.

use std::{
    io::Write as _,
    path::Path,
    process::{Command as Process, Stdio},
    time::Instant,
};

use super::*;
use crate::cloud_config::{Encoding, parse};

struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn drive(&self, script: &str) -> String {
        self.drive_with(script, &std::env::var("PATH").unwrap())
    }

    fn drive_with(&self, script: &str, path: &str) -> String {
        let mut process = Process::new("sh")
            .env("PATH", path)
            .args([
                "-c",
                DRIVER,
                "capdkc",
                &self.path("state"),
                &script.len().to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Standard input stays open, as it does over Docker's hijacked connection.
        let mut stdin = process.stdin.take().unwrap();
        let _ = stdin.write_all(script.as_bytes());
        let output = process.wait_with_output().unwrap();
        drop(stdin);
        String::from_utf8(output.stdout).unwrap()
    }

    fn script(&self, config: &CloudConfig, limit: u64) -> String {
        let parameters = Parameters {
            provider_id: "docker:////m.ns",
            time_limit: Duration::from_secs(limit),
            state_dir: &self.path("state"),
        };
        // The machine that runs the tests may have a runtime of its own; this is about the script.
        render(config, &parameters).replace(WAIT_FOR_SERVICES, "")
    }

    fn run(&self, yaml: &str, limit: u64) -> String {
        self.drive(&self.script(&parse(yaml, "h").unwrap(), limit))
    }
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn files_arrive_byte_for_byte_with_their_permissions() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Node::new();
    let nasty = "it's $HOME `x` \\ CONTENT\nCONTENT\n\"%s\"\nno newline at end";
    let file = |name: &str, content: &str, encoding, append| File {
        path: node.path(name),
        content: content.to_owned(),
        encoding,
        owner: "root:root".into(),
        permissions: "0640".into(),
        append,
    };
    let zipped = "H4sIAAAAAAAAA8tIzcnJBwCGphA2BQAAAA==";
    let config = CloudConfig {
        files: vec![
            file("a/b c/plain", nasty, Encoding::default(), false),
            file("a/b c/plain", " and more", Encoding::default(), true),
            file(
                "b64",
                "aGVs\n bG8=",
                Encoding {
                    base64: true,
                    gzip: false,
                },
                false,
            ),
            file(
                "zipped",
                zipped,
                Encoding {
                    base64: true,
                    gzip: true,
                },
                false,
            ),
        ],
        ..CloudConfig::default()
    };
    let output = node.drive(&node.script(&config, 30));
    assert!(output.contains("exit 0"), "{output}");
    assert_eq!(read(node.path("a/b c/plain")), format!("{nasty} and more"));
    assert_eq!(read(node.path("b64")), "hello");
    assert_eq!(
        std::fs::metadata(node.path("b64")).unwrap().permissions().mode() & 0o777,
        0o640
    );
}

#[test]
fn commands_run_in_order_in_both_forms_and_the_first_failure_ends_it() {
    let node = Node::new();
    let out = node.path("out");
    let yaml = format!(
        "bootcmd:\n- echo boot >> {out}\nruncmd:\n- [sh, -c, 'echo \"$1\" >> {out}', x, \"it's two\"]\n- echo failing; exit 7\n- echo never >> {out}\n"
    );
    let output = node.run(&yaml, 30);
    assert_eq!(read(&out), "boot\nit's two\n");
    assert!(output.contains("exit 7\nfailing"), "{output}");
    assert!(output.contains("step 4 of 5: runcmd 2"), "{output}");
}

/// They end up in a condition.
#[test]
fn steps_tell_nothing_of_the_data_but_where_kubeadms_configuration_lies() {
    let yaml = "bootcmd: [login hunter2]
write_files: [{path: /etc/hunter2}, {path: /run/kubeadm/kubeadm.yaml}]
users: [{name: hunter2, passwd: hunter2}]
runcmd: [kubeadm init --token hunter2, [login, hunter2]]
";
    let script = Node::new().script(&parse(yaml, "h").unwrap(), 30);
    let steps: Vec<_> = script
        .lines()
        .filter_map(|line| line.strip_prefix("step "))
        .collect();
    assert_eq!(
        steps[1..],
        [
            "'2 of 7: bootcmd 1'",
            "'3 of 7: write_files 1'",
            "'4 of 7: write_files 2 (/run/kubeadm/kubeadm.yaml)'",
            "'5 of 7: users 1'",
            "'6 of 7: runcmd 1 (kubeadm)'",
            "'7 of 7: runcmd 2'",
        ]
    );
}

#[test]
fn a_second_controller_finds_the_outcome_and_runs_nothing() {
    let node = Node::new();
    let yaml = format!("runcmd:\n- echo once >> {}\n", node.path("out"));
    assert!(node.run(&yaml, 30).contains("exit 0"));
    assert!(node.run(&yaml, 30).contains("exit 0"));
    assert!(node.drive("").contains("exit 0"));
    assert_eq!(read(node.path("out")), "once\n");
}

#[test]
fn a_script_that_is_started_twice_runs_once() {
    let node = Node::new();
    std::fs::create_dir(node.path("state")).unwrap();
    let yaml = format!("runcmd:\n- echo once >> {}\n", node.path("out"));
    let script = node.script(&parse(&yaml, "h").unwrap(), 30);
    for _ in 0..2 {
        std::fs::write(node.path("run"), &script).unwrap();
        let started = Process::new("setsid")
            .args(["--wait", "sh", &node.path("run")])
            .status()
            .unwrap();
        assert!(started.success());
    }
    assert_eq!(read(node.path("out")), "once\n");
}

#[test]
fn a_node_that_was_never_bootstrapped_says_so() {
    assert_eq!(Node::new().drive(""), "absent\n");
}

#[test]
fn a_bootstrap_cut_off_by_a_restart_is_told_from_a_running_one() {
    let node = Node::new();
    std::fs::create_dir_all(node.path("state/started")).unwrap();
    assert!(node.drive("").contains("interrupted"), "no pid");
    std::fs::write(node.path("state/started/pid"), std::process::id().to_string()).unwrap();
    std::fs::write(node.path("state/started/boot"), "of another boot\n").unwrap();
    assert!(
        node.drive("").contains("interrupted"),
        "the pid is another process's by now"
    );
}

/// A controller comes to look right after the script's first act: the process says who it is while the driver waits.
#[test]
fn a_bootstrap_that_begins_this_moment_is_not_taken_for_one_that_was_cut_off() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Node::new();
    std::fs::create_dir_all(node.path("state/started")).unwrap();
    std::fs::create_dir(node.path("bin")).unwrap();
    let waits = format!(
        "#!/bin/sh\ncd {}\nif [ -e started/pid ]; then echo 0 > exit.tmp && mv exit.tmp exit; exit; fi\n\
         cut -d' ' -f22 /proc/1/stat > started/boot\necho {} > pid.tmp && mv pid.tmp started/pid\n",
        node.path("state"),
        std::process::id()
    );
    std::fs::write(node.path("bin/sleep"), waits).unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(node.path("bin/sleep"), executable).unwrap();
    let path = format!("{}:{}", node.path("bin"), std::env::var("PATH").unwrap());
    assert_eq!(node.drive_with("", &path), "exit 0\n");
}

#[test]
fn a_hanging_command_is_ended_at_the_limit_with_its_children() {
    let node = Node::new();
    let started = Instant::now();
    let output = node.run(
        &format!(
            "runcmd:\n- echo $$ > {0}; sleep 60 & echo $! > {0}2; wait\n",
            node.path("pid")
        ),
        1,
    );
    assert!(output.contains("exit 124"), "{output}");
    assert!(started.elapsed() < Duration::from_secs(20));
    let deadline = Instant::now() + Duration::from_secs(10);
    for name in ["pid", "pid2"] {
        let process = format!("/proc/{}", read(node.path(name)).trim());
        while Path::new(&process).exists() && !read(format!("{process}/stat")).contains(") Z ") {
            assert!(Instant::now() < deadline, "{process} still runs");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_script_that_arrives_in_part_is_not_started() {
    let node = Node::new();
    let script = node.script(&parse("runcmd: [exit 0]", "h").unwrap(), 30);
    let mut process = Process::new("sh")
        .args([
            "-c",
            DRIVER,
            "capdkc",
            &node.path("state"),
            &(script.len() + 1).to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    process
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    let output = process.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "truncated\n");
    assert!(!Path::new(&node.path("state/started")).exists());
}

#[test]
fn the_script_leaves_no_copy_of_the_keys_behind() {
    let node = Node::new();
    let yaml = format!(
        "write_files:\n- path: {}\n  content: hunter2\nruncmd: [exit 3]\n",
        node.path("key")
    );
    let output = node.run(&yaml, 30);
    assert!(!output.contains("hunter2"), "{output}");
    let left = std::fs::read_dir(node.path("state")).unwrap();
    let names: Vec<_> = left
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!names.iter().any(|name| name.starts_with("run.")), "{names:?}");
}
