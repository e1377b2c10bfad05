//! Images of programs that were built on this machine, for tests that run an operator as a pod.

use std::{fs, path::Path, process::Stdio};

use tokio::process::Command;

use super::{ImageError, Images};
use crate::{docker::LABEL, tools::cache_folder};

/// Copies a program with the libraries that it loads; the same script serves inside of image builds.
const COLLECT: &str = include_str!("../../images/collect/collect");
/// What a program may read beside its libraries, where this machine has it.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// How old an image has to be before another of the same program takes its place.
const KEPT: &str = "until=1h";

/// Names images that are there already and stand for programs: `PROGRAM=IMAGE`, with commas between.
const SHIPPED: &str = "TESTKIT_SHIPPED_IMAGES";

const DOCKERFILE: &str =
    "FROM scratch\nCOPY root/ /\nENV PATH=/usr/bin\nUSER 65532:65532\nENTRYPOINT [\"/manager\"]\n";

impl Images {
    /// An image of `program` with the libraries of this machine that it loads, under a tag of its own. The program is
    /// `/manager`, which the image runs as a user without rights, and `name` on the `PATH`.
    ///
    /// Earlier images of the same name go when they are an hour old.
    ///
    /// Where `TESTKIT_SHIPPED_IMAGES` is set, it is the image that this names for `name`.
    pub async fn of_program(&self, name: &str, program: &Path) -> Result<String, ImageError> {
        let failed = |why: String| ImageError::Program {
            program: program.to_owned(),
            why,
        };
        if let Some(images) = std::env::var(SHIPPED).ok().filter(|images| !images.is_empty()) {
            return shipped(&images, name).ok_or_else(|| {
                failed(format!(
                    "{SHIPPED} is {images:?}: name one for {name} or unset it"
                ))
            });
        }
        let parent = cache_folder()?.join("contexts");
        fs::create_dir_all(&parent).map_err(|error| failed(error.to_string()))?;
        let context = tempfile::tempdir_in(&parent).map_err(|error| failed(error.to_string()))?;
        let root = context.path().join("root");
        collect(&root, program).await.map_err(failed)?;
        arrange(context.path(), name, program).map_err(|error| failed(error.to_string()))?;
        let label = format!("{LABEL}.program={name}");
        let prune = ["image", "prune", "--all", "--force", "--filter", KEPT, "--filter"];
        self.docker
            .run(&[&prune[..], &[&format!("label={label}")]].concat())
            .await
            .map_err(|error| failed(error.to_string()))?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let tag = format!("{LABEL}/{name}:{}", &id[..12]);
        let folder = context.path().to_string_lossy();
        // Without the cache, so that its age is its own.
        let build = [
            "build",
            "--quiet",
            "--no-cache",
            "--label",
            &label,
            "--tag",
            &tag,
            &folder,
        ];
        self.docker
            .run(&build)
            .await
            .map_err(|error| failed(error.to_string()))?;
        Ok(tag)
    }
}

/// The image of the program `name` among `images`.
fn shipped(images: &str, name: &str) -> Option<String> {
    let mut pairs = images.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(program, _)| *program == name)
        .map(|(_, image)| image.to_owned())
}

/// Copies the program and its libraries below `root`, each where it is on this machine.
async fn collect(root: &Path, program: &Path) -> Result<(), String> {
    let mut command = Command::new("bash");
    command.args(["-c", COLLECT, "collect"]).arg(root).arg(program);
    if Path::new(CERTIFICATES).is_file() {
        command.arg(CERTIFICATES);
    }
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("cannot run bash: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// Puts the program where images have it.
fn arrange(context: &Path, name: &str, program: &Path) -> std::io::Result<()> {
    let root = context.join("root");
    let copied = root.join(program.strip_prefix("/").unwrap_or(program));
    fs::rename(copied, root.join("manager"))?;
    std::os::unix::fs::symlink("/manager", root.join("usr/bin").join(name))?;
    fs::write(context.join("Dockerfile"), DOCKERFILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shipped_image_stands_for_its_program_and_no_other() {
        let images = "capdkc=capdkc:v1,mysql-operator=nairobi-mysql-operator:v1";
        let found = |name| shipped(images, name);
        assert_eq!(
            found("mysql-operator").as_deref(),
            Some("nairobi-mysql-operator:v1")
        );
        assert_eq!((found("mysql"), found("dynamoctl")), (None, None));
    }
}
