//! Root file systems of Debian packages: by mmdebstrap where that can run, from Docker's own Debian image elsewhere.

use std::process::Stdio;

use tokio::process::Command;

use super::{Image, ImageError, context, on};
use crate::{
    docker::{Docker, DockerError, LABEL, pipe_commands},
    progress::Step,
    tools::{cache_folder, on_path},
};

/// Says which way to go instead of finding out: `mmdebstrap` or `registry`.
const BASE_VARIABLE: &str = "TESTKIT_DEBIAN_BASE";
/// A mirror of Debian to use instead of the default one.
const MIRROR_VARIABLE: &str = "TESTKIT_DEBIAN_MIRROR";

/// What no container reads.
pub(super) const LEFT_OUT: [&str; 7] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/lib/mysql-test/*",
    "/usr/lib/udev/hwdb.*",
];

/// Where the root file system of an image comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// From Debian packages, by mmdebstrap.
    Mmdebstrap,
    /// From Docker's own Debian image, which is here or is pulled.
    Registry,
}

/// Where the root file system of `image` comes from.
pub(super) async fn base(docker: &Docker, image: Image) -> Result<Base, ImageError> {
    let wanted = std::env::var(BASE_VARIABLE).ok();
    let official = format!("debian:{}", image.suite().unwrap_or("stable"));
    let is_here = docker.exists("image", &official).await.map_err(on(image))?;
    let can_install = on_path("apt-get").is_some() && rustix::process::geteuid().is_root();
    choose(wanted.as_deref(), is_here, can_install)
}

/// What is wanted; else Debian's image where it is here already; else mmdebstrap where we are root on a machine that
/// has it or can install it, which needs no registry. Everybody else needs one.
fn choose(wanted: Option<&str>, is_here: bool, can_install: bool) -> Result<Base, ImageError> {
    match wanted {
        Some("mmdebstrap") => Ok(Base::Mmdebstrap),
        Some("registry") => Ok(Base::Registry),
        Some(other) if !other.is_empty() => Err(ImageError::Base(other.to_owned())),
        _ if is_here || !can_install => Ok(Base::Registry),
        _ => Ok(Base::Mmdebstrap),
    }
}

/// Makes the root file system and imports it as `tag`, which stands for a whole one: Docker takes the beginning of an
/// archive, and even nothing, for an image.
pub(super) async fn import(docker: &Docker, image: Image, tag: &str) -> Result<(), ImageError> {
    if on_path("mmdebstrap").is_none() {
        // Images are made side by side, and packages one after the other.
        let _lock = super::lock("packages", image).await?;
        if on_path("mmdebstrap").is_none() {
            install(image).await?;
        }
    }
    let log = cache_folder()?.join(format!("mmdebstrap-{}.log", image.name()));
    let file = |source| ImageError::File {
        image: image.name(),
        path: log.clone(),
        source,
    };
    let said = std::fs::File::create(&log).map_err(file)?;
    let mut source = Command::new("mmdebstrap");
    source.args(arguments(image)?).stderr(said).kill_on_drop(true);
    let mut sink = Command::new(docker.program());
    let label = format!("LABEL {LABEL}.image={}", image.name());
    let unchecked = format!("{tag}-unchecked");
    sink.args(["import", "--change", &label, "-", &unchecked])
        .kill_on_drop(true);
    let imported = pipe_commands(source, sink).await.map(drop);
    let named = match imported {
        Ok(()) => docker.run(&["tag", &unchecked, tag]).await.map(drop),
        Err(error) => Err(error),
    };
    // Where there is none, nothing was imported.
    docker.run(&["image", "rm", &unchecked]).await.ok();
    named.map_err(|error| match error {
        DockerError::Failed { command, .. } if !is_dockers(&command) => ImageError::Debian {
            image: image.name(),
            output: crate::process::tail(&log, 15),
        },
        error => on(image)(error),
    })
}

/// Whether the command was one of Docker's, and not mmdebstrap.
fn is_dockers(command: &str) -> bool {
    ["docker import", "docker tag"]
        .iter()
        .any(|docker| command.starts_with(docker))
}

fn arguments(image: Image) -> Result<Vec<String>, ImageError> {
    let folder = image.folders().first().copied().unwrap_or_default();
    let files = context::files(image, folder)?;
    let packages = files.iter().find(|(path, ..)| path.as_os_str() == "packages");
    let packages = packages.map_or_else(String::new, |(.., content)| {
        String::from_utf8_lossy(content)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(",")
    });
    let mut arguments = vec![
        "--variant=minbase".to_owned(),
        format!("--include={packages}"),
        // A machine whose clock is ahead of the mirror's last update is no reason to fail.
        "--aptopt=Acquire::Check-Valid-Until \"false\"".to_owned(),
    ];
    for left_out in LEFT_OUT {
        arguments.push(format!("--dpkgopt=path-exclude={left_out}"));
    }
    arguments.extend([image.suite().unwrap_or("stable").to_owned(), "-".to_owned()]);
    arguments.extend(std::env::var(MIRROR_VARIABLE));
    Ok(arguments)
}

async fn install(image: Image) -> Result<(), ImageError> {
    let step = Step::start("installing mmdebstrap");
    for arguments in [
        ["update", "--quiet"].as_slice(),
        &[
            "install",
            "--yes",
            "--no-install-recommends",
            "--option=DPkg::Lock::Timeout=300",
            "mmdebstrap",
            "debian-archive-keyring",
        ],
    ] {
        let output = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| ImageError::File {
                image: image.name(),
                path: "apt-get".into(),
                source,
            })?;
        if !output.status.success() {
            let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(ImageError::Debian {
                image: image.name(),
                output,
            });
        }
    }
    step.done();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_what_is_wanted_then_what_is_here_then_what_needs_no_registry() {
        for (wanted, is_here, can_install, expected) in [
            (None, true, true, Base::Registry),
            (None, false, true, Base::Mmdebstrap),
            (None, false, false, Base::Registry),
            (Some(""), false, true, Base::Mmdebstrap),
            (Some("registry"), false, true, Base::Registry),
            (Some("mmdebstrap"), true, false, Base::Mmdebstrap),
        ] {
            let chosen = choose(wanted, is_here, can_install).unwrap();
            assert_eq!(chosen, expected, "{wanted:?} {is_here} {can_install}");
        }
        let error = choose(Some("registy"), true, true).unwrap_err().to_string();
        assert!(
            error.contains("\"registy\"") && error.contains("`registry`"),
            "{error}"
        );
    }
}
