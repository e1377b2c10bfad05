//! Root file systems of Debian packages: by mmdebstrap where that can run, from Docker's own Debian image elsewhere.

use std::process::Stdio;

use tokio::process::Command;

use super::{Image, ImageError, context, on};
use crate::{
    docker::{Docker, LABEL, pipe_commands},
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

/// Whether the root file system of `image` is made by mmdebstrap: when Debian's image is not here already, and we
/// are root on a machine that has mmdebstrap or can install it. Everybody else has a registry that answers.
pub(super) async fn uses_mmdebstrap(docker: &Docker, image: Image) -> Result<bool, ImageError> {
    match std::env::var(BASE_VARIABLE).as_deref() {
        Ok("mmdebstrap") => return Ok(true),
        Ok("registry") => return Ok(false),
        _ => {}
    }
    let official = format!("debian:{}", image.suite().unwrap_or("stable"));
    if docker.exists("image", &official).await.map_err(on(image))? {
        return Ok(false);
    }
    let can_install = on_path("apt-get").is_some() && rustix::process::geteuid().is_root();
    Ok(can_install)
}

/// Makes the root file system and imports it as `tag`.
pub(super) async fn import(docker: &Docker, image: Image, tag: &str) -> Result<(), ImageError> {
    if on_path("mmdebstrap").is_none() {
        install(image).await?;
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
    sink.args(["import", "--change", &label, "-", tag])
        .kill_on_drop(true);
    pipe_commands(source, sink)
        .await
        .map(drop)
        .map_err(|_| ImageError::Debian {
            image: image.name(),
            output: crate::process::tail(&log, 15),
        })
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
