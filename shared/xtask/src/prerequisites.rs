//! Programs that a run needs and that a package of the system has: installed on Debian as root, named with the
//! command that installs them elsewhere.

use std::{fs, os::unix::fs::MetadataExt, process::Command};

use anyhow::{Result, bail};

use crate::workspace;

/// A program and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    name: &'static str,
    packages: &'static [&'static str],
    purpose: &'static str,
}

/// DynamoDB Local, the second opinion, is a Java program that Maven fetches.
pub(crate) const DYNAMODB_LOCAL: [Program; 2] = [
    Program {
        name: "java",
        packages: &["default-jre-headless"],
        purpose: "runs DynamoDB Local",
    },
    Program {
        name: "mvn",
        packages: &["maven"],
        purpose: "fetches DynamoDB Local",
    },
];

/// What compiles the cryptography.
pub(crate) const COMPILER: [Program; 1] = [Program {
    name: "cc",
    packages: &["gcc", "libc6-dev"],
    purpose: "compiles aws-lc",
}];

/// Makes sure that `programs` are there. Installs what is missing where that is possible.
pub(crate) fn ensure(programs: &[Program]) -> Result<()> {
    let missing: Vec<_> = programs.iter().filter(|program| !on_path(program.name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = missing
        .iter()
        .flat_map(|program| program.packages)
        .copied()
        .collect();
    packages.sort_unstable();
    packages.dedup();
    if !(on_path("apt-get") && is_root()) {
        bail!("{}", explanation(&missing, &packages));
    }
    eprintln!("installing {}", packages.join(" "));
    workspace::run(apt_get().args(["update", "-q"]))?;
    workspace::run(
        apt_get()
            .args(["install", "-q", "-y", "--no-install-recommends"])
            .args(&packages),
    )
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn explanation(missing: &[&Program], packages: &[&str]) -> String {
    let lacks: Vec<_> = missing
        .iter()
        .map(|program| format!("{} ({})", program.name, program.purpose))
        .collect();
    format!(
        "missing: {}. On Debian or Ubuntu install it with `sudo apt-get install {}`, elsewhere with the package \
         manager that you use, and run the command again",
        lacks.join(", "),
        packages.join(" ")
    )
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_installed() {
        let present = Program {
            name: "sh",
            packages: &["no-such-package"],
            purpose: "shell",
        };
        ensure(&[present]).unwrap();
    }

    #[test]
    fn what_cannot_be_installed_is_named_with_the_command() {
        let message = explanation(&[&DYNAMODB_LOCAL[1]], &["maven"]);
        assert!(message.contains("mvn (fetches DynamoDB Local)"), "{message}");
        assert!(message.contains("`sudo apt-get install maven`"), "{message}");
    }
}
