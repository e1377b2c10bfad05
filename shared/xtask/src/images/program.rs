//! Static programs, built on this machine.
//!
//! With glibc from 2.34 on, names are looked up by code of libc itself (`files` and `dns`), so a static program finds
//! addresses in an image that has no library. With musl the same holds anyway.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use super::{IMAGES, Image};
use crate::workspace::{self, Metadata};

/// The cargo profile.
const PROFILE: &str = "image";

/// What is compiled for.
pub(super) struct Target(String);

impl Target {
    /// The triple that was asked for, or this machine's.
    pub(super) fn parse(triple: Option<&str>) -> Result<Self> {
        let own = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let target = Self(triple.map_or(own, str::to_owned));
        ensure!(
            target.0.contains("-linux-") && !target.architecture().is_empty(),
            "images are made for x86_64 and aarch64 Linux, not for {}",
            target.0
        );
        Ok(target)
    }

    /// As images name it; empty for one that no image is made for.
    pub(super) fn architecture(&self) -> &'static str {
        match self.0.split('-').next() {
            Some("x86_64") => "amd64",
            Some("aarch64") => "arm64",
            _ => "",
        }
    }
}

/// Builds the programs of `images`, all in one run of cargo, and returns where they are.
pub(super) fn build(images: &[&Image], target: &Target) -> Result<Vec<PathBuf>> {
    let triple = &target.0;
    let mut command = workspace::cargo("build");
    command.args(["--profile", PROFILE, "--target", triple]);
    // The packages of all, whichever programs are wanted: the selection decides about the features of what they share,
    // and an image is to be the same whether it is made alone or not.
    command.args(IMAGES.iter().map(|image| format!("--package={}", image.package)));
    command.args(images.iter().map(|image| format!("--bin={}", image.program)));
    let variable = format!(
        "CARGO_TARGET_{}_RUSTFLAGS",
        triple.to_uppercase().replace('-', "_")
    );
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        // They would take the place of ours.
        command.env_remove(name);
    }
    command.env(variable, flags()?);
    workspace::run(&mut command)?;
    let folder = Metadata::read()?.target_directory.join(triple).join(PROFILE);
    Ok(images.iter().map(|image| folder.join(image.program)).collect())
}

/// Static, and without the paths of this machine in messages.
fn flags() -> Result<String> {
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")),
        |home| Some(PathBuf::from(home)),
    );
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    Ok(format!(
        "-C target-feature=+crt-static --remap-path-prefix={}=/operators --remap-path-prefix={}=/cargo",
        workspace::root().display(),
        home.display()
    ))
}

/// Fails if `program` is no ELF program or wants an interpreter, which is what loads libraries.
pub(super) fn ensure_static(program: &Path) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    match wants_interpreter(&bytes) {
        Some(false) => Ok(()),
        Some(true) => bail!(
            "{} loads libraries, of which an image has none; compile it with -C target-feature=+crt-static",
            program.display()
        ),
        None => bail!("{} is no 64-bit program for Linux", program.display()),
    }
}

/// Whether one of the program's headers is `PT_INTERP`; nothing if there are no headers to be read.
fn wants_interpreter(bytes: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    if bytes.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    let number = |at: usize, length: usize| {
        let mut all = [0; 8];
        all[..length].copy_from_slice(bytes.get(at..at.checked_add(length)?)?);
        usize::try_from(u64::from_le_bytes(all)).ok()
    };
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        if number(start.checked_add(index.checked_mul(size)?)?, 4)? == PT_INTERP as usize {
            return Some(true);
        }
    }
    Some(false)
}

/// The smallest file that passes for a static program.
#[cfg(test)]
pub(super) fn static_elf() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..5].copy_from_slice(b"\x7fELF\x02");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_loads_libraries_is_told_from_one_that_does_not() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(wants_interpreter(&own), Some(true));
        assert_eq!(wants_interpreter(&static_elf()), Some(false));
        assert_eq!(wants_interpreter(b"#!/bin/sh"), None);
        assert_eq!(wants_interpreter(&own[..40]), None);
    }

    #[test]
    fn images_are_made_for_two_architectures_of_linux() {
        for (triple, architecture) in [
            ("x86_64-unknown-linux-musl", "amd64"),
            ("aarch64-unknown-linux-gnu", "arm64"),
        ] {
            assert_eq!(Target::parse(Some(triple)).unwrap().architecture(), architecture);
        }
        assert!(Target::parse(Some("x86_64-apple-darwin")).is_err());
        assert!(Target::parse(Some("riscv64gc-unknown-linux-gnu")).is_err());
    }
}
