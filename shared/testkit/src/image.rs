//! The container images of the test bed, built on this machine: no registry is needed.
//!
//! Each is described by a folder under `shared/testkit/images` and the tools that go into it. Its tag is a hash over
//! all of that, so that an image is built once, is built again when anything in it changes, and never stands for
//! something else: `operators-testbed/<name>:<hash>`.
//!
//! # Guarantees
//! - An image under its tag is complete: an interrupted build leaves none.
//! - Two processes never build the same image at the same time.
//! - No tag outside `operators-testbed/` is ever written; names that Kubernetes expects exist inside nodes only.

mod catalogue;
mod context;
mod debian;
mod node;
mod program;

use std::{fs::File, io, path::PathBuf};

use futures::future::{BoxFuture, try_join_all};

pub use catalogue::Image;
use context::Context;
use debian::Base;
pub(crate) use node::POD_NETWORK_NAME;

use crate::{
    docker::{Docker, DockerError, LABEL},
    progress::Step,
    tools::{self, ToolError, blocking, cache_folder},
};

/// Why an image is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Docker refused.
    #[error("image {image}: {source}")]
    Docker {
        /// The image.
        image: &'static str,
        /// The reason.
        source: Box<DockerError>,
    },
    /// A tool that goes into it could not be built.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A file could not be read or written.
    #[error("image {image}: {}: {source}", .path.display())]
    File {
        /// The image.
        image: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The root file system could not be made.
    #[error("image {image}: mmdebstrap failed; the end of what it said:\n{output}")]
    Debian {
        /// The image.
        image: &'static str,
        /// The end of its log.
        output: String,
    },
    /// The choice of a base is none.
    #[error("TESTKIT_DEBIAN_BASE is {0:?}: set it to `mmdebstrap` or `registry`, or unset it")]
    Base(String),
    /// An image of a program of this machine could not be made.
    #[error("image of {}: {why}", .program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// The reason.
        why: String,
    },
    /// kubeadm wants an image that the test bed does not make.
    #[error("image node: kubeadm wants {0}, for which the test bed has no image; add it to image/node.rs")]
    Unknown(String),
}

/// Builds images and knows which are there.
#[derive(Clone, Debug)]
pub struct Images {
    docker: Docker,
}

impl Images {
    /// The images in this daemon.
    pub fn new(docker: &Docker) -> Self {
        Self {
            docker: docker.clone(),
        }
    }

    /// The tag of `image`, after building it and what it is made of where missing. A few minutes for the first, less
    /// than a second when there is nothing to do.
    pub async fn ensure(&self, image: Image) -> Result<String, ImageError> {
        self.ensure_all(&[image])
            .await
            .map(|mut tags| tags.pop().unwrap_or_default())
    }

    /// [`Images::ensure`] for several, at the same time. The tags are in the order of `images`.
    pub async fn ensure_all(&self, images: &[Image]) -> Result<Vec<String>, ImageError> {
        let mut programs = Vec::new();
        for &image in images {
            if !self.is_there(image).await? {
                image.all_tools(&mut programs);
            }
        }
        // One compilation for all of them is faster than one for each.
        tools::ensure_pinned(&programs).await?;
        try_join_all(images.iter().map(|&image| self.ensure_built(image))).await
    }

    /// The bytes that `image` takes on disk, layers shared with others included.
    pub async fn size(&self, image: Image) -> Result<u64, ImageError> {
        let tag = image.tag()?;
        let printed = self
            .docker
            .run(&["image", "inspect", "--format", "{{.Size}}", &tag])
            .await;
        Ok(printed.map_err(on(image))?.trim().parse().unwrap_or(0))
    }

    /// Removes images of the test bed that are no longer what the source says, and returns their tags. One that a
    /// container uses stays.
    pub async fn prune(&self) -> Result<Vec<String>, ImageError> {
        let current = Image::ALL
            .into_iter()
            .map(Image::tag)
            .collect::<Result<Vec<_>, _>>()?;
        let filter = format!("label={LABEL}.image");
        let list = [
            "images",
            "--filter",
            &filter,
            "--format",
            "{{.Repository}}:{{.Tag}}",
        ];
        let listed = self.docker.run(&list).await.map_err(on(Image::Toolbox))?;
        let mut removed = Vec::new();
        for tag in listed.lines().filter(|tag| is_outdated(tag, &current)) {
            if self.docker.run(&["image", "rm", tag]).await.is_ok() {
                removed.push(tag.to_owned());
            }
        }
        Ok(removed)
    }

    async fn is_there(&self, image: Image) -> Result<bool, ImageError> {
        let tag = image.tag()?;
        self.docker.exists("image", &tag).await.map_err(on(image))
    }

    fn ensure_built(&self, image: Image) -> BoxFuture<'_, Result<String, ImageError>> {
        Box::pin(async move {
            let tag = image.tag()?;
            if self.is_there(image).await? {
                return Ok(tag);
            }
            for part in image.parts() {
                self.ensure_built(part).await?;
            }
            let _lock = lock(image.name(), image).await?;
            // Another process may have built it while this one waited.
            if !self.is_there(image).await? {
                let step = Step::start(format!("making image {}", image.name()));
                self.build(image, &tag).await?;
                step.done();
            }
            Ok(tag)
        })
    }

    async fn build(&self, image: Image, tag: &str) -> Result<(), ImageError> {
        if image.suite().is_some() && debian::base(&self.docker, image).await? == Base::Mmdebstrap {
            return debian::import(&self.docker, image, tag).await;
        }
        if image == Image::Node {
            return node::preload(&self.docker, tag).await;
        }
        self.build_from_dockerfile(image, tag).await
    }

    async fn build_from_dockerfile(&self, image: Image, tag: &str) -> Result<(), ImageError> {
        let programs = tools::ensure_pinned(image.tools()).await?;
        let context = blocking(move || Context::assemble(image, &programs)).await?;
        let label = format!("{LABEL}.image={}", image.name());
        let folder = context.path().to_string_lossy().into_owned();
        let mut arguments = vec![
            "build".to_owned(),
            "--quiet".to_owned(),
            "--label".to_owned(),
            label,
        ];
        for (name, value) in image.build_arguments()? {
            arguments.extend(["--build-arg".to_owned(), format!("{name}={value}")]);
        }
        arguments.extend(["--tag".to_owned(), tag.to_owned(), folder]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        // Stages of a build under way look like those that are left.
        let stages = lock_file("stages", image)?;
        let stages = blocking(move || stages.lock_shared().map(|()| stages))
            .await
            .map_err(|source| ImageError::File {
                image: image.name(),
                path: "lock".into(),
                source,
            })?;
        self.docker.run(&arguments).await.map_err(on(image))?;
        drop(stages);
        // Whoever builds last removes them.
        if let Ok(()) = lock_file("stages", image)?.try_lock() {
            self.remove_stages().await.map_err(on(image))?;
        }
        Ok(())
    }

    /// The classic builder leaves the stages that an image was copied from.
    async fn remove_stages(&self) -> Result<(), DockerError> {
        let filter = format!("label={LABEL}.image=stage");
        self.docker
            .run(&["image", "prune", "--force", "--filter", &filter])
            .await
            .map(drop)
    }
}

/// Whether a tag is one of ours and no longer `current`.
fn is_outdated(tag: &str, current: &[String]) -> bool {
    tag.starts_with("operators-testbed/") && !current.iter().any(|other| other == tag)
}

/// Holds the right to make `what` for `image` until it is dropped, or its process ends.
async fn lock(what: &str, image: Image) -> Result<File, ImageError> {
    let file = lock_file(what, image)?;
    blocking(move || {
        file.lock().map_err(|source| ImageError::File {
            image: image.name(),
            path: "lock".into(),
            source,
        })?;
        Ok(file)
    })
    .await
}

fn lock_file(what: &str, image: Image) -> Result<File, ImageError> {
    let folder = cache_folder()?.join("locks");
    let path = folder.join(format!("image-{what}"));
    let failed = |source| ImageError::File {
        image: image.name(),
        path: path.clone(),
        source,
    };
    std::fs::create_dir_all(&folder).map_err(failed)?;
    File::create(&path).map_err(failed)
}

fn on(image: Image) -> impl FnOnce(DockerError) -> ImageError {
    move |source| ImageError::Docker {
        image: image.name(),
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_images_of_the_test_bed_are_outdated() {
        let current = ["operators-testbed/node:b".to_owned()];
        assert!(is_outdated("operators-testbed/node:a", &current));
        assert!(!is_outdated("operators-testbed/node:b", &current));
        assert!(!is_outdated("somebody/elses:a", &current));
    }
}
